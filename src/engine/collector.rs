//! Garbage collection, on call or by itself.

use std::sync::Arc;

use parking_lot::Mutex;
use rfs_core::CommitId;
use rfs_recovery::collect::{Collected, Learnt, LearntCommit, Retention, collect};
use tracing::{debug, warn};

use super::Shared;
use crate::error::{Error, ErrorKind, Result};

/// Commits that were published since the last collection: beyond these a collection asks the store.
const PUBLISHED_MAX: usize = 1 << 16;

/// What collections go by, beside the committer.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// One collection at a time.
    learnt: tokio::sync::Mutex<Learnt>,
    published: Mutex<Vec<(CommitId, LearntCommit)>>,
}

impl Collector {
    /// Notes a commit that was made.
    pub(crate) fn note(&self, id: CommitId, commit: LearntCommit) {
        let mut published = self.published.lock();
        if published.len() < PUBLISHED_MAX {
            published.push((id, commit));
        }
    }
}

/// Collects now, as of the newest commit. Later ones are made meanwhile.
pub(crate) async fn collect_now(shared: &Shared) -> Result<Collected> {
    let doing = || format!("collect garbage in {}", shared.store.url());
    let mut learnt = shared.collector.learnt.lock().await;
    let (retention, fence) = {
        let guard = shared.publisher.lock().await;
        shared.live.read().usable().map_err(|refused| refused.doing(doing))?;
        let Some(committer) = guard.as_ref() else { return Ok(Collected::default()) };
        let receipt = shared.commits.borrow().receipt.clone();
        let Some(receipt) = receipt else { return Ok(Collected::default()) };
        let checkpoints = committer.tree.checkpoints().iter();
        let retention = Retention {
            newest: receipt.commit,
            checkpoints: checkpoints.map(|(_, checkpoint)| checkpoint.commit).collect(),
            keep_commits: shared.options.keep_commits,
            newest_until_ms: newest_until_ms(shared),
            last_segment: committer.last_segment,
        };
        (retention, committer.publisher.fence_check())
    };
    for (id, commit) in std::mem::take(&mut *shared.collector.published.lock()) {
        learnt.add(id, commit);
    }
    let collected = collect(&shared.store, shared.keys, &fence, &retention, &mut learnt).await;
    let collected = collected.map_err(|error| Error::recovery(doing(), error));
    if let Err(error) = &collected
        && error.kind() == ErrorKind::Fenced
    {
        shared.fail(error);
    }
    let collected = collected?;
    if let Some(last) = retention.last_segment {
        shared.content.keep(&collected.left, last);
    }
    Ok(collected)
}

fn newest_until_ms(shared: &Shared) -> i64 {
    let grace = i64::try_from(shared.options.collect_grace.as_millis()).unwrap_or(i64::MAX);
    let now = shared.options.clock.now().as_nanos() / 1_000_000;
    if grace == 0 { i64::MAX } else { now.saturating_sub(grace) }
}

/// Collects in the background, for as long as the volume is open. `after` is the commit that made garbage of something.
pub(crate) fn collect_soon(shared: &Arc<Shared>, after: CommitId) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut commits = shared.commits.subscribe();
        let over = async {
            // It cannot end: `shared` has the sender.
            let _ = commits.wait_for(|state| state.failed).await;
        };
        tokio::select! {
            () = over => {}
            collected = collect_now(&shared) => match collected {
                Ok(Collected { objects, bytes, .. }) => debug!(%after, objects, bytes, "collected garbage"),
                Err(error) => warn!(%after, %error, "garbage was not collected; the next image tries again"),
            },
        }
    });
}
