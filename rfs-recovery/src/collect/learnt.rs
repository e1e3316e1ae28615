//! What collections know of commits and images without asking the store again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use rfs_backends::Store;
use rfs_core::CommitId;

use super::REQUESTS;
use crate::image::read_image_segments;
use crate::objects::{CommitObject, ImageRef, fetch_commit};
use crate::{Keys, RecoveryError};

/// What collections have learnt of commits and images, which never change: as much as is retained.
#[derive(Debug, Default)]
pub struct Learnt {
    /// None where a fence stands.
    commits: BTreeMap<CommitId, Option<LearntCommit>>,
    /// By an image's name, the objects of the segments that it needs.
    images: BTreeMap<String, Vec<String>>,
    /// How many these are.
    segments: usize,
}

/// Beyond these all is forgotten, and asked for again.
const COMMITS_MAX: usize = 1 << 16;
const SEGMENTS_MAX: usize = 1 << 18;

/// Of a commit, what a collection goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntCommit {
    /// The one that it extends.
    pub previous: Option<CommitId>,
    /// The image that it names.
    pub image: Option<ImageRef>,
    /// The names of the objects that hold the segments that it adds.
    pub segments: Vec<String>,
    /// When it was made, in Unix milliseconds.
    pub time_ms: i64,
}

impl Learnt {
    /// Adds a commit that the caller has published.
    pub fn add(&mut self, id: CommitId, commit: LearntCommit) {
        if self.commits.len() >= COMMITS_MAX {
            self.commits.clear();
        }
        self.commits.insert(id, Some(commit));
    }

    /// Looks up those that are not known yet, several at a time. What cannot be read is for whoever needs it.
    pub(super) async fn look_up(&mut self, store: &Store, keys: Keys, ids: &[CommitId]) {
        let unknown = ids.iter().filter(|id| !self.commits.contains_key(id)).copied();
        let unknown: Vec<CommitId> = unknown.collect();
        let fetch = |id| async move { (id, fetch_commit(store, keys, id).await) };
        let fetched = stream::iter(unknown.into_iter().map(fetch)).buffer_unordered(REQUESTS);
        let fetched: Vec<_> = fetched.collect().await;
        let readable = fetched.into_iter().filter_map(|(id, object)| Some((id, learn(object.ok()?))));
        self.commits.extend(readable);
    }

    /// A commit; none where a fence stands.
    pub(super) async fn commit(
        &mut self,
        store: &Store,
        keys: Keys,
        id: CommitId,
    ) -> Result<Option<&LearntCommit>, RecoveryError> {
        let commit = match self.commits.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(learn(fetch_commit(store, keys, id).await?)),
        };
        Ok(commit.as_ref())
    }

    /// The objects of the segments with content that an image's state needs.
    pub(super) async fn live_segments(
        &mut self,
        store: &Store,
        keys: Keys,
        image: &ImageRef,
    ) -> Result<&[String], RecoveryError> {
        if self.segments > SEGMENTS_MAX {
            self.images.clear();
            self.segments = 0;
        }
        match self.images.entry(image.key.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let segments = read_image_segments(store, keys, image).await?;
                let live = segments.into_iter().filter(|kept| kept.live).map(|kept| kept.stored.key);
                let live: BTreeSet<String> = live.collect();
                self.segments += live.len();
                Ok(unknown.insert(live.into_iter().collect()))
            }
        }
    }

    /// Forgets what the collection that marked these objects did not need, but for fences: they stay in the store.
    /// So do commits after the newest one that it knew.
    pub(super) fn forget_all_but(&mut self, keys: Keys, needed: &BTreeSet<String>, newest: CommitId) {
        self.commits
            .retain(|id, commit| commit.is_none() || *id > newest || needed.contains(&keys.commit(*id)));
        self.images.retain(|key, _| needed.contains(key));
        self.segments = self.images.values().map(Vec::len).sum();
    }
}

fn learn(object: CommitObject) -> Option<LearntCommit> {
    let CommitObject::Commit(commit) = object else { return None };
    let commit = commit.commit;
    Some(LearntCommit {
        previous: commit.previous.map(|previous| previous.id),
        image: commit.image,
        segments: commit.segments.into_iter().filter_map(|added| added.key).collect(),
        time_ms: commit.time.as_nanos() / 1_000_000,
    })
}
