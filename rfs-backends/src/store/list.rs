//! One attempt at a listing, page by page.

use super::{Inner, ObjectInfo, within};
use crate::{RequestKind, call::Limit, classify::Failure};
use futures::StreamExt;
use object_store::path::Path;
use std::time::Duration;

/// Keys of one listing page of S3, by which listings are counted.
const KEYS_PER_PAGE: usize = 1000;

impl Inner {
    pub(super) async fn attempt_list(
        &self,
        below: &Path,
        after: Option<&Path>,
        mut limit: Limit,
    ) -> Result<Vec<ObjectInfo>, Failure> {
        let _permit = self.permit(&limit).await?;
        let mut request = self.shared.meter.request(RequestKind::List, 0);
        let below = (!below.as_ref().is_empty()).then_some(below);
        let mut stream = match after {
            Some(after) => self.backend.list_with_offset(below, after),
            None => self.backend.list(below),
        };
        let mut listed = Vec::new();
        let mut received = 0_usize;
        loop {
            let next = within(limit.until(Duration::ZERO), async { stream.next().await.transpose() }).await;
            if received == 0 && next.is_ok() {
                request.answered();
            }
            let meta = match next {
                Ok(Some(meta)) => meta,
                Ok(None) => return request.ended(Ok(listed)),
                Err(failure) => return request.ended(Err(failure)),
            };
            if received > 0 && received.is_multiple_of(KEYS_PER_PAGE) {
                let page = std::mem::replace(&mut request, self.shared.meter.request(RequestKind::List, 0));
                page.ended(Ok(()))?;
                limit = limit.extended_by_one();
            }
            received += 1;
            self.shared.meter.bytes(RequestKind::List, meta.location.as_ref().len() as u64);
            if received > self.options.max_listed {
                return request.ended(Err(Failure::too_large(
                    "a listing of at least",
                    received as u64,
                    "objects",
                    "with_max_listed",
                    self.options.max_listed as u64,
                )));
            }
            // Some stores list in another order than by key and so understand the offset in another way.
            if after.is_some_and(|after| meta.location.as_ref() <= after.as_ref()) {
                continue;
            }
            if let Some(key) = self.key_of(&meta.location) {
                let last_modified_ms = meta.last_modified.timestamp_millis();
                let size = self.content_len(&key, meta.size);
                listed.push(ObjectInfo { key, size, last_modified_ms });
            }
        }
    }
}
