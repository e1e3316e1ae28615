//! Changes of the content of files.

use super::Misfit;
use crate::{Extent, FILE_SIZE_MAX, Ino, Inode, Place, Timestamp, Tree};

impl Tree {
    pub(super) fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        len: u64,
        time: Timestamp,
        place: Place,
    ) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        let end = range_end(offset, len)?;
        if place.position.checked_add(len).is_none() {
            return Err(Misfit::Place { place, len });
        }
        if !self.can_store(len) {
            return Err(Misfit::Exhausted);
        }
        let extent = Extent { place, len };
        let longer = if offset == inode.size { self.load_longer(ino, offset, extent)? } else { None };
        let replaced = if let Some((start, longer)) = longer {
            self.put_longer(ino, start, longer, len)?;
            0
        } else {
            self.load_put(ino, offset, extent)?;
            self.put_extent(ino, offset, extent)?
        };
        inode.size = inode.size.max(end);
        inode.allocated = recounted(&inode, replaced, len);
        self.put_modified(ino, inode, time)
    }

    pub(super) fn truncate(&mut self, ino: Ino, size: u64, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        if size > FILE_SIZE_MAX {
            return Err(Misfit::Range { offset: 0, len: size });
        }
        self.load_extents(ino, size, inode.size)?;
        let removed = self.cut_extents(ino, size, inode.size)?;
        inode.allocated = recounted(&inode, removed, 0);
        inode.size = size;
        self.put_modified(ino, inode, time)
    }

    pub(super) fn punch(&mut self, ino: Ino, offset: u64, len: u64, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        let end = range_end(offset, len)?;
        let end = end.min(inode.size);
        self.load_extents(ino, offset, end)?;
        let removed = self.cut_extents(ino, offset, end)?;
        inode.allocated = recounted(&inode, removed, 0);
        self.put_modified(ino, inode, time)
    }

    pub(super) fn collapse(
        &mut self,
        ino: Ino,
        offset: u64,
        len: u64,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        let end = range_end(offset, len)?;
        if end >= inode.size {
            return Err(Misfit::Range { offset, len });
        }
        self.load_extents(ino, offset, u64::MAX)?;
        let removed = self.collapse_extents(ino, offset, end)?;
        inode.allocated = recounted(&inode, removed, 0);
        inode.size -= len;
        self.put_modified(ino, inode, time)
    }

    pub(super) fn insert(&mut self, ino: Ino, offset: u64, len: u64, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        if offset >= inode.size || len == 0 || len > FILE_SIZE_MAX - inode.size {
            return Err(Misfit::Range { offset, len });
        }
        self.load_extents(ino, offset, u64::MAX)?;
        // What is stored was not checked when it was opened: an extent may lie behind the end of the file.
        if let Some((&(holder, start), last)) = self.extents.at_or_before(&(ino, u64::MAX))?
            && holder == ino
            && start + last.len > inode.size
        {
            return Err(Misfit::Range { offset: start, len: last.len });
        }
        self.spread_extents(ino, offset, len)?;
        inode.size += len;
        self.put_modified(ino, inode, time)
    }

    pub(super) fn share(
        &mut self,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        len: u64,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let from_end = range_end(from_offset, len)?;
        if from_end > self.file(from)?.size {
            return Err(Misfit::Range { offset: from_offset, len });
        }
        let to_end = range_end(to_offset, len)?;
        if from == to && from_offset < to_end && to_offset < from_end {
            return Err(Misfit::Overlap(from));
        }
        let mut inode = self.file(to)?.clone();
        // A made-up journal must not fill memory.
        if self.copy_len(from, from_offset, len)? < len {
            return Err(Misfit::Range { offset: from_offset, len });
        }
        let runs = self.extents_between(from, from_offset, from_end)?;
        let stored = runs.iter().fold(0_u64, |sum, (_, extent)| sum.saturating_add(extent.len));
        if !self.can_store(stored) {
            return Err(Misfit::Exhausted);
        }
        self.load_extents(to, to_offset, to_end)?;
        for (_, extent) in &runs {
            self.segments.load(&extent.place.segment)?;
        }
        let removed = self.cut_extents(to, to_offset, to_end)?;
        inode.allocated = recounted(&inode, removed, stored);
        for (offset, extent) in runs {
            self.put_extent(to, offset - from_offset + to_offset, extent)?;
        }
        inode.size = inode.size.max(to_end);
        self.put_modified(to, inode, time)
    }

    /// The bytes and the inode stay as they are.
    pub(super) fn relocate(
        &mut self,
        ino: Ino,
        offset: u64,
        len: u64,
        from: Place,
        place: Place,
    ) -> Result<(), Misfit> {
        self.file(ino)?;
        range_end(offset, len)?;
        if place.position.checked_add(len).is_none() {
            return Err(Misfit::Place { place, len });
        }
        if !self.is_at(ino, offset, len, from)? {
            return Err(Misfit::Elsewhere { ino, offset, len, from });
        }
        let extent = Extent { place, len };
        self.load_put(ino, offset, extent)?;
        self.put_extent(ino, offset, extent)?;
        Ok(())
    }

    fn put_modified(&mut self, ino: Ino, mut inode: Inode, time: Timestamp) -> Result<(), Misfit> {
        inode.times.modified = time;
        inode.times.changed = time;
        Ok(self.put_inode(ino, inode)?)
    }
}

/// The end of a range of a file that is not empty.
fn range_end(offset: u64, len: u64) -> Result<u64, Misfit> {
    let end = offset.checked_add(len).filter(|end| len > 0 && *end <= FILE_SIZE_MAX);
    end.ok_or(Misfit::Range { offset, len })
}

/// What is stored of a file after so many bytes were removed and added. The count that was stored may be a wrong one.
const fn recounted(inode: &Inode, removed: u64, added: u64) -> u64 {
    inode.allocated.saturating_sub(removed).saturating_add(added)
}
