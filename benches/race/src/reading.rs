//! What a new process does with a volume, beside the least that has to be done for it.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use rfs::{At, Options, RestoreOptions, Store, StoreOptions, Volume};
use rfs_journal::verify_segment;

use crate::contest::{Bound, Contestant, Course, Figure, Score, Target, Workload};
use crate::memory::{RECORD, faster, names};
use crate::place::{disk_url, fill, metered, noise, on_disk, options, runtime, store, volume};
use crate::segments::segments_of;

const SEQUENTIAL: usize = 256 << 20;
/// How a volume fetches what is read from front to back: so many bytes, and so many such pieces at a time.
const PIECE: u64 = 256 << 10;
const AT_ONCE: usize = 8;
const RECORDS: usize = 1_000_000;
const RESTORED: usize = 100_000;
const HELD: usize = 1_000_000;
/// Tells a process of its own where to make the volume that is held.
const FILL: &str = "RFS_RACE_FILL";

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "seq",
        what: "256 MiB read from front to back, by who has nothing of it; on S3, or on a local directory without a server",
        unit: "bytes",
        contestants: &[
            Contestant { name: "rfs", level: "-", run: read_file },
            Contestant { name: "raw ranged gets", level: "-", run: read_object },
        ],
        targets: &[faster("raw ranged gets", 0.9)],
        mounts: false,
    },
    Workload {
        name: "replay",
        what: "a volume without an image of 1,000,000 Changes is opened; store in memory",
        unit: "changes",
        contestants: &[
            Contestant { name: "rfs", level: "-", run: replay },
            Contestant { name: "decode alone", level: "-", run: decode },
        ],
        targets: &[
            faster("decode alone", 0.5),
            Target { who: None, against: None, figure: Figure::Rate, bound: Bound::AtLeast(1e6) },
        ],
        mounts: false,
    },
    Workload {
        name: "restore",
        what: "100,000 files of 100 B are restored to the disk; store in memory",
        unit: "files",
        contestants: &[
            Contestant { name: "rfs", level: "page cache", run: restore },
            Contestant { name: "get and write", level: "page cache", run: get_and_write },
        ],
        targets: &[faster("get and write", 0.8)],
        mounts: false,
    },
    Workload {
        name: "mem",
        what: "memory that the tree of 1,000,000 files of 100 B takes, beside their names, all loaded from the store",
        unit: "files",
        contestants: &[Contestant { name: "rfs", level: "-", run: held }],
        targets: &[Target { who: None, against: None, figure: Figure::Value, bound: Bound::AtMost(250.0) }],
        mounts: false,
    },
];

async fn write_sequential(course: &Course) -> (Store, Vec<u8>) {
    let content = noise(course.size(SEQUENTIAL), 1);
    let store = store(course);
    let volume = volume(store.clone(), options()).await;
    volume.fs().write("/state", &content).await.expect("the file takes it");
    volume.commit().await.expect("the store takes it");
    volume.close().await.expect("the volume is closed");
    (store, content)
}

fn read_file(course: &Course) -> Score {
    runtime().block_on(async {
        let (store, content) = write_sequential(course).await;
        let work = async {
            let options = options().with_store(store.clone());
            let volume = Volume::open_read_only("", options, At::Head).await.expect("the volume is opened");
            let file = volume.fs().open("/state").await.expect("the file is opened");
            let (mut at, mut buffer) = (0, vec![0; 1 << 20]);
            while at < content.len() {
                let len = file.read_at(&mut buffer, at as u64).await.expect("the file is read");
                assert!(len > 0 && buffer[..len] == content[at..at + len], "what was written is read");
                at += len;
            }
            // What closing takes is not counted.
            (volume, file)
        };
        metered(&store, content.len(), work).await.0
    })
}

fn read_object(course: &Course) -> Score {
    let content = Bytes::from(noise(course.size(SEQUENTIAL), 1));
    runtime().block_on(async {
        let store = store(course);
        let key = store.prefix().clone().join("raw");
        store.put("raw", content.clone()).await.expect("the store takes it");
        let len = content.len() as u64;
        let backend = store.inner();
        let start = Instant::now();
        let ranges = (0..len).step_by(PIECE as usize).map(|at| at..len.min(at + PIECE));
        let mut pieces = stream::iter(ranges.map(|range| backend.get_range(&key, range))).buffered(AT_ONCE);
        let mut at = 0;
        while let Some(piece) = pieces.try_next().await.expect("the object is read") {
            assert!(piece == content[at..at + piece.len()], "what was written is read");
            at += piece.len();
        }
        Score::of(at, start.elapsed()).asking(len.div_ceil(PIECE), len)
    })
}

fn in_memory(stored: &InMemory) -> Store {
    let stored: Arc<dyn ObjectStore> = Arc::new(stored.clone());
    Store::new(stored, "memory://", Path::default(), StoreOptions::default())
}

fn without_images() -> Options {
    options().with_image_every(u64::MAX, u64::MAX).with_inline_bytes(0)
}

/// Makes a volume with about so many Changes of the common kinds; gives its segments in order.
async fn write_changes(stored: &InMemory, count: usize) -> (usize, Vec<(String, Bytes)>) {
    let volume = volume(in_memory(stored), without_images()).await;
    let fs = volume.fs();
    fs.create_dir_all("/files").await.expect("the directory is made");
    for path in names("/files", 'a', count) {
        if volume.position().0 as usize + 5 > count {
            break;
        }
        let file = fs.create(&path).await.expect("the file is made");
        file.write_all_at(&RECORD[..32], 0).await.expect("the file takes it");
        file.write_all_at(&RECORD[..8], 8).await.expect("the file takes it");
        fs.rename(&path, path.with_extension("done")).await.expect("the file is renamed");
    }
    let changes = volume.position().0 as usize;
    volume.close().await.expect("the volume is closed");
    (changes, segments_of(stored).await)
}

fn replay(course: &Course) -> Score {
    runtime().block_on(async {
        let stored = InMemory::new();
        let (changes, _) = write_changes(&stored, course.size(RECORDS)).await;
        let start = Instant::now();
        let opened = without_images().with_store(in_memory(&stored));
        let volume = Volume::open_read_only("", opened, At::Head).await.expect("the volume is opened");
        volume.fs().metadata("/files/a0000000.done").await.expect("the file is there");
        Score::of(changes, start.elapsed())
    })
}

fn decode(course: &Course) -> Score {
    runtime().block_on(async {
        let stored = InMemory::new();
        let (changes, segments) = write_changes(&stored, course.size(RECORDS)).await;
        let start = Instant::now();
        let mut decoded = 0;
        for (key, segment) in &segments {
            decoded += verify_segment(key, segment, None).expect("the segment is whole").records.len();
        }
        let took = start.elapsed();
        assert!(decoded + 10 > changes && decoded <= changes + 10, "{decoded} of {changes} are in segments");
        Score::of(decoded, took)
    })
}

/// Makes a volume of so many files.
async fn write_files(store: Store, count: usize) {
    let volume = volume(store, options()).await;
    fill(&volume, "/files", count).await;
    volume.close().await.expect("the volume is closed");
}

fn restore(course: &Course) -> Score {
    let count = course.size(RESTORED);
    runtime().block_on(async {
        let stored = InMemory::new();
        write_files(in_memory(&stored), count).await;
        let opened = options().with_store(in_memory(&stored));
        let start = Instant::now();
        let volume = Volume::open_read_only("", opened, At::Head).await.expect("the volume is opened");
        let to = course.disk.join("restored");
        let restored = volume.restore(&to, RestoreOptions::new()).await.expect("the files are restored");
        let took = start.elapsed();
        let found = fs::read_dir(to.join("files")).expect("the directory is there").count();
        assert_eq!(found, count, "{restored:?}");
        Score::of(count, took)
    })
}

fn get_and_write(course: &Course) -> Score {
    let count = course.size(RESTORED);
    runtime().block_on(async {
        let stored = InMemory::new();
        let key = Path::from("all");
        let payload = PutPayload::from(RECORD.repeat(count));
        stored.put(&key, payload).await.expect("the store takes it");
        let start = Instant::now();
        let all = stored.get(&key).await.expect("the object is there");
        let all = all.bytes().await.expect("the object is read");
        let dir = course.disk.join("restored/files");
        fs::create_dir_all(&dir).expect("the directory is made");
        for (path, content) in names(&dir, 'a', count).iter().zip(all.chunks(RECORD.len())) {
            fs::write(path, content).expect("the file is written");
        }
        Score::of(count, start.elapsed())
    })
}

/// What the process has in memory, in bytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says what it has");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kib * 1024.0
}

fn held(course: &Course) -> Score {
    let count = course.size(HELD);
    if let Ok(url) = std::env::var(FILL) {
        runtime().block_on(write_files(on_disk(&url), count));
        return Score::of(count, Duration::ZERO);
    }
    let url = disk_url(course);
    // Another process makes the volume: what it leaves in the allocator would be used again.
    let exe = std::env::current_exe().expect("it is a program");
    let filled = std::process::Command::new(exe)
        .args(["run", "mem", "rfs", "--dir"])
        .arg(&course.disk)
        .args(["--divisor", &course.divisor.to_string()])
        .env(FILL, &url)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(filled.expect("it starts").success(), "the volume is made");
    runtime().block_on(async {
        let options = options().with_tree_memory(u64::MAX / 4).with_cache(0, 0);
        let volume = Volume::open_read_only(&url, options, At::Head).await;
        let volume = volume.expect("the volume is opened");
        volume.fs().metadata("/").await.expect("the root is there");
        let before = resident();
        let start = Instant::now();
        volume.check().await.expect("the tree is sound");
        let took = start.elapsed();
        for (map, held) in volume.tree_memory() {
            let bytes = (held.clean + held.dirty) as f64 / count as f64;
            if bytes >= 0.5 {
                eprintln!("{map}: {bytes:.1} bytes for each file");
            }
        }
        // Each name is an entry's once.
        let each = (resident() - before) / count as f64 - "a0000000".len() as f64;
        Score { value: Some(each), ..Score::of(count, took) }
    })
}
