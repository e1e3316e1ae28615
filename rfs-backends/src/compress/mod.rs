//! Compressed objects: those whose names end in `.z`, as one knows it of files. The name decides, whoever reads and with
//! whatever options.
//!
//! Compression comes before sealing: what is encrypted cannot be compressed.

mod blocks;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use self::blocks::{CONTENT_LEN, Table, Writer, table_end};
use crate::classify::Failure;
use crate::store::Inner;
use crate::{StoreError, StoreErrorKind};

/// What the names of compressed objects end in.
pub const COMPRESSED_SUFFIX: &str = ".z";
/// So much of an object is read to begin with: the table of up to 32 MiB of content.
const FIRST_READ: u64 = 4 << 10;
/// So many blocks are compressed or decompressed before others may go on: some milliseconds' worth.
const BLOCKS_AT_ONCE: usize = 16;
/// Tables of so many blocks are kept: of 8 GiB of content.
const KEPT_BLOCKS: usize = 1 << 17;

/// Whether the object of this name is compressed; then its size, as listings tell it, is not that of its content.
///
/// ```
/// assert!(rfs_backends::is_compressed("segments/1.z"));
/// assert!(!rfs_backends::is_compressed("segments/1"));
/// ```
#[must_use]
pub fn is_compressed(key: &str) -> bool {
    key.ends_with(COMPRESSED_SUFFIX)
}

/// The tables that were read.
#[derive(Default)]
pub(crate) struct Tables(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    tables: BTreeMap<String, Arc<Table>>,
    blocks: usize,
}

impl Tables {
    fn get(&self, key: &str) -> Option<Arc<Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tables.get(key).cloned()
    }

    fn keep(&self, key: &str, table: &Arc<Table>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.blocks.saturating_add(table.weight()) > KEPT_BLOCKS {
            *kept = Kept::default();
        }
        if kept.tables.insert(key.to_owned(), Arc::clone(table)).is_none() {
            kept.blocks += table.weight();
        }
    }

    fn forget(&self, key: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = kept.tables.remove(key) {
            kept.blocks = kept.blocks.saturating_sub(table.weight());
        }
    }
}

impl Inner {
    /// The bytes to be put, compressed if the name says so.
    pub(crate) async fn compressed(
        &self,
        doing: &'static str,
        key: &str,
        chunks: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, StoreError> {
        if !is_compressed(key) {
            return Ok(chunks);
        }
        self.tables.forget(key);
        let mut writer = Writer::default();
        let mut block = Vec::new();
        let mut since = 0;
        for mut chunk in chunks {
            while !chunk.is_empty() {
                let piece = chunk.split_to(chunk.len().min(CONTENT_LEN - block.len()));
                if block.is_empty() && piece.len() == CONTENT_LEN {
                    writer.push(&piece);
                } else {
                    block.extend_from_slice(&piece);
                    if block.len() < CONTENT_LEN {
                        continue;
                    }
                    writer.push(&block);
                    block.clear();
                }
                since += 1;
                if since == BLOCKS_AT_ONCE {
                    since = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
        if !block.is_empty() {
            writer.push(&block);
        }
        let too_long = || {
            let failure =
                Failure::last(StoreErrorKind::TooLarge, "it has over 64 GiB, which no compressed object has");
            self.call(doing, key, 0).fail(failure)
        };
        writer.finish().ok_or_else(too_long)
    }

    /// The content of a whole object.
    pub(crate) async fn decompressed(&self, key: &str, object: Bytes) -> Result<Bytes, StoreError> {
        if !is_compressed(key) {
            return Ok(object);
        }
        let table = self.table_of(key, &object)?;
        let range = 0..table.content_len();
        if table.end() != object.len() as u64 {
            return Err(self.damaged(key, "it is cut, or longer than its table says"));
        }
        let Some(stored) = table.stored(&range) else { return Ok(Bytes::new()) };
        let opened =
            self.opened(key, &table, range, stored.start, object.slice(stored.start as usize..)).await?;
        self.tables.keep(key, &Arc::new(table));
        Ok(opened)
    }

    /// As [`Inner::decompressed`], of an object that is damaged: zeros stand for the blocks that do not open.
    pub(crate) fn salvage_decompressed(&self, key: &str, object: Bytes) -> Result<Bytes, StoreError> {
        if is_compressed(key) { Ok(self.table_of(key, &object)?.salvage(&object).into()) } else { Ok(object) }
    }

    /// The table of a whole object, if its content is none that is too large.
    fn table_of(&self, key: &str, object: &[u8]) -> Result<Table, StoreError> {
        let table = Table::decode(object).map_err(|detail| self.damaged(key, &detail))?;
        if table.content_len() > self.options.max_object_bytes {
            let failure = self.too_large("an object", table.content_len());
            return Err(self.call("reading", key, 0).fail(failure));
        }
        Ok(table)
    }

    /// The bytes of a range, which is not empty, of a compressed object.
    pub(crate) async fn decompressed_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let known = self.tables.get(key);
        let is_known = known.is_some();
        let read = async |table: Arc<Table>| {
            let Some(stored) = table.stored(&range) else {
                let have = table.content_len();
                let detail = format!("bytes {}..{} of an object of {have} bytes", range.start, range.end);
                return Err(self
                    .call("reading", key, 0)
                    .fail(Failure::last(StoreErrorKind::Truncated, detail)));
            };
            let bytes = self.stored_range(key, stored.clone()).await?;
            self.opened(key, &table, range.clone(), stored.start, bytes).await
        };
        let table = match known {
            Some(table) => table,
            None => self.table(key).await?,
        };
        match read(table).await {
            // Somebody else may have written it anew, as repairs do.
            Err(error)
                if is_known
                    && matches!(error.kind(), StoreErrorKind::Damaged | StoreErrorKind::Truncated) =>
            {
                self.tables.forget(key);
                read(self.table(key).await?).await
            }
            read => read,
        }
    }

    /// Reads the table of an object.
    async fn table(&self, key: &str) -> Result<Arc<Table>, StoreError> {
        let wrong = |detail: String| self.damaged(key, &detail);
        let mut begin = self.beginning(key, FIRST_READ).await?;
        let end = table_end(&begin).map_err(wrong)?;
        if end > begin.len() {
            begin = self.stored_range(key, 0..end as u64).await?;
        }
        let table = Arc::new(Table::decode(&begin).map_err(wrong)?);
        self.tables.keep(key, &table);
        Ok(table)
    }

    /// Opens the blocks of a range, whose stored bytes begin at `begin` in the object, and lets others go on in between.
    async fn opened(
        &self,
        key: &str,
        table: &Table,
        range: Range<u64>,
        begin: u64,
        stored: Bytes,
    ) -> Result<Bytes, StoreError> {
        let step = (BLOCKS_AT_ONCE * CONTENT_LEN) as u64;
        let mut out = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / step + 1) * step);
            let piece = at..end;
            let of_piece = table.stored(&piece).unwrap_or_default();
            let bytes = (of_piece.start.checked_sub(begin)).zip(of_piece.end.checked_sub(begin));
            let bytes = bytes.and_then(|(start, end)| stored.get(start as usize..end as usize));
            let opened =
                bytes.ok_or_else(|| "it is cut".to_owned()).and_then(|bytes| table.open(&piece, bytes));
            let opened = opened.map_err(|detail| self.damaged(key, &detail))?;
            if end == range.end && out.is_empty() {
                return Ok(opened.into());
            }
            out.extend(opened);
            at = end;
            tokio::task::yield_now().await;
        }
        Ok(out.into())
    }
}
