//! From keys to the backend's paths and back.

use super::Inner;
use crate::{StoreError, StoreErrorKind};
use object_store::path::Path;

/// The longest part of a key between two slashes: no local file name may be longer.
const LONGEST_SEGMENT: usize = 255;

/// The longest key with its prefix: S3 takes no longer one.
const LONGEST_KEY: usize = 1024;

impl Inner {
    /// The backend's path of a key. Refused is what some store can't take, so that a volume can move to any store.
    pub(crate) fn path(&self, doing: &'static str, key: &str) -> Result<Path, StoreError> {
        let refuse =
            |why: &str| Err(StoreError::new(StoreErrorKind::BadKey, doing, self.target(key), why, None));
        // The parser forgives a slash at either end; two names for one object would be one too many.
        let slashed = key.is_empty() || key.starts_with('/') || key.ends_with('/');
        let Some(relative) = Path::parse(key).ok().filter(|_| !slashed) else {
            return refuse("a part is empty, `.`, `..`, or has a control character");
        };
        for segment in relative.as_ref().split('/') {
            if segment.len() > LONGEST_SEGMENT {
                return refuse("a part is over 255 bytes");
            }
            let digits = segment.rsplit_once('#').map(|(_, digits)| digits);
            if digits
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            {
                return refuse("a part ends in `#` and digits, which file:// keeps for unfinished files");
            }
        }
        if self.prefix.as_ref().is_empty() {
            return Ok(relative);
        }
        if self.prefix.as_ref().len() + 1 + relative.as_ref().len() > LONGEST_KEY {
            return refuse("the key with its prefix is over 1024 bytes");
        }
        match Path::parse(format!("{}/{relative}", self.prefix)) {
            Ok(path) => Ok(path),
            Err(_) => refuse("the store's prefix is malformed"),
        }
    }

    pub(super) fn target(&self, key: &str) -> String {
        let key = crate::error::shorten(key);
        if key.is_empty() {
            return self.url.clone();
        }
        format!("{}{}{key}", self.url, if self.url.ends_with('/') { "" } else { "/" })
    }

    /// The key of a backend's path, or nothing for what does not lie under the prefix.
    pub(super) fn key_of(&self, path: &Path) -> Option<String> {
        let prefix = self.prefix.as_ref();
        let key = if prefix.is_empty() {
            path.as_ref()
        } else {
            path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?
        };
        (!key.is_empty()).then(|| key.to_owned())
    }
}
