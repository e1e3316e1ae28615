//! One attempt at a request that is one message each way, and its turn among the concurrent ones.

use super::Inner;
use crate::{RequestKind, StoreErrorKind, call::Limit, classify::Failure, policy};
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutPayload, path::Path};
use std::{future::Future, time::Duration};
use tokio::{sync::SemaphorePermit, time::Instant};

impl Inner {
    /// Waits for its turn among the concurrent requests.
    pub(crate) async fn permit(&self, limit: &Limit) -> Result<SemaphorePermit<'_>, Failure> {
        let permit = tokio::time::timeout_at(limit.deadline(), self.permits.acquire()).await;
        match permit {
            // A turn that comes with the deadline comes too late: nobody would wait for the answer.
            Ok(Ok(permit)) if Instant::now() < limit.deadline() => Ok(permit),
            _ => Err(Failure::unasked(
                policy::SILENT,
                format!("all {} concurrent requests are busy", self.options.concurrency),
            )),
        }
    }

    pub(crate) async fn attempt_put(
        &self,
        path: &Path,
        payload: PutPayload,
        mode: PutMode,
        limit: Limit,
    ) -> Result<(), Failure> {
        let bytes = payload.content_length() as u64;
        self.may_send(bytes, &limit).await;
        let _permit = self.permit(&limit).await?;
        let request = self.shared.meter.request(RequestKind::Put, bytes);
        let put = self.backend.put_opts(path, payload, mode.into());
        request.done(within(limit.until(self.options.allowance(bytes)), put).await)?;
        Ok(())
    }

    pub(crate) async fn attempt_head(&self, path: &Path, limit: Limit) -> Result<ObjectMeta, Failure> {
        let _permit = self.permit(&limit).await?;
        let request = self.shared.meter.request(RequestKind::Head, 0);
        request.done(within(limit.until(Duration::ZERO), self.backend.head(path)).await)
    }

    pub(super) async fn attempt_delete(&self, path: &Path, limit: Limit) -> Result<(), Failure> {
        let _permit = self.permit(&limit).await?;
        let request = self.shared.meter.request(RequestKind::Delete, 0);
        match request.done(within(limit.until(Duration::ZERO), self.backend.delete(path)).await) {
            Err(failure) if failure.kind == StoreErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

/// A request's outcome, or that there was none in time.
pub(crate) async fn within<T>(
    until: Instant,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(until, request).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Failure::timed_out()),
    }
}
