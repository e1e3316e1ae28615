//! A directory as a store.

use crate::{Store, StoreError, StoreErrorKind, StoreOptions, flushed::Flushed};
use object_store::{local::LocalFileSystem, path::Path};
use std::{fs, io, path::PathBuf, sync::Arc};

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let dir = directory(url, rest)?;
    make(&dir).map_err(|error| unusable(url, error))?;
    let backend = LocalFileSystem::new_with_prefix(&dir).map_err(|error| {
        StoreError::new(StoreErrorKind::Other, "opening", url, error.to_string(), Some(error.into()))
    })?;
    let options = options.with_hedging(0, 0);
    Ok(Store::new(Arc::new(Flushed::new(backend)), url, Path::default(), options))
}

/// The directory that `rest`, the part of the URL after `file://`, names.
pub(crate) fn directory(url: &str, rest: &str) -> Result<PathBuf, StoreError> {
    if !rest.starts_with('/') {
        return Err(StoreError::bad_url(url, "file URLs have three slashes and an absolute path"));
    }
    let Some(path) = percent_decoded(rest) else {
        return Err(StoreError::bad_url(
            url,
            "a `%` is not followed by two hex digits of UTF-8 text without NUL",
        ));
    };
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(StoreError::bad_url(url, "the path has `.` or `..`"));
    }
    if path.trim_matches('/').is_empty() {
        return Err(StoreError::bad_url(url, "the root directory is no store"));
    }
    Ok(PathBuf::from(path))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// Makes `dir` and its missing ancestors, each one's name flushed before the next is made: else a crash could take a
/// directory away from under objects that were acknowledged as durable.
fn make(dir: &std::path::Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    for new in missing.into_iter().rev() {
        match fs::create_dir(new) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(parent) = new.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    if !fs::metadata(dir)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(())
}

fn unusable(url: &str, error: io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => StoreErrorKind::BadUrl,
        _ => StoreErrorKind::Other,
    };
    StoreError::new(kind, "opening", url, format!("the directory can't be used: {error}"), Some(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(percent_decoded("/a%20b%2fc").as_deref(), Some("/a b/c"));
        for bad in ["/%", "/%2", "/%zz", "/%ff", "/%00", "/%+1"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_absolute_plain_paths() {
        assert_eq!(directory("u", "/srv/rfs").expect("accepted"), PathBuf::from("/srv/rfs"));
        for bad in ["", "srv/rfs", "host/dir", "/", "//", "/a/../b", "/a/%2e%2e/b", "/./a"] {
            assert!(directory("u", bad).is_err(), "{bad:?} must be refused");
        }
    }
}
