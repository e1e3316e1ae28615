//! The front of the journal: takes Changes in order, gives each its LSN and its payload a place, and never waits.
//!
//! It lives under the volume's lock. What it closed is taken out by whoever drives the [`LogWriter`](crate::LogWriter).

use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{Change, Ino, Lsn, Place, SegmentId};

use crate::frame::{ClosedFrame, FRAME_CHANGES_MAX, FRAME_PAYLOAD_MAX, encode_change};
use crate::segment::SEGMENT_HEADER_LEN;
use crate::{FRAME_HEADER_LEN, Residency};

/// How the journal is cut into frames and segments.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// A frame with this many bytes takes no more records.
    pub frame_bytes: usize,
    /// A segment with this many bytes takes no more frames.
    pub segment_bytes: u64,
}

impl Default for Cut {
    fn default() -> Self {
        Self { frame_bytes: 256 << 10, segment_bytes: 16 << 20 }
    }
}

/// Buffers for frames to come take no more than this.
const SPARE_BYTES: usize = 2 << 20;

/// What the log writer is to do next.
#[derive(Debug)]
pub struct Work(pub(crate) Item);

impl Work {
    /// Whether this ends a segment.
    #[must_use]
    pub const fn ends_segment(&self) -> bool {
        matches!(self.0, Item::Seal(_))
    }
}

#[derive(Debug)]
pub(crate) enum Item {
    Frame(ClosedFrame),
    Seal(SegmentId),
}

/// A place in the history at which a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The last segment before it; `None` when the journal holds none yet.
    pub segment: Option<SegmentId>,
    /// The LSN of the last record before it.
    pub lsn: Lsn,
}

/// Takes Changes in order.
#[derive(Debug)]
pub struct Appender {
    cut: Cut,
    residency: Arc<Residency>,
    segment: SegmentId,
    last_sealed: Option<SegmentId>,
    /// Offset in the segment where the open frame starts.
    position: u64,
    open: OpenFrame,
    lsn: Lsn,
    queue: Vec<Work>,
    queued_bytes: u64,
    /// Buffers for frames to come.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct OpenFrame {
    base: Lsn,
    count: u32,
    payload: Vec<u8>,
    /// All Changes but the last, encoded.
    changes: Vec<u8>,
    /// Kept apart while adjacent writes may still join it.
    last: Option<Change>,
    index: Vec<(Ino, u32)>,
}

impl Appender {
    /// An appender that goes on after `lsn`, with `segment` as its first segment.
    #[must_use]
    pub fn new(residency: Arc<Residency>, cut: Cut, segment: SegmentId, lsn: Lsn) -> Self {
        Self {
            cut,
            residency,
            segment,
            last_sealed: segment.0.checked_sub(1).map(SegmentId),
            position: SEGMENT_HEADER_LEN as u64,
            open: OpenFrame { base: lsn, ..OpenFrame::default() },
            lsn,
            queue: Vec::new(),
            queued_bytes: 0,
            spare: Vec::new(),
        }
    }

    /// The LSN of the last record.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Bytes that were closed and not taken yet.
    #[must_use]
    pub const fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Makes room for records with `payload_len` bytes of payload in all, so that they fit one frame, and says where
    /// the first byte will be. `None` when they are too many for any frame.
    pub fn reserve(&mut self, payload_len: u64) -> Option<Place> {
        let len = usize::try_from(payload_len).ok().filter(|len| *len <= FRAME_PAYLOAD_MAX)?;
        if self.open.count > 0 && !self.takes(len) {
            self.close_frame();
        }
        Some(self.end())
    }

    /// Where the next byte of payload stands, if the open frame takes it.
    #[must_use]
    pub const fn end(&self) -> Place {
        let position = self.position + (FRAME_HEADER_LEN + self.open.payload.len()) as u64;
        Place { segment: self.segment, position }
    }

    /// Appends a Write that goes on in its file where the last record ends, as a part of that record; tells whether it did.
    /// If it can't, since it does not go on there or the open frame is full, nothing was done.
    pub fn join(&mut self, change: &Change, payload: &[u8]) -> bool {
        debug_assert_eq!(change.payload_len(), payload.len() as u64);
        let joined = self.takes(payload.len()) && self.open.join(change);
        if joined {
            self.open.payload.extend_from_slice(payload);
        }
        joined
    }

    /// Whether the open frame takes so many bytes of payload more.
    #[must_use]
    pub const fn takes(&self, len: usize) -> bool {
        self.open.changes.len() < FRAME_CHANGES_MAX / 4
            && self.open.bytes() < self.cut.frame_bytes
            && self.open.payload.len() + len <= self.cut.frame_bytes
    }

    /// Appends one Change, after [`Appender::reserve`] for its payload.
    pub fn append(&mut self, change: &Change, payload: &[u8]) -> Lsn {
        debug_assert_eq!(change.payload_len(), payload.len() as u64);
        self.open.payload.extend_from_slice(payload);
        if self.open.join(change) {
            return self.lsn;
        }
        self.open.push(change.clone());
        self.lsn = self.lsn.next();
        self.lsn
    }

    /// Appends several Changes that must be seen together or not at all, after one [`Appender::reserve`] for all of
    /// their payload: they stand in one frame.
    pub fn append_all(&mut self, changes: &[Change], payloads: &[&[u8]]) -> Lsn {
        for payload in payloads {
            self.open.payload.extend_from_slice(payload);
        }
        for change in changes {
            if !self.open.join(change) {
                self.open.push(change.clone());
                self.lsn = self.lsn.next();
            }
        }
        self.lsn
    }

    /// Whether Changes of this many encoded bytes can stand in one frame.
    #[must_use]
    pub const fn fits_one_frame(changes_len: usize) -> bool {
        changes_len <= FRAME_CHANGES_MAX / 2
    }

    /// The payload at `place`, if it is in the open frame.
    #[must_use]
    pub fn read_open(&self, place: Place, len: u64) -> Option<Bytes> {
        let start = place.position.checked_sub(self.position + FRAME_HEADER_LEN as u64)?;
        if place.segment != self.segment {
            return None;
        }
        let range = usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?;
        self.open.payload.get(range).map(Bytes::copy_from_slice)
    }

    /// Closes the open frame, so that all records so far can be written. Does nothing when it is empty.
    pub fn close_frame(&mut self) {
        if self.open.count == 0 {
            return;
        }
        let next = self.open.next(self.lsn, &mut self.spare);
        let open = std::mem::replace(&mut self.open, next);
        let frame = open.close(self.segment, self.position);
        self.residency.push_frame(&frame);
        let len = (FRAME_HEADER_LEN + frame.payload.len() + frame.changes.len()) as u64;
        self.position += len;
        self.queued_bytes += len;
        self.queue.push(Work(Item::Frame(frame)));
        if self.position >= self.cut.segment_bytes {
            self.seal_segment();
        }
    }

    /// Ends the segment here, so that all records so far can be committed.
    pub fn seal(&mut self) -> Boundary {
        self.close_frame();
        if self.position > SEGMENT_HEADER_LEN as u64 {
            self.seal_segment();
        }
        Boundary { segment: self.last_sealed, lsn: self.lsn }
    }

    /// Puts in buffers for frames to come, as [`Appender::spare`] makes them, and says for how many more there is room. Where
    /// much is appended, memory that is used for the first time is a good part of the cost: so somebody else may use it
    /// first.
    pub fn put_spare(&mut self, buffers: &mut Vec<Vec<u8>>) -> usize {
        self.spare.append(buffers);
        (SPARE_BYTES / self.cut.frame_bytes).saturating_sub(self.spare.len())
    }

    /// Makes buffers for so many frames.
    #[must_use]
    pub fn spare(cut: &Cut, frames: usize) -> Vec<Vec<u8>> {
        let used = |_| {
            let mut buffer = Vec::with_capacity(cut.frame_bytes);
            // Not zero, of which the system would make a promise only.
            buffer.resize(cut.frame_bytes, 1);
            buffer.clear();
            buffer
        };
        (0..frames).map(used).collect()
    }

    /// Takes out what is to be written.
    pub fn take_work(&mut self) -> Vec<Work> {
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue)
    }

    fn seal_segment(&mut self) {
        self.queue.push(Work(Item::Seal(self.segment)));
        self.last_sealed = Some(self.segment);
        self.segment = self.segment.next();
        self.position = SEGMENT_HEADER_LEN as u64;
    }
}

impl OpenFrame {
    /// The frame after this one. It has room for as much at once: what grows step by step is copied each time.
    fn next(&self, base: Lsn, spare: &mut Vec<Vec<u8>>) -> Self {
        let len = self.payload.len();
        // A small one would be a waste of what it leaves unused.
        let fits =
            spare.last().is_some_and(|buffer| (buffer.capacity() / 2..=buffer.capacity()).contains(&len));
        let payload = if fits { spare.pop() } else { None };
        Self {
            base,
            payload: payload.unwrap_or_else(|| Vec::with_capacity(len)),
            changes: Vec::with_capacity(self.changes.len()),
            index: Vec::with_capacity(self.index.len()),
            ..Self::default()
        }
    }

    const fn bytes(&self) -> usize {
        self.payload.len() + self.changes.len()
    }

    /// Makes a write part of the one before, if it goes on where that one ends.
    fn join(&mut self, change: &Change) -> bool {
        let Some(Change::Write { ino, offset, len, time }) = &mut self.last else { return false };
        match change {
            Change::Write { ino: same, offset: next, len: more, time: later }
                if same == ino && *next == *offset + *len =>
            {
                *len += more;
                *time = *later;
                true
            }
            _ => false,
        }
    }

    fn push(&mut self, change: Change) {
        if let Some(before) = self.last.take() {
            encode_change(&before, &mut self.changes);
        }
        self.index.extend(change.inodes().into_iter().map(|ino| (ino, self.count)));
        self.last = Some(change);
        self.count += 1;
    }

    fn close(mut self, segment: SegmentId, position: u64) -> ClosedFrame {
        if let Some(last) = self.last.take() {
            encode_change(&last, &mut self.changes);
        }
        // It stays in memory for a while, and one that is closed early has more room than it needs.
        shrink(&mut self.payload);
        shrink(&mut self.changes);
        shrink(&mut self.index);
        ClosedFrame {
            segment,
            position,
            base: self.base,
            count: self.count,
            payload: Bytes::from(self.payload),
            changes: Bytes::from(self.changes),
            index: self.index,
        }
    }
}

fn shrink<T>(buffer: &mut Vec<T>) {
    if buffer.len() < buffer.capacity() / 2 {
        buffer.shrink_to_fit();
    }
}
