//! Programs, and what they do, on mounted directories.
//!
//! Contestants that store in S3 have all of it in the store when the time is taken: rfs by an fsync at the end, those that
//! upload each file as it is closed by that. Where one does not, its level says so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::contest::{Bound, Contestant, Course, Figure, Score, Target, Workload};
use crate::memory::{RECORD, names};
use crate::mounts::{Mounter, Site};
use crate::place::noise;

const MIB: usize = 1 << 20;

/// A workload on mounted directories: its name, what it does, what is counted, and the function that does it.
macro_rules! workload {
    ($name:literal, $what:literal, $unit:literal, $work:path, $targets:expr) => {
        Workload {
            name: $name,
            what: $what,
            unit: $unit,
            contestants: &[
                Contestant { name: "rfs", level: "Remote", run: |course| on(Mounter::Remote, course, $work) },
                Contestant {
                    name: "rfs-local",
                    level: "Local",
                    run: |course| on(Mounter::Local, course, $work),
                },
                Contestant {
                    name: "rfs-memory",
                    level: "Memory",
                    run: |course| on(Mounter::Memory, course, $work),
                },
                Contestant {
                    name: "bindfs",
                    level: "local disk's file system",
                    run: |course| on(Mounter::Bindfs, course, $work),
                },
                Contestant { name: "s3fs", level: "store", run: |course| on(Mounter::S3fs, course, $work) },
                Contestant {
                    name: "rclone",
                    level: "page cache, store seconds later",
                    run: |course| on(Mounter::Rclone, course, $work),
                },
                Contestant {
                    name: "juicefs",
                    level: "content in the store, names on the local disk",
                    run: |course| on(Mounter::JuiceFs, course, $work),
                },
                Contestant {
                    name: "seaweedfs",
                    level: "store",
                    run: |course| on(Mounter::SeaweedFs, course, $work),
                },
            ],
            targets: $targets,
            mounts: true,
        }
    };
}

const AHEAD: &[Target] = &[
    like_bindfs(),
    ahead_of("rfs-memory", "rclone"),
    ahead_of("rfs", "s3fs"),
    ahead_of("rfs", "juicefs"),
    ahead_of("rfs", "seaweedfs"),
];

/// Where only names change, JuiceFS changes its database on the local disk.
const NAMES: &[Target] = &[
    like_bindfs(),
    ahead_of("rfs-memory", "rclone"),
    ahead_of("rfs", "s3fs"),
    ahead_of("rfs-local", "juicefs"),
    ahead_of("rfs", "seaweedfs"),
];

const fn like_bindfs() -> Target {
    let (who, against) = (Some("rfs-memory"), Some("bindfs"));
    Target { who, against, figure: Figure::Rate, bound: Bound::AtLeast(0.5) }
}

const fn ahead_of(who: &'static str, peer: &'static str) -> Target {
    Target { who: Some(who), against: Some(peer), figure: Figure::Rate, bound: Bound::AtLeast(1.0) }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    workload!("m-create", "100 files: create, write 100 B, close", "files", create, AHEAD),
    workload!("m-stat", "stat of 100 files of one directory, 20 times in turn", "calls", stat, AHEAD),
    workload!(
        "m-list",
        "a directory of 100 files is listed 20 times, with the files' attributes",
        "files",
        list,
        AHEAD
    ),
    workload!("m-read", "100 files of 100 B are read, 5 times in turn", "files", read, AHEAD),
    workload!("m-rename", "100 files get another name in their directory", "renames", rename, NAMES),
    workload!("m-rename-dir", "a directory of 300 files gets another name", "renames", rename_dir, NAMES),
    workload!("m-unlink", "100 files are removed", "files", unlink, NAMES),
    workload!("m-append", "5,000 appends of 100 B to one open file, then an fsync", "appends", append, AHEAD),
    workload!("m-fsync", "50 appends of 100 B, each with an fsync", "appends", append_and_sync, AHEAD),
    workload!("m-write", "64 MiB written from front to back, then an fsync", "bytes", write, AHEAD),
    workload!("m-reread", "64 MiB that were just written are read", "bytes", reread, AHEAD),
    workload!(
        "m-rand4k",
        "fio: 2,000 random 4 KiB overwrites of 16 MiB, then an fsync",
        "writes",
        overwrite,
        AHEAD
    ),
    workload!(
        "m-sqlite",
        "SQLite: 30 transactions, synchronous=full, journal_mode=delete",
        "transactions",
        sqlite,
        AHEAD
    ),
    workload!("m-untar", "a source tree of some 190 files, 2 MB, is unpacked by tar", "files", untar, AHEAD),
    workload!("m-clone", "the same tree in a repository is cloned by git", "files", clone, AHEAD),
];

type Work = fn(&Site) -> io::Result<Score>;

/// What is wrong with rfs ends the race; others are let go on with what they can.
fn on(mounter: Mounter, course: &Course, work: Work) -> Score {
    let done =
        mounter.mount(course).and_then(|site| work(&site).map_err(|error| format!("it failed: {error}")));
    match (done, mounter) {
        (Ok(score), _) => score,
        (Err(why), mounter) if mounter.is_rfs() && course.s3.is_some() => panic!("rfs: {why}"),
        (Err(why), _) => Score::missing(why),
    }
}

impl Site {
    /// How long it takes until the work is done, and is where it is safe.
    fn timed(&self, units: usize, work: impl FnOnce() -> io::Result<()>) -> io::Result<Score> {
        let start = Instant::now();
        work()?;
        self.sync(&self.dir)?;
        Ok(Score::of(units, start.elapsed()))
    }

    /// Syncs a directory. Some of the others know no such thing.
    fn sync(&self, dir: &Path) -> io::Result<()> {
        let synced = File::open(dir)?.sync_all();
        if self.mounter.is_rfs() { synced } else { Ok(()) }
    }

    fn fill(&self, dir: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
        let files = names(dir, 'a', count);
        make(&files)?;
        self.sync(dir)?;
        Ok(files)
    }
}

const FILES: usize = 100;

fn make(files: &[PathBuf]) -> io::Result<()> {
    files.iter().try_for_each(|file| File::create(file)?.write_all(RECORD))
}

fn create(site: &Site) -> io::Result<Score> {
    let files = names(&site.dir, 'a', FILES);
    site.timed(FILES, || make(&files))
}

fn stat(site: &Site) -> io::Result<Score> {
    const TURNS: usize = 20;
    let files = site.fill(&site.dir, FILES)?;
    site.timed(TURNS * FILES, || {
        let right = |file: &PathBuf| Ok(assert_eq!(fs::metadata(file)?.len(), 100));
        (0..TURNS).try_for_each(|_| files.iter().try_for_each(right))
    })
}

fn list(site: &Site) -> io::Result<Score> {
    const TURNS: usize = 20;
    site.fill(&site.dir, FILES)?;
    site.timed(TURNS * FILES, || {
        (0..TURNS).try_for_each(|_| {
            let mut found = 0;
            for entry in fs::read_dir(&site.dir)? {
                assert_eq!(entry?.metadata()?.len(), 100);
                found += 1;
            }
            assert_eq!(found, FILES, "all are listed");
            Ok(())
        })
    })
}

fn read(site: &Site) -> io::Result<Score> {
    const TURNS: usize = 5;
    let files = site.fill(&site.dir, FILES)?;
    site.timed(TURNS * FILES, || {
        let right = |file: &PathBuf| Ok(assert_eq!(fs::read(file)?, RECORD));
        (0..TURNS).try_for_each(|_| files.iter().try_for_each(right))
    })
}

fn rename(site: &Site) -> io::Result<Score> {
    let files = site.fill(&site.dir, FILES)?;
    let others = names(&site.dir, 'b', FILES);
    site.timed(FILES, || files.iter().zip(&others).try_for_each(|(from, to)| fs::rename(from, to)))
}

fn rename_dir(site: &Site) -> io::Result<Score> {
    let (dir, other) = (site.dir.join("dir"), site.dir.join("other"));
    fs::create_dir(&dir)?;
    site.fill(&dir, 3 * FILES)?;
    let score = site.timed(1, || fs::rename(&dir, &other))?;
    assert_eq!(fs::read_dir(other)?.count(), 3 * FILES, "all of them moved");
    Ok(score)
}

fn unlink(site: &Site) -> io::Result<Score> {
    let files = site.fill(&site.dir, FILES)?;
    site.timed(FILES, || files.iter().try_for_each(fs::remove_file))
}

fn append(site: &Site) -> io::Result<Score> {
    const APPENDS: usize = 5_000;
    let mut file = OpenOptions::new().create(true).append(true).open(site.dir.join("log"))?;
    site.timed(APPENDS, || {
        (0..APPENDS).try_for_each(|_| file.write_all(RECORD))?;
        file.sync_all()
    })
}

fn append_and_sync(site: &Site) -> io::Result<Score> {
    const APPENDS: usize = 50;
    let mut file = OpenOptions::new().create(true).append(true).open(site.dir.join("log"))?;
    let (mut times, start) = (Vec::with_capacity(APPENDS), Instant::now());
    for _ in 0..APPENDS {
        let start = Instant::now();
        file.write_all(RECORD)?;
        file.sync_all()?;
        times.push(start.elapsed());
    }
    Ok(Score::of(APPENDS, start.elapsed()).with_times(times))
}

const LARGE: usize = 64 * MIB;

fn write_large(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    data.chunks(MIB).try_for_each(|piece| file.write_all(piece))?;
    file.sync_all()
}

fn write(site: &Site) -> io::Result<Score> {
    let data = noise(LARGE, 1);
    site.timed(LARGE, || write_large(&site.dir.join("large"), &data))
}

fn reread(site: &Site) -> io::Result<Score> {
    let path = site.dir.join("large");
    write_large(&path, &noise(LARGE, 1))?;
    let mut buffer = vec![0; MIB];
    site.timed(LARGE, || {
        let mut file = File::open(&path)?;
        let mut found = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                len => found += len,
            }
        }
        assert_eq!(found, LARGE, "all is read");
        Ok(())
    })
}

fn overwrite(site: &Site) -> io::Result<Score> {
    const WRITES: usize = 2_000;
    let path = site.dir.join("random");
    let file = File::create(&path)?;
    file.write_all_at(&noise(16 * MIB, 2), 0)?;
    file.sync_all()?;
    drop(file);
    let mut fio = Command::new("fio");
    fio.args(["--name=r", "--rw=randwrite", "--bs=4k", "--size=16m", "--end_fsync=1", "--randseed=1"]);
    fio.args(["--output-format=json", "--fallocate=none", "--overwrite=1"]);
    fio.arg(format!("--io_size={}", WRITES * 4096)).arg(format!("--filename={}", path.display()));
    let said = output(&mut fio)?;
    let said: serde_json::Value = serde_json::from_slice(&said).map_err(io::Error::other)?;
    let (job, sync) = (&said["jobs"][0], &said["jobs"][0]["sync"]["lat_ns"]["mean"]);
    // What it takes for its fsync it tells apart.
    let millis = job["write"]["runtime"].as_f64().ok_or_else(|| io::Error::other("fio tells no time"))?;
    let seconds = millis / 1e3 + sync.as_f64().unwrap_or_default() / 1e9;
    Ok(Score::of(WRITES, Duration::from_secs_f64(seconds)))
}

fn sqlite(site: &Site) -> io::Result<Score> {
    const TRANSACTIONS: usize = 30;
    const PROGRAM: &str = "
import sqlite3, sys, time
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute('pragma journal_mode=delete')
base.execute('pragma synchronous=full')
base.execute('create table t (k integer primary key, v blob)')
start = time.perf_counter()
for k in range(int(sys.argv[2])):
    base.execute('begin')
    base.execute('insert into t values (?, ?)', (k, bytes(100)))
    base.execute('commit')
print(time.perf_counter() - start)
assert base.execute('select count(*) from t').fetchone()[0] == int(sys.argv[2])
";
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM]).arg(site.dir.join("base.db")).arg(TRANSACTIONS.to_string());
    let said = output(&mut python)?;
    let seconds = String::from_utf8_lossy(&said).trim().parse().map_err(io::Error::other)?;
    Ok(Score::of(TRANSACTIONS, Duration::from_secs_f64(seconds)))
}

fn untar(site: &Site) -> io::Result<Score> {
    let archive = tree()?;
    let files = String::from_utf8_lossy(&output(Command::new("tar").arg("-tf").arg(&archive))?)
        .lines()
        .filter(|name| !name.ends_with('/'))
        .count();
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(&site.dir);
    site.timed(files, || output(&mut tar).map(drop))
}

fn clone(site: &Site) -> io::Result<Score> {
    let repository = site.beside.join("repository");
    fs::create_dir(&repository)?;
    output(Command::new("tar").arg("-xf").arg(tree()?).arg("-C").arg(&repository))?;
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(&repository).args([
            "-c",
            "user.name=race",
            "-c",
            "user.email=race@example.invalid",
        ]);
        output(git.args(arguments))
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "all"])?;
    let files = git(&["ls-files"])?.iter().filter(|byte| **byte == b'\n').count();
    let mut clone = Command::new("git");
    clone
        .args(["clone", "--quiet"])
        .arg(format!("file://{}", repository.display()))
        .arg(site.dir.join("clone"));
    site.timed(files, || output(&mut clone).map(drop))
}

/// An archive of source code.
fn tree() -> io::Result<PathBuf> {
    let path = std::env::var_os("RFS_RACE_TREE");
    path.map(PathBuf::from).ok_or_else(|| io::Error::other("`cargo xtask race` has the tree"))
}

fn output(command: &mut Command) -> io::Result<Vec<u8>> {
    let done = command.stdin(Stdio::null()).output();
    let done =
        done.map_err(|error| io::Error::other(format!("{}: {error}", command.get_program().display())))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let end: Vec<&str> = said.lines().rev().take(2).collect();
    Err(io::Error::other(format!(
        "{}: {}: {}",
        command.get_program().display(),
        done.status,
        end.join(" | ")
    )))
}
