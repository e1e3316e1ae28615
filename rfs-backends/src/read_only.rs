//! What an HTTP server serves, to read only: `GET` with ranges, and WebDAV's listings.

use crate::{
    Store, StoreError, StoreOptions,
    answer::Connector,
    platform::{Platform, accepted, no_retries},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    ClientConfigKey, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    http::{HttpBuilder, HttpStore},
    path::Path,
};
use std::{fmt, ops::Range, sync::Arc};

const HTTP: Platform = Platform {
    prefixes: &[],
    aliases: &[],
    credential: &[],
    others: &[],
    has_tags: false,
    labels_parts: false,
};

/// Paths are no longer, so that there is room for the keys below.
const LONGEST_PATH: usize = 768;

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> std::result::Result<Store, StoreError> {
    if let Err(why) = checked(rest) {
        return Err(StoreError::bad_url(url, why));
    }
    // What is listed has its whole path: so the path is the store's prefix.
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = if url.starts_with("http://") { "http" } else { "https" };
    let root = format!("{scheme}://{authority}/");
    let Ok(prefix) = Path::parse(path) else {
        return Err(StoreError::bad_url(url, "a part of the path is empty, `.` or `..`"));
    };
    // Whoever writes `http://` has allowed it.
    let options = if url.starts_with("http://") { options.with_allow_http(true) } else { options };
    let mut settings = HTTP.settings(url, &options);
    let client = settings.client(&options)?;
    if !settings.labels()?.is_empty() {
        return Err(StoreError::bad_url(url, "what is read only is given no storage class"));
    }
    let builder = HttpBuilder::new()
        .with_url(root)
        .with_retry(no_retries())
        .with_client_options(client)
        .with_http_connector(Connector);
    let builder = settings.apply(builder, &[] as &[ClientConfigKey], HttpBuilder::with_config)?;
    let backend = ReadOnly(accepted(url, builder.build())?);
    Ok(Store::new(Arc::new(backend), url, prefix, options))
}

/// Whether host, port and path are such that nothing about them can be understood in two ways.
fn checked(rest: &str) -> std::result::Result<(), &'static str> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if authority.contains('@') {
        return Err("it has a user or password; URLs hold no secrets");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]:".contains(&byte);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return Err("the host is empty, or has what no host has");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("the port is no number up to 65535");
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.len() > LONGEST_PATH {
        return Err("the path is over 768 bytes");
    }
    if path.contains(['%', '\\']) || (!path.is_empty() && Path::parse(path).is_err()) {
        return Err("a part of the path is empty, `.` or `..`, or has `%` or `\\`");
    }
    Ok(())
}

/// Refuses what writes before anything is sent: a server may well take an unconditional put.
#[derive(Debug)]
struct ReadOnly(HttpStore);

fn refused<T>() -> Result<T> {
    let why = "http:// and https:// stores are for reading only: open the volume read-only, or in the store behind the \
               server";
    Err(Error::NotSupported { source: why.into() })
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for ReadOnly {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        refused()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refused()
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.and_then(|_| async { refused() }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_hosts_and_paths() {
        for rest in ["host", "host/", "host:8080/some/dir/", "127.0.0.1:1/a", "[::1]/a", "[::1]:80/a"] {
            assert_eq!(checked(rest), Ok(()), "{rest:?}");
        }
        for rest in
            ["", "/a", ":80/a", "host:x/a", "host:70000", "u:p@host/a", "ho st", "host/a//b", "host/../a"]
        {
            assert!(checked(rest).is_err(), "{rest:?} must be refused");
        }
    }
}
