//! What can go wrong between rfs and its store, by what the caller can do about it.

use std::{error::Error, fmt, sync::Arc};

/// What the caller of a [`Store`](crate::Store) can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The object is not there. Final: it was never written, or was deleted.
    NotFound,
    /// The bucket or container named by the URL is not there. Create it, or mend the URL.
    NoBucket,
    /// No usable answer: refused, reset or dropped connections, or the store answered that it is failing or
    /// overloaded. Call again later; a put is repeated with the same bytes.
    Unreachable,
    /// The store refused the credentials or the permission. Mend them.
    Denied,
    /// The store refused a signature because its clock and this machine's are too far apart. Set the clock.
    ClockSkew,
    /// The store has no working create-only put. Choose another store, or opt out by name.
    NoPutIfAbsent,
    /// The call's deadline passed before its outcome was known. Call again later; a put is repeated with the same
    /// bytes.
    Deadline,
    /// Fewer bytes came back than the object, or the range asked for, should have. The object is damaged, or the
    /// reader holds a wrong length.
    Truncated,
    /// The key that was given does not open the volume, or none was given and it is encrypted, or one was given and it is not.
    WrongKey,
    /// An encrypted object was changed, moved or cut.
    Damaged,
    /// An object, a range or a listing is larger than the options allow. Raise the limit named in the message.
    TooLarge,
    /// The URL, or an option that goes with it, is malformed. Mend it.
    BadUrl,
    /// A key or a range that no store can take. The caller's mistake.
    BadKey,
    /// The store has no room left. Make room, then call again.
    Full,
    /// The store, or this build, lacks what was asked for.
    Unsupported,
    /// Anything else. The message and [`source`](std::error::Error::source) carry the detail.
    Other,
}

impl StoreErrorKind {
    /// The same call may succeed later without anybody mending anything.
    ///
    /// ```
    /// use rfs_backends::StoreErrorKind;
    /// assert!(StoreErrorKind::Unreachable.is_transient());
    /// assert!(!StoreErrorKind::Denied.is_transient());
    /// ```
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Deadline)
    }

    fn what(self) -> &'static str {
        match self {
            Self::NotFound => "no such object",
            Self::NoBucket => "no such bucket",
            Self::Unreachable => "the store gives no usable answer",
            Self::Denied => "access denied",
            Self::ClockSkew => "the clocks of store and machine are too far apart",
            Self::NoPutIfAbsent => "the store does not keep create-only puts",
            Self::Deadline => "the deadline passed before the outcome was known",
            Self::Truncated => "fewer bytes than there should be",
            Self::WrongKey => "the key does not open it",
            Self::Damaged => "it is not what was written",
            Self::TooLarge => "too large",
            Self::BadUrl => "bad store URL",
            Self::BadKey => "bad key or range",
            Self::Full => "the store is full",
            Self::Unsupported => "not supported",
            Self::Other => "the store failed",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::NotFound => "it was never written, or was deleted",
            Self::NoBucket => "create the bucket or correct the URL",
            Self::Unreachable => {
                "check endpoint and network, then try again; a put is repeated with the same bytes"
            }
            Self::Denied => "check credentials and permissions",
            Self::ClockSkew => {
                "set this machine's clock, for instance by NTP; signatures hold for some minutes"
            }
            Self::NoPutIfAbsent => {
                "use a store with put-if-absent, or, if there is only ever one writer, opt out with \
                 StoreOptions::with_assume_put_if_absent"
            }
            Self::Deadline => {
                "try again later, a put with the same bytes, or raise StoreOptions::with_deadline"
            }
            Self::Truncated => "the object is damaged or shorter than its index says",
            Self::WrongKey => "give the volume's key, in StoreOptions::with_encryption",
            Self::Damaged => "restore it from a copy, or repair the volume",
            Self::TooLarge => "raise the limit in StoreOptions",
            Self::BadUrl => {
                "accepted are memory://[name], file:///dir, s3://bucket[/prefix], az://container[/prefix], \
                 gs://bucket[/prefix] and, to read only, http[s]://host[/path]"
            }
            Self::BadKey => "this is a mistake of the caller",
            Self::Full => "make room, then try again",
            Self::Unsupported => "use another store or build",
            Self::Other => "see the cause",
        }
    }
}

/// A failed call on a [`Store`](crate::Store).
///
/// Its text says what was being done, to which object of which store, what went wrong, and what the caller can do.
/// The cause, where there is one, is kept as [`source`](std::error::Error::source).
///
/// ```
/// use rfs_backends::{Store, StoreErrorKind, StoreOptions};
///
/// let error = Store::from_url("ftp://example/dir", StoreOptions::default()).unwrap_err();
/// assert_eq!(error.kind(), StoreErrorKind::BadUrl);
/// assert!(error.to_string().starts_with("opening ftp://example/dir: bad store URL"));
/// ```
#[derive(Debug, Clone)]
pub struct StoreError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: StoreErrorKind,
    doing: &'static str,
    target: String,
    detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// What the caller can do.
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    /// The object or URL concerned, as it stands in messages.
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// What is known beside the kind; may be empty.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// `detail` may come from outside; it is cut to a sane length.
    pub(crate) fn new(
        kind: StoreErrorKind,
        doing: &'static str,
        target: impl Into<String>,
        detail: impl AsRef<str>,
        source: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, doing, target: target.into(), detail: shorten(detail.as_ref()), source }))
    }

    pub(crate) fn bad_url(url: &str, detail: impl AsRef<str>) -> Self {
        Self::new(StoreErrorKind::BadUrl, "opening", shorten(url), detail, None)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, doing, target, detail, .. } = &*self.0;
        write!(f, "{doing} {target}: {}", kind.what())?;
        if !detail.is_empty() {
            write!(f, " ({detail})")?;
        }
        write!(f, "; {}", kind.advice())
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// One line of at most 300 bytes, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::new();
    for c in text.chars() {
        if line.len() + c.len_utf8() > LONGEST {
            line.push_str("...");
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_where_why_and_what_to_do() {
        let error = StoreError::new(
            StoreErrorKind::Denied,
            "creating",
            "s3://b/k",
            "403 SignatureDoesNotMatch",
            None,
        );
        assert_eq!(
            error.to_string(),
            "creating s3://b/k: access denied (403 SignatureDoesNotMatch); check credentials and permissions"
        );
    }

    #[test]
    fn detail_from_outside_is_bounded_and_one_line() {
        let hostile = "line\nbreak\u{7}".repeat(10_000);
        let error = StoreError::new(StoreErrorKind::Other, "reading", "s3://b/k", &hostile, None);
        assert!(error.to_string().len() < 500);
        assert!(!error.to_string().contains(['\n', '\u{7}']));
    }
}
