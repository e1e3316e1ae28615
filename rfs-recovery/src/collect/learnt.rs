//! What collections know of commits and images without asking the store again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use rfs_core::{CommitId, PageObject, SegmentId};

use super::REQUESTS;
use crate::image::{read_head, read_image_segments};
use crate::objects::{CommitObject, CommitRef, FetchedCommit, ImageRef, PagedImage, fetch_commit};
use crate::pins::{Kept, read_kept};
use crate::{Home, Lineage, ObjectHash, Pages, RecoveryError};

/// How fast collections go: it is waited for before each object that is deleted, and each commit or image that is read.
#[derive(Clone, Default)]
pub struct Pace(Option<Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>>);

impl Pace {
    /// Waits as this says.
    #[must_use]
    pub fn new(wait: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wait)))
    }

    pub(super) async fn wait(&self) {
        if let Some(wait) = &self.0 {
            wait().await;
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pace").field(&self.0.is_some()).finish()
    }
}

/// What collections have learnt of commits and images, which never change: as much as is retained.
#[derive(Debug, Default)]
pub struct Learnt {
    /// None where a fence stands.
    commits: BTreeMap<CommitId, Option<LearntCommit>>,
    /// By the name of an image's object, the objects that it needs.
    images: BTreeMap<String, Vec<String>>,
    /// How many these are.
    objects: usize,
    /// What the newest collection keeps.
    kept: KeptBefore,
    /// The names of the objects in which collections of epochs before said what they keep.
    said_before: Vec<String>,
    pace: Pace,
}

/// What the newest collection is known to keep.
#[derive(Debug, Default)]
enum KeptBefore {
    #[default]
    NotAsked,
    /// There was no collection.
    All,
    These(Kept),
}

/// Beyond these all is forgotten, and asked for again.
const COMMITS_MAX: usize = 1 << 16;
const OBJECTS_MAX: usize = 1 << 18;

/// Of a commit, what a collection goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearntCommit {
    /// The hash of its object.
    pub hash: ObjectHash,
    /// The one that it extends.
    pub previous: Option<CommitId>,
    /// The image that it names.
    pub image: Option<ImageRef>,
    /// The names of the objects that hold the segments that it adds.
    pub segments: Vec<String>,
    /// The commits that these go back to.
    pub rewound: Vec<CommitId>,
    /// When it was made, in Unix milliseconds.
    pub time_ms: i64,
}

impl Learnt {
    /// Nothing; collections go at this pace.
    #[must_use]
    pub fn paced(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    /// The commit, if it is known: the store is not asked.
    #[must_use]
    pub fn reference(&self, id: CommitId) -> Option<CommitRef> {
        let hash = self.commits.get(&id)?.as_ref()?.hash;
        Some(CommitRef { id, hash })
    }

    pub(super) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Adds a commit that the caller has published.
    pub fn add(&mut self, id: CommitId, commit: LearntCommit) {
        if self.commits.len() >= COMMITS_MAX {
            self.commits.clear();
        }
        self.commits.insert(id, Some(commit));
    }

    /// Looks up those that are not known yet, several at a time. What cannot be read is for whoever needs it.
    pub(super) async fn look_up(&mut self, lineage: &Lineage, ids: &[CommitId]) {
        let unknown = ids.iter().filter(|id| !self.commits.contains_key(id)).copied();
        let unknown: Vec<CommitId> = unknown.collect();
        let pace = &self.pace;
        let fetch = |id| async move {
            pace.wait().await;
            (id, fetch_commit(lineage, id).await)
        };
        let fetched = stream::iter(unknown.into_iter().map(fetch)).buffer_unordered(REQUESTS);
        let fetched: Vec<_> = fetched.collect().await;
        let readable = fetched.into_iter().filter_map(|(id, object)| Some((id, learn(object.ok()?))));
        self.commits.extend(readable);
    }

    /// A commit; none where a fence stands.
    pub(super) async fn commit(
        &mut self,
        lineage: &Lineage,
        id: CommitId,
    ) -> Result<Option<&LearntCommit>, RecoveryError> {
        let commit = match self.commits.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                self.pace.wait().await;
                unknown.insert(learn(fetch_commit(lineage, id).await?))
            }
        };
        Ok(commit.as_ref())
    }

    /// Whether the newest collection kept the state of a commit of this volume.
    pub(super) async fn was_kept(&mut self, pages: &Pages, id: CommitId) -> Result<bool, RecoveryError> {
        if let KeptBefore::NotAsked = self.kept {
            self.pace.wait().await;
            let home = Home { store: pages.store().clone(), keys: pages.keys() };
            let found = read_kept(&home).await?;
            self.kept = found.kept.map_or(KeptBefore::All, KeptBefore::These);
            self.said_before = found.keys;
        }
        Ok(match &self.kept {
            KeptBefore::These(kept) => kept.keeps(id),
            KeptBefore::NotAsked | KeptBefore::All => true,
        })
    }

    /// Notes what a collection keeps, and has said in the object `key`.
    pub(super) fn set_kept(&mut self, kept: Kept, key: &str) {
        self.kept = KeptBefore::These(kept);
        self.said_before.retain(|before| before.as_str() < key);
    }

    /// The names of the objects in which it was said before what is kept: nobody goes by them once it was said again.
    pub(super) fn take_said_before(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said_before)
    }

    /// The objects that an image's state needs: those of the segments with content of it, and those of its pages.
    pub(super) async fn objects_of(
        &mut self,
        pages: &Pages,
        image: &ImageRef,
    ) -> Result<&[String], RecoveryError> {
        if self.objects > OBJECTS_MAX {
            self.images.clear();
            self.objects = 0;
        }
        match self.images.entry(image.key(pages.lineage())) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                self.pace.wait().await;
                let objects: BTreeSet<String> = match image {
                    ImageRef::Whole(whole) => {
                        let segments = read_image_segments(pages.lineage(), whole).await?;
                        let live = segments.into_iter().filter(|kept| kept.live);
                        live.map(|kept| kept.stored.key).chain([whole.key.clone()]).collect()
                    }
                    ImageRef::Paged(paged) => objects_of_pages(pages, paged).await?,
                };
                self.objects += objects.len();
                Ok(unknown.insert(objects.into_iter().collect()))
            }
        }
    }

    /// Forgets what the collection that marked these objects did not need, but for fences: they stay in the store.
    /// So do commits after the newest one that it knew.
    pub(super) fn forget_all_but(&mut self, lineage: &Lineage, needed: &BTreeSet<String>, newest: CommitId) {
        let is_needed = |id: &CommitId| needed.contains(&lineage.of_epoch(id.epoch).keys.commit(*id));
        self.commits.retain(|id, commit| commit.is_none() || *id > newest || is_needed(id));
        self.images.retain(|key, _| needed.contains(key));
        self.objects = self.images.values().map(Vec::len).sum();
    }
}

async fn objects_of_pages(pages: &Pages, image: &PagedImage) -> Result<BTreeSet<String>, RecoveryError> {
    let (_, base) = read_head(pages, image).await?;
    let Some(tree) = base.tree() else { return Ok(BTreeSet::new()) };
    let counted = || base.objects().iter().map(|pair| pair.map(|(object, _)| *object)).collect();
    let mut objects: BTreeSet<PageObject> = pages.ask(counted).await?;
    objects.insert(image.head.object);
    // It counts all pages but its own.
    let mut its_own = BTreeSet::new();
    let visit = || {
        base.objects().pages_but(&|_| false, &mut |page| {
            its_own.insert(page.object);
        })
    };
    pages.ask(visit).await?;
    objects.extend(its_own);
    let mut needed: BTreeSet<String> =
        objects.into_iter().map(|object| pages.lineage().page_key(object)).collect();
    let live = || tree.segments().iter().map(|pair| pair.map(|(id, _)| *id)).collect();
    let live: Vec<SegmentId> = pages.ask(live).await?;
    for id in live {
        let stored = pages.ask(|| Ok(base.segments().get(&id)?.map(|stored| stored.key.clone()))).await?;
        let missing = || pages.damaged(&image.head, &format!("does not say where segment {id} is"));
        needed.insert(stored.ok_or_else(missing)?);
    }
    Ok(needed)
}

fn learn(object: CommitObject) -> Option<LearntCommit> {
    let CommitObject::Commit(commit) = object else { return None };
    let FetchedCommit { commit, hash, .. } = *commit;
    Some(LearntCommit {
        hash,
        previous: commit.previous.map(|previous| previous.id),
        image: commit.image,
        segments: commit.segments.into_iter().filter_map(|added| added.key).collect(),
        rewound: commit.rewound,
        time_ms: commit.time.as_nanos() / 1_000_000,
    })
}
