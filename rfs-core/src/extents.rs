//! The content of files: runs of bytes in the journal.
//!
//! Extents of one file do not overlap, are never empty, and are merged as far as possible: two that continue one
//! another both in the file and in one segment are one. So the form depends on what was written where only, not
//! on how many Writes did it. For each segment the tree counts the bytes that extents refer to.

use crate::{Extent, Ino, Place, SegmentId, Tree};

impl Extent {
    /// The part of it from `skip` bytes on, which is not past its end.
    const fn from(self, skip: u64) -> Self {
        let place = Place { segment: self.place.segment, position: self.place.position + skip };
        Self { place, len: self.len - skip }
    }

    /// Whether `next`, which comes right after it in the file, does so in the journal too.
    pub(crate) fn continues(&self, next: &Self) -> bool {
        self.place.segment == next.place.segment && self.place.position + self.len == next.place.position
    }
}

impl Tree {
    /// Whether this many bytes more can be counted for a segment.
    pub(crate) fn can_refer(&self, segment: SegmentId, len: u64) -> bool {
        self.segments.get(&segment).copied().unwrap_or(0).checked_add(len).is_some()
    }

    /// Puts an extent into a file, over what is there. Nothing overflows: the caller has checked the file's size,
    /// the extent's end in the segment, and [`Tree::can_refer`].
    pub(crate) fn put_extent(&mut self, ino: Ino, mut offset: u64, mut extent: Extent) {
        self.refer(extent.place.segment, extent.len);
        self.cut_extents(ino, offset, offset + extent.len);
        let end = offset + extent.len;
        if let Some(right) = self.extents.get(&(ino, end)).copied()
            && extent.continues(&right)
        {
            self.extents.remove(&(ino, end));
            extent.len += right.len;
        }
        if let Some((&(holder, start), left)) = self.extents.at_or_before(&(ino, offset))
            && holder == ino
            && start + left.len == offset
            && left.continues(&extent)
        {
            extent = Extent { place: left.place, len: left.len + extent.len };
            offset = start;
        }
        self.extents.insert((ino, offset), extent);
    }

    /// Makes a hole of a file's bytes from `start` up to `end`.
    pub(crate) fn cut_extents(&mut self, ino: Ino, start: u64, end: u64) {
        while let Some(last) = end.checked_sub(1)
            && let Some((&(holder, offset), &extent)) = self.extents.at_or_before(&(ino, last))
            && holder == ino
            && offset + extent.len > start
        {
            let extent_end = offset + extent.len;
            if offset < start {
                let kept = Extent { place: extent.place, len: start - offset };
                self.extents.insert((ino, offset), kept);
            } else {
                self.extents.remove(&(ino, offset));
            }
            if extent_end > end {
                self.extents.insert((ino, end), extent.from(end - offset));
            }
            self.forget(extent.place.segment, extent_end.min(end) - offset.max(start));
            if offset <= start {
                break;
            }
        }
    }

    fn refer(&mut self, segment: SegmentId, len: u64) {
        if let Some(live) = self.segments.get_mut(&segment) {
            *live += len;
        } else {
            self.segments.insert(segment, len);
        }
    }

    fn forget(&mut self, segment: SegmentId, len: u64) {
        if let Some(live) = self.segments.get_mut(&segment) {
            *live -= len;
            if *live == 0 {
                self.segments.remove(&segment);
            }
        }
    }
}
