//! Changes of the content of files.

use super::Misfit;
use crate::{Extent, FILE_SIZE_MAX, Ino, Place, Timestamp, Tree};

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
        let end = offset.checked_add(len).filter(|end| len > 0 && *end <= FILE_SIZE_MAX);
        let end = end.ok_or(Misfit::Range { offset, len })?;
        if place.position.checked_add(len).is_none() {
            return Err(Misfit::Place { place, len });
        }
        if !self.can_refer(place.segment, len) {
            return Err(Misfit::Exhausted);
        }
        inode.size = inode.size.max(end);
        inode.times.modified = time;
        inode.times.changed = time;
        self.put_extent(ino, offset, Extent { place, len });
        self.inodes.insert(ino, inode);
        Ok(())
    }

    pub(super) fn truncate(&mut self, ino: Ino, size: u64, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        if size > FILE_SIZE_MAX {
            return Err(Misfit::Range { offset: 0, len: size });
        }
        self.cut_extents(ino, size, inode.size);
        inode.size = size;
        inode.times.modified = time;
        inode.times.changed = time;
        self.inodes.insert(ino, inode);
        Ok(())
    }

}
