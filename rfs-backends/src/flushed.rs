//! The local store, with one promise more: a create-only put that is refused was refused by an object that is on
//! disk, not only in the page cache.
//!
//! The backend makes the name, and then flushes the directory. Between the two the object is seen by others and
//! refuses their puts, but a power failure can still take it. Whoever is refused and finds its own bytes (the first
//! attempt was slow, or the process died there and was started again) would call them durable too early.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, local::LocalFileSystem,
    path::Path,
};
use std::{fmt, fs::File, io, ops::Range};

#[derive(Debug)]
pub(crate) struct Flushed(LocalFileSystem);

impl Flushed {
    /// A put is acknowledged when file and directory are on disk; the local store by itself does not flush.
    pub(crate) fn new(backend: LocalFileSystem) -> Self {
        Self(backend.with_fsync(true))
    }

    async fn flush(&self, object: &Path) -> Result<()> {
        let file = self.0.path_to_filesystem(object)?;
        let flush = move || {
            File::open(&file)?.sync_all()?;
            file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        };
        match tokio::task::spawn_blocking(flush).await? {
            // Deleted meanwhile: there is nothing left to be durable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::Generic { store: "file", source: Box::new(error) }),
            Ok(()) => Ok(()),
        }
    }
}

impl fmt::Display for Flushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Flushed {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let outcome = self.0.put_opts(location, payload, options).await;
        if matches!(outcome, Err(Error::AlreadyExists { .. })) {
            self.flush(location).await?;
        }
        outcome
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
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

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}
