//! Opens a volume: takes the epoch, rebuilds the state, takes over the local log.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use rfs_backends::Store;
use rfs_core::{Change, CommitId, Lsn, Op, OwnerId, PageObject, Place, SegmentId, Tree};
use rfs_journal::{
    Appender, ChainHash, Disk, Head, LogEnd, LogWriter, OpenedLog, Orphaned, RealDisk, Record, Residency,
    ScannedLog, WriterIdentity, scan_log,
};
use rfs_recovery::commit_log::{
    Listing, Publisher, list, list_ids, probe_superblock, read_commit, read_superblock, take_over_from,
};
use rfs_recovery::local_cache::LocalCache;
use rfs_recovery::objects::{FetchedCommit, StoredHeader};
use rfs_recovery::pins::is_kept;
use rfs_recovery::state::{State, load, load_at};
use rfs_recovery::{Content, Lineage, Pages, RecoveryError};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::Collector;
use super::appending::LiveLock;
use super::at_time::commit_at;
use super::committer::{CommitState, Committer, Ending, Receipt, run};
use super::driver::Driver;
use super::image::ImageState;
use super::latest::Latest;
use super::live::{Front, Journaled, Live, Session};
use super::loaded::Loaded;
use super::locks::Waits;
use super::rewind::{keep_segments, went_back};
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Undurable;
use crate::options::Options;
use crate::volume::At;

/// What a writer found when it opened a volume.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenReport {
    /// The writer's epoch.
    pub epoch: u64,
    /// The newest commit, if there was one.
    pub commit: Option<CommitId>,
    /// The position that was found: of that commit, or of the last Change in the local log.
    pub position: Lsn,
    /// Bytes of journal that were replayed on top of the newest image.
    pub replayed_bytes: u64,
    /// What the local log held.
    pub local: LocalLog,
    /// Whether something at its end was being written when the last writer died, and was cut off: nobody had been told
    /// that it was safe.
    pub torn: bool,
    /// Files without a name that the owner given by [`Options::with_owner_id`] holds open, and that
    /// [`Fs::open_held`](crate::Fs::open_held) opens again.
    pub held_files: u64,
    /// Locks that this owner holds.
    pub held_locks: u64,
}

/// What the local log held when the volume was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalLog {
    /// There is no local directory, or nothing in it that was not committed.
    Nothing,
    /// So many Changes that were not committed, and go on to be part of the volume.
    Replayed(u64),
    /// Changes that could not be matched with the volume's history: another writer took over before they were
    /// committed (or so much was committed since that nobody can tell). They are not part of the volume. Their files
    /// are kept in the local directory, under these names.
    Orphaned {
        /// The files.
        files: Vec<String>,
        /// The position at which they end.
        end: Lsn,
    },
}

/// Opens the volume in `store` as its one writer.
#[tracing::instrument(name = "open", skip_all, fields(url = store.url()))]
pub(crate) async fn open_writer(store: Store, options: Options) -> Result<(Arc<Shared>, OpenReport)> {
    let doing = format!("open {}", store.url());
    let fail = |error: RecoveryError| Error::recovery(doing.clone(), error);
    if let Some(owner) = options.owner.filter(|owner| owner.0 >= VOLUME_GIVEN) {
        let what = format!("{doing}: the owner {owner} is 2^63 or more; choose a smaller number");
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    let writer = options.entropy.identity();
    let writer =
        writer.map_err(|error| Error::caused(ErrorKind::Bug, "drawing a writer's identity", error))?;
    // The local directory first: a directory that is in use, or another volume's, is no reason to take an epoch.
    let disk = open_disk(&options)?;
    let superblock = read_superblock(&store).await.map_err(fail)?;
    let lineage =
        Lineage::of(store.clone(), &superblock).map_err(|error| Error::store(doing.clone(), error))?;
    let scanned = disk.as_ref().map(|disk| scan_log(disk, superblock.volume)).transpose();
    let scanned = scanned.map_err(|error| Error::journal(doing.clone(), error))?;
    if !store.assumes_put_if_absent() {
        probe_superblock(&store, &superblock, writer).await.map_err(fail)?;
    }
    // Loaded before the epoch is taken: what cannot be opened is no reason to stop the writer that has it open.
    let mut closing = ClosesCache(None);
    let mut pages = Pages::new(lineage.clone(), options.tree_bytes / 4);
    if let Some(cache) = open_cache(disk.as_ref(), &options).await {
        pages = pages.with_local_cache(cache, options.one_thread);
        closing.0 = Some(pages.clone());
    }
    let (listing, listed) = load_newest(&pages).await.map_err(fail)?;
    if let Some(scanned) = &scanned {
        let known = known_segments(&pages, &listed, scanned).await.map_err(fail)?;
        let checked = with_head(&listed, &known, |head| scanned.check(head));
        checked.map_err(|error| Error::journal(doing.clone(), error))?;
    }
    // The first fence keeps when the volume was made, for who has lost the superblock.
    let first = listing.slot == CommitId { epoch: 0, number: 0 };
    let time = if first { superblock.created } else { options.clock.now() };
    let listing = take_over_from(&lineage, writer, time, listing).await.map_err(fail)?;
    let epoch = listing.slot.epoch + 1;
    let state = if listing.head.as_ref().map(FetchedCommit::reference) == listed.commit {
        listed
    } else {
        load_head(&pages, &listing).await.map_err(fail)?
    };
    debug!(epoch, lsn = state.lsn.0, "state rebuilt");

    let residency = Arc::new(Residency::new(options.memory_bytes));
    let identity = WriterIdentity { volume: superblock.volume, epoch, writer };
    let known = match &scanned {
        Some(scanned) => known_segments(&pages, &state, scanned).await.map_err(fail)?,
        None => HashMap::new(),
    };
    let mut log = open_local(scanned, identity, &residency, &state, &known)?;
    log.writer.set_file_bytes(options.local_file_bytes);
    let committed = (state.tree.clone(), state.state);
    let mut tree = state.tree.clone();
    let mut rewound = Vec::new();
    for run in log.tail.split_inclusive(|record| matches!(record.change, Change::Rewind { .. })) {
        let (records, back) = match run {
            [before @ .., Record { change: Change::Rewind { to }, lsn, .. }] => (before, Some((*to, *lsn))),
            _ => (run, None),
        };
        pages.apply(&mut tree, records).await.map_err(fail)?.map_err(|(record, error)| {
            let what = format!("{doing}: record {} of the local log cannot be applied: {error}", record.lsn);
            Error::new(ErrorKind::Damaged, what)
        })?;
        if let Some((to, lsn)) = back {
            let older = load_at(&pages, to).await.map_err(fail)?;
            tree = pages.ask(|| tree.rewound_to(&older.tree)).await.map_err(fail)?;
            rewound.push((lsn, to, older));
        }
    }
    let owner = options.owner.unwrap_or(OwnerId(VOLUME_GIVEN | epoch));
    let report = report(epoch, &state, &log, held(&tree, owner));
    let lsn = log.writer.end().0;
    let mut front = Front {
        appender: Appender::new(Arc::clone(&residency), options.cut(), log.next_segment, lsn),
        journaled: Journaled::default(),
        next_commit: CommitId { epoch, number: 0 },
        jobs: VecDeque::new(),
        rewound: None,
        turn: 0,
    };
    front.note_replayed(&log.tail);
    let publisher = Publisher::new(lineage, writer, epoch, state.commit, state.lsn);
    let with_thread = !options.one_thread;
    let committer = Committer {
        publisher,
        writer,
        last_segment: state.next_segment.0.checked_sub(1).map(SegmentId),
        tree: committed.0,
        state: committed.1,
        chain: state.chain,
        turn: 0,
        current: None,
    };
    let parts = Parts {
        live: Live::new(tree, Some(front), Session { owner, epoch, atime: options.atime }),
        residency,
        driver: Some(Driver::new(log.writer, with_thread)),
    };
    let shared = share(pages, options, state, parts, Some(committer));
    for (lsn, to, older) in rewound {
        keep_segments(&shared, &older).await.map_err(fail)?;
        let mut live = shared.live.write();
        if let Some(front) = &mut live.front {
            drop(went_back(&shared, front, lsn, to, older));
        }
    }
    begin_session(&shared, &doing).await?;
    drop_unmade_checkpoints(&shared, &doing).await?;
    drop_inherited_checkpoints(&shared, &doing).await?;
    Driver::start(&shared)?;
    if !log.tail.is_empty() {
        let committed = shared.commits.borrow().committed;
        shared.tell_undurable(Some(committed));
        shared.wake.notify_one();
    }
    // Made here, so that it also ends where the task never began.
    tokio::spawn(run(Ending(Arc::clone(&shared))));
    closing.0 = None;
    info!(epoch, commit = ?report.commit, local = ?report.local, "volume opened");
    Ok((shared, report))
}

/// Releases what other owners than this writer's left behind, in as many steps as it takes.
pub(super) async fn begin_session(shared: &Shared, doing: &str) -> Result<()> {
    let begin = Op::NewSession { keep: vec![shared.live.read().session().owner] };
    let position = || shared.live.read().lsn(Lsn(0));
    loop {
        let before = position();
        shared.run(shared.itself(), &begin, &[], || doing.to_owned()).await?;
        if position() == before {
            return Ok(());
        }
    }
}

/// Drops the names of commits that the last writer's local log announces and that were never made: a commit that was made
/// has its own name. By its number alone one is not known: a fence may stand there, and the head be of a later epoch.
async fn drop_unmade_checkpoints(shared: &Shared, doing: &str) -> Result<()> {
    let unmade: Vec<String> = {
        let guard = shared.publisher.lock().await;
        let Some(committer) = guard.as_ref() else { return Ok(()) };
        let (live, made) = (shared.live.read(), committer.tree.checkpoints());
        let named = live.tree.checkpoints().iter().filter(|(name, named)| made.get(*name) != Some(*named));
        named.map(|(name, _)| name.clone()).collect()
    };
    for name in unmade {
        warn!(name, "a checkpoint was asked for and not made before the last writer died");
        shared.run(shared.itself(), &Op::DropCheckpoint { name }, &[], || doing.to_owned()).await?;
    }
    Ok(())
}

/// Drops the names of the commits of the volume that this is a fork of: it keeps them, or not, for itself.
async fn drop_inherited_checkpoints(shared: &Shared, doing: &str) -> Result<()> {
    let inherited = inherited_checkpoints(&shared.live.read().tree, shared.pages.lineage());
    for name in inherited {
        shared.run(shared.itself(), &Op::DropCheckpoint { name }, &[], || doing.to_owned()).await?;
    }
    Ok(())
}

fn inherited_checkpoints(tree: &Tree, lineage: &Lineage) -> Vec<String> {
    let Some(origin) = lineage.begins_at() else { return Vec::new() };
    let named = tree.checkpoints().iter().filter(|(_, checkpoint)| checkpoint.commit.epoch <= origin.epoch);
    named.map(|(name, _)| name.clone()).collect()
}

/// Opens a state of the volume in `store` for reading.
#[tracing::instrument(name = "open_read_only", skip_all, fields(url = store.url(), %at))]
pub(crate) async fn open_reader(store: Store, options: Options, at: &At) -> Result<Arc<Shared>> {
    let doing = format!("open {} at {at}", store.url());
    let fail = |error: RecoveryError| Error::recovery(doing.clone(), error);
    let superblock = read_superblock(&store).await.map_err(fail)?;
    let lineage =
        Lineage::of(store.clone(), &superblock).map_err(|error| Error::store(doing.clone(), error))?;
    let pages = Pages::new(lineage.clone(), options.tree_bytes / 4);
    let mut state = match at {
        At::Head => load_newest(&pages).await.map_err(fail)?.1,
        At::Commit(_) | At::Time(_) => {
            // Nothing of later commits is read: they may be damaged.
            let ids = list_ids(&lineage).await.map_err(fail)?;
            let id = match at {
                At::Time(time) => commit_at(&lineage, &ids, *time).await.map_err(fail)?,
                At::Commit(id) => Some(*id),
                _ => None,
            };
            let id = id.ok_or_else(|| fail(no_such(&store, "commit so early".to_owned())))?;
            // One that is there as a link between others may have lost what it needs itself. Whether it has is no more
            // than asked: what answers may be damaged, too.
            let kept = is_kept(&lineage.keeper_of_epoch(id.epoch), id).await;
            if !kept.unwrap_or(true) {
                return Err(fail(no_such(&store, format!("commit {id} whole"))));
            }
            let collected = |error| match error {
                RecoveryError::Missing { key, .. } => {
                    no_such(&store, format!("commit {id} whole: {key} is gone"))
                }
                error => error,
            };
            load_commit(&pages, &ids, id).await.map_err(collected).map_err(fail)?
        }
        At::Checkpoint(name) => {
            let (listing, head) = load_newest(&pages).await.map_err(fail)?;
            let id = head.tree.checkpoints().get(name).map(|checkpoint| checkpoint.commit);
            let id = id.filter(|id| lineage.begins_at().is_none_or(|origin| id.epoch > origin.epoch));
            let id = id.ok_or_else(|| fail(no_such(&store, format!("checkpoint named {name:?}"))))?;
            // The head says that it is kept: that it is not there is damage.
            let missing = |error| match error {
                RecoveryError::NoSuchState { store, .. } => {
                    RecoveryError::Missing { store, key: lineage.of_epoch(id.epoch).keys.commit(id) }
                }
                error => error,
            };
            load_commit(&pages, &listing.ids, id).await.map_err(missing).map_err(fail)?
        }
    };
    for name in inherited_checkpoints(&state.tree, &lineage) {
        let dropped = state.tree.apply(&Change::DropCheckpoint { name }, Place::default());
        dropped.map_err(|error| Error::caused(ErrorKind::Bug, doing.clone(), error))?;
    }
    let session = Session { owner: OwnerId(VOLUME_GIVEN), epoch: 0, atime: options.atime };
    let live = Live::new(state.tree.clone(), None, session);
    let parts = Parts { live, residency: Arc::default(), driver: None };
    Ok(share(pages, options, state, parts, None))
}

/// The commit log and the state at its head. What is gone may have been collected since it was listed, by the writer
/// that has the volume open: only what is gone twice is missing.
async fn load_newest(pages: &Pages) -> std::result::Result<(Listing, State), RecoveryError> {
    let mut gone = BTreeSet::new();
    loop {
        let newest = async {
            let listing = list(pages.lineage()).await?;
            let state = load_head(pages, &listing).await?;
            Ok((listing, state))
        };
        // Nobody named a state: what is not there is one that the newest goes back to.
        let newest = newest.await.map_err(|error| match error {
            RecoveryError::NoSuchState { store, what } => RecoveryError::Missing { store, key: what },
            error => error,
        });
        match newest {
            Err(RecoveryError::Missing { key, .. }) if !gone.contains(&key) => {
                gone.insert(key);
            }
            done => return done,
        }
    }
}

async fn load_head(pages: &Pages, listing: &Listing) -> std::result::Result<State, RecoveryError> {
    match &listing.head {
        Some(head) => load(pages, &listing.ids, head.clone()).await,
        None => Ok(State::empty(pages.lineage().created())),
    }
}

async fn load_commit(
    pages: &Pages,
    ids: &[CommitId],
    id: CommitId,
) -> std::result::Result<State, RecoveryError> {
    if !ids.contains(&id) {
        return Err(no_such(pages.store(), format!("commit {id}")));
    }
    let commit = read_commit(pages.lineage(), id).await?;
    load(pages, ids, commit).await
}

fn no_such(store: &Store, what: String) -> RecoveryError {
    RecoveryError::NoSuchState { store: store.url().to_owned(), what }
}

fn open_disk(options: &Options) -> Result<Option<Arc<dyn Disk>>> {
    if let Some(disk) = &options.disk {
        return Ok(Some(Arc::clone(disk)));
    }
    let Some(dir) = &options.local_dir else { return Ok(None) };
    match RealDisk::open(dir) {
        Ok(disk) => Ok(Some(Arc::new(disk))),
        Err(error) => Err(local_error(dir, error)),
    }
}

/// The cache in the local directory.
async fn open_cache(disk: Option<&Arc<dyn Disk>>, options: &Options) -> Option<LocalCache> {
    let (disk, bytes) = (Arc::clone(disk?), options.disk_cache_bytes);
    // What is in memory is kept decoded, elsewhere.
    let open = move || LocalCache::open(Some(disk), 0, bytes);
    let cache = if options.one_thread { open() } else { tokio::task::spawn_blocking(open).await.ok()? };
    cache.has_disk().then_some(cache)
}

/// Lets go of the local directory when a volume is not opened after all, so that it can be tried again.
struct ClosesCache(Option<Pages>);

impl Drop for ClosesCache {
    fn drop(&mut self) {
        if let Some(pages) = &self.0 {
            pages.close_local_cache();
        }
    }
}

fn local_error(dir: &Path, error: io::Error) -> Error {
    let doing = format!("open local directory {}", dir.display());
    if error.kind() == io::ErrorKind::WouldBlock {
        return Error::new(
            ErrorKind::LocalDirectoryInUse,
            format!("{doing}: another volume uses it; choose another"),
        );
    }
    Error::caused(ErrorKind::LocalDisk, doing, error)
}

/// The local log goes on, or without one a new one in memory.
fn open_local(
    scanned: Option<ScannedLog>,
    identity: WriterIdentity,
    residency: &Arc<Residency>,
    state: &State,
    known: &KnownSegments,
) -> Result<OpenedLog> {
    let Some(scanned) = scanned else {
        return Ok(OpenedLog {
            writer: LogWriter::in_memory(identity, Arc::clone(residency), state.lsn, state.chain),
            next_segment: state.next_segment,
            tail: Vec::new(),
            end: LogEnd::Clean,
            orphaned: None,
        });
    };
    let opened = with_head(state, known, |head| scanned.adopt(identity, residency, head));
    opened.map_err(|error| Error::journal("open the local log", error))
}

/// Of the segments of a local log, those that are committed.
type KnownSegments = HashMap<SegmentId, StoredHeader>;

async fn known_segments(
    pages: &Pages,
    state: &State,
    scanned: &ScannedLog,
) -> std::result::Result<KnownSegments, RecoveryError> {
    let mut known = HashMap::new();
    for id in scanned.segments() {
        let header = pages.ask(|| Ok(state.segments.get(&id)?.map(|stored| stored.header))).await?;
        known.extend(header.map(|header| (id, header)));
    }
    Ok(known)
}

/// What the local log is told of the committed history.
fn with_head<T>(state: &State, segments: &KnownSegments, then: impl FnOnce(&Head<'_>) -> T) -> T {
    let known: HashSet<(Lsn, ChainHash)> = state.boundaries.iter().copied().collect();
    then(&Head {
        lsn: state.lsn,
        chain: state.chain,
        next_segment: state.next_segment,
        is_committed: &|lsn, chain| known.contains(&(lsn, chain)),
        is_committed_segment: &|header| {
            let committed = segments.get(&header.id);
            committed.is_some_and(|committed| committed.is_of(header, header.volume))
        },
    })
}

/// Owners with this bit are given out by the volume, one to each writer that does not choose its own.
const VOLUME_GIVEN: u64 = 1 << 63;

/// How many nameless files, and how many locks, an owner holds.
fn held(tree: &Tree, owner: OwnerId) -> (u64, u64) {
    (tree.held_by(owner).count() as u64, tree.locks_of(owner).count() as u64)
}

fn report(epoch: u64, state: &State, log: &OpenedLog, (held_files, held_locks): (u64, u64)) -> OpenReport {
    let local = match &log.orphaned {
        Some(Orphaned { files, end }) => {
            warn!(
                ?files,
                end = end.0,
                "the local log belongs to a history that was given up, and was put aside"
            );
            LocalLog::Orphaned { files: files.clone(), end: *end }
        }
        None if log.tail.is_empty() => LocalLog::Nothing,
        None => LocalLog::Replayed(log.tail.len() as u64),
    };
    let commit = state.commit.map(|commit| commit.id);
    let torn = log.end == LogEnd::Torn;
    let position = log.writer.end().0;
    OpenReport {
        epoch,
        commit,
        position,
        replayed_bytes: state.replayed_bytes,
        local,
        torn,
        held_files,
        held_locks,
    }
}

struct Parts {
    live: Live,
    residency: Arc<Residency>,
    driver: Option<Driver>,
}

fn share(
    pages: Pages,
    options: Options,
    state: State,
    parts: Parts,
    committer: Option<Committer>,
) -> Arc<Shared> {
    let Parts { live, residency, driver } = parts;
    let receipt = state.commit.map(|commit| Receipt {
        commit: commit.id,
        position: state.lsn,
        chain: state.chain,
        state: state.state,
        time: state.time.unwrap_or_default(),
        bytes: 0,
    });
    let commits = Latest::new(CommitState {
        committed: state.lsn,
        committed_bytes: 0,
        fixed: state.lsn,
        fixed_journal: Journaled::default(),
        receipt,
        outage: None,
        failures: 0,
        failed: false,
    });
    let epoch = live.session().epoch;
    let image = ImageState {
        next_object: PageObject { epoch, number: 0 },
        base: state.image.as_ref().map(|_| state.base),
        named: state.image,
        bytes_since: state.replayed_bytes,
        commits_since: if state.replayed_bytes > 0 { state.boundaries.len() as u64 - 1 } else { 0 },
        ready: None,
        running: false,
        rewinding: BTreeMap::new(),
        turn: 0,
    };
    let cache_bytes = options.memory_bytes;
    let collector = Collector::new(options.collect_rate);
    let undurable = match &driver {
        Some(_) => Undurable::new(options.metrics_name.as_deref(), state.time),
        None => Undurable::never(),
    };
    Arc::new(Shared {
        content: Content::new(pages.clone(), Arc::clone(&residency), state.segments, cache_bytes),
        undurable,
        options,
        store: pages.store().clone(),
        keys: pages.keys(),
        pages,
        loaded: Loaded::default(),
        runtime: tokio::runtime::Handle::try_current().ok(),
        live: LiveLock::new(live),
        residency,
        driver,
        wake: Notify::new(),
        asked: AtomicU64::new(0),
        asks: AtomicU64::new(0),
        closing: AtomicBool::new(false),
        commits,
        waits: Waits::default(),
        origins: AtomicU64::new(0),
        publisher: tokio::sync::Mutex::new(committer),
        uploads: super::uploads::Uploads::default(),
        image: Mutex::new(image),
        image_ended: Notify::new(),
        collector,
        ahead: super::read_ahead::ReadAhead::default(),
    })
}
