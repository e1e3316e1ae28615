//! Garbage collection: deletes the objects that no retained state needs.
//!
//! What is retained is part of the committed state: the newest durable commit of the collector's own epoch names the
//! checkpoints. So a collector that lost its epoch, and does not know it yet, deletes only what its successor cannot
//! need either: the successor's history extends that commit, and all its new objects have new names.

mod account;
mod learnt;

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use rfs_backends::ObjectInfo;
use rfs_core::{CommitId, SegmentId, Timestamp};

pub use self::account::{Account, Total, account};
pub use self::learnt::{Learnt, LearntCommit, Pace};
use crate::commit_log::FenceCheck;
use crate::objects::ImageRef;
use crate::pins::{Kept, Pin, pins, put_kept};
use crate::{Home, Keys, Pages, RecoveryError, protocol};

/// How many requests are under way at a time.
const REQUESTS: usize = 8;
/// How many commits are looked up at a time, newest first, without knowing how many are retained.
const LOOK_UP: usize = 32;

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
    /// Pins that end before this time keep nothing.
    pub now: Timestamp,
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
    /// The names of the objects of other volumes that are needed.
    pub borrowed: BTreeSet<String>,
}

/// Deletes what no retained state needs. The writer may commit meanwhile: what it makes after the newest commit of
/// `retention` is not touched. Of commits and images that are in `learnt` the store is not asked again.
///
/// # Errors
/// `Fenced` before anything is deleted when the caller lost its epoch; `Missing`, `Damaged`, or the store's.
pub async fn collect(
    pages: &Pages,
    fence: &FenceCheck,
    retention: &Retention,
    learnt: &mut Learnt,
) -> Result<Collected, RecoveryError> {
    let (store, keys) = (pages.store(), pages.keys());
    // Asked first too: to a writer that lost its epoch, what its successor collected would look like damage.
    fence.run().await?;
    let listed = Listed::of(pages).await?;
    let mut needed = Needed::mark(pages, &listed.ids, retention, learnt).await?;
    let mut expired = Vec::new();
    // A fork also passes on what it borrows.
    if pages.lineage().pin().is_some() || !listed.dead(keys, retention, &needed).is_empty() {
        expired = needed.mark_pins(pages, fence.epoch(), retention, learnt).await?;
        expired.extend(learnt.take_said_before());
    }
    let dead = listed.dead(keys, retention, &needed);
    learnt.forget_all_but(pages.lineage(), &needed.keys, retention.newest);
    fence.run().await?;

    let mut collected = Collected::default();
    let names = listed.commits.iter().chain(&listed.segments).chain(&listed.copies);
    collected.left.extend(names.map(|object| object.key.clone()));
    collected.borrowed = needed.borrowed(pages);
    collected.left.extend(collected.borrowed.iter().cloned());
    let pace = learnt.pace();
    let delete = |object: ObjectInfo| async move {
        pace.wait().await;
        store.delete(&object.key).await.map(|()| object)
    };
    let mut deleted = stream::iter(dead.into_iter().map(delete)).buffer_unordered(REQUESTS);
    let mut gone = Vec::new();
    while let Some(object) = deleted.try_next().await? {
        collected.objects += 1;
        collected.bytes += object.size;
        collected.left.remove(&object.key);
        gone.push(object.key);
    }
    pages.local().forget(gone).await;
    for key in expired {
        store.delete(&key).await?;
    }
    Ok(collected)
}

/// What a volume needs of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Borrowed {
    /// The names of all objects that are needed and are not at its own place.
    pub objects: BTreeSet<String>,
    /// Those of other volumes' objects that its own forks need.
    pub by_forks: BTreeSet<String>,
}

/// What a volume needs of others, as of the newest commit of `retention`. From here on nothing else is kept of it.
///
/// # Errors
/// `Fenced` when the caller lost its epoch; `Missing`, `Damaged`, or the store's.
pub async fn borrowed(
    pages: &Pages,
    fence: &FenceCheck,
    retention: &Retention,
    learnt: &mut Learnt,
) -> Result<Borrowed, RecoveryError> {
    let (store, keys) = (pages.store(), pages.keys());
    let commits = store.list(&keys.commits(), None).await?;
    let ids = commits.iter().filter_map(|object| keys.parse_commit(&object.key)).collect();
    let mut needed = Needed::mark(pages, &ids, retention, learnt).await?;
    needed.mark_pins(pages, fence.epoch(), retention, learnt).await?;
    // A successor that comes later goes by what was said.
    fence.run().await?;
    let by_forks = needed.by_pins.iter().filter(|key| !keys.is_named(key)).cloned().collect();
    let objects = needed.keys.iter().filter(|key| pages.lineage().is_borrowed(key)).cloned().collect();
    Ok(Borrowed { objects, by_forks })
}

/// The objects of a volume, as they were listed.
struct Listed {
    ids: BTreeSet<CommitId>,
    commits: Vec<ObjectInfo>,
    segments: Vec<ObjectInfo>,
    images: Vec<ObjectInfo>,
    page_objects: Vec<ObjectInfo>,
    /// Copies of objects of the volumes that it was a fork of.
    copies: Vec<ObjectInfo>,
}

impl Listed {
    async fn of(pages: &Pages) -> Result<Self, RecoveryError> {
        let (store, keys) = (pages.store(), pages.keys());
        let commits = store.list(&keys.commits(), None).await?;
        let segments = store.list(&keys.segments(), None).await?;
        let images = store.list(&keys.images(), None).await?;
        let page_objects = store.list(&keys.pages(), None).await?;
        let ids = commits.iter().filter_map(|object| keys.parse_commit(&object.key)).collect();
        let mut copies = Vec::new();
        for keys in pages.lineage().detached() {
            copies.extend(store.list(&keys.volume(), None).await?);
        }
        Ok(Self { ids, commits, segments, images, page_objects, copies })
    }

    /// Those that nothing needs, and that are not of what the writer is making.
    fn dead(&self, keys: Keys, retention: &Retention, needed: &Needed) -> Vec<ObjectInfo> {
        let Self { ids, commits, segments, images, page_objects, copies } = self;
        let aged = |object: &&ObjectInfo| object.last_modified_ms < retention.newest_until_ms;
        let unneeded = |object: &&ObjectInfo| !needed.keys.contains(&object.key);
        // An image that was written and that no commit names yet comes after the newest named one.
        let newest_page_object = needed.keys.iter().filter_map(|key| keys.parse_pages(key)).max();
        let dead_page_objects = page_objects.iter().filter(|object| {
            let object = keys.parse_pages(&object.key);
            object.is_some_and(|object| newest_page_object.is_some_and(|newest| object < newest))
        });
        // Nobody writes whole images any more: when there is one in pages, those that are not needed are of the past.
        let dead_images = images.iter().filter(|object| {
            let newest = needed.newest_image.as_ref();
            newest_page_object.is_some() || newest.is_some_and(|newest| object.key < *newest)
        });
        let dead_segments = segments.iter().filter(|object| {
            let id = keys.parse_segment(&object.key);
            id.is_some_and(|id| retention.last_segment.is_some_and(|last| id <= last))
        });
        let collectable: BTreeSet<CommitId> = protocol::collectable(ids, retention.newest).collect();
        let dead_commits = commits.iter().filter(|object| {
            let id = keys.parse_commit(&object.key);
            id.is_some_and(|id| collectable.contains(&id))
        });
        let dead = dead_images
            .chain(dead_page_objects)
            .chain(dead_segments)
            .chain(dead_commits)
            .chain(copies)
            .filter(aged)
            .filter(unneeded);
        dead.cloned().collect()
    }
}

/// The objects that the retained states need.
#[derive(Default)]
struct Needed {
    keys: BTreeSet<String>,
    /// The objects of the images that were marked.
    images: BTreeSet<String>,
    newest_image: Option<String>,
    /// The commits whose states are kept.
    states: BTreeSet<CommitId>,
    /// What of it is needed for pins.
    by_pins: BTreeSet<String>,
    /// Commits with the image that the walk to them goes back to: from there on it was walked.
    walked: BTreeSet<(CommitId, Option<CommitId>)>,
}

impl Needed {
    async fn mark(
        pages: &Pages,
        ids: &BTreeSet<CommitId>,
        retention: &Retention,
        learnt: &mut Learnt,
    ) -> Result<Self, RecoveryError> {
        let lineage = pages.lineage();
        let mut named = retention.checkpoints.clone();
        named.insert(retention.newest);
        let mut others = Vec::new();
        let newest_first: Vec<CommitId> = ids.range(..=retention.newest).rev().copied().collect();
        let mut kept = 0;
        let mut superseded_ms = i64::MAX;
        for (index, id) in newest_first.iter().enumerate() {
            if kept >= retention.keep_commits.max(1) && superseded_ms < retention.newest_until_ms {
                break;
            }
            if index.is_multiple_of(LOOK_UP) {
                let next = newest_first[index..].chunks(LOOK_UP).next().unwrap_or_default();
                learnt.look_up(lineage, next).await;
            }
            if let Some(commit) = learnt.commit(lineage, *id).await? {
                kept += 1;
                superseded_ms = commit.time_ms;
                others.push(*id);
            }
        }
        let mut needed = Self::default();
        for id in named {
            needed.mark_state(pages, id, learnt).await?;
            needed.states.insert(id);
        }
        for id in others {
            // Retention was shorter before: a state that is not whole any more cannot be kept.
            if !learnt.was_kept(pages, id).await? {
                continue;
            }
            match needed.mark_state(pages, id, learnt).await {
                Err(RecoveryError::Missing { .. }) => {}
                marked => {
                    marked?;
                    needed.states.insert(id);
                }
            }
        }
        Ok(needed)
    }

    /// Says what is kept, and then marks what pins keep: who puts one later reads what was said. Gives the names of the
    /// pins that are over.
    async fn mark_pins(
        &mut self,
        pages: &Pages,
        epoch: u64,
        retention: &Retention,
        learnt: &mut Learnt,
    ) -> Result<Vec<String>, RecoveryError> {
        let (store, keys) = (pages.store(), pages.keys());
        let (newest, states) = (retention.newest, self.states.iter().copied().collect());
        let kept = Kept { volume: keys.0, newest, states };
        put_kept(store, keys, epoch, &kept).await?;
        let mut over = Vec::new();
        let mut pinned = BTreeSet::new();
        for pin in pins(&Home { store: store.clone(), keys }).await? {
            if pin.is_over(retention.now) {
                over.push(keys.pin(pin.id));
            } else {
                pinned.extend(self.mark_pin(pages, pin, learnt).await?);
            }
        }
        let kept = if pinned.is_subset(&self.states) {
            kept
        } else {
            let states = self.states.union(&pinned).copied().collect();
            let kept = Kept { states, ..kept };
            put_kept(store, keys, epoch, &kept).await?;
            kept
        };
        learnt.set_kept(kept, &keys.kept(epoch));
        Ok(over)
    }

    /// Marks what a pin keeps. Gives the commit whose state it keeps whole.
    async fn mark_pin(
        &mut self,
        pages: &Pages,
        pin: Pin,
        learnt: &mut Learnt,
    ) -> Result<Option<CommitId>, RecoveryError> {
        let mut whole = None;
        let mut pinned = Self::default();
        if let Some(objects) = pin.objects {
            pinned.keys.extend(objects);
        } else {
            match pinned.mark_state(pages, pin.at, learnt).await {
                // It was put too late, and whoever put it was told so.
                Err(RecoveryError::Missing { .. }) => {}
                marked => {
                    marked?;
                    whole = Some(pin.at);
                }
            }
            self.newest_image = self.newest_image.take().max(pinned.newest_image);
        }
        self.keys.extend(pinned.keys.iter().cloned());
        self.by_pins.extend(pinned.keys);
        Ok(whole)
    }

    /// Objects of other volumes: those that are needed and are not at this one's place, and those that its forks need.
    fn borrowed(&self, pages: &Pages) -> BTreeSet<String> {
        let keys = pages.keys();
        let needed = self.keys.iter().filter(|key| pages.lineage().is_borrowed(key));
        needed.chain(self.by_pins.iter().filter(|key| !keys.is_named(key))).cloned().collect()
    }

    /// Marks what the state at a commit needs, and what those need that the way to it goes back to.
    async fn mark_state(
        &mut self,
        pages: &Pages,
        id: CommitId,
        learnt: &mut Learnt,
    ) -> Result<(), RecoveryError> {
        let mut to_mark = vec![id];
        while let Some(id) = to_mark.pop() {
            to_mark.extend(self.mark_way(pages, id, learnt).await?);
        }
        Ok(())
    }

    /// Marks a commit, its image, the segments that this names as live, and the commits and segments since. Gives the
    /// commits that these go back to.
    async fn mark_way(
        &mut self,
        pages: &Pages,
        id: CommitId,
        learnt: &mut Learnt,
    ) -> Result<Vec<CommitId>, RecoveryError> {
        let lineage = pages.lineage();
        let Some(commit) = learnt.commit(lineage, id).await? else { return Ok(Vec::new()) };
        let mut rewound = Vec::new();
        let image = commit.image.clone();
        let back_to = image.as_ref().map(ImageRef::of);
        if let Some(image) = image.filter(|image| !self.images.contains(&image.key(lineage))) {
            self.keys.extend(learnt.objects_of(pages, &image).await?.iter().cloned());
            self.images.insert(image.key(lineage));
            if let ImageRef::Whole(whole) = image {
                self.newest_image = self.newest_image.take().max(Some(whole.key));
            }
        }
        let mut at = Some(id);
        while let Some(id) = at.filter(|id| Some(*id) != back_to && self.walked.insert((*id, back_to))) {
            let Some(commit) = learnt.commit(lineage, id).await? else { break };
            self.keys.insert(lineage.of_epoch(id.epoch).keys.commit(id));
            self.keys.extend(commit.segments.iter().cloned());
            rewound.extend(&commit.rewound);
            at = commit.previous;
        }
        Ok(rewound)
    }
}
