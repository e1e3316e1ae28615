//! From a backend's error to what is to be done next: try again, look again, or give up, and under which kind.

use crate::{
    StoreError, StoreErrorKind,
    error::shorten,
    policy::{self, Repeat, Row},
};
use std::{error::Error, io, time::Duration};

/// One failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: StoreErrorKind,
    pub(crate) repeat: Repeat,
    /// The store refused a create-only put because of an object that is, or is being, written there. That object
    /// may be our own: the answer to an earlier attempt may have been lost.
    pub(crate) conflict: bool,
    /// The store had the request, as far as is known. What waits in vain for its turn says nothing of the store.
    pub(crate) asked: bool,
    /// How long the store asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) detail: String,
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new((kind, repeat): Row, detail: impl AsRef<str>) -> Self {
        let detail = shorten(detail.as_ref());
        Self { kind, repeat, conflict: false, asked: true, retry_after: None, detail, source: None }
    }

    /// The request was not sent.
    pub(crate) fn unasked(row: Row, detail: impl AsRef<str>) -> Self {
        Self { asked: false, ..Self::new(row, detail) }
    }

    /// The store gave no answer that would show it alive.
    pub(crate) fn is_silence(&self) -> bool {
        self.asked && self.kind.is_transient() && !self.conflict
    }

    /// A failure that no repetition mends.
    pub(crate) fn last(kind: StoreErrorKind, detail: impl AsRef<str>) -> Self {
        Self::new((kind, Repeat::Never), detail)
    }

    /// No answer within the time of one attempt. The request may have been executed all the same.
    pub(crate) fn timed_out() -> Self {
        Self::new(policy::SILENT, "no answer within the time of one attempt")
    }

    pub(crate) fn too_large(what: &str, size: u64, unit: &str, limit: &str, most: u64) -> Self {
        Self::last(
            StoreErrorKind::TooLarge,
            format!("{what} of {size} {unit}; StoreOptions::{limit} allows {most}"),
        )
    }

    pub(crate) fn into_error(self, doing: &'static str, target: String) -> StoreError {
        StoreError::new(self.kind, doing, target, self.detail, self.source)
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let (kind, repeat) = match &error {
            E::NotFound { .. } => (StoreErrorKind::NotFound, Repeat::Never),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => (StoreErrorKind::Denied, Repeat::Never),
            // S3 answers 409 while another put of the same key is under way: the outcome is open.
            E::AlreadyExists { .. } | E::Precondition { .. } => policy::CONFLICT,
            E::NotSupported { .. } | E::NotImplemented { .. } => (StoreErrorKind::Unsupported, Repeat::Never),
            E::InvalidPath { .. } => (StoreErrorKind::BadKey, Repeat::Never),
            E::UnknownConfigurationKey { .. } => (StoreErrorKind::BadUrl, Repeat::Never),
            E::Generic { .. } | E::JoinError { .. } => by_cause(&error),
            _ => (StoreErrorKind::Other, Repeat::Never),
        };
        Self {
            kind,
            repeat,
            conflict: matches!(error, E::AlreadyExists { .. } | E::Precondition { .. }),
            asked: true,
            retry_after: retry_after(&error),
            detail: shorten(&root(&error).to_string()),
            source: Some(Box::new(error)),
        }
    }
}

/// A backend's catch-all error says nothing by itself; the causes below it may.
fn by_cause(error: &object_store::Error) -> Row {
    let mut of_transport = None;
    for cause in causes(error) {
        #[cfg(feature = "http-client")]
        if let Some(answer) = cause.downcast_ref::<crate::answer::Refusal>() {
            return answer.class();
        }
        #[cfg(feature = "http-client")]
        if cause.is::<object_store::client::HttpError>() {
            of_transport = Some(policy::BROKEN);
        }
        if let Some(failure) = cause.downcast_ref::<io::Error>() {
            of_transport.get_or_insert(by_io(failure.kind()));
        }
    }
    of_transport.unwrap_or(match error {
        // Their connections fail with a cause of their own: this is an answer that makes no sense.
        object_store::Error::Generic { store: "S3" | "MicrosoftAzure" | "GCS" | "HTTP", .. } => {
            policy::SENSELESS
        }
        _ => policy::BROKEN,
    })
}

/// How long the store asked to be left alone, as far as the causes tell.
#[cfg(feature = "http-client")]
fn retry_after(error: &object_store::Error) -> Option<Duration> {
    causes(error).find_map(|cause| cause.downcast_ref::<crate::answer::Refusal>()?.retry_after())
}

#[cfg(not(feature = "http-client"))]
fn retry_after(_: &object_store::Error) -> Option<Duration> {
    None
}

/// Failures of the network pass. Failures of a disk are final: after a failed flush nobody knows what the disk
/// holds, and a repeated put that finds its bytes in the page cache would call them durable.
fn by_io(kind: io::ErrorKind) -> Row {
    use io::ErrorKind as K;
    match kind {
        K::ConnectionRefused
        | K::ConnectionReset
        | K::ConnectionAborted
        | K::NotConnected
        | K::BrokenPipe
        | K::TimedOut
        | K::UnexpectedEof
        | K::Interrupted
        | K::WouldBlock
        | K::AddrNotAvailable
        | K::HostUnreachable
        | K::NetworkUnreachable
        | K::NetworkDown => policy::BROKEN,
        K::PermissionDenied | K::ReadOnlyFilesystem => (StoreErrorKind::Denied, Repeat::Never),
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => (StoreErrorKind::Full, Repeat::Never),
        K::NotFound => (StoreErrorKind::Unreachable, Repeat::Few),
        _ => (StoreErrorKind::Other, Repeat::Never),
    }
}

/// How many causes are followed: an error that names itself as its cause must not hold us for ever.
const DEEPEST: usize = 32;

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| (*cause).source()).take(DEEPEST)
}

fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        object_store::Error::Generic { store: "test", source: source.into() }.into()
    }

    #[test]
    fn network_failures_pass_and_disk_failures_do_not() {
        let refused = generic(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!((refused.kind, refused.repeat), (StoreErrorKind::Unreachable, Repeat::UntilDeadline));
        let full = generic(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((full.kind, full.repeat), (StoreErrorKind::Full, Repeat::Never));
        // EIO has no kind of its own.
        let failed_flush = generic(io::Error::from_raw_os_error(5));
        assert_eq!((failed_flush.kind, failed_flush.repeat), (StoreErrorKind::Other, Repeat::Never));
    }

    #[test]
    fn an_unknown_failure_may_have_been_executed_and_is_repeated() {
        let failure = generic("who knows");
        assert_eq!((failure.repeat, failure.conflict), (Repeat::UntilDeadline, false));
        assert_eq!(failure.detail, "who knows");
    }

    #[test]
    fn conflicts_are_told_apart() {
        let exists: Failure =
            object_store::Error::AlreadyExists { path: "k".into(), source: "409".into() }.into();
        assert!(exists.conflict);
        let denied: Failure =
            object_store::Error::PermissionDenied { path: "k".into(), source: "403".into() }.into();
        assert_eq!((denied.kind, denied.repeat), (StoreErrorKind::Denied, Repeat::Never));
    }
}
