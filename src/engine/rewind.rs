//! Going back to an older state, in a history that goes on.

use rfs_core::{CommitId, Lsn, Op};
use rfs_recovery::RecoveryError;
use rfs_recovery::state::{State, gone_since, load_at};
use tracing::info;

use super::Shared;
use super::committer::{Receipt, commit_now};
use super::live::{Front, Live};
use super::open::begin_session;
use super::pin::resolve;
use crate::error::{Error, Result};
use crate::volume::At;

/// Takes the whole volume back to the state `at`, and commits that.
pub(crate) async fn rewind(shared: &Shared, at: &At) -> Result<Receipt> {
    let doing = || format!("rewind {} to {at}", shared.store.url());
    let fail = |error: RecoveryError| Error::recovery(doing(), error);
    // What it goes back to is needed until it is committed.
    let _no_collection = shared.collector.lock().await;
    // What is left behind is a commit, so that it can be gone back to.
    let before = commit_now(shared).await.map_err(|error| error.during(doing()))?;
    if *at == At::Head {
        return Ok(before);
    }
    let to = resolve(shared, at).await.map_err(|error| error.during(doing()))?.id;
    let older = load_at(&shared.pages, to).await.map_err(fail)?;
    keep_segments(shared, &older).await.map_err(fail)?;
    let mut older = Some(older);
    let go_back = |live: &mut Live| {
        if let Some(state) = &older {
            live.go_back(to, &state.tree)?;
        }
        let lsn = live.lsn(Lsn(0));
        if let (Some(front), Some(older)) = (&mut live.front, older.take()) {
            went_back(shared, front, lsn, to, older);
        }
        Ok(())
    };
    shared.change(go_back).await.map_err(|refused| refused.doing(doing))?;
    begin_session(shared, &doing()).await?;
    let left_behind = shared.live.read().left_behind();
    for ino in left_behind {
        shared.run(shared.itself(), &Op::Release { ino }, &[], doing).await?;
    }
    shared.waits.wake_all();
    info!(commit = %to, "volume rewound");
    commit_now(shared).await.map_err(|error| error.during(doing()))
}

/// The segments of an older state can be read.
pub(super) async fn keep_segments(shared: &Shared, older: &State) -> std::result::Result<(), RecoveryError> {
    let segments = shared.content.settle().await?;
    shared.content.add(gone_since(&shared.pages, &older.segments, &segments).await?);
    Ok(())
}

/// The record with this LSN took the volume back. Commits and images go by that from here on.
pub(super) fn went_back(shared: &Shared, front: &mut Front, lsn: Lsn, to: CommitId, older: State) {
    front.note_rewound(to, &older);
    let mut image = shared.image.lock();
    image.rewinding.insert(lsn, to);
    image.turn = front.turn;
    image.base = older.image.as_ref().map(|_| older.base);
}
