//! Inodes: what is known of a file, directory or symlink beside its name and its content.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Ino, Timestamp};

/// What an inode is. The order of the variants is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A name of a local socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// The four times of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Times {
    /// Last access, as set by the caller, or by reading as the volume's access time policy says.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the inode or its content.
    pub changed: Timestamp,
    /// When the inode was made.
    pub born: Timestamp,
}

/// The part of an inode that depends on its kind. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Body {
    /// A regular file; its content is in the tree's extents.
    File,
    /// A directory; its entries are in the tree's entry map.
    Directory {
        /// The directory that holds it; the root holds itself. A removed directory keeps its last one, which
        /// may be gone by now.
        parent: Ino,
        /// How many entries it has, `.` and `..` not counted.
        entries: u64,
        /// The cookie that its next new entry gets.
        next_cookie: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points: any bytes but NUL, 1 to 4095 of them.
        target: Arc<[u8]>,
    },
    /// A named pipe. What goes through it is not in the tree.
    Fifo,
    /// A name of a local socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Which, as `stat(2)` shows it in `st_rdev`.
        device: u64,
    },
    /// A block device.
    BlockDevice {
        /// Which, as `stat(2)` shows it in `st_rdev`.
        device: u64,
    },
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inode {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has; a directory counts its own `.` and its subdirectories' `..` too.
    pub nlink: u32,
    /// Bytes of content; of a symlink, the length of its target; of a directory, 0.
    pub size: u64,
    /// Its times.
    pub times: Times,
    /// What depends on its kind.
    pub body: Body,
    /// How many bytes of content are stored: the sum of its extents, from which it follows.
    #[serde(skip)]
    pub allocated: u64,
}

impl Inode {
    /// What kind of inode it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.body {
            Body::File => Kind::File,
            Body::Directory { .. } => Kind::Directory,
            Body::Symlink { .. } => Kind::Symlink,
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
            Body::CharDevice { .. } => Kind::CharDevice,
            Body::BlockDevice { .. } => Kind::BlockDevice,
        }
    }

    /// Which device it is, as `st_rdev` of `stat(2)`; 0 for what is none.
    #[must_use]
    pub const fn device(&self) -> u64 {
        match self.body {
            Body::CharDevice { device } | Body::BlockDevice { device } => device,
            _ => 0,
        }
    }

    /// Its attributes, under its number.
    #[must_use]
    pub const fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            kind: self.kind(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            size: self.size,
            allocated: self.allocated,
            device: self.device(),
            times: self.times,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }
}

/// What a Change makes: the kind of a new inode, with what that kind needs. The order of the variants is part of
/// the format.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Node {
    /// An empty regular file.
    File,
    /// An empty directory.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(Arc<[u8]>),
    /// A named pipe.
    Fifo,
    /// A name of a local socket.
    Socket,
    /// A character device with this number.
    CharDevice(u64),
    /// A block device with this number.
    BlockDevice(u64),
}

impl Node {
    /// The kind of what it makes.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::File => Kind::File,
            Self::Directory => Kind::Directory,
            Self::Symlink(_) => Kind::Symlink,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::CharDevice(_) => Kind::CharDevice,
            Self::BlockDevice(_) => Kind::BlockDevice,
        }
    }
}

/// The attributes of an inode, as `stat` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// How many bytes of content are stored; holes are not.
    pub allocated: u64,
    /// Which device it is, as `st_rdev`; 0 for what is none.
    pub device: u64,
    /// Its times.
    pub times: Times,
}
