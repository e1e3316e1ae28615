//! A second reader of the log's format, which knows only where things are, and the ways to open what tests made.

use std::ops::Range;
use std::sync::Arc;

use rfs_core::{Context, Lsn, SegmentId, Timestamp};
use rfs_journal::{
    ChainHash, Disk, FRAME_HEADER_LEN, Head, JournalError, OpenedLog, Residency, SEGMENT_HEADER_LEN,
    WriterIdentity, open_log,
};
use rfs_testkit::{CrashPlan, Dump, JournalEngine, SimDisk, Snapshot, dump_tree};

pub(crate) const LOG: &str = "log-00000000";
pub(crate) const MARKER: &str = "volume";
/// Of whoever opens the log after the first writer.
pub(crate) const NEXT: WriterIdentity = WriterIdentity { epoch: 2, writer: 12, ..JournalEngine::IDENTITY };

/// The context of an Op by root, who holds nothing open.
pub(crate) fn as_root() -> Context<'static> {
    Context::new(Timestamp::from_nanos(0))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SegmentHeader,
    Frame,
    Footer,
}

/// A piece of a log file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
    /// Where the history ends that is whole before this piece.
    pub(crate) before: Lsn,
    /// Where the history ends that is whole with this piece.
    pub(crate) with: Lsn,
    /// What a frame says was synced when it was written; 0 of other pieces.
    pub(crate) durable: Lsn,
}

/// The pieces of an undamaged log file, up to the first byte that belongs to none.
pub(crate) fn parts(bytes: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut at, mut lsn) = (0, Lsn(0));
    loop {
        let rest = &bytes[at..];
        let number = |start: usize| u32::from_le_bytes(rest[start..start + 4].try_into().unwrap());
        let long = |start: usize| u64::from_le_bytes(rest[start..start + 8].try_into().unwrap());
        let (before, mut durable) = (lsn, Lsn(0));
        let (kind, len) = if rest.starts_with(b"RFS-SEG\0") {
            lsn = Lsn(long(64));
            (Kind::SegmentHeader, SEGMENT_HEADER_LEN)
        } else if rest.starts_with(b"RFSF") {
            durable = Lsn(long(40));
            lsn = Lsn(long(32) + u64::from(number(12)));
            (Kind::Frame, FRAME_HEADER_LEN + (number(16) + number(20)) as usize)
        } else if rest.iter().take(8).any(|byte| *byte != 0) {
            let magic = rest.windows(8).position(|window| window == b"RFS-FTR\0").expect("a footer ends");
            (Kind::Footer, magic + 12)
        } else {
            return parts;
        };
        let before = if kind == Kind::SegmentHeader { lsn } else { before };
        parts.push(Part { kind, range: at..at + len, before, with: lsn, durable });
        at += len;
        if at == bytes.len() {
            return parts;
        }
    }
}

/// The content of a file without the zeros that fill it ahead of what is written.
pub(crate) fn written(disk: &SimDisk, name: &str) -> Vec<u8> {
    let mut bytes = disk.content(name).expect("the file is there");
    while bytes.last_chunk::<4096>().is_some_and(|chunk| *chunk == [0; 4096]) {
        bytes.truncate(bytes.len() - 4096);
    }
    let end = parts(&bytes).last().map_or(0, |part| part.range.end);
    bytes.truncate(end);
    bytes
}

/// Takes the zeros off that fill log files ahead, but for some: so that opening them takes less time.
pub(crate) fn trim(disk: &SimDisk) {
    for name in disk.names().iter().filter(|name| name.starts_with("log-")) {
        let bytes = disk.content(name).expect("a listed file is there");
        let filled = bytes.rchunks(4096).take_while(|chunk| chunk.iter().all(|byte| *byte == 0)).count();
        disk.truncate(name, bytes.len().saturating_sub(filled.saturating_sub(1) * 4096));
    }
}

/// A disk with these files, all of them certain.
pub(crate) fn disk_with(files: &[(&str, &[u8])]) -> SimDisk {
    let disk = SimDisk::new(CrashPlan::never());
    for (name, content) in files {
        disk.set_content(name, content);
    }
    disk
}

pub(crate) fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Opens the log of a volume whose committed history ends at `at`; `committed` are the other ends of its commits.
pub(crate) fn open_at(
    disk: &SimDisk,
    at: (Lsn, ChainHash),
    next_segment: SegmentId,
    committed: &[(Lsn, ChainHash)],
) -> Result<(Arc<Residency>, OpenedLog), JournalError> {
    let is_committed = |lsn, chain| (lsn, chain) == at || committed.contains(&(lsn, chain));
    let head = Head {
        lsn: at.0,
        chain: at.1,
        next_segment,
        is_committed: &is_committed,
        is_committed_segment: &|_| false,
    };
    let residency = Arc::new(Residency::default());
    let log = open_log(&shared(disk), NEXT, &residency, &head)?;
    Ok((residency, log))
}

/// The tree that a log's tail gives, from the state before it.
pub(crate) fn replay(from: &Snapshot, log: &OpenedLog) -> Snapshot {
    let mut replayed = from.clone();
    replayed.replay(&log.tail).unwrap();
    replayed
}

/// A tree with its content from the local log.
pub(crate) fn dump_local(snapshot: &Snapshot, residency: &Residency) -> Dump {
    dump_tree(&snapshot.tree, |place, len| residency.read(place, len).unwrap().unwrap().to_vec())
}
