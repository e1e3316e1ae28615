//! Counting what is asked of a store, because requests and bytes are what a store costs.

use crate::metrics::{self, Request};
use std::{
    fmt,
    ops::Sub,
    sync::atomic::{AtomicU64, Ordering},
};

/// The kinds of request that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// A whole object in one request, create-only or not. Bytes: the body sent.
    Put,
    /// A whole object or a range of one. Bytes: the body received.
    Get,
    /// One page of a listing. Bytes: the keys received.
    List,
    /// The removal of one object. No bytes.
    Delete,
    /// The size and time of one object. No bytes.
    Head,
    /// Starting, completing or aborting a multipart upload, or one part of it. Bytes: the part's body.
    Multipart,
    /// A second get of what a first one was late to answer. Bytes: the body received, where this answer won.
    Hedge,
}

impl RequestKind {
    /// Every kind, in the order of the variants.
    pub const ALL: [Self; 7] =
        [Self::Put, Self::Get, Self::List, Self::Delete, Self::Head, Self::Multipart, Self::Hedge];

    /// The kind's name in tables and traces: `put`, `get`, `list`, `delete`, `head`, `multipart`, `hedge`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Head => "head",
            Self::Multipart => "multipart",
            Self::Hedge => "hedge",
        }
    }
}

/// Requests and bytes of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests made, retries among them.
    pub requests: u64,
    /// Body bytes moved, in bytes; [`RequestKind`] says which.
    pub bytes: u64,
}

/// Counts every request of one [`Store`](crate::Store), all clones of it together.
///
/// A request is counted when an attempt is made, before its outcome is known: a retried put is two, a put whose
/// answer never came is one. A listing counts one request for each page of 1,000 keys that it began to receive, which
/// is how S3 pages; a store with other page sizes makes more or fewer. What a backend does below
/// [`object_store::ObjectStore`], such as fetching temporary credentials, is not seen.
#[derive(Debug, Default)]
pub struct Meter {
    requests: [AtomicU64; RequestKind::ALL.len()],
    bytes: [AtomicU64; RequestKind::ALL.len()],
}

impl Meter {
    /// The counts so far. Subtract an earlier snapshot to get what happened between the two.
    ///
    /// ```
    /// use rfs_backends::{RequestKind, Store, StoreOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// let before = store.meter().snapshot();
    /// store.put("a", "hello".into()).await?;
    /// let cost = store.meter().snapshot() - before;
    /// assert_eq!(cost.of(RequestKind::Put).requests, 1);
    /// assert_eq!(cost.of(RequestKind::Put).bytes, 5);
    /// assert_eq!(cost.requests(), 1);
    /// # Ok::<(), rfs_backends::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub fn snapshot(&self) -> MeterSnapshot {
        let mut counts = [Count::default(); RequestKind::ALL.len()];
        for (count, (requests, bytes)) in counts.iter_mut().zip(self.requests.iter().zip(&self.bytes)) {
            *count =
                Count { requests: requests.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) };
        }
        MeterSnapshot { counts }
    }

    /// A request is made.
    pub(crate) fn request(&self, kind: RequestKind, bytes: u64) -> Request {
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes(kind, bytes);
        Request::new(kind)
    }

    pub(crate) fn bytes(&self, kind: RequestKind, bytes: u64) {
        self.bytes[kind as usize].fetch_add(bytes, Ordering::Relaxed);
        metrics::moved(kind, bytes);
    }
}

/// The counts of a [`Meter`] at one moment, or, as a difference, between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    counts: [Count; RequestKind::ALL.len()],
}

impl MeterSnapshot {
    /// The count of one kind.
    pub fn of(&self, kind: RequestKind) -> Count {
        self.counts[kind as usize]
    }

    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.counts.iter().map(|count| count.requests).sum()
    }

    /// Bytes of all kinds.
    pub fn bytes(&self) -> u64 {
        self.counts.iter().map(|count| count.bytes).sum()
    }
}

impl Sub for MeterSnapshot {
    type Output = Self;

    /// What happened since `earlier`. Where `earlier` is in truth the later one, the difference is zero.
    fn sub(self, earlier: Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            count.requests = count.requests.saturating_sub(before.requests);
            count.bytes = count.bytes.saturating_sub(before.bytes);
        }
        Self { counts }
    }
}

impl fmt::Display for MeterSnapshot {
    /// The kinds that occur: `put 2 (1024 B), list 1 (90 B)`, or `no requests`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for kind in RequestKind::ALL {
            let Count { requests, bytes } = self.of(kind);
            if requests > 0 {
                write!(f, "{separator}{} {requests} ({bytes} B)", kind.name())?;
                separator = ", ";
            }
        }
        if separator.is_empty() { f.write_str("no requests") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_and_text() {
        let meter = Meter::default();
        assert_eq!(meter.snapshot().to_string(), "no requests");
        drop(meter.request(RequestKind::Put, 10));
        let before = meter.snapshot();
        drop(meter.request(RequestKind::Put, 5));
        drop(meter.request(RequestKind::Head, 0));
        let cost = meter.snapshot() - before;
        assert_eq!(cost.to_string(), "put 1 (5 B), head 1 (0 B)");
        assert_eq!((cost.requests(), cost.bytes()), (2, 5));
        assert_eq!((before - meter.snapshot()).requests(), 0);
    }
}
