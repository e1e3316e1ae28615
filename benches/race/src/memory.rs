//! Operations at level Memory, beside the system calls on tmpfs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rfs::blocking;

use crate::contest::{Bound, Contestant, Course, Figure, Score, Target, Workload, timed};
use crate::place::options;

pub(crate) const RECORD: &[u8; 100] = &[b'r'; 100];
const DIR: &str = "/job/state/files";

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "append",
        what: "1,000,000 appends of 100 B to one file, one thread",
        unit: "appends",
        contestants: &[
            Contestant { name: "rfs", level: "Memory", run: append_in_volume },
            Contestant { name: "rfs-async", level: "Memory", run: append_async },
            Contestant { name: "tmpfs", level: "memory of the kernel", run: append_on_tmpfs },
        ],
        targets: &[faster("tmpfs", 5.0)],
        mounts: false,
    },
    Workload {
        name: "rename",
        what: "1,000,000 renames in a directory of 1,000,000 files",
        unit: "renames",
        contestants: &[
            Contestant { name: "rfs", level: "Memory", run: rename_in_volume },
            Contestant { name: "tmpfs", level: "memory of the kernel", run: rename_on_tmpfs },
        ],
        targets: &[faster("tmpfs", 2.0)],
        mounts: false,
    },
    Workload {
        name: "create",
        what: "200,000 files: create, write 100 B, close",
        unit: "files",
        contestants: &[
            Contestant { name: "rfs", level: "Memory", run: create_in_volume },
            Contestant { name: "tmpfs", level: "memory of the kernel", run: create_on_tmpfs },
        ],
        targets: &[faster("tmpfs", 5.0)],
        mounts: false,
    },
];

pub(crate) const fn faster(than: &'static str, times: f64) -> Target {
    Target { who: None, against: Some(than), figure: Figure::Rate, bound: Bound::AtLeast(times) }
}

/// Names in a directory, all of one length.
pub(crate) fn names(dir: impl AsRef<Path>, letter: char, count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| dir.as_ref().join(format!("{letter}{number:07}"))).collect()
}

fn volume() -> blocking::Volume {
    blocking::Volume::create("memory://", options()).expect("a volume is made")
}

fn append_in_volume(course: &Course) -> Score {
    let count = course.size(1_000_000);
    let volume = volume();
    let mut file = volume.fs().create("/log").expect("the log is made");
    let took = timed(|| {
        for _ in 0..count {
            file.write_all(RECORD).expect("the file takes it");
        }
    });
    Score::of(count, took)
}

fn append_async(course: &Course) -> Score {
    let count = course.size(1_000_000);
    let runtime = crate::place::runtime();
    runtime.block_on(async {
        let volume = rfs::Volume::create("memory://", options()).await.expect("a volume is made");
        let file = volume.fs().create("/log").await.expect("the log is made");
        let start = std::time::Instant::now();
        for _ in 0..count {
            file.append(RECORD).await.expect("the file takes it");
        }
        Score::of(count, start.elapsed())
    })
}

fn append_on_tmpfs(course: &Course) -> Score {
    let count = course.size(1_000_000);
    let mut file = fs::File::create(course.memory.join("log")).expect("the log is made");
    let took = timed(|| {
        for _ in 0..count {
            file.write_all(RECORD).expect("the file takes it");
        }
    });
    Score::of(count, took)
}

fn rename_in_volume(course: &Course) -> Score {
    let count = course.size(1_000_000);
    let volume = volume();
    let fs = volume.fs();
    fs.create_dir_all(DIR).expect("the directory is made");
    let (from, to) = (names(DIR, 'a', count), names(DIR, 'b', count));
    for path in &from {
        fs.write(path, RECORD).expect("a file is written");
    }
    // The journal of the files leaves memory.
    volume.commit().expect("the volume is committed");
    let took = timed(|| {
        for (from, to) in from.iter().zip(&to) {
            fs.rename(from, to).expect("the file is renamed");
        }
    });
    Score::of(count, took)
}

fn rename_on_tmpfs(course: &Course) -> Score {
    let count = course.size(1_000_000);
    let dir = course.memory.join("job/state/files");
    fs::create_dir_all(&dir).expect("the directory is made");
    let (from, to) = (names(&dir, 'a', count), names(&dir, 'b', count));
    for path in &from {
        fs::write(path, RECORD).expect("a file is written");
    }
    let took = timed(|| {
        for (from, to) in from.iter().zip(&to) {
            fs::rename(from, to).expect("the file is renamed");
        }
    });
    Score::of(count, took)
}

fn create_in_volume(course: &Course) -> Score {
    let count = course.size(200_000);
    let volume = volume();
    let fs = volume.fs();
    fs.create_dir_all(DIR).expect("the directory is made");
    let paths = names(DIR, 'a', count);
    let took = timed(|| {
        for path in &paths {
            let mut file = fs.create(path).expect("the file is made");
            file.write_all(RECORD).expect("the file takes it");
        }
    });
    Score::of(count, took)
}

fn create_on_tmpfs(course: &Course) -> Score {
    let count = course.size(200_000);
    let dir = course.memory.join("job/state/files");
    fs::create_dir_all(&dir).expect("the directory is made");
    let paths = names(&dir, 'a', count);
    let took = timed(|| {
        for path in &paths {
            let mut file = fs::File::create(path).expect("the file is made");
            file.write_all(RECORD).expect("the file takes it");
        }
    });
    Score::of(count, took)
}
