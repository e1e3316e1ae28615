//! Pins: states of a volume that are kept for somebody else than its writer.

use std::collections::BTreeSet;

use rfs_core::{CommitId, Timestamp};
use rfs_recovery::RecoveryError;
use rfs_recovery::commit_log::{list_ids, read_commit};
use rfs_recovery::objects::CommitRef;
use rfs_recovery::pins::{Pin, is_kept, put_pin, read_pin, remove_pin};

use super::Shared;
use super::at_time::commit_at;
use super::committer::commit_now;
use crate::error::{Error, Result};
use crate::volume::At;

/// The commit that `at` names. Of a writer, the head is everything up to now, and is committed first.
///
/// # Errors
/// `NoSuchState`, and those of a commit.
pub(crate) async fn resolve(shared: &Shared, at: &At) -> Result<CommitRef> {
    let id = find(shared, at).await?;
    if shared.driver.is_some() {
        // Nothing has to be read to know the newest.
        let guard = shared.publisher.lock().await;
        let head = guard.as_ref().and_then(|committer| committer.publisher.head());
        if let Some(head) = head.filter(|head| head.id == id) {
            return Ok(head);
        }
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

/// Keeps a commit's state until the pin is removed, or ends. No collection of this writer runs meanwhile; of those of
/// another it is asked what they keep.
///
/// # Errors
/// `NoSuchState` when it is not kept any more.
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
    if !is_kept_here(shared, at, Some(id)).await.map_err(fail)? {
        remove_pin(&home, id).await.map_err(fail)?;
        return Err(fail(not_kept(shared, at)));
    }
    Ok(pin)
}

/// Whether the state of a commit is kept, without the pin `but`, or of a writer: as long as no collection of it runs.
pub(super) async fn is_kept_here(
    shared: &Shared,
    id: CommitId,
    but: Option<u128>,
) -> std::result::Result<bool, RecoveryError> {
    let home = shared.pages.lineage().keeper_of_epoch(id.epoch);
    if shared.driver.is_some() && home.keys == shared.keys {
        let is_newest = shared.commits.borrow().receipt.as_ref().is_some_and(|receipt| receipt.commit == id);
        let is_named = || shared.live.read().tree.checkpoints().iter().any(|(_, named)| named.commit == id);
        if is_newest || is_named() {
            return Ok(true);
        }
    }
    is_kept(&home, id, but, shared.options.clock.now()).await
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
