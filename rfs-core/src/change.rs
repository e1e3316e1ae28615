//! What was decided: a Change names inodes, names, offsets and the time, so that applying it needs no path
//! resolution, no clock and no randomness.

use serde::{Deserialize, Serialize};

use crate::{CommitId, Ino, LockMode, Name, Node, OwnerId, Timestamp};

/// What a rename removes from the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replaced {
    /// The inode that had the name.
    pub ino: Ino,
    /// Whether the inode goes with its last name: no handle holds it open.
    pub reap: bool,
}

/// One step in the history of a volume.
///
/// The order of the variants, and of the fields in each, is part of the journal's format: a new variant goes to
/// the end, and a shipped one is never edited.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// A new inode gets its first name.
    Create {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: Name,
        /// The new inode; it is the tree's next one.
        ino: Ino,
        /// What it is.
        node: Node,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// When.
        time: Timestamp,
    },
    /// A file or symlink gets another name.
    Link {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: Name,
        /// The inode.
        ino: Ino,
        /// When.
        time: Timestamp,
    },
    /// A file or symlink loses a name.
    Unlink {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: Name,
        /// The inode.
        ino: Ino,
        /// Whether the inode goes with its last name: no handle holds it open.
        reap: bool,
        /// When.
        time: Timestamp,
    },
    /// An empty directory is removed.
    Rmdir {
        /// The directory that holds it.
        parent: Ino,
        /// Its name there.
        name: Name,
        /// The directory itself.
        ino: Ino,
        /// Whether the inode goes with its name: no handle holds it open.
        reap: bool,
        /// When.
        time: Timestamp,
    },
    /// A name moves, replacing what had the new one.
    Rename {
        /// The old directory.
        from_parent: Ino,
        /// The old name.
        from_name: Name,
        /// The new directory.
        to_parent: Ino,
        /// The new name.
        to_name: Name,
        /// The inode that moves.
        ino: Ino,
        /// What had the new name.
        replaced: Option<Replaced>,
        /// When.
        time: Timestamp,
    },
    /// Bytes are written; they are the record's payload.
    Write {
        /// The file.
        ino: Ino,
        /// File offset of the first byte.
        offset: u64,
        /// How many bytes; never 0.
        len: u64,
        /// When.
        time: Timestamp,
    },
    /// A file gets a new size: what is past it is gone, what is before it and was never written is a hole.
    Truncate {
        /// The file.
        ino: Ino,
        /// The new size.
        size: u64,
        /// When.
        time: Timestamp,
    },
    /// Attributes are set.
    SetAttr {
        /// The inode.
        ino: Ino,
        /// New permission bits.
        mode: Option<u32>,
        /// New owner.
        uid: Option<u32>,
        /// New group.
        gid: Option<u32>,
        /// New time of last access.
        accessed: Option<Timestamp>,
        /// New time of last modification.
        modified: Option<Timestamp>,
        /// When.
        time: Timestamp,
    },
    /// A lock is taken, or its mode changed.
    Lock {
        /// The file.
        ino: Ino,
        /// For whom.
        owner: OwnerId,
        /// How.
        mode: LockMode,
    },
    /// A lock is released.
    Unlock {
        /// The file.
        ino: Ino,
        /// Whose.
        owner: OwnerId,
    },
    /// An inode without a name is removed, since its last handle was closed.
    Reap {
        /// The inode.
        ino: Ino,
    },
    /// Every lock is released and every inode without a name is removed: their holders died with the last writer.
    NewSession,
    /// A commit gets a name.
    AddCheckpoint {
        /// The name.
        name: String,
        /// The commit.
        commit: CommitId,
        /// When.
        time: Timestamp,
    },
    /// A checkpoint's name is forgotten.
    DropCheckpoint {
        /// The name.
        name: String,
    },
}

impl Change {
    /// The inodes that this Change is about: what the segment index files it under. At most four.
    #[must_use]
    pub fn inodes(&self) -> Vec<Ino> {
        let mut inodes = match self {
            Self::Create { parent, ino, .. }
            | Self::Link { parent, ino, .. }
            | Self::Unlink { parent, ino, .. }
            | Self::Rmdir { parent, ino, .. } => vec![*ino, *parent],
            Self::Rename { from_parent, to_parent, ino, replaced, .. } => {
                let mut inodes = vec![*ino, *from_parent, *to_parent];
                inodes.extend(replaced.map(|replaced| replaced.ino));
                inodes
            }
            Self::Write { ino, .. }
            | Self::Truncate { ino, .. }
            | Self::SetAttr { ino, .. }
            | Self::Lock { ino, .. }
            | Self::Unlock { ino, .. }
            | Self::Reap { ino } => vec![*ino],
            Self::NewSession | Self::AddCheckpoint { .. } | Self::DropCheckpoint { .. } => Vec::new(),
        };
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    }

    /// How many payload bytes its record carries.
    #[must_use]
    pub const fn payload_len(&self) -> u64 {
        match self {
            Self::Write { len, .. } => *len,
            _ => 0,
        }
    }
}
