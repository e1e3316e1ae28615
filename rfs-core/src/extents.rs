//! The content of files: runs of bytes in the journal.
//!
//! Extents of one file do not overlap, are never empty, and are merged as far as possible: two that continue one
//! another both in the file and in one segment are one. So the form depends on what was written where only, not
//! on how many Writes did it. For each segment the tree counts the bytes that extents refer to.

use crate::permission::{SET_GROUP_ID, SET_USER_ID};
use crate::{COPY_RUNS_MAX, Extent, FILE_SIZE_MAX, Ino, Kind, Missing, NotLoaded, Place, SegmentId, Tree};

/// Extents that were looked for: each with its file, and its offset there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundExtents {
    /// Those that were found.
    pub extents: Vec<(Ino, u64, Extent)>,
    /// Where it goes on, if it was not all looked at.
    pub next: Option<(Ino, u64)>,
}

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
    /// Whether this many bytes more can be counted: for the tree, and so for any segment.
    pub(crate) const fn can_store(&self, len: u64) -> bool {
        self.allocated.checked_add(len).is_some()
    }

    /// Up to which size a file that was just written up to `end` can be appended to, if it ends there and appending changes
    /// nothing of it but content, size and times, whoever does it.
    #[must_use]
    pub fn append_end(&self, ino: Ino, end: u64) -> Option<u64> {
        let inode = self.inodes.get(&ino).ok().flatten()?;
        let is_plain = inode.kind() == Kind::File
            && inode.mode & (SET_USER_ID | SET_GROUP_ID) == 0
            && inode.size == end
            && self.quotas.is_empty();
        is_plain.then(|| end.saturating_add(u64::MAX - self.allocated).min(FILE_SIZE_MAX))
    }

    /// Loads what a change of a file's bytes from `start` up to `end` touches.
    pub(crate) fn load_extents(&self, ino: Ino, start: u64, end: u64) -> Result<(), Missing> {
        if start >= end {
            return Ok(());
        }
        // What ends at `end`, or begins there, may be cut or joined.
        self.extents.load_range((ino, start)..=(ino, end))?;
        // What comes before may reach into it, or be joined with what is put there.
        let before = self.extents.before(&(ino, start))?.map(|(_, extent)| extent.place.segment);
        let mut segments: Vec<SegmentId> = before.into_iter().collect();
        for run in self.extents.range((ino, start)..(ino, end)) {
            let segment = run?.1.place.segment;
            if segments.last() != Some(&segment) {
                segments.push(segment);
            }
        }
        self.segments.load_each(segments)
    }

    /// Loads what an extent that is put into a file touches.
    pub(crate) fn load_put(&self, ino: Ino, offset: u64, extent: Extent) -> Result<(), Missing> {
        self.segments.load(&extent.place.segment)?;
        self.load_extents(ino, offset, offset + extent.len)
    }

    /// Puts an extent into a file, over what is there, and tells how many bytes were there. Nothing overflows: the
    /// caller has checked the file's size, the extent's end in the segment, and [`Tree::can_store`].
    pub(crate) fn put_extent(
        &mut self,
        ino: Ino,
        mut offset: u64,
        mut extent: Extent,
    ) -> Result<u64, NotLoaded> {
        self.refer(extent.place.segment, extent.len)?;
        let replaced = self.cut_extents(ino, offset, offset + extent.len)?;
        let end = offset + extent.len;
        if let Some(right) = self.extents.get(&(ino, end))?.copied()
            && extent.continues(&right)
        {
            self.extents.remove(&(ino, end))?;
            extent.len += right.len;
        }
        if let Some((&(holder, start), left)) = self.extents.at_or_before(&(ino, offset))?
            && holder == ino
            && start + left.len == offset
            && left.continues(&extent)
        {
            extent = Extent { place: left.place, len: left.len + extent.len };
            offset = start;
        }
        self.extents.insert((ino, offset), extent)?;
        Ok(replaced)
    }

    /// If an extent that is put at the end of a file continues the last one there, as those of appends do: where that one
    /// starts, and what both are together. Loads what [`Tree::put_longer`] touches.
    pub(crate) fn load_longer(
        &self,
        ino: Ino,
        offset: u64,
        extent: Extent,
    ) -> Result<Option<(u64, Extent)>, Missing> {
        let last = self.extents.at_or_before(&(ino, u64::MAX))?.filter(|((holder, start), last)| {
            *holder == ino && start + last.len == offset && last.continues(&extent)
        });
        self.segments.load(&extent.place.segment)?;
        Ok(last.map(|((_, start), last)| (*start, Extent { place: last.place, len: last.len + extent.len })))
    }

    /// Puts an extent in the place of the one that starts there, and that it makes longer by `added`.
    pub(crate) fn put_longer(
        &mut self,
        ino: Ino,
        start: u64,
        longer: Extent,
        added: u64,
    ) -> Result<(), NotLoaded> {
        self.refer(longer.place.segment, added)?;
        self.extents.insert((ino, start), longer)?;
        Ok(())
    }

    /// Makes a hole of a file's bytes from `start` up to `end`, and tells how many bytes were stored there.
    pub(crate) fn cut_extents(&mut self, ino: Ino, start: u64, end: u64) -> Result<u64, NotLoaded> {
        let mut removed = 0;
        while let Some(last) = end.checked_sub(1).filter(|last| *last >= start)
            && let Some((&(holder, offset), &extent)) = self.extents.at_or_before(&(ino, last))?
            && holder == ino
            && offset + extent.len > start
        {
            let extent_end = offset + extent.len;
            if offset < start {
                let kept = Extent { place: extent.place, len: start - offset };
                self.extents.insert((ino, offset), kept)?;
            } else {
                self.extents.remove(&(ino, offset))?;
            }
            if extent_end > end {
                self.extents.insert((ino, end), extent.from(end - offset))?;
            }
            let len = extent_end.min(end) - offset.max(start);
            self.forget(extent.place.segment, len)?;
            removed = len.saturating_add(removed);
            if offset <= start {
                break;
            }
        }
        Ok(removed)
    }

    /// The runs of a file between `start` and `end`, clipped to them: offset and extent, in order.
    pub(crate) fn extents_between(
        &self,
        ino: Ino,
        start: u64,
        end: u64,
    ) -> Result<Vec<(u64, Extent)>, Missing> {
        let mut runs = Vec::new();
        if let Some((&(holder, offset), &extent)) = self.extents.at_or_before(&(ino, start))?
            && holder == ino
            && offset < start
            && offset + extent.len > start
        {
            runs.push((start, extent.from(start - offset)));
        }
        for run in self.extents.range((ino, start)..(ino, end)) {
            let (&(_, offset), &extent) = run?;
            runs.push((offset, extent));
        }
        if let Some((offset, extent)) = runs.last_mut() {
            extent.len = extent.len.min(end - *offset);
        }
        Ok(runs)
    }

    /// The extents from an offset of a file on, up to another one, that lie in segments that are `wanted`. After looking at
    /// `most` it stops, and tells where it goes on.
    ///
    /// # Errors
    /// A page is missing.
    pub fn extents_in(
        &self,
        from: (Ino, u64),
        to: (Ino, u64),
        most: usize,
        wanted: &dyn Fn(SegmentId) -> bool,
    ) -> Result<FoundExtents, Missing> {
        let mut found = FoundExtents::default();
        for (looked, run) in self.extents.range(from..to).enumerate() {
            let (&(ino, offset), &extent) = run?;
            if looked == most {
                found.next = Some((ino, offset));
                break;
            }
            if wanted(extent.place.segment) {
                found.extents.push((ino, offset, extent));
            }
        }
        Ok(found)
    }

    /// How many extents there are.
    #[must_use]
    pub const fn extent_count(&self) -> u64 {
        self.extents.len()
    }

    /// Whether a file's `len` bytes from `offset` on, at least one, lie at `from` in one extent.
    ///
    /// # Errors
    /// A page is missing.
    pub fn is_at(&self, ino: Ino, offset: u64, len: u64, from: Place) -> Result<bool, Missing> {
        let Some((&(holder, start), extent)) = self.extents.at_or_before(&(ino, offset))? else {
            return Ok(false);
        };
        if holder != ino || len == 0 {
            return Ok(false);
        }
        let skip = offset - start;
        Ok(skip.checked_add(len).is_some_and(|end| end <= extent.len)
            && extent.place.segment == from.segment
            && extent.place.position.checked_add(skip) == Some(from.position))
    }

    /// How many of a file's `len` bytes from `offset` on one [`Op::Copy`](crate::Op::Copy) copies: all, unless they lie
    /// in more than [`COPY_RUNS_MAX`] runs.
    ///
    /// ```
    /// use rfs_core::{Ino, Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// assert_eq!(tree.copy_len(Ino(2), 5, 100), Ok(100));
    /// ```
    ///
    /// # Errors
    /// A page is missing.
    pub fn copy_len(&self, ino: Ino, offset: u64, len: u64) -> Result<u64, Missing> {
        let end = offset.saturating_add(len);
        let beyond = self.run_after(ino, offset, end, COPY_RUNS_MAX)?;
        Ok(beyond.map_or(len, |start| start - offset))
    }

    /// Whether a file has more than `most` runs from `offset` on.
    pub(crate) fn has_more_runs(&self, ino: Ino, offset: u64, most: usize) -> Result<bool, Missing> {
        Ok(self.run_after(ino, offset, u64::MAX, most)?.is_some())
    }

    /// Where the run begins that comes after `most` others, from the one at `offset` on.
    fn run_after(&self, ino: Ino, offset: u64, end: u64, most: usize) -> Result<Option<u64>, Missing> {
        let first = match self.extents.at_or_before(&(ino, offset))? {
            Some((&(holder, start), extent)) if holder == ino && start + extent.len > offset => start,
            _ => offset,
        };
        for (count, run) in self.extents.range((ino, first)..(ino, end)).enumerate() {
            let (&(_, start), _) = run?;
            if count == most {
                return Ok(Some(start));
            }
        }
        Ok(None)
    }

    /// Takes a file's bytes from `start` up to `end` out: what is behind them moves forward. It tells how many bytes
    /// were stored there.
    pub(crate) fn collapse_extents(&mut self, ino: Ino, start: u64, end: u64) -> Result<u64, NotLoaded> {
        let removed = self.cut_extents(ino, start, end)?;
        for (offset, extent) in self.extents_between(ino, end, u64::MAX)? {
            self.extents.remove(&(ino, offset))?;
            self.extents.insert((ino, offset - (end - start)), extent)?;
        }
        self.merge_at(ino, start)?;
        Ok(removed)
    }

    /// Puts a hole of `len` bytes in at `at`: what is there, and behind it, moves back. The file's size has been
    /// checked.
    pub(crate) fn spread_extents(&mut self, ino: Ino, at: u64, len: u64) -> Result<(), NotLoaded> {
        // Those at the back first, so that none comes to lie where another still is.
        for (offset, extent) in self.extents_between(ino, at, u64::MAX)?.into_iter().rev() {
            self.extents.remove(&(ino, offset))?;
            self.extents.insert((ino, offset + len), extent)?;
        }
        if let Some((&key, left)) = self.extents.at_or_before(&(ino, at))?
            && key.0 == ino
            && key.1 + left.len > at
        {
            let kept = Extent { len: at - key.1, ..*left };
            self.extents.insert(key, kept)?;
        }
        Ok(())
    }

    /// Makes one extent of two that meet at `at`, if they can be one.
    fn merge_at(&mut self, ino: Ino, at: u64) -> Result<(), NotLoaded> {
        let (Some(right), Some(before)) = (self.extents.get(&(ino, at))?.copied(), at.checked_sub(1)) else {
            return Ok(());
        };
        if let Some((&key, left)) = self.extents.at_or_before(&(ino, before))?
            && key.0 == ino
            && key.1 + left.len == at
            && left.continues(&right)
        {
            let merged = Extent { len: left.len + right.len, ..*left };
            self.extents.remove(&(ino, at))?;
            self.extents.insert(key, merged)?;
        }
        Ok(())
    }

    fn refer(&mut self, segment: SegmentId, len: u64) -> Result<(), NotLoaded> {
        if let Some(live) = self.segments.get_mut(&segment)? {
            *live = live.saturating_add(len);
        } else {
            self.segments.insert(segment, len)?;
        }
        Ok(())
    }

    fn forget(&mut self, segment: SegmentId, len: u64) -> Result<(), NotLoaded> {
        if let Some(live) = self.segments.get_mut(&segment)? {
            *live = live.saturating_sub(len);
            if *live == 0 {
                self.segments.remove(&segment)?;
            }
        }
        Ok(())
    }
}
