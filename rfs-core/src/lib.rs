//! The logical file model of rfs: what a volume *is*, apart from where its bytes are.
//!
//! This crate does no I/O, reads no clock and uses no randomness: everything it needs comes in as an argument.
//! It is not a file system that can be used by itself; the crate `rfs` is.
//!
//! The way of one operation:
//!
//! ```text
//! Op --decide--> Change --apply--> Tree
//! ```
//!
//! [`decide`] resolves paths, validates and reads the tree only. [`Tree::apply`] is the only function that changes
//! a tree: live, in recovery, in a replica and in repair it is the same code, so that the live path cannot drift
//! from replay.
//!
//! ```
//! use rfs_core::{At, Context, Op, Outcome, Place, SegmentId, Timestamp, Tree, decide};
//!
//! let mut tree = Tree::new(Timestamp::from_nanos(0));
//! let context = Context::new(Timestamp::from_nanos(1));
//! let decision = decide(&tree, &context, &Op::Mkdir { at: At::root("logs"), mode: 0o755 })?;
//! for change in &decision.changes {
//!     tree.apply(change, Place { segment: SegmentId(0), position: 0 })?;
//! }
//! assert!(matches!(decision.outcome, Outcome::Made { .. }));
//! assert!(tree.check().is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod acl;
mod apply;
mod batch;
mod change;
mod check;
mod credential;
mod decide;
mod diff;
mod errno;
mod extents;
mod fault;
mod hash;
mod ids;
mod inode;
mod item;
mod lock;
mod map;
mod name;
mod op;
mod paged;
mod permission;
mod quota;
mod resolve;
mod rewind;
mod tree;
mod xattr;

// Once more, on trees of many levels: in unit tests nodes hold little.
#[cfg(test)]
extern crate self as rfs_core;
#[cfg(test)]
#[path = "../tests/it/random.rs"]
mod random;
#[cfg(test)]
#[allow(dead_code, reason = "the integration tests use more of it")]
#[path = "../tests/it/support.rs"]
mod support;

pub use apply::ApplyError;
pub use batch::{Batch, BatchError, decide_batch};
pub use change::{Change, Replaced};
pub use check::Violation;
pub use credential::{Capabilities, Credential};
pub use decide::{Decision, decide};
pub use diff::{InodeDifference, RUNS_MAX, TreeDiff};
pub use errno::Errno;
pub use extents::FoundExtents;
pub use fault::Fault;
pub use hash::StateHash;
pub use ids::{CommitId, Cookie, Extent, Ino, Lsn, OwnerId, Place, SegmentId, Timestamp};
pub use inode::{Attr, Body, Inode, Kind, Node, Times};
pub use item::Item;
pub use lock::{HeldRange, LockMode, LockOwner, LockRange};
pub use map::{
    BRANCH_MAX, Difference, Footprint, Held, Key, LEAF_MAX, Lacking, Map, Missing, NodeParts, NodeView,
    NotLoaded, PageObject, PageRef, Range, Resident, Root, Stored, Unfit, Value,
};
pub use name::Name;
pub use op::{
    Access, Allocate, At, AtimePolicy, Context, Op, OpenFlags, Outcome, Precondition, RenameMode, SetTime,
    Target, WriteAt,
};
pub use paged::{StoredTree, StoredTreeError, TreeNode};
pub use permission::Permission;
pub use quota::{Limits, Quota, QuotaSubject, StatFs, Usage};
pub use tree::{Checkpoint, DirEntry, Entry, EntryKey, FileRange, Tree};
pub use xattr::{XattrMode, XattrName, XattrValue};

/// Longest name of one directory entry, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes, as Linux's `PATH_MAX` counts it: with the terminating NUL.
pub const PATH_MAX: usize = 4096;
/// Most symlinks that one path resolution follows before it is refused with `ELOOP`.
pub const SYMLINKS_MAX: usize = 40;
/// Longest name of an extended attribute, namespace included, in bytes.
pub const XATTR_NAME_MAX: usize = 255;
/// Longest value of an extended attribute, in bytes.
pub const XATTR_VALUE_MAX: usize = 65_536;
/// Longest list of extended attribute names of one inode, in bytes, each with a terminating NUL, as Linux limits it.
pub const XATTR_LIST_MAX: usize = 65_536;
/// Most bytes of names and values that the extended attributes of one inode have in all.
pub const XATTR_BYTES_MAX: usize = 1 << 20;
/// Most runs of bytes that one copy shares: else a few copies of a file onto its own end would fill memory.
pub const COPY_RUNS_MAX: usize = 1 << 16;
/// Most runs of bytes that one collapse or insert moves.
pub const SHIFT_RUNS_MAX: usize = 1 << 20;
/// Largest size of a file, in bytes.
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Most hard links to one inode.
pub const LINK_MAX: u32 = 65_000;
