//! The host directory that a tree is restored to. Everything is done relative to directories that are open, and no
//! symlink below the directory is followed: what somebody puts in the way leads nowhere else.
//!
//! What is not whole has a name in the work directory only. It is moved to its place with content and attributes, so
//! that what is in its place was finished, unless the machine went down meanwhile: see [`Work::trusted_from`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rfs_core::{Attr, Kind, Timestamp};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

/// The state of a restore, in its work directory.
const STATE: &str = "state";
/// More is not a state.
const STATE_MAX: u64 = 4096;
/// How many directories above the current one are kept open.
const OPEN: usize = 64;

pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(crate) const OWN: Mode = Mode::RWXU;

/// What an entry is to become.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) attr: Attr,
    /// Where a symlink points.
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where an entry goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
}

impl Place {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    /// Whether something is there.
    pub(super) fn exists(&self) -> io::Result<bool> {
        self.stat().map(|stat| stat.is_some())
    }

    fn stat(&self) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.dir, self.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Why a directory cannot be restored to.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It holds something else.
    Occupied,
    /// It holds an unfinished restore of something else.
    Foreign,
    /// A restore to it is under way, or what it has begun is not ended yet.
    Busy,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// The host directory, and what is not whole yet.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) root: Arc<OwnedFd>,
    dir: OwnedFd,
    name: String,
    /// What was changed before may have lost its content when the machine went down: it is not taken for finished.
    trusted_from: (i64, i64),
    /// Owners are set: only root can.
    owners: bool,
}

impl Work {
    /// Opens a directory, or makes it. `identity` says what is restored: an earlier restore of the same goes on.
    pub(super) fn open(dir: &Path, name: String, identity: &str, alone: bool) -> Result<Self, Refusal> {
        std::fs::create_dir_all(dir)?;
        // The directory itself is where the caller says, by whatever symlinks.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
        let (work, is_new) = match rustix::fs::openat(&root, name.as_str(), DIRECTORY, Mode::empty()) {
            Ok(work) => (work, false),
            Err(Errno::NOENT) => {
                if alone && !is_empty(&root)? {
                    return Err(Refusal::Occupied);
                }
                rustix::fs::mkdirat(&root, name.as_str(), OWN)?;
                let work = rustix::fs::openat(&root, name.as_str(), DIRECTORY, Mode::empty())?;
                // What is made in it is to have no ACL but its own.
                without_acls(&work, &[]);
                (work, true)
            }
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Refusal::Foreign),
            Err(errno) => return Err(errno.into()),
        };
        // Who could put something else in the place of what is being made could have it published.
        let stat = rustix::fs::fstat(&work)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(Refusal::Foreign);
        }
        // As long as anything of a restore goes on its name stays open, also where its caller has given up.
        match rustix::fs::flock(&work, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(Refusal::Busy),
            locked => locked?,
        }
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let state = format!("{identity}boot {boot}");
        if !is_new {
            let found = read_state(&work)?;
            // One that died before it had a state has restored nothing.
            let is_ours = match &found {
                None => is_empty(&work)?,
                // Of a single entry there is nothing to go on with, and nothing to lose.
                Some(found) => {
                    found.starts_with(identity) || (!alone && found.starts_with(super::STATE_BEGINS))
                }
            };
            if !is_ours {
                return Err(Refusal::Foreign);
            }
            if found.as_ref() == Some(&state) {
                return Self::begin(root, work, name);
            }
        }
        write_state(&work, &state)?;
        Self::begin(root, work, name)
    }

    fn begin(root: OwnedFd, dir: OwnedFd, name: String) -> Result<Self, Refusal> {
        let stat = rustix::fs::statat(&dir, STATE, AtFlags::SYMLINK_NOFOLLOW)?;
        let trusted_from = (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(i64::MAX));
        let owners = rustix::process::geteuid().is_root();
        Ok(Self { root: Arc::new(root), dir, name, trusted_from, owners })
    }

    /// Whether what is made here has the right owner.
    pub(super) fn owns(&self, attr: &Attr) -> bool {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        self.owners || own == (attr.uid, attr.gid)
    }

    /// Whether a place holds what it is to hold already.
    pub(super) fn is_done(&self, place: &Place, wanted: &Wanted) -> io::Result<bool> {
        Ok(place.stat()?.is_some_and(|stat| self.is_whole(&stat, wanted)))
    }

    fn is_whole(&self, stat: &Stat, wanted: &Wanted) -> bool {
        let attr = &wanted.attr;
        let (seconds, nanos) = attr.times.modified.to_parts();
        let changed = (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        FileType::from_raw_mode(stat.st_mode) == file_type(attr.kind)
            && (!matches!(attr.kind, Kind::File | Kind::Symlink) || size == attr.size)
            && (stat.st_mtime, stat.st_mtime_nsec) == (seconds, u64::from(nanos))
            && changed >= self.trusted_from
    }

    /// A new file that has no place yet.
    pub(super) fn file(&self, wanted: &Wanted) -> io::Result<File> {
        let name = self.free_name(wanted)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(&file, wanted.attr.size)?;
        Ok(file.into())
    }

    /// Gives a file that has its content its attributes, and its place. Tells which attributes it could not have.
    pub(super) fn finish(&self, file: &File, wanted: &Wanted, place: &Place) -> io::Result<Vec<String>> {
        let lost = self.attributes(file, wanted)?;
        self.publish_first(wanted, place)?;
        Ok(lost)
    }

    /// Makes what is no file and no directory, in its place.
    pub(super) fn node(&self, wanted: &Wanted, place: &Place) -> io::Result<Vec<String>> {
        let attr = &wanted.attr;
        let name = self.free_name(wanted)?;
        let name = name.as_str();
        if attr.kind == Kind::Symlink {
            rustix::fs::symlinkat(OsStr::from_bytes(&wanted.target), &self.dir, name)?;
        } else {
            let mode = Mode::from_raw_mode(attr.mode);
            rustix::fs::mknodat(&self.dir, name, file_type(attr.kind), mode, attr.device)?;
        }
        let mut lost = Vec::new();
        if self.owners {
            let (uid, gid) = owner(attr);
            let set = rustix::fs::chownat(&self.dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            note(&mut lost, "owner", set);
        }
        if attr.kind != Kind::Symlink {
            let mode =
                mode_for(&rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?, attr, &mut lost);
            rustix::fs::chmodat(&self.dir, name, mode, AtFlags::empty())?;
        }
        // There is no call that takes a directory and a name, and opening it would wait for the other end.
        let path = format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd());
        for (xattr, value) in &wanted.xattrs {
            let set =
                rustix::fs::lsetxattr(path.as_str(), OsStr::from_bytes(xattr), value, XattrFlags::empty());
            note_xattr(&mut lost, xattr, set);
        }
        rustix::fs::utimensat(&self.dir, name, &times(attr), AtFlags::SYMLINK_NOFOLLOW)?;
        self.publish_first(wanted, place)?;
        Ok(lost)
    }

    /// Gives a directory its attributes; nothing is made or moved in it afterwards.
    pub(super) fn attributes(&self, file: &impl AsFd, wanted: &Wanted) -> io::Result<Vec<String>> {
        let attr = &wanted.attr;
        let mut lost = Vec::new();
        if self.owners {
            let (uid, gid) = owner(attr);
            let set = rustix::fs::fchown(file, uid, gid);
            note(&mut lost, "owner", set);
        }
        if attr.kind == Kind::Directory {
            without_acls(file, &wanted.xattrs);
        }
        // After the owner, whose change takes set-id bits and capabilities away.
        let mode = mode_for(&rustix::fs::fstat(file)?, attr, &mut lost);
        rustix::fs::fchmod(file, mode)?;
        for (xattr, value) in &wanted.xattrs {
            let set = rustix::fs::fsetxattr(file, OsStr::from_bytes(xattr), value, XattrFlags::empty());
            note_xattr(&mut lost, xattr, set);
        }
        rustix::fs::futimens(file, &times(attr))?;
        Ok(lost)
    }

    /// Gives an inode that was kept another name. Whether it had it already; none when it was not kept.
    pub(super) fn link(&self, place: &Place, wanted: &Wanted) -> io::Result<Option<bool>> {
        let kept = kept_name(wanted);
        let first = match rustix::fs::statat(&self.dir, kept.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if self.is_whole(&stat, wanted) => stat,
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let there = place.stat()?;
        if there.is_some_and(|there| (there.st_dev, there.st_ino) == (first.st_dev, first.st_ino)) {
            return Ok(Some(true));
        }
        let name = self.free_name(wanted)?;
        rustix::fs::linkat(&self.dir, kept.as_str(), &self.dir, name.as_str(), AtFlags::empty())?;
        self.publish(wanted, place)?;
        Ok(Some(false))
    }

    /// Everything is in its place: the work directory goes.
    pub(super) fn end(&self, sync: bool) -> io::Result<()> {
        if sync {
            // Before the state is gone that says what to do again.
            rustix::fs::syncfs(&self.root)?;
        }
        for name in names(&self.dir)? {
            unlink(&self.dir, &name)?;
        }
        rustix::fs::unlinkat(&self.root, self.name.as_str(), AtFlags::REMOVEDIR)?;
        Ok(())
    }

    /// Keeps a name in the work directory, from which the inode's other names are linked, and moves the new one.
    fn publish_first(&self, wanted: &Wanted, place: &Place) -> io::Result<()> {
        if wanted.attr.nlink > 1 {
            let (new, kept) = (work_name(wanted), kept_name(wanted));
            unlink(&self.dir, &kept)?;
            rustix::fs::linkat(&self.dir, new.as_str(), &self.dir, kept.as_str(), AtFlags::empty())?;
        }
        self.publish(wanted, place)
    }

    fn publish(&self, wanted: &Wanted, place: &Place) -> io::Result<()> {
        let name = work_name(wanted);
        Ok(rustix::fs::renameat(&self.dir, name.as_str(), &place.dir, place.name())?)
    }

    fn free_name(&self, wanted: &Wanted) -> io::Result<String> {
        let name = work_name(wanted);
        unlink(&self.dir, &name)?;
        Ok(name)
    }
}

/// The directories from the root down to where a walk is.
#[derive(Debug)]
pub(super) struct Descent {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    dir: Option<Arc<OwnedFd>>,
    /// Device and inode, to know it again.
    id: (u64, u64),
}

impl Descent {
    pub(super) fn new(root: &Arc<OwnedFd>) -> io::Result<Self> {
        let id = identity(root)?;
        Ok(Self { levels: vec![Level { dir: Some(Arc::clone(root)), id }] })
    }

    pub(super) fn dir(&self) -> io::Result<Arc<OwnedFd>> {
        let dir = self.levels.last().and_then(|level| level.dir.as_ref());
        dir.cloned().ok_or_else(|| io::Error::other("the walk has left its directory"))
    }

    /// Goes into a directory; makes it if `make` says so and it is missing.
    pub(super) fn enter(&mut self, name: &[u8], make: bool) -> io::Result<()> {
        let (above, name) = (self.dir()?, OsStr::from_bytes(name));
        if make {
            match rustix::fs::mkdirat(&above, name, OWN) {
                Err(Errno::EXIST) => open_up(&above, name)?,
                made => made?,
            }
        }
        let dir = rustix::fs::openat(&above, name, DIRECTORY, Mode::empty())?;
        let id = identity(&dir)?;
        if let Some(level) = self.levels.len().checked_sub(OPEN).and_then(|level| self.levels.get_mut(level))
        {
            level.dir = None;
        }
        self.levels.push(Level { dir: Some(Arc::new(dir)), id });
        Ok(())
    }

    /// Goes back to the directory above.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        let Some(left) = self.levels.pop() else { return Ok(()) };
        let (Some(above), Some(dir)) = (self.levels.last_mut(), left.dir) else { return Ok(()) };
        if above.dir.is_none() {
            let opened = rustix::fs::openat(&dir, "..", DIRECTORY, Mode::empty())?;
            if identity(&opened)? != above.id {
                return Err(io::Error::other("somebody moved the directory meanwhile"));
            }
            above.dir = Some(Arc::new(opened));
        }
        Ok(())
    }
}

/// A directory that an earlier restore made, and perhaps gave its permissions already.
fn open_up(above: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_dir && Mode::from_raw_mode(stat.st_mode) & OWN != OWN {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(above, name, flags, Mode::empty())?;
        // What is only opened as a path takes its permissions by this one.
        rustix::fs::chmod(format!("/proc/self/fd/{}", dir.as_raw_fd()), OWN)?;
    }
    Ok(())
}

/// Takes the ACLs away that a directory has from the one that it was made in, but for those that it is to have.
pub(crate) fn without_acls(dir: &impl AsFd, wanted: &[(Vec<u8>, Vec<u8>)]) {
    for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
        if !wanted.iter().any(|(name, _)| name == acl.as_bytes()) {
            // It has none, or its file system knows none.
            let _ = rustix::fs::fremovexattr(dir, acl);
        }
    }
}

pub(crate) fn identity(dir: &impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if ![b".".as_slice(), b".."].contains(&entry.file_name().to_bytes()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

pub(crate) fn is_empty(dir: &OwnedFd) -> io::Result<bool> {
    let mut entries = Dir::read_from(dir)?;
    let other = entries.find(|entry| {
        let name = entry.as_ref().map(|entry| entry.file_name().to_bytes());
        !matches!(name, Ok(b"." | b".."))
    });
    Ok(other.transpose()?.is_none())
}

pub(crate) fn read_state(work: &OwnedFd) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(work, STATE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut state = Vec::new();
    file.take(STATE_MAX).read_to_end(&mut state)?;
    Ok(Some(String::from_utf8_lossy(&state).into_owned()))
}

pub(crate) fn write_state(work: &OwnedFd, state: &str) -> io::Result<()> {
    let name = "state.new";
    unlink(work, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(work, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(state.as_bytes())?;
    file.sync_all()?;
    Ok(rustix::fs::renameat(work, name, work, STATE)?)
}

pub(crate) fn unlink(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

fn work_name(wanted: &Wanted) -> String {
    format!("new-{}", wanted.attr.ino)
}

fn kept_name(wanted: &Wanted) -> String {
    format!("inode-{}", wanted.attr.ino)
}

pub(crate) fn note(lost: &mut Vec<String>, what: &str, set: rustix::io::Result<()>) {
    if let Err(errno) = set {
        lost.push(format!("{what}: {}", io::Error::from(errno)));
    }
}

pub(crate) fn note_xattr(lost: &mut Vec<String>, name: &[u8], set: rustix::io::Result<()>) {
    note(lost, &format!("attribute {}", name.escape_ascii()), set);
}

/// The mode that a file is given: a program runs for its owner or group only if these are the ones it had.
pub(crate) fn mode_for(host: &Stat, attr: &Attr, lost: &mut Vec<String>) -> Mode {
    const SET_USER_ID: u32 = 0o4000;
    const SET_GROUP_ID: u32 = 0o2000;
    let mut mode = attr.mode;
    if host.st_uid != attr.uid {
        mode &= !SET_USER_ID;
    }
    if host.st_gid != attr.gid && attr.kind != Kind::Directory {
        mode &= !SET_GROUP_ID;
    }
    if mode != attr.mode {
        lost.push("set-id bits: the owner is another".to_owned());
    }
    Mode::from_raw_mode(mode)
}

pub(crate) fn owner(attr: &Attr) -> (Option<Uid>, Option<Gid>) {
    // The largest number means "leave it" to the kernel.
    let given = |id: u32| (id != u32::MAX).then_some(id);
    (given(attr.uid).map(Uid::from_raw), given(attr.gid).map(Gid::from_raw))
}

pub(crate) fn times(attr: &Attr) -> Timestamps {
    let time = |time: Timestamp| {
        let (tv_sec, nanos) = time.to_parts();
        Timespec { tv_sec, tv_nsec: nanos.into() }
    };
    Timestamps { last_access: time(attr.times.accessed), last_modification: time(attr.times.modified) }
}

pub(crate) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use rfs_core::{Ino, Times};

    use super::*;

    /// A program does not run for somebody for whom it did not run in the volume.
    #[test]
    fn set_id_bits_go_with_the_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let host = rustix::fs::stat(dir.path()).expect("it is there");
        let attr = |uid, gid, kind| Attr {
            ino: Ino(2),
            kind,
            mode: 0o6755,
            uid,
            gid,
            nlink: 1,
            size: 0,
            allocated: 0,
            device: 0,
            times: Times::default(),
        };
        let (uid, gid) = (host.st_uid, host.st_gid);
        for (attr, mode, told) in [
            (attr(uid, gid, Kind::File), 0o6755, 0),
            (attr(uid + 1, gid, Kind::File), 0o2755, 1),
            (attr(uid, gid + 1, Kind::File), 0o4755, 1),
            (attr(uid + 1, gid + 1, Kind::File), 0o755, 1),
            (attr(uid, gid + 1, Kind::Directory), 0o6755, 0),
        ] {
            let mut lost = Vec::new();
            assert_eq!(mode_for(&host, &attr, &mut lost), Mode::from_raw_mode(mode), "{attr:?}");
            assert_eq!(lost.len(), told, "{attr:?}");
        }
    }
}
