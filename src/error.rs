//! Errors: the kind says what the caller can do, the message what was being done and to what.

use std::fmt;
use std::io;
use std::sync::Arc;

use rfs_backends::{StoreError, StoreErrorKind};
use rfs_core::Errno;
use rfs_journal::JournalError;
use rfs_recovery::RecoveryError;

/// What went wrong, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operation was refused, as POSIX says it is; nothing was changed.
    Posix(Errno),
    /// Another writer took the volume over. Nothing that this handle did since its last commit will be seen. Open
    /// the volume again to take it back.
    Fenced,
    /// The store is out of reach, or too slow. Try again: the volume goes on by itself when the store is back.
    Outage,
    /// The store refuses the credentials, or the machine's clock is too wrong for them.
    Denied,
    /// The bucket does not exist.
    NoBucket,
    /// The store does not keep create-only puts, so that two writers could both commit. Use another store.
    UnsafeStore,
    /// The store refuses, or cannot do, what was asked.
    Store,
    /// The URL, or an option, is not right.
    Invalid,
    /// There is no volume at the URL.
    NoVolume,
    /// There is no such commit or checkpoint.
    NoSuchState,
    /// An object or a local file is not what was written, or is missing. The message names it and the offset.
    Damaged,
    /// It was written by a later version of rfs.
    UnknownFormat,
    /// The local directory serves another volume.
    ForeignVolume,
    /// Another volume, in this process or another, uses the local directory.
    LocalDirectoryInUse,
    /// The local disk refused. The volume takes no more changes until it is opened again.
    LocalDisk,
    /// The volume was closed.
    Closed,
    /// rfs contradicts itself. Report this.
    Bug,
}

/// An error of a volume.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    doing: Arc<str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// What the caller can do, where neither kind nor cause says so.
    advice: &'static str,
}

const MEND_DISK: &str = "; make room on the local disk or mend it, then open the volume again";

/// The result of an operation on a volume.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, doing: impl Into<Arc<str>>) -> Self {
        Self { kind, doing: doing.into(), source: None, advice: "" }
    }

    pub(crate) fn posix(errno: Errno, doing: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Posix(errno), doing)
    }

    pub(crate) fn caused(
        kind: ErrorKind,
        doing: impl Into<Arc<str>>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let advice = if kind == ErrorKind::LocalDisk { MEND_DISK } else { "" };
        Self { kind, doing: doing.into(), source: Some(Arc::new(source)), advice }
    }

    /// The same error, met while doing something else.
    pub(crate) fn during(&self, doing: impl Into<Arc<str>>) -> Self {
        Self { kind: self.kind, doing: doing.into(), source: Some(Arc::new(self.clone())), advice: "" }
    }

    pub(crate) fn recovery(doing: impl Into<Arc<str>>, error: RecoveryError) -> Self {
        let kind = match &error {
            RecoveryError::Store(error) => store_kind(error),
            RecoveryError::Journal(error) => journal_kind(error),
            RecoveryError::Damaged { .. } | RecoveryError::Missing { .. } => ErrorKind::Damaged,
            RecoveryError::UnknownFormat { .. } => ErrorKind::UnknownFormat,
            RecoveryError::NoVolume { .. } => ErrorKind::NoVolume,
            RecoveryError::Fenced { .. } => ErrorKind::Fenced,
            RecoveryError::NoSuchState { .. } => ErrorKind::NoSuchState,
            RecoveryError::CreateNotRefused { .. } => ErrorKind::UnsafeStore,
            _ => ErrorKind::Bug,
        };
        Self::caused(kind, doing, error)
    }

    pub(crate) fn store(doing: impl Into<Arc<str>>, error: StoreError) -> Self {
        Self::caused(store_kind(&error), doing, error)
    }

    pub(crate) fn journal(doing: impl Into<Arc<str>>, error: JournalError) -> Self {
        Self::caused(journal_kind(&error), doing, error)
    }

    /// What the caller can do.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The POSIX error, if it is one.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self.kind {
            ErrorKind::Posix(errno) => Some(errno),
            _ => None,
        }
    }

    /// The number that Linux gives the error; `EIO` for what POSIX has no word for.
    #[must_use]
    pub const fn raw_os_error(&self) -> i32 {
        match self.kind {
            ErrorKind::Posix(errno) => errno.raw(),
            _ => 5,
        }
    }
}

fn store_kind(error: &StoreError) -> ErrorKind {
    match error.kind() {
        StoreErrorKind::Unreachable | StoreErrorKind::Deadline => ErrorKind::Outage,
        StoreErrorKind::Denied | StoreErrorKind::ClockSkew | StoreErrorKind::WrongKey => ErrorKind::Denied,
        StoreErrorKind::NoBucket => ErrorKind::NoBucket,
        StoreErrorKind::NoPutIfAbsent => ErrorKind::UnsafeStore,
        StoreErrorKind::BadUrl => ErrorKind::Invalid,
        StoreErrorKind::NotFound | StoreErrorKind::Truncated | StoreErrorKind::Damaged => ErrorKind::Damaged,
        _ => ErrorKind::Store,
    }
}

fn journal_kind(error: &JournalError) -> ErrorKind {
    match error {
        JournalError::Damaged { .. } => ErrorKind::Damaged,
        JournalError::UnknownFormat { .. } => ErrorKind::UnknownFormat,
        JournalError::Foreign { .. } => ErrorKind::ForeignVolume,
        _ => ErrorKind::LocalDisk,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.source) {
            (_, Some(source)) => write!(f, "{}: {source}{}", self.doing, self.advice),
            (ErrorKind::Posix(errno), None) => write!(f, "{}: {errno}", self.doing),
            (_, None) => f.write_str(&self.doing),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// A POSIX error becomes one with its `raw_os_error`; any other keeps its message.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Posix(errno) => errno.into(),
            ErrorKind::Outage => Self::new(io::ErrorKind::TimedOut, error),
            ErrorKind::Denied => Self::new(io::ErrorKind::PermissionDenied, error),
            ErrorKind::NoVolume | ErrorKind::NoBucket | ErrorKind::NoSuchState => {
                Self::new(io::ErrorKind::NotFound, error)
            }
            ErrorKind::Invalid => Self::new(io::ErrorKind::InvalidInput, error),
            ErrorKind::Damaged | ErrorKind::UnknownFormat | ErrorKind::ForeignVolume => {
                Self::new(io::ErrorKind::InvalidData, error)
            }
            _ => Self::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_errors_keep_their_number() {
        let error = Error::posix(Errno::NotEmpty, "rename a to b");
        assert_eq!(error.to_string(), "rename a to b: the directory is not empty (ENOTEMPTY)");
        assert_eq!(error.raw_os_error(), 39);
        assert_eq!(io::Error::from(error).raw_os_error(), Some(39));
    }
}
