//! Reads the bytes of files: from this machine where they are here, else from the store, each frame verified.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rfs_backends::Store;
use rfs_core::{Place, SegmentId};
use rfs_journal::{Footer, Residency};

use crate::objects::{StoredSegment, missing};
use crate::state::fetch_footer;
use crate::{Keys, RecoveryError};

/// The content of a volume.
#[derive(Debug)]
pub struct Content {
    store: Store,
    keys: Keys,
    residency: Arc<Residency>,
    segments: RwLock<BTreeMap<SegmentId, StoredSegment>>,
    footers: Mutex<Cache<SegmentId, Arc<Footer>>>,
    payloads: Mutex<Cache<(SegmentId, usize), Bytes>>,
}

impl Content {
    /// The content that lies in `segments` and in `residency`; up to `cache_bytes` of what comes from the store is
    /// kept in memory, and a quarter of that for the footers.
    #[must_use]
    pub fn new(
        store: Store,
        keys: Keys,
        residency: Arc<Residency>,
        segments: BTreeMap<SegmentId, StoredSegment>,
        cache_bytes: u64,
    ) -> Self {
        Self {
            store,
            keys,
            residency,
            segments: RwLock::new(segments),
            footers: Mutex::new(Cache::new(cache_bytes / 4)),
            payloads: Mutex::new(Cache::new(cache_bytes)),
        }
    }

    /// The `len` bytes at `place`, which lie in one frame.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, or the store's.
    pub async fn read(&self, place: Place, len: u64) -> Result<Bytes, RecoveryError> {
        if let Some(bytes) = self.residency.read(place, len)? {
            return Ok(bytes);
        }
        let stored = self.stored(place.segment)?;
        let footer = self.footer(&stored).await?;
        let damaged = || {
            let what =
                format!("no frame of segment {} holds {len} bytes at {}", place.segment, place.position);
            crate::envelope::damaged(self.store.url(), &stored.key, &what)
        };
        let (number, frame) = footer.frame_at(place.position).ok_or_else(damaged)?;
        let cached = self.payloads.lock().get(&(place.segment, number));
        let payload = if let Some(payload) = cached {
            payload
        } else {
            let start = stored.offset + frame.payload_start();
            let payload = self.fetch(&stored, start, u64::from(frame.payload_len)).await?;
            if !frame.has_payload(&payload) {
                let what = format!("the frame at byte {} does not have its checksum", frame.position);
                return Err(crate::envelope::damaged(self.store.url(), &stored.key, &what));
            }
            // A store in memory gives a part of the whole object, which would stay for as long as it is cached.
            let payload = Bytes::copy_from_slice(&payload);
            let bytes = payload.len() as u64;
            self.payloads.lock().insert((place.segment, number), payload.clone(), bytes);
            payload
        };
        let start = (place.position - frame.payload_start()) as usize;
        let end = start.checked_add(usize::try_from(len).map_err(|_| damaged())?).ok_or_else(damaged)?;
        if end > payload.len() {
            return Err(damaged());
        }
        Ok(payload.slice(start..end))
    }

    /// Segments were committed: this is where they are.
    pub fn add(&self, stored: impl IntoIterator<Item = StoredSegment>) {
        self.segments.write().extend(stored.into_iter().map(|stored| (stored.header.id, stored)));
    }

    /// Objects were collected, and the segments in them with them.
    pub fn forget(&self, collected: &BTreeSet<String>) {
        self.segments.write().retain(|_, stored| !collected.contains(&stored.key));
    }

    /// Of the segments up to and with `last`, only those in these objects are left.
    pub fn keep(&self, left: &BTreeSet<String>, last: SegmentId) {
        self.segments.write().retain(|id, stored| *id > last || left.contains(&stored.key));
    }

    /// Where the history's segments are, in order, as far as they are kept.
    #[must_use]
    pub fn segments(&self) -> Vec<StoredSegment> {
        self.segments.read().values().cloned().collect()
    }

    /// The footer of a stored segment, fetched once.
    ///
    /// # Errors
    /// As [`Content::read`].
    pub async fn footer(&self, stored: &StoredSegment) -> Result<Arc<Footer>, RecoveryError> {
        let id = stored.header.id;
        if let Some(sealed) = self.residency.sealed(id).filter(|sealed| sealed.hash == stored.hash) {
            return Ok(sealed.footer);
        }
        if let Some(footer) = self.footers.lock().get(&id) {
            return Ok(footer);
        }
        let footer = Arc::new(fetch_footer(&self.store, self.keys, stored).await?);
        self.footers.lock().insert(id, Arc::clone(&footer), u64::from(stored.footer_len));
        Ok(footer)
    }

    /// `len` bytes of a stored segment's object from `start` on.
    pub(crate) async fn fetch(
        &self,
        stored: &StoredSegment,
        start: u64,
        len: u64,
    ) -> Result<Bytes, RecoveryError> {
        let got = self.store.get_range(&stored.key, start..start + len).await;
        got.map_err(|error| missing(&self.store, &stored.key, error))
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    fn stored(&self, id: SegmentId) -> Result<StoredSegment, RecoveryError> {
        let stored = self.segments.read().get(&id).cloned();
        stored.ok_or_else(|| RecoveryError::Missing {
            store: self.store.url().to_owned(),
            key: format!("{} (segment {id})", self.keys.segments()),
        })
    }
}

/// What came from the store, the oldest let go first.
#[derive(Debug)]
struct Cache<K, V> {
    budget: u64,
    bytes: u64,
    values: HashMap<K, (V, u64)>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    fn new(budget: u64) -> Self {
        Self { budget, bytes: 0, values: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    fn insert(&mut self, key: K, value: V, bytes: u64) {
        if self.values.contains_key(&key) {
            return;
        }
        self.bytes += bytes;
        self.order.push_back(key);
        self.values.insert(key, (value, bytes));
        while self.bytes > self.budget
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some((_, bytes)) = self.values.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
    }
}
