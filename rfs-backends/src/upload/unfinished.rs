//! Uploads that came to nothing are aborted, now or later, so that no part of them costs space.

use crate::{
    RequestKind, StoreErrorKind,
    call::Limit,
    classify::Failure,
    store::{Inner, within},
};
use object_store::{MultipartId, multipart::MultipartStore, path::Path};
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// So many uploads that could not be aborted are remembered.
const MOST: usize = 256;

/// Uploads that the store did not let us abort. The next upload that succeeds tries again.
#[derive(Default)]
pub(crate) struct Leftovers(Mutex<VecDeque<(Path, MultipartId)>>);

impl Leftovers {
    fn add(&self, path: Path, id: MultipartId) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() == MOST
            && let Some((path, _)) = left.pop_front()
        {
            tracing::warn!(%path, "the parts of an upload stay in the store: too many could not be aborted");
        }
        left.push_back((path, id));
    }

    fn take(&self) -> VecDeque<(Path, MultipartId)> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Aborts what could not be aborted before.
pub(crate) async fn tidy(inner: &Arc<Inner>, backend: &Arc<dyn MultipartStore>) {
    for (path, id) in inner.shared.leftovers.take() {
        Unfinished::new(inner, backend, &path, id).abort().await;
    }
}

/// An upload that holds parts in the store. Dropped, it is aborted in the background.
pub(super) struct Unfinished {
    inner: Arc<Inner>,
    backend: Arc<dyn MultipartStore>,
    path: Path,
    id: Option<MultipartId>,
}

impl Unfinished {
    pub(super) fn new(
        inner: &Arc<Inner>,
        backend: &Arc<dyn MultipartStore>,
        path: &Path,
        id: MultipartId,
    ) -> Self {
        let (inner, backend) = (Arc::clone(inner), Arc::clone(backend));
        Self { inner, backend, path: path.clone(), id: Some(id) }
    }

    /// There is nothing to abort any more.
    pub(super) fn completed(mut self) {
        self.id = None;
    }

    /// Aborts it, or leaves it to the next upload.
    pub(super) async fn abort(mut self) {
        // The id stays until the store has answered: who drops this future leaves no parts either.
        let Some(id) = self.id.clone() else { return };
        abort(&self.inner, &*self.backend, &self.path, id).await;
        self.id = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (inner, backend) = (Arc::clone(&self.inner), Arc::clone(&self.backend));
        let path = mem::take(&mut self.path);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move { abort(&inner, &*backend, &path, id).await });
            }
            Err(_) => inner.shared.leftovers.add(path, id),
        }
    }
}

async fn abort(inner: &Inner, backend: &dyn MultipartStore, path: &Path, id: MultipartId) {
    match try_abort(inner, backend, path, &id).await {
        Ok(()) => {}
        Err(failure) if failure.kind == StoreErrorKind::NotFound => {}
        Err(failure) => {
            tracing::debug!(%path, detail = %failure.detail, "an upload could not be aborted; the next one tries");
            inner.shared.leftovers.add(path.clone(), id);
        }
    }
}

async fn try_abort(
    inner: &Inner,
    backend: &dyn MultipartStore,
    path: &Path,
    id: &MultipartId,
) -> Result<(), Failure> {
    let limit = Limit::of_one(&inner.options);
    let _permit = inner.permit(&limit).await?;
    let request = inner.shared.meter.request(RequestKind::Multipart, 0);
    request.done(within(limit.until(Duration::ZERO), backend.abort_multipart(path, id)).await)
}
