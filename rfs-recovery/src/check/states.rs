//! One state: its log, its pages, its segments, its tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::Arc;

use rfs_backends::is_compressed;
use rfs_core::{
    CommitId, Extent, Ino, Item, Key, Map, PageObject, PageRef, SegmentId, StateHash, Tree, Value,
};

use super::paths::{paths_of, tell_page};
use super::report::{CheckedState, Found, Problem, told};
use super::segments::{Condition, Run};
use super::{Checker, Entry, StateName};
use crate::commit_log::read_commit;
use crate::image::{ImageBase, read_head};
use crate::objects::{ImageRef, StoredSegment};
use crate::state::{State, from_image, load};
use crate::{RecoveryError, page};

/// How many missing pages are looked for at once.
const AT_ONCE: usize = 4096;

impl Checker<'_> {
    pub(super) async fn load(&self, id: CommitId) -> Result<State, RecoveryError> {
        let fetched = read_commit(&self.survey.lineage, id).await?;
        let ids: Vec<CommitId> = self.survey.log.keys().copied().collect();
        load(&self.pages, &ids, fetched).await
    }

    /// Checks a state. What is wrong with it is among the findings.
    pub(super) async fn check_state(&mut self, name: &StateName, id: CommitId) -> Result<(), RecoveryError> {
        let text = name.text();
        let key = self.survey.key(id);
        let before = self.findings.count();
        self.check_way(id, &text);
        let loaded = match self.load(id).await {
            Ok(state) => Some(state),
            // Without the superblock nobody knows when the volume was made, and a tree without an image depends on it.
            Err(RecoveryError::NoVolume { .. } | RecoveryError::Diverged { .. })
                if self.survey.superblock.is_err() =>
            {
                None
            }
            Err(error) => {
                let way_is_whole = self.findings.count() == before && !self.findings.concern(&text);
                let (key, problem, what) = told(error, &key)?;
                // What the walk has told already is not told again in other words.
                if way_is_whole || problem != Problem::Missing {
                    self.findings.add(&key, problem, &what, Some(&text));
                }
                None
            }
        };
        let replayed = loaded.is_some();
        // What cannot be replayed still needs its image.
        let state = match loaded {
            Some(state) => state,
            None => match self.image_of(id).await? {
                Some(state) => state,
                None => {
                    self.blind = true;
                    self.note(name, id, None, false, &text);
                    return Ok(());
                }
            },
        };
        let image = state.image.clone();
        // Where the history went back the base is that of another image.
        let base = if self.rewound.is_empty() { None } else { self.image_of(id).await? };
        let base = base.map_or_else(|| state.base.clone(), |image| image.base);
        if let Some(base) = base.tree() {
            self.check_pages(base, &text).await?;
        }
        self.check_pages(&state.tree, &text).await?;
        self.check_counts(&base, image.as_ref(), &text).await?;
        let whole = state.tree.whole().is_ok();
        if whole {
            let image_key =
                image.as_ref().map_or_else(|| key.clone(), |image| image.key(&self.survey.lineage));
            self.check_tree(&state, &image_key, &text);
        }
        if self.options.deep {
            self.check_repeated_roots(image.as_ref(), &text).await?;
        }
        let opens = replayed && !self.findings.concern(&text);
        let conditions = self.check_segments(&state, &text).await?;
        if whole {
            self.check_extents(&state.tree, &conditions, &key, &text).await?;
        }
        self.note(name, id, Some(&state).filter(|_| replayed), opens, &text);
        Ok(())
    }

    /// The state of the image that a commit names, if it can be read.
    async fn image_of(&self, id: CommitId) -> Result<Option<State>, RecoveryError> {
        let image = self.survey.commit(id).and_then(|commit| commit.commit.image.clone());
        let Some(image) = image else { return Ok(None) };
        match from_image(&self.pages, image).await {
            Ok(state) => Ok(Some(state)),
            Err(error) => told(error, "").map(|_| None),
        }
    }

    fn note(&mut self, name: &StateName, commit: CommitId, state: Option<&State>, opens: bool, text: &str) {
        let usage = state.map(|state| state.tree.usage()).unwrap_or_default();
        self.states.push(CheckedState {
            name: name.text(),
            checkpoint: name.checkpoint.clone(),
            commit,
            position: state.map(|state| state.lsn).unwrap_or_default(),
            inodes: usage.inodes,
            bytes: usage.bytes,
            opens,
            sound: state.is_some() && !self.findings.concern(text),
        });
    }

    /// The commits from the image on, and that their segments are there.
    fn check_way(&mut self, id: CommitId, text: &str) {
        let back_to =
            self.survey.commit(id).and_then(|commit| commit.commit.image.as_ref()).map(ImageRef::of);
        let mut at = Some(id);
        while let Some(id) = at.filter(|id| Some(*id) != back_to) {
            let key = self.survey.key(id);
            self.needed.insert(key.clone());
            let commit = match self.survey.log.get(&id) {
                Some(Entry::Commit(commit)) => commit,
                Some(Entry::Unreadable(error)) => return self.tell_unreadable(&key, error, Some(text)),
                // Those that a fork borrows are told of when they are read.
                None if !self.survey.keys.is_named(&key) => return,
                Some(Entry::Fence(_)) | None => {
                    self.findings.add(&key, Problem::Missing, "it is not there", Some(text));
                    return;
                }
            };
            self.rewound.extend(&commit.commit.rewound);
            for added in &commit.commit.segments {
                let Some(key) = &added.key else { continue };
                self.needed.insert(key.clone());
                match self.survey.objects.get(key) {
                    None if self.survey.keys.is_named(key) => {
                        self.findings.add(key, Problem::Missing, "it is not there", Some(text));
                    }
                    Some(size) if *size != added.len && !is_compressed(key) => {
                        let what = format!("it has {size} bytes where {} were written", added.len);
                        self.findings.add(key, Problem::Damaged, &what, Some(text));
                    }
                    _ => {}
                }
            }
            // No commit is before itself, whatever it says.
            at = commit.commit.previous.map(|previous| previous.id).filter(|previous| *previous < id);
        }
    }

    /// Fetches every page of a tree that can be.
    async fn check_pages(&mut self, tree: &Tree, text: &str) -> Result<(), RecoveryError> {
        let mut bad: BTreeSet<PageRef> = BTreeSet::new();
        loop {
            let missing = tree.missing_pages(bad.len() + AT_ONCE);
            let missing: Vec<_> =
                missing.into_iter().filter(|missing| !bad.contains(&missing.page())).collect();
            if missing.is_empty() {
                return Ok(());
            }
            for missing in missing {
                let Err(error) = self.pages.load(&missing).await else { continue };
                bad.insert(missing.page());
                let (key, problem, what) = told(error, "")?;
                let known = self.findings.count();
                let found = self.findings.add(&key, problem, &what, Some(text));
                // Of other states the same.
                if self.findings.count() > known {
                    tell_page(&self.pages, tree, &missing, found, &mut self.findings).await?;
                }
            }
        }
    }

    /// The invariants, and the state hash.
    fn check_tree(&mut self, state: &State, image_key: &str, text: &str) {
        if let Err(violations) = state.tree.check() {
            for violation in violations {
                self.findings.add(image_key, Problem::Unsound, &violation.to_string(), Some(text));
            }
        }
        if StateHash::of(&state.tree) != Ok(state.state) {
            let what = "its tree does not have the state hash of its commit";
            self.findings.add(image_key, Problem::Unsound, what, Some(text));
        }
    }

    /// What an image counts of the objects that its pages are in, and that these are there.
    async fn check_counts(
        &mut self,
        base: &ImageBase,
        image: Option<&ImageRef>,
        text: &str,
    ) -> Result<(), RecoveryError> {
        let Some(image) = image else { return Ok(()) };
        let image_key = image.key(&self.survey.lineage);
        self.needed.insert(image_key.clone());
        let ImageRef::Paged(paged) = image else { return Ok(()) };
        let counted = self.pairs(base.objects(), text).await?;
        self.pairs(base.segments(), text).await?;
        let Ok((in_use, its_own)) = self.pages_of(base).await? else { return Ok(()) };
        self.needed.extend(its_own.iter().map(|object| self.survey.lineage.page_key(*object)));
        for (object, (bytes, end)) in &in_use {
            let key = self.survey.lineage.page_key(*object);
            if let Some(size) = self.survey.objects.get(&key)
                && size < end
            {
                let what = format!("it has {size} bytes, and a page in it ends at {end}");
                self.findings.add(&key, Problem::Damaged, &what, Some(text));
            }
            self.needed.insert(key);
            if counted.get(object) != Some(bytes) {
                let says = counted.get(object).copied().unwrap_or_default();
                let what = format!("it counts {says} bytes in use of object {object}, and {bytes} are");
                self.findings.add(&image_key, Problem::Unsound, &what, Some(text));
            }
        }
        for object in counted.keys().filter(|object| !in_use.contains_key(*object)) {
            let what = format!("it counts bytes in use of object {object}, and none are");
            self.findings.add(&image_key, Problem::Unsound, &what, Some(text));
        }
        let head_end = u64::from(paged.head.offset) + u64::from(paged.head.len);
        if self.survey.objects.get(&image_key).is_some_and(|size| *size != head_end) {
            let what = format!("it does not end at {head_end}, where its head does");
            self.findings.add(&image_key, Problem::Damaged, &what, Some(text));
        }
        Ok(())
    }

    /// How many bytes of each object an image's pages take, and where the last one ends; and the objects of the pages
    /// that count that. The inner error is that a page cannot be read, which is told elsewhere.
    async fn pages_of(
        &self,
        base: &ImageBase,
    ) -> Result<Result<(BTreeMap<PageObject, (u64, u64)>, BTreeSet<PageObject>), ()>, RecoveryError> {
        let pages = self.pages.ask(|| {
            let mut in_use: BTreeMap<PageObject, (u64, u64)> = BTreeMap::new();
            let mut each = |page: PageRef| {
                let (bytes, end) = in_use.entry(page.object).or_default();
                *bytes += u64::from(page.len);
                *end = (*end).max(u64::from(page.offset) + u64::from(page.len));
            };
            if let Some(tree) = base.tree() {
                tree.pages_but(&|_| false, &mut each)?;
            }
            base.segments().pages_but(&|_| false, &mut each)?;
            let mut its_own = BTreeSet::new();
            base.objects().pages_but(&|_| false, &mut |page| {
                its_own.insert(page.object);
            })?;
            Ok((in_use, its_own))
        });
        match pages.await {
            Ok(pages) => Ok(Ok(pages)),
            Err(error) => told(error, "").map(|_| Err(())),
        }
    }

    /// The pairs of a map, as far as its pages can be read.
    async fn pairs<K: Key, V: Value>(
        &mut self,
        map: &Map<K, V>,
        text: &str,
    ) -> Result<BTreeMap<K, V>, RecoveryError> {
        let mut pairs = BTreeMap::new();
        let mut from: Bound<K> = Bound::Unbounded;
        loop {
            let mut missing = None;
            for pair in map.range((from.clone(), Bound::Unbounded)) {
                match pair {
                    Ok((key, value)) => {
                        pairs.insert(key.clone(), value.clone());
                        from = Bound::Excluded(key.clone());
                    }
                    Err(page) => missing = Some(page),
                }
            }
            let Some(missing) = missing else { return Ok(pairs) };
            let Err(error) = self.pages.load(&missing).await else { continue };
            self.findings.error(error, "", Some(text))?;
            match missing.bounds::<K, V>() {
                Some((_, Some(high))) => from = Bound::Included(high.clone()),
                _ => return Ok(pairs),
            }
        }
    }

    /// The segments that hold content of the state, and those that are kept for its history alone.
    async fn check_segments(
        &mut self,
        state: &State,
        text: &str,
    ) -> Result<BTreeMap<SegmentId, (Arc<Condition>, Found)>, RecoveryError> {
        let live = self.pairs(state.tree.segments(), text).await?;
        let stored: BTreeMap<SegmentId, StoredSegment> = self.pairs(&state.segments, text).await?;
        let mut conditions = BTreeMap::new();
        for id in live.keys() {
            let Some(stored) = stored.get(id) else {
                let key = self.survey.keys.segments();
                let what = format!("nothing says where segment {id} is");
                self.findings.add(&key, Problem::Unsound, &what, Some(text));
                continue;
            };
            self.needed.insert(stored.key.clone());
            let size = self.survey.objects.get(&stored.key).copied();
            let condition = self.segments.condition(stored, size).await?;
            let found = condition.tell(&mut self.findings, Some(text));
            conditions.insert(*id, (condition, found));
        }
        for (_, stored) in stored.iter().filter(|(id, _)| !live.contains_key(*id)) {
            let Some(size) = self.survey.objects.get(&stored.key).copied() else { continue };
            self.for_history.insert(stored.key.clone());
            if self.options.deep {
                let condition = self.segments.condition(stored, Some(size)).await?;
                condition.tell(&mut self.findings, None);
            }
        }
        Ok(conditions)
    }

    /// That every extent is in a frame; and which files have content in segments that cannot be read.
    async fn check_extents(
        &mut self,
        tree: &Tree,
        conditions: &BTreeMap<SegmentId, (Arc<Condition>, Found)>,
        commit_key: &str,
        text: &str,
    ) -> Result<(), RecoveryError> {
        let mut suffering: BTreeMap<(Found, Ino), Vec<Range<u64>>> = BTreeMap::new();
        let Ok(items) = tree.items() else { return Ok(()) };
        for item in items {
            let Item::Extent { ino, offset, extent: Extent { place, len } } = item else { continue };
            let Some((condition, found)) = conditions.get(&place.segment) else { continue };
            match condition.run(place.position, len) {
                Run::Readable => {}
                Run::Nowhere => {
                    let segment = place.segment;
                    let what =
                        format!("inode {ino} has bytes at {offset} where segment {segment} has no payload");
                    self.findings.add(commit_key, Problem::Unsound, &what, Some(text));
                }
                Run::Lost(lost) => {
                    let in_file = |range: Range<u64>| {
                        range.start - place.position + offset..range.end - place.position + offset
                    };
                    suffering.entry((*found, ino)).or_default().extend(lost.into_iter().map(in_file));
                }
            }
        }
        for ((found, ino), ranges) in suffering {
            let ranges = joined(ranges);
            for path in paths_of(&self.pages, tree, ino, self.options.paths + 1).await {
                self.findings.suffers(found, path, ranges.clone());
            }
        }
        Ok(())
    }

    /// The pages of roots that the head of an image repeats, where they were stored first.
    async fn check_repeated_roots(
        &mut self,
        image: Option<&ImageRef>,
        text: &str,
    ) -> Result<(), RecoveryError> {
        let Some(ImageRef::Paged(paged)) = image else { return Ok(()) };
        let head = match read_head(&self.pages, paged).await {
            Ok((head, _)) => head,
            Err(error) => return self.findings.error(error, "", Some(text)).map(drop),
        };
        for (root, _) in &head.roots {
            let key = self.survey.lineage.page_key(root.object);
            let range = u64::from(root.offset)..u64::from(root.offset) + u64::from(root.len);
            let store = self.survey.lineage.of_epoch(root.object.epoch).store;
            let stored = store.get_range(&key, range).await;
            let stored = stored.map_err(|error| crate::objects::missing(&store, &key, error));
            let wrong = match stored {
                Ok(bytes) if page::page_hash(&bytes) == root.hash => continue,
                Ok(_) => self.pages.damaged(root, "does not have its checksum"),
                Err(error) => error,
            };
            self.findings.error(wrong, &key, Some(text))?;
        }
        Ok(())
    }
}

/// Ranges in order, those that touch as one.
pub(crate) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
