//! Opens the local log that an earlier writer left, and decides where it ends.
//!
//! Each file is walked from its start: segment header, frames, footer, next segment. What stands where the walk
//! stops is one of these observations, and the decision follows from the table:
//!
//! | where the next frame should be | evidence that more was once safe | decision |
//! |---|---|---|
//! | nothing was written, or what stood in a recycled file | no | [`LogEnd::Clean`] |
//! | a frame, header or footer that is not whole | no | [`LogEnd::Torn`]: it was never acknowledged |
//! | anything | yes | `Damaged`: acknowledged records are gone |
//! | a frame or segment of an unknown version | - | `UnknownFormat` |
//! | a segment of another volume | - | `Foreign` |
//!
//! *Evidence* is a frame, anywhere in the log, that was written when the log was known to be synced past the place
//! where it now ends ([`FrameHeader::durable`]). What a recycled file held before is never evidence: it was
//! committed, so it ends no later than the log does.

use std::collections::HashMap;
use std::sync::Arc;

use rfs_core::{Lsn, SegmentId};

use crate::frame::{ChainHash, FRAME_MAGIC, FrameHeader, HeaderFound, volume_mark};
use crate::reader::{frame_info, index_of, unknown};
use crate::resident::{FilePart, Residency};
use crate::segment::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SegmentFound, SegmentHeader, VolumeId};
use crate::writer::{Current, Files, LogFile, LogWriter, WriterIdentity, file_number};
use crate::{Disk, DiskFile, FRAME_HEADER_LEN, JournalError, Record};

const MARKER: &str = "volume";
const MARKER_MAGIC: [u8; 8] = *b"RFS-DIR\0";
const MARKER_LEN: usize = 28;
/// A log file larger than this was not written by rfs.
const FILE_BYTES_MAX: u64 = 1 << 31;

/// Where the committed history ends, as the object store has it.
pub struct Head<'a> {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its chain hash.
    pub chain: ChainHash,
    /// The number of the next segment.
    pub next_segment: SegmentId,
    /// Whether a history that ends so is known to be committed.
    pub is_committed: &'a dyn Fn(Lsn, ChainHash) -> bool,
    /// Whether the segment that begins so is committed, as far as it goes: what the log has of it is a part of that.
    pub is_committed_segment: &'a dyn Fn(&SegmentHeader) -> bool,
}

/// How the local log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// Right behind the last whole frame.
    Clean,
    /// A frame, footer or segment header that is not whole stands behind it: cut off when the writer died. Nobody was
    /// told that it was safe.
    Torn,
}

/// A local log that does not continue the committed history: another writer took over meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphaned {
    /// Where its files are now, in the local directory.
    pub files: Vec<String>,
    /// The LSN at which it ends.
    pub end: Lsn,
}

/// A local log, opened for writing.
#[derive(Debug)]
pub struct OpenedLog {
    /// Goes on where the log ends.
    pub writer: LogWriter,
    /// The number of the next segment.
    pub next_segment: SegmentId,
    /// What the log holds past the committed history, in order.
    pub tail: Vec<Record>,
    /// How it ended.
    pub end: LogEnd,
    /// What was put aside.
    pub orphaned: Option<Orphaned>,
}

/// Opens the log in `disk`, or begins one in an empty directory.
///
/// # Errors
/// `Foreign` when the directory serves another volume, `Damaged` when acknowledged records are gone,
/// `UnknownFormat`, `Io`.
pub fn open_log(
    disk: &Arc<dyn Disk>,
    identity: WriterIdentity,
    residency: &Arc<Residency>,
    head: &Head<'_>,
) -> Result<OpenedLog, JournalError> {
    scan_log(disk, identity.volume)?.adopt(identity, residency, head)
}

/// Reads the log in `disk`. Nothing is changed but the mark of an empty directory.
///
/// # Errors
/// `Foreign`, `UnknownFormat`, `Io`.
pub fn scan_log(disk: &Arc<dyn Disk>, volume: VolumeId) -> Result<ScannedLog, JournalError> {
    let mut names = disk.list().map_err(JournalError::io("listing", "the local log's directory"))?;
    names.retain(|name| file_number(name).is_some());
    names.sort();
    claim(disk, volume)?;
    let next_number = names.last().and_then(|name| file_number(name)).map_or(0, |number| number + 1);
    let mut walks = Vec::with_capacity(names.len());
    for name in &names {
        walks.push(Walk::of(disk, name, volume)?);
    }
    Ok(ScannedLog { disk: Arc::clone(disk), walks, next_number })
}

/// A local log that was read, and is not written to yet.
pub struct ScannedLog {
    disk: Arc<dyn Disk>,
    walks: Vec<Walk>,
    next_number: u64,
}

/// The segments that go on from the head, and where they end.
struct Run {
    segments: Vec<(usize, usize)>,
    end: (Lsn, ChainHash),
}

impl ScannedLog {
    /// The numbers of the segments in it.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.walks.iter().flat_map(|walk| &walk.segments).map(|found| found.header.id)
    }

    /// Sees whether the log can be adopted.
    ///
    /// # Errors
    /// `Damaged` when acknowledged records are gone.
    pub fn check(&self, head: &Head<'_>) -> Result<(), JournalError> {
        self.run(head).map(drop)
    }

    /// Goes on with the log, or, where it does not touch the committed history, puts it aside and begins another.
    ///
    /// # Errors
    /// As [`ScannedLog::check`]; `Io`.
    pub fn adopt(
        self,
        identity: WriterIdentity,
        residency: &Arc<Residency>,
        head: &Head<'_>,
    ) -> Result<OpenedLog, JournalError> {
        let run = self.run(head)?;
        let Self { disk, walks, next_number } = self;
        let Some(Run { segments, end }) = run else {
            return set_aside(&disk, identity, residency, head, &walks, next_number);
        };
        let torn = walks.iter().enumerate().any(|(file, walk)| {
            let goes_on_here = segments.last().is_some_and(|last| last.0 == file);
            walk.torn && (goes_on_here || walk.segments.iter().all(|found| found.records.is_empty()))
        });
        let log_end = if torn { LogEnd::Torn } else { LogEnd::Clean };
        let (writer, tail, next_segment) =
            adopt(&disk, identity, residency, head, walks, &segments, (end.0, end.1, next_number))?;
        Ok(OpenedLog { writer, next_segment, tail, end: log_end, orphaned: None })
    }

    fn run(&self, head: &Head<'_>) -> Result<Option<Run>, JournalError> {
        let walks = &self.walks;
        let Some(segments) = choose(walks, head) else { return Ok(None) };
        let end = segments.last().map_or((head.lsn, head.chain), |at| walks[at.0].segments[at.1].end());
        let durable = walks.iter().map(|walk| walk.durable).max().unwrap_or_default();
        if durable > end.0 {
            let last = segments.last();
            let file =
                last.or(walks.first().map(|_| &(0, 0))).map_or("the local log", |at| &walks[at.0].name);
            let offset = last.map_or(0, |at| walks[at.0].segments[at.1].stop);
            let what = format!("records {} to {durable} were safe once and are gone", end.0.next());
            return Err(JournalError::damaged(file, offset, what));
        }
        Ok(Some(Run { segments, end }))
    }
}

/// One segment as the walk found it.
struct Found {
    header: SegmentHeader,
    start: u64,
    /// Where the walk stopped: behind the footer when it is sealed, else behind the last whole frame.
    stop: u64,
    sealed: bool,
    /// The CRC32C of the file up to `stop`.
    crc: u32,
    current: Current,
    frame_headers: Vec<[u8; crate::FRAME_HEADER_LEN]>,
    records: Vec<Record>,
    chain: ChainHash,
}

impl Found {
    fn end(&self) -> (Lsn, ChainHash) {
        (self.records.last().map_or(self.header.base, |last| last.lsn), self.chain)
    }
}

/// What one file holds.
struct Walk {
    name: String,
    file: Arc<dyn crate::DiskFile>,
    len: u64,
    segments: Vec<Found>,
    /// Something was begun behind the last whole frame and is not whole.
    torn: bool,
    /// Up to where the log was synced, by the word of any frame in the file.
    durable: Lsn,
}

impl Walk {
    fn of(disk: &Arc<dyn Disk>, name: &str, volume: VolumeId) -> Result<Self, JournalError> {
        let file = disk.open(name, false).map_err(JournalError::io("opening", name))?;
        let len = file.len().map_err(JournalError::io("opening", name))?;
        if len > FILE_BYTES_MAX {
            return Err(JournalError::damaged(name, FILE_BYTES_MAX, "it is larger than any log file"));
        }
        let mut bytes = vec![0; len as usize];
        let read = file.read_at(&mut bytes, 0).map_err(JournalError::io("read", name))?;
        bytes.truncate(read);
        let mut walk =
            Self { name: name.to_owned(), file, len, segments: Vec::new(), torn: false, durable: Lsn(0) };
        let (mut at, mut crc) = (0, 0);
        while let Some(mut found) = walk.segment_at(&bytes, at, volume)? {
            crc = crc32c::crc32c_append(crc, &bytes[at..found.stop as usize]);
            found.crc = crc;
            at = found.stop as usize;
            let sealed = found.sealed;
            walk.segments.push(found);
            if !sealed {
                break;
            }
        }
        walk.torn = walk.is_cut_off(&bytes[at..]);
        let behind =
            magics(&bytes[at..]).filter_map(|offset| match FrameHeader::find(&bytes[at + offset..]) {
                HeaderFound::Header(header) if header.volume == volume_mark(volume) => Some(header.durable),
                _ => None,
            });
        walk.durable = behind.fold(walk.durable, Lsn::max);
        Ok(walk)
    }

    fn segment_at(
        &mut self,
        bytes: &[u8],
        start: usize,
        volume: VolumeId,
    ) -> Result<Option<Found>, JournalError> {
        let header = match SegmentHeader::find(&bytes[start..]) {
            SegmentFound::Header(header) => header,
            SegmentFound::Unknown(version) => return Err(unknown(&self.name, version)),
            SegmentFound::Nothing => return Ok(None),
        };
        // What does not follow was in the file before it was recycled, and may be anything.
        let stale = self.segments.last().is_some_and(|last| {
            (header.id, header.base, header.chain) != (last.header.id.next(), last.end().0, last.end().1)
        });
        if stale {
            return Ok(None);
        }
        if header.volume != volume {
            return Err(foreign(&self.name, header.volume, volume));
        }
        let mut found = Found {
            header,
            start: start as u64,
            stop: 0,
            sealed: false,
            crc: 0,
            current: Current::new(header),
            frame_headers: Vec::new(),
            records: Vec::new(),
            chain: header.chain,
        };
        let mut at = start + SEGMENT_HEADER_LEN;
        loop {
            let frame = &bytes[at..];
            let header = match FrameHeader::find(frame) {
                HeaderFound::Header(header) => header,
                HeaderFound::Unknown(version) => return Err(unknown(&self.name, version)),
                HeaderFound::Nothing => break,
            };
            let Some(records) = found.next_frame(&self.name, &header, frame)? else { break };
            self.durable = self.durable.max(header.durable);
            found.records.extend(records);
            // As it stands there: a frame of an older version stays one.
            found.frame_headers.extend(frame.first_chunk::<FRAME_HEADER_LEN>());
            at += header.frame_len() as usize;
        }
        found.settle(bytes, start, at);
        Ok(Some(found))
    }

    /// Whether a frame, a footer or a segment's header was begun in `rest`, which is behind the last whole frame or
    /// footer. What else stands there was in the file before it was recycled.
    fn is_cut_off(&self, rest: &[u8]) -> bool {
        let begins = |mark: &[u8]| {
            let len = rest.len().min(mark.len()).min(8);
            len > 0 && rest[..len] == mark[..len]
        };
        let unsealed = self.segments.last().filter(|last| !last.sealed);
        let footer = unsealed.filter(|last| !last.records.is_empty()).map(Found::footer);
        match FrameHeader::find(rest) {
            HeaderFound::Header(frame) => {
                unsealed.is_some_and(|last| (frame.tag, frame.base) == (last.header.tag(), last.end().0))
            }
            HeaderFound::Unknown(_) => false,
            HeaderFound::Nothing => {
                begins(&FRAME_MAGIC)
                    || begins(&SEGMENT_MAGIC) && SegmentHeader::find(rest) == SegmentFound::Nothing
                    || footer.is_some_and(|footer| begins(&footer))
            }
        }
    }
}

impl Found {
    /// The records of `frame`, if it is whole and continues the segment.
    fn next_frame(
        &mut self,
        artefact: &str,
        header: &FrameHeader,
        frame: &[u8],
    ) -> Result<Option<Vec<Record>>, JournalError> {
        if (header.tag, header.base) != (self.header.tag(), self.end().0) {
            return Ok(None);
        }
        let Some((payload, changes)) = header.body(frame) else { return Ok(None) };
        let chain = self.chain.extend(header.base, header.count, payload, changes);
        if chain != header.chain {
            return Ok(None);
        }
        let info = frame_info(header, self.current.position);
        let records = info.decode(artefact, self.header.id, changes)?;
        self.current.push(info, changes, index_of(&records));
        self.chain = chain;
        Ok(Some(records))
    }

    /// The footer that the frames give.
    fn footer(&self) -> bytes::Bytes {
        let (lsn, chain) = self.end();
        self.current.clone().seal(lsn, chain).1
    }

    /// Sees whether the segment was sealed: its footer is the one that its frames give.
    fn settle(&mut self, bytes: &[u8], start: usize, at: usize) {
        let footer = self.footer();
        debug_assert_eq!(start as u64 + self.current.position, at as u64);
        self.sealed = !self.records.is_empty() && bytes[at..].starts_with(&footer);
        self.stop = (at + if self.sealed { footer.len() } else { 0 }) as u64;
    }
}

/// The segments, by (file, number in the file), that lead to the head and go on from it, in order; `None` when the
/// log does not touch the head at all though it holds something that is not known to be committed.
fn choose(walks: &[Walk], head: &Head<'_>) -> Option<Vec<(usize, usize)>> {
    let mut by_start = HashMap::new();
    let mut by_end = HashMap::new();
    for (file, walk) in walks.iter().enumerate() {
        for (number, found) in walk.segments.iter().enumerate().filter(|(_, found)| !found.records.is_empty())
        {
            by_start.insert((found.header.base, found.header.chain), (file, number));
            by_end.insert(found.end(), (file, number));
        }
    }
    // A segment is followed by another only once it was sealed. If the seal is gone, so is what followed: had it been
    // safe, there would be evidence.
    let found = |at: &(usize, usize)| &walks[at.0].segments[at.1];
    let mut run: Vec<(usize, usize)> = Vec::new();
    let mut from = (head.lsn, head.chain);
    while let Some(before) = by_end.get(&from).filter(|at| run.is_empty() || found(at).sealed) {
        from = (found(before).header.base, found(before).header.chain);
        run.push(*before);
    }
    run.reverse();
    let mut to = (head.lsn, head.chain);
    while run.last().is_none_or(|last| found(last).sealed)
        && let Some(after) = by_start.get(&to)
    {
        to = found(after).end();
        run.push(*after);
    }
    // Two histories may end at the same position: each of them counts.
    let end = by_end.keys().map(|(lsn, _)| *lsn).max();
    let all_committed = by_end.iter().filter(|((lsn, _), _)| Some(*lsn) == end).all(|((lsn, chain), at)| {
        (head.is_committed)(*lsn, *chain) || (head.is_committed_segment)(&found(at).header)
    });
    (!run.is_empty() || all_committed).then_some(run)
}

/// Takes over the files: those of the run stay, an unsealed last segment is sealed, the others are free.
fn adopt(
    disk: &Arc<dyn Disk>,
    identity: WriterIdentity,
    residency: &Arc<Residency>,
    head: &Head<'_>,
    walks: Vec<Walk>,
    run: &[(usize, usize)],
    (lsn, chain, next_number): (Lsn, ChainHash, u64),
) -> Result<(LogWriter, Vec<Record>, SegmentId), JournalError> {
    let mut in_use: Vec<(SegmentId, LogFile)> = Vec::new();
    let mut free = Vec::new();
    let mut tail = Vec::new();
    let mut unsealed = None;
    let mut next_segment = head.next_segment;
    for (file_at, walk) in walks.into_iter().enumerate() {
        let Walk { name, file, len, .. } = walk;
        let mut file = LogFile { name, file, segments: Vec::new(), end: 0, len, full: false, found: (0, 0) };
        let mut first = None;
        let begun = !walk.segments.is_empty();
        let found_end = walk.segments.iter().map(|found| found.end().0).max().unwrap_or_default();
        for (number, found) in walk.segments.into_iter().enumerate() {
            if !run.contains(&(file_at, number)) {
                continue;
            }
            let id = found.header.id;
            first.get_or_insert(id);
            file.segments.push(id);
            file.end = found.stop;
            file.found = (found.stop, found.crc);
            let part = FilePart { file: Arc::clone(&file.file), name: file.name.clone(), start: found.start };
            let frames = found.current.frames.iter().copied().zip(found.frame_headers).collect();
            residency.restore(id, found.header.encode(), part, frames);
            let end = found.records.last().map_or(found.header.base, |last| last.lsn);
            let (sealed, footer) = found.current.seal(end, found.chain);
            residency.seal(sealed, footer.clone());
            if !found.sealed {
                unsealed = Some((file.name.clone(), footer));
            }
            if end <= head.lsn {
                residency.mark_committed(id);
            } else {
                tail.push((id, found.records));
            }
            next_segment = next_segment.max(id.next());
        }
        match first {
            Some(id) => in_use.push((id, file)),
            None => {
                if begun && found_end >= lsn {
                    // What was begun here is given up. It must not be taken for the continuation by a later opener, nor
                    // become whole by what the next writer puts in its place.
                    file.wipe()?;
                }
                free.push(file);
            }
        }
    }
    in_use.sort_by_key(|(id, _)| *id);
    tail.sort_by_key(|(id, _)| *id);
    let in_use = in_use.into_iter().map(|(_, file)| file).collect();
    let mut files = Files::new(Arc::clone(disk), in_use, free, next_number);
    if let Some((name, footer)) = unsealed {
        // Only the run's last segment can be unsealed, and it is in the file that is written to.
        debug_assert_eq!(files.in_use.last().map(|file| &file.name), Some(&name));
        files.push(&[&footer])?;
        files.flush()?;
    }
    // Nor what was given up behind it, in the same file.
    files.wipe_end()?;
    files.write_again(residency)?;
    files.sync_all()?;
    let writer = LogWriter::on_disk(identity, Arc::clone(residency), files, lsn, chain);
    Ok((writer, tail.into_iter().flat_map(|(_, records)| records).collect(), next_segment))
}

/// Moves all files to `orphaned/` and begins a new log.
fn set_aside(
    disk: &Arc<dyn Disk>,
    identity: WriterIdentity,
    residency: &Arc<Residency>,
    head: &Head<'_>,
    walks: &[Walk],
    next_number: u64,
) -> Result<OpenedLog, JournalError> {
    let found = walks.iter().flat_map(|walk| &walk.segments);
    let last = found.max_by_key(|found| found.end().0);
    let (end, epoch) = last.map_or((Lsn(0), 0), |found| (found.end().0, found.header.epoch));
    let mut files = Vec::new();
    for walk in walks {
        let to = format!("orphaned/epoch-{epoch:08}-lsn-{:012}-{}", end.0, walk.name);
        disk.rename(&walk.name, &to).map_err(JournalError::io("putting aside", &walk.name))?;
        files.push(to);
    }
    disk.sync_dir().map_err(JournalError::io("sync", "the local log's directory"))?;
    let files_in_use = Files::new(Arc::clone(disk), Vec::new(), Vec::new(), next_number);
    let writer = LogWriter::on_disk(identity, Arc::clone(residency), files_in_use, head.lsn, head.chain);
    Ok(OpenedLog {
        writer,
        next_segment: head.next_segment,
        tail: Vec::new(),
        end: LogEnd::Clean,
        orphaned: Some(Orphaned { files, end }),
    })
}

/// Makes sure that the directory serves this volume, marking an empty one.
///
/// # Errors
/// `Foreign` when it serves another volume, `Damaged` when it has log files and does not say whose, `Io`.
fn claim(disk: &Arc<dyn Disk>, volume: VolumeId) -> Result<(), JournalError> {
    let file = disk.open(MARKER, true).map_err(JournalError::io("opening", MARKER))?;
    let mut bytes = [0; MARKER_LEN];
    let read = file.read_at(&mut bytes, 0).map_err(JournalError::io("read", MARKER))?;
    let mut wanted = Vec::with_capacity(MARKER_LEN);
    wanted.extend(MARKER_MAGIC);
    wanted.extend(volume.to_be_bytes());
    wanted.extend(crc32c::crc32c(&wanted).to_le_bytes());
    if bytes[..] == wanted[..] {
        // Whoever wrote it may have died, or failed, before it was on the disk: the log files would be, and it would not.
        return write_marker(&**disk, &*file, &wanted);
    }
    let whole = read == MARKER_LEN
        && bytes[..8] == MARKER_MAGIC
        && crc32c::crc32c(&bytes[..MARKER_LEN - 4]).to_le_bytes() == bytes[MARKER_LEN - 4..];
    if whole {
        let found: [u8; 16] = bytes[8..24].try_into().expect("the slice has 16 bytes");
        return Err(foreign(MARKER, u128::from_be_bytes(found), volume));
    }
    let names = disk.list().map_err(JournalError::io("listing", "the local log's directory"))?;
    if names.iter().any(|name| file_number(name).is_some()) {
        return Err(JournalError::damaged(
            MARKER,
            0,
            "it does not name a volume, though there are log files",
        ));
    }
    if file.len().map_err(JournalError::io("opening", MARKER))? > MARKER_LEN as u64 {
        return Err(JournalError::damaged(MARKER, 0, "it is longer than any that rfs wrote"));
    }
    write_marker(&**disk, &*file, &wanted)
}

fn write_marker(disk: &dyn Disk, file: &dyn DiskFile, marker: &[u8]) -> Result<(), JournalError> {
    file.write_all_at(marker, 0).map_err(JournalError::io("write", MARKER))?;
    file.sync_data().map_err(JournalError::io("sync", MARKER))?;
    disk.sync_dir().map_err(JournalError::io("sync", "the local log's directory"))
}

fn foreign(artefact: &str, found: VolumeId, wanted: VolumeId) -> JournalError {
    JournalError::Foreign {
        artefact: artefact.to_owned(),
        found: format!("{found:032x}"),
        wanted: format!("{wanted:032x}"),
    }
}

/// The offsets at which a frame's magic stands.
fn magics(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes
        .windows(FRAME_MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == FRAME_MAGIC)
        .map(|(at, _)| at)
}
