//! Reads the bytes of files: from this machine where they are here, else from the store, each frame verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rfs_core::{Lacking, Lsn, Map, Missing, NotLoaded, PageRef, Place, SegmentId};
use rfs_journal::{Footer, FrameInfo, Residency};

use crate::cache::Cache;
use crate::objects::{StoredSegment, missing};
use crate::state::{decode_footer, footer_range};
use crate::{Pages, RecoveryError};

/// The content of a volume.
#[derive(Debug)]
pub struct Content {
    pages: Pages,
    residency: Arc<Residency>,
    segments: RwLock<Map<SegmentId, StoredSegment>>,
    /// Those that are not in the map yet.
    added: RwLock<BTreeMap<SegmentId, StoredSegment>>,
    footers: Mutex<Cache<SegmentId, Arc<Footer>>>,
    payloads: Mutex<Cache<(SegmentId, usize), Bytes>>,
    /// Held by who fetches a footer or a frame. Which one it is follows from the number, so some share one.
    turns: Box<[tokio::sync::Mutex<()>; TURNS]>,
}

const TURNS: usize = 64;

impl Content {
    /// The content that lies in `segments` and in `residency`; up to `cache_bytes` of what comes from the store is
    /// kept in memory, and a quarter of that for the footers.
    #[must_use]
    pub fn new(
        pages: Pages,
        residency: Arc<Residency>,
        segments: Map<SegmentId, StoredSegment>,
        cache_bytes: u64,
    ) -> Self {
        Self {
            pages,
            residency,
            segments: RwLock::new(segments),
            added: RwLock::default(),
            footers: Mutex::new(Cache::new(cache_bytes / 4)),
            payloads: Mutex::new(Cache::new(cache_bytes)),
            turns: Box::new(std::array::from_fn(|_| tokio::sync::Mutex::default())),
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
        let stored = self.stored(place.segment).await?;
        let footer = self.footer(&stored).await?;
        let damaged = || {
            let what =
                format!("no frame of segment {} holds {len} bytes at {}", place.segment, place.position);
            self.damaged(&stored, &what)
        };
        let (number, frame) = footer.frame_at(place.position).ok_or_else(damaged)?;
        let payload = self.payload(&stored, number, frame).await?;
        let start = (place.position - frame.payload_start()) as usize;
        let end = start.checked_add(usize::try_from(len).map_err(|_| damaged())?).ok_or_else(damaged)?;
        if end > payload.len() {
            return Err(damaged());
        }
        Ok(payload.slice(start..end))
    }

    /// Has the frame that the byte at `place` is in in memory, as far as there is room, for who reads it next.
    ///
    /// # Errors
    /// As [`Content::read`].
    pub async fn read_ahead(&self, place: Place) -> Result<(), RecoveryError> {
        if self.residency.has(place) {
            return Ok(());
        }
        let stored = self.stored(place.segment).await?;
        let footer = self.footer(&stored).await?;
        if let Some((number, frame)) = footer.frame_at(place.position) {
            self.payload(&stored, number, frame).await?;
        }
        Ok(())
    }

    /// The payload of a frame of a stored segment.
    async fn payload(
        &self,
        stored: &StoredSegment,
        number: usize,
        frame: &FrameInfo,
    ) -> Result<Bytes, RecoveryError> {
        let id = (stored.header.id, number);
        if let Some(payload) = self.payloads.lock().get(&id) {
            return Ok(payload);
        }
        let _turn = self.turn(id).await;
        if let Some(payload) = self.payloads.lock().get(&id) {
            return Ok(payload);
        }
        let start = stored.offset + frame.payload_start();
        let len = u64::from(frame.payload_len);
        let sound = |payload: &Bytes| frame.has_payload(payload).then(|| payload.clone());
        let payload = match self.find_local(stored, start, len, sound).await {
            Some(payload) => payload,
            None => self.fetch_payload(stored, frame).await?,
        };
        self.payloads.lock().insert(id, payload.clone(), payload.len() as u64);
        Ok(payload)
    }

    /// Only one who needs a piece fetches it; the others wait, and then find it in memory.
    async fn turn(&self, (id, number): (SegmentId, usize)) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[(id.0 as usize).wrapping_mul(31).wrapping_add(number) % TURNS].lock().await
    }

    async fn fetch_payload(&self, stored: &StoredSegment, frame: &FrameInfo) -> Result<Bytes, RecoveryError> {
        let start = stored.offset + frame.payload_start();
        let payload = self.fetch(stored, start, u64::from(frame.payload_len)).await?;
        if !frame.has_payload(&payload) {
            let what = format!("the frame at byte {} does not have its checksum", frame.position);
            return Err(self.damaged(stored, &what));
        }
        // A store in memory gives a part of the whole object, which would stay for as long as it is cached.
        let payload = Bytes::copy_from_slice(&payload);
        self.keep_local(stored, start, &payload);
        Ok(payload)
    }

    /// What `check` makes of a piece of a segment's object that is on the local disk. When that is nothing, the piece is
    /// not what it should be, and nothing of the object is believed any more.
    async fn find_local<T>(
        &self,
        stored: &StoredSegment,
        start: u64,
        len: u64,
        check: impl Fn(&Bytes) -> Option<T>,
    ) -> Option<T> {
        let local = self.pages.local();
        let found = check(&local.get(&stored.key, start, len).await?);
        if found.is_none() {
            local.forget(vec![stored.key.clone()]).await;
        }
        found
    }

    fn keep_local(&self, stored: &StoredSegment, start: u64, bytes: &Bytes) {
        self.pages.local().put_all([(stored.key.clone(), start, bytes.clone())]);
    }

    /// Segments were committed: this is where they are.
    pub fn add(&self, stored: impl IntoIterator<Item = StoredSegment>) {
        self.added.write().extend(stored.into_iter().map(|stored| (stored.header.id, stored)));
    }

    /// The map of where the history's segments are, with those that were added.
    ///
    /// # Errors
    /// As [`Content::read`], for a page of the map.
    pub async fn settle(&self) -> Result<Map<SegmentId, StoredSegment>, RecoveryError> {
        loop {
            let next = self.added.read().first_key_value().map(|(id, stored)| (*id, stored.clone()));
            let Some((id, stored)) = next else { return Ok(self.segments.read().clone()) };
            self.change(id, |segments| segments.insert(id, stored.clone()).map(drop)).await?;
            self.added.write().remove(&id);
        }
    }

    /// Segments were collected.
    ///
    /// # Errors
    /// As [`Content::settle`].
    pub async fn forget(&self, collected: &[SegmentId]) -> Result<(), RecoveryError> {
        for id in collected {
            self.added.write().remove(id);
            self.change(*id, |segments| segments.remove(id).map(drop)).await?;
        }
        Ok(())
    }

    /// Of the segments up to and with `last`, only those in these objects are left.
    ///
    /// # Errors
    /// As [`Content::settle`].
    pub async fn keep(&self, left: &BTreeSet<String>, last: SegmentId) -> Result<(), RecoveryError> {
        let all = self.all().await?;
        let gone = all.iter().filter(|stored| stored.header.id <= last && !left.contains(&stored.key));
        let gone: Vec<SegmentId> = gone.map(|stored| stored.header.id).collect();
        self.forget(&gone).await
    }

    /// Where the history's segments are, in order, as far as they are kept.
    ///
    /// # Errors
    /// As [`Content::settle`].
    pub async fn all(&self) -> Result<Vec<StoredSegment>, RecoveryError> {
        let segments = self.settle().await?;
        let all = || segments.iter().map(|pair| pair.map(|(_, stored)| stored.clone())).collect();
        self.pages.ask(all).await
    }

    /// Pages of the map of segments that are `unwanted` are stored again by the next image.
    ///
    /// # Errors
    /// As [`Content::settle`].
    pub async fn forget_pages(
        &self,
        unwanted: &(dyn Fn(&PageRef) -> bool + Sync),
    ) -> Result<(), RecoveryError> {
        self.pages.ask(|| self.segments.write().forget_pages(&unwanted).map(drop)).await
    }

    /// The first segment that is, or may be, another one in two volumes, although it has the same number: both went on from
    /// a common state.
    ///
    /// # Errors
    /// As [`Content::settle`].
    pub async fn parts_from(&self, other: &Self) -> Result<SegmentId, RecoveryError> {
        let (own, others) = (self.settle().await?, other.settle().await?);
        let mut from = None;
        loop {
            let next = own.since_from(&others, from).next().transpose();
            let found = match next {
                Ok(None) => break,
                Ok(Some(found)) => found,
                Err(Lacking::New(missing)) => {
                    self.pages.load(&missing).await?;
                    continue;
                }
                Err(Lacking::Old(missing)) => {
                    other.pages.load(&missing).await?;
                    continue;
                }
            };
            if let (Some(own), Some(other)) = (found.new, found.old)
                && (own.hash, own.header) != (other.hash, other.header)
            {
                return Ok(*found.key);
            }
            from = Some(found.key.next());
        }
        // What is not committed yet is numbered on, too.
        let own = self.pages.ask(|| last(&own)).await?;
        let others = other.pages.ask(|| last(&others)).await?;
        Ok(own.min(others))
    }

    /// The segment whose records begin at this position or before, and, of these, the last one.
    pub(crate) async fn segment_at(&self, at: Lsn) -> Result<Option<StoredSegment>, RecoveryError> {
        let segments = self.settle().await?;
        let find = || {
            let Some((&first, _)) = segments.iter().next().transpose()? else { return Ok(None) };
            let Some((_, last)) = segments.at_or_before(&SegmentId(u64::MAX))? else { return Ok(None) };
            let mut found = None;
            // Numbers ascend as positions do.
            let (mut low, mut high) = (first.0, last.header.id.0);
            while low <= high {
                let middle = low + (high - low) / 2;
                let Some((id, stored)) = segments.at_or_before(&SegmentId(middle))? else { break };
                if stored.header.base <= at {
                    found = Some(stored.clone());
                    low = middle + 1;
                } else {
                    let Some(before) = id.0.checked_sub(1) else { break };
                    high = before;
                }
            }
            Ok(found)
        };
        self.pages.ask(find).await
    }

    /// Lets go of pages of the map of segments that nobody needed since this was last done.
    pub fn evict(&self) {
        let mut segments = self.segments.write();
        segments.evict();
        segments.age();
    }

    async fn change(
        &self,
        id: SegmentId,
        change: impl Fn(&mut Map<SegmentId, StoredSegment>) -> Result<(), NotLoaded>,
    ) -> Result<(), RecoveryError> {
        let changed = || {
            let mut segments = self.segments.write();
            segments.load(&id)?;
            change(&mut segments).expect("the page was loaded under the same lock");
            Ok(())
        };
        self.pages.ask(changed).await
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
        let _turn = self.turn((id, usize::MAX)).await;
        if let Some(footer) = self.footers.lock().get(&id) {
            return Ok(footer);
        }
        let range = footer_range(stored);
        let len = range.end - range.start;
        let decode = |tail: &Bytes| decode_footer(self.pages.lineage(), stored, tail);
        let footer = match self.find_local(stored, range.start, len, |tail| decode(tail).ok()).await {
            Some(footer) => footer,
            None => {
                let tail = self.fetch(stored, range.start, len).await?;
                let footer = decode(&tail)?;
                self.keep_local(stored, range.start, &tail);
                footer
            }
        };
        let footer = Arc::new(footer);
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
        let store = self.pages.lineage().of_key(&stored.key).store;
        let got = store.get_range(&stored.key, start..start + len).await;
        got.map_err(|error| missing(&store, &stored.key, error))
    }

    pub(crate) const fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(crate) fn damaged(&self, stored: &StoredSegment, what: &str) -> RecoveryError {
        let store = self.pages.lineage().of_key(&stored.key).store;
        crate::envelope::damaged(store.url(), &stored.key, what)
    }

    async fn stored(&self, id: SegmentId) -> Result<StoredSegment, RecoveryError> {
        if let Some(stored) = self.added.read().get(&id) {
            return Ok(stored.clone());
        }
        let stored = self.pages.ask(|| Ok(self.segments.read().get(&id)?.cloned())).await?;
        stored.ok_or_else(|| RecoveryError::Missing {
            store: self.pages.store().url().to_owned(),
            key: format!("{} (segment {id})", self.pages.keys().segments()),
        })
    }
}

/// The number after the last segment's.
fn last(segments: &Map<SegmentId, StoredSegment>) -> Result<SegmentId, Missing> {
    let last = segments.at_or_before(&SegmentId(u64::MAX))?;
    Ok(last.map_or(SegmentId(0), |(id, _)| id.next()))
}
