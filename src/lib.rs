//! **rfs** gives a program a directory tree whose durable home is an object store.
//!
//! Files are written, appended, renamed and locked in the process, at memory speed; each operation is recorded in an
//! append-only journal. A commit publishes the journal to the store as one create-only put. When the machine dies, a
//! new process on another machine opens the same URL and goes on from the last commit.
//!
//! It is not a mount, not a server, and not a cache of somebody else's objects: the objects that it writes are its
//! own. One process writes a volume at a time; any number read its commits.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
//! use rfs::{Options, Volume};
//!
//! // Any of memory://name, file:///directory, s3://bucket/prefix.
//! let volume = Volume::open_or_create("memory://example", Options::new()).await?;
//! let fs = volume.fs();
//! fs.create_dir_all("/state").await?;
//! fs.write("/state/position", b"17").await?;
//! volume.checkpoint("after-17").await?.wait().await?;
//! drop((fs, volume));
//!
//! // Another machine:
//! let volume = Volume::open("memory://example", Options::new()).await?;
//! assert_eq!(volume.fs().read("/state/position").await?, b"17");
//! # volume.close().await }
//! ```

mod apply;
mod batch;
pub mod blocking;
mod changes;
mod check;
mod clock;
mod diff;
mod drill;
mod engine;
mod error;
mod file;
mod fork;
mod fs;
mod inodes;
mod metadata;
mod metrics;
mod options;
mod repair;
mod restore;
mod rewind;
mod stored;
mod volume;

pub use apply::{Applied, ApplyError, ApplyOptions, ApplyProgress, Misfit};
pub use batch::Batch;
pub use changes::Changes;
pub use check::check;
pub use clock::{Clock, Entropy, SystemClock};
pub use diff::{Diff, Difference, DifferenceKind};
pub use drill::{DrillOptions, DrillReceipt, drill};
pub use engine::{Changed, Compacted, LocalLog, OpenReport, Receipt, StoreUsage, Watch};
pub use error::{Error, ErrorKind, Result};
pub use file::{File, OpenOptions};
pub use fork::{Detached, Forked, Pin};
pub use fs::{Fs, ReadDir};
pub use inodes::Inodes;
pub use metadata::{DirEntry, FileType, Metadata, Permissions};
pub use options::{Compression, Level, Options};
pub use repair::repair;
pub use restore::{RestoreOptions, RestoreProgress, Restored, Unrestored};
pub use stored::{LogEntry, LoggedCommit, ObjectRole, Objects, StoredObject};
pub use volume::{At, CheckError, Commit, Volume};

pub use rfs_backends::{self as backends, Encryption, Store, StoreOptions};
pub use rfs_core::{
    self as model, Access, Allocate, AtimePolicy, Attr, Capabilities, Change, Checkpoint, CommitId, Cookie,
    Credential, Errno, HeldRange, Ino, Kind, Limits, LockMode, LockOwner, LockRange, Lsn, Name, Node, Op,
    OpenFlags, Outcome, OwnerId, Permission, Place, Precondition, Quota, QuotaSubject, RenameMode, Replaced,
    SegmentId, SetTime, StatFs, StateHash, Target, Times, Timestamp, Usage, Violation, WriteAt, XattrMode,
    XattrName, XattrValue,
};
pub use rfs_journal::{ChainHash, Disk, DiskFile, Record};
pub use rfs_recovery::History;
pub use rfs_recovery::check::{CheckOptions, CheckReport, CheckedState, Finding, Problem, Suffering};
pub use rfs_recovery::collect::{Collected, Total};
pub use rfs_recovery::drill::Drilled;
pub use rfs_recovery::repair::{Mended, RepairOptions, RepairReport};

/// The examples of the documents, as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/semantics.md")]
    struct Semantics;
    #[doc = include_str!("../docs/stores.md")]
    struct Stores;
}
