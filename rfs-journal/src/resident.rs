//! The segments that are on this machine: in memory, in the local log's files, or both.
//!
//! The appender hands closed frames in, the log writer tells where they went, readers take content out, and the
//! committer takes whole segments out for upload. A segment leaves when it is committed and its room is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rfs_core::{Place, SegmentId};

use crate::frame::ClosedFrame;
use crate::segment::{FrameInfo, SEGMENT_HEADER_LEN, SegmentHash, SegmentHeader};
use crate::{ChainHash, DiskFile, FRAME_HEADER_LEN, Footer, JournalError};

/// A segment that takes no more frames.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its header.
    pub header: SegmentHeader,
    /// Bytes of the whole segment.
    pub len: u64,
    /// Bytes of its footer, trailer included.
    pub footer_len: u32,
    /// Its identity.
    pub hash: SegmentHash,
    /// The chain hash at its end.
    pub chain: ChainHash,
    /// The footer, decoded.
    pub footer: Arc<Footer>,
}

/// Where a segment starts in a file of the local log.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) name: String,
    pub(crate) start: u64,
}

#[derive(Debug, Default)]
struct Resident {
    header: Option<[u8; SEGMENT_HEADER_LEN]>,
    frames: Vec<ResidentFrame>,
    part: Option<FilePart>,
    sealed: Option<(Sealed, Bytes)>,
    committed: bool,
}

#[derive(Debug)]
struct ResidentFrame {
    info: FrameInfo,
    /// Header, payload and Changes, as long as they are in memory. The header is there once the frame was written.
    header: Option<[u8; FRAME_HEADER_LEN]>,
    body: Option<(Bytes, Bytes)>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: BTreeMap<SegmentId, Resident>,
    body_bytes: u64,
}

/// The segments that are on this machine. Shared by all who append, write, read and commit.
#[derive(Debug)]
pub struct Residency {
    inner: Mutex<Inner>,
    /// What is read back from a file is kept while no more than this is held.
    keep_bytes: u64,
}

impl Default for Residency {
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

impl Residency {
    /// No segments yet. Content that is read back from a file is kept in memory while no more than `keep_bytes` are
    /// held.
    #[must_use]
    pub fn new(keep_bytes: u64) -> Self {
        Self { inner: Mutex::default(), keep_bytes }
    }

    /// Bytes of frames that are held in memory.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.inner.lock().body_bytes
    }

    /// Whether [`Residency::read`] gives what is at `place`.
    #[must_use]
    pub fn has(&self, place: Place) -> bool {
        let inner = self.inner.lock();
        let Some(resident) = inner.segments.get(&place.segment) else { return false };
        let frame = resident.frame_at(place.position);
        frame.is_some_and(|frame| frame.body.is_some() || resident.part.is_some())
    }

    /// The `len` bytes of payload at `place`, which lie in one frame; `None` when the segment is not here.
    ///
    /// # Errors
    /// `Damaged` when the bytes in the local log are not what was written, `Io` when they cannot be read.
    pub fn read(&self, place: Place, len: u64) -> Result<Option<Bytes>, JournalError> {
        let (info, part) = {
            let inner = self.inner.lock();
            let Some(resident) = inner.segments.get(&place.segment) else { return Ok(None) };
            let Some(frame) = resident.frame_at(place.position) else { return Ok(None) };
            if let Some((payload, _)) = &frame.body {
                return Ok(slice(payload, &frame.info, place, len));
            }
            let Some(part) = resident.part.clone() else { return Ok(None) };
            (frame.info, part)
        };
        let payload = part.read(info.payload_start(), info.payload_len as usize)?;
        if !info.has_payload(&payload) {
            // The file may have been recycled between the look-up and the read.
            if !self.inner.lock().segments.contains_key(&place.segment) {
                return Ok(None);
            }
            let what = "a frame's payload does not have its checksum";
            return Err(JournalError::damaged(&part.name, part.start + info.position, what));
        }
        self.keep_payload(place.segment, &info, &payload);
        Ok(slice(&payload, &info, place, len))
    }

    /// The sealed segment `id`, if it is here and was written out.
    #[must_use]
    pub fn sealed(&self, id: SegmentId) -> Option<Sealed> {
        let inner = self.inner.lock();
        inner.segments.get(&id)?.sealed.as_ref().map(|(sealed, _)| sealed.clone())
    }

    /// All bytes of a sealed segment, in pieces, as they go into an object; `None` when it is not here.
    ///
    /// # Errors
    /// `Damaged` when the bytes in the local log are not what was written, `Io` when they cannot be read.
    pub fn segment_bytes(&self, id: SegmentId) -> Result<Option<Vec<Bytes>>, JournalError> {
        let (part, sealed) = {
            let inner = self.inner.lock();
            let Some(resident) = inner.segments.get(&id) else { return Ok(None) };
            let Some((sealed, footer)) = &resident.sealed else { return Ok(None) };
            if let Some(pieces) = resident.pieces(footer) {
                return Ok(Some(pieces));
            }
            let Some(part) = resident.part.clone() else { return Ok(None) };
            (part, sealed.clone())
        };
        let len = usize::try_from(sealed.len).unwrap_or(usize::MAX);
        let bytes = part.read(0, len)?;
        crate::reader::verify_segment(&part.name, &bytes, Some(sealed.hash))?;
        Ok(Some(vec![bytes]))
    }

    /// The segments up to and with `last` are committed: they may leave.
    pub fn mark_committed(&self, last: SegmentId) {
        for resident in self.inner.lock().segments.range_mut(..=last).map(|(_, resident)| resident) {
            resident.committed = true;
        }
    }

    /// Lets go of memory until at most `budget` bytes of frames are held, oldest first. Only what is in a file, or
    /// committed, is let go.
    pub fn trim(&self, budget: u64) {
        let mut inner = self.inner.lock();
        let Inner { segments, body_bytes } = &mut *inner;
        let mut gone = Vec::new();
        for (id, resident) in segments.iter_mut() {
            if *body_bytes <= budget {
                break;
            }
            let in_file = resident.part.is_some();
            if !in_file && !resident.committed {
                continue;
            }
            for frame in resident.frames.iter_mut().filter(|frame| frame.header.is_some()) {
                if let Some((payload, changes)) = frame.body.take() {
                    *body_bytes -= (payload.len() + changes.len()) as u64;
                }
            }
            if !in_file {
                gone.push(*id);
            }
        }
        for id in gone {
            segments.remove(&id);
        }
    }

    pub(crate) fn is_committed(&self, id: SegmentId) -> bool {
        self.inner.lock().segments.get(&id).is_none_or(|resident| resident.committed)
    }

    pub(crate) fn forget(&self, id: SegmentId) {
        let mut inner = self.inner.lock();
        if let Some(resident) = inner.segments.remove(&id) {
            inner.body_bytes -= resident.body_bytes();
        }
    }

    pub(crate) fn push_frame(&self, frame: &ClosedFrame) {
        let mut inner = self.inner.lock();
        inner.body_bytes += (frame.payload.len() + frame.changes.len()) as u64;
        inner.segments.entry(frame.segment).or_default().frames.push(ResidentFrame {
            info: FrameInfo {
                position: frame.position,
                base: frame.base,
                count: frame.count,
                payload_len: frame.payload.len() as u32,
                changes_len: frame.changes.len() as u32,
                payload_crc: 0,
                changes_crc: 0,
            },
            header: None,
            body: Some((frame.payload.clone(), frame.changes.clone())),
        });
    }

    pub(crate) fn begin(&self, id: SegmentId, header: [u8; SEGMENT_HEADER_LEN], part: Option<FilePart>) {
        let mut inner = self.inner.lock();
        let resident = inner.segments.entry(id).or_default();
        resident.header = Some(header);
        resident.part = part;
    }

    pub(crate) fn frame_written(&self, id: SegmentId, info: FrameInfo, header: [u8; FRAME_HEADER_LEN]) {
        let mut inner = self.inner.lock();
        let frame = inner.segments.get_mut(&id).and_then(|resident| resident.frame_mut(info.position));
        if let Some(frame) = frame {
            frame.info = info;
            frame.header = Some(header);
        }
    }

    /// A segment that was found in the local log.
    pub(crate) fn restore(
        &self,
        id: SegmentId,
        header: [u8; SEGMENT_HEADER_LEN],
        part: FilePart,
        frames: Vec<(FrameInfo, [u8; FRAME_HEADER_LEN])>,
    ) {
        let frames = frames.into_iter();
        let frames =
            frames.map(|(info, header)| ResidentFrame { info, header: Some(header), body: None }).collect();
        let resident =
            Resident { header: Some(header), frames, part: Some(part), sealed: None, committed: false };
        self.inner.lock().segments.insert(id, resident);
    }

    pub(crate) fn seal(&self, sealed: Sealed, footer: Bytes) {
        let mut inner = self.inner.lock();
        let resident = inner.segments.entry(sealed.header.id).or_default();
        resident.sealed = Some((sealed, footer));
    }

    fn keep_payload(&self, id: SegmentId, info: &FrameInfo, payload: &Bytes) {
        let mut inner = self.inner.lock();
        let Inner { segments, body_bytes } = &mut *inner;
        if *body_bytes + payload.len() as u64 > self.keep_bytes {
            return;
        }
        // Only content is read back: a frame without its Changes serves readers, and uploads take the file.
        let frame = segments.get_mut(&id).and_then(|resident| resident.frame_mut(info.position));
        if let Some(frame) = frame.filter(|frame| frame.body.is_none()) {
            frame.body = Some((payload.clone(), Bytes::new()));
            *body_bytes += payload.len() as u64;
        }
    }
}

impl Resident {
    fn frame_at(&self, position: u64) -> Option<&ResidentFrame> {
        let after = self.frames.partition_point(|frame| frame.info.position <= position);
        self.frames.get(after.checked_sub(1)?)
    }

    fn frame_mut(&mut self, position: u64) -> Option<&mut ResidentFrame> {
        let at = self.frames.binary_search_by_key(&position, |frame| frame.info.position).ok()?;
        self.frames.get_mut(at)
    }

    fn body_bytes(&self) -> u64 {
        let bodies = self.frames.iter().filter_map(|frame| frame.body.as_ref());
        bodies.map(|(payload, changes)| (payload.len() + changes.len()) as u64).sum()
    }

    /// The whole segment from memory, if every frame is there whole.
    fn pieces(&self, footer: &Bytes) -> Option<Vec<Bytes>> {
        let mut pieces = vec![Bytes::copy_from_slice(&self.header?)];
        for frame in &self.frames {
            let (payload, changes) = frame.body.as_ref()?;
            if changes.len() != frame.info.changes_len as usize {
                return None;
            }
            pieces.push(Bytes::copy_from_slice(&frame.header?));
            pieces.extend([payload.clone(), changes.clone()]);
        }
        pieces.push(footer.clone());
        pieces.retain(|piece| !piece.is_empty());
        Some(pieces)
    }
}

impl FilePart {
    fn read(&self, position: u64, len: usize) -> Result<Bytes, JournalError> {
        let mut buffer = vec![0; len];
        let read = self.file.read_at(&mut buffer, self.start + position);
        buffer.truncate(read.map_err(JournalError::io("read", &self.name))?);
        Ok(Bytes::from(buffer))
    }
}

fn slice(payload: &Bytes, info: &FrameInfo, place: Place, len: u64) -> Option<Bytes> {
    let start = place.position.checked_sub(info.payload_start())?;
    let end = start.checked_add(len)?;
    (end <= payload.len() as u64).then(|| payload.slice(start as usize..end as usize))
}
