//! Operations at level Memory, beside the system calls on tmpfs.

use std::cell::{Cell, LazyCell};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use criterion::{Criterion, Throughput};
use rfs::blocking;

use crate::setup::{RECORD, fill, group, log, memory_dir, names, options, runtime, size, timed, volume};

/// Where the files are in the volume: as deep as those on tmpfs, so that both walk as far.
const DIR: &str = "/job/state/files";

pub(crate) fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "append 100 B", 2);
    group.throughput(Throughput::Elements(1));
    group.bench_function("rfs, Memory", |b| {
        b.iter_custom(|iters| {
            let volume = runtime.block_on(volume(options()));
            let file = runtime.block_on(log(&volume));
            timed(|| {
                runtime.block_on(async {
                    for _ in 0..iters {
                        file.append(RECORD).await.expect("the file takes it");
                    }
                });
            })
        });
    });
    group.bench_function("rfs, Memory, blocking face", |b| {
        b.iter_custom(|iters| {
            let volume = blocking::Volume::create("memory://", options()).expect("a volume is made");
            let mut file = volume.fs().create("/log").expect("the log is made");
            timed(|| {
                for _ in 0..iters {
                    file.write_all(RECORD).expect("the file takes it");
                }
            })
        });
    });
    let (dir, place) = memory_dir();
    group.bench_function(format!("write(2), {place}"), |b| {
        b.iter_custom(|iters| {
            let mut file = fs::File::create(dir.path().join("log")).expect("the log is made");
            timed(|| {
                for _ in 0..iters {
                    file.write_all(RECORD).expect("the file takes it");
                }
            })
        });
    });
    group.finish();
}

pub(crate) fn create(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "create, write 100 B, close", 2);
    group.throughput(Throughput::Elements(1));
    group.bench_function("rfs, Memory", |b| {
        b.iter_custom(|iters| {
            let volume = runtime.block_on(volume(options()));
            let fs = volume.fs();
            runtime.block_on(fs.create_dir_all(DIR)).expect("the directory is made");
            let paths = names(DIR, 'a', iters as usize);
            timed(|| {
                runtime.block_on(async {
                    for path in &paths {
                        let file = fs.create(path).await.expect("the file is made");
                        file.write_all_at(RECORD, 0).await.expect("the file takes it");
                    }
                });
            })
        });
    });
    let (_, place) = memory_dir();
    group.bench_function(format!("open(2), write(2), close(2), {place}"), |b| {
        b.iter_custom(|iters| {
            let (dir, _) = memory_dir();
            let paths = names(dir.path(), 'a', iters as usize);
            timed(|| {
                for path in &paths {
                    let mut file = fs::File::create(path).expect("the file is made");
                    file.write_all(RECORD).expect("the file takes it");
                }
            })
        });
    });
    group.finish();
}

pub(crate) fn rename(criterion: &mut Criterion) {
    let count = size(100_000, 1_000);
    let runtime = runtime();
    let mut group = group(criterion, &format!("rename in a directory of {count} files"), 3);
    group.throughput(Throughput::Elements(1));
    let in_volume = LazyCell::new(|| {
        runtime.block_on(async {
            let volume = volume(options()).await;
            let paths = fill(&volume, DIR, count).await;
            (volume, Turns::new(paths, names(DIR, 'b', count)))
        })
    });
    group.bench_function("rfs, Memory", |b| {
        b.iter_custom(|iters| {
            let (volume, turns) = &*in_volume;
            let fs = volume.fs();
            // The journal of the last round leaves memory.
            runtime.block_on(volume.commit()).expect("the volume is committed");
            timed(|| {
                runtime.block_on(async {
                    for _ in 0..iters {
                        let (from, to) = turns.next();
                        fs.rename(from, to).await.expect("the file is renamed");
                    }
                });
            })
        });
    });
    let (dir, place) = memory_dir();
    let on_tmpfs = LazyCell::new(|| {
        let paths = names(dir.path(), 'a', count);
        for path in &paths {
            fs::write(path, RECORD).expect("a file is written");
        }
        Turns::new(paths, names(dir.path(), 'b', count))
    });
    group.bench_function(format!("rename(2), {place}"), |b| {
        b.iter_custom(|iters| {
            let turns = &*on_tmpfs;
            timed(|| {
                for _ in 0..iters {
                    let (from, to) = turns.next();
                    fs::rename(from, to).expect("the file is renamed");
                }
            })
        });
    });
    group.finish();
}

/// Two names for each file, one of which it has.
struct Turns {
    names: [Vec<PathBuf>; 2],
    done: Cell<usize>,
}

impl Turns {
    const fn new(first: Vec<PathBuf>, second: Vec<PathBuf>) -> Self {
        Self { names: [first, second], done: Cell::new(0) }
    }

    /// The next file's name, and the one that it gets. After all of them, back again.
    fn next(&self) -> (&PathBuf, &PathBuf) {
        let done = self.done.replace(self.done.get() + 1);
        let count = self.names[0].len();
        let (side, file) = (done / count % 2, done % count);
        (&self.names[side][file], &self.names[1 - side][file])
    }
}
