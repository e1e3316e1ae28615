//! One side of a copy.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Failure;

/// A path of this machine, or of a volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Side {
    Host(PathBuf),
    Volume { url: String, path: OsString },
}

impl Side {
    /// A volume's URL ends at the first `:/` after its scheme, so that a path may hold any bytes.
    pub(super) fn parse(text: &OsStr) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        let Some(scheme) = find(bytes, b"://").filter(|end| is_scheme(&bytes[..*end])) else {
            return Ok(Self::Host(text.into()));
        };
        let after = scheme + 3;
        let Some(colon) = find(&bytes[after..], b":/").map(|at| after + at) else {
            let text = text.display();
            return Err(Failure::usage(format!("{text} is a volume: say where in it, such as {text}:/")));
        };
        let url = std::str::from_utf8(&bytes[..colon])
            .map_err(|_| Failure::usage(format!("{}: a URL is UTF-8", text.display())))?;
        let path = OsStr::from_bytes(&bytes[colon + 1..]).to_owned();
        Ok(Self::Volume { url: url.to_owned(), path })
    }
}

fn is_scheme(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::Side;

    #[test]
    fn a_volume_is_told_by_its_scheme() {
        let volume = |url: &str, path: &str| Side::Volume { url: url.into(), path: path.into() };
        for (text, side) in [
            ("a/b", Side::Host("a/b".into())),
            ("/a:/b", Side::Host("/a:/b".into())),
            ("./s3://a:/b", Side::Host("./s3://a:/b".into())),
            ("s3://bucket/prefix:/", volume("s3://bucket/prefix", "/")),
            ("s3://bucket:/a:/b", volume("s3://bucket", "/a:/b")),
            ("file:///dir/store:/a b", volume("file:///dir/store", "/a b")),
        ] {
            assert_eq!(Side::parse(OsStr::new(text)).unwrap(), side, "{text}");
        }
        let error = Side::parse(OsStr::new("s3://bucket/prefix")).unwrap_err();
        assert!(error.to_string().contains("s3://bucket/prefix:/"), "{error}");
    }
}
