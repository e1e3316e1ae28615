//! Random operations on a mount and on a directory that the kernel keeps itself: the same results, errors included.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rfs::Volume;
use rfs_mount::MountOptions;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags, fallocate,
    mknodat, renameat_with, utimensat,
};

use crate::common::{Mounted, has_fuse, options, wait, with_mount};

/// Draws from a seed, so that a difference that was found is found again.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
enum Action {
    Write(String, u64, usize),
    Append(String, usize),
    Truncate(String, u64),
    Read(String),
    Mkdir(String),
    Remove(String),
    Rmdir(String),
    Rename(String, String, RenameFlags),
    Link(String, String),
    Symlink(String, String),
    Fifo(String),
    Chmod(String, u32),
    Chown(String, u32),
    SetTimes(String, i64),
    SetXattr(String, usize),
    GetXattr(String),
    Punch(String, u64, u64),
    List(String),
    Stat(String),
}

const NAMES: &[&str] = &["a", "b", "c", "d"];

fn path(draws: &mut Draws) -> String {
    let depth = draws.of(&[1, 1, 1, 2, 2, 3]);
    (0..depth).map(|_| draws.of(NAMES)).collect::<Vec<_>>().join("/")
}

fn draw(draws: &mut Draws) -> Action {
    let (one, two) = (path(draws), path(draws));
    match draws.below(26) {
        0..=2 => Action::Write(one, draws.below(100_000), draws.below(20_000) as usize),
        3 | 4 => Action::Append(one, draws.below(5_000) as usize),
        5 => Action::Truncate(one, draws.below(150_000)),
        6 | 7 => Action::Read(one),
        8..=10 => Action::Mkdir(one),
        11 => Action::Remove(one),
        12 => Action::Rmdir(one),
        13..=15 => {
            let flags = draws.of(&[
                RenameFlags::empty(),
                RenameFlags::empty(),
                RenameFlags::NOREPLACE,
                RenameFlags::EXCHANGE,
            ]);
            Action::Rename(one, two, flags)
        }
        16 => Action::Link(one, two),
        17 => Action::Symlink(one, two),
        18 => Action::Fifo(one),
        19 => Action::Chmod(one, draws.of(&[0o644, 0o600, 0o4755, 0o2711, 0o1777])),
        20 => Action::Chown(one, draws.below(3) as u32),
        // A volume's times end in 2262.
        21 => Action::SetTimes(one, draws.below(1 << 34).cast_signed() - (1 << 33)),
        22 => Action::SetXattr(one, draws.below(100) as usize),
        23 => Action::GetXattr(one),
        24 => Action::Punch(one, draws.below(100_000), 1 + draws.below(50_000)),
        _ if draws.below(2) == 0 => Action::List(one),
        _ => Action::Stat(one),
    }
}

/// Does it below a directory, and says what came of it.
fn act(root: &Path, action: &Action, round: usize) -> Result<String, i32> {
    let at = |name: &String| root.join(name);
    let content = |len: usize| vec![(round % 251) as u8; len];
    let done: io::Result<String> = (|| match action {
        Action::Write(name, offset, len) => {
            let file = open(&at(name), File::options().write(true).create(true))?;
            file.write_all_at(&content(*len), *offset)?;
            Ok(file.metadata()?.len().to_string())
        }
        Action::Append(name, len) => {
            let mut file = open(&at(name), File::options().append(true))?;
            io::Write::write_all(&mut file, &content(*len))?;
            Ok(file.metadata()?.len().to_string())
        }
        Action::Truncate(name, size) => {
            open(&at(name), File::options().write(true))?.set_len(*size)?;
            Ok(String::new())
        }
        Action::Read(name) => {
            let mut text = Vec::new();
            io::Read::read_to_end(&mut open(&at(name), File::options().read(true))?, &mut text)?;
            let sum =
                text.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            Ok(format!("{} {sum}", text.len()))
        }
        Action::Mkdir(name) => fs::create_dir(at(name)).map(|()| String::new()),
        Action::Remove(name) => fs::remove_file(at(name)).map(|()| String::new()),
        Action::Rmdir(name) => fs::remove_dir(at(name)).map(|()| String::new()),
        Action::Rename(one, two, flags) => {
            renameat_with(CWD, at(one), CWD, at(two), *flags)?;
            Ok(String::new())
        }
        Action::Link(one, two) => fs::hard_link(at(one), at(two)).map(|()| String::new()),
        Action::Symlink(target, name) => std::os::unix::fs::symlink(target, at(name)).map(|()| String::new()),
        Action::Fifo(name) => {
            mknodat(CWD, at(name), FileType::Fifo, Mode::from_raw_mode(0o644), 0)?;
            Ok(String::new())
        }
        Action::Chmod(name, mode) => {
            fs::set_permissions(at(name), fs::Permissions::from_mode(*mode)).map(|()| String::new())
        }
        Action::Chown(name, uid) => {
            std::os::unix::fs::lchown(at(name), Some(*uid), Some(*uid)).map(|()| String::new())
        }
        Action::SetTimes(name, seconds) => {
            let time = Timespec { tv_sec: *seconds, tv_nsec: 5 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW)?;
            let shown = fs::symlink_metadata(at(name))?;
            Ok(format!("{}.{} {}.{}", shown.mtime(), shown.mtime_nsec(), shown.atime(), shown.atime_nsec()))
        }
        Action::SetXattr(name, len) => {
            rustix::fs::lsetxattr(at(name), "user.key", &content(*len), XattrFlags::empty())?;
            Ok(String::new())
        }
        Action::GetXattr(name) => {
            let mut room = [0_u8; 100];
            let len = rustix::fs::lgetxattr(at(name), "user.key", &mut room[..])?;
            Ok(format!("{:?}", &room[..len]))
        }
        Action::Punch(name, offset, len) => {
            let file = open(&at(name), File::options().write(true))?;
            fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, *offset, *len)?;
            Ok(String::new())
        }
        Action::List(name) => {
            let mut names: Vec<_> =
                fs::read_dir(at(name))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
            names.sort();
            Ok(format!("{names:?}"))
        }
        Action::Stat(name) => Ok(format!("{:?}", shown(&fs::symlink_metadata(at(name))?))),
    })();
    done.map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Opens without waiting for the other side of a pipe.
fn open(path: &Path, options: &mut fs::OpenOptions) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::from_raw_os_error(6));
    }
    Ok(file)
}

/// What both must agree on: not inode numbers, blocks, the sizes of directories, and times that the clock gave.
fn shown(metadata: &fs::Metadata) -> (u32, u32, u32, u64, Option<u64>) {
    let size = (!metadata.is_dir()).then_some(metadata.len());
    (metadata.mode(), metadata.uid(), metadata.gid(), metadata.nlink(), size)
}

fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, u64, Option<u64>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                left.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), shown(&metadata));
        }
    }
    found
}

/// Random operations, and the directory that the kernel keeps itself.
struct Run {
    seed: u64,
    draws: Draws,
    real: tempfile::TempDir,
    past: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let draws = Draws(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { seed, draws, real: tempfile::tempdir_in("/dev/shm").unwrap(), past: Vec::new() }
    }

    fn step(&mut self, ours: &Path) {
        let (action, round) = (draw(&mut self.draws), self.past.len());
        let expected = act(self.real.path(), &action, round);
        let found = act(ours, &action, round);
        self.past.push(format!("{action:?} -> {expected:?}"));
        let told = self.past.len().saturating_sub(30);
        assert_eq!(found, expected, "seed {}, after:\n{}", self.seed, self.past[told..].join("\n"));
    }

    fn compare(&self, ours: &Path) {
        assert_eq!(tree(ours), tree(self.real.path()), "seed {}", self.seed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_have_the_same_results() {
    with_mount(|mounted| {
        for seed in 1..=8 {
            let ours = mounted.path(&format!("seed-{seed}"));
            fs::create_dir(&ours).unwrap();
            let mut run = Run::new(seed);
            (0..400).for_each(|_| run.step(&ours));
            run.compare(&ours);
        }
        wait(mounted.volume.check()).unwrap();
    })
    .await;
}

/// Whenever the volume is opened, what the store holds of its tree is not in memory.
#[tokio::test(flavor = "multi_thread")]
async fn random_operations_have_the_same_results_while_the_tree_is_fetched() {
    /// So many that the tree does not fit in the few pages that opening reads.
    const OTHERS: usize = 5_000;

    if !has_fuse() {
        return;
    }
    // A store on a disk is waited for.
    let store = tempfile::tempdir().unwrap();
    let url = format!("file://{}", store.path().display());
    let options = || options().with_image_every(1, 1);
    let volume = Volume::create(&url, options()).await.unwrap();
    volume.fs().create_dir_all("/others").await.unwrap();
    for number in 0..OTHERS {
        volume.fs().write(format!("/others/{number}"), b"").await.unwrap();
    }
    volume.fs().create_dir("/ours").await.unwrap();
    volume.close().await.unwrap();

    let mut run = Run::new(9);
    let mut fetched = 0;
    for opening in 0..16 {
        let volume = Volume::open(&url, options()).await.unwrap();
        let mut mounted = Mounted::of(volume, MountOptions::new().with_writeback(opening % 2 == 1));
        let volume = tokio::task::block_in_place(|| {
            let ours = mounted.path("ours");
            let before = mounted.volume.metered().requests();
            run.compare(&ours);
            assert_eq!(fs::metadata(mounted.path("others/7")).unwrap().len(), 0);
            fetched += mounted.volume.metered().requests() - before;
            (0..100).for_each(|_| run.step(&ours));
            run.compare(&ours);
            mounted.unmount()
        });
        volume.check().await.unwrap();
        volume.close().await.unwrap();
    }
    assert!(fetched > 0, "opening reads all of the tree");
}
