//! What is to be done about what a check has found.

use std::collections::{BTreeMap, BTreeSet};

use rfs_core::{Change, Checkpoint, CommitId, Extent, Ino, Item};

use super::journal::{Journal, Piece, Spot};
use super::rebuild::{From, Images, Rebuilt, Target, rebuild, target_at, target_of};
use super::{Mended, RepairOptions, Repairer};
use crate::check::{CheckReport, CheckedState, Entry, LoggedCommit, Run, Segments, Survey};
use crate::objects::{ImageRef, StoredSegment};
use crate::{Pages, RecoveryError, SUPERBLOCK};

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pages: Pages,
    pub(super) journal: Journal,
    pub(super) images: Images,
    pub(super) superblock: bool,
    /// The newest commit of the history that can be read, and its state with what follows it in the journal.
    pub(super) head: Option<Head>,
    /// Segments that are put back where they stood, by object.
    pub(super) restore: BTreeMap<String, Vec<StoredSegment>>,
    /// Segments that stand in what is moved aside, and are needed.
    pub(super) relocate: BTreeMap<Spot, StoredSegment>,
    /// Checkpoints that get a commit and an image of their own.
    pub(super) checkpoints: Vec<(String, Checkpoint, Target)>,
    /// What the new commit says beside.
    pub(super) changes: Vec<Change>,
    /// What is moved aside.
    pub(super) aside: Vec<CommitId>,
    /// Fences that are missing.
    pub(super) fences: Vec<CommitId>,
    pub(super) done: Vec<Mended>,
    pub(super) lost: Vec<String>,
}

/// The head, as it will be.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) commit: Option<LoggedCommit>,
    /// The state at that commit.
    pub(super) at_commit: Rebuilt,
    /// The state with the tail.
    pub(super) state: Rebuilt,
    /// What follows it in the journal.
    pub(super) tail: Vec<Piece>,
    /// The commits that the tail goes back to.
    pub(super) rewound: Vec<CommitId>,
    /// It needs another image.
    pub(super) image: bool,
}

impl Plan {
    pub(super) async fn make(
        survey: &Survey,
        checked: &CheckReport,
        by: Repairer,
        options: RepairOptions,
    ) -> Result<Self, RecoveryError> {
        let pages = Pages::new(survey.lineage.clone(), by.pages_bytes);
        let images = Images::find(survey, &pages).await?;
        let journal = Journal::gather(survey, &images.kept(&pages).await?).await?;
        let mut plan = Self {
            pages,
            journal,
            images,
            superblock: survey.superblock.is_err(),
            head: None,
            restore: BTreeMap::new(),
            relocate: BTreeMap::new(),
            checkpoints: Vec::new(),
            changes: Vec::new(),
            aside: Vec::new(),
            fences: survey.open_ends(),
            done: Vec::new(),
            lost: Vec::new(),
        };
        plan.plan_restoring();
        plan.plan_head(survey, checked).await?;
        plan.plan_aside(survey);
        plan.plan_checkpoints(survey, checked, options).await?;
        plan.plan_relocation(survey);
        if options.drop_lost {
            plan.plan_dropping(survey, by).await?;
        }
        plan.tell(survey);
        Ok(plan)
    }

    fn plan_restoring(&mut self) {
        for piece in self.journal.pieces().iter().filter(|piece| piece.restorable) {
            self.restore.entry(piece.stored.key.clone()).or_default().push(piece.stored.clone());
        }
    }

    /// The newest commit whose state can be had; before the first one a volume is empty.
    async fn plan_head(&mut self, survey: &Survey, checked: &CheckReport) -> Result<(), RecoveryError> {
        for commit in survey.commits().filter(|commit| survey.is_history(commit.commit.id)) {
            let id = commit.commit.id;
            match rebuild(survey, &self.pages, &self.journal, &self.images, target_of(commit)).await? {
                Ok(state) => {
                    let is_it = |state: &&CheckedState| state.checkpoint.is_none() && state.commit == id;
                    let opens = checked.states.iter().find(is_it).is_some_and(|state| state.opens);
                    return self.set_head(survey, Some(commit.clone()), state, !opens).await;
                }
                Err(error) => {
                    self.lost.push(format!("the state of commit {id}: {error}"));
                    // What it says is gone with it, also what it was called.
                    let before = commit.commit.previous.map(|before| before.id);
                    if let Some(before) = before.filter(|before| survey.commit(*before).is_none()) {
                        self.lost.push(format!("commit {before}: it is not there, or damaged"));
                    }
                }
            }
        }
        if survey.commits().next().is_some() || survey.lineage.begins_at().is_some() {
            return Ok(());
        }
        let empty = Rebuilt::empty(survey, &self.pages).await?;
        self.set_head(survey, None, empty, false).await?;
        let first = survey.lineage.first_slot();
        let is_commit =
            |(id, entry): (&CommitId, &Entry)| *id > first && matches!(entry, Entry::Unreadable(_));
        if self.head.as_ref().is_some_and(|head| head.tail.is_empty()) && survey.log.iter().any(is_commit) {
            self.lost.push("every commit: none can be read, and none holds journal that can be".to_owned());
            self.head = None;
        }
        Ok(())
    }

    async fn set_head(
        &mut self,
        survey: &Survey,
        commit: Option<LoggedCommit>,
        at_commit: Rebuilt,
        image: bool,
    ) -> Result<(), RecoveryError> {
        let unreadable = unreadable_after(survey, commit.as_ref().map(|commit| commit.commit.id));
        let from = (at_commit.target.lsn, at_commit.target.chain);
        let tail: Vec<Piece> = self.journal.tail(from, &unreadable).into_iter().cloned().collect();
        for id in unreadable.iter().filter(|id| tail.iter().all(|piece| piece.in_unreadable != Some(**id))) {
            let end = tail.last().map_or(from.0, |piece| piece.end);
            let what =
                "it is not there, or cannot be read; if it was no end of an epoch, what it held is lost";
            self.lost.push(format!("commit {id}: {what}, and the history ends at position {}", end.0));
        }
        let mut state = at_commit.clone();
        let from = From { survey, pages: &self.pages, journal: &self.journal, images: &self.images };
        let rewound = state.go_on(&from, &tail.iter().collect::<Vec<_>>()).await?;
        self.head = Some(Head { commit, at_commit, state, tail, rewound, image });
        Ok(())
    }

    /// What cannot be read, and what follows the head.
    fn plan_aside(&mut self, survey: &Survey) {
        // Where nothing can be rebuilt nothing is moved: whoever has copies can still put them in place.
        let Some(head) = &self.head else { return self.fences.clear() };
        let head = head.commit.as_ref().map(|commit| commit.commit.id);
        for (id, entry) in survey.log.range(survey.lineage.first_slot()..) {
            let follows = Some(*id) > head && survey.is_history(*id);
            match entry {
                Entry::Unreadable(RecoveryError::UnknownFormat { .. }) | Entry::Fence(_) => {}
                Entry::Unreadable(_) => self.aside.push(*id),
                Entry::Commit(_) if follows => self.aside.push(*id),
                Entry::Commit(_) => {}
            }
        }
    }

    async fn plan_checkpoints(
        &mut self,
        survey: &Survey,
        checked: &CheckReport,
        options: RepairOptions,
    ) -> Result<(), RecoveryError> {
        let Some(head) = &self.head else { return Ok(()) };
        let moving: BTreeSet<String> = self.aside.iter().map(|id| survey.key(*id)).collect();
        let named: Vec<(String, Checkpoint)> =
            head.state.tree.checkpoints().iter().map(|(name, at)| (name.clone(), *at)).collect();
        for (name, checkpoint) in named {
            let id = checkpoint.commit;
            let known = checked
                .states
                .iter()
                .find(|state| state.checkpoint.as_ref() == Some(&name) && state.commit == id && state.opens);
            if known.is_some() && moving.is_empty() {
                continue;
            }
            let rebuilt = match target_at(survey, &self.journal, id) {
                Some(target) => rebuild(survey, &self.pages, &self.journal, &self.images, target).await?,
                None => Err("nothing tells where in the history it was".to_owned()),
            };
            match rebuilt {
                Ok(state) => {
                    let moves = state.segments.values().any(|stored| moving.contains(&stored.key));
                    if known.is_none() || moves {
                        self.add_relocated(&moving, &state);
                        self.checkpoints.push((name, checkpoint, state.target));
                    }
                }
                Err(_) if known.is_some() => {}
                Err(error) => {
                    self.lost.push(format!("checkpoint {name:?} (commit {id}): {error}"));
                    if options.drop_lost {
                        self.changes.push(Change::DropCheckpoint { name });
                    }
                }
            }
        }
        Ok(())
    }

    fn plan_relocation(&mut self, survey: &Survey) {
        let moving: BTreeSet<String> = self.aside.iter().map(|id| survey.key(*id)).collect();
        let Some(head) = &mut self.head else { return };
        head.image |= head.at_commit.segments.values().any(|stored| moving.contains(&stored.key));
        let state = head.state.clone();
        self.add_relocated(&moving, &state);
    }

    fn add_relocated(&mut self, moving: &BTreeSet<String>, state: &Rebuilt) {
        for stored in state.segments.values().filter(|stored| moving.contains(&stored.key)) {
            self.relocate.insert((stored.key.clone(), stored.offset), stored.clone());
        }
    }

    /// Files of the newest state are cut before the first byte that is lost.
    async fn plan_dropping(&mut self, survey: &Survey, by: Repairer) -> Result<(), RecoveryError> {
        let Some(head) = &self.head else { return Ok(()) };
        let mut segments = Segments::new(survey.lineage.clone(), true);
        let mut first_lost: BTreeMap<Ino, u64> = BTreeMap::new();
        let items = head.state.tree.items().map_err(|missing| RecoveryError::Diverged {
            store: survey.lineage.store().url().to_owned(),
            commit: head.state.target.commit,
            what: missing.to_string(),
        })?;
        for item in items {
            let Item::Extent { ino, offset, extent: Extent { place, len } } = item else { continue };
            let lost = match head.state.segments.get(&place.segment) {
                None => Some(offset),
                Some(stored) if self.is_mended(stored) => None,
                Some(stored) => {
                    let size = survey.objects.get(&stored.key).copied();
                    match segments.condition(stored, size).await?.run(place.position, len) {
                        Run::Readable => None,
                        Run::Nowhere => Some(offset),
                        Run::Lost(lost) => lost.first().map(|range| offset + (range.start - place.position)),
                    }
                }
            };
            if let Some(lost) = lost {
                let first = first_lost.entry(ino).or_insert(lost);
                *first = (*first).min(lost);
            }
        }
        for (ino, size) in first_lost {
            self.changes.push(Change::Truncate { ino, size, time: by.time });
            let path = crate::check::path_of(&self.pages, &head.state.tree, ino).await;
            self.lost.push(format!("the content of {} from byte {size} on: it is cut there", path.display()));
        }
        Ok(())
    }

    fn is_mended(&self, stored: &StoredSegment) -> bool {
        let spot = (stored.key.clone(), stored.offset);
        let restored = self.restore.get(&stored.key);
        self.relocate.contains_key(&spot)
            || restored.is_some_and(|restored| restored.iter().any(|other| other.offset == stored.offset))
    }

    /// In words.
    fn tell(&mut self, survey: &Survey) {
        let mut told = Vec::new();
        let mut tell = |key: String, what: &str| told.push(Mended { key, what: what.to_owned() });
        if self.superblock {
            tell(SUPERBLOCK.to_owned(), "written anew, from the names of the objects and the first fence");
        }
        for fence in &self.fences {
            tell(survey.key(*fence), "the end of the epoch is written anew");
        }
        for key in self.restore.keys() {
            tell(key.clone(), "put together as it was written, and put back");
        }
        for (key, _) in self.relocate.keys() {
            tell(key.clone(), "the segment in it is stored as an object of its own");
        }
        for (name, checkpoint, _) in &self.checkpoints {
            let image = image_key(survey, checkpoint.commit);
            let what =
                format!("checkpoint {name:?} is rebuilt, and has a commit and an image of its own now");
            tell(image, &what);
        }
        if let Some(head) = self.head.as_ref().filter(|head| head.image) {
            let id = head.at_commit.target.commit;
            let image = head.commit.as_ref().and_then(|commit| commit.commit.image.as_ref());
            let key = image.map_or_else(|| survey.key(id), |image| image.key(&survey.lineage));
            tell(key, &format!("the state of commit {id} is rebuilt, and has a new image"));
        }
        if let Some(head) = self.head.as_ref().filter(|head| !head.tail.is_empty()) {
            let end = head.state.target.lsn.0;
            for piece in &head.tail {
                tell(
                    piece.stored.key.clone(),
                    &format!("the Changes in it, up to position {end}, are part of the history again"),
                );
            }
        }
        for id in &self.aside {
            let key = survey.key(*id);
            let aside = survey.keys.aside(&key);
            tell(key, &format!("moved to {aside}"));
        }
        for change in &self.changes {
            match change {
                Change::DropCheckpoint { name } => {
                    tell(survey.keys.commits(), &format!("the name of checkpoint {name:?} is dropped"));
                }
                Change::Truncate { ino, size, .. } => {
                    tell(survey.keys.segments(), &format!("inode {ino} is cut to {size} bytes"));
                }
                _ => {}
            }
        }
        self.done = told;
    }
}

/// The image of a commit, or the commit.
fn image_key(survey: &Survey, id: CommitId) -> String {
    let image = survey.commit(id).and_then(|commit| commit.commit.image.as_ref());
    image.map_or_else(|| survey.key(id), |image: &ImageRef| image.key(&survey.lineage))
}

/// Commits behind the head that there were and that cannot be read.
fn unreadable_after(survey: &Survey, head: Option<CommitId>) -> Vec<CommitId> {
    let mut unreadable: Vec<CommitId> = survey
        .log
        .iter()
        .filter(|(id, entry)| Some(**id) > head && matches!(entry, Entry::Unreadable(_)))
        .map(|(id, _)| *id)
        .collect();
    for entry in survey.log.values() {
        if let Entry::Fence(fence) = entry
            && let Some(named) = fence.head
            && Some(named.id) > head
            && survey.commit(named.id).is_none()
        {
            unreadable.push(named.id);
        }
    }
    unreadable
}
