//! A store whose objects all get the same storage class and tags.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    Attribute, CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, TagSet,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use std::{fmt, ops::Range};

/// What every object of a store gets.
#[derive(Debug, Default, Clone)]
pub(crate) struct Labels {
    pub(crate) storage_class: Option<String>,
    pub(crate) tags: Option<TagSet>,
    /// Whether uploads whose parts can be sent again take them.
    pub(crate) in_parts: bool,
}

impl Labels {
    pub(crate) fn is_empty(&self) -> bool {
        self.storage_class.is_none() && self.tags.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Labelled<S> {
    backend: S,
    labels: Labels,
}

impl<S> Labelled<S> {
    pub(crate) fn new(backend: S, labels: Labels) -> Self {
        Self { backend, labels }
    }

    fn class(&self) -> Option<(Attribute, String)> {
        self.labels.storage_class.clone().map(|class| (Attribute::StorageClass, class))
    }

    fn labelled(&self, mut options: PutMultipartOptions) -> PutMultipartOptions {
        if let Some((name, class)) = self.class() {
            options.attributes.insert(name, class.into());
        }
        if let Some(tags) = &self.labels.tags {
            options.tags = tags.clone();
        }
        options
    }
}

impl<S: fmt::Display> fmt::Display for Labelled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Labelled<S> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if let Some((name, class)) = self.class() {
            options.attributes.insert(name, class.into());
        }
        if let Some(tags) = &self.labels.tags {
            options.tags = tags.clone();
        }
        self.backend.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.backend.put_multipart_opts(location, self.labelled(options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.backend.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.backend.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.backend.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.backend.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.backend.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.backend.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.backend.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.backend.rename_opts(from, to, options).await
    }
}

#[async_trait]
impl<S: MultipartStore> MultipartStore for Labelled<S> {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_multipart_opts(path, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        self.backend.create_multipart_opts(path, self.labelled(options)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        payload: PutPayload,
    ) -> Result<PartId> {
        self.backend.put_part(path, id, part, payload).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.backend.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.backend.abort_multipart(path, id).await
    }
}
