//! Each operation as system calls.

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rfs_core::{
    Access, Allocate, Credential, Kind, LockMode, LockRange, NAME_MAX, OpenFlags, RenameMode, SetTime,
    WriteAt, XATTR_VALUE_MAX, XattrMode,
};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom,
    Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::{Errno, ReadWriteFlags};

use super::Judge;
use super::caller::acting_as;
use super::dump::{attr, content, kind};
use crate::{Path, Slot, TestOp, Value, What, callers};

type Outcome = Result<Value, Errno>;

pub(super) const READ: Access = Access { read: true, write: false };
const WRITE: Access = Access { read: false, write: true };

/// The handles of a directory's thread.
pub(super) struct Session {
    pub(super) handles: HashMap<Slot, OwnedFd>,
    /// `/proc/self/fd`, through which a handle is a path.
    descriptors: OwnedFd,
    callers: Vec<Credential>,
    /// The directory in which each run has its root.
    pub(super) outer: OwnedFd,
    runs: u64,
    pub(super) judge: Judge,
}

impl Session {
    /// The working directory is the one in which each run has its root.
    pub(super) fn new(descriptors: OwnedFd, judge: Judge) -> Result<Self, Errno> {
        let outer = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut session =
            Self { handles: HashMap::new(), descriptors, callers: callers(), outer, runs: 0, judge };
        session.clear()?;
        Ok(session)
    }

    /// Begins anew: an empty directory of mode 755 is the root.
    pub(super) fn clear(&mut self) -> Result<(), Errno> {
        self.handles.clear();
        rustix::process::fchdir(&self.outer)?;
        rustix::process::chroot(".")?;
        if self.runs > 0 {
            let old = std::fs::remove_dir_all(format!("/{}", self.runs));
            old.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        self.runs += 1;
        let root = format!("/{}", self.runs);
        rustix::fs::mkdir(&root, Mode::from_raw_mode(0o755))?;
        rustix::process::chroot(&root)?;
        rustix::process::chdir("/")
    }

    pub(super) fn run(&mut self, op: &TestOp) -> Outcome {
        let (caller, op) = match op {
            TestOp::As { caller, op } => (self.callers[*caller].clone(), &**op),
            op => (Credential::root(), op),
        };
        let before = match op {
            TestOp::Allocate { what, mode: Allocate::Collapse | Allocate::Insert, .. }
                if self.judge == Judge::Disk =>
            {
                self.unshifted(what).ok()
            }
            _ => None,
        };
        let group = self.group_of_acl(op);
        let uncut = self.uncut(op);
        let mut answer =
            acting_as(&caller, || self.do_op(op)).expect("root becomes a caller, and root again");
        if let (Err(Errno::PERM), TestOp::OpenNameless { slot, path, access, linkable, mode }) = (&answer, op)
            && let Some(stand_in) = self.stand_in_for_removed(path)?
        {
            let open = || nameless(stand_in.as_fd(), b".", *access, *linkable, *mode);
            let opened = acting_as(&caller, open).expect("root becomes a caller, and root again");
            self.remove_stand_in()?;
            answer = opened.map(|fd| self.keep(*slot, fd));
        }
        if let (Ok(_), Some(path)) = (&answer, uncut) {
            let (last_access, last_modification) = (timespec(SetTime::Keep), timespec(SetTime::Now));
            let now = Timestamps { last_access, last_modification };
            rustix::fs::utimensat(CWD, path, &now, AtFlags::empty())?;
        }
        match (&answer, before, group) {
            (Err(_), Some(before), _) => before.restore()?,
            (Ok(_), _, Some((what, gid))) => self.clear_group_id(what, &caller, gid)?,
            _ => {}
        }
        answer
    }

    /// What truncate(2) leaves at its size. tmpfs sets no time then, but ext4 does, and POSIX says so.
    fn uncut<'a>(&self, op: &'a TestOp) -> Option<&'a [u8]> {
        let TestOp::Truncate { what, size } = op else { return None };
        let What::Path { path: Path { base: None, bytes }, follow: true } = what else { return None };
        let same = self.stat(what).is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(*size));
        (same && self.judge == Judge::Memory).then_some(bytes)
    }

    fn keep(&mut self, slot: Slot, fd: OwnedFd) -> Value {
        self.handles.insert(slot, fd);
        Value::Unit
    }

    fn do_op(&mut self, op: &TestOp) -> Outcome {
        let done = |()| Value::Unit;
        match op {
            TestOp::Open { slot, path, access, flags, mode } => {
                let fd = self.open(path, *access, *flags, *mode)?;
                Ok(self.keep(*slot, fd))
            }
            TestOp::OpenNameless { slot, path, access, linkable, mode } => {
                let fd = nameless(self.base(path)?, &path.bytes, *access, *linkable, *mode)?;
                Ok(self.keep(*slot, fd))
            }
            TestOp::Close { slot } => match self.handles.remove(slot) {
                Some(_) => Ok(Value::Unit),
                None => Err(Errno::BADF),
            },
            TestOp::Create { path, mode } => {
                let flags = OpenFlags { create: true, exclusive: true, ..OpenFlags::default() };
                self.open(path, WRITE, flags, *mode).map(|_| Value::Unit)
            }
            TestOp::Mkdir { path, mode } => {
                rustix::fs::mkdirat(self.base(path)?, &*path.bytes, Mode::from_raw_mode(*mode)).map(done)
            }
            TestOp::Mknod { path, node, mode } => self.mknod(path, node, *mode).map(done),
            TestOp::Symlink { target, path } => {
                rustix::fs::symlinkat(&*target.0, self.base(path)?, &*path.bytes).map(done)
            }
            TestOp::Link { from, to } => self.link(from, to).map(done),
            TestOp::Unlink { path } => {
                rustix::fs::unlinkat(self.base(path)?, &*path.bytes, AtFlags::empty()).map(done)
            }
            TestOp::Rmdir { path } => {
                rustix::fs::unlinkat(self.base(path)?, &*path.bytes, AtFlags::REMOVEDIR).map(done)
            }
            TestOp::Rename { from, to, mode } => {
                let flags = match mode {
                    RenameMode::Replace => RenameFlags::empty(),
                    RenameMode::NoReplace => RenameFlags::NOREPLACE,
                    RenameMode::Exchange => RenameFlags::EXCHANGE,
                    RenameMode::Whiteout => RenameFlags::WHITEOUT,
                };
                let (from_base, to_base) = (self.base(from)?, self.base(to)?);
                rustix::fs::renameat_with(from_base, &*from.bytes, to_base, &*to.bytes, flags).map(done)
            }
            TestOp::ReadLink { path } => {
                let target = rustix::fs::readlinkat(self.base(path)?, &*path.bytes, Vec::new())?;
                Ok(Value::Link(target.into_bytes()))
            }
            TestOp::ReadDir { what } => self.read_dir(what).map(Value::Names),
            TestOp::Stat { what } => Ok(Value::Attr(attr(&self.stat(what)?))),
            TestOp::StatFs => {
                let longest = rustix::fs::statvfs("/")?.f_namemax;
                Ok(Value::Number(longest.min(NAME_MAX as u64)))
            }
            TestOp::Access { what, access } => self.access(what, *access).map(done),
            TestOp::SetMode { .. } | TestOp::SetOwner { .. } | TestOp::SetTimes { .. } => {
                self.set_attributes(op).map(done)
            }
            TestOp::SetXattr { .. }
            | TestOp::GetXattr { .. }
            | TestOp::ListXattr { .. }
            | TestOp::RemoveXattr { .. } => self.xattr(op),
            TestOp::LockFile { .. }
            | TestOp::UnlockFile { .. }
            | TestOp::LockRange { .. }
            | TestOp::UnlockRange { .. }
            | TestOp::GetLock { .. } => self.lock(op),
            TestOp::Read { .. }
            | TestOp::Write { .. }
            | TestOp::Truncate { .. }
            | TestOp::Allocate { .. }
            | TestOp::Copy { .. }
            | TestOp::SeekData { .. }
            | TestOp::SeekHole { .. } => self.content_op(op),
            TestOp::Require(_) | TestOp::Batch(_) | TestOp::As { .. } => Err(Errno::NOSYS),
        }
    }

    fn content_op(&self, op: &TestOp) -> Outcome {
        let done = |()| Value::Unit;
        match op {
            TestOp::Read { what, offset, len } => {
                read(self.opened(what, READ)?.as_fd(), *offset, *len).map(Value::Bytes)
            }
            TestOp::Write { what, at, data } => {
                write(self.opened(what, WRITE)?.as_fd(), *at, &data.bytes()).map(Value::Number)
            }
            TestOp::Truncate { what, size } => self.truncate(what, *size).map(done),
            TestOp::Allocate { what, mode, offset, len } => {
                let flags = match mode {
                    Allocate::Extend => FallocateFlags::empty(),
                    Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
                    Allocate::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    Allocate::ZeroRange { keep_size: false } => FallocateFlags::ZERO_RANGE,
                    Allocate::ZeroRange { keep_size: true } => {
                        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
                    }
                    Allocate::Collapse => FallocateFlags::COLLAPSE_RANGE,
                    Allocate::Insert => FallocateFlags::INSERT_RANGE,
                };
                rustix::fs::fallocate(self.opened(what, WRITE)?.as_fd(), flags, *offset, *len).map(done)
            }
            TestOp::Copy { from, from_offset, to, to_offset, len } => {
                let (from, to) = (self.opened(from, READ)?, self.opened(to, WRITE)?);
                copy(from.as_fd(), *from_offset, to.as_fd(), *to_offset, *len).map(Value::Number)
            }
            TestOp::SeekData { what, offset } => {
                let fd = self.readable_file(what)?;
                let size = rustix::fs::fstat(fd.as_fd())?.st_size.unsigned_abs();
                let at = match rustix::fs::seek(fd.as_fd(), SeekFrom::Data(*offset)) {
                    Err(Errno::NXIO) if *offset < size => return Ok(Value::Number(size)),
                    at => at?,
                };
                let found = content(fd.as_fd(), rustix::fs::fstat(fd.as_fd())?.st_size)?.first_nonzero(at);
                Ok(Value::Number(found.unwrap_or(size)))
            }
            TestOp::SeekHole { what, offset } => {
                let fd = self.readable_file(what)?;
                let at = rustix::fs::seek(fd.as_fd(), SeekFrom::Hole(*offset))?;
                let zero = content(fd.as_fd(), rustix::fs::fstat(fd.as_fd())?.st_size)?.first_nonzero(at)
                    != Some(at);
                Ok(Value::Truth(zero))
            }
            _ => Err(Errno::NOSYS),
        }
    }

    /// A file to look for holes in. Linux would do that through a handle for writing, too, and on directories of some
    /// file systems; here the answer has to be looked at.
    fn readable_file(&self, what: &What) -> Result<Opened<'_>, Errno> {
        let fd = self.opened(what, READ)?;
        if rustix::fs::fcntl_getfl(fd.as_fd())?.contains(OFlags::WRONLY) {
            return Err(Errno::BADF);
        }
        if kind(&rustix::fs::fstat(fd.as_fd())?) == Kind::File { Ok(fd) } else { Err(Errno::INVAL) }
    }

    fn open(&self, path: &Path, access: Access, flags: OpenFlags, mode: u32) -> Result<OwnedFd, Errno> {
        let mut all = open_flags(access);
        all.set(OFlags::CREATE, flags.create);
        all.set(OFlags::EXCL, flags.exclusive);
        all.set(OFlags::TRUNC, flags.truncate);
        all.set(OFlags::DIRECTORY, flags.directory);
        all.set(OFlags::NOFOLLOW, flags.no_follow);
        let mode = if flags.create { Mode::from_raw_mode(mode) } else { Mode::empty() };
        let fd = rustix::fs::openat(self.base(path)?, &*path.bytes, all, mode)?;
        // The kernel opens a fifo itself; a volume leaves that to it.
        if kind(&rustix::fs::fstat(&fd)?) == Kind::Fifo { Err(Errno::NXIO) } else { Ok(fd) }
    }

    /// What is read or written: a path is opened for it.
    fn opened(&self, what: &What, access: Access) -> Result<Opened<'_>, Errno> {
        match what {
            What::Handle(slot) => self.handle(*slot).map(Opened::Held),
            What::Path { path, follow } => {
                let flags = OpenFlags { no_follow: !follow, ..OpenFlags::default() };
                self.open(path, access, flags, 0).map(Opened::Now)
            }
        }
    }

    fn truncate(&self, what: &What, size: u64) -> Result<(), Errno> {
        match what {
            What::Handle(slot) => rustix::fs::ftruncate(self.handle(*slot)?, size),
            What::Path { path: Path { base: None, bytes }, follow: true } => {
                let size = i64::try_from(size).map_err(|_| Errno::INVAL)?;
                nix::unistd::truncate(&**bytes, size).map_err(|errno| Errno::from_raw_os_error(errno as i32))
            }
            // truncate(2) knows no other base, but its order of errors does not depend on that.
            What::Path { path, follow } => match kind(&self.stat(what)?) {
                Kind::Directory => Err(Errno::ISDIR),
                Kind::File => {
                    let flags = OpenFlags { no_follow: !follow, ..OpenFlags::default() };
                    rustix::fs::ftruncate(self.open(path, WRITE, flags, 0)?, size)
                }
                _ => Err(Errno::INVAL),
            },
        }
    }

    fn mknod(&self, path: &Path, node: &rfs_core::Node, mode: u32) -> Result<(), Errno> {
        let (kind, device) = match node {
            rfs_core::Node::Fifo => (FileType::Fifo, 0),
            rfs_core::Node::Socket => (FileType::Socket, 0),
            rfs_core::Node::CharDevice(device) => (FileType::CharacterDevice, *device),
            rfs_core::Node::BlockDevice(device) => (FileType::BlockDevice, *device),
            rfs_core::Node::File => (FileType::RegularFile, 0),
            rfs_core::Node::Directory => (FileType::Directory, 0),
            _ => (FileType::Symlink, 0),
        };
        rustix::fs::mknodat(self.base(path)?, &*path.bytes, kind, Mode::from_raw_mode(mode), device)
    }

    fn link(&self, from: &What, to: &Path) -> Result<(), Errno> {
        let to_base = self.base(to)?;
        match from {
            What::Handle(slot) => {
                let number = self.handle(*slot)?.as_raw_fd().to_string();
                let flags = AtFlags::SYMLINK_FOLLOW;
                rustix::fs::linkat(&self.descriptors, number, to_base, &*to.bytes, flags)
            }
            What::Path { path, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(self.base(path)?, &*path.bytes, to_base, &*to.bytes, flags)
            }
        }
    }

    fn access(&self, what: &What, access: u32) -> Result<(), Errno> {
        let access = rustix::fs::Access::from_bits_retain(access);
        match what {
            What::Handle(slot) => {
                let number = self.handle(*slot)?.as_raw_fd().to_string();
                rustix::fs::accessat(&self.descriptors, number, access, AtFlags::EACCESS)
            }
            What::Path { path, follow } => {
                let flags = AtFlags::EACCESS | follow_flag(*follow);
                rustix::fs::accessat(self.base(path)?, &*path.bytes, access, flags)
            }
        }
    }

    pub(super) fn set_attributes(&self, op: &TestOp) -> Result<(), Errno> {
        match op {
            TestOp::SetMode { what: What::Handle(slot), mode } => {
                rustix::fs::fchmod(self.handle(*slot)?, Mode::from_raw_mode(*mode))
            }
            TestOp::SetMode { what: what @ What::Path { path, follow }, mode } => {
                // fchmodat2 is too new to be counted on; this is what it says of symlinks.
                if !follow && kind(&self.stat(what)?) == Kind::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                rustix::fs::chmodat(
                    self.base(path)?,
                    &*path.bytes,
                    Mode::from_raw_mode(*mode),
                    AtFlags::empty(),
                )
            }
            TestOp::SetOwner { what, uid, gid } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                match what {
                    What::Handle(slot) => rustix::fs::fchown(self.handle(*slot)?, uid, gid),
                    What::Path { path, follow } => {
                        rustix::fs::chownat(self.base(path)?, &*path.bytes, uid, gid, follow_flag(*follow))
                    }
                }
            }
            TestOp::SetTimes { what, accessed, modified } => {
                let times =
                    Timestamps { last_access: timespec(*accessed), last_modification: timespec(*modified) };
                match what {
                    What::Handle(slot) => rustix::fs::futimens(self.handle(*slot)?, &times),
                    What::Path { path, follow } => {
                        rustix::fs::utimensat(self.base(path)?, &*path.bytes, &times, follow_flag(*follow))
                    }
                }
            }
            _ => Err(Errno::NOSYS),
        }
    }

    pub(super) fn stat(&self, what: &What) -> Result<Stat, Errno> {
        match what {
            What::Handle(slot) => rustix::fs::fstat(self.handle(*slot)?),
            What::Path { path, follow } => {
                rustix::fs::statat(self.base(path)?, &*path.bytes, follow_flag(*follow))
            }
        }
    }

    fn read_dir(&self, what: &What) -> Result<Vec<Vec<u8>>, Errno> {
        match what {
            What::Handle(slot) => names(self.handle(*slot)?),
            What::Path { path, follow } => {
                let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                flags.set(OFlags::NOFOLLOW, !follow);
                let fd = rustix::fs::openat(self.base(path)?, &*path.bytes, flags, Mode::empty())?;
                names(fd.as_fd())
            }
        }
    }

    fn xattr(&self, op: &TestOp) -> Outcome {
        match op {
            TestOp::SetXattr { what, name, value, mode } => {
                let flags = match mode {
                    XattrMode::Set => XattrFlags::empty(),
                    XattrMode::Create => XattrFlags::CREATE,
                    XattrMode::Replace => XattrFlags::REPLACE,
                };
                let (name, value) = (&*name.0, &*value.0);
                match what {
                    What::Handle(slot) => rustix::fs::fsetxattr(self.handle(*slot)?, name, value, flags),
                    What::Path { path, follow: true } => {
                        rustix::fs::setxattr(&*path.bytes, name, value, flags)
                    }
                    What::Path { path, .. } => rustix::fs::lsetxattr(&*path.bytes, name, value, flags),
                }
                .map(|()| Value::Unit)
            }
            TestOp::GetXattr { what, name } => {
                let mut value = vec![0; XATTR_VALUE_MAX];
                let name = &*name.0;
                let len = match what {
                    What::Handle(slot) => rustix::fs::fgetxattr(self.handle(*slot)?, name, &mut value)?,
                    What::Path { path, follow: true } => {
                        rustix::fs::getxattr(&*path.bytes, name, &mut value)?
                    }
                    What::Path { path, .. } => rustix::fs::lgetxattr(&*path.bytes, name, &mut value)?,
                };
                value.truncate(len);
                Ok(Value::Bytes(value))
            }
            TestOp::ListXattr { what } => {
                let mut list = vec![0; XATTR_VALUE_MAX];
                let len = match what {
                    What::Handle(slot) => rustix::fs::flistxattr(self.handle(*slot)?, &mut list)?,
                    What::Path { path, follow: true } => rustix::fs::listxattr(&*path.bytes, &mut list)?,
                    What::Path { path, .. } => rustix::fs::llistxattr(&*path.bytes, &mut list)?,
                };
                Ok(Value::Names(super::dump::split_names(&list[..len])))
            }
            TestOp::RemoveXattr { what, name } => {
                let name = &*name.0;
                match what {
                    What::Handle(slot) => rustix::fs::fremovexattr(self.handle(*slot)?, name),
                    What::Path { path, follow: true } => rustix::fs::removexattr(&*path.bytes, name),
                    What::Path { path, .. } => rustix::fs::lremovexattr(&*path.bytes, name),
                }
                .map(|()| Value::Unit)
            }
            _ => Err(Errno::NOSYS),
        }
    }

    fn lock(&self, op: &TestOp) -> Outcome {
        let kind = |mode: &LockMode| match mode {
            LockMode::Shared => nix::libc::F_RDLCK,
            LockMode::Exclusive => nix::libc::F_WRLCK,
        };
        let done = |()| Value::Unit;
        match op {
            TestOp::LockFile { slot, mode } => {
                let operation = match mode {
                    LockMode::Shared => FlockOperation::NonBlockingLockShared,
                    LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
                };
                rustix::fs::flock(self.handle(*slot)?, operation).map(done)
            }
            TestOp::UnlockFile { slot } => {
                rustix::fs::flock(self.handle(*slot)?, FlockOperation::Unlock).map(done)
            }
            TestOp::LockRange { slot, range, mode } => {
                ofd_lock(self.handle(*slot)?, kind(mode), *range).map(done)
            }
            TestOp::UnlockRange { slot, range } => {
                ofd_lock(self.handle(*slot)?, nix::libc::F_UNLCK, *range).map(done)
            }
            TestOp::GetLock { slot, range, mode } => {
                let mut lock = flock_of(kind(mode), *range);
                let get = nix::fcntl::FcntlArg::F_OFD_GETLK(&mut lock);
                nix::fcntl::fcntl(self.handle(*slot)?, get)
                    .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
                Ok(Value::Truth(i32::from(lock.l_type) != nix::libc::F_UNLCK))
            }
            _ => Err(Errno::NOSYS),
        }
    }

    pub(super) fn handle(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.handles.get(&slot).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Where a path starts.
    pub(super) fn base(&self, path: &Path) -> Result<BorrowedFd<'_>, Errno> {
        let Some(slot) = path.base else { return Ok(CWD) };
        match self.handle(slot) {
            Ok(fd) => Ok(fd),
            Err(_) => match path.refused_without_base() {
                Some(errno) => Err(Errno::from_raw_os_error(errno.raw())),
                None => Ok(CWD),
            },
        }
    }
}

fn nameless(
    base: BorrowedFd<'_>,
    path: &[u8],
    access: Access,
    linkable: bool,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let mut flags = open_flags(access) | OFlags::TMPFILE;
    flags.set(OFlags::EXCL, !linkable);
    rustix::fs::openat(base, path, flags, Mode::from_raw_mode(mode))
}

enum Opened<'a> {
    Held(BorrowedFd<'a>),
    Now(OwnedFd),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Held(fd) => *fd,
            Self::Now(fd) => fd.as_fd(),
        }
    }
}

pub(super) fn open_flags(access: Access) -> OFlags {
    let access = match access {
        Access { read: true, write: true } => OFlags::RDWR,
        Access { read: false, write: true } => OFlags::WRONLY,
        Access { .. } => OFlags::RDONLY,
    };
    // Nobody may wait for the other end of a fifo.
    access | OFlags::CLOEXEC | OFlags::NONBLOCK
}

pub(super) fn read(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Errno::INVAL)?];
    let mut done = 0;
    loop {
        // Also for no bytes at all, since it is the call that knows whether the handle may be read.
        let read = rustix::io::pread(fd, &mut bytes[done..], offset + done as u64)?;
        done += read;
        if read == 0 || done == bytes.len() {
            bytes.truncate(done);
            return Ok(bytes);
        }
    }
}

/// Writes, and says where.
fn write(fd: BorrowedFd<'_>, at: WriteAt, bytes: &[u8]) -> Result<u64, Errno> {
    let (offset, flags) = match at {
        WriteAt::Offset(offset) => (offset, ReadWriteFlags::empty()),
        WriteAt::End => (0, ReadWriteFlags::APPEND),
    };
    let written = rustix::io::pwritev2(fd, &[IoSlice::new(bytes)], offset, flags)?;
    assert_eq!(written, bytes.len(), "a local file system writes small data whole");
    match at {
        WriteAt::Offset(offset) => Ok(offset),
        WriteAt::End => Ok(rustix::fs::fstat(fd)?.st_size.unsigned_abs() - written as u64),
    }
}

/// Copies until all is done that the source had, since a call may stop early.
fn copy(
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    to_offset: u64,
    len: u64,
) -> Result<u64, Errno> {
    let there = rustix::fs::fstat(from)?.st_size.unsigned_abs().saturating_sub(from_offset);
    let (mut from_offset, mut to_offset) = (from_offset, to_offset);
    let mut done = 0;
    loop {
        let rest = usize::try_from(len - done).map_err(|_| Errno::INVAL)?;
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), rest)?;
        done += copied as u64;
        if copied == 0 || done >= len.min(there) {
            return Ok(done);
        }
    }
}

/// Takes, changes or releases a lock that belongs to the open file.
pub(super) fn ofd_lock(fd: BorrowedFd<'_>, kind: i32, range: LockRange) -> Result<(), Errno> {
    let lock = flock_of(kind, range);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock))
        .map(|_| ())
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

fn flock_of(kind: i32, range: LockRange) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: range.start.cast_signed(),
        // 0 is up to the end, however far the file grows.
        l_len: if range.end == LockRange::END { 0 } else { (range.end - range.start).cast_signed() },
        l_pid: 0,
    }
}

/// A removed directory is an empty one: the system call says `ENOENT`, and libraries hide that, as POSIX asks.
pub(super) fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    match rustix::fs::seek(dir, SeekFrom::Start(0)) {
        // What no position can be set in is no directory.
        Err(Errno::SPIPE) => return Err(Errno::NOTDIR),
        at => at?,
    };
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = match entry {
            Ok(entry) => entry.file_name().to_bytes().to_vec(),
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno),
        };
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn follow_flag(follow: bool) -> AtFlags {
    if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
}

pub(super) fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        SetTime::At(at) => {
            let (tv_sec, nanos) = at.to_parts();
            Timespec { tv_sec, tv_nsec: nanos.into() }
        }
    }
}
