//! Pins: states of a volume that are kept for somebody else than its writer.

use std::collections::BTreeSet;

use rfs_core::{CommitId, Timestamp};
use rfs_recovery::RecoveryError;
use rfs_recovery::collect::Learnt;
use rfs_recovery::commit_log::{list_ids, read_commit};
use rfs_recovery::objects::CommitRef;
use rfs_recovery::pins::{Pin, is_kept, put_pin, read_pin, remove_pin};

use super::Shared;
use super::at_time::commit_at;
use super::committer::commit_now;
use crate::error::{Error, ErrorKind, Result};
use crate::volume::At;

/// The commit that `at` names. Of a writer, the head is everything up to now, and is committed first.
///
/// # Errors
/// `NoSuchState`, and those of a commit.
pub(crate) async fn resolve(shared: &Shared, learnt: &mut Learnt, at: &At) -> Result<CommitRef> {
    let id = find(shared, at).await?;
    if shared.driver.is_some() {
        // Nothing has to be read to know the newest.
        let guard = shared.publisher.lock().await;
        let head = guard.as_ref().and_then(|committer| committer.publisher.head());
        if let Some(head) = head.filter(|head| head.id == id) {
            return Ok(head);
        }
    }
    shared.collector.tell(learnt);
    if let Some(known) = learnt.reference(id) {
        return Ok(known);
    }
    let read = read_commit(shared.pages.lineage(), id).await;
    Ok(read.map_err(|error| Error::recovery(doing(shared, at), error))?.reference())
}

/// The number of the commit that `at` names, as [`resolve`] finds it; it was not read.
///
/// # Errors
/// As there.
pub(crate) async fn find(shared: &Shared, at: &At) -> Result<CommitId> {
    let fail = |error| Error::recovery(doing(shared, at), error);
    let lineage = shared.pages.lineage();
    let id = match at {
        At::Head if shared.driver.is_some() => Some(commit_now(shared).await?.commit),
        At::Head => shared.commits.borrow().receipt.as_ref().map(|receipt| receipt.commit),
        At::Commit(id) => Some(*id),
        At::Checkpoint(name) => shared.live.read().tree.checkpoints().get(name).map(|named| named.commit),
        At::Time(time) => {
            let ids = list_ids(lineage).await.map_err(fail)?;
            commit_at(lineage, &ids, *time).await.map_err(fail)?
        }
    };
    let (store, what) = (shared.store.url(), at.to_string());
    id.ok_or_else(|| fail(RecoveryError::NoSuchState { store: store.to_owned(), what }))
}

fn doing(shared: &Shared, at: &At) -> String {
    format!("find {at} of {}", shared.store.url())
}

/// Keeps a commit's state until the pin is removed, or ends. No collection of this writer runs meanwhile, and none of
/// another: it is seen whether there is one, once the pin is there. Who does not write the volume asks what collections
/// keep.
///
/// # Errors
/// `NoSuchState` when it is not kept any more; `Fenced`.
pub(crate) async fn pin(
    shared: &Shared,
    at: CommitId,
    owner: &str,
    fork: Option<u128>,
    expires: Option<Timestamp>,
) -> Result<Pin> {
    let doing = || format!("pin commit {at} of {}", shared.store.url());
    let fail = |error| Error::recovery(doing(), error);
    let id = crate::volume::identity(&shared.options)?;
    let home = shared.pages.lineage().keeper_of_epoch(at.epoch);
    let made = shared.options.clock.now();
    let (volume, owner) = (home.keys.0, owner.to_owned());
    let pin = Pin { volume, id, owner, fork, at, made, expires, objects: None };
    put_pin(&home, &pin).await.map_err(fail)?;
    let kept = if is_known_to_be_kept(shared, at) {
        // By this writer. Another one's collection, which would begin with a fence, then sees the pin.
        still_owns(shared).await.map(|()| true)
    } else {
        is_kept(&home, at).await.map_err(fail)
    };
    match kept {
        Ok(true) => return Ok(pin),
        // It may be kept, or not: whoever wants to know asks again.
        Err(error) if error.kind() != ErrorKind::Fenced => {
            let _ = remove_pin(&home, id).await;
            return Err(error);
        }
        _ => {}
    }
    remove_pin(&home, id).await.map_err(fail)?;
    Err(kept.err().map_or_else(|| fail(not_kept(shared, at)), |fenced| fenced.during(doing())))
}

/// Sees that no other writer took the volume over.
async fn still_owns(shared: &Shared) -> Result<()> {
    let doing = || format!("look who writes {}", shared.store.url());
    let fence = shared.publisher.lock().await.as_ref().map(|committer| committer.publisher.fence_check());
    let Some(fence) = fence else { return Ok(()) };
    let owned = fence.run().await.map_err(|error| Error::recovery(doing(), error));
    if let Err(error) = &owned
        && error.kind() == ErrorKind::Fenced
    {
        shared.fail(error);
    }
    owned
}

/// Whether this writer keeps the state of a commit: as long as no collection of it runs, and as long as it is the writer.
fn is_known_to_be_kept(shared: &Shared, id: CommitId) -> bool {
    let home = shared.pages.lineage().keeper_of_epoch(id.epoch);
    if shared.driver.is_none() || home.keys != shared.keys {
        return false;
    }
    let is_newest = shared.commits.borrow().receipt.as_ref().is_some_and(|receipt| receipt.commit == id);
    let is_named = || shared.live.read().tree.checkpoints().iter().any(|(_, named)| named.commit == id);
    is_newest || is_named()
}

/// Whether the state of a commit is kept, as far as this writer knows, or by what collections say.
pub(super) async fn is_kept_here(shared: &Shared, id: CommitId) -> std::result::Result<bool, RecoveryError> {
    if is_known_to_be_kept(shared, id) {
        return Ok(true);
    }
    let home = shared.pages.lineage().keeper_of_epoch(id.epoch);
    is_kept(&home, id).await
}

/// The error that says that it is not.
pub(super) fn not_kept(shared: &Shared, id: CommitId) -> RecoveryError {
    let home = shared.pages.lineage().keeper_of_epoch(id.epoch);
    let (store, what) = (home.store.url().to_owned(), format!("commit {id} whole"));
    RecoveryError::NoSuchState { store, what }
}

/// Has the pin of this fork keep no more than these objects; when these are none, takes it away.
pub(crate) async fn lessen_pin(
    shared: &Shared,
    borrowed: &BTreeSet<String>,
) -> std::result::Result<(), RecoveryError> {
    let Some((home, id)) = shared.pages.lineage().pin() else { return Ok(()) };
    if shared.collector.pinned.lock().as_ref() == Some(borrowed) {
        return Ok(());
    }
    if borrowed.is_empty() {
        remove_pin(&home, id).await?;
    } else if let Some(mut pin) = read_pin(&home, id).await? {
        pin.objects = Some(borrowed.iter().cloned().collect());
        put_pin(&home, &pin).await?;
    }
    *shared.collector.pinned.lock() = Some(borrowed.clone());
    Ok(())
}
