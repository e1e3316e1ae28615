//! Answers the kernel's requests, each by an operation on inodes.

mod answer;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use rfs::model::At;
use rfs::{Access, Allocate, Attr, Ino, Node, Op, Outcome, RenameMode, SetTime, Target, WriteAt, XattrMode};
use tokio::sync::watch;

use crate::attributes::{file_attr, file_type, set_time};
use crate::caller::{self, Asking};
use crate::reply::{GENERATION, TTL, attributes, entry, no_entry, xattr};
use crate::served::{Invalidate, Served};

const MAX_WRITE: u32 = 1 << 20;
const MAX_BACKGROUND: u16 = 128;
/// An attribute of the root directory that is not the volume's: who serves the mount.
const SERVER: &[u8] = b"system.rfs.server";

const O_TRUNC: i32 = 0o1000;
const O_EXCL: i32 = 0o200;
const O_APPEND: i32 = 0o2000;
const O_DIRECT: i32 = 0o40000;
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

pub(crate) struct Filesystem {
    served: Arc<Served>,
    ended: watch::Sender<bool>,
}

impl Filesystem {
    pub(crate) const fn new(served: Arc<Served>, ended: watch::Sender<bool>) -> Self {
        Self { served, ended }
    }
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Not FUSE_ATOMIC_O_TRUNC: with it, opening has truncated the file before the kernel refuses to, because the
        // file is a program that runs.
        let mut wanted = vec![
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_EXPORT_SUPPORT,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            // Else the kernel would drop a file's content whenever it sees a new time of modification, though it is its
            // own writing that sets it.
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        ];
        if self.served.writeback {
            wanted.push(InitFlags::FUSE_WRITEBACK_CACHE);
        }
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "the kernel is too old for this");
            }
        }
        // A kernel that grants less says so by its own limits.
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        self.served.end();
        self.ended.send_replace(true);
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (dir, name) = (Ino(parent.0), name.as_bytes().to_vec());
        let work = move |served: Arc<Served>| async move {
            match served.lookup(dir, &name).await {
                Ok(attr) => {
                    served.known.told(attr.ino);
                    Ok(Some(attr))
                }
                Err(error) if error.errno() == Some(rfs::Errno::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.answer(reply, work, |reply, found| match found {
            Some(attr) => entry(reply, attr),
            None => no_entry(reply),
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.served.known.forgotten(Ino(ino.0), lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer(reply, move |served| async move { served.attr(Ino(ino.0)).await }, attributes);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let ino = Ino(ino.0);
        let target = || Target::Ino(ino);
        let mut ops = Vec::new();
        let asking = Asking::of(request);
        if uid.is_some() || gid.is_some() {
            ops.push(Op::SetOwner { target: target(), uid, gid });
        }
        if let Some(size) = size {
            ops.push(Op::Truncate { target: target(), size });
        }
        // After what may clear bits of it.
        if let Some(mode) = mode {
            ops.push(Op::SetMode { target: target(), mode: mode & 0o7777 });
        }
        let (accessed, modified) = (set_time(atime), set_time(mtime));
        if (accessed, modified) != (SetTime::Keep, SetTime::Keep) {
            ops.push(Op::SetTimes { target: target(), accessed, modified });
        }
        let work = move |served: Arc<Served>| async move {
            let caller = match size {
                Some(_) => asking.writer(&served.attr(ino).await?),
                None => asking.caller(),
            };
            let done = match &*ops {
                [] => Ok(()),
                [op] => served.inodes.run(&caller, op, &[]).await.map(drop),
                ops => served.inodes.run_batch(&caller, ops, &[]).await.map(drop),
            };
            match done {
                Ok(()) => served.attr(ino).await,
                Err(error) if Served::is_gone(&error) && size.is_none() => {
                    let changed = served.known.change_ghost(ino, |ghost| {
                        ghost.mode = mode.map_or(ghost.mode, |mode| mode & 0o7777);
                        ghost.uid = uid.unwrap_or(ghost.uid);
                        ghost.gid = gid.unwrap_or(ghost.gid);
                        for (time, set) in
                            [(&mut ghost.times.accessed, accessed), (&mut ghost.times.modified, modified)]
                        {
                            if let SetTime::At(set) = set {
                                *time = set;
                            }
                        }
                    });
                    changed.ok_or(error)
                }
                Err(error) => Err(error),
            }
        };
        self.answer(reply, work, attributes);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let work = move |served: Arc<Served>| async move { served.inodes.read_link(Ino(ino.0)).await };
        self.answer(reply, work, |reply, target| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        const FIFO: u32 = 0o01;
        const CHAR_DEVICE: u32 = 0o02;
        const BLOCK_DEVICE: u32 = 0o06;
        const FILE: u32 = 0o10;
        const SOCKET: u32 = 0o14;
        let node = match mode >> 12 {
            0 | FILE => Node::File,
            FIFO => Node::Fifo,
            SOCKET => Node::Socket,
            CHAR_DEVICE => Node::CharDevice(device.into()),
            BLOCK_DEVICE => Node::BlockDevice(device.into()),
            _ => return reply.error(Errno::EINVAL),
        };
        let op = Op::Mknod { at: at(parent, name), node, mode: mode & 0o7777 };
        self.make(reply, Asking::of(request).with_umask(umask), op);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let op = Op::Mkdir { at: at(parent, name), mode: mode & 0o7777 };
        self.make(reply, Asking::of(request).with_umask(umask), op);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = at(parent, name);
        self.remove(reply, Asking::of(request).caller(), Op::Unlink { at: name.clone() }, name);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = at(parent, name);
        self.remove(reply, Asking::of(request).caller(), Op::Rmdir { at: name.clone() }, name);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let op = Op::Symlink { target: target.as_os_str().as_bytes().to_vec(), at: at(parent, name) };
        self.make(reply, Asking::of(request).caller(), op);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameMode::Exchange
        } else if flags.contains(RenameFlags::RENAME_WHITEOUT) {
            RenameMode::Whiteout
        } else {
            return reply.error(Errno::EINVAL);
        };
        let to = at(newparent, newname);
        let op = Op::Rename { from: at(parent, name), to: to.clone(), mode };
        self.remove(reply, Asking::of(request).caller(), op, to);
    }

    fn link(&self, request: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let op = Op::Link { from: Target::Ino(Ino(ino.0)), to: at(newparent, newname) };
        self.make(reply, Asking::of(request).caller(), op);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.open_inode(reply, Ino(ino.0), flags, self.kept());
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let access = access(OpenFlags(flags));
        let op = Op::Open {
            at: at(parent, name),
            access,
            flags: rfs::OpenFlags {
                create: true,
                exclusive: flags & O_EXCL != 0,
                truncate: flags & O_TRUNC != 0,
                no_follow: true,
                directory: false,
            },
            mode: mode & 0o7777,
        };
        let caller = Asking::of(request).with_umask(umask);
        let work = move |served: Arc<Served>| async move { served.open(&caller, &op, access.write).await };
        let kept = self.kept();
        self.answer(reply, work, move |reply, attr| {
            reply.created(&TTL, &file_attr(&attr), GENERATION, FileHandle(0), kept);
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let ino = Ino(ino.0);
        let work =
            move |served: Arc<Served>| async move { served.inodes.read(ino, offset, size.into()).await };
        self.answer(reply, work, |reply, parts: Vec<Bytes>| match &*parts {
            [] => reply.data(&[]),
            [part] => reply.data(part),
            parts => reply.data(&parts.concat()),
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let ino = Ino(ino.0);
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let mut caller = Asking::of(request).caller();
        if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            caller = caller::without_set_id(caller);
        }
        // The kernel appends where it believes the end to be. Where the program has appended too, through the API, the
        // end is further on. The parts of a large direct write come in any order, so that each has its own place.
        let appends = flags.0 & (O_APPEND | O_DIRECT) == O_APPEND && !from_cache && !self.served.writeback;
        let place = if appends { WriteAt::End } else { WriteAt::Offset(offset) };
        let len = data.len();
        let op = Op::Write { target: Target::Ino(ino), at: place, len: len as u64 };
        let accept = move |served: &Served, reply: ReplyWrite, done: rfs::Result<Outcome>| match done {
            Ok(outcome) => {
                if appends && outcome != (Outcome::Written { offset }) {
                    // The invalidator ends after the last write.
                    let _ = served.invalidate.send(Invalidate::Content(ino));
                }
                reply.written(len as u32);
            }
            Err(error) => reply.error(served.errno(&error)),
        };
        let served = &self.served;
        let ready = served.poll_once(pin!(served.inodes.run(&caller, &op, data)));
        match ready {
            Poll::Ready(done) => accept(served, reply, done),
            // It waits for room, or for pages of the tree, before it has done anything, and the data are only ours until
            // we return.
            Poll::Pending => {
                let (served, data) = (Arc::clone(served), Bytes::copy_from_slice(data));
                self.served.serve(async move {
                    let done = served.inodes.run(&caller, &op, &data).await;
                    accept(&served, reply, done);
                });
            }
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing waits for a close. The kernel does not ask again; it still writes out what it holds.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        flags: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.release(reply, Ino(ino.0), access(flags).write);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // The kernel drops a listing that it keeps when it changes the directory, and at no other time.
        let kept = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        let how = if self.served.exclusive { kept } else { FopenFlags::empty() };
        self.open_inode(reply, Ino(ino.0), flags, how);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let served = Arc::clone(&self.served);
        self.served.serve(async move {
            let add = |name: &[u8], next, attr: &Attr| {
                reply.add(INodeNo(attr.ino.0), next, file_type(attr.kind), OsStr::from_bytes(name))
            };
            match served.list(Ino(ino.0), offset, add).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(served.errno(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let served = Arc::clone(&self.served);
        self.served.serve(async move {
            let mut told = Vec::new();
            let add = |name: &[u8], next, attr: &Attr| {
                let (number, attributes) = (INodeNo(attr.ino.0), file_attr(attr));
                let full = reply.add(number, next, OsStr::from_bytes(name), &TTL, &attributes, GENERATION);
                // The kernel does not count the two dots.
                if !full && name != b"." && name != b".." {
                    told.push(attr.ino);
                }
                full
            };
            match served.list(Ino(ino.0), offset, add).await {
                Ok(()) => {
                    for ino in told {
                        served.known.told(ino);
                    }
                    reply.ok();
                }
                Err(error) => reply.error(served.errno(&error)),
            }
        });
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.release(reply, Ino(ino.0), false);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let stat = self.served.inodes.stat_fs();
        let block = u64::from(stat.block_size).max(1);
        let (all, free) = (stat.bytes / block, stat.bytes_free / block);
        reply.statfs(
            all,
            free,
            free,
            stat.inodes,
            stat.inodes_free,
            stat.block_size,
            stat.name_max,
            stat.block_size,
        );
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        const CREATE: i32 = 1;
        const REPLACE: i32 = 2;
        let mode = match flags {
            0 => XattrMode::Set,
            CREATE => XattrMode::Create,
            REPLACE => XattrMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        let (ino, name) = (Ino(ino.0), name.as_bytes().to_vec());
        let (asking, is_acl) = (Asking::of(request), name.starts_with(b"system.posix_acl"));
        let op = Op::SetXattr { target: Target::Ino(ino), name, value: value.to_vec(), mode };
        let work = move |served: Arc<Served>| async move {
            let caller = if is_acl { asking.acl_setter(&served.attr(ino).await?) } else { asking.caller() };
            served.inodes.run(&caller, &op, &[]).await.map(drop)
        };
        self.answer(reply, work, |reply, ()| reply.ok());
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if name.as_bytes() == SERVER && ino == INodeNo::ROOT {
            return match self.served.server {
                Some(pid) => match std::fs::metadata("/proc/self/ns/pid") {
                    Ok(namespace) => xattr(reply, size, format!("{pid} {}", namespace.ino()).as_bytes()),
                    Err(_) => reply.error(Errno::ENODATA),
                },
                None => reply.error(Errno::ENODATA),
            };
        }
        let (caller, name) = (Asking::of(request).caller(), name.as_bytes().to_vec());
        let work =
            move |served: Arc<Served>| async move { served.inodes.xattr(&caller, Ino(ino.0), &name).await };
        self.answer(reply, work, move |reply, value| xattr(reply, size, &value));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (asking, ino) = (Asking::of(request), Ino(ino.0));
        let work = move |served: Arc<Served>| async move {
            let names = served.inodes.xattr_names(&asking.caller(), ino).await?;
            if names.iter().any(|name| name.as_bytes().starts_with(b"trusted.")) {
                served.inodes.xattr_names(&asking.lister(), ino).await
            } else {
                Ok(names)
            }
        };
        self.answer(reply, work, move |reply, names| {
            let list: Vec<u8> =
                names.iter().flat_map(|name| name.as_bytes().iter().copied().chain([0])).collect();
            xattr(reply, size, &list);
        });
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, target) = (Asking::of(request).caller(), Target::Ino(Ino(ino.0)));
        let op = Op::RemoveXattr { target, name: name.as_bytes().to_vec() };
        let work =
            move |served: Arc<Served>| async move { served.inodes.run(&caller, &op, &[]).await.map(drop) };
        self.answer(reply, work, |reply, ()| reply.ok());
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        // Files are always ready, and the kernel knows that by itself.
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        const KEEP_SIZE: i32 = 0x01;
        const PUNCH_HOLE: i32 = 0x02;
        const COLLAPSE: i32 = 0x08;
        const ZERO_RANGE: i32 = 0x10;
        const INSERT: i32 = 0x20;
        const HOLE: i32 = PUNCH_HOLE | KEEP_SIZE;
        const ZERO_KEEP: i32 = ZERO_RANGE | KEEP_SIZE;
        let mode = match mode {
            0 => Allocate::Extend,
            KEEP_SIZE => Allocate::KeepSize,
            HOLE => Allocate::PunchHole,
            ZERO_RANGE => Allocate::ZeroRange { keep_size: false },
            ZERO_KEEP => Allocate::ZeroRange { keep_size: true },
            COLLAPSE => Allocate::Collapse,
            INSERT => Allocate::Insert,
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        let ino = Ino(ino.0);
        let asking = Asking::of(request);
        let op = Op::Allocate { target: Target::Ino(ino), mode, offset, len: length };
        let work = move |served: Arc<Served>| async move {
            let caller = asking.writer(&served.attr(ino).await?);
            served.inodes.run(&caller, &op, &[]).await.map(drop)
        };
        self.answer(reply, work, |reply, ()| reply.ok());
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (Ok(offset), SEEK_DATA | SEEK_HOLE) = (u64::try_from(offset), whence) else {
            return reply.error(if offset < 0 { Errno::ENXIO } else { Errno::EINVAL });
        };
        let (ino, served) = (Ino(ino.0), Arc::clone(&self.served));
        let seek = async move {
            let found = match whence {
                SEEK_DATA => served.inodes.seek_data(ino, offset).await,
                _ => served.inodes.seek_hole(ino, offset).await,
            };
            match found {
                Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
                Err(error) => reply.error(served.errno(&error)),
            }
        };
        if !self.served.known.may_be_dirty(ino) {
            return self.served.serve(seek);
        }
        // The kernel asks us though it may still hold what was written to the file, or to a mapping of it. This makes it
        // write that; on another thread, since we have to answer the writes.
        let served = Arc::clone(&self.served);
        self.served.block(move || {
            served.write_out(ino);
            served.serve(seek);
        });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer has 32 bits.
        const MOST: u64 = 0xffff_f000;
        let (from, to) = (Ino(ino_in.0), Ino(ino_out.0));
        let asking = Asking::of(request);
        let op = Op::Copy {
            from: Target::Ino(from),
            from_offset: offset_in,
            to: Target::Ino(to),
            to_offset: offset_out,
            len: len.min(MOST),
        };
        let work = move |served: Arc<Served>| async move {
            let caller = asking.writer(&served.attr(to).await?);
            served.inodes.run(&caller, &op, &[]).await
        };
        self.answer(reply, work, |reply, outcome| match outcome {
            Outcome::Copied { len } => reply.written(len as u32),
            _ => reply.written(0),
        });
    }
}

fn at(dir: INodeNo, name: &OsStr) -> At {
    At { base: Ino(dir.0), path: name.as_bytes().to_vec() }
}

fn access(flags: OpenFlags) -> Access {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => Access { read: true, write: false },
        OpenAccMode::O_WRONLY => Access { read: false, write: true },
        OpenAccMode::O_RDWR => Access { read: true, write: true },
    }
}
