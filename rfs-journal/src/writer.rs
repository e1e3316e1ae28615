//! The back of the journal: gives closed frames their checksums and chain hash, writes them to the local log, and
//! seals segments.
//!
//! The local log is a set of files, each holding segments one behind the other. A file whose segments are all
//! committed is recycled: its blocks were written before, so that syncing new frames into it writes no file
//! metadata. Without a disk (memory mode) the same code keeps frames in memory only.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{Ino, Lsn, SegmentId};

use crate::appender::{Item, Work};
use crate::frame::{ClosedFrame, FrameHeader, volume_mark};
use crate::resident::{FilePart, Residency, Sealed};
use crate::segment::{ByteSection, FrameInfo, RecordPosition, SEGMENT_HEADER_LEN, SegmentHeader, VolumeId};
use crate::{ChainHash, Disk, DiskFile, FORMAT, FRAME_HEADER_LEN, Footer, JournalError, NUMBER_END};

/// The size of files, unless it is set.
const FILE_BYTES: u64 = 64 << 20;
/// How far a growing file is filled with zeros ahead of what is written, so that the next syncs find their blocks.
const FILL_AHEAD: u64 = 1 << 20;
/// Of a file without anything that is needed, no more than this is written again to go on in it.
const WRITTEN_AGAIN_TO_GO_ON: u64 = 4 << 20;
/// Buffered bytes are handed to the disk from this size on.
const BUFFER_BYTES: usize = 1 << 20;

/// Who writes: what each segment's header says.
#[derive(Clone, Copy, Debug)]
pub struct WriterIdentity {
    /// The volume.
    pub volume: VolumeId,
    /// The writer's epoch.
    pub epoch: u64,
    /// The writer.
    pub writer: u128,
}

/// Writes what the appender closed.
#[derive(Debug)]
pub struct LogWriter {
    identity: WriterIdentity,
    residency: Arc<Residency>,
    files: Option<Files>,
    current: Option<Current>,
    lsn: Lsn,
    chain: ChainHash,
    durable: Lsn,
    poison: Option<String>,
    /// What the residency is told once the bytes are in the file: until then only memory has them.
    written: Vec<Written>,
}

#[derive(Debug)]
enum Written {
    Frame(SegmentId, FrameInfo, [u8; FRAME_HEADER_LEN]),
    Seal(Box<Sealed>, Bytes),
}

/// The segment that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) header: SegmentHeader,
    pub(crate) frames: Vec<FrameInfo>,
    pub(crate) index: BTreeMap<Ino, Vec<RecordPosition>>,
    pub(crate) changes: Vec<u8>,
    pub(crate) payload_bytes: u64,
    pub(crate) position: u64,
}

/// The files of the local log.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    /// In the order in which they were begun; the last one is written to.
    pub(crate) in_use: Vec<LogFile>,
    pub(crate) free: Vec<LogFile>,
    pub(crate) next_number: u64,
    /// A file takes no further segment once it has this many bytes.
    file_bytes: u64,
    buffer: Vec<u8>,
    dirty: Vec<Arc<dyn DiskFile>>,
    dir_dirty: bool,
}

#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) segments: Vec<SegmentId>,
    /// Where the next byte goes, buffered ones not counted.
    pub(crate) end: u64,
    pub(crate) len: u64,
    /// It takes no further segment, whatever room it has.
    pub(crate) full: bool,
    /// Up to where an earlier writer's segments were found in it, and the CRC32C of all up to there.
    pub(crate) found: (u64, u32),
}

impl LogWriter {
    /// A writer that keeps frames in memory only and goes on after the history that ends at `lsn` with `chain`.
    #[must_use]
    pub fn in_memory(
        identity: WriterIdentity,
        residency: Arc<Residency>,
        lsn: Lsn,
        chain: ChainHash,
    ) -> Self {
        Self {
            identity,
            residency,
            files: None,
            current: None,
            lsn,
            chain,
            durable: Lsn(0),
            poison: None,
            written: Vec::new(),
        }
    }

    pub(crate) fn on_disk(
        identity: WriterIdentity,
        residency: Arc<Residency>,
        files: Files,
        lsn: Lsn,
        chain: ChainHash,
    ) -> Self {
        Self { files: Some(files), durable: lsn, ..Self::in_memory(identity, residency, lsn, chain) }
    }

    /// Up to where the log is on the local disk for certain; 0 in memory mode.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// The LSN and chain hash at the end of what was written.
    #[must_use]
    pub const fn end(&self) -> (Lsn, ChainHash) {
        (self.lsn, self.chain)
    }

    /// Whether there is a local disk.
    #[must_use]
    pub const fn has_disk(&self) -> bool {
        self.files.is_some()
    }

    /// Writes `work` in order; with `sync`, everything written so far is then on the disk for certain. Returns up to
    /// where it is.
    ///
    /// # Errors
    /// `Io` when the disk refused; from then on every call is `Poisoned`.
    pub fn write(&mut self, work: Vec<Work>, sync: bool) -> Result<Lsn, JournalError> {
        if let Some(why) = &self.poison {
            return Err(JournalError::Poisoned(why.clone()));
        }
        let done = self.try_write(work, sync);
        if let Err(error) = &done {
            self.poison = Some(error.to_string());
        }
        done
    }

    /// A file of the local log takes no further segment once it has this many bytes.
    pub fn set_file_bytes(&mut self, bytes: u64) {
        if let Some(files) = &mut self.files {
            files.file_bytes = bytes;
        }
    }

    /// Lets go of the disk: the log takes nothing more, and the directory is free for another.
    pub fn release(&mut self) {
        self.files = None;
        self.poison.get_or_insert_with(|| "the volume was closed".to_owned());
    }

    /// Makes files whose segments are all committed ready for reuse, oldest first, while the log is over
    /// `budget` bytes.
    pub fn recycle(&mut self, budget: u64) {
        let Some(files) = &mut self.files else { return };
        let mut total: u64 = files.in_use.iter().map(|file| file.end).sum();
        while total > budget && files.in_use.len() > 1 {
            let oldest = &files.in_use[0];
            if !oldest.segments.iter().all(|id| self.residency.is_committed(*id)) {
                break;
            }
            let mut file = files.in_use.remove(0);
            total -= file.end;
            for id in file.segments.drain(..) {
                self.residency.forget(id);
            }
            (file.end, file.full, file.found) = (0, false, (0, 0));
            files.free.push(file);
        }
    }

    fn try_write(&mut self, work: Vec<Work>, sync: bool) -> Result<Lsn, JournalError> {
        for Work(item) in work {
            match item {
                Item::Frame(frame) => self.write_frame(&frame)?,
                Item::Seal(id) => self.seal(id)?,
            }
        }
        if let Some(files) = &mut self.files {
            files.flush()?;
        }
        for written in self.written.drain(..) {
            match written {
                Written::Frame(id, info, header) => self.residency.frame_written(id, info, header),
                Written::Seal(sealed, footer) => self.residency.seal(*sealed, footer),
            }
        }
        if let Some(files) = self.files.as_mut().filter(|_| sync) {
            files.sync()?;
            self.durable = self.lsn;
        }
        Ok(self.durable)
    }

    fn write_frame(&mut self, frame: &ClosedFrame) -> Result<(), JournalError> {
        if self.current.is_none() {
            self.begin(frame.segment)?;
        }
        let current = self.current.as_mut().expect("a segment was begun");
        debug_assert_eq!((current.header.id, current.position), (frame.segment, frame.position));
        let info = FrameInfo {
            position: frame.position,
            base: frame.base,
            count: frame.count,
            payload_len: frame.payload.len() as u32,
            changes_len: frame.changes.len() as u32,
            payload_crc: crc32c::crc32c(&frame.payload),
            changes_crc: crc32c::crc32c(&frame.changes),
        };
        let chain = self.chain.extend(frame.base, frame.count, &frame.payload, &frame.changes);
        let header = FrameHeader {
            tag: current.header.tag(),
            base: frame.base,
            count: frame.count,
            payload_len: info.payload_len,
            changes_len: info.changes_len,
            payload_crc: info.payload_crc,
            changes_crc: info.changes_crc,
            durable: self.durable,
            chain,
            volume: volume_mark(self.identity.volume),
        };
        let bytes = header.encode();
        if let Some(files) = &mut self.files {
            files.push(&[&bytes, &frame.payload, &frame.changes])?;
        }
        self.lsn = header.end();
        self.chain = chain;
        current.push(info, &frame.changes, frame.index.iter().copied());
        self.written.push(Written::Frame(frame.segment, info, bytes));
        Ok(())
    }

    fn begin(&mut self, id: SegmentId) -> Result<(), JournalError> {
        let WriterIdentity { volume, epoch, writer } = self.identity;
        let version = FORMAT;
        let header = SegmentHeader { version, volume, id, epoch, writer, base: self.lsn, chain: self.chain };
        let bytes = header.encode();
        let part = match &mut self.files {
            Some(files) => Some(files.begin(id, &bytes)?),
            None => None,
        };
        self.residency.begin(id, bytes, part);
        self.current = Some(Current::new(header));
        Ok(())
    }

    fn seal(&mut self, id: SegmentId) -> Result<(), JournalError> {
        let current = self.current.take().filter(|current| current.header.id == id);
        let Some(current) = current else { return Ok(()) };
        let (sealed, footer) = current.seal(self.lsn, self.chain);
        if let Some(files) = &mut self.files {
            files.push(&[&footer])?;
        }
        self.written.push(Written::Seal(Box::new(sealed), footer));
        Ok(())
    }
}

impl Current {
    pub(crate) const fn new(header: SegmentHeader) -> Self {
        Self {
            header,
            frames: Vec::new(),
            index: BTreeMap::new(),
            changes: Vec::new(),
            payload_bytes: 0,
            position: SEGMENT_HEADER_LEN as u64,
        }
    }

    pub(crate) fn push(&mut self, info: FrameInfo, changes: &[u8], index: impl Iterator<Item = (Ino, u32)>) {
        let frame = self.frames.len() as u32;
        for (ino, record) in index {
            self.index.entry(ino).or_default().push(RecordPosition { frame, record });
        }
        self.position = info.changes_start() + u64::from(info.changes_len);
        self.payload_bytes += u64::from(info.payload_len);
        self.changes.extend_from_slice(changes);
        self.frames.push(info);
    }

    pub(crate) fn seal(self, end: Lsn, chain: ChainHash) -> (Sealed, Bytes) {
        let repeats = self.payload_bytes > self.changes.len() as u64;
        let footer = Footer {
            base: self.header.base,
            end,
            chain,
            frames: self.frames,
            index: self.index,
            changes: repeats.then_some(ByteSection(self.changes)),
        };
        let (bytes, hash) = footer.encode(&self.header.encode());
        let sealed = Sealed {
            header: self.header,
            len: self.position + bytes.len() as u64,
            footer_len: bytes.len() as u32,
            hash,
            chain,
            footer: Arc::new(footer),
        };
        (sealed, bytes)
    }
}

impl LogFile {
    /// Makes what the file holds be no segment any more, for certain.
    pub(crate) fn wipe(&self) -> Result<(), JournalError> {
        let wiped = self.file.write_all_at(&[0; SEGMENT_HEADER_LEN], 0);
        wiped.map_err(JournalError::io("write", &self.name))?;
        self.file.sync_data().map_err(JournalError::io("sync", &self.name))
    }

    fn write_again(&self) -> Result<(), JournalError> {
        let (end, wanted) = self.found;
        let mut piece = vec![0; BUFFER_BYTES];
        let (mut at, mut crc) = (0, 0);
        while at < end {
            let len = usize::try_from(end - at).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            let read =
                self.file.read_at(&mut piece[..len], at).map_err(JournalError::io("read", &self.name))?;
            if read < len {
                break;
            }
            self.file.write_all_at(&piece[..len], at).map_err(JournalError::io("write", &self.name))?;
            crc = crc32c::crc32c_append(crc, &piece[..len]);
            at += len as u64;
        }
        if at < end || crc != wanted {
            // The system let go of what it could not write.
            return Err(JournalError::damaged(&self.name, at, "it is not any more what was found in it"));
        }
        Ok(())
    }
}

impl Files {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        in_use: Vec<LogFile>,
        free: Vec<LogFile>,
        next_number: u64,
    ) -> Self {
        Self {
            disk,
            in_use,
            free,
            next_number,
            file_bytes: FILE_BYTES,
            buffer: Vec::new(),
            dirty: Vec::new(),
            dir_dirty: false,
        }
    }

    /// Sees to it that nothing of a segment that an earlier writer began stands where the next one will, once the log is
    /// synced. It need not be a whole header to become one again: the first bytes of any two are the same, and the sectors
    /// that they lie in reach the disk each for itself.
    pub(crate) fn wipe_end(&self) -> Result<(), JournalError> {
        let Some(file) = self.in_use.last() else { return Ok(()) };
        let len = file.len.saturating_sub(file.end).min(SEGMENT_HEADER_LEN as u64);
        let wiped = file.file.write_all_at(&[0; SEGMENT_HEADER_LEN][..len as usize], file.end);
        wiped.map_err(JournalError::io("write", &file.name))
    }

    /// Starts a segment: in the file that is being written, or in the next when that one is full.
    fn begin(&mut self, id: SegmentId, header: &[u8]) -> Result<FilePart, JournalError> {
        let buffered = self.buffer.len() as u64;
        if self.in_use.last().is_none_or(|file| file.full || file.end + buffered >= self.file_bytes) {
            self.flush()?;
            let next = self.next_file()?;
            self.in_use.push(next);
        }
        let buffered = self.buffer.len() as u64;
        let file = self.in_use.last_mut().expect("there is a file to write to");
        file.segments.push(id);
        let part =
            FilePart { file: Arc::clone(&file.file), name: file.name.clone(), start: file.end + buffered };
        self.push(&[header])?;
        Ok(part)
    }

    fn next_file(&mut self) -> Result<LogFile, JournalError> {
        if let Some(file) = self.free.pop() {
            return Ok(file);
        }
        let name = file_name(self.next_number);
        self.next_number += 1;
        let file = self.disk.open(&name, true).map_err(JournalError::io("creation", &name))?;
        let len = file.len().map_err(JournalError::io("opening", &name))?;
        self.dir_dirty = true;
        Ok(LogFile { name, file, segments: Vec::new(), end: 0, len, full: false, found: (0, 0) })
    }

    pub(crate) fn push(&mut self, pieces: &[&[u8]]) -> Result<(), JournalError> {
        for piece in pieces {
            self.buffer.extend_from_slice(piece);
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), JournalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = self.in_use.last_mut().expect("bytes are buffered for a file");
        let end = file.end + self.buffer.len() as u64;
        // A large write makes its own blocks; small ones that grow the file would pay for metadata at every sync.
        if end > file.len && (self.buffer.len() as u64) < FILL_AHEAD / 4 {
            self.buffer.resize(self.buffer.len() + FILL_AHEAD as usize, 0);
        }
        let written = file.file.write_all_at(&self.buffer, file.end);
        written.map_err(JournalError::io("write", &file.name))?;
        file.len = file.len.max(file.end + self.buffer.len() as u64);
        file.end = end;
        self.buffer.clear();
        if !self.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, &file.file)) {
            self.dirty.push(Arc::clone(&file.file));
        }
        Ok(())
    }

    /// Writes again, in its place, what an earlier writer left and what later records need: those of a file are found by
    /// walking it from its start.
    ///
    /// What was read may be in the system's memory only, and taken for written there: so it is after a sync that failed,
    /// which no later sync makes up for.
    pub(crate) fn write_again(&mut self, residency: &Residency) -> Result<(), JournalError> {
        let last = self.in_use.len().saturating_sub(1);
        for (number, file) in self.in_use.iter_mut().enumerate() {
            if file.segments.iter().all(|id| residency.is_committed(*id)) {
                if number < last {
                    continue;
                }
                if file.end > WRITTEN_AGAIN_TO_GO_ON {
                    file.full = true;
                    continue;
                }
            }
            file.write_again()?;
        }
        Ok(())
    }

    /// Syncs every file of the log, whoever wrote to it.
    pub(crate) fn sync_all(&mut self) -> Result<(), JournalError> {
        self.dirty = self.in_use.iter().map(|file| Arc::clone(&file.file)).collect();
        self.dir_dirty = true;
        self.sync()
    }

    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        for file in &self.dirty {
            file.sync_data().map_err(JournalError::io("sync", "the local log"))?;
        }
        self.dirty.clear();
        if self.dir_dirty {
            self.disk.sync_dir().map_err(JournalError::io("sync", "the local log's directory"))?;
            self.dir_dirty = false;
        }
        Ok(())
    }
}

pub(crate) fn file_name(number: u64) -> String {
    format!("log-{number:08}")
}

pub(crate) fn file_number(name: &str) -> Option<u64> {
    name.strip_prefix("log-")?.parse().ok().filter(|number| *number < NUMBER_END)
}
