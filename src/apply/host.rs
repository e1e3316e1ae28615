//! The host directory that is brought to another state. Everything is done relative to directories that are open, and
//! no symlink below the directory is followed.
//!
//! A work directory in it holds what has lost its names (`o-` and the inode's number) and what has no name yet (`n-`).
//! So names change hands whatever the order: all that are lost are taken away before the first is given.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rfs_core::{Ino, Kind, Name};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::Phase;
use crate::restore::host::{
    DIRECTORY, OWN, Wanted, file_type, mode_for, note, note_xattr, owner, read_state, times, unlink,
    without_acls, write_state,
};

/// So many directories are kept open.
const OPEN: usize = 256;
/// How the state of an unfinished run begins; its version follows.
const BEGINS: &str = "rfs apply 1\n";

/// The directories below the root that lead to one, with their names.
pub(super) type Way = Vec<(Ino, Name)>;

/// A name in a directory.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) way: Way,
    pub(super) name: Name,
}

/// The host directory.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) root: Arc<OwnedFd>,
    /// Owners are set: only root can.
    pub(super) owners: bool,
    dirs: Mutex<HashMap<Ino, Arc<OwnedFd>>>,
    work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    dir: OwnedFd,
    name: String,
    identity: String,
    /// What an earlier run made is whole: the machine did not go down since.
    trusted: bool,
}

/// Why the work directory cannot be used.
#[derive(Debug)]
pub(super) enum Refusal {
    Foreign,
    Busy,
    Io(io::Error),
}

impl<E: Into<io::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

impl Host {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        // The directory itself is where the caller says, by whatever symlinks.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(rustix::fs::openat(CWD, dir, flags, Mode::empty())?);
        let owners = rustix::process::geteuid().is_root();
        Ok(Self { root, owners, dirs: Mutex::default(), work: None })
    }

    /// The phase that an earlier run with this identity was in, if there was one: it goes on.
    pub(super) fn resume(&mut self, name: &str, identity: &str) -> Result<Option<Phase>, Refusal> {
        let work = match rustix::fs::openat(&self.root, name, DIRECTORY, Mode::empty()) {
            Ok(work) => work,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Refusal::Foreign),
            Err(errno) => return Err(errno.into()),
        };
        let stat = rustix::fs::fstat(&work)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(Refusal::Foreign);
        }
        lock(&work)?;
        let begins = format!("{BEGINS}{identity}");
        let Some(state) = read_state(&work)? else {
            // It died before it changed anything, or at its very end.
            unlink(&work, "state.new")?;
            if crate::restore::host::is_empty(&work)? {
                rustix::fs::unlinkat(&self.root, name, AtFlags::REMOVEDIR)?;
                return Ok(None);
            }
            return Err(Refusal::Foreign);
        };
        let rest = state.strip_prefix(&begins).ok_or(Refusal::Foreign)?;
        let (phase, boot) = rest.split_once('\n').ok_or(Refusal::Foreign)?;
        let phase = Phase::parse(phase).ok_or(Refusal::Foreign)?;
        let trusted = !boot.is_empty() && boot == boot_id();
        self.work = Some(Work { dir: work, name: name.to_owned(), identity: begins, trusted });
        Ok(Some(phase))
    }

    /// Makes the work directory.
    pub(super) fn begin(&mut self, name: &str, identity: &str, phase: Phase) -> Result<(), Refusal> {
        match rustix::fs::mkdirat(&self.root, name, OWN) {
            Err(Errno::EXIST) => return Err(Refusal::Busy),
            made => made?,
        }
        let dir = rustix::fs::openat(&self.root, name, DIRECTORY, Mode::empty())?;
        without_acls(&dir, &[]);
        lock(&dir)?;
        let identity = format!("{BEGINS}{identity}");
        self.work = Some(Work { dir, name: name.to_owned(), identity, trusted: true });
        Ok(self.enter(phase)?)
    }

    /// Notes that all phases before this one are done.
    pub(super) fn enter(&self, phase: Phase) -> io::Result<()> {
        let work = self.work()?;
        rustix::fs::syncfs(&work.dir)?;
        write_state(&work.dir, &format!("{}{}\n{}", work.identity, phase.name(), boot_id()))
    }

    /// Everything is done: the work directory goes.
    pub(super) fn end(&self) -> io::Result<()> {
        let work = self.work()?;
        rustix::fs::syncfs(&work.dir)?;
        for name in crate::restore::host::names(&work.dir)? {
            unlink(&work.dir, &name)?;
        }
        Ok(rustix::fs::unlinkat(&self.root, work.name.as_str(), AtFlags::REMOVEDIR)?)
    }

    fn work(&self) -> io::Result<&Work> {
        self.work.as_ref().ok_or_else(|| io::Error::other("there is no work directory"))
    }

    /// Looks for all directories anew.
    pub(super) fn forget(&self) {
        self.dirs.lock().clear();
    }

    /// A directory, wherever it is at the moment.
    pub(super) fn dir(&self, way: &[(Ino, Name)]) -> io::Result<Arc<OwnedFd>> {
        let mut open = (0, Arc::clone(&self.root));
        {
            let dirs = self.dirs.lock();
            for (at, (ino, _)) in way.iter().enumerate().rev() {
                if let Some(dir) = dirs.get(ino) {
                    open = (at + 1, Arc::clone(dir));
                    break;
                }
            }
        }
        let (from, mut dir) = open;
        for (ino, name) in &way[from..] {
            let next = match self.in_work(*ino)? {
                Some(next) => next,
                None => {
                    rustix::fs::openat(&dir, OsStr::from_bytes(name.as_bytes()), DIRECTORY, Mode::empty())?
                }
            };
            dir = Arc::new(next);
            let mut dirs = self.dirs.lock();
            if dirs.len() >= OPEN {
                dirs.clear();
            }
            dirs.insert(*ino, Arc::clone(&dir));
        }
        Ok(dir)
    }

    /// The same, so that its entries can be changed. All that are changed so get their attributes at the end.
    fn writable(&self, way: &[(Ino, Name)]) -> io::Result<Arc<OwnedFd>> {
        let dir = self.dir(way)?;
        if !self.owners {
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&dir)?.st_mode);
            if mode & OWN != OWN {
                rustix::fs::fchmod(&dir, mode | OWN)?;
            }
        }
        Ok(dir)
    }

    fn in_work(&self, ino: Ino) -> io::Result<Option<OwnedFd>> {
        let Some(work) = &self.work else { return Ok(None) };
        for name in [new_name(ino), old_name(ino)] {
            match rustix::fs::openat(&work.dir, name.as_str(), DIRECTORY, Mode::empty()) {
                Ok(dir) => return Ok(Some(dir)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    /// What is at a spot; none where nothing is, or where a directory on the way is missing.
    pub(super) fn stat(&self, spot: &Spot) -> io::Result<Option<Stat>> {
        let dir = match self.dir(&spot.way) {
            Err(error) if is_absent(&error) => return Ok(None),
            dir => dir?,
        };
        stat_at(&dir, spot.name.as_bytes())
    }

    /// Takes a name away. What has no other name that stays is kept in the work directory, if it `stays`.
    pub(super) fn detach(&self, ino: Ino, spot: &Spot, kind: Kind, stays: bool) -> io::Result<()> {
        let work = self.work()?;
        let (dir, name) = (self.writable(&spot.way)?, OsStr::from_bytes(spot.name.as_bytes()));
        let kept = old_name(ino);
        let is_kept = stat_at(&work.dir, kept.as_bytes())?.is_some();
        if !stays || is_kept {
            // A directory that is kept already has no second name.
            return if kind == Kind::Directory { Ok(()) } else { unlink_os(&dir, name) };
        }
        if kind == Kind::Directory && !self.owners {
            // Moving a directory to another one writes to it.
            let mut way = spot.way.clone();
            way.push((ino, spot.name.clone()));
            drop(self.writable(&way)?);
        }
        Ok(rustix::fs::renameat(&dir, name, &work.dir, kept.as_str())?)
    }

    /// Whether something was made already, and is whole.
    pub(super) fn is_made(&self, ino: Ino) -> io::Result<bool> {
        let work = self.work()?;
        Ok(work.trusted && stat_at(&work.dir, new_name(ino).as_bytes())?.is_some())
    }

    /// A new file, which has no name that counts yet.
    pub(super) fn file(&self, ino: Ino, size: u64) -> io::Result<File> {
        let work = self.work()?;
        let name = half_name(ino);
        unlink(&work.dir, &name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&work.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(&file, size)?;
        Ok(file.into())
    }

    /// Makes what is no file. A directory gets its attributes at the end.
    pub(super) fn node(&self, wanted: &Wanted) -> io::Result<Vec<String>> {
        let (work, attr) = (self.work()?, &wanted.attr);
        let (half, made) = (half_name(attr.ino), new_name(attr.ino));
        unlink(&work.dir, &half)?;
        match attr.kind {
            Kind::Directory => {
                match rustix::fs::mkdirat(&work.dir, made.as_str(), OWN) {
                    Err(Errno::EXIST) => {}
                    made => made?,
                }
                return Ok(Vec::new());
            }
            Kind::Symlink => {
                rustix::fs::symlinkat(OsStr::from_bytes(&wanted.target), &work.dir, half.as_str())?;
            }
            kind => {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(&work.dir, half.as_str(), file_type(kind), mode, attr.device)?;
            }
        }
        self.finish(wanted)
    }

    /// Gives what is made in the work directory its attributes, and the name by which it counts.
    pub(super) fn finish(&self, wanted: &Wanted) -> io::Result<Vec<String>> {
        let work = self.work()?;
        let (half, made) = (half_name(wanted.attr.ino), new_name(wanted.attr.ino));
        let lost = self.attributes_at(&work.dir, half.as_bytes(), wanted, &[])?;
        rustix::fs::renameat(&work.dir, half.as_str(), &work.dir, made.as_str())?;
        Ok(lost)
    }

    /// A file that is in place, or kept, to be written.
    pub(super) fn existing(&self, ino: Ino, spots: &[Spot]) -> io::Result<File> {
        let (dir, name) = self.find(ino, spots)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = OsStr::from_bytes(&name);
        let opened = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) if !self.owners => {
                let path = rustix::fs::openat(&dir, name, PATH, Mode::empty())?;
                rustix::fs::chmod(proc_path(&path), Mode::RUSR | Mode::WUSR)?;
                rustix::fs::openat(&dir, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        Ok(opened.into())
    }

    /// Where an inode is: in the work directory, or at one of these spots.
    fn find(&self, ino: Ino, spots: &[Spot]) -> io::Result<(Arc<OwnedFd>, Vec<u8>)> {
        let work = self.work()?;
        for name in [new_name(ino), old_name(ino)] {
            if stat_at(&work.dir, name.as_bytes())?.is_some() {
                return Ok((Arc::new(work.dir.try_clone()?), name.into_bytes()));
            }
        }
        for spot in spots {
            let dir = match self.dir(&spot.way) {
                Err(error) if is_absent(&error) => continue,
                dir => dir?,
            };
            if stat_at(&dir, spot.name.as_bytes())?.is_some() {
                return Ok((dir, spot.name.as_bytes().to_vec()));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "it is missing: somebody changed the directory meanwhile",
        ))
    }

    /// Gives an inode a name. With `kept` spots where it is besides.
    pub(super) fn attach(&self, ino: Ino, spot: &Spot, kept: &[Spot], only: bool) -> io::Result<()> {
        let (dir, name) = (self.writable(&spot.way)?, OsStr::from_bytes(spot.name.as_bytes()));
        let there = stat_at(&dir, spot.name.as_bytes())?;
        let (from, from_name) = match self.find(ino, kept) {
            // It was moved already.
            Err(error) if error.kind() == io::ErrorKind::NotFound && only && there.is_some() => return Ok(()),
            found => found?,
        };
        let from_name = OsStr::from_bytes(&from_name);
        if let Some(there) = there {
            let is = rustix::fs::statat(&from, from_name, AtFlags::SYMLINK_NOFOLLOW)?;
            if (there.st_dev, there.st_ino) == (is.st_dev, is.st_ino) {
                return Ok(());
            }
            let what = "something is there: somebody changed the directory meanwhile";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        if only {
            Ok(rustix::fs::renameat(&from, from_name, &dir, name)?)
        } else {
            Ok(rustix::fs::linkat(&from, from_name, &dir, name, AtFlags::empty())?)
        }
    }

    /// Removes what is left of an inode in the work directory.
    pub(super) fn drop_kept(&self, ino: Ino, is_dir: bool) -> io::Result<()> {
        let work = self.work()?;
        if is_dir {
            self.dirs.lock().remove(&ino);
            return match rustix::fs::unlinkat(&work.dir, old_name(ino).as_str(), AtFlags::REMOVEDIR) {
                Err(Errno::NOENT) => Ok(()),
                done => Ok(done?),
            };
        }
        unlink(&work.dir, &old_name(ino))?;
        unlink(&work.dir, &new_name(ino))
    }

    /// Gives what is at a spot its attributes, and takes `gone` ones away.
    pub(super) fn attributes(
        &self,
        spot: &Spot,
        wanted: &Wanted,
        gone: &[Vec<u8>],
    ) -> io::Result<Vec<String>> {
        let dir = self.dir(&spot.way)?;
        self.attributes_at(&dir, spot.name.as_bytes(), wanted, gone)
    }

    fn attributes_at(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        wanted: &Wanted,
        gone: &[Vec<u8>],
    ) -> io::Result<Vec<String>> {
        // What is only opened as a path takes everything by this one, whatever it is and whoever may read it.
        let fd = rustix::fs::openat(dir, OsStr::from_bytes(name), PATH, Mode::empty())?;
        self.set(&fd, wanted, gone)
    }

    /// The same for the root.
    pub(super) fn root_attributes(&self, wanted: &Wanted, gone: &[Vec<u8>]) -> io::Result<Vec<String>> {
        self.set(&self.root, wanted, gone)
    }

    fn set(&self, fd: &OwnedFd, wanted: &Wanted, gone: &[Vec<u8>]) -> io::Result<Vec<String>> {
        let (attr, path) = (&wanted.attr, proc_path(fd));
        let mut lost = Vec::new();
        let stat = rustix::fs::fstat(fd)?;
        if file_type(attr.kind) != rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            return Err(io::Error::other("it is something else: somebody changed the directory meanwhile"));
        }
        if self.owners {
            let (uid, gid) = owner(attr);
            note(&mut lost, "owner", rustix::fs::chownat(CWD, path.as_str(), uid, gid, AtFlags::empty()));
        }
        for name in gone {
            match rustix::fs::removexattr(path.as_str(), OsStr::from_bytes(name)) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                removed => note_xattr(&mut lost, name, removed),
            }
        }
        if attr.kind != Kind::Symlink {
            // After the owner, whose change takes set-id bits away.
            let stat = rustix::fs::fstat(fd)?;
            rustix::fs::chmod(path.as_str(), mode_for(&stat, attr, &mut lost))?;
        }
        for (name, value) in &wanted.xattrs {
            let set =
                rustix::fs::setxattr(path.as_str(), OsStr::from_bytes(name), value, XattrFlags::empty());
            note_xattr(&mut lost, name, set);
        }
        rustix::fs::utimensat(CWD, path.as_str(), &times(attr), AtFlags::empty())?;
        Ok(lost)
    }
}

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether a directory on the way is missing, or is none.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

pub(super) fn stat_at(dir: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn unlink_os(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// As long as anything goes on, the work directory stays open, also where its caller has given up.
fn lock(work: &OwnedFd) -> Result<(), Refusal> {
    match rustix::fs::flock(work, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Refusal::Busy),
        locked => Ok(locked?),
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// What has lost its names.
fn old_name(ino: Ino) -> String {
    format!("o-{ino}")
}

/// What has no name yet, and is whole.
fn new_name(ino: Ino) -> String {
    format!("n-{ino}")
}

/// What is being made.
fn half_name(ino: Ino) -> String {
    format!("half-{ino}")
}
