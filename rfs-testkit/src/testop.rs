//! Operations in terms that every target understands: paths and handle slots, no inode numbers.

use std::fmt::{self, Write as _};

use rfs_core::{
    Access, Allocate, Errno, LockMode, LockRange, Node, OpenFlags, PATH_MAX, RenameMode, SetTime, WriteAt,
    XattrMode,
};

use crate::Rng;

/// Number of a place that may hold an open handle.
pub type Slot = usize;

/// A path, and the directory handle that it starts from; `None` is the root.
#[derive(Clone, PartialEq, Eq)]
pub struct Path {
    /// Where a relative path starts.
    pub base: Option<Slot>,
    /// The path's bytes.
    pub bytes: Vec<u8>,
}

impl Path {
    /// A path from the root.
    #[must_use]
    pub fn new(path: impl AsRef<[u8]>) -> Self {
        Self { base: None, bytes: path.as_ref().to_vec() }
    }

    /// What a kernel says when the path's base is not open: it looks at the text first. `None` is an absolute path,
    /// which needs no base.
    #[must_use]
    pub fn refused_without_base(&self) -> Option<Errno> {
        match self.bytes.as_slice() {
            bytes if bytes.contains(&0) => Some(Errno::Invalid),
            [] => Some(Errno::NotFound),
            bytes if bytes.len() >= PATH_MAX => Some(Errno::NameTooLong),
            [b'/', ..] => None,
            _ => Some(Errno::BadHandle),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(slot) = self.base {
            write!(f, "@{slot}:")?;
        }
        f.write_str(&show_bytes(&self.bytes))
    }
}

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// What a path leads to; a symlink at its end is followed only if `follow`.
    Path {
        /// The path.
        path: Path,
        /// Whether a symlink at the end is followed.
        follow: bool,
    },
    /// What a handle holds open.
    Handle(Slot),
}

impl What {
    /// What a path from the root leads to, symlinks followed.
    #[must_use]
    pub fn path(path: impl AsRef<[u8]>) -> Self {
        Self::Path { path: Path::new(path), follow: true }
    }
}

/// Bytes to write, as a recipe: the same seed gives the same bytes, and a longer run begins like a shorter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Which bytes.
    pub seed: u64,
    /// How many.
    pub len: usize,
}

impl Data {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut rng = Rng::new(self.seed);
        let mut bytes = Vec::with_capacity(self.len + 7);
        while bytes.len() < self.len {
            bytes.extend_from_slice(&rng.next().to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes
    }
}

/// What must hold for a batch to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is there.
    Exists(What),
    /// It is not there.
    Missing(What),
    /// It has this size.
    Size(What, u64),
}

/// Where a symlink points, as the caller gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkTarget(pub Vec<u8>);

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_bytes(&self.0))
    }
}

/// The name or the value of an extended attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct XattrText(pub Vec<u8>);

impl fmt::Debug for XattrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_bytes(&self.0))
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestOp {
    /// `openat(2)`; a handle that was in the slot is closed once the new one is open.
    Open {
        /// Where the handle goes.
        slot: Slot,
        /// The path.
        path: Path,
        /// For what.
        access: Access,
        /// How.
        flags: OpenFlags,
        /// Permission bits of a file that is made.
        mode: u32,
    },
    /// `close(2)`
    Close {
        /// Which handle.
        slot: Slot,
    },
    /// `pread(2)`
    Read {
        /// The file.
        what: What,
        /// From where.
        offset: u64,
        /// At most how many bytes.
        len: u64,
    },
    /// `pwrite(2)`, or an append. Answers with the offset of the first byte.
    Write {
        /// The file.
        what: What,
        /// Where.
        at: WriteAt,
        /// The bytes.
        data: Data,
    },
    /// `truncate(2)`, `ftruncate(2)`
    Truncate {
        /// The file.
        what: What,
        /// Its new size.
        size: u64,
    },
    /// `mkdirat(2)`
    Mkdir {
        /// The path.
        path: Path,
        /// Permission bits.
        mode: u32,
    },
    /// `symlinkat(2)`
    Symlink {
        /// Where it points.
        target: LinkTarget,
        /// The link's path.
        path: Path,
    },
    /// `linkat(2)`
    Link {
        /// What gets another name.
        from: What,
        /// The new name.
        to: Path,
    },
    /// `unlinkat(2)`
    Unlink {
        /// The path.
        path: Path,
    },
    /// `unlinkat(2)` with `AT_REMOVEDIR`
    Rmdir {
        /// The path.
        path: Path,
    },
    /// `renameat2(2)`
    Rename {
        /// The old path.
        from: Path,
        /// The new path.
        to: Path,
        /// What becomes of that which has the new path.
        mode: RenameMode,
    },
    /// `fchmodat2(2)`
    SetMode {
        /// What.
        what: What,
        /// Permission bits.
        mode: u32,
    },
    /// `fchownat(2)`
    SetOwner {
        /// What.
        what: What,
        /// New owner, if any.
        uid: Option<u32>,
        /// New group, if any.
        gid: Option<u32>,
    },
    /// `utimensat(2)`
    SetTimes {
        /// What.
        what: What,
        /// Last access.
        accessed: SetTime,
        /// Last modification.
        modified: SetTime,
    },
    /// `fstatat(2)`
    Stat {
        /// What.
        what: What,
    },
    /// `readlinkat(2)`
    ReadLink {
        /// The path.
        path: Path,
    },
    /// All names in a directory but `.` and `..`.
    ReadDir {
        /// The directory.
        what: What,
    },
    /// `flock(2)` without waiting; the handle is the owner.
    LockFile {
        /// The handle.
        slot: Slot,
        /// How.
        mode: LockMode,
    },
    /// `flock(2)` with `LOCK_UN`
    UnlockFile {
        /// The handle.
        slot: Slot,
    },
    /// `fcntl(2)` with `F_OFD_SETLK`: the handle is the owner.
    LockRange {
        /// The handle.
        slot: Slot,
        /// Which bytes.
        range: LockRange,
        /// How.
        mode: LockMode,
    },
    /// `fcntl(2)` with `F_OFD_SETLK` and `F_UNLCK`
    UnlockRange {
        /// The handle.
        slot: Slot,
        /// Which bytes.
        range: LockRange,
    },
    /// `fcntl(2)` with `F_OFD_GETLK`. Answers whether another's lock is in the way; which of several it is would
    /// depend on their order.
    GetLock {
        /// The handle.
        slot: Slot,
        /// Which bytes.
        range: LockRange,
        /// How.
        mode: LockMode,
    },
    /// `mknodat(2)`: a regular file, a fifo, a socket or a device.
    Mknod {
        /// The path.
        path: Path,
        /// What.
        node: Node,
        /// Permission bits.
        mode: u32,
    },
    /// `openat(2)` with `O_TMPFILE`; the slot as with [`TestOp::Open`].
    OpenNameless {
        /// Where the handle goes.
        slot: Slot,
        /// The directory.
        path: Path,
        /// For what.
        access: Access,
        /// Whether it may get a name: without `O_EXCL`.
        linkable: bool,
        /// Permission bits.
        mode: u32,
    },
    /// `faccessat2(2)` with `AT_EACCESS`
    Access {
        /// What.
        what: What,
        /// 4 to read, 2 to write, 1 to execute; 0 for whether it is there.
        access: u32,
    },
    /// `setxattr(2)` and its like
    SetXattr {
        /// What.
        what: What,
        /// The attribute.
        name: XattrText,
        /// Its value.
        value: XattrText,
        /// Whether it may, or must, be there.
        mode: XattrMode,
    },
    /// `getxattr(2)` and its like
    GetXattr {
        /// What.
        what: What,
        /// The attribute.
        name: XattrText,
    },
    /// `listxattr(2)` and its like. Answers with the names, sorted.
    ListXattr {
        /// What.
        what: What,
    },
    /// `removexattr(2)` and its like
    RemoveXattr {
        /// What.
        what: What,
        /// The attribute.
        name: XattrText,
    },
    /// `fallocate(2)`
    Allocate {
        /// The file.
        what: What,
        /// What happens to the range.
        mode: Allocate,
        /// Its first byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `copy_file_range(2)`. Answers with how many bytes.
    Copy {
        /// The file that has them.
        from: What,
        /// Where.
        from_offset: u64,
        /// The file that gets them.
        to: What,
        /// Where.
        to_offset: u64,
        /// At most how many.
        len: u64,
    },
    /// `lseek(2)` with `SEEK_DATA`. Where data that reads as zeros ends and a hole begins differs between file systems:
    /// so the answer is where the first byte that is not zero is, or the size when there is none.
    SeekData {
        /// The file.
        what: What,
        /// From where.
        offset: u64,
    },
    /// `lseek(2)` with `SEEK_HOLE`. The answer says only that a hole, or the end, was found where it is true.
    SeekHole {
        /// The file.
        what: What,
        /// From where.
        offset: u64,
    },
    /// `statfs(2)`. Answers with the length of the longest name.
    StatFs,
    /// Another operation, as one of [`crate::callers`]; what stands alone is done as the first of them, root.
    As {
        /// Which caller.
        caller: usize,
        /// The operation.
        op: Box<TestOp>,
    },
    /// Makes an empty file that must not exist, and keeps no handle of it.
    Create {
        /// The path.
        path: Path,
        /// Permission bits.
        mode: u32,
    },
    /// Fails with `ECANCELED` unless the condition holds; for batches.
    Require(Condition),
    /// All or none of these; none of them opens, closes, reads or locks.
    Batch(Vec<TestOp>),
}

/// Names and paths as a failure message shows them: long runs of one byte shortened.
pub(crate) fn show_bytes(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(600)];
    let mut text = String::from("\"");
    for run in shown.chunk_by(|one, next| one == next) {
        if run.len() > 16 {
            _ = write!(text, "{{{} x {}}}", run[..1].escape_ascii(), run.len());
        } else {
            text += &run.escape_ascii().to_string();
        }
    }
    text.push('"');
    if shown.len() < bytes.len() {
        _ = write!(text, "... ({} bytes)", bytes.len());
    }
    text
}
