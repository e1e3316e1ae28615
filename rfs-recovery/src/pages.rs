//! Fetches the pages that a tree is missing, verifies them and puts them in place.

use std::collections::BTreeMap;
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
use crate::objects::{StoredSegment, missing};
use crate::page::{Column, Paged, decode_page};
use crate::{Home, Keys, Lineage, RecoveryError, envelope};

/// How many pages are fetched at a time.
const FETCHES: usize = 16;
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
}

impl Pages {
    /// The pages of a volume; up to `cache_bytes` of them are kept as they are stored.
    #[must_use]
    pub fn new(lineage: Lineage, cache_bytes: u64) -> Self {
        Self { lineage, cache: Arc::new(Mutex::new(Cache::new(cache_bytes))) }
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
            self.load_some(missing).await?;
        }
    }

    /// Fetches the pages that these inodes are in, several at a time.
    ///
    /// # Errors
    /// As [`Pages::load`].
    pub async fn load_inodes(&self, tree: &Tree, inodes: &[Ino]) -> Result<(), RecoveryError> {
        loop {
            let missing = inodes.iter().filter_map(|ino| tree.inode(*ino).err());
            let missing: BTreeMap<PageRef, Missing> =
                missing.map(|missing| (missing.page(), missing)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            self.load_some(missing.into_values()).await?;
        }
    }

    async fn load_some(&self, missing: impl IntoIterator<Item = Missing>) -> Result<(), RecoveryError> {
        let mut loads = FuturesUnordered::new();
        for missing in missing {
            if loads.len() == FETCHES {
                loads.try_next().await?;
            }
            loads.push(async move { self.load(&missing).await });
        }
        while loads.try_next().await?.is_some() {}
        Ok(())
    }

    /// Fetches a missing page and puts it in place.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `UnknownFormat`, or the store's.
    pub async fn load(&self, missing: &Missing) -> Result<(), RecoveryError> {
        let bytes = self.read(&missing.page()).await?;
        let filled = self.fill::<Ino, Inode>(missing, &bytes)?
            || self.fill::<EntryKey, Entry>(missing, &bytes)?
            || self.fill::<(Ino, Cookie), Name>(missing, &bytes)?
            || self.fill::<(Ino, Ino, Cookie), ()>(missing, &bytes)?
            || self.fill::<(Ino, u64), Extent>(missing, &bytes)?
            || self.fill::<(Ino, XattrName), XattrValue>(missing, &bytes)?
            || self.fill::<SegmentId, u64>(missing, &bytes)?
            || self.fill::<SegmentId, StoredSegment>(missing, &bytes)?
            || self.fill::<PageObject, u64>(missing, &bytes)?;
        debug_assert!(filled, "every map that is stored has pages of its own");
        Ok(())
    }

    /// Applies a record of the journal to a tree, with the pages that it needs. The inner error is that it does not fit.
    ///
    /// # Errors
    /// As [`Pages::load`].
    pub async fn apply(
        &self,
        tree: &mut Tree,
        record: &Record,
    ) -> Result<Result<(), ApplyError>, RecoveryError> {
        loop {
            match tree.apply(&record.change, record.place) {
                Err(error) => match error.missing() {
                    Some(missing) => self.load(missing).await?,
                    None => return Ok(Err(error)),
                },
                Ok(()) => return Ok(Ok(())),
            }
        }
    }

    /// The bytes of a page, verified.
    ///
    /// # Errors
    /// As [`Pages::load`].
    pub async fn read(&self, page: &PageRef) -> Result<Bytes, RecoveryError> {
        if let Some(bytes) = self.cache.lock().get(page) {
            return Ok(bytes);
        }
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
        Ok(bytes)
    }

    /// Keeps the bytes of a page that are known already.
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
