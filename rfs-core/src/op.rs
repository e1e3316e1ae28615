//! What a caller may ask of a tree.

use std::fmt;

use crate::{
    Credential, Ino, Kind, Limits, LockMode, LockOwner, LockRange, Node, OwnerId, QuotaSubject, Timestamp,
    XattrMode,
};

/// A path and the directory that it starts from. A path that begins with `/` starts from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Where a relative path starts.
    pub base: Ino,
    /// The path, any bytes; a NUL in it is refused.
    pub path: Vec<u8>,
}

impl At {
    /// A path from the root.
    pub fn root(path: impl AsRef<[u8]>) -> Self {
        Self { base: Ino::ROOT, path: path.as_ref().to_vec() }
    }
}

/// What an Op is about: a path, or an inode that is held open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path; a last component that is a symlink is followed only if `follow`.
    Path {
        /// The path.
        at: At,
        /// Whether a symlink at the end is followed.
        follow: bool,
    },
    /// An inode.
    Ino(Ino),
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Reading is allowed.
    pub read: bool,
    /// Writing is allowed.
    pub write: bool,
}

/// The flags of an open, as in `open(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent flags, as in open(2)")]
pub struct OpenFlags {
    /// `O_CREAT`
    pub create: bool,
    /// `O_EXCL`: with `create`, the name must not exist, not even as a symlink.
    pub exclusive: bool,
    /// `O_TRUNC`
    pub truncate: bool,
    /// `O_DIRECTORY`
    pub directory: bool,
    /// `O_NOFOLLOW`
    pub no_follow: bool,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// To this offset in the file.
    Offset(u64),
    /// To the end of the file as it is when the write is decided, so that concurrent appends never overlap.
    End,
}

/// A time to set, as in `utimensat(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it (`UTIME_OMIT`).
    Keep,
    /// The time of the Op (`UTIME_NOW`).
    Now,
    /// This time.
    At(Timestamp),
}

/// How a rename treats what has the new name, as the flags of `renameat2(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    #[default]
    Replace,
    /// `RENAME_NOREPLACE`: there must be none.
    NoReplace,
    /// `RENAME_EXCHANGE`: it gets the old name.
    Exchange,
    /// `RENAME_WHITEOUT`: refused with `EINVAL`, since a volume is no layer of an overlay.
    Whiteout,
}

/// What `fallocate(2)` does with a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Makes sure that the file is as long as the range's end. A volume stores no bytes for it.
    Extend,
    /// `FALLOC_FL_KEEP_SIZE`: changes nothing; a volume has no blocks to set aside.
    KeepSize,
    /// `FALLOC_FL_PUNCH_HOLE`: makes the range a hole; the size stays.
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE`: the range reads as zeros.
    ZeroRange {
        /// The size stays (`FALLOC_FL_KEEP_SIZE`); else the file gets as long as the range's end.
        keep_size: bool,
    },
    /// `FALLOC_FL_COLLAPSE_RANGE`: takes the range out; what is behind it moves forward.
    Collapse,
    /// `FALLOC_FL_INSERT_RANGE`: puts a hole in at the range; what was there moves back.
    Insert,
}

/// When reading a file, a directory or a symlink changes its time of last access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtimePolicy {
    /// Never (`noatime`).
    #[default]
    Never,
    /// When it is not after the last change, or a day old (`relatime`).
    Relative,
    /// Always (`strictatime`).
    Always,
}

/// What must hold for a batch to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precondition {
    /// The path leads to something.
    Exists(Target),
    /// The path leads to nothing.
    Missing(Target),
    /// The file has this size.
    Size(Target, u64),
    /// The inode was last changed at this time: nobody changed it since the caller looked.
    ChangedAt(Target, Timestamp),
}

/// What a caller asks. Paths are not resolved yet; the bytes of a write travel beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// `open(2)`: finds, or makes, a file. Opening a directory for reading is allowed. Named pipes, sockets and
    /// devices are opened by a kernel, not by a volume: `ENXIO`.
    Open {
        /// The path.
        at: At,
        /// What for.
        access: Access,
        /// How.
        flags: OpenFlags,
        /// Permission bits of a file that is made.
        mode: u32,
    },
    /// `mkdir(2)`
    Mkdir {
        /// The path.
        at: At,
        /// Permission bits.
        mode: u32,
    },
    /// `mknod(2)`: makes a regular file, a fifo, a socket or a device.
    Mknod {
        /// The path.
        at: At,
        /// What: no directory and no symlink.
        node: Node,
        /// Permission bits.
        mode: u32,
    },
    /// `open(2)` with `O_TMPFILE`: makes a regular file without a name, that [`Context::owner`] holds open.
    OpenNameless {
        /// A directory on which the caller could make a file.
        dir: Target,
        /// What for; writing must be among it.
        access: Access,
        /// Whether [`Op::Link`] may give it a name later: not with `O_EXCL`.
        linkable: bool,
        /// Permission bits.
        mode: u32,
    },
    /// `symlink(2)`
    Symlink {
        /// Where the link points.
        target: Vec<u8>,
        /// The link's own path.
        at: At,
    },
    /// `linkat(2)`
    Link {
        /// What gets another name.
        from: Target,
        /// The new name.
        to: At,
    },
    /// `unlink(2)`
    Unlink {
        /// The path.
        at: At,
    },
    /// `rmdir(2)`
    Rmdir {
        /// The path.
        at: At,
    },
    /// `renameat2(2)`
    Rename {
        /// The old path.
        from: At,
        /// The new path.
        to: At,
        /// What becomes of that which has the new path.
        mode: RenameMode,
    },
    /// `pwrite(2)`, or an append. The bytes travel beside the Op; the place where the journal put them is given to
    /// [`crate::Tree::apply`].
    Write {
        /// The file.
        target: Target,
        /// Where in the file.
        at: WriteAt,
        /// How many bytes.
        len: u64,
    },
    /// `truncate(2)`: shortens the file, or lengthens it with a hole.
    Truncate {
        /// The file.
        target: Target,
        /// Its new size.
        size: u64,
    },
    /// `chmod(2)`
    SetMode {
        /// What.
        target: Target,
        /// Permission bits; others are ignored.
        mode: u32,
    },
    /// `chown(2)`
    SetOwner {
        /// What.
        target: Target,
        /// New owner, if any.
        uid: Option<u32>,
        /// New group, if any.
        gid: Option<u32>,
    },
    /// `utimensat(2)`
    SetTimes {
        /// What.
        target: Target,
        /// Last access.
        accessed: SetTime,
        /// Last modification.
        modified: SetTime,
    },
    /// `setxattr(2)`
    SetXattr {
        /// What.
        target: Target,
        /// The attribute's name with its namespace.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// Whether it may, or must, be there.
        mode: XattrMode,
    },
    /// `removexattr(2)`
    RemoveXattr {
        /// What.
        target: Target,
        /// The attribute's name with its namespace.
        name: Vec<u8>,
    },
    /// `fallocate(2)`
    Allocate {
        /// The file.
        target: Target,
        /// What happens to the range.
        mode: Allocate,
        /// Its first byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `copy_file_range(2)`: up to `len` bytes, as many as the source has, and as lie in
    /// [`COPY_RUNS_MAX`](crate::COPY_RUNS_MAX) runs; in a batch fewer than the source has are `EFBIG`. Both files share the bytes from then on;
    /// none are moved. Within one file the ranges must not overlap.
    Copy {
        /// The file that has the bytes.
        from: Target,
        /// Where they are in it.
        from_offset: u64,
        /// The file that gets them.
        to: Target,
        /// Where they go.
        to_offset: u64,
        /// At most how many.
        len: u64,
    },
    /// The content was read: the time of last access follows, if the [`AtimePolicy`] says so.
    Accessed {
        /// What was read.
        ino: Ino,
    },
    /// `flock(2)` without waiting: takes a whole-file lock, or changes the mode of one already held.
    LockFile {
        /// The file.
        ino: Ino,
        /// For whom.
        owner: LockOwner,
        /// How.
        mode: LockMode,
    },
    /// `flock(2)` with `LOCK_UN`. Without a lock it does nothing.
    UnlockFile {
        /// The file.
        ino: Ino,
        /// Whose lock.
        owner: LockOwner,
    },
    /// `fcntl(2)` with `F_SETLK` or `F_OFD_SETLK`: takes a byte-range lock, or changes the mode of what is already
    /// held of the range.
    LockRange {
        /// The file.
        ino: Ino,
        /// For whom.
        owner: LockOwner,
        /// Which bytes.
        range: LockRange,
        /// How.
        mode: LockMode,
    },
    /// `fcntl(2)` with `F_UNLCK`. What is not locked stays so.
    UnlockRange {
        /// The file.
        ino: Ino,
        /// Whose lock.
        owner: LockOwner,
        /// Which bytes.
        range: LockRange,
    },
    /// [`Context::owner`] opens an inode by its number. One that has no name is held from then on, until
    /// [`Op::Release`].
    Hold {
        /// The inode.
        ino: Ino,
    },
    /// The last handle that [`Context::owner`] had of an inode was closed: what has no name left, and is held by
    /// nobody else, is removed. An inode that has a name, that is gone, or that [`Context::holders`] still reports
    /// for this owner stays as it is; so a caller forgets the handle first.
    Release {
        /// The inode.
        ino: Ino,
    },
    /// An owner ended: its locks are released, nameless inodes that only it held are removed.
    EndOwner {
        /// Which.
        owner: OwnerId,
    },
    /// A new writer begins: locks and nameless inodes are released as by [`Op::EndOwner`], but for those of the owners
    /// that go on. Where these hold something and there is very much to release, one Op does a part of it: it is
    /// repeated until it decides nothing.
    NewSession {
        /// The owners that go on.
        keep: Vec<OwnerId>,
    },
    /// Limits how much there may be. What is already over the limit stays.
    SetQuota {
        /// Of whom.
        subject: QuotaSubject,
        /// The limits; without any, the quota is dropped.
        limits: Limits,
    },
    /// Gives the commit that is about to be made a name.
    AddCheckpoint {
        /// The name: 1 to 255 bytes of UTF-8.
        name: String,
        /// The commit.
        commit: crate::CommitId,
    },
    /// Forgets a checkpoint's name.
    DropCheckpoint {
        /// The name.
        name: String,
    },
    /// Does nothing if the condition holds; in a batch, the whole batch fails with `ECANCELED` otherwise.
    Require(Precondition),
}

/// What an Op yields beside its Changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// The inode that was opened.
    Opened {
        /// Which.
        ino: Ino,
        /// What it is.
        kind: Kind,
        /// Whether this Op made it.
        created: bool,
    },
    /// The inode that was made.
    Made {
        /// Which.
        ino: Ino,
    },
    /// Where bytes were written.
    Written {
        /// File offset of the first byte.
        offset: u64,
    },
    /// How much was copied.
    Copied {
        /// Bytes; fewer than asked where the source ends, or after too many runs.
        len: u64,
    },
}

/// What surrounds an Op: its time, its caller, and which inodes are held open.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The time of the Op.
    pub now: Timestamp,
    /// Whose permissions count, and who owns what is made.
    pub credential: &'a Credential,
    /// For whom handles are opened.
    pub owner: OwnerId,
    /// Which owners have handles on an inode: such an inode outlives its last name.
    pub holders: &'a dyn Fn(Ino) -> Vec<OwnerId>,
    /// Whether reading changes the time of last access.
    pub atime: AtimePolicy,
}

static ROOT: Credential = Credential::root();

impl Context<'_> {
    /// A context at `now`, for root and owner 0, with no inode held open.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            credential: &ROOT,
            owner: OwnerId(0),
            holders: &|_| Vec::new(),
            atime: AtimePolicy::Never,
        }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .field("credential", &self.credential)
            .field("owner", &self.owner)
            .field("atime", &self.atime)
            .finish_non_exhaustive()
    }
}
