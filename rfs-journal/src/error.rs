//! What can go wrong with a journal.

use std::io;

use thiserror::Error;

/// Why a journal could not be read or written. `artefact` names the file or object.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused. After a failed write the log takes nothing more: what is on disk is known again only
    /// after it was opened anew.
    #[error("{what} of {artefact} failed: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        artefact: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Bytes that were once safe are not what was written.
    #[error(
        "{artefact} is damaged at byte {offset}: {what}; restore it from a copy, or open the volume without it"
    )]
    Damaged {
        /// Which file or object.
        artefact: String,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// It was written by a later version of rfs.
    #[error(
        "{artefact} has format version {version}, this rfs reads up to {newest}; open it with a newer rfs"
    )]
    UnknownFormat {
        /// Which file or object.
        artefact: String,
        /// Its version.
        version: u16,
        /// The newest version that this code reads.
        newest: u16,
    },
    /// It belongs to another volume.
    #[error("{artefact} belongs to volume {found}, not to {wanted}; use another local directory")]
    Foreign {
        /// Which file or object.
        artefact: String,
        /// Whose it is, as 32 hexadecimal digits.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// An earlier write failed.
    #[error("the local log failed before ({0}) and takes nothing more until the volume is opened again")]
    Poisoned(String),
}

impl JournalError {
    pub(crate) fn damaged(artefact: &str, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { artefact: artefact.to_owned(), offset, what: what.into() }
    }

    pub(crate) fn io(what: &'static str, artefact: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, artefact: artefact.to_owned(), source }
    }
}
