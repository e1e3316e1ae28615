//! Opening on a machine that has nothing of the volume: from an image, from the journal; and how fast the journal is
//! replayed, beside decoding it.

use std::cell::LazyCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as Prefix;
use object_store::{ObjectStore, ObjectStoreExt};
use rfs::{At, Options, Store, StoreOptions, Timestamp, Volume};
use rfs_core::Tree;
use rfs_journal::verify_segment;
use tokio::runtime::Runtime;

use crate::segments::segments_of;
use crate::setup::{RECORD, disk_dir, fill, group, names, options, runtime, size, timed};

/// A file that every volume here has.
const FIRST: &str = "/files/a0000000";

pub(crate) fn open(criterion: &mut Criterion) {
    let files = size(10_000, 100);
    let runtime = runtime();
    let mut group = group(criterion, &format!("open, {files} files of 100 B, and read one"), 2);
    group.throughput(Throughput::Elements(files as u64));
    for (id, with_image) in [("rfs, memory store, image", true), ("rfs, memory store, journal", false)] {
        let stored = LazyCell::new(|| {
            let stored = InMemory::new();
            runtime.block_on(write_files(&store(Arc::new(stored.clone())), files, with_image));
            stored
        });
        group.bench_function(id, |b| {
            b.iter_custom(|iters| (0..iters).map(|_| time_open(&runtime, &stored)).sum());
        });
    }

    let dir = LazyCell::new(|| {
        let dir = disk_dir();
        let store = Store::from_url(&file_url(dir.path()), StoreOptions::default());
        runtime.block_on(write_files(&store.expect("the store is opened"), files, true));
        dir
    });
    group.bench_function("rfs, file store, image, to read", |b| {
        b.iter_custom(|iters| {
            let url = file_url(dir.path());
            let open = || async {
                let volume = Volume::open_read_only(&url, options(), At::Head).await;
                read_one(volume.expect("the volume is opened")).await
            };
            (0..iters).map(|_| timed(|| runtime.block_on(open()))).sum()
        });
    });
    group.bench_function("read(2) of all objects, file store", |b| {
        b.iter_custom(|iters| {
            let dir = dir.path();
            timed(|| (0..iters).map(|_| read_all(dir)).sum::<usize>())
        });
    });
    group.finish();
}

pub(crate) fn replay(criterion: &mut Criterion) {
    let records = size(200_000, 2_000);
    let runtime = runtime();
    let mut group = group(criterion, &format!("replay of {records} records"), 2);
    group.throughput(Throughput::Elements(records as u64));
    let stored = LazyCell::new(|| {
        let stored = InMemory::new();
        let written = runtime.block_on(write_records(&stored, records as u64));
        (stored, written)
    });
    group.bench_function("rfs, open", |b| {
        b.iter_custom(|iters| (0..iters).map(|_| time_open(&runtime, &stored.0)).sum());
    });
    group.bench_function("decode and verify alone", |b| {
        b.iter_custom(|iters| {
            timed(|| {
                for _ in 0..iters {
                    let decoded = stored.1.iter().map(|(key, segment)| decode(key, segment).len());
                    assert_eq!(decoded.sum::<usize>(), records);
                }
            })
        });
    });
    group.bench_function("apply alone", |b| {
        let decoded: Vec<_> = stored.1.iter().flat_map(|(key, segment)| decode(key, segment)).collect();
        b.iter_custom(|iters| {
            let apply = || {
                let mut tree = Tree::new(Timestamp::from_nanos(0));
                for record in &decoded {
                    tree.apply(&record.change, record.place).expect("the record fits");
                }
                tree
            };
            (0..iters).map(|_| timed(apply)).sum()
        });
    });
    group.finish();
}

/// Opens a copy of what is stored, as its writer, and reads a file: one open does not lengthen the next.
fn time_open(runtime: &Runtime, stored: &InMemory) -> Duration {
    let copy: Arc<dyn ObjectStore> = Arc::new(stored.fork());
    let store = store(Arc::clone(&copy));
    let elapsed = timed(|| {
        runtime.block_on(async {
            let volume = Volume::open("", options().with_store(store)).await;
            read_one(volume.expect("the volume is opened")).await
        })
    });
    // The volume's own task gives its memory back, which is not to happen beside the next open.
    while Arc::strong_count(&copy) > 1 {
        std::thread::yield_now();
    }
    elapsed
}

async fn read_one(volume: Volume) -> Volume {
    let content = volume.fs().read(FIRST).await.expect("the file is read");
    assert_eq!(content, RECORD);
    volume
}

/// Makes a volume of so many files, which opens from an image of nearly all of it, or without any.
async fn write_files(store: &Store, files: usize, with_image: bool) {
    let volume = create(store, images(with_image)).await;
    fill(&volume, "/files", files).await;
    volume.commit().await.expect("the store takes it");
    if with_image {
        // An image is written beside the commits, and named by the next one.
        let mut rounds = 0;
        while replayed_bytes(store).await > 100 * files as u64 {
            assert!(rounds < 100, "no commit names the image");
            volume.fs().write("/round", [rounds]).await.expect("the volume takes it");
            volume.commit().await.expect("the store takes it");
            rounds += 1;
        }
    }
    volume.close().await.expect("the volume is closed");
}

/// What the next open will replay.
async fn replayed_bytes(store: &Store) -> u64 {
    let copy = InMemory::new();
    let mut objects = store.inner().list(None);
    while let Some(object) = objects.try_next().await.expect("the store lists") {
        let bytes = store.inner().get(&object.location).await.expect("the object is there");
        let bytes = bytes.bytes().await.expect("the object is read");
        copy.put(&object.location, bytes.into()).await.expect("the store takes it");
    }
    let volume = Volume::open("", images(false).with_store(self::store(Arc::new(copy)))).await;
    let volume = volume.expect("the volume is opened");
    volume.open_report().expect("it is open to write").replayed_bytes
}

/// Makes a volume with so many records of the common kinds, and returns its segments in order.
async fn write_records(stored: &InMemory, records: u64) -> Vec<(String, Bytes)> {
    let store = store(Arc::new(stored.clone()));
    let volume = create(&store, images(false).with_inline_bytes(0)).await;
    let fs = volume.fs();
    fill(&volume, "/files", 1).await;
    for path in names("/files", 'r', records as usize) {
        if volume.position().0 + 5 > records {
            break;
        }
        let file = fs.create(&path).await.expect("the file is made");
        file.write_all_at(&RECORD[..32], 0).await.expect("the file takes it");
        file.write_all_at(&RECORD[..8], 8).await.expect("the file takes it");
        fs.rename(&path, path.with_extension("done")).await.expect("the file is renamed");
    }
    while volume.position().0 < records {
        fs.truncate(FIRST, RECORD.len() as u64).await.expect("the size is set");
    }
    assert_eq!(volume.position().0, records, "the last commit adds no record");
    volume.close().await.expect("the volume is closed");
    segments_of(stored).await
}

fn decode(key: &str, segment: &Bytes) -> Vec<rfs_journal::Record> {
    verify_segment(key, segment, None).expect("the segment is whole").records
}

async fn create(store: &Store, options: Options) -> Volume {
    Volume::create("", options.with_store(store.clone())).await.expect("a volume is made")
}

/// Images with every commit, or never.
fn images(with_image: bool) -> Options {
    let every = if with_image { 1 } else { u64::MAX };
    options().with_image_every(every, every)
}

fn store(stored: Arc<dyn ObjectStore>) -> Store {
    Store::new(stored, "memory://", Prefix::default(), StoreOptions::default())
}

fn file_url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// Reads every file below a directory; returns how many bytes there were.
fn read_all(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).expect("the directory is listed");
    let read = entries.map(|entry| {
        let path = entry.expect("the directory is listed").path();
        if path.is_dir() { read_all(&path) } else { std::fs::read(path).expect("the file is read").len() }
    });
    read.sum()
}
