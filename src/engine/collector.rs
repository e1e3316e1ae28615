//! Garbage collection, on call or by itself.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rfs_core::CommitId;
use rfs_recovery::collect::{Borrowed, Collected, Learnt, LearntCommit, Pace, Retention, borrowed, collect};
use rfs_recovery::commit_log::FenceCheck;
use tokio::sync::MutexGuard;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Shared;
use super::compactor::{Zeal, compact_some};
use super::pin::lessen_pin;
use crate::clock::sleep;
use crate::error::{Error, ErrorKind, Result};

/// So many commits that were published since the last collection are noted: if there are more it asks the store.
const PUBLISHED_MAX: usize = 1 << 12;
/// Between collections in the background it rests so many times as long as the last one took: lists of a volume with many
/// commits take a while, and images may come several times a second.
const REST_TIMES: u32 = 9;
/// How long closing a volume collects at most.
const CLOSING: Duration = Duration::from_secs(60);

/// What collections go by, beside the committer.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// One collection at a time.
    learnt: tokio::sync::Mutex<Learnt>,
    /// What the pin of this fork is known to keep.
    pub(super) pinned: Mutex<Option<BTreeSet<String>>>,
    published: Mutex<Vec<(CommitId, LearntCommit)>>,
    /// An image made garbage that no collection has looked for.
    owed: AtomicBool,
    /// Before this time none begins by itself.
    rests_until: Mutex<Option<Instant>>,
    /// One waits for its turn, and does for all who would come after it.
    waiting: AtomicBool,
    /// One compaction at a time.
    pub(super) compacting: tokio::sync::Mutex<()>,
    /// The volume is being closed: what is stored again would not be committed any more.
    ending: AtomicBool,
}

impl Collector {
    /// One whose collections go at this rate at most.
    pub(crate) fn new(objects_per_second: Option<NonZeroU32>) -> Self {
        let pace = objects_per_second.map(|rate| {
            let every = Duration::from_secs(1) / rate.get();
            let next = Arc::new(Mutex::new(None::<Instant>));
            Pace::new(move || {
                let now = Instant::now();
                let at = {
                    let mut next = next.lock();
                    let at = next.map_or(now, |next| next.max(now));
                    *next = Some(at + every);
                    at
                };
                Box::pin(sleep(at - now))
            })
        });
        let learnt = tokio::sync::Mutex::new(Learnt::paced(pace.unwrap_or_default()));
        Self { learnt, ..Self::default() }
    }

    /// No collection runs for as long as this is held.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().await
    }

    /// Adds the commits that were made to what collections go by.
    pub(super) fn tell(&self, learnt: &mut Learnt) {
        for (id, commit) in std::mem::take(&mut *self.published.lock()) {
            learnt.add(id, commit);
        }
    }

    /// From now on nothing is compacted.
    pub(crate) fn end_compaction(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Waits until a collection may begin by itself.
    async fn rest(&self) {
        let until = *self.rests_until.lock();
        if let Some(until) = until {
            sleep(until.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Notes a commit that was made.
    pub(crate) fn note(&self, id: CommitId, commit: LearntCommit) {
        let mut published = self.published.lock();
        if published.len() >= PUBLISHED_MAX {
            published.clear();
        }
        published.push((id, commit));
    }
}

/// Collects now, as of the newest commit. Later ones are made meanwhile.
pub(crate) async fn collect_now(shared: &Shared) -> Result<Collected> {
    let learnt = shared.collector.learnt.lock().await;
    collect_with(shared, learnt).await
}

/// What the volume needs of others.
pub(super) async fn borrowed_now(shared: &Shared, learnt: &mut Learnt) -> Result<Borrowed> {
    let doing = || format!("find what {} borrows", shared.store.url());
    let Some((retention, fence)) = retention(shared, doing).await? else { return Ok(Borrowed::default()) };
    borrowed(&shared.pages, &fence, &retention, learnt).await.map_err(|error| Error::recovery(doing(), error))
}

/// What is kept as of the newest commit; none before there is one.
pub(super) async fn retention(
    shared: &Shared,
    doing: impl FnOnce() -> String,
) -> Result<Option<(Retention, FenceCheck)>> {
    let guard = shared.publisher.lock().await;
    shared.live.read().usable().map_err(|refused| refused.doing(doing))?;
    let Some(committer) = guard.as_ref() else { return Ok(None) };
    let receipt = shared.commits.borrow().receipt.clone();
    let Some(receipt) = receipt else { return Ok(None) };
    let checkpoints = committer.tree.checkpoints().iter();
    let rewinding = shared.image.lock().rewinding.values().copied().collect::<Vec<_>>();
    let checkpoints = checkpoints.map(|(_, checkpoint)| checkpoint.commit).chain(rewinding);
    let retention = Retention {
        newest: receipt.commit,
        checkpoints: checkpoints.collect(),
        keep_commits: shared.options.keep_commits,
        newest_until_ms: newest_until_ms(shared),
        last_segment: committer.last_segment,
        now: shared.options.clock.now(),
    };
    Ok(Some((retention, committer.publisher.fence_check())))
}

async fn collect_with(shared: &Shared, mut learnt: MutexGuard<'_, Learnt>) -> Result<Collected> {
    let doing = || format!("collect garbage in {}", shared.store.url());
    let Some((retention, fence)) = retention(shared, doing).await? else { return Ok(Collected::default()) };
    shared.collector.tell(&mut learnt);
    let owed = shared.collector.owed.swap(false, Ordering::AcqRel);
    let collected = collect(&shared.pages, &fence, &retention, &mut learnt).await;
    let collected = collected.map_err(|error| Error::recovery(doing(), error));
    if let Err(error) = &collected {
        shared.collector.owed.fetch_or(owed, Ordering::AcqRel);
        if error.kind() == ErrorKind::Fenced {
            shared.fail(error);
        }
    }
    let collected = collected?;
    // As long as its head is the commit that it begins with, it needs all of that, and its own forks pin it by its number.
    if shared.pages.lineage().of_epoch(retention.newest.epoch).keys == shared.keys {
        lessen_pin(shared, &collected.borrowed).await.map_err(|error| Error::recovery(doing(), error))?;
    }
    if let Some(last) = retention.last_segment {
        let kept = shared.content.keep(&collected.left, last).await;
        kept.map_err(|error| Error::recovery(doing(), error))?;
    }
    Ok(collected)
}

pub(super) fn newest_until_ms(shared: &Shared) -> i64 {
    let grace = i64::try_from(shared.options.collect_grace.as_millis()).unwrap_or(i64::MAX);
    let now = shared.options.clock.now().as_nanos() / 1_000_000;
    if grace == 0 { i64::MAX } else { now.saturating_sub(grace) }
}

/// Collects in the background, for as long as the volume is open. `after` is the commit that made garbage of something.
pub(crate) fn collect_soon(shared: &Arc<Shared>, after: CommitId) {
    shared.collector.owed.store(true, Ordering::Release);
    if shared.collector.waiting.swap(true, Ordering::AcqRel) {
        return;
    }
    let waiting = Waiting(Arc::clone(shared));
    tokio::spawn(async move {
        let shared = Arc::clone(&waiting.0);
        let mut commits = shared.commits.view();
        let over = commits.until(|state| state.failed);
        let collection = async {
            shared.collector.rest().await;
            let learnt = shared.collector.learnt.lock().await;
            drop(waiting);
            let begun = Instant::now();
            let collected = collect_with(&shared, learnt).await;
            *shared.collector.rests_until.lock() = Some(Instant::now() + begun.elapsed() * REST_TIMES);
            if collected.is_ok()
                && let Err(error) = compact_some(&shared, Zeal::Due).await
            {
                warn!(%error, "the volume was not compacted; after the next image it is tried again");
            }
            collected
        };
        tokio::select! {
            biased;
            () = over => {}
            collected = collection => match collected {
                Ok(Collected { objects, bytes, .. }) => debug!(%after, objects, bytes, "collected garbage"),
                Err(error) => warn!(%after, %error, "garbage was not collected; the next image tries again"),
            },
        }
    });
}

/// Does what is owed before a volume is closed, if that takes no longer than a minute: the next writer does the rest.
pub(crate) async fn collect_at_close(shared: &Shared) {
    let collection = async {
        let learnt = shared.collector.learnt.lock().await;
        if shared.collector.owed.load(Ordering::Acquire)
            && let Err(error) = collect_with(shared, learnt).await
        {
            warn!(%error, "garbage was not collected");
        }
    };
    if shared.collector.owed.load(Ordering::Acquire) || shared.collector.learnt.try_lock().is_err() {
        tokio::select! {
            biased;
            () = collection => {}
            () = sleep(CLOSING) => {}
        }
    }
}

/// However a collection that waits ends, the next one may wait.
struct Waiting(Arc<Shared>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.collector.waiting.store(false, Ordering::Release);
    }
}
