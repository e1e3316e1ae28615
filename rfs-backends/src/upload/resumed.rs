//! Uploads on backends that let a part be sent again: only what failed is repeated.

use super::{
    PARTS_AT_ONCE,
    unfinished::{Unfinished, tidy},
};
use crate::{
    RequestKind, StoreErrorKind,
    call::{Call, Limit},
    classify::Failure,
    policy::Repeat,
    store::{Inner, within},
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    MultipartId, PutPayload,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use std::{sync::Arc, time::Duration};

/// One upload from its start to its completion. If it fails, or its future is dropped, it is aborted.
pub(super) async fn attempt(
    inner: &Arc<Inner>,
    backend: &Arc<dyn MultipartStore>,
    (key, path): (&str, &Path),
    parts: &[PutPayload],
    limit: Limit,
) -> Result<(), Failure> {
    let steps = Steps { inner, backend: &**backend, key, path, limit };
    let id = steps.create().await?;
    let unfinished = Unfinished::new(inner, backend, path, id.clone());
    match steps.send(&id, parts).await {
        Ok(()) => {
            unfinished.completed();
            tidy(inner, backend).await;
            Ok(())
        }
        Err(failure) => {
            unfinished.abort().await;
            Err(ended(failure))
        }
    }
}

/// A new upload may do better where the store lost this one. Else each step was repeated by itself already.
fn ended(failure: Failure) -> Failure {
    if failure.kind == StoreErrorKind::NotFound {
        let row = (StoreErrorKind::Unreachable, Repeat::Few);
        return Failure::new(row, "the store does not know the upload any more");
    }
    Failure { repeat: Repeat::Never, ..failure }
}

struct Steps<'a> {
    inner: &'a Inner,
    backend: &'a dyn MultipartStore,
    key: &'a str,
    path: &'a Path,
    limit: Limit,
}

impl Steps<'_> {
    async fn create(&self) -> Result<MultipartId, Failure> {
        let mut call = self.call(0);
        let created = call.attempts(|limit| self.attempt_create(limit)).await;
        created.map_err(|failure| Failure { repeat: Repeat::Never, ..failure })
    }

    async fn send(&self, id: &MultipartId, parts: &[PutPayload]) -> Result<(), Failure> {
        let mut under_way = Vec::with_capacity(parts.len());
        for (number, part) in parts.iter().enumerate() {
            under_way.push(self.part(id, number, part));
        }
        let mut sent: Vec<(usize, PartId)> =
            stream::iter(under_way).buffer_unordered(PARTS_AT_ONCE).try_collect().await?;
        sent.sort_unstable_by_key(|(number, _)| *number);
        let total = parts.iter().map(|part| part.content_length() as u64).sum();
        self.complete(id, sent.into_iter().map(|(_, part)| part).collect(), total).await
    }

    async fn part(
        &self,
        id: &MultipartId,
        number: usize,
        part: &PutPayload,
    ) -> Result<(usize, PartId), Failure> {
        let mut call = self.call(part.content_length() as u64);
        let sent = call.attempts(|limit| self.attempt_part(id, number, part, limit)).await?;
        Ok((number, sent))
    }

    async fn complete(&self, id: &MultipartId, parts: Vec<PartId>, total: u64) -> Result<(), Failure> {
        let mut call = self.call(total);
        let mut tried = false;
        loop {
            let completed = call.once(|limit| self.attempt_complete(id, parts.clone(), total, limit));
            let Err(failure) = completed.await else { return Ok(()) };
            // An upload that is gone after a lost answer was completed by it, if the object is there.
            if failure.kind == StoreErrorKind::NotFound && tried {
                let found = call.attempts(|limit| self.inner.attempt_head(self.path, limit)).await?;
                return if found.size == total { Ok(()) } else { Err(failure) };
            }
            tried = true;
            call.rest(failure).await?;
        }
    }

    /// The call of one step, which ends with the upload's.
    fn call(&self, bytes: u64) -> Call<'_> {
        self.inner.call("uploading", self.key, bytes).within(&self.limit)
    }

    async fn attempt_create(&self, limit: Limit) -> Result<MultipartId, Failure> {
        let _permit = self.inner.permit(&limit).await?;
        let request = self.inner.shared.meter.request(RequestKind::Multipart, 0);
        request.done(within(limit.until(Duration::ZERO), self.backend.create_multipart(self.path)).await)
    }

    async fn attempt_part(
        &self,
        id: &MultipartId,
        number: usize,
        part: &PutPayload,
        limit: Limit,
    ) -> Result<PartId, Failure> {
        let bytes = part.content_length() as u64;
        self.inner.may_send(bytes, &limit).await;
        let _permit = self.inner.permit(&limit).await?;
        let request = self.inner.shared.meter.request(RequestKind::Multipart, bytes);
        let put = self.backend.put_part(self.path, id, number, part.clone());
        request.done(within(limit.until(self.inner.options.allowance(bytes)), put).await)
    }

    async fn attempt_complete(
        &self,
        id: &MultipartId,
        parts: Vec<PartId>,
        total: u64,
        limit: Limit,
    ) -> Result<(), Failure> {
        let _permit = self.inner.permit(&limit).await?;
        let request = self.inner.shared.meter.request(RequestKind::Multipart, 0);
        let complete = self.backend.complete_multipart(self.path, id, parts);
        let limit = limit.until(self.inner.options.allowance(total));
        request.done(within(limit, complete).await).map(drop)
    }
}
