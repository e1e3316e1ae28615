//! Uploads on backends that number the parts themselves, so that none can be sent again: if one fails, all are.

use super::PARTS_AT_ONCE;
use crate::{
    RequestKind,
    call::Limit,
    classify::Failure,
    store::{Inner, within},
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload, path::Path};
use std::{sync::Arc, time::Duration};

/// One upload from its start to its completion. If it fails, or its future is dropped, it is aborted.
pub(super) async fn attempt(
    inner: &Arc<Inner>,
    path: &Path,
    parts: &[PutPayload],
    limit: Limit,
) -> Result<(), Failure> {
    let upload = {
        let _permit = inner.permit(&limit).await?;
        let request = inner.shared.meter.request(RequestKind::Multipart, 0);
        request.done(within(limit.until(Duration::ZERO), inner.backend.put_multipart(path)).await)?
    };
    let mut unfinished = Unfinished { inner: Arc::clone(inner), path: path.clone(), upload: Some(upload) };
    let outcome = unfinished.send(parts, &limit).await;
    match outcome {
        Ok(()) => unfinished.upload = None,
        Err(_) => unfinished.abort().await,
    }
    outcome
}

/// An upload that holds parts in the store. Dropped, it is aborted in the background.
struct Unfinished {
    inner: Arc<Inner>,
    path: Path,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Unfinished {
    async fn send(&mut self, parts: &[PutPayload], limit: &Limit) -> Result<(), Failure> {
        let Self { inner, upload: Some(upload), .. } = self else { return Ok(()) };
        let total = parts.iter().map(|part| part.content_length() as u64).sum();
        // The futures are made in the order of the parts, which is what numbers them.
        let mut sent = Vec::with_capacity(parts.len());
        for part in parts {
            let bytes = part.content_length() as u64;
            let put = upload.put_part(part.clone());
            let inner = &*inner;
            sent.push(async move {
                inner.may_send(bytes, limit).await;
                let _permit = inner.permit(limit).await?;
                let request = inner.shared.meter.request(RequestKind::Multipart, bytes);
                request.done(within(limit.until(inner.options.allowance(bytes)), put).await)
            });
        }
        stream::iter(sent).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await?;
        let _permit = inner.permit(limit).await?;
        let request = inner.shared.meter.request(RequestKind::Multipart, 0);
        request.done(within(limit.until(inner.options.allowance(total)), upload.complete()).await)?;
        Ok(())
    }

    async fn abort(&mut self) {
        let Some(upload) = &mut self.upload else { return };
        abort(&self.inner, &self.path, upload.as_mut()).await;
        self.upload = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let (inner, path) = (Arc::clone(&self.inner), std::mem::take(&mut self.path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move { abort(&inner, &path, upload.as_mut()).await });
            }
            Err(_) => tracing::warn!(%path, "an upload was dropped outside of a runtime; its parts may stay"),
        }
    }
}

async fn abort(inner: &Inner, path: &Path, upload: &mut dyn MultipartUpload) {
    let request = inner.shared.meter.request(RequestKind::Multipart, 0);
    let until = Limit::of_one(&inner.options).until(Duration::ZERO);
    if let Err(failure) = request.done(within(until, upload.abort()).await) {
        tracing::warn!(%path, detail = %failure.detail, "an upload could not be aborted; its parts may stay");
    }
}
