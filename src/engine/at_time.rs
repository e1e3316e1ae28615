//! Which commit was the newest one at a time.

use rfs_backends::StoreErrorKind;
use rfs_core::{CommitId, Timestamp};
use rfs_recovery::objects::{CommitObject, decode_commit};
use rfs_recovery::{Home, Lineage, RecoveryError};

/// A commit that was made at `time` or before, and after which comes an entry of the log that was made later, or none.
/// It is found by halves: `ids` are all entries, in order. When the clocks of different writers disagree there may be
/// several such commits; then it is one of them.
pub(super) async fn commit_at(
    lineage: &Lineage,
    ids: &[CommitId],
    time: Timestamp,
) -> Result<Option<CommitId>, RecoveryError> {
    let mut above = ids.len();
    loop {
        let (mut low, mut high) = (0, above);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match entry(lineage, ids[middle]).await? {
                Some((made, is_commit)) if made <= time => {
                    found = Some((middle, is_commit));
                    low = middle + 1;
                }
                Some(_) => high = middle,
                // Collected since it was listed, and so were all before it that no state needs.
                None => low = middle + 1,
            }
        }
        match found {
            None => return Ok(None),
            Some((index, true)) => return Ok(Some(ids[index])),
            // An epoch ends there. The commit below may have been made later, by a clock that was ahead.
            Some((index, false)) => above = index,
        }
    }
}

/// When an entry was made, and whether it is a commit; none when it is gone.
async fn entry(lineage: &Lineage, id: CommitId) -> Result<Option<(Timestamp, bool)>, RecoveryError> {
    let Home { store, keys } = lineage.of_epoch(id.epoch);
    let object = match store.get(&keys.commit(id)).await {
        Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
        object => object?,
    };
    Ok(Some(match decode_commit(store.url(), keys, id, &object)? {
        CommitObject::Commit(commit) => (commit.commit.time, true),
        CommitObject::Fence(fence) => (fence.time, false),
    }))
}
