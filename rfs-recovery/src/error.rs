//! What can go wrong between a volume and its store.

use rfs_backends::{StoreError, StoreErrorKind};
use rfs_core::CommitId;
use rfs_journal::JournalError;
use thiserror::Error;

/// Why a volume could not be created, opened, read or committed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The store refused or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A journal, here or in the store, is not what was written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An object is not what was written.
    #[error("object {key} in {store} is damaged: {what}; restore it from a copy, or open an earlier commit")]
    Damaged {
        /// The store's URL.
        store: String,
        /// The object.
        key: String,
        /// What does not fit.
        what: String,
    },
    /// An object that the history needs is not there.
    #[error("object {key} in {store} is missing, and the history needs it; restore it from a copy")]
    Missing {
        /// The store's URL.
        store: String,
        /// The object.
        key: String,
    },
    /// An object was written by a later version of rfs.
    #[error(
        "object {key} has format version {version}, this rfs reads up to {newest}; open it with a newer rfs"
    )]
    UnknownFormat {
        /// The object.
        key: String,
        /// Its version.
        version: u16,
        /// The newest version that this code reads.
        newest: u16,
    },
    /// There is no volume at the URL.
    #[error("there is no volume at {store}; check the URL, or create one there")]
    NoVolume {
        /// The store's URL.
        store: String,
    },
    /// Another writer owns the volume.
    #[error(
        "another writer ({by:032x}) took the volume over with epoch {epoch}; open it again to take it back"
    )]
    Fenced {
        /// The other writer.
        by: u128,
        /// Its epoch.
        epoch: u64,
    },
    /// What was asked for is not retained, or never was.
    #[error(
        "{store} has no {what}: it was never made, or is not kept any more; Volume::checkpoints lists those that are"
    )]
    NoSuchState {
        /// The store's URL.
        store: String,
        /// Which commit or checkpoint.
        what: String,
    },
    /// The tree that was rebuilt is not the one that was committed.
    #[error("the tree rebuilt for commit {commit} of {store} is not the committed one: {what}; report this")]
    Diverged {
        /// The store's URL.
        store: String,
        /// Which commit.
        commit: CommitId,
        /// What does not fit.
        what: String,
    },
    /// The store let an object that exists be created again.
    #[error(
        "{store} let an existing object be created again: two writers could both commit; use another store"
    )]
    CreateNotRefused {
        /// The store's URL.
        store: String,
    },
}

impl RecoveryError {
    /// Whether the same call may succeed later, with nothing changed here: the store is out of reach.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error)
            if matches!(error.kind(), StoreErrorKind::Unreachable | StoreErrorKind::Deadline))
    }
}
