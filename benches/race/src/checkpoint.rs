//! What it costs to have new state in the store, beside putting the same bytes by hand.

use std::fs;
use std::time::Instant;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use rfs::{File, Store, Volume};

use crate::contest::{Bound, Contestant, Course, Figure, Score, Target, Workload};
use crate::memory::{RECORD, names};
use crate::place::{far, fill, metered, noise, options, runtime, store, volume};

const FILES: usize = 100_000;
const CHANGED: usize = 10;
const COMMITS: usize = 50;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "ckpt",
        what: "10 of 100,000 files of 100 B are changed; then all is in the store; store in memory, 30 ms a put, 15 ms a get",
        unit: "checkpoints",
        contestants: &[
            Contestant { name: "rfs", level: "Remote", run: commit_changed },
            Contestant { name: "put each changed file", level: "store", run: put_changed },
            Contestant { name: "tar and put", level: "store", run: tar_and_put },
        ],
        targets: &[
            less(Figure::Time, "put each changed file", 0.1),
            less(Figure::Requests, "put each changed file", 0.1),
            less(Figure::Time, "tar and put", 0.1),
        ],
        mounts: false,
    },
    Workload {
        name: "put4",
        what: "4 MiB of new data: written and committed; on S3, or on a local directory without a server",
        unit: "checkpoints",
        contestants: &[
            Contestant { name: "rfs", level: "Remote", run: |course| write_and_commit(course, 4 << 20) },
            Contestant { name: "raw put", level: "store", run: |course| put_raw(course, 4 << 20) },
        ],
        targets: &[less(Figure::Time, "raw put", 1.15), less(Figure::Bytes, "raw put", 1.02)],
        mounts: false,
    },
    Workload {
        name: "put256",
        what: "256 MiB of new data: written and committed; on S3, or on a local directory without a server",
        unit: "checkpoints",
        contestants: &[
            Contestant { name: "rfs", level: "Remote", run: |course| write_and_commit(course, 256 << 20) },
            Contestant {
                name: "raw multipart put",
                level: "store",
                run: |course| put_raw(course, 256 << 20),
            },
        ],
        targets: &[
            less(Figure::Time, "raw multipart put", 1.15),
            less(Figure::Bytes, "raw multipart put", 1.02),
        ],
        mounts: false,
    },
    Workload {
        name: "commit",
        what: "50 commits of one 4 KiB change each; on S3, or on a local directory without a server",
        unit: "commits",
        contestants: &[
            Contestant { name: "rfs", level: "Remote", run: commit_small },
            Contestant { name: "raw put", level: "store", run: put_small },
        ],
        targets: &[less(Figure::Time, "raw put", 1.1)],
        mounts: false,
    },
];

const fn less(figure: Figure, than: &'static str, times: f64) -> Target {
    Target { who: None, against: Some(than), figure, bound: Bound::AtMost(times) }
}

fn changed(paths: &[std::path::PathBuf]) -> impl Iterator<Item = &std::path::PathBuf> {
    paths.iter().step_by((paths.len() / CHANGED).max(1)).take(CHANGED)
}

fn commit_changed(course: &Course) -> Score {
    let count = course.size(FILES);
    let paths = names("/files", 'a', count);
    runtime().block_on(async {
        let store = far();
        let volume = volume(store.clone(), options()).await;
        let fs = volume.fs();
        fill(&volume, "/files", count).await;
        volume.commit().await.expect("the store takes it");
        // An image may be on its way, and is named by the next commit.
        fs.write("/settled", b"").await.expect("a file is written");
        volume.commit().await.expect("the store takes it");
        let work = async {
            for path in changed(&paths) {
                fs.write(path, &RECORD[..50]).await.expect("the file takes it");
            }
            volume.commit().await.expect("the store takes it");
        };
        metered(&store, 1, work).await.0
    })
}

fn put_changed(course: &Course) -> Score {
    let paths = names(&course.memory, 'a', course.size(FILES));
    for path in changed(&paths) {
        fs::write(path, &RECORD[..50]).expect("a file is written");
    }
    runtime().block_on(async {
        let store = far();
        let work = async {
            for path in changed(&paths) {
                let content = fs::read(path).expect("the file is read");
                let name = path.file_name().expect("it has a name").to_string_lossy();
                store.put(&name, content.into()).await.expect("the store takes it");
            }
        };
        metered(&store, 1, work).await.0
    })
}

fn tar_and_put(course: &Course) -> Score {
    let dir = course.memory.join("files");
    fs::create_dir_all(&dir).expect("the directory is made");
    for path in names(&dir, 'a', course.size(FILES)) {
        fs::write(path, RECORD).expect("a file is written");
    }
    runtime().block_on(async {
        let store = far();
        let work = async {
            let mut archive = tar::Builder::new(Vec::new());
            archive.append_dir_all("files", &dir).expect("the files are read");
            let archive = archive.into_inner().expect("the archive ends");
            store.put("files.tar", archive.into()).await.expect("the store takes it");
        };
        metered(&store, 1, work).await.0
    })
}

/// A volume that was committed, and an empty file in it.
async fn committed(store: &Store) -> (Volume, File) {
    let volume = volume(store.clone(), options()).await;
    let file = volume.fs().create("/state").await.expect("the file is made");
    volume.commit().await.expect("the store takes it");
    (volume, file)
}

fn write_and_commit(course: &Course, len: usize) -> Score {
    let content = noise(course.size(len), 1);
    runtime().block_on(async {
        let store = store(course);
        let (volume, file) = committed(&store).await;
        let work = async {
            for (number, piece) in content.chunks(1 << 20).enumerate() {
                file.write_all_at(piece, (number << 20) as u64).await.expect("the file takes it");
            }
            volume.commit().await.expect("the store takes it");
        };
        metered(&store, 1, work).await.0
    })
}

fn put_raw(course: &Course, len: usize) -> Score {
    let content = Bytes::from(noise(course.size(len), 1));
    runtime().block_on(async {
        let store = store(course);
        let key = store.prefix().clone().join("raw");
        let start = Instant::now();
        if content.len() <= 8 << 20 {
            store.inner().put(&key, content.clone().into()).await.expect("the store takes it");
        } else {
            let upload = store.inner().put_multipart(&key).await.expect("an upload is begun");
            let mut upload = WriteMultipart::new_with_chunk_size(upload, 8 << 20);
            let mut left = content.clone();
            while !left.is_empty() {
                upload.wait_for_capacity(8).await.expect("the store takes it");
                upload.put(left.split_to(left.len().min(8 << 20)));
            }
            upload.finish().await.expect("the store takes it");
        }
        let took = start.elapsed();
        Score::of(1, took).asking(content.len().div_ceil(8 << 20) as u64, content.len() as u64)
    })
}

fn commit_small(course: &Course) -> Score {
    let count = course.size(COMMITS);
    runtime().block_on(async {
        let store = store(course);
        let (volume, file) = committed(&store).await;
        let work = async {
            for number in 0..count {
                file.write_all_at(&[number as u8; 4096], 0).await.expect("the file takes it");
                volume.commit().await.expect("the store takes it");
            }
        };
        metered(&store, count, work).await.0
    })
}

fn put_small(course: &Course) -> Score {
    let count = course.size(COMMITS);
    // What a commit of 4 KiB takes: the change, and what names it.
    let content = Bytes::from(noise(4096 + 700, 1));
    runtime().block_on(async {
        let store = store(course);
        let start = Instant::now();
        for number in 0..count {
            let key: Path = store.prefix().clone().join("raw").join(format!("{number:016x}"));
            let payload = PutPayload::from(content.clone());
            let put = store.inner().put_opts(&key, payload, PutMode::Create.into()).await;
            put.expect("the store takes it");
        }
        Score::of(count, start.elapsed()).asking(count as u64, (count * content.len()) as u64)
    })
}
