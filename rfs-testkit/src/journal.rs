//! The core with the journal under it as an [`Engine`]: what a volume does with an Op, without a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{
    Change, Context, Errno, FileRange, Ino, Lsn, Op, Outcome, Place, SegmentId, StateHash, Timestamp, Tree,
    decide, decide_batch,
};
use rfs_journal::{
    Appender, ChainHash, Cut, Disk, Head, JournalError, LogWriter, OpenedLog, Record, Residency,
    VerifiedSegment, VolumeId, WriterIdentity, open_log, verify_segment,
};

use crate::whole::{loaded, posix};
use crate::{Engine, ManualClock, Rng};

/// After how many of 100 Ops bytes that the Op was about are stored anew.
const RELOCATE_PERCENT: u64 = 10;
/// How many at most.
const RELOCATE_BYTES: u64 = 4096;

/// The tree as it stood when the history ended at some LSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The tree.
    pub tree: Tree,
    /// Its hash, brought up to date Op by Op.
    pub state: StateHash,
}

impl Snapshot {
    /// The snapshot of an empty volume.
    #[must_use]
    pub fn empty() -> Self {
        let tree = Tree::new(START);
        Self { state: loaded(StateHash::of(&tree)), tree }
    }

    /// Replays records, which go on where this snapshot ends, and brings the hash up to date.
    ///
    /// # Errors
    /// The LSN of the record that does not fit, and why.
    pub fn replay(&mut self, records: &[Record]) -> Result<(), String> {
        let before = self.tree.clone();
        for record in records {
            let applied = self.tree.apply(&record.change, record.place);
            applied.map_err(|error| format!("record {}: {error}", record.lsn))?;
        }
        self.state = loaded(self.state.update(&before, &self.tree));
        Ok(())
    }
}

/// When a [`JournalEngine`] writes out what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As frames become full; nothing is synced before [`JournalEngine::finish`].
    Full,
    /// Frame by frame. After an Op the open frame is closed in some cases; a write is synced in some; both by seed.
    Random {
        /// Which run.
        seed: u64,
        /// In how many of 100 cases the open frame is closed after an Op.
        close_percent: u64,
        /// In how many of 100 cases a written frame is synced.
        sync_percent: u64,
    },
}

/// A tree and a journal, which keeps the snapshot of every LSN so that any replay can be compared.
///
/// ```
/// use rfs_core::{At, Context, Op, Timestamp};
/// use rfs_testkit::{Engine, JournalEngine, Pace, Snapshot};
///
/// let mut engine = JournalEngine::in_memory(JournalEngine::SMALL_CUT, Pace::Full);
/// let context = Context::new(Timestamp::from_nanos(0));
/// engine.submit(&context, &Op::Mkdir { at: At::root("logs"), mode: 0o755 }, &[]).unwrap();
/// engine.finish().unwrap();
///
/// let mut replayed = Snapshot::empty();
/// for segment in engine.segments().unwrap() {
///     replayed.replay(&segment.records).unwrap();
/// }
/// assert_eq!(replayed.tree, engine.tree());
/// ```
#[derive(Debug)]
pub struct JournalEngine {
    tree: Tree,
    state: StateHash,
    clock: ManualClock,
    residency: Arc<Residency>,
    appender: Appender,
    writer: LogWriter,
    pace: Pace,
    rng: Rng,
    snapshots: BTreeMap<Lsn, Snapshot>,
    first_segment: SegmentId,
    last_segment: Option<SegmentId>,
    failure: Option<JournalError>,
    store: BTreeMap<SegmentId, Bytes>,
}

/// When every [`JournalEngine`] begins.
const START: Timestamp = Timestamp::from_nanos(1_577_836_800_000_000_000);

impl JournalEngine {
    /// So small that a run of a few hundred Ops has many frames and several segments.
    pub const SMALL_CUT: Cut = Cut { frame_bytes: 600, segment_bytes: 20_000 };

    /// Who writes, in the first epoch.
    pub const IDENTITY: WriterIdentity = WriterIdentity { volume: Self::VOLUME, epoch: 1, writer: 11 };

    /// The volume of every [`JournalEngine`].
    pub const VOLUME: VolumeId = 0x7f5_0001;

    /// An empty volume whose journal is in memory only.
    #[must_use]
    pub fn in_memory(cut: Cut, pace: Pace) -> Self {
        let residency = Arc::new(Residency::default());
        let writer =
            LogWriter::in_memory(Self::IDENTITY, Arc::clone(&residency), Lsn(0), ChainHash::default());
        let opened = Opened { residency, writer, next_segment: SegmentId(0) };
        Self::go_on(Snapshot::empty(), opened, cut, pace)
    }

    /// An empty volume whose journal is in the local log of a disk without one.
    ///
    /// # Errors
    /// As [`open_log`]'s.
    pub fn on_disk(disk: &Arc<dyn Disk>, cut: Cut, pace: Pace) -> Result<Self, JournalError> {
        let (residency, log) = open_from_start(disk, Self::IDENTITY)?;
        Ok(Self::reopened(Snapshot::empty(), residency, log, cut, pace))
    }

    /// Goes on with a local log that was opened, from the snapshot that its tail leads to.
    #[must_use]
    pub fn reopened(
        snapshot: Snapshot,
        residency: Arc<Residency>,
        log: OpenedLog,
        cut: Cut,
        pace: Pace,
    ) -> Self {
        let opened = Opened { residency, writer: log.writer, next_segment: log.next_segment };
        Self::go_on(snapshot, opened, cut, pace)
    }

    fn go_on(snapshot: Snapshot, opened: Opened, cut: Cut, pace: Pace) -> Self {
        let Opened { residency, writer, next_segment } = opened;
        let (lsn, _) = writer.end();
        let seed = if let Pace::Random { seed, .. } = pace { seed } else { 0 };
        Self {
            tree: snapshot.tree.clone(),
            state: snapshot.state,
            clock: ManualClock::ticking(START.as_nanos()),
            appender: Appender::new(Arc::clone(&residency), cut, next_segment, lsn),
            residency,
            writer,
            pace,
            rng: Rng::new(seed),
            snapshots: BTreeMap::from([(lsn, snapshot)]),
            first_segment: next_segment,
            last_segment: None,
            failure: None,
            store: BTreeMap::new(),
        }
    }

    /// The snapshot of every LSN at which an Op ended. Adjacent writes share one, which is then the last one's.
    #[must_use]
    pub const fn snapshots(&self) -> &BTreeMap<Lsn, Snapshot> {
        &self.snapshots
    }

    /// Up to where the log is on the local disk for certain.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.writer.durable()
    }

    /// The LSN and the chain hash at the end of what was written.
    #[must_use]
    pub const fn end(&self) -> (Lsn, ChainHash) {
        self.writer.end()
    }

    /// Why the disk took no more, if it did not. The tree goes on without it.
    #[must_use]
    pub const fn failure(&self) -> Option<&JournalError> {
        self.failure.as_ref()
    }

    /// Closes the open frame, and writes all there is; with `sync` it is then on the disk for certain.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&mut self, sync: bool) -> Result<(), JournalError> {
        self.appender.close_frame();
        let work = self.appender.take_work();
        self.writer.write(work, sync).map(|_| ())
    }

    /// Ends the segment, and writes and syncs all there is.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(&mut self) -> Result<(), JournalError> {
        self.seal(true)
    }

    /// Ends the segment, and writes all there is; with `sync` it is then on the disk for certain.
    ///
    /// # Errors
    /// The disk's.
    pub fn seal(&mut self, sync: bool) -> Result<(), JournalError> {
        self.last_segment = self.appender.seal().segment.filter(|last| *last >= self.first_segment);
        let work = self.appender.take_work();
        self.writer.write(work, sync).map(|_| ())
    }

    /// The number of the segment after the last one that was sealed here.
    #[must_use]
    pub const fn next_segment(&self) -> SegmentId {
        match self.last_segment {
            Some(last) => last.next(),
            None => self.first_segment,
        }
    }

    /// A file of the local log takes no further segment once it has this many bytes.
    pub fn set_file_bytes(&mut self, bytes: u64) {
        self.writer.set_file_bytes(bytes);
    }

    /// As if all segments that were sealed here were committed: they go to a store in memory, and their files may be
    /// recycled.
    ///
    /// # Errors
    /// As [`JournalEngine::segment_bytes`]'s.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        let Some(last) = self.last_segment else { return Ok(()) };
        self.store = (self.first_segment.0..).map(SegmentId).zip(self.segment_bytes()?).collect();
        self.residency.mark_committed(last);
        Ok(())
    }

    /// Recycles all files that may be.
    pub fn recycle(&mut self) {
        self.writer.recycle(0);
    }

    /// The segments that were sealed here, every byte verified.
    ///
    /// # Errors
    /// What does not fit.
    pub fn segments(&self) -> Result<Vec<VerifiedSegment>, JournalError> {
        let bytes = self.segment_bytes()?;
        bytes.iter().zip(0..).map(|(bytes, n)| verify_segment(&format!("segment {n}"), bytes, None)).collect()
    }

    /// The bytes of the segments that were sealed here.
    ///
    /// # Errors
    /// As [`Residency::segment_bytes`]'s.
    ///
    /// # Panics
    /// When one is not there.
    pub fn segment_bytes(&self) -> Result<Vec<Bytes>, JournalError> {
        let Some(SegmentId(last)) = self.last_segment else { return Ok(Vec::new()) };
        let whole = |id| {
            if let Some(bytes) = self.store.get(&SegmentId(id)) {
                return Ok(bytes.clone());
            }
            let pieces = self.residency.segment_bytes(SegmentId(id))?;
            Ok(Bytes::from(pieces.expect("a sealed segment is resident until it is committed").concat()))
        };
        (self.first_segment.0..=last).map(whole).collect()
    }

    fn now<'a>(&self, context: &Context<'a>) -> Context<'a> {
        Context { now: Timestamp::from_nanos(self.clock.now_nanos()), ..*context }
    }

    /// Stores a part of what these Changes are about anew: nobody but the journal may notice.
    fn relocate(&mut self, changes: &[Change]) {
        let runs = |ino| self.tree.file_ranges(ino, 0..u64::MAX).unwrap_or_default();
        let mut runs: Vec<(Ino, FileRange)> = changes
            .iter()
            .flat_map(Change::inodes)
            .flat_map(|ino| runs(ino).into_iter().map(move |run| (ino, run)))
            .filter(|(_, run)| run.place.is_some())
            .collect();
        if runs.is_empty() {
            return;
        }
        let (ino, FileRange { range, place }) = runs.swap_remove(self.rng.below(runs.len() as u64) as usize);
        let Some(from) = place else { return };
        let skip = self.rng.below(range.end - range.start);
        let len = (1 + self.rng.below(range.end - range.start - skip)).min(RELOCATE_BYTES);
        let (offset, from) = (range.start + skip, Place { position: from.position + skip, ..from });
        let payload = self.read(from, len);
        let Some(place) = self.appender.reserve(len) else { return };
        let before = self.tree.clone();
        let change = Change::Relocate { ino, offset, len, from };
        self.tree.apply(&change, place).expect("it is where it was read");
        self.appender.append(&change, &payload);
        self.done(&before);
    }

    /// Notes the tree after an Op, and writes what is due.
    fn done(&mut self, before: &Tree) {
        self.state = loaded(self.state.update(before, &self.tree));
        let snapshot = Snapshot { tree: self.tree.clone(), state: self.state };
        self.snapshots.insert(self.appender.lsn(), snapshot);
        if let Pace::Random { close_percent, .. } = self.pace
            && self.rng.chance(close_percent)
        {
            self.appender.close_frame();
        }
        for work in self.appender.take_work() {
            let sync = match self.pace {
                Pace::Full => false,
                Pace::Random { sync_percent, .. } => self.rng.chance(sync_percent),
            };
            if let Err(error) = self.writer.write(vec![work], sync) {
                self.failure.get_or_insert(error);
            }
        }
    }
}

struct Opened {
    residency: Arc<Residency>,
    writer: LogWriter,
    next_segment: SegmentId,
}

/// Opens the local log of a volume that never made a commit, so that all it holds is its tail.
///
/// # Errors
/// As [`open_log`]'s.
pub fn open_from_start(
    disk: &Arc<dyn Disk>,
    identity: WriterIdentity,
) -> Result<(Arc<Residency>, OpenedLog), JournalError> {
    let start = (Lsn(0), ChainHash::default());
    let head = Head {
        lsn: start.0,
        chain: start.1,
        next_segment: SegmentId(0),
        is_committed: &|lsn, chain| (lsn, chain) == start,
        is_committed_segment: &|_| false,
    };
    let residency = Arc::new(Residency::default());
    let log = open_log(disk, identity, &residency, &head)?;
    Ok((residency, log))
}

impl Engine for JournalEngine {
    fn tree(&self) -> Tree {
        self.tree.clone()
    }

    fn submit(&mut self, context: &Context<'_>, op: &Op, payload: &[u8]) -> Result<Outcome, Errno> {
        let before = self.tree.clone();
        let decision = posix(decide(&self.tree, &self.now(context), op))?;
        if decision.changes.is_empty() {
            return Ok(decision.outcome);
        }
        let place = self.appender.reserve(payload.len() as u64).ok_or(Errno::TooBig)?;
        for change in &decision.changes {
            self.tree.apply(change, place).expect("what was decided on a tree applies to it");
        }
        self.appender.append_all(&decision.changes, &[payload]);
        self.done(&before);
        if matches!(self.pace, Pace::Random { .. }) && self.rng.chance(RELOCATE_PERCENT) {
            self.relocate(&decision.changes);
        }
        Ok(decision.outcome)
    }

    fn submit_batch(&mut self, context: &Context<'_>, ops: &[Op], payload: &[u8]) -> Result<(), Errno> {
        let before = self.tree.clone();
        let place = self.appender.reserve(payload.len() as u64).ok_or(Errno::TooBig)?;
        let batch = decide_batch(&self.tree, &self.now(context), ops, place);
        let batch = posix(batch.map_err(|error| error.fault))?;
        self.tree = batch.tree;
        self.appender.append_all(&batch.changes, &[payload]);
        self.done(&before);
        Ok(())
    }

    fn read(&self, place: Place, len: u64) -> Vec<u8> {
        if let Some(open) = self.appender.read_open(place, len) {
            return open.to_vec();
        }
        let resident = self.residency.read(place, len).expect("what was written can be read");
        resident.map_or_else(
            || {
                let start = place.position as usize;
                self.store[&place.segment][start..start + len as usize].to_vec()
            },
            |bytes| bytes.to_vec(),
        )
    }
}
