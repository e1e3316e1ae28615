//! The local cache as those who read one volume share it, until the volume is closed.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LocalCache;

/// Most bytes that are read by the task itself. So little is one short read, as of the local log, and going elsewhere
/// for it would take longer.
const IN_PLACE: u64 = 16 << 10;
/// Most KiB that wait to be written. What comes while there are more is not kept.
const QUEUED_KIB: u32 = 32 << 10;

/// A local cache, or none. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheHandle(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    /// None when it was closed. Whoever uses it locks it for reading, so that closing waits until the disk is not used.
    cache: RwLock<Option<LocalCache>>,
    /// Everything is done by the tasks themselves.
    one_thread: bool,
    /// A permit for each KiB that may wait to be written.
    queue: Arc<Semaphore>,
}

/// Bytes of an object.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) key: String,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl CacheHandle {
    pub(crate) fn new(cache: LocalCache, one_thread: bool) -> Self {
        let queue = Arc::new(Semaphore::new(QUEUED_KIB as usize));
        Self(Some(Arc::new(Open { cache: RwLock::new(Some(cache)), one_thread, queue })))
    }

    pub(crate) const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// As [`LocalCache::get`].
    pub(crate) async fn get(&self, key: &str, start: u64, len: u64) -> Option<Bytes> {
        self.0.as_ref()?;
        let found = self.get_all(vec![Piece { key: key.to_owned(), start, len }]).await;
        found.into_iter().next().flatten()
    }

    /// Of each piece its bytes, if they are held. They are to be verified as if they came from the store: their
    /// checksum tells only that they are what was put.
    pub(crate) async fn get_all(&self, pieces: Vec<Piece>) -> Vec<Option<Bytes>> {
        let nothing = vec![None; pieces.len()];
        let Some(open) = &self.0 else { return nothing };
        let bytes = pieces.iter().fold(0_u64, |bytes, piece| bytes.saturating_add(piece.len));
        let get = move |cache: &LocalCache| {
            pieces.iter().map(|piece| cache.get(&piece.key, piece.start, piece.len)).collect()
        };
        open.run(bytes <= IN_PLACE, get).await.unwrap_or(nothing)
    }

    /// Keeps pieces of objects, soon: nobody waits for it. What is over what may wait is not kept.
    pub(crate) fn put_all(&self, pieces: impl IntoIterator<Item = (String, u64, Bytes)>) {
        let Some(open) = &self.0 else { return };
        let mut queued: Option<OwnedSemaphorePermit> = None;
        let fits = |(_, _, bytes): &(String, u64, Bytes)| {
            let kib = u32::try_from(bytes.len().div_ceil(1 << 10)).unwrap_or(u32::MAX);
            let Ok(permit) = Arc::clone(&open.queue).try_acquire_many_owned(kib) else { return false };
            match &mut queued {
                Some(queued) => queued.merge(permit),
                None => queued = Some(permit),
            }
            true
        };
        let pieces: Vec<_> = pieces.into_iter().take_while(fits).collect();
        if pieces.is_empty() {
            return;
        }
        open.run_soon(move |cache| {
            for (key, start, bytes) in &pieces {
                cache.put(key, *start, bytes);
            }
            drop(queued);
        });
    }

    /// As [`LocalCache::forget`], of several objects.
    pub(crate) async fn forget(&self, keys: Vec<String>) {
        let Some(open) = &self.0 else { return };
        let forget = move |cache: &LocalCache| keys.iter().for_each(|key| cache.forget(key));
        open.run(false, forget).await;
    }

    /// Returns when what waits is written.
    pub(crate) async fn flush(&self) {
        let Some(open) = &self.0 else { return };
        let all = open.queue.acquire_many(QUEUED_KIB).await;
        open.run(false, LocalCache::flush).await;
        drop(all);
    }

    /// Nothing is held from now on, and the disk is not used any more when this returns.
    pub(crate) fn close(&self) {
        let closed = self.0.as_ref().and_then(|open| open.cache.write().take());
        if let Some(cache) = closed {
            cache.flush();
        }
    }
}

impl Open {
    /// Does something with the cache, unless it was closed.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        in_place: bool,
        work: impl FnOnce(&LocalCache) -> T + Send + 'static,
    ) -> Option<T> {
        let open = Arc::clone(self);
        let work = move || open.cache.read().as_ref().map(work);
        match self.blocking_threads().filter(|_| !in_place) {
            // One that panicked, or never began, did nothing that is needed.
            Some(runtime) => runtime.spawn_blocking(work).await.ok().flatten(),
            None => work(),
        }
    }

    fn run_soon(self: &Arc<Self>, work: impl FnOnce(&LocalCache) + Send + 'static) {
        let open = Arc::clone(self);
        let work = move || open.cache.read().as_ref().map(work);
        match self.blocking_threads() {
            Some(runtime) => drop(runtime.spawn_blocking(work)),
            None => _ = work(),
        }
    }

    fn blocking_threads(&self) -> Option<runtime::Handle> {
        runtime::Handle::try_current().ok().filter(|_| !self.one_thread)
    }
}
