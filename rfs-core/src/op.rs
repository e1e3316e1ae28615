//! What a caller may ask of a tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Ino, Kind, OwnerId, Timestamp};

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

/// How a whole-file lock is held. The order of the variants is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
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
    /// `open(2)`: finds, or makes, a file. Opening a directory for reading is allowed.
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
    /// `rename(2)`
    Rename {
        /// The old path.
        from: At,
        /// The new path; what it names is replaced.
        to: At,
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
    /// `flock(2)` without waiting: takes a whole-file lock, or changes the mode of one already held.
    Lock {
        /// The file.
        ino: Ino,
        /// For whom.
        owner: OwnerId,
        /// How.
        mode: LockMode,
    },
    /// `flock(2)` with `LOCK_UN`. Without a lock it does nothing.
    Unlock {
        /// The file.
        ino: Ino,
        /// Whose lock.
        owner: OwnerId,
    },
    /// The last handle of an inode was closed: what has no name left is removed. An inode that has a name, that is
    /// gone, or that [`Context::is_open`] still reports as open stays as it is; so a caller forgets the handle first.
    Release {
        /// The inode.
        ino: Ino,
    },
    /// A new writer begins: locks of the one before are released, inodes that only it held open are removed.
    NewSession,
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
}

/// What surrounds an Op: its time, its caller, and which inodes are held open.
pub struct Context<'a> {
    /// The time of the Op.
    pub now: Timestamp,
    /// Owner of what is made.
    pub uid: u32,
    /// Group of what is made.
    pub gid: u32,
    /// Whether a handle holds this inode open: such an inode outlives its last name.
    pub is_open: &'a dyn Fn(Ino) -> bool,
}

impl Context<'_> {
    /// A context at `now`, for user and group 0, with no inode held open.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { now, uid: 0, gid: 0, is_open: &|_| false }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish_non_exhaustive()
    }
}
