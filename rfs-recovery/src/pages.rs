//! Fetches the pages that a tree is missing, verifies them and puts them in place.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use rfs_backends::Store;
use rfs_core::{
    ApplyError, Cookie, Entry, EntryKey, Extent, Ino, Inode, Key, Missing, Name, NodeParts, PageObject,
    PageRef, SegmentId, Tree, Unfit, Value, XattrName, XattrValue,
};
use rfs_journal::Record;

use crate::cache::Cache;
use crate::local_cache::{CacheHandle, LocalCache, Piece};
use crate::objects::{StoredSegment, missing};
use crate::page::{Column, Paged, decode_page};
use crate::{Home, Keys, Lineage, RecoveryError, envelope};

/// How many requests for pages are under way at a time.
const FETCHES: usize = 16;
/// Pages that are so close to each other, in bytes, are fetched together.
const GAP: u64 = 8 << 10;
/// Most bytes of pages that are fetched together.
const TOGETHER: u64 = 1 << 20;
/// Of how many records that come next the pages are looked for, when one misses a page.
const AHEAD: usize = 1024;
/// How many pages are read from the local disk at once.
const LOCAL: usize = 256;
/// How many missing pages are looked for at once: looking takes time in proportion to what is loaded.
const AT_ONCE: usize = 4096;

/// Most bytes of what is read at once: of the head of an image, which is longer than any page.
pub const READ_MAX: u32 = 64 << 20;

/// Where the pages of a volume come from.
#[derive(Clone, Debug)]
pub struct Pages {
    lineage: Lineage,
    /// Pages as they are stored, verified.
    cache: Arc<Mutex<Cache<PageRef, Bytes>>>,
    /// Pieces of the store's objects, on the local disk.
    local: CacheHandle,
}

impl Pages {
    /// The pages of a volume; up to `cache_bytes` of them are kept as they are stored.
    #[must_use]
    pub fn new(lineage: Lineage, cache_bytes: u64) -> Self {
        Self { lineage, cache: Arc::new(Mutex::new(Cache::new(cache_bytes))), local: CacheHandle::default() }
    }

    /// What is fetched from the store, pages and content, is looked for in this cache first, and kept there. What it
    /// gives is verified as if the store had given it. `one_thread`: all of it is done by the tasks themselves.
    #[must_use]
    pub fn with_local_cache(mut self, cache: LocalCache, one_thread: bool) -> Self {
        self.local = CacheHandle::new(cache, one_thread);
        self
    }

    /// Returns when everything that is to be kept is in the local cache.
    pub async fn flush_local_cache(&self) {
        self.local.flush().await;
    }

    /// The local cache is not used any more, by these pages or their clones: it let go of its disk when this returns.
    pub fn close_local_cache(&self) {
        self.local.close();
    }

    /// The local cache; it may be none.
    pub(crate) const fn local(&self) -> &CacheHandle {
        &self.local
    }

    /// Asks until no page is missing any more, and fetches each one that is.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `UnknownFormat`, or the store's.
    pub async fn ask<T>(&self, mut ask: impl FnMut() -> Result<T, Missing>) -> Result<T, RecoveryError> {
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(missing) => self.load(&missing).await?,
            }
        }
    }

    /// Fetches all pages of a tree that are missing, several at a time.
    ///
    /// # Errors
    /// As [`Pages::load`].
    pub async fn load_all(&self, tree: &Tree) -> Result<(), RecoveryError> {
        loop {
            let missing = tree.missing_pages(AT_ONCE);
            if missing.is_empty() {
                return Ok(());
            }
            self.load_some(missing.iter().flat_map(Missing::all)).await?;
        }
    }

    /// Fetches a missing page, and those that are known to be needed with it, and puts them in place.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `UnknownFormat`, or the store's.
    pub async fn load(&self, missing: &Missing) -> Result<(), RecoveryError> {
        self.load_some(missing.all()).await
    }

    /// Fetches pages, several at a time, and those that lie close to each other together.
    async fn load_some(&self, missing: impl IntoIterator<Item = &Missing>) -> Result<(), RecoveryError> {
        let mut wanted = Vec::new();
        for missing in missing {
            let cached = self.cache.lock().get(&missing.page());
            match cached {
                Some(bytes) => self.put_in_place(missing, &bytes)?,
                None => wanted.push(missing),
            }
        }
        let wanted = self.load_local(wanted).await?;
        let mut loads = FuturesUnordered::new();
        for run in close_together(wanted) {
            if loads.len() == FETCHES {
                loads.try_next().await?;
            }
            loads.push(async move { self.load_run(&run).await });
        }
        while loads.try_next().await?.is_some() {}
        Ok(())
    }

    /// Puts those pages in place that are on the local disk, and gives the others.
    async fn load_local<'a>(&self, wanted: Vec<&'a Missing>) -> Result<Vec<&'a Missing>, RecoveryError> {
        if !self.local.is_some() {
            return Ok(wanted);
        }
        let mut others = Vec::new();
        for wanted in wanted.chunks(LOCAL) {
            let pages: Vec<PageRef> = wanted.iter().map(|missing| missing.page()).collect();
            for (missing, found) in wanted.iter().zip(self.find_local(&pages).await) {
                match found {
                    Some(bytes) => self.put_in_place(missing, &bytes)?,
                    None => others.push(*missing),
                }
            }
        }
        Ok(others)
    }

    /// Of each page its bytes, verified, if they are on the local disk.
    async fn find_local(&self, pages: &[PageRef]) -> Vec<Option<Bytes>> {
        let pieces = pages.iter().map(|page| {
            let key = self.lineage.page_key(page.object);
            Piece { key, start: u64::from(page.offset), len: u64::from(page.len) }
        });
        let mut found = self.local.get_all(pieces.collect()).await;
        for (page, found) in pages.iter().zip(&mut found) {
            match found {
                Some(bytes) if crate::page::page_hash(bytes) == page.hash => self.keep(page, bytes),
                Some(_) => {
                    *found = None;
                    self.local.forget(vec![self.lineage.page_key(page.object)]).await;
                }
                None => {}
            }
        }
        found
    }

    /// Keeps the bytes of pages on the local disk.
    pub(crate) fn keep_local(&self, pages: impl IntoIterator<Item = (PageRef, Bytes)>) {
        if self.local.is_some() {
            let piece = |(page, bytes): (PageRef, Bytes)| {
                (self.lineage.page_key(page.object), u64::from(page.offset), bytes)
            };
            self.local.put_all(pages.into_iter().map(piece));
        }
    }

    /// Fetches pages of one object that lie close to each other.
    async fn load_run(&self, run: &[&Missing]) -> Result<(), RecoveryError> {
        let Some(range) = range_of(run).filter(|_| run.len() > 1) else {
            for missing in run {
                self.put_in_place(missing, &self.fetch(&missing.page()).await?)?;
            }
            return Ok(());
        };
        let object = run[0].page().object;
        let Home { store, keys } = self.lineage.of_epoch(object.epoch);
        let together = store.get_range(&keys.pages_of(object), range.clone()).await;
        let mut fetched = Vec::new();
        for missing in run {
            let page = missing.page();
            let start = (u64::from(page.offset) - range.start) as usize;
            let bytes = together.as_ref().ok().and_then(|bytes| bytes.get(start..start + page.len as usize));
            let bytes = match bytes {
                Some(bytes) if crate::page::page_hash(bytes) == page.hash => {
                    self.keep(&page, bytes);
                    let bytes = Bytes::copy_from_slice(bytes);
                    fetched.push((page, bytes.clone()));
                    bytes
                }
                // What is wrong with it is told by reading it alone.
                _ => self.fetch(&page).await?,
            };
            self.put_in_place(missing, &bytes)?;
        }
        self.keep_local(fetched);
        Ok(())
    }

    fn put_in_place(&self, missing: &Missing, bytes: &[u8]) -> Result<(), RecoveryError> {
        let filled = self.fill::<Ino, Inode>(missing, bytes)?
            || self.fill::<EntryKey, Entry>(missing, bytes)?
            || self.fill::<(Ino, Cookie), Name>(missing, bytes)?
            || self.fill::<(Ino, Ino, Cookie), ()>(missing, bytes)?
            || self.fill::<(Ino, u64), Extent>(missing, bytes)?
            || self.fill::<(Ino, XattrName), XattrValue>(missing, bytes)?
            || self.fill::<SegmentId, u64>(missing, bytes)?
            || self.fill::<SegmentId, StoredSegment>(missing, bytes)?
            || self.fill::<PageObject, u64>(missing, bytes)?;
        debug_assert!(filled, "every map that is stored has pages of its own");
        Ok(())
    }

    /// Applies records of the journal to a tree, with the pages that they need. The inner error is that one does not
    /// fit: the tree is as those before it leave it.
    ///
    /// # Errors
    /// As [`Pages::load`].
    pub async fn apply<'a>(
        &self,
        tree: &mut Tree,
        records: &'a [Record],
    ) -> Result<Result<(), (&'a Record, ApplyError)>, RecoveryError> {
        let mut rest = records;
        while let [record, later @ ..] = rest {
            match tree.apply(&record.change, record.place) {
                Ok(()) => rest = later,
                Err(error) => match error.missing() {
                    Some(missing) => self.load(&ahead(tree, missing, later)).await?,
                    None => return Ok(Err((record, error))),
                },
            }
        }
        Ok(Ok(()))
    }

    /// The bytes of a page, verified.
    ///
    /// # Errors
    /// As [`Pages::load`].
    pub async fn read(&self, page: &PageRef) -> Result<Bytes, RecoveryError> {
        if let Some(bytes) = self.cache.lock().get(page) {
            return Ok(bytes);
        }
        match self.find_local(&[*page]).await.pop().flatten() {
            Some(bytes) => Ok(bytes),
            None => self.fetch(page).await,
        }
    }

    /// The bytes of a page from the store, verified.
    async fn fetch(&self, page: &PageRef) -> Result<Bytes, RecoveryError> {
        if page.len == 0 || page.len > READ_MAX {
            return Err(self.damaged(page, "is longer than a page can be, or empty"));
        }
        let Home { store, keys } = self.lineage.of_epoch(page.object.epoch);
        let key = keys.pages_of(page.object);
        let range = u64::from(page.offset)..u64::from(page.offset) + u64::from(page.len);
        let bytes = store.get_range(&key, range).await;
        let bytes = bytes.map_err(|error| missing(&store, &key, error))?;
        if crate::page::page_hash(&bytes) != page.hash {
            return Err(self.damaged(page, "does not have its checksum"));
        }
        self.keep(page, &bytes);
        self.keep_local([(*page, bytes.clone())]);
        Ok(bytes)
    }

    /// Keeps the bytes of a page that are known already in memory.
    pub(crate) fn keep(&self, page: &PageRef, bytes: &[u8]) {
        // A part of a larger piece would hold all of it for as long as it is cached.
        self.cache.lock().insert(*page, Bytes::copy_from_slice(bytes), bytes.len() as u64);
    }

    /// Where they are.
    #[must_use]
    pub const fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The volume's own store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.lineage.store()
    }

    /// The names of the volume's own objects.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.lineage.keys()
    }

    pub(crate) fn damaged(&self, page: &PageRef, what: &str) -> RecoveryError {
        let place = format!("the {page} {what}");
        let Home { store, keys } = self.lineage.of_epoch(page.object.epoch);
        envelope::damaged(store.url(), &keys.pages_of(page.object), &place)
    }

    fn fill<K: Key + Paged<V>, V: Value + Column>(
        &self,
        missing: &Missing,
        bytes: &[u8],
    ) -> Result<bool, RecoveryError> {
        if !missing.is_of::<K, V>() {
            return Ok(false);
        }
        let page = missing.page();
        let parts: NodeParts<K, V> =
            decode_page(bytes, &page).map_err(|error| self.damaged(&page, &error.to_string()))?;
        let unfit = |error: Unfit| self.damaged(&page, &error.to_string());
        missing.fill(parts).map_err(unfit)?;
        Ok(true)
    }
}

/// What is missing of a tree, with what the records that come `later` miss. A tree without the record that missed a page
/// may not have what they change: that is seen when it is there.
fn ahead(tree: &Tree, missing: &Missing, later: &[Record]) -> Missing {
    let mut tree = tree.clone();
    let mut all = missing.clone();
    for record in later.iter().take(AHEAD) {
        if all.is_many() {
            break;
        }
        let applied = tree.apply(&record.change, record.place);
        if let Some(missing) = applied.as_ref().err().and_then(ApplyError::missing) {
            all = Missing::of_all([all, missing.clone()]).unwrap_or_else(|| missing.clone());
        }
    }
    all
}

/// Puts pages that lie close to each other in one object together.
fn close_together(mut pages: Vec<&Missing>) -> Vec<Vec<&Missing>> {
    pages.sort_by_key(|missing| missing.page());
    let mut runs: Vec<Vec<&Missing>> = Vec::new();
    let mut range = 0..0;
    for missing in pages {
        let page = missing.page();
        let end = end_of(&page).max(range.end);
        match runs.last_mut() {
            Some(run)
                if run[0].page().object == page.object
                    && u64::from(page.offset) <= range.end + GAP
                    && end - range.start <= TOGETHER =>
            {
                run.push(missing);
                range.end = end;
            }
            _ => {
                runs.push(vec![missing]);
                range = u64::from(page.offset)..end_of(&page);
            }
        }
    }
    runs
}

/// The bytes that pages of one object lie in; none if one of them cannot be a page.
fn range_of(run: &[&Missing]) -> Option<Range<u64>> {
    let sound = |page: &PageRef| page.len > 0 && page.len <= READ_MAX;
    let pages = || run.iter().map(|missing| missing.page());
    let (start, end) = (pages().map(|page| page.offset).min()?, pages().map(|page| end_of(&page)).max()?);
    pages().all(|page| sound(&page)).then_some(u64::from(start)..end)
}

fn end_of(page: &PageRef) -> u64 {
    u64::from(page.offset) + u64::from(page.len)
}
