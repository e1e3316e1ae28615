//! The committer: a task that publishes the history in order, one commit in flight at a time.
//!
//! A commit goes through these steps; after an outage it goes on where it stopped:
//!
//! 1. *fix*: under the volume's lock the journal is sealed and a snapshot taken;
//! 2. *write*: the local log is on the disk up to there;
//! 3. *upload*: segments too large to be inlined are in the store;
//! 4. *prepare*: the commit's bytes are fixed, and never change from then on;
//! 5. *settle*: one create-only put, repeated byte for byte until its outcome is known;
//! 6. *finish*: waiters are told, and what is committed may leave this machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rfs_core::{CommitId, Lsn, SegmentId, StateHash, Timestamp, Tree};
use rfs_journal::{ChainHash, Sealed};
use rfs_recovery::collect::LearntCommit;
use rfs_recovery::commit_log::{Draft, Published, Publisher};
use rfs_recovery::objects::{AddedSegment, ImageRef};
use tokio::sync::oneshot::Sender;
use tokio::time::{Duration, Instant};
use tracing::{Instrument, Span, info, info_span, warn};

use super::Shared;
use super::collector::collect_soon;
use super::live::{Job, Journaled, Live};
use super::uploads::{Uploader, Uploads, journal_len, segment_pieces, upload, upload_ahead};
use crate::clock::sleep;
use crate::error::{Error, ErrorKind, Result};

/// How long the committer rests after the store failed it, beyond the store's own retries.
const REST: Duration = Duration::from_secs(1);

/// A commit that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Which commit.
    pub commit: CommitId,
    /// Everything up to this position is durable.
    pub position: Lsn,
    /// The identity of the journal up to there.
    pub chain: ChainHash,
    /// The identity of the tree there.
    pub state: StateHash,
    /// When it was made.
    pub time: Timestamp,
    /// Bytes of the commit object.
    pub bytes: u64,
}

/// What so few bytes of journal take to be hashed is short.
const SMALL_BYTES: u64 = 16 << 10;
/// So many times others are let go first before a commit is made, as long as more of them ask for it.
const GATHER_TURNS: usize = 64;
/// So many turns without another one who asks are enough: tasks that were woken may begin on other threads.
const QUIET_TURNS: usize = 8;

/// Who is expected to ask again is waited for so large a part of the time that the last commit took.
const PATIENCE_PART: u32 = 16;
/// However long it took.
const PATIENCE_MOST: Duration = Duration::from_millis(20);
/// Less than that is too little for a timer.
const PATIENCE_LEAST: Duration = Duration::from_millis(1);

/// Where the commits stand.
#[derive(Clone, Debug)]
pub(crate) struct CommitState {
    pub(crate) committed: Lsn,
    /// Bytes of journal at the newest commit.
    pub(crate) committed_bytes: u64,
    /// The LSN and bytes of journal at the newest commit that was fixed.
    pub(crate) fixed: Lsn,
    pub(crate) fixed_journal: Journaled,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) outage: Option<Outage>,
    /// How often the store failed a commit.
    pub(crate) failures: u64,
    pub(crate) failed: bool,
}

/// The store is failing commits.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    pub(crate) error: Error,
}

/// What the committer goes by.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) publisher: Publisher,
    pub(crate) writer: u128,
    /// The last segment, tree, state hash and chain hash that are committed.
    pub(crate) last_segment: Option<SegmentId>,
    pub(crate) tree: Tree,
    pub(crate) state: StateHash,
    pub(crate) chain: ChainHash,
    /// How often the volume had gone back then.
    pub(crate) turn: u64,
    pub(crate) current: Option<Current>,
}

/// The commit that is on its way.
#[derive(Debug)]
pub(crate) struct Current {
    job: Job,
    time: Timestamp,
    /// Set when it was prepared.
    prepared: Option<(ChainHash, StateHash)>,
    /// The image that it names.
    image: Option<ImageRef>,
    /// It is the first one to name it, so that what only the image before it needed is garbage.
    has_new_image: bool,
}

/// Tells waiters that the committer is gone, however it went: also by a panic, or with its runtime.
pub(crate) struct Ending(pub(crate) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let what = "the volume was closed, or the runtime that it was opened on ended; open it again";
        self.0.uploads.end();
        self.0.fail(&Error::new(ErrorKind::Closed, what));
    }
}

/// Runs until the volume is closed, or fails.
pub(crate) async fn run(ending: Ending) {
    let shared = Arc::clone(&ending.0);
    let mut due: Option<Instant> = None;
    // After a failure nothing is sent before this time, whatever wakes the committer.
    let mut rest: Option<Instant> = None;
    let mut rhythm = Rhythm::default();
    loop {
        match rest.or(due) {
            Some(at) => tokio::select! {
                biased;
                () = shared.wake.notified() => {}
                () = sleep(at.saturating_duration_since(Instant::now())) => {}
            },
            None => shared.wake.notified().await,
        }
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        if rest.is_some_and(|rest| Instant::now() < rest) {
            continue;
        }
        let resting = rest.take().is_some();
        let asked = shared.is_commit_asked();
        let (dirty, journaled, jobs) = {
            let live = shared.live.read();
            let Some(front) = &live.front else { return };
            let fixed = shared.commits.borrow().fixed;
            (front.is_dirty(fixed), front.journaled, !front.jobs.is_empty())
        };
        due = match (dirty, due, shared.options.commit_interval) {
            (true, None, Some(interval)) => Some(Instant::now() + interval),
            (true, due, _) => due,
            (false, ..) => None,
        };
        let bytes_due = journaled.is_due(shared.commits.borrow().fixed_journal, &shared.options);
        let time_due = due.is_some_and(|due| due <= Instant::now());
        if !(resting || asked || jobs || (dirty && (bytes_due || time_due))) {
            if let Ok(guard) = shared.publisher.try_lock()
                && let Some(committer) = guard.as_ref()
            {
                upload_ahead(&shared, committer.last_segment, committer.uploader());
            }
            continue;
        }
        let wanted = asked || (dirty && (bytes_due || time_due));
        let failure = shared.live.read().failure.clone();
        if let Some(bug) = failure.filter(|failure| failure.kind() == ErrorKind::Bug) {
            // Whoever found it may not have told those who wait.
            shared.fail(&bug);
            return;
        }
        let done = commit_all(&shared, dirty && (bytes_due || time_due), &mut rhythm).await;
        match done {
            Ok(()) => {
                let fixed = shared.commits.borrow().fixed;
                let dirty = shared.live.read().front.as_ref().is_some_and(|front| front.is_dirty(fixed));
                if wanted || !dirty {
                    due = None;
                }
                if dirty {
                    // Changed while the commit was on its way: looked at again at once, to arm the timer.
                    shared.wake.notify_one();
                }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::LocalDisk | ErrorKind::Bug) =>
            {
                warn!(%error, "the volume stops");
                shared.fail(&error);
                return;
            }
            Err(error) => {
                warn!(%error, "a commit failed and is tried again");
                shared.commits.change(|state| {
                    state.failures += 1;
                    let since = state.outage.as_ref().map_or_else(Instant::now, |outage| outage.since);
                    state.outage = Some(Outage { since, error });
                });
                // Whoever goes on appending is asked whether there is room.
                drop(shared.live.write());
                shared.undurable.commit_failed();
                shared.tell_undurable(None);
                rest = Some(Instant::now() + REST);
            }
        }
    }
}

/// Lets those go first who are about to ask for a commit: mostly whom the last one woke. What they do becomes a part of this
/// one. They would have to wait for it, and then for one of their own, with half of the others each time.
///
/// Those whom the last commit served are expected to ask again, if they do so within a small part of the time that it took.
async fn gather(shared: &Shared, last: &Rhythm) {
    let (mut asks, mut quiet) = (shared.asks.load(Ordering::Acquire), 0);
    for _ in 0..GATHER_TURNS {
        tokio::task::yield_now().await;
        let now = shared.asks.load(Ordering::Acquire);
        quiet = if now == asks { quiet + 1 } else { 0 };
        asks = now;
        if quiet == QUIET_TURNS {
            break;
        }
    }
    let patience = (last.took / PATIENCE_PART).min(PATIENCE_MOST);
    if patience < PATIENCE_LEAST {
        return;
    }
    let expected = async {
        while shared.asks.load(Ordering::Acquire) < last.expected && !shared.closing.load(Ordering::Acquire) {
            shared.wake.notified().await;
        }
    };
    tokio::select! {
        biased;
        () = expected => {}
        () = sleep(patience) => {}
    }
}

/// How the last commit went, for those that come after.
#[derive(Debug, Default)]
struct Rhythm {
    /// How often a commit had been asked for when it was fixed.
    asks: u64,
    /// How often that will have been when all whom it served have asked for one again.
    expected: u64,
    took: Duration,
}

/// Asks for a commit of everything up to now, and waits for it.
pub(crate) async fn commit_now(shared: &Shared) -> Result<Receipt> {
    let position = {
        let live = shared.live.read();
        live.usable().map_err(|refused| refused.doing(|| "commit".to_owned()))?;
        live.lsn(Lsn(0))
    };
    let mut commits = shared.commits.view();
    let failures = commits.look().failures;
    shared.ask_commit(position);
    loop {
        {
            let state = commits.look();
            if state.committed >= position
                && let Some(receipt) = &state.receipt
            {
                return Ok(receipt.clone());
            }
            if state.failures > failures
                && let Some(outage) = &state.outage
            {
                return Err(outage.error.during("commit (it goes on by itself when the store is back)"));
            }
        }
        shared.live.read().usable().map_err(|refused| refused.doing(|| "commit".to_owned()))?;
        commits.changed().await;
    }
}

/// Makes a commit of the state as it is, also when nothing was changed.
pub(crate) async fn name_state(shared: &Shared) -> Result<()> {
    let mut failures = shared.commits.borrow().failures;
    let (sender, mut done) = tokio::sync::oneshot::channel();
    {
        let mut live = shared.live.write();
        live.usable().map_err(|refused| refused.doing(|| "commit".to_owned()))?;
        if queue_commit(shared, &mut live, None, Vec::new(), sender).is_none() {
            return Ok(());
        }
    }
    shared.wake.notify_one();
    commit_named(shared, &mut done, &mut failures).await.map(drop)
}

/// Waits for a commit that was fixed for the caller.
pub(crate) async fn commit_named(
    shared: &Shared,
    done: &mut tokio::sync::oneshot::Receiver<Result<Receipt>>,
    failures: &mut u64,
) -> Result<Receipt> {
    let mut commits = shared.commits.view();
    loop {
        // First of all: what was made stays made, whatever became of the volume since.
        if let Ok(receipt) = done.try_recv() {
            return receipt;
        }
        {
            let state = commits.look();
            if state.failures > *failures
                && let Some(outage) = &state.outage
            {
                // Who waits again waits for the next try.
                *failures = state.failures;
                return Err(outage.error.during("checkpoint (it goes on by itself when the store is back)"));
            }
        }
        shared.live.read().usable().map_err(|refused| refused.doing(|| "checkpoint".to_owned()))?;
        tokio::select! {
            biased;
            receipt = &mut *done => {
                return receipt.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the volume was closed")));
            }
            () = commits.changed() => {}
        }
    }
}

/// Publishes what is fixed, in order, then, if that is due or was asked for and not done by that, everything up to now.
async fn commit_all(shared: &Arc<Shared>, mut wanted: bool, rhythm: &mut Rhythm) -> Result<()> {
    let mut guard = shared.publisher.lock().await;
    let Some(committer) = guard.as_mut() else { return Ok(()) };
    loop {
        if committer.current.is_none() {
            if wanted || shared.is_commit_asked() {
                gather(shared, rhythm).await;
            }
            let Some(job) = next_job(shared, &mut wanted) else { return Ok(()) };
            committer.current = Some(Current {
                job,
                time: shared.options.clock.now(),
                prepared: None,
                image: None,
                has_new_image: false,
            });
        }
        let span = committer
            .current
            .as_ref()
            .map(|current| info_span!("commit", id = %current.job.id, lsn = current.job.boundary.lsn.0));
        let (asks, begun) = (shared.asks.load(Ordering::Acquire), Instant::now());
        committer.publish(shared).instrument(span.unwrap_or_else(Span::none)).await?;
        *rhythm = Rhythm {
            asks,
            expected: shared.asks.load(Ordering::Acquire) + asks.saturating_sub(rhythm.asks),
            took: begun.elapsed(),
        };
    }
}

/// Step 1, fix: the oldest job that was fixed already, or one for everything up to now.
fn next_job(shared: &Shared, wanted: &mut bool) -> Option<Job> {
    let mut live = shared.live.write();
    let front = live.front.as_mut()?;
    let job = match front.jobs.pop_front() {
        Some(job) => job,
        None => {
            let fixed = shared.commits.borrow().fixed;
            // Not what was asked for when this began: a commit that was fixed before may be it.
            let due = std::mem::take(wanted) && front.is_dirty(fixed) || shared.is_commit_asked();
            if !due {
                return None;
            }
            live.fix_commit(None, Vec::new())?
        }
    };
    drop(live);
    note_fixed(shared, &job);
    Some(job)
}

/// Fixes a commit of the state as it is, whose outcome `done` is told, behind those that wait to be made. Gives the
/// position that it makes durable; none on a volume that is open for reading only.
pub(crate) fn queue_commit(
    shared: &Shared,
    live: &mut Live,
    checkpoint: Option<String>,
    metadata: Vec<u8>,
    done: Sender<Result<Receipt>>,
) -> Option<Lsn> {
    let mut job = live.fix_commit(checkpoint, metadata)?;
    job.done = Some(done);
    let position = job.boundary.lsn;
    note_fixed(shared, &job);
    live.front.as_mut()?.jobs.push_back(job);
    Some(position)
}

/// Tells writers which changes a commit will cover.
fn note_fixed(shared: &Shared, job: &Job) {
    shared.commits.change_if(|state| {
        state.fixed = state.fixed.max(job.boundary.lsn);
        if job.journaled.bytes > state.fixed_journal.bytes {
            state.fixed_journal = job.journaled;
        }
        false
    });
}

impl Committer {
    async fn publish(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let current = self.current.as_ref().expect("a commit was fixed");
        let doing = format!("commit {} to {}", current.job.id, shared.store.url());
        if current.prepared.is_none() {
            self.prepare(shared, &doing).await?;
        }
        let published = self.publisher.settle().await.map_err(|error| Error::recovery(doing, error))?;
        self.finish(shared, published);
        Ok(())
    }

    const fn uploader(&self) -> Uploader {
        Uploader { writer: self.writer, epoch: self.publisher.next_id().epoch }
    }

    /// Steps 2 to 4: write, upload, prepare.
    async fn prepare(&mut self, shared: &Arc<Shared>, doing: &str) -> Result<()> {
        let job = &self.current.as_ref().expect("a commit was fixed").job;
        let is_small = {
            let commits = shared.commits.borrow();
            job.journaled.bytes.saturating_sub(commits.committed_bytes) < SMALL_BYTES && job.rewound.is_none()
        };
        let drive = |shared: Arc<Shared>| match &shared.driver {
            Some(driver) => driver.drive(&shared, true),
            None => Ok(()),
        };
        heavy_unless(is_small && !shared.has_disk(), shared, drive).await?;
        let sealed = sealed_segments(shared, self.last_segment, job.boundary.segment)?;
        let inlined = inlined_from(&sealed, &shared.uploads, shared.options.inline_bytes);
        let keys = upload(shared, &sealed[..inlined], self.uploader()).await?;
        let mut inline = Vec::new();
        let mut segments = Vec::with_capacity(sealed.len());
        for segment in &sealed {
            let key = keys.get(&segment.header.id).cloned();
            if key.is_none() {
                inline.extend(segment_pieces(shared, segment.header.id)?);
            }
            segments.push((added(segment, key), segment.header));
        }
        let chain = sealed.last().map_or(self.chain, |last| last.chain);
        let state = loop {
            let (before, state) = match &job.rewound {
                Some(rewound) => (rewound.tree.clone(), rewound.state),
                None => (self.tree.clone(), self.state),
            };
            let tree = job.tree.clone();
            match heavy_unless(is_small, shared, move |_| Ok(state.update(&before, &tree))).await? {
                Ok(state) => break state,
                Err(missing) => shared.load(&missing).await.map_err(|error| error.during(doing))?,
            }
        };
        let (image, has_new_image) = {
            let mut image = shared.image.lock();
            let ready = image.ready.take();
            let has_new_image = ready.is_some();
            image.named = ready.or(image.named.take());
            (image.named.clone(), has_new_image)
        };
        let current = self.current.as_mut().expect("a commit was fixed");
        current.image.clone_from(&image);
        current.has_new_image |= has_new_image;
        if self.publisher.next_id() != current.job.id {
            return Err(Error::new(ErrorKind::Bug, format!("{doing}: it is not the next commit")));
        }
        self.publisher.prepare(Draft {
            end: current.job.boundary.lsn,
            chain,
            state,
            time: current.time,
            segments,
            inline,
            image,
            checkpoint: current.job.checkpoint.clone(),
            metadata: current.job.metadata.clone(),
            rewound: current.job.rewound.as_ref().map_or_else(Vec::new, |rewound| rewound.to.clone()),
        });
        current.prepared = Some((chain, state));
        if let Some(last) = current.job.boundary.segment {
            shared.uploads.forget(last);
        }
        Ok(())
    }

    /// Step 6: finish.
    fn finish(&mut self, shared: &Arc<Shared>, published: Published) {
        let Current { job, time, prepared, image, has_new_image } =
            self.current.take().expect("a commit was fixed");
        let (chain, state) = prepared.expect("the commit was prepared");
        let receipt = Receipt {
            commit: published.reference.id,
            position: job.boundary.lsn,
            chain,
            state,
            time,
            bytes: published.bytes,
        };
        info!(commit = %receipt.commit, lsn = receipt.position.0, bytes = receipt.bytes, "committed");
        let journal_bytes: u64 = published.segments.iter().map(|stored| stored.len).sum();
        let learnt = LearntCommit {
            hash: published.reference.hash,
            previous: published.previous,
            image,
            segments: published.segments.iter().map(|stored| stored.key.clone()).collect(),
            rewound: job.rewound.as_ref().map_or_else(Vec::new, |rewound| rewound.to.clone()),
            time_ms: time.as_nanos() / 1_000_000,
        };
        shared.collector.note(receipt.commit, learnt);
        shared.content.add(published.segments);
        if let Some(last) = job.boundary.segment {
            shared.residency.mark_committed(last);
            self.last_segment = Some(last);
        }
        shared.residency.trim(shared.options.memory_bytes);
        let before = std::mem::replace(&mut self.tree, job.tree);
        (self.state, self.chain, self.turn) = (state, chain, job.turn);
        if job.rewound.is_some() {
            // Nothing of it may be shared with what the volume went back to.
            shared.free(before);
        }
        // Before anybody hears of the commit: who closes the volume then waits for the image.
        shared.image.lock().rewinding.retain(|lsn, _| *lsn > job.boundary.lsn);
        // Who replays this commit replays also what the state that it goes back to is rebuilt from.
        let (bytes, commits) = job.rewound.map_or((0, 0), |rewound| rewound.replayed);
        self.image_if_due(shared, &receipt, journal_bytes.saturating_add(bytes), commits);
        shared.commits.change(|commits| {
            commits.committed = job.boundary.lsn;
            commits.committed_bytes = job.journaled.bytes;
            commits.receipt = Some(receipt.clone());
            commits.outage = None;
        });
        shared.undurable.committed(time);
        shared.tell_undurable(None);
        if let Some(done) = job.done {
            // The caller may have chosen not to wait.
            let _ = done.send(Ok(receipt.clone()));
        }
        if has_new_image && shared.options.auto_collect {
            collect_soon(shared, receipt.commit);
        }
    }
}

/// The segments after `last` up to and with `to`.
fn sealed_segments(shared: &Shared, last: Option<SegmentId>, to: Option<SegmentId>) -> Result<Vec<Sealed>> {
    let Some(to) = to else { return Ok(Vec::new()) };
    let first = last.map_or(0, |last| last.0 + 1);
    let ids = (first..=to.0).map(SegmentId);
    let sealed = ids.map(|id| {
        let sealed = shared.residency.sealed(id);
        sealed.ok_or_else(|| {
            Error::new(ErrorKind::Bug, format!("segment {id} was not written before its commit"))
        })
    });
    sealed.collect()
}

/// From which segment on all are inlined: the last ones, as far as they fit.
fn inlined_from(sealed: &[Sealed], uploads: &Uploads, budget: u64) -> usize {
    let mut left = budget;
    let mut from = sealed.len();
    for segment in sealed.iter().rev() {
        let Some(rest) = left.checked_sub(journal_len(segment)) else { break };
        if uploads.has(segment.header.id) {
            break;
        }
        left = rest;
        from -= 1;
    }
    from
}

fn added(sealed: &Sealed, key: Option<String>) -> AddedSegment {
    AddedSegment {
        id: sealed.header.id,
        epoch: sealed.header.epoch,
        writer: sealed.header.writer,
        hash: sealed.hash,
        len: sealed.len,
        footer_len: sealed.footer_len,
        key,
    }
}

/// Does work that takes long unless it is known to be small: handing it to another thread would be most of it then.
async fn heavy_unless<T: Send + 'static>(
    is_small: bool,
    shared: &Arc<Shared>,
    work: impl FnOnce(Arc<Shared>) -> Result<T> + Send + 'static,
) -> Result<T> {
    if is_small { work(Arc::clone(shared)) } else { heavy(shared, work).await }
}

/// Does work that takes long: beside the runtime's tasks, unless the volume keeps to one thread.
pub(super) async fn heavy<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(Arc<Shared>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let shared = Arc::clone(shared);
    if shared.options.one_thread {
        return work(shared);
    }
    let done = tokio::task::spawn_blocking(move || work(shared)).await;
    done.unwrap_or_else(|error| Err(Error::caused(ErrorKind::Bug, "working on a commit", error)))
}
