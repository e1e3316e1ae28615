//! A cache of pieces of the store's objects, in memory and in the volume's local directory, each bounded in bytes.
//!
//! Nothing here is needed: what is lost, damaged, or does not fit is fetched from the store again. So nothing is
//! synced, no call fails, and what comes out has the checksum that it was put in with. Objects never change, so what
//! is cached of one stays right for as long as it exists, also in the next process.
//!
//! [`LocalCache::get`] and [`LocalCache::put`] do blocking I/O when there is a disk; no lock is held meanwhile.

mod disk;
mod handle;
mod layout;
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rfs_journal::Disk;

use self::disk::DiskLevel;
pub(crate) use self::handle::{CacheHandle, Piece};
use self::layout::PieceId;
use self::memory::Memory;

/// Pieces of objects, kept for as long as there is room, those used last the longest.
///
/// ```
/// use bytes::Bytes;
/// use rfs_recovery::local_cache::LocalCache;
/// let cache = LocalCache::open(None, 1 << 20, 0);
/// cache.put("segments/7", 4096, &Bytes::from_static(b"content"));
/// assert_eq!(cache.get("segments/7", 4096, 7).as_deref(), Some(&b"content"[..]));
/// assert_eq!(cache.get("segments/8", 4096, 7), None);
/// ```
#[derive(Debug)]
pub struct LocalCache {
    memory: Mutex<Memory>,
    disk: Option<DiskLevel>,
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
}

/// How a cache was used since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Pieces that were found in memory.
    pub memory_hits: u64,
    /// Pieces that were found on the disk.
    pub disk_hits: u64,
    /// Pieces that were not found.
    pub misses: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes of files on the disk.
    pub disk_bytes: u64,
}

impl LocalCache {
    /// A cache that holds at most so many bytes in memory, and so many in files on `disk`, with what an earlier cache
    /// left there. Nothing else on the disk is touched. One cache uses a disk at a time.
    ///
    /// The files are named `cache-` and a number. An index of about 150 bytes for each piece on the disk is kept in
    /// memory besides. Under 64 KiB for the disk nothing is kept there.
    #[must_use]
    pub fn open(disk: Option<Arc<dyn Disk>>, memory_bytes: u64, disk_bytes: u64) -> Self {
        Self {
            memory: Mutex::new(Memory::new(memory_bytes)),
            disk: disk.and_then(|disk| DiskLevel::open(disk, disk_bytes)),
            memory_hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Whether anything is kept on a disk.
    #[must_use]
    pub const fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The `len` bytes of an object from `start` on, if they were put like this and are still held. A piece on the
    /// disk that does not have its checksum is forgotten.
    #[must_use]
    pub fn get(&self, key: &str, start: u64, len: u64) -> Option<Bytes> {
        let found = self.find(key, start, len);
        if found.is_none() {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    fn find(&self, key: &str, start: u64, len: u64) -> Option<Bytes> {
        let id = PieceId::new(key, start, len)?;
        if let Some(bytes) = self.in_memory(&id) {
            return Some(bytes);
        }
        let bytes = self.disk.as_ref()?.get(&id)?;
        self.disk_hits.fetch_add(1, Ordering::Relaxed);
        self.memory.lock().insert(id, bytes.clone());
        Some(bytes)
    }

    /// As [`LocalCache::get`], but does no I/O, and does not count as a miss when the piece is not in memory.
    #[must_use]
    pub fn get_in_memory(&self, key: &str, start: u64, len: u64) -> Option<Bytes> {
        self.in_memory(&PieceId::new(key, start, len)?)
    }

    fn in_memory(&self, id: &PieceId) -> Option<Bytes> {
        let bytes = self.memory.lock().get(id)?;
        self.memory_hits.fetch_add(1, Ordering::Relaxed);
        if let Some(disk) = &self.disk {
            disk.mark_used(id);
        }
        Some(bytes)
    }

    /// Keeps a piece of an object: its bytes from `start` on, which are copied. What is held of this piece already
    /// stays.
    pub fn put(&self, key: &str, start: u64, bytes: &[u8]) {
        let Some(id) = PieceId::new(key, start, bytes.len() as u64) else { return };
        let keeps = self.memory.lock().has_room_for(&id);
        if keeps {
            let copy = Bytes::copy_from_slice(bytes);
            self.memory.lock().insert(id, copy);
        }
        if let Some(disk) = &self.disk {
            disk.put(&id, bytes);
        }
    }

    /// Drops all pieces of an object, also for the caches that are opened on this disk later.
    pub fn forget(&self, key: &str) {
        let object = PieceId::object(key);
        self.memory.lock().forget(object);
        if let Some(disk) = &self.disk {
            disk.forget(object);
        }
    }

    /// Writes down where the pieces on the disk are, so that the next cache there opens quickly. Without it that one
    /// walks through the last file.
    pub fn flush(&self) {
        if let Some(disk) = &self.disk {
            disk.flush();
        }
    }

    /// How it was used, and what it holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            memory_hits: self.memory_hits.load(Ordering::Relaxed),
            disk_hits: self.disk_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            memory_bytes: self.memory.lock().bytes(),
            disk_bytes: self.disk.as_ref().map_or(0, DiskLevel::bytes),
        }
    }
}

#[cfg(test)]
mod tests;
