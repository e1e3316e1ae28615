//! What was decided: a Change names inodes, names, offsets and the time, so that applying it needs no path
//! resolution, no clock and no randomness.

use serde::{Deserialize, Serialize};

use crate::{
    CommitId, Ino, Limits, LockMode, LockOwner, LockRange, Name, Node, OwnerId, Place, QuotaSubject,
    Timestamp, XattrName, XattrValue,
};

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
    /// A whole-file lock is taken, or its mode changed. Format version 1; later ones have [`Change::LockFile`]: it
    /// reads as a lock of owner 0 with this number as key.
    Lock {
        /// The file.
        ino: Ino,
        /// For whom.
        owner: OwnerId,
        /// How.
        mode: LockMode,
    },
    /// A whole-file lock is released. Format version 1; later ones have [`Change::UnlockFile`].
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
    // Since format version 2.
    /// A new regular file without a name, held open by an owner.
    CreateNameless {
        /// The new inode; it is the tree's next one.
        ino: Ino,
        /// Who holds it open.
        owner: OwnerId,
        /// Whether it may get a name later.
        linkable: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// When.
        time: Timestamp,
    },
    /// Two names change places.
    Exchange {
        /// The directory of the first name.
        first_parent: Ino,
        /// The first name.
        first_name: Name,
        /// What had it.
        first: Ino,
        /// The directory of the second name.
        second_parent: Ino,
        /// The second name.
        second_name: Name,
        /// What had it.
        second: Ino,
        /// When.
        time: Timestamp,
    },
    /// An extended attribute is set.
    SetXattr {
        /// The inode.
        ino: Ino,
        /// The attribute.
        name: XattrName,
        /// Its value.
        value: XattrValue,
        /// When.
        time: Timestamp,
    },
    /// An extended attribute is removed.
    RemoveXattr {
        /// The inode.
        ino: Ino,
        /// The attribute.
        name: XattrName,
        /// When.
        time: Timestamp,
    },
    /// A range of a file becomes a hole; the size stays. What of the range is past the end does nothing.
    Punch {
        /// The file.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// How many bytes; never 0.
        len: u64,
        /// When.
        time: Timestamp,
    },
    /// A range is taken out of a file; what is behind it moves forward.
    Collapse {
        /// The file.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// How many bytes; the range ends before the end of the file.
        len: u64,
        /// When.
        time: Timestamp,
    },
    /// A hole is put into a file; what was there moves back.
    Insert {
        /// The file.
        ino: Ino,
        /// First byte, before the end of the file.
        offset: u64,
        /// How many bytes; never 0.
        len: u64,
        /// When.
        time: Timestamp,
    },
    /// A file gets bytes that another, or another part of it, has: both share them.
    Share {
        /// The file that has the bytes.
        from: Ino,
        /// Where they are in it; the range is inside the file.
        from_offset: u64,
        /// The file that gets them.
        to: Ino,
        /// Where they go.
        to_offset: u64,
        /// How many bytes; never 0.
        len: u64,
        /// When.
        time: Timestamp,
    },
    /// The time of last access changes, and no other.
    Access {
        /// The inode.
        ino: Ino,
        /// When.
        time: Timestamp,
    },
    /// A whole-file lock is taken, or its mode changed.
    LockFile {
        /// The file.
        ino: Ino,
        /// For whom.
        owner: LockOwner,
        /// How.
        mode: LockMode,
    },
    /// A whole-file lock is released.
    UnlockFile {
        /// The file.
        ino: Ino,
        /// Whose.
        owner: LockOwner,
    },
    /// A byte range is locked, or its mode changed.
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
    /// A byte range is not locked any more.
    UnlockRange {
        /// The file.
        ino: Ino,
        /// Whose.
        owner: LockOwner,
        /// Which bytes.
        range: LockRange,
    },
    /// An inode without a name is held open by an owner.
    Hold {
        /// The inode.
        ino: Ino,
        /// Who holds it.
        owner: OwnerId,
    },
    /// An inode without a name is not held open by an owner any more; another still holds it.
    LetGo {
        /// The inode.
        ino: Ino,
        /// Who held it.
        owner: OwnerId,
    },
    /// An owner ended: its locks are released, and nameless inodes that nobody else holds are removed.
    EndOwner {
        /// Which.
        owner: OwnerId,
    },
    /// A quota is set, or dropped when nothing is limited.
    SetQuota {
        /// Of whom.
        subject: QuotaSubject,
        /// The limits.
        limits: Limits,
    },
    // Since format version 3.
    /// Bytes of a file are stored anew; they are the record's payload. Neither they nor any attribute change: from now
    /// on they are read from here, so that the segment that they were in may go.
    Relocate {
        /// The file.
        ino: Ino,
        /// File offset of the first byte.
        offset: u64,
        /// How many bytes; never 0.
        len: u64,
        /// Where they were: in one extent.
        from: Place,
    },
    /// The volume goes back to the state at a commit, but for what belongs to its history as a whole
    /// ([`Tree::rewound_to`](crate::Tree::rewound_to)). Who applies it needs that state.
    Rewind {
        /// The commit.
        to: CommitId,
    },
    /// A range of a file refers to bytes that are in the journal already.
    Refer {
        /// The file.
        ino: Ino,
        /// Where the range starts.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// Where its first byte is.
        to: Place,
        /// When.
        time: Timestamp,
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
            | Self::Reap { ino }
            | Self::CreateNameless { ino, .. }
            | Self::SetXattr { ino, .. }
            | Self::RemoveXattr { ino, .. }
            | Self::Punch { ino, .. }
            | Self::Collapse { ino, .. }
            | Self::Insert { ino, .. }
            | Self::Access { ino, .. }
            | Self::LockFile { ino, .. }
            | Self::UnlockFile { ino, .. }
            | Self::LockRange { ino, .. }
            | Self::UnlockRange { ino, .. }
            | Self::Hold { ino, .. }
            | Self::LetGo { ino, .. }
            | Self::Relocate { ino, .. }
            | Self::Refer { ino, .. } => vec![*ino],
            Self::Exchange { first_parent, first, second_parent, second, .. } => {
                vec![*first, *second, *first_parent, *second_parent]
            }
            Self::Share { from, to, .. } => vec![*from, *to],
            Self::NewSession
            | Self::AddCheckpoint { .. }
            | Self::DropCheckpoint { .. }
            | Self::EndOwner { .. }
            | Self::SetQuota { .. }
            | Self::Rewind { .. } => Vec::new(),
        };
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    }

    /// How many payload bytes its record carries.
    #[must_use]
    pub const fn payload_len(&self) -> u64 {
        match self {
            Self::Write { len, .. } | Self::Relocate { len, .. } => *len,
            _ => 0,
        }
    }
}
