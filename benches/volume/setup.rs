//! What the groups share: how long they run, clocks, directories, volumes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use rfs::{File, OpenOptions, Options, Volume};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What is appended, and what a small file holds.
pub(crate) const RECORD: &[u8; 100] = &[b'r'; 100];

/// A group whose benches each run for about so many seconds.
pub(crate) fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    seconds: u64,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    // Flat: each sample does the same work, so that none has a larger file or directory than another.
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(seconds));
    group
}

/// `full` under `cargo bench`; `quick` where criterion runs everything once, to see that it works.
pub(crate) fn size(full: usize, quick: usize) -> usize {
    let has = |name| std::env::args().any(|arg| arg == name);
    if has("--bench") && !has("--test") { full } else { quick }
}

/// How long `work` takes.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    drop(result);
    elapsed
}

pub(crate) fn runtime() -> Runtime {
    Runtime::new().expect("a runtime starts")
}

/// A directory in memory, and what to call it.
pub(crate) fn memory_dir() -> (TempDir, &'static str) {
    let tmpfs = tempfile::tempdir_in("/dev/shm").map(|dir| (dir, "tmpfs"));
    tmpfs.unwrap_or_else(|_| (tempfile::tempdir().expect("a directory can be made"), "temporary directory"))
}

/// A directory on the disk that holds the build.
pub(crate) fn disk_dir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made")
}

/// The defaults, but that nothing is committed unless asked for.
pub(crate) fn options() -> Options {
    Options::new()
        .with_commit_interval(None)
        .with_commit_bytes(u64::MAX)
        .with_outage_budget(u64::MAX, Duration::from_hours(1))
}

/// A new volume, in a store of its own in memory.
pub(crate) async fn volume(options: Options) -> Volume {
    Volume::create("memory://", options).await.expect("a volume is made")
}

/// A file to append to.
pub(crate) async fn log(volume: &Volume) -> File {
    let opened = OpenOptions::new().append(true).create(true).open(&volume.fs(), "/log").await;
    opened.expect("the log is opened")
}

/// Names in a directory, all of one length.
pub(crate) fn names(dir: impl AsRef<Path>, letter: char, count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| dir.as_ref().join(format!("{letter}{number:07}"))).collect()
}

/// Makes a directory with so many files of 100 bytes, and returns their names.
pub(crate) async fn fill(volume: &Volume, dir: &str, count: usize) -> Vec<PathBuf> {
    let fs = volume.fs();
    fs.create_dir_all(dir).await.expect("the directory is made");
    let paths = names(dir, 'a', count);
    for path in &paths {
        fs.write(path, RECORD).await.expect("a file is written");
    }
    paths
}
