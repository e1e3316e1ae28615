//! The judge: a real directory of the Linux that the tests run on.
//!
//! A thread of its own makes a fresh directory its root, so that every form of a path means there what it means in
//! a volume (`/x`, `..` above the root, absolute symlinks) and none can lead out of it. That takes the right to
//! change the root directory; without it [`LinuxDir::new`] fails and the test is skipped.

use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rfs_core::{Access, Kind, LockMode, OpenFlags, SetTime, WriteAt};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, RawMode, SeekFrom, Stat, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::thread::UnshareFlags;

use crate::target::{Identities, set_time};
use crate::{Answer, Attr, Content, Dump, Node, Path, Slot, Target, TestOp, Value, What};

/// A fresh directory, on tmpfs where there is one, that runs operations by system calls. It goes when dropped.
#[derive(Debug)]
pub struct LinuxDir {
    dir: PathBuf,
    requests: Option<SyncSender<Request>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Run(TestOp),
    Dump,
}

enum Reply {
    Ready(io::Result<()>),
    Answer(Answer),
    Dump(io::Result<Dump>),
}

static NEXT_DIR: AtomicU64 = AtomicU64::new(0);

impl LinuxDir {
    /// Makes the directory and enters it.
    ///
    /// # Errors
    /// `PermissionDenied` when the process may not change a thread's root directory; otherwise as the file
    /// system's.
    pub fn new() -> io::Result<Self> {
        let name = format!("rfs-testkit-{}-{}", std::process::id(), NEXT_DIR.fetch_add(1, Ordering::Relaxed));
        let shared_memory = PathBuf::from("/dev/shm").join(&name);
        let dir = if fs::create_dir(&shared_memory).is_ok() {
            shared_memory
        } else {
            let dir = std::env::temp_dir().join(&name);
            fs::create_dir(&dir)?;
            dir
        };
        let (requests, inbox) = sync_channel(1);
        let (outbox, replies) = sync_channel(1);
        let root = dir.clone();
        let mut linux = Self { dir, requests: Some(requests), replies, thread: None };
        linux.thread = Some(std::thread::Builder::new().spawn(move || serve(&root, &inbox, &outbox))?);
        match linux.replies.recv() {
            Ok(Reply::Ready(result)) => result.map(|()| linux),
            _ => Err(io::Error::other("the thread of the directory ended")),
        }
    }

    fn ask(&mut self, request: Request) -> Reply {
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        let reply = if sent { self.replies.recv().ok() } else { None };
        reply.expect("the thread of the directory answers until the directory is dropped")
    }
}

impl Target for LinuxDir {
    fn run(&mut self, op: &TestOp) -> Answer {
        match self.ask(Request::Run(op.clone())) {
            Reply::Answer(answer) => answer,
            _ => unreachable!("an operation is answered by an answer"),
        }
    }

    fn dump(&mut self) -> Dump {
        match self.ask(Request::Dump) {
            Reply::Dump(dump) => dump.expect("the test's own directory can be read"),
            _ => unreachable!("a dump is answered by a dump"),
        }
    }
}

impl Drop for LinuxDir {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread already failed the test that asked.
            _ = thread.join();
        }
        _ = fs::remove_dir_all(&self.dir);
    }
}

fn serve(root: &std::path::Path, inbox: &Receiver<Request>, outbox: &SyncSender<Reply>) {
    let entered = enter(root);
    let failed = entered.is_err();
    if outbox.send(Reply::Ready(entered.map_err(io::Error::from))).is_err() || failed {
        return;
    }
    let mut session = Session::default();
    while let Ok(request) = inbox.recv() {
        let reply = match request {
            Request::Run(op) => Reply::Answer(session.run(&op).map_err(Errno::raw_os_error)),
            Request::Dump => Reply::Dump(session.dump().map_err(io::Error::from)),
        };
        if outbox.send(reply).is_err() {
            return;
        }
    }
}

/// Makes `root` the root directory of this thread alone.
#[expect(deprecated, reason = "the flag FS touches no descriptor table, which is what makes others unsafe")]
fn enter(root: &std::path::Path) -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::FS)?;
    rustix::process::chroot(root)?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::empty());
    rustix::fs::chmod("/", Mode::from_raw_mode(0o755))
}

type Outcome = Result<Value, Errno>;

#[derive(Default)]
struct Session {
    handles: HashMap<Slot, OwnedFd>,
}

impl Session {
    fn run(&mut self, op: &TestOp) -> Outcome {
        let done = |()| Value::Unit;
        match op {
            TestOp::Open { slot, path, access, flags, mode } => {
                let fd = self.open(path, *access, *flags, *mode)?;
                self.handles.insert(*slot, fd);
                Ok(Value::Unit)
            }
            TestOp::Close { slot } => match self.handles.remove(slot) {
                Some(_) => Ok(Value::Unit),
                None => Err(Errno::BADF),
            },
            TestOp::Read { what, offset, len } => {
                let fd = self.opened(what, Access { read: true, write: false })?;
                read(fd.as_fd(), *offset, *len).map(Value::Bytes)
            }
            TestOp::Write { what, at, data } => {
                let fd = self.opened(what, Access { read: false, write: true })?;
                write(fd.as_fd(), *at, &data.bytes()).map(Value::Number)
            }
            TestOp::Truncate { what, size } => {
                let fd = self.opened(what, Access { read: false, write: true })?;
                rustix::fs::ftruncate(fd.as_fd(), *size).map(done)
            }
            TestOp::Mkdir { path, mode } => {
                rustix::fs::mkdirat(self.base(path)?, &*path.bytes, Mode::from_raw_mode(*mode)).map(done)
            }
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
            TestOp::Rename { from, to } => {
                let (from_base, to_base) = (self.base(from)?, self.base(to)?);
                rustix::fs::renameat(from_base, &*from.bytes, to_base, &*to.bytes).map(done)
            }
            TestOp::SetMode { what, mode } => self.set_mode(what, Mode::from_raw_mode(*mode)).map(done),
            TestOp::SetOwner { what, uid, gid } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                match what {
                    What::Handle(slot) => rustix::fs::fchown(self.handle(*slot)?, uid, gid),
                    What::Path { path, follow } => {
                        rustix::fs::chownat(self.base(path)?, &*path.bytes, uid, gid, follow_flag(*follow))
                    }
                }
                .map(done)
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
                .map(done)
            }
            TestOp::Stat { what } => Ok(Value::Attr(attr(&self.stat(what)?))),
            TestOp::ReadLink { path } => {
                let target = rustix::fs::readlinkat(self.base(path)?, &*path.bytes, Vec::new())?;
                Ok(Value::Link(target.into_bytes()))
            }
            TestOp::ReadDir { what } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = match what {
                    What::Handle(slot) => rustix::fs::openat(self.handle(*slot)?, ".", flags, Mode::empty())?,
                    What::Path { path, follow } => {
                        let flags = if *follow { flags } else { flags | OFlags::NOFOLLOW };
                        rustix::fs::openat(self.base(path)?, &*path.bytes, flags, Mode::empty())?
                    }
                };
                names(fd.as_fd()).map(Value::Names)
            }
            TestOp::Lock { slot, mode } => {
                let operation = match mode {
                    LockMode::Shared => FlockOperation::NonBlockingLockShared,
                    LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
                };
                rustix::fs::flock(self.handle(*slot)?, operation).map(done)
            }
            TestOp::Unlock { slot } => {
                rustix::fs::flock(self.handle(*slot)?, FlockOperation::Unlock).map(done)
            }
            TestOp::Create { path, mode } => {
                let flags = OpenFlags { create: true, exclusive: true, ..OpenFlags::default() };
                self.open(path, Access { read: false, write: true }, flags, *mode).map(|_| Value::Unit)
            }
            TestOp::Require(_) | TestOp::Batch(_) => Err(Errno::NOSYS),
        }
    }

    fn open(&self, path: &Path, access: Access, flags: OpenFlags, mode: u32) -> Result<OwnedFd, Errno> {
        let mut all = match access {
            Access { read: true, write: true } => OFlags::RDWR,
            Access { read: false, write: true } => OFlags::WRONLY,
            Access { .. } => OFlags::RDONLY,
        };
        // Without NOATIME a read would change a time that the operations set.
        all |= OFlags::CLOEXEC | OFlags::NOATIME;
        all.set(OFlags::CREATE, flags.create);
        all.set(OFlags::EXCL, flags.exclusive);
        all.set(OFlags::TRUNC, flags.truncate);
        all.set(OFlags::DIRECTORY, flags.directory);
        all.set(OFlags::NOFOLLOW, flags.no_follow);
        let mode = if flags.create { Mode::from_raw_mode(mode) } else { Mode::empty() };
        rustix::fs::openat(self.base(path)?, &*path.bytes, all, mode)
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

    fn link(&self, from: &What, to: &Path) -> Result<(), Errno> {
        let to_base = self.base(to)?;
        match from {
            What::Handle(slot) => {
                rustix::fs::linkat(self.handle(*slot)?, "", to_base, &*to.bytes, AtFlags::EMPTY_PATH)
            }
            What::Path { path, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(self.base(path)?, &*path.bytes, to_base, &*to.bytes, flags)
            }
        }
    }

    fn set_mode(&self, what: &What, mode: Mode) -> Result<(), Errno> {
        match what {
            What::Handle(slot) => rustix::fs::fchmod(self.handle(*slot)?, mode),
            What::Path { path, follow } => {
                // fchmodat2 is too new to be counted on; this is what it says of symlinks.
                if !follow && kind(&self.stat(what)?) == Kind::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                rustix::fs::chmodat(self.base(path)?, &*path.bytes, mode, AtFlags::empty())
            }
        }
    }

    fn stat(&self, what: &What) -> Result<Stat, Errno> {
        match what {
            What::Handle(slot) => rustix::fs::fstat(self.handle(*slot)?),
            What::Path { path, follow } => {
                rustix::fs::statat(self.base(path)?, &*path.bytes, follow_flag(*follow))
            }
        }
    }

    fn handle(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.handles.get(&slot).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Where a path starts.
    fn base(&self, path: &Path) -> Result<BorrowedFd<'_>, Errno> {
        let Some(slot) = path.base else { return Ok(CWD) };
        match self.handle(slot) {
            Ok(fd) => Ok(fd),
            Err(_) => match path.refused_without_base() {
                Some(errno) => Err(Errno::from_raw_os_error(errno.raw())),
                None => Ok(CWD),
            },
        }
    }

    fn dump(&self) -> Result<Dump, Errno> {
        let mut dump = Dump::default();
        let mut seen = Identities::default();
        let root =
            rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        dump_dir(root.as_fd(), b"", &mut seen, &mut dump)?;
        let mut slots: Vec<_> = self.handles.keys().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            let fd = self.handle(slot)?;
            let stat = rustix::fs::fstat(fd)?;
            let flags = rustix::fs::fcntl_getfl(fd)?;
            let readable = !flags.contains(OFlags::WRONLY);
            let content = match kind(&stat) {
                Kind::File if readable => content(fd, stat.st_size)?,
                _ => Content::default(),
            };
            let node = Node { attr: attr(&stat), content, link: Vec::new(), identity: seen.of(stat.st_ino) };
            dump.handles.insert(slot, node);
        }
        Ok(dump)
    }
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

fn dump_dir(dir: BorrowedFd<'_>, path: &[u8], seen: &mut Identities, dump: &mut Dump) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(dir)?;
    let identity = seen.of(stat.st_ino);
    let node = Node { attr: attr(&stat), content: Content::default(), link: Vec::new(), identity };
    dump.tree.insert(path.to_vec(), node);
    for name in names(dir)? {
        let path = [path, b"/", &*name].concat();
        let stat = rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOATIME;
        let mut node = Node { attr: attr(&stat), content: Content::default(), link: Vec::new(), identity: 0 };
        match node.attr.kind {
            Kind::Directory => {
                let below = rustix::fs::openat(dir, &*name, flags, Mode::empty())?;
                dump_dir(below.as_fd(), &path, seen, dump)?;
                continue;
            }
            Kind::Symlink => node.link = rustix::fs::readlinkat(dir, &*name, Vec::new())?.into_bytes(),
            _ => {
                let file = rustix::fs::openat(dir, &*name, flags, Mode::empty())?;
                node.content = content(file.as_fd(), stat.st_size)?;
            }
        }
        node.identity = seen.of(stat.st_ino);
        dump.tree.insert(path, node);
    }
    Ok(())
}

/// The content of a file without the bytes of its holes.
fn content(fd: BorrowedFd<'_>, size: i64) -> Result<Content, Errno> {
    let size = size.unsigned_abs();
    let mut content = Content::default();
    content.set_len(size);
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        at = rustix::fs::seek(fd, SeekFrom::Hole(start))?;
        content.write(start, &read(fd, start, at - start)?);
    }
    Ok(content)
}

fn read(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
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
    assert_eq!(written, bytes.len(), "tmpfs writes small data whole");
    match at {
        WriteAt::Offset(offset) => Ok(offset),
        WriteAt::End => Ok(rustix::fs::fstat(fd)?.st_size.unsigned_abs() - written as u64),
    }
}

/// A removed directory is an empty one: the system call says `ENOENT`, and libraries hide that, as POSIX asks.
fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn attr(stat: &Stat) -> Attr {
    let kind = kind(stat);
    let nanos =
        |seconds: i64, nanos: u64| set_time(seconds.saturating_mul(1_000_000_000) + nanos.cast_signed());
    Attr {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        size: if kind == Kind::Directory { 0 } else { stat.st_size.unsigned_abs() },
        accessed: if kind == Kind::File { nanos(stat.st_atime, stat.st_atime_nsec) } else { None },
        modified: nanos(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode as RawMode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::File,
    }
}

fn follow_flag(follow: bool) -> AtFlags {
    if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        SetTime::At(at) => {
            let (tv_sec, nanos) = at.to_parts();
            Timespec { tv_sec, tv_nsec: nanos.into() }
        }
    }
}
