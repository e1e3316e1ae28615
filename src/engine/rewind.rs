//! Going back to an older state, in a history that goes on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rfs_core::{CommitId, Credential, Errno, Lsn, Op, RenameMode};
use rfs_recovery::RecoveryError;
use rfs_recovery::image::ImageBase;
use rfs_recovery::state::{State, gone_since, load_at};
use tracing::info;

use super::Shared;
use super::committer::{Receipt, commit_now};
use super::graft::graft;
use super::live::{Front, Live};
use super::open::begin_session;
use super::pin::{find, is_kept_here, not_kept};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::volume::{At, Volume};

/// Takes the whole volume back to the state `at`, and commits that.
pub(crate) async fn rewind(shared: &Shared, at: &At) -> Result<Receipt> {
    let doing = || format!("rewind {} to {at}", shared.store.url());
    // What it goes back to is needed until it is committed.
    let _no_collection = shared.collector.lock().await;
    let (to, older) = match older_state(shared, at, &doing).await? {
        Older::Head(head) => return Ok(head),
        Older::State { commit, state } => (commit, state),
    };
    let (mut older, mut left, mut base) = (Some(*older), None, None);
    let go_back = |live: &mut Live| {
        if let Some(state) = &older {
            left = Some(live.go_back(to, &state.tree)?);
        }
        let lsn = live.lsn(Lsn(0));
        if let (Some(front), Some(older)) = (&mut live.front, older.take()) {
            base = went_back(shared, front, lsn, to, older);
        }
        Ok(())
    };
    shared.change(go_back).await.map_err(|refused| refused.doing(doing))?;
    shared.free((left, base));
    begin_session(shared, &doing()).await?;
    let left_behind = shared.live.read().left_behind();
    for ino in left_behind {
        shared.run(shared.itself(), &Op::Release { ino }, &[], doing).await?;
    }
    shared.waits.wake_all();
    info!(commit = %to, "volume rewound");
    commit_now(shared).await.map_err(|error| error.during(doing()))
}

/// Takes what is at a path back to what was there in the state `at`, and commits that.
pub(crate) async fn rewind_path(volume: &Volume, path: &Path, at: &At) -> Result<Receipt> {
    let shared = volume.shared();
    let doing = || format!("rewind {} of {} to {at}", path.display(), shared.store.url());
    let during = |error: Error| error.during(doing());
    let _no_collection = shared.collector.lock().await;
    let older = match older_state(shared, at, &doing).await? {
        Older::Head(head) => return Ok(head),
        Older::State { state, .. } => state,
    };
    let before = shared.commits.borrow().committed;
    let fs = volume.fs().as_user(Credential::root());
    let is_there = match fs.symlink_metadata(path).await {
        Ok(_) => true,
        Err(error) if error.errno() == Some(Errno::NotFound) => false,
        Err(error) => return Err(during(error)),
    };
    let copy = beside(path, before);
    if graft(shared, &older.tree, path, &copy).await.map_err(during)? {
        let mode = if is_there { RenameMode::Exchange } else { RenameMode::NoReplace };
        fs.rename_with(&copy, path, mode).await.map_err(during)?;
    } else if is_there {
        fs.rename_with(path, &copy, RenameMode::NoReplace).await.map_err(during)?;
    }
    if is_there {
        remove(&fs, &copy).await.map_err(during)?;
    }
    commit_now(shared).await.map_err(during)
}

/// What a volume goes back to.
enum Older {
    /// The state as it is, which is committed.
    Head(Receipt),
    State {
        commit: CommitId,
        state: Box<State>,
    },
}

/// Commits what is left behind, so that it can be gone back to, and rebuilds the state `at`, whose segments can be read
/// then.
async fn older_state(shared: &Shared, at: &At, doing: impl Fn() -> String) -> Result<Older> {
    let during = |error: Error| error.during(doing());
    let fail = |error: RecoveryError| Error::recovery(doing(), error);
    let head = commit_now(shared).await.map_err(during)?;
    if *at == At::Head {
        return Ok(Older::Head(head));
    }
    let commit = find(shared, at).await.map_err(during)?;
    // Some of a state that is not kept may still be there: the volume would go back to what cannot be read.
    if !is_kept_here(shared, commit).await.map_err(fail)? {
        return Err(fail(not_kept(shared, commit)));
    }
    let state = load_at(&shared.pages, commit).await.map_err(fail)?;
    keep_segments(shared, &state).await.map_err(fail)?;
    Ok(Older::State { commit, state: Box::new(state) })
}

/// The name under which what was is made, and what is goes: a crash in between leaves it.
fn beside(path: &Path, position: Lsn) -> PathBuf {
    let mut name = OsString::from(".rewind-");
    name.push(position.0.to_string());
    path.with_file_name(name)
}

async fn remove(fs: &Fs, path: &Path) -> Result<()> {
    if fs.symlink_metadata(path).await?.is_dir() {
        fs.remove_dir_all(path).await
    } else {
        fs.remove_file(path).await
    }
}

/// The segments of an older state can be read.
pub(super) async fn keep_segments(shared: &Shared, older: &State) -> std::result::Result<(), RecoveryError> {
    let segments = shared.content.settle().await?;
    shared.content.add(gone_since(&shared.pages, &older.segments, &segments).await?);
    Ok(())
}

/// The record with this LSN took the volume back. Commits and images go by that from here on. Gives what images went by
/// before.
pub(super) fn went_back(
    shared: &Shared,
    front: &mut Front,
    lsn: Lsn,
    to: CommitId,
    older: State,
) -> Option<ImageBase> {
    front.note_rewound(to, &older);
    let mut image = shared.image.lock();
    image.rewinding.insert(lsn, to);
    image.turn = front.turn;
    std::mem::replace(&mut image.base, older.image.as_ref().map(|_| older.base))
}
