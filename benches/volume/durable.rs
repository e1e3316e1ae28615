//! Appends that are on the local disk when they return, beside what the disk itself takes: into a file whose blocks
//! were written before, since a growing one is many times slower to sync.

use std::cell::LazyCell;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use parking_lot::Mutex;
use rfs::{File, Level, Volume};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::limits::{GroupCommit, Prefilled};
use crate::setup::{disk_dir, group, log, options, runtime, size, timed, volume};

const RECORD: &[u8; 128] = &[b'd'; 128];
const TASKS: u32 = 32;

pub(crate) fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "durable append 128 B", 2);
    group.throughput(Throughput::Elements(1));
    let local = LazyCell::new(|| Local::open(&runtime));
    group.bench_function("rfs, Local, 1 task", |b| {
        let local = &*local;
        b.iter_custom(|iters| timed(|| runtime.block_on(local.append(iters))));
    });
    let dir = disk_dir();
    let prefilled = LazyCell::new(|| Mutex::new(Prefilled::new(&dir.path().join("one"), file_len())));
    group.bench_function("pwrite(2) and fdatasync(2)", |b| {
        b.iter_custom(|iters| {
            let mut prefilled = prefilled.lock();
            timed(|| (0..iters).for_each(|_| prefilled.append(RECORD)))
        });
    });

    group.throughput(Throughput::Elements(u64::from(TASKS)));
    group.bench_function("rfs, Local, 32 tasks", |b| {
        let local = &*local;
        b.iter_custom(|iters| timed(|| runtime.block_on(local.append_from_tasks(iters))));
    });
    let by_hand = LazyCell::new(|| GroupCommit::new(&dir.path().join("group"), file_len()));
    group.bench_function("group commit by hand, 32 threads", |b| {
        let by_hand = &*by_hand;
        b.iter_custom(|iters| timed(|| append_from_threads(by_hand, iters)));
    });
    group.bench_function("pwrite(2) of 32 records and one fdatasync(2)", |b| {
        b.iter_custom(|iters| {
            let mut prefilled = prefilled.lock();
            let records = RECORD.repeat(TASKS as usize);
            timed(|| (0..iters).for_each(|_| prefilled.append(&records)))
        });
    });
    group.finish();
}

fn file_len() -> usize {
    size(64 << 20, 1 << 20)
}

/// A volume with a local directory.
struct Local {
    log: Arc<File>,
    _volume: Volume,
    _dir: TempDir,
}

impl Local {
    fn open(runtime: &Runtime) -> Self {
        let dir = disk_dir();
        let options = options().with_local_dir(dir.path()).with_level(Level::Local);
        let volume = runtime.block_on(volume(options));
        let log = Arc::new(runtime.block_on(log(&volume)));
        Self { log, _volume: volume, _dir: dir }
    }

    async fn append(&self, count: u64) {
        append_durably(&self.log, count).await;
    }

    /// Each task appends so many.
    async fn append_from_tasks(&self, count: u64) {
        let task = |log: Arc<File>| tokio::spawn(async move { append_durably(&log, count).await });
        let tasks: Vec<_> = (0..TASKS).map(|_| task(Arc::clone(&self.log))).collect();
        for task in tasks {
            task.await.expect("the task ends");
        }
    }
}

async fn append_durably(log: &File, count: u64) {
    for _ in 0..count {
        log.append(RECORD).await.expect("the file takes it");
        log.sync_all().await.expect("the disk takes it");
    }
}

/// Each thread appends so many.
fn append_from_threads(log: &GroupCommit, count: u64) {
    std::thread::scope(|scope| {
        for _ in 0..TASKS {
            scope.spawn(|| (0..count).for_each(|_| log.append(RECORD)));
        }
    });
}
