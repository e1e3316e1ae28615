//! Why there is no answer.

use thiserror::Error;

use crate::{Errno, Missing};

/// Why an Op was not decided, or a tree did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// POSIX's rules refuse it.
    #[error(transparent)]
    Errno(#[from] Errno),
    /// A page of the tree is missing: fetch it, give it to [`Missing::fill`], and ask again.
    #[error(transparent)]
    Missing(#[from] Missing),
}

impl Fault {
    /// The error number, if it is refused.
    ///
    /// ```
    /// use rfs_core::{Errno, Fault};
    /// assert_eq!(Fault::from(Errno::NotFound).errno(), Some(Errno::NotFound));
    /// ```
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Errno(errno) => Some(*errno),
            Self::Missing(_) => None,
        }
    }
}

impl PartialEq<Errno> for Fault {
    fn eq(&self, other: &Errno) -> bool {
        self.errno() == Some(*other)
    }
}

/// What was found out, or that it was refused; a missing page is neither.
pub(crate) fn refused<T>(answer: Result<T, Fault>) -> Result<Result<T, Errno>, Missing> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(Fault::Errno(errno)) => Ok(Err(errno)),
        Err(Fault::Missing(missing)) => Err(missing),
    }
}
