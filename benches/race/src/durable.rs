//! Appends that are on the local disk when they return.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs::{File, Level, OpenOptions, Volume};
use tokio::runtime::Runtime;

use crate::contest::{Contestant, Course, Score, Workload, timed};
use crate::journals;
use crate::limits::{GroupCommit, Prefilled};
use crate::memory::faster;
use crate::place::{options, runtime};

pub(crate) const RECORD: &[u8; 128] = &[b'd'; 128];
const FILE_LEN: usize = 64 << 20;
/// Tasks or threads that append at once.
pub(crate) const AT_ONCE: usize = 32;
/// Appends of one alone.
pub(crate) const ALONE: usize = 10_000;
/// Appends of each, of those who append at once.
pub(crate) const EACH: usize = 2_000;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "sync1",
        what: "10,000 durable appends of 128 B, one task",
        unit: "appends",
        contestants: &[
            Contestant { name: "rfs", level: "Local", run: append_alone },
            Contestant { name: "pwrite+fdatasync", level: "local disk", run: pwrite },
            Contestant { name: "okaywal", level: "local disk", run: journals::okaywal_alone },
            Contestant { name: "raft-engine", level: "local disk", run: journals::raft_engine_alone },
            Contestant { name: "walrus", level: "local disk", run: journals::walrus_alone },
            Contestant { name: "fjall", level: "local disk", run: journals::fjall_alone },
            Contestant { name: "redb", level: "local disk", run: journals::redb_alone },
            Contestant { name: "sqlite-wal", level: "local disk", run: journals::sqlite_alone },
        ],
        targets: &[
            faster("pwrite+fdatasync", 0.9),
            faster("okaywal", 1.0),
            faster("raft-engine", 1.0),
            faster("walrus", 1.0),
            faster("fjall", 1.0),
            faster("redb", 1.0),
            faster("sqlite-wal", 1.0),
        ],
        mounts: false,
    },
    Workload {
        name: "sync32",
        what: "64,000 durable appends of 128 B, 2,000 from each of 32 tasks or threads",
        unit: "appends",
        contestants: &[
            Contestant { name: "rfs", level: "Local", run: append_at_once },
            Contestant { name: "group commit by hand", level: "local disk", run: by_hand },
            Contestant { name: "okaywal", level: "local disk", run: journals::okaywal_at_once },
            Contestant { name: "raft-engine", level: "local disk", run: journals::raft_engine_at_once },
            Contestant { name: "walrus", level: "local disk", run: journals::walrus_at_once },
            Contestant { name: "fjall", level: "local disk", run: journals::fjall_at_once },
            Contestant { name: "redb", level: "local disk", run: journals::redb_at_once },
            Contestant { name: "sqlite-wal", level: "local disk", run: journals::sqlite_at_once },
        ],
        targets: &[
            faster("group commit by hand", 0.9),
            faster("okaywal", 1.0),
            faster("raft-engine", 1.0),
            faster("walrus", 1.0),
            faster("fjall", 1.0),
            faster("redb", 1.0),
            faster("sqlite-wal", 1.0),
        ],
        mounts: false,
    },
];

/// Runs `each` on as many threads, which each do so many.
pub(crate) fn on_threads(count: usize, each: impl Fn() + Sync) -> Score {
    let times = parking_lot::Mutex::new(Vec::with_capacity(count * AT_ONCE));
    let took = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let mut own = Vec::with_capacity(count);
                    for _ in 0..count {
                        let start = Instant::now();
                        each();
                        own.push(start.elapsed());
                    }
                    times.lock().extend(own);
                });
            }
        });
    });
    Score::of(count * AT_ONCE, took).with_times(times.into_inner())
}

/// Does `each` so many times, one after the other.
pub(crate) fn one_by_one(count: usize, mut each: impl FnMut()) -> Score {
    let mut times = Vec::with_capacity(count);
    let took = timed(|| {
        for _ in 0..count {
            let start = Instant::now();
            each();
            times.push(start.elapsed());
        }
    });
    Score::of(count, took).with_times(times)
}

/// A volume with a local directory, and a file to append to.
fn opened(runtime: &Runtime, course: &Course) -> (Volume, Arc<File>) {
    runtime.block_on(async {
        let options = options().with_local_dir(&course.disk).with_level(Level::Local);
        let volume = Volume::create("memory://", options).await.expect("a volume is made");
        let log = log_of(&volume).await;
        (volume, log)
    })
}

/// Appends, each as durable as the volume's level is when it returns; gives what each took.
async fn append(log: &File, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        log.append(RECORD).await.expect("the file takes it");
        log.sync_all().await.expect("the disk takes it");
        times.push(start.elapsed());
    }
    times
}

/// So many appends from each of 32 tasks.
pub(crate) async fn append_from_tasks(log: &Arc<File>, each: usize) -> Vec<Duration> {
    let task = |log: Arc<File>| tokio::spawn(async move { append(&log, each).await });
    let tasks: Vec<_> = (0..AT_ONCE).map(|_| task(Arc::clone(log))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("the task ends"));
    }
    times
}

/// The file that is appended to.
pub(crate) async fn log_of(volume: &Volume) -> Arc<File> {
    let log = OpenOptions::new().append(true).create(true).open(&volume.fs(), "/log").await;
    Arc::new(log.expect("the log is opened"))
}

fn append_alone(course: &Course) -> Score {
    let (runtime, count) = (runtime(), course.size(ALONE));
    let (_volume, log) = opened(&runtime, course);
    let mut times = Vec::new();
    let took = timed(|| times = runtime.block_on(append(&log, count)));
    Score::of(count, took).with_times(times)
}

fn append_at_once(course: &Course) -> Score {
    let (runtime, count) = (runtime(), course.size(EACH));
    let (_volume, log) = opened(&runtime, course);
    let mut times = Vec::new();
    let took = timed(|| times = runtime.block_on(append_from_tasks(&log, count)));
    Score::of(count * AT_ONCE, took).with_times(times)
}

fn pwrite(course: &Course) -> Score {
    let mut file = Prefilled::new(&course.disk.join("one"), FILE_LEN);
    one_by_one(course.size(ALONE), || file.append(RECORD))
}

fn by_hand(course: &Course) -> Score {
    let log = GroupCommit::new(&course.disk.join("group"), FILE_LEN);
    on_threads(course.size(EACH), || log.append(RECORD))
}
