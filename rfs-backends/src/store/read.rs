//! One attempt at reading an object or a range: the answer, or that of a second request, and then its body.

use super::{Inner, within};
use crate::{
    RequestKind, StoreErrorKind,
    call::Limit,
    classify::Failure,
    metrics::Request,
    policy::{self, Repeat},
};
use bytes::Bytes;
use futures::{
    TryStreamExt,
    future::{Either, select},
};
use object_store::{GetOptions, GetResult, GetResultPayload, path::Path};
use std::{future::Future, ops::Range, time::Duration};
use tokio::time::Instant;

impl Inner {
    /// Reads an object or exactly a range of it.
    pub(crate) async fn attempt_get(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
        limit: Limit,
    ) -> Result<Bytes, Failure> {
        self.attempt_read(path, range, true, limit).await
    }

    /// Reads a range of an object, or what there is of it before the object ends.
    pub(crate) async fn attempt_get_up_to(
        &self,
        path: &Path,
        range: Range<u64>,
        limit: Limit,
    ) -> Result<Bytes, Failure> {
        self.attempt_read(path, Some(range), false, limit).await
    }

    async fn attempt_read(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
        exactly: bool,
        limit: Limit,
    ) -> Result<Bytes, Failure> {
        if let Some(range) = &range {
            self.may_receive(range.end - range.start, &limit).await;
        }
        let permit = self.permit(&limit).await?;
        let mut request = self.shared.meter.request(RequestKind::Get, 0);
        let options = GetOptions::new().with_range(range.clone());
        match within(limit.until(Duration::ZERO), self.answer(path, options, &mut request)).await {
            Ok(answer) => {
                request.answered();
                let taken = self.taken(answer, range, exactly, limit, request.kind()).await;
                request.ended(taken)
            }
            Err(failure) => {
                drop(permit);
                let failed = request.done::<Bytes>(Err(failure));
                match (failed, range) {
                    (Err(failure), Some(range)) => {
                        Err(self.explain_range(path, &range, failure, limit).await)
                    }
                    (failed, _) => failed,
                }
            }
        }
    }

    /// The bytes of an answer, if it is one to what was asked.
    async fn taken(
        &self,
        answer: GetResult,
        range: Option<Range<u64>>,
        exactly: bool,
        limit: Limit,
        kind: RequestKind,
    ) -> Result<Bytes, Failure> {
        let ranged = range.is_some();
        let length = answer.range.end.saturating_sub(answer.range.start);
        if let Some(range) = range {
            let is_whole = answer.range.end == range.end
                || (!exactly && answer.range.end == answer.meta.size.min(range.end));
            if answer.range.start != range.start || !is_whole {
                return Err(short_object(&range, answer.meta.size));
            }
        } else if length > self.options.max_object_bytes {
            return Err(self.too_large("an object", length));
        }
        let further = self.options.allowance(length);
        // The length of a range was known, and granted, when the call began.
        let limit = if ranged { limit } else { limit.extended(further) };
        let pace = (!ranged).then_some(&limit);
        self.body(answer, length, kind, limit.until(further), pace).await
    }

    /// A range beyond an object's end is refused by each backend in its own words; the size tells it apart from an
    /// outage.
    async fn explain_range(
        &self,
        path: &Path,
        range: &Range<u64>,
        failure: Failure,
        limit: Limit,
    ) -> Failure {
        use StoreErrorKind::{Other, Truncated, Unreachable};
        let open = matches!(failure.kind, Unreachable | Truncated | Other);
        // Who asks for rest knows the request, and is not asked more.
        if !open || failure.repeat == Repeat::Slower {
            return failure;
        }
        match self.attempt_head(path, limit).await {
            Ok(meta) if meta.size < range.end => short_object(range, meta.size),
            _ => failure,
        }
    }

    /// The first answer to a get; a second request is made if it is late. `request` becomes the one that it came to.
    async fn answer(
        &self,
        path: &Path,
        options: GetOptions,
        request: &mut Request,
    ) -> object_store::Result<GetResult> {
        let hedges = &self.shared.hedges;
        let begun = Instant::now();
        let patience = hedges.patience(&self.options);
        let mut first = self.backend.get_opts(path, options.clone());
        let answered = match patience {
            None => first.await,
            Some(patience) => match tokio::time::timeout(patience, &mut first).await {
                Ok(outcome) => outcome,
                Err(_) => self.hedged(path, options, first, request).await,
            },
        };
        if answered.is_ok() {
            hedges.note(begun.elapsed());
        }
        answered
    }

    /// Asks once more for what `first` asked, if the limits allow for it, and takes the first answer.
    async fn hedged(
        &self,
        path: &Path,
        options: GetOptions,
        first: impl Future<Output = object_store::Result<GetResult>> + Unpin,
        request: &mut Request,
    ) -> object_store::Result<GetResult> {
        // Where requests wait for their turn already, more of them make nothing faster.
        let Ok(_permit) = self.permits.try_acquire() else { return first.await };
        if !self.shared.hedges.pay() {
            return first.await;
        }
        tracing::debug!(%path, "the answer is late and is asked for once more");
        let hedge = self.shared.meter.request(RequestKind::Hedge, 0);
        let second = self.backend.get_opts(path, options);
        let by_second = match select(first, second).await {
            Either::Left((Ok(answer), _)) => return Ok(answer),
            Either::Right((Ok(answer), _)) => Ok(answer),
            // One that failed is no answer as long as the other may succeed; of two failures the first one counts.
            Either::Left((Err(failed), second)) => second.await.map_err(|_| failed),
            Either::Right((Err(failed), first)) => return first.await.map_err(|_| failed),
        };
        if by_second.is_ok() {
            *request = hedge;
        }
        by_second
    }

    /// The body of an answer, which is to be there at `until`. With a `pace` it waits for the bandwidth as it comes, and as
    /// much longer.
    async fn body(
        &self,
        answer: GetResult,
        length: u64,
        kind: RequestKind,
        mut until: Instant,
        pace: Option<&Limit>,
    ) -> Result<Bytes, Failure> {
        let short = |got: u64| Failure::new(policy::CUT_SHORT, format!("{got} of {length} bytes came"));
        let mut stream = match answer.payload {
            GetResultPayload::Stream(stream) => stream,
            // One read of a length that is known to be allowed.
            GetResultPayload::File(..) => {
                self.paced(length, pace, &mut until).await;
                let bytes = within(until, answer.bytes()).await?;
                self.shared.meter.bytes(kind, bytes.len() as u64);
                return if bytes.len() as u64 == length { Ok(bytes) } else { Err(short(bytes.len() as u64)) };
            }
        };
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        let mut got = 0_u64;
        while let Some(chunk) = within(until, stream.try_next()).await? {
            self.shared.meter.bytes(kind, chunk.len() as u64);
            self.paced(chunk.len() as u64, pace, &mut until).await;
            got = got.saturating_add(chunk.len() as u64);
            if got > length {
                let detail = format!("more than the {length} bytes announced came");
                return Err(Failure::new(policy::SENSELESS, detail));
            }
            if first.is_empty() {
                first = chunk;
                continue;
            }
            if rest.is_empty() {
                // Believes an announced length only so far: what follows must first arrive.
                rest.reserve(usize::try_from(length).unwrap_or(usize::MAX).min(64 << 20));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
        }
        match got {
            got if got < length => Err(short(got)),
            _ if rest.is_empty() => Ok(first),
            _ => Ok(rest.into()),
        }
    }

    /// Waits until `bytes` more of a body may come in, and puts its end off by as long.
    async fn paced(&self, bytes: u64, pace: Option<&Limit>, until: &mut Instant) {
        let Some(limit) = pace else { return };
        let begun = Instant::now();
        self.may_receive(bytes, limit).await;
        *until += begun.elapsed();
    }
}

fn short_object(range: &Range<u64>, size: u64) -> Failure {
    let detail = format!("bytes {}..{} of an object of {size} bytes", range.start, range.end);
    Failure::new(policy::PAST_THE_END, detail)
}
