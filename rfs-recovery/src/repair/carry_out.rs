//! Does what was planned, in an order in which a crash at any point leaves a volume that opens at the same head.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rfs_backends::PutNew;
use rfs_core::{Change, CommitId, Lsn, PageObject, Place, StateHash, Tree};
use rfs_journal::{Appender, ChainHash, Cut, FORMAT, LogWriter, Residency, SegmentHeader, WriterIdentity};

use super::Repairer;
use super::journal::Spot;
use super::plan::{Head, Plan};
use super::rebuild::{Rebuilt, rebuild};
use crate::check::{Entry, Survey};
use crate::commit_log::{Draft, Publisher, create_fork, list_ids, replace_superblock};
use crate::envelope::{self, ObjectKind};
use crate::image::{ImageBase, encode_image};
use crate::objects::{
    AddedSegment, Commit, CommitRef, Fence, ImageRef, StoredSegment, Superblock, encode_commit,
};
use crate::{ObjectHash, RecoveryError, SUPERBLOCK};

/// Does it, and gives the commit that makes it so; none when no state of the volume can be had at all.
pub(super) async fn carry_out(
    survey: &Survey,
    plan: Plan,
    by: Repairer,
) -> Result<Option<CommitId>, RecoveryError> {
    let work = Work { survey, by, head: plan.head.as_ref().and_then(head_of) };
    if plan.head.is_none() {
        work.restore(&plan).await?;
        work.superblock(&plan).await?;
        return Ok(None);
    }
    let mut epoch = work.take_over().await?;
    work.superblock(&plan).await?;
    work.restore(&plan).await?;
    let relocated = work.relocate(&plan, epoch).await?;
    let mut changes = Vec::new();
    if !plan.checkpoints.is_empty() {
        // Below the fence that ends this epoch: none of them is ever taken for the head.
        let end = CommitId { epoch, number: plan.checkpoints.len() as u64 };
        work.fence(end, epoch + 1).await?;
        for (number, (name, checkpoint, target)) in (0..).zip(&plan.checkpoints) {
            let rebuilt = rebuild(survey, &plan.pages, &plan.journal, &plan.images, *target).await?;
            let mut rebuilt = rebuilt.map_err(|what| work.diverged(target.commit, what))?;
            move_segments(&mut rebuilt, &relocated);
            let id = CommitId { epoch, number };
            work.checkpoint(id, name, &rebuilt).await?;
            changes.push(Change::DropCheckpoint { name: name.clone() });
            changes.push(Change::AddCheckpoint { name: name.clone(), commit: id, time: checkpoint.time });
        }
        epoch += 1;
    }
    changes.extend(plan.changes.iter().cloned());
    let Some(head) = plan.head else { return Ok(None) };
    let text: Vec<String> = plan.done.iter().map(|done| format!("{}: {}\n", done.key, done.what)).collect();
    let commit = work.commit(head, &relocated, changes, epoch, &text.concat()).await?;
    for end in &plan.fences {
        work.fence_if_absent(*end).await?;
    }
    for id in &plan.aside {
        work.move_aside(*id).await?;
    }
    Ok(Some(commit))
}

fn head_of(head: &Head) -> Option<CommitRef> {
    head.commit.as_ref().map(crate::check::LoggedCommit::reference)
}

struct Work<'a> {
    survey: &'a Survey,
    by: Repairer,
    head: Option<CommitRef>,
}

impl Work<'_> {
    /// Ends the running epoch above everything, and gives the one that is owned then. Above what cannot be read there are
    /// two fences: it may have been one, whose writer owns the epoch behind it.
    async fn take_over(&self) -> Result<u64, RecoveryError> {
        let first = self.survey.lineage.first_slot();
        let (slot, twice) = match self.survey.log.range(first..).next_back() {
            None => (first, false),
            Some((_, Entry::Fence(fence))) => (CommitId { epoch: fence.next_epoch, number: 0 }, false),
            Some((id, Entry::Commit(_))) => (CommitId { number: id.number + 1, ..*id }, false),
            Some((id, Entry::Unreadable(_))) => (CommitId { number: id.number + 1, ..*id }, true),
        };
        self.fence(slot, slot.epoch + 1).await?;
        let mut epoch = slot.epoch + 1;
        if twice {
            self.fence(CommitId { epoch, number: 0 }, epoch + 1).await?;
            epoch += 1;
        }
        // Who wrote meanwhile, or slept for long and stands above its head, is found as by any opener.
        let listed = list_ids(&self.survey.lineage).await?;
        let known = |id: &CommitId| self.survey.log.contains_key(id) || *id == slot;
        let stranger = listed.iter().find(|id| **id > slot && !known(id) && id.number > 0);
        let changed = listed.iter().any(|id| *id < slot && !self.survey.log.contains_key(id));
        match stranger {
            Some(id) => Err(RecoveryError::Fenced { by: 0, epoch: id.epoch }),
            None if changed => Err(RecoveryError::Fenced { by: 0, epoch: slot.epoch }),
            None => Ok(epoch),
        }
    }

    fn sealed_fence(&self, at: CommitId, next_epoch: u64, head: Option<CommitRef>) -> Bytes {
        let Repairer { writer, time, .. } = self.by;
        let fence = Fence { volume: self.survey.keys.0, at, writer, next_epoch, head, time };
        envelope::seal(ObjectKind::Fence, &fence).0.into()
    }

    async fn fence(&self, at: CommitId, next_epoch: u64) -> Result<(), RecoveryError> {
        let store = self.survey.lineage.store();
        let object = self.sealed_fence(at, next_epoch, self.head);
        match store.put_new(&self.survey.key(at), object).await? {
            PutNew::Created => Ok(()),
            PutNew::Exists(_) => Err(RecoveryError::Fenced { by: 0, epoch: at.epoch }),
        }
    }

    /// The newest commit below a place.
    fn head_below(&self, at: CommitId) -> Option<CommitRef> {
        let mut below = self.survey.log.range(..at).rev();
        below.find_map(|(id, entry)| match entry {
            Entry::Commit(commit) if self.survey.is_history(*id) => Some(commit.reference()),
            _ => None,
        })
    }

    async fn fence_if_absent(&self, at: CommitId) -> Result<(), RecoveryError> {
        let object = self.sealed_fence(at, at.epoch + 1, self.head_below(at));
        self.survey.lineage.store().put_new(&self.survey.key(at), object).await?;
        Ok(())
    }

    async fn superblock(&self, plan: &Plan) -> Result<(), RecoveryError> {
        if !plan.superblock {
            return Ok(());
        }
        let store = self.survey.lineage.store();
        let superblock =
            Superblock { volume: self.survey.keys.0, created: self.survey.lineage.created(), origin: None };
        match plan.journal.object(SUPERBLOCK).await? {
            Some(damaged) => {
                store.put(&self.survey.keys.aside(SUPERBLOCK), damaged).await?;
                replace_superblock(store, &superblock).await
            }
            None => create_fork(store, &superblock).await.map(drop),
        }
    }

    /// Puts segments back where they stood. Their bytes have the hash that the history names: nobody can mind.
    async fn restore(&self, plan: &Plan) -> Result<(), RecoveryError> {
        for (key, segments) in &plan.restore {
            let Some(object) = plan.journal.object(key).await? else { continue };
            let home = self.survey.lineage.of_key(key);
            let mut mended = object.to_vec();
            for stored in segments {
                let whole = plan.journal.whole(stored).await?;
                let start = stored.offset as usize;
                let end = start + whole.len();
                mended.resize(mended.len().max(end), 0);
                mended[start..end].copy_from_slice(&whole);
            }
            home.store.put(&self.survey.keys.aside(key), object).await?;
            home.store.put_large(key, vec![mended.into()]).await?;
        }
        Ok(())
    }

    /// Stores segments as objects of their own that stand in what is moved aside.
    async fn relocate(
        &self,
        plan: &Plan,
        epoch: u64,
    ) -> Result<BTreeMap<Spot, StoredSegment>, RecoveryError> {
        let mut relocated = BTreeMap::new();
        for (spot, stored) in &plan.relocate {
            // What is lost in it stays lost: as much of it as there is goes on to be read.
            let Ok(whole) = plan.journal.whole(stored).await else { continue };
            let key = self.survey.keys.segment(stored.header.id, epoch, self.by.writer);
            self.survey.lineage.store().put_large(&key, vec![whole]).await?;
            relocated.insert(spot.clone(), StoredSegment { key, offset: 0, ..stored.clone() });
        }
        Ok(relocated)
    }

    async fn image(&self, rebuilt: &Rebuilt, object: PageObject) -> Result<ImageRef, RecoveryError> {
        let of = rebuilt.image_of(self.survey)?;
        let encoded = encode_image(&of, &ImageBase::default(), object);
        let encoded = encoded.map_err(|missing| self.diverged(of.of, missing.to_string()))?;
        let store = self.survey.lineage.store();
        let most = store.max_object_bytes().min(u64::from(u32::MAX));
        if encoded.len() > most {
            let what = format!("its image would have {} bytes, more than one object can have", encoded.len());
            return Err(self.diverged(of.of, what));
        }
        store.put_large(&self.survey.keys.pages_of(object), encoded.pieces).await?;
        Ok(ImageRef::Paged(encoded.reference))
    }

    /// A commit of a state that the history had before, beside the history.
    async fn checkpoint(&self, id: CommitId, name: &str, rebuilt: &Rebuilt) -> Result<(), RecoveryError> {
        let image = self.image(rebuilt, PageObject { epoch: id.epoch, number: id.number }).await?;
        let before = self.survey.commit(rebuilt.target.commit);
        // Nobody follows it further back than to the image: of a commit that is gone the hash is not asked for.
        let hash = before.map_or(ObjectHash([0; 32]), |before| before.hash);
        let Repairer { writer, time, .. } = self.by;
        let commit = Commit {
            volume: self.survey.keys.0,
            id,
            writer,
            previous: Some(CommitRef { id: rebuilt.target.commit, hash }),
            base: rebuilt.target.lsn,
            end: rebuilt.target.lsn,
            chain: rebuilt.target.chain,
            state: rebuilt.state,
            time: before.map_or(time, |before| before.commit.time),
            segments: Vec::new(),
            image: Some(image),
            checkpoint: Some(name.to_owned()),
            metadata: before.map(|before| before.commit.metadata.clone()).unwrap_or_default(),
            rewound: Vec::new(),
        };
        let (object, ..) = encode_commit(&commit, &[]);
        match self.survey.lineage.store().put_new(&self.survey.key(id), object).await? {
            PutNew::Created => Ok(()),
            PutNew::Exists(_) => Err(RecoveryError::Fenced { by: 0, epoch: id.epoch }),
        }
    }

    /// The commit that makes it so.
    async fn commit(
        &self,
        head: Head,
        relocated: &BTreeMap<Spot, StoredSegment>,
        changes: Vec<Change>,
        epoch: u64,
        text: &str,
    ) -> Result<CommitId, RecoveryError> {
        let Head { commit, mut at_commit, state, tail, rewound, image } = head;
        let base = at_commit.target.lsn;
        let named = if image && commit.is_some() {
            move_segments(&mut at_commit, relocated);
            Some(self.image(&at_commit, PageObject { epoch, number: 0 }).await?)
        } else {
            commit.as_ref().and_then(|commit| commit.commit.image.clone())
        };
        let volume = self.survey.keys.0;
        let mut segments: Vec<(AddedSegment, SegmentHeader)> = Vec::new();
        for piece in &tail {
            let stored = &piece.stored;
            let stored = relocated.get(&(stored.key.clone(), stored.offset)).unwrap_or(stored);
            segments.push((added(stored), stored.header.with_version(FORMAT, volume)));
        }
        let mut inline = Vec::new();
        let (mut end, mut chain, mut hash) = (state.target.lsn, state.target.chain, state.state);
        if !changes.is_empty() {
            let own = self.journal_of(&state, &changes, epoch)?;
            segments.push((AddedSegment { key: None, ..own.added }, own.header));
            inline = own.bytes;
            (end, chain, hash) = (own.end, own.chain, own.state);
        }
        let mut publisher =
            Publisher::new(self.survey.lineage.clone(), self.by.writer, epoch, self.head, base);
        let mut metadata = text.as_bytes().to_vec();
        metadata.truncate(METADATA_MAX);
        publisher.prepare(Draft {
            end,
            chain,
            state: hash,
            time: self.by.time,
            segments,
            inline,
            image: named,
            checkpoint: None,
            metadata,
            rewound,
        });
        Ok(publisher.settle().await?.reference.id)
    }

    /// A segment with these Changes, which goes on after a state.
    fn journal_of(&self, state: &Rebuilt, changes: &[Change], epoch: u64) -> Result<Own, RecoveryError> {
        let (id, lsn) = (state.next_segment, state.target.lsn);
        let residency = Arc::new(Residency::default());
        let identity = WriterIdentity { volume: self.survey.keys.0, epoch, writer: self.by.writer };
        let cut = Cut { segment_bytes: u64::MAX, ..Cut::default() };
        let mut appender = Appender::new(Arc::clone(&residency), cut, id, lsn);
        let mut log = LogWriter::in_memory(identity, Arc::clone(&residency), lsn, state.target.chain);
        let mut tree: Tree = state.tree.clone();
        for change in changes {
            let place = Place { segment: id, position: 0 };
            let applied = tree.apply(change, place);
            applied.map_err(|error| self.diverged(state.target.commit, error.to_string()))?;
            appender.append(change, &[]);
        }
        let end = appender.seal().lsn;
        log.write(appender.take_work(), false)?;
        let gone = || self.diverged(state.target.commit, "its own journal cannot be read".to_owned());
        let sealed = residency.sealed(id).ok_or_else(gone)?;
        let bytes = residency.segment_bytes(id)?.ok_or_else(gone)?;
        let hash = StateHash::of(&tree);
        let added = AddedSegment {
            id,
            epoch,
            writer: self.by.writer,
            hash: sealed.hash,
            len: sealed.len,
            footer_len: sealed.footer_len,
            key: None,
        };
        let state = hash.map_err(|missing| self.diverged(state.target.commit, missing.to_string()))?;
        Ok(Own { added, header: sealed.header, bytes, end, chain: sealed.chain, state })
    }

    /// Copies an object aside. In its place stands a fence if it was the last of its epoch, which has to end; any other
    /// one is deleted.
    async fn move_aside(&self, id: CommitId) -> Result<(), RecoveryError> {
        let store = self.survey.lineage.store();
        let key = self.survey.key(id);
        match store.get(&key).await {
            Ok(object) => store.put(&self.survey.keys.aside(&key), object).await?,
            Err(error) if error.kind() == rfs_backends::StoreErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let last = CommitId { epoch: id.epoch, number: u64::MAX };
        let listed = store.list(&self.survey.keys.commits(), Some(&key)).await?;
        let mut above = listed.iter().filter_map(|object| self.survey.keys.parse_commit(&object.key));
        if above.any(|other| other > id && other <= last) {
            return Ok(store.delete(&key).await?);
        }
        Ok(store.put(&key, self.sealed_fence(id, id.epoch + 1, self.head_below(id))).await?)
    }

    fn diverged(&self, commit: CommitId, what: String) -> RecoveryError {
        RecoveryError::Diverged { store: self.survey.lineage.store().url().to_owned(), commit, what }
    }
}

/// Most bytes of what a commit says in words.
const METADATA_MAX: usize = 64 << 10;

/// A segment that a repair makes.
struct Own {
    added: AddedSegment,
    header: SegmentHeader,
    bytes: Vec<Bytes>,
    end: Lsn,
    chain: ChainHash,
    state: StateHash,
}

fn added(stored: &StoredSegment) -> AddedSegment {
    AddedSegment {
        id: stored.header.id,
        epoch: stored.header.epoch,
        writer: stored.header.writer,
        hash: stored.hash,
        len: stored.len,
        footer_len: stored.footer_len,
        key: Some(stored.key.clone()),
    }
}

fn move_segments(rebuilt: &mut Rebuilt, relocated: &BTreeMap<Spot, StoredSegment>) {
    for stored in rebuilt.segments.values_mut() {
        if let Some(moved) = relocated.get(&(stored.key.clone(), stored.offset)) {
            stored.clone_from(moved);
        }
    }
}
