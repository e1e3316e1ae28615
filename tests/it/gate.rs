//! A store where puts of commits and fences can be stopped before they take effect (a writer that sleeps), or listings of
//! images, as collections make them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// Any store, behind a gate for puts.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Arc<dyn ObjectStore>,
    stops: Stops,
    open: watch::Receiver<bool>,
    waiting: watch::Sender<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    CommitPuts,
    ImageLists,
}

/// Opens and closes a gate.
pub(crate) struct Keeper {
    open: watch::Sender<bool>,
    waiting: watch::Receiver<usize>,
}

impl Gate {
    pub(crate) fn before(inner: Arc<dyn ObjectStore>) -> (Self, Keeper) {
        Self::new(inner, Stops::CommitPuts)
    }

    pub(crate) fn before_image_lists(inner: Arc<dyn ObjectStore>) -> (Self, Keeper) {
        Self::new(inner, Stops::ImageLists)
    }

    fn new(inner: Arc<dyn ObjectStore>, stops: Stops) -> (Self, Keeper) {
        let (opener, open) = watch::channel(true);
        let (waiting, waiters) = watch::channel(0);
        (Self { inner, stops, open, waiting }, Keeper { open: opener, waiting: waiters })
    }
}

async fn pass(mut open: watch::Receiver<bool>, waiting: &watch::Sender<usize>) {
    if !*open.borrow() {
        waiting.send_modify(|waiting| *waiting += 1);
        open.wait_for(|open| *open).await.unwrap();
    }
}

impl Keeper {
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until a request stands before the closed gate.
    pub(crate) async fn stopped(&mut self) {
        self.waiting.wait_for(|waiting| *waiting > 0).await.unwrap();
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gate before {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.stops == Stops::CommitPuts && path.as_ref().contains("/commits/") {
            pass(self.open.clone(), &self.waiting).await;
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        if self.stops != Stops::ImageLists
            || !prefix.is_some_and(|prefix| prefix.as_ref().ends_with("/pages"))
        {
            return listed;
        }
        let (open, waiting) = (self.open.clone(), self.waiting.clone());
        Box::pin(
            stream::once(async move { pass(open, &waiting).await })
                .flat_map(|()| stream::empty())
                .chain(listed),
        )
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        after: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, after)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
