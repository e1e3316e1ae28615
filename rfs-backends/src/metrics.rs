//! What the program's `metrics` recorder is told; names and units are in `docs/metrics.md`. Nothing without the feature
//! `metrics`.

use crate::{RequestKind, StoreErrorKind, classify::Failure, policy::Repeat};
use std::time::Duration;
use tokio::time::Instant;

/// A request that is under way. One that is dropped before it [`ended`](Self::ended) counts as dropped: its caller went
/// away, or another answer was faster.
#[derive(Debug)]
#[must_use = "a request that is dropped counts as one that was given up"]
pub(crate) struct Request {
    kind: RequestKind,
    begun: Instant,
    told: bool,
}

impl Request {
    pub(crate) fn new(kind: RequestKind) -> Self {
        Self { kind, begun: Instant::now(), told: false }
    }

    pub(crate) fn kind(&self) -> RequestKind {
        self.kind
    }

    /// The answer begins.
    pub(crate) fn answered(&self) {
        let took = self.begun.elapsed().as_secs_f64();
        recorder::observe("rfs_store_request_duration_seconds", [("kind", self.kind.name())], took);
    }

    /// It had this outcome, which is handed through.
    pub(crate) fn ended<T>(mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        self.tell(match &outcome {
            Ok(_) => "ok",
            Err(failure) => name(failure),
        });
        outcome
    }

    /// [`answered`](Self::answered) and [`ended`](Self::ended), where the answer is one message.
    pub(crate) fn done<T>(self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if !outcome.as_ref().is_err_and(|failure| failure.kind == StoreErrorKind::Deadline) {
            self.answered();
        }
        self.ended(outcome)
    }

    fn tell(&mut self, outcome: &'static str) {
        self.told = true;
        recorder::count("rfs_store_requests_total", [("kind", self.kind.name()), ("outcome", outcome)], 1);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.told {
            self.tell("dropped");
        }
    }
}

/// Bytes of bodies went out, or came in.
pub(crate) fn moved(kind: RequestKind, bytes: u64) {
    use RequestKind::{Get, Hedge, List, Multipart, Put};
    let name = match kind {
        _ if bytes == 0 => return,
        Put | Multipart => "rfs_store_sent_bytes_total",
        Get | Hedge | List => "rfs_store_received_bytes_total",
        RequestKind::Delete | RequestKind::Head => return,
    };
    recorder::count(name, [("kind", kind.name())], bytes);
}

/// An attempt that failed is made again.
pub(crate) fn retried(failure: &Failure) {
    recorder::count("rfs_store_retries_total", [("why", name(failure))], 1);
}

/// A body waited so long for bandwidth.
pub(crate) fn waited(direction: &'static str, time: Duration) {
    recorder::observe("rfs_store_bandwidth_wait_seconds", [("direction", direction)], time.as_secs_f64());
}

/// A store that is left alone, as long as this lives.
#[derive(Debug)]
pub(crate) struct LeftAlone(());

impl LeftAlone {
    pub(crate) fn new() -> Self {
        recorder::count("rfs_store_circuit_opened_total", [], 1);
        recorder::shift("rfs_store_circuits_open", 1.0);
        Self(())
    }
}

impl Drop for LeftAlone {
    fn drop(&mut self) {
        recorder::shift("rfs_store_circuits_open", -1.0);
    }
}

/// A failure's name among few.
fn name(failure: &Failure) -> &'static str {
    use StoreErrorKind as K;
    match failure.kind {
        _ if failure.conflict => "conflict",
        _ if failure.repeat == Repeat::Slower => "throttled",
        K::NotFound => "not_found",
        K::Unreachable => "unreachable",
        K::Denied => "denied",
        K::ClockSkew => "clock_skew",
        K::Deadline => "deadline",
        K::Truncated => "truncated",
        K::TooLarge => "too_large",
        K::Full => "full",
        K::NoPutIfAbsent | K::Unsupported => "unsupported",
        K::NoBucket => "no_bucket",
        K::WrongKey | K::Damaged | K::BadUrl | K::BadKey | K::Other => "other",
    }
}

#[cfg(feature = "metrics")]
mod recorder {
    type Label = (&'static str, &'static str);

    pub(super) fn count<const N: usize>(name: &'static str, labels: [Label; N], by: u64) {
        metrics::counter!(name, &labels).increment(by);
    }

    pub(super) fn observe<const N: usize>(name: &'static str, labels: [Label; N], value: f64) {
        metrics::histogram!(name, &labels).record(value);
    }

    pub(super) fn shift(name: &'static str, by: f64) {
        metrics::gauge!(name).increment(by);
    }
}

#[cfg(not(feature = "metrics"))]
mod recorder {
    type Label = (&'static str, &'static str);

    pub(super) fn count<const N: usize>(_: &'static str, _: [Label; N], _: u64) {}

    pub(super) fn observe<const N: usize>(_: &'static str, _: [Label; N], _: f64) {}

    pub(super) fn shift(_: &'static str, _: f64) {}
}
