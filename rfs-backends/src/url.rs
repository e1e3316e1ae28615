//! From a URL to a store. Strict: what is not understood whole is refused, never guessed.

use crate::{Store, StoreError, StoreOptions, local, memory};
use object_store::path::Path;

/// No URL is longer.
const LONGEST_URL: usize = 2048;

/// The longest volume prefix: it leaves room for the keys below it.
const LONGEST_PREFIX: usize = 768;

pub(crate) fn open(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let (scheme, rest) = parts(url)?;
    match scheme {
        "memory" => memory::open(url, rest, options),
        "file" => local::open(url, rest, options),
        "s3" => open_s3(url, rest, options),
        "az" => open_azure(url, rest, options),
        "gs" => open_gcs(url, rest, options),
        "http" | "https" => open_http(url, rest, options),
        _ => Err(StoreError::bad_url(url, format!("unknown scheme {scheme:?}"))),
    }
}

/// The prefix at which the store at `url` is in the backend of the store at `known`; none where that cannot be told, or
/// the backend is another.
pub(crate) fn sibling_prefix(known: &str, url: &str) -> Result<Option<Path>, StoreError> {
    let (scheme, rest) = parts(url)?;
    let Some((known_scheme, known_rest)) = known.split_once("://") else { return Ok(None) };
    if scheme != known_scheme {
        return Ok(None);
    }
    match scheme {
        "file" | "http" | "https" => Ok(None),
        "memory" | "s3" | "az" | "gs" => {
            let name = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
            let (new, prefix) = name_and_prefix(url, rest, "name")?;
            Ok((new == name(known_rest)).then_some(prefix))
        }
        _ => {
            let (name, prefix) = name_and_prefix(url, rest, "prefix")?;
            Ok(Some(std::iter::once(name.into()).chain(prefix.parts()).collect()))
        }
    }
}

/// The scheme, and what follows it, of a URL that a store could have.
fn parts(url: &str) -> Result<(&str, &str), StoreError> {
    if url.len() > LONGEST_URL {
        return Err(StoreError::bad_url(
            url,
            format!("{} bytes, at most {LONGEST_URL} are taken", url.len()),
        ));
    }
    if url.chars().any(char::is_control) {
        return Err(StoreError::bad_url(url, "it has a control character"));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(StoreError::bad_url(url, "it has no scheme"));
    };
    if rest.contains(['?', '#']) {
        return Err(StoreError::bad_url(url, "it has a query or fragment; settings belong in StoreOptions"));
    }
    Ok((scheme, rest))
}

/// Opens a store of a platform, or says that this build can not.
macro_rules! opened_with {
    ($($open:ident, $feature:literal, $module:ident;)*) => { $(
        #[cfg(feature = $feature)]
        fn $open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
            crate::$module::open(url, rest, options)
        }

        #[cfg(not(feature = $feature))]
        fn $open(url: &str, _rest: &str, _options: StoreOptions) -> Result<Store, StoreError> {
            let detail = concat!("this build has no such stores: build with the feature `", $feature, "`");
            Err(StoreError::new(crate::StoreErrorKind::Unsupported, "opening", url, detail, None))
        }
    )* };
}

opened_with! {
    open_s3, "s3", s3;
    open_azure, "azure", azure;
    open_gcs, "gcs", gcs;
    open_http, "http", read_only;
}

/// Splits `name/prefix`. `what` is what the name names, for messages.
pub(crate) fn name_and_prefix<'a>(
    url: &str,
    rest: &'a str,
    what: &str,
) -> Result<(&'a str, Path), StoreError> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(StoreError::bad_url(url, format!("the {what} is empty")));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > 255 || !name.bytes().all(plain) || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        let detail =
            format!("the {what} may have letters, digits, `.`, `_` and `-`, and starts with the former two");
        return Err(StoreError::bad_url(url, detail));
    }
    let stripped = prefix.strip_suffix('/').unwrap_or(prefix);
    let edge = prefix == "/" || stripped.starts_with('/') || stripped.ends_with('/');
    let prefix = stripped;
    if prefix.len() > LONGEST_PREFIX {
        return Err(StoreError::bad_url(url, format!("the prefix is over {LONGEST_PREFIX} bytes")));
    }
    if prefix.contains('%') || prefix.contains('\\') || edge {
        return Err(StoreError::bad_url(
            url,
            "the prefix has `%`, `\\` or an empty part; write it as the key has it",
        ));
    }
    match Path::parse(prefix) {
        Ok(prefix) => Ok((name, prefix)),
        Err(_) => Err(StoreError::bad_url(url, "a part of the prefix is empty, `.` or `..`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes() {
        let split =
            |rest| name_and_prefix("u", rest, "bucket").map(|(name, prefix)| (name, prefix.to_string()));
        for (rest, name, prefix) in
            [("b", "b", ""), ("b/", "b", ""), ("b/p/q", "b", "p/q"), ("my-b.1/p/", "my-b.1", "p")]
        {
            assert_eq!(split(rest).expect("accepted"), (name, prefix.to_owned()));
        }
        for rest in
            ["", "/p", "-b", "b b", "u:p@b/x", "b//p", "b/p//q", "b/../q", "b/.", "b/a%2Fb", "b/p//", "b//"]
        {
            assert!(split(rest).is_err(), "{rest:?} must be refused");
        }
    }
}
