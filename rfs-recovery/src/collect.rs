//! Garbage collection: deletes the objects that no retained state needs.
//!
//! What is retained is part of the committed state: the newest durable commit of the collector's own epoch names the
//! checkpoints. So a collector that lost its epoch, and does not know it yet, deletes only what its successor cannot
//! need either: the successor's history extends that commit, and all its new objects have new names.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rfs_backends::Store;
use rfs_core::{CommitId, SegmentId};

use crate::commit_log::Publisher;
use crate::image::read_image_segments;
use crate::objects::{CommitObject, fetch_commit};
use crate::{Keys, RecoveryError};

/// What is kept.
#[derive(Clone, Debug)]
pub struct Retention {
    /// The newest durable commit.
    pub newest: CommitId,
    /// The named commits.
    pub checkpoints: BTreeSet<CommitId>,
    /// How many of the newest commits stay, beside the named ones; at least 1.
    pub keep_commits: usize,
    /// Every commit stays that was the newest one at this time or later: a reader may have opened it then. Objects
    /// written later stay too. Unix milliseconds.
    pub newest_until_ms: i64,
    /// The last segment that is committed: later ones may be on their way into the next commit.
    pub last_segment: Option<SegmentId>,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects deleted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The names of the objects that are left, of those that could hold committed segments. By names, and not by
    /// numbers, a segment is known to be gone: a writer that died before its commit leaves segments with the numbers
    /// that its successor uses again.
    pub left: BTreeSet<String>,
}

/// Deletes what no retained state needs.
///
/// # Errors
/// `Fenced` before anything is deleted when the caller lost its epoch; `Missing`, `Damaged`, or the store's.
pub async fn collect(
    store: &Store,
    keys: Keys,
    publisher: &Publisher,
    retention: &Retention,
) -> Result<Collected, RecoveryError> {
    // Asked first too: to a writer that lost its epoch, what its successor collected would look like damage.
    publisher.check_fence().await?;
    let commits = store.list(&keys.commits(), None).await?;
    let segments = store.list(&keys.segments(), None).await?;
    let images = store.list(&keys.images(), None).await?;
    let ids: BTreeSet<CommitId> =
        commits.iter().filter_map(|object| keys.parse_commit(&object.key)).collect();
    let needed = Needed::mark(store, keys, &ids, retention).await?;
    publisher.check_fence().await?;

    let mut collected = Collected::default();
    collected.left.extend(commits.iter().chain(&segments).map(|object| object.key.clone()));
    let aged = |object: &&rfs_backends::ObjectInfo| object.last_modified_ms < retention.newest_until_ms;
    for object in images.iter().filter(aged).filter(|object| !needed.keys.contains(&object.key)) {
        // An image that was written and that no commit names yet is of a commit not older than the newest named one.
        if needed.newest_image.as_ref().is_some_and(|newest| object.key < *newest) {
            collected.delete(store, object).await?;
        }
    }
    for object in segments.iter().filter(aged).filter(|object| !needed.keys.contains(&object.key)) {
        let Some(id) = keys.parse_segment(&object.key) else { continue };
        if retention.last_segment.is_some_and(|last| id <= last) {
            collected.delete(store, object).await?;
        }
    }
    let highest = highest_of_each_epoch(&ids);
    for object in commits.iter().filter(aged) {
        let Some(id) = keys.parse_commit(&object.key) else { continue };
        if id < retention.newest && !highest.contains(&id) && !needed.keys.contains(&object.key) {
            collected.delete(store, object).await?;
        }
    }
    Ok(collected)
}

impl Collected {
    async fn delete(
        &mut self,
        store: &Store,
        object: &rfs_backends::ObjectInfo,
    ) -> Result<(), RecoveryError> {
        store.delete(&object.key).await?;
        self.objects += 1;
        self.bytes += object.size;
        self.left.remove(&object.key);
        Ok(())
    }
}

/// The objects that the retained states need.
#[derive(Default)]
struct Needed {
    keys: BTreeSet<String>,
    newest_image: Option<String>,
}

impl Needed {
    async fn mark(
        store: &Store,
        keys: Keys,
        ids: &BTreeSet<CommitId>,
        retention: &Retention,
    ) -> Result<Self, RecoveryError> {
        let mut retained: BTreeSet<CommitId> = retention.checkpoints.iter().copied().collect();
        let mut bodies = BTreeMap::new();
        let newest_first = ids.range(..=retention.newest).rev().copied();
        let mut kept = 0;
        let mut superseded_ms = i64::MAX;
        for id in newest_first {
            if kept >= retention.keep_commits.max(1) && superseded_ms < retention.newest_until_ms {
                break;
            }
            if let CommitObject::Commit(commit) = fetch_commit(store, keys, id).await? {
                kept += 1;
                superseded_ms = commit.commit.time.as_nanos() / 1_000_000;
                retained.insert(id);
                bodies.insert(id, commit.commit);
            }
        }
        let mut needed = Self::default();
        let mut images = BTreeSet::new();
        for id in retained {
            let named = id == retention.newest || retention.checkpoints.contains(&id);
            match needed.mark_state(store, keys, id, &mut bodies, &mut images).await {
                // Retention was shorter before: a state that is not whole any more cannot be kept.
                Err(RecoveryError::Missing { .. }) if !named => {}
                marked => marked?,
            }
        }
        Ok(needed)
    }

    /// Marks a commit, its image, the segments that this names as live, and the commits and segments since.
    async fn mark_state(
        &mut self,
        store: &Store,
        keys: Keys,
        id: CommitId,
        bodies: &mut BTreeMap<CommitId, crate::objects::Commit>,
        images: &mut BTreeSet<String>,
    ) -> Result<(), RecoveryError> {
        let mut at = Some(id);
        let mut from = None;
        while let Some(id) = at.filter(|id| Some(*id) != from) {
            let commit = match bodies.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let CommitObject::Commit(commit) = fetch_commit(store, keys, id).await? else { break };
                    unknown.insert(commit.commit)
                }
            };
            if from.is_none() {
                from = commit.image.as_ref().map(|image| image.of);
                if let Some(image) = commit.image.as_ref().filter(|image| images.insert(image.key.clone())) {
                    let segments = read_image_segments(store, keys, image).await?;
                    let live = segments.into_iter().filter(|kept| kept.live);
                    self.keys.extend(live.map(|kept| kept.stored.key));
                    self.keys.insert(image.key.clone());
                    self.newest_image = self.newest_image.take().max(Some(image.key.clone()));
                }
            }
            self.keys.insert(keys.commit(id));
            self.keys.extend(commit.segments.iter().filter_map(|added| added.key.clone()));
            at = commit.previous.map(|previous| previous.id);
        }
        Ok(())
    }
}

fn highest_of_each_epoch(ids: &BTreeSet<CommitId>) -> BTreeSet<CommitId> {
    let highest: BTreeMap<u64, CommitId> = ids.iter().map(|id| (id.epoch, *id)).collect();
    highest.into_values().collect()
}
