//! Drills: a checkpoint is restored into a tree that is thrown away, to see that it can be.
//!
//! The tree is there twice: as its image's pages and the journal since tell it, and, as far as the journal is kept, by
//! replaying from the oldest point that there is. Both have to be the same tree, with the state hash that was committed.
//! Content is read twice as well: as files are read, and from segments of which every byte was verified against the
//! chain hash. No cache is asked.

use std::collections::HashMap;

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{CommitId, Extent, Ino, Item, Kind, Lsn, SegmentId, StateHash};
use std::sync::Arc;

use crate::check::Survey;
use crate::commit_log::{list, read_commit, read_superblock};
use crate::objects::StoredSegment;
use crate::repair::journal::Journal;
use crate::repair::rebuild::{Images, Target, rebuild_from_oldest};
use crate::state::load;
use crate::{Content, Lineage, Pages, RecoveryError, envelope};

/// What was restored, and is what was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drilled {
    /// The volume.
    pub volume: u128,
    /// The checkpoint; none is the newest state.
    pub checkpoint: Option<String>,
    /// The commit.
    pub commit: CommitId,
    /// Its position.
    pub position: Lsn,
    /// The state hash that the tree has.
    pub state: StateHash,
    /// From which position on the journal was replayed; none if nothing before the state's own image is kept.
    pub replayed_from: Option<Lsn>,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Inodes of other kinds.
    pub others: u64,
    /// Bytes of content that were read, holes not counted.
    pub bytes: u64,
    /// BLAKE3 over the contents of all files, as the description of formats says.
    pub content: [u8; 32],
}

/// Restores a checkpoint, or the newest one, or without any the newest state. Up to `room` bytes of pages, and of
/// segments, are kept in memory, beside two trees.
///
/// # Errors
/// `NoSuchState` without such a checkpoint, or any commit; `Missing`, `Damaged`, `Diverged` when it cannot be restored;
/// the store's.
pub async fn drill(store: &Store, room: u64, checkpoint: Option<&str>) -> Result<Drilled, RecoveryError> {
    let superblock = read_superblock(store).await?;
    let lineage = Lineage::of(store.clone(), &superblock)?;
    let pages = Pages::new(lineage.clone(), room);
    let listing = list(&lineage).await?;
    let no_such = |what: String| RecoveryError::NoSuchState { store: store.url().to_owned(), what };
    let head = listing.head.ok_or_else(|| no_such("commit".to_owned()))?;
    let newest = load(&pages, &listing.ids, head.clone()).await?;
    let named = match checkpoint {
        Some(name) => {
            let at = newest.tree.checkpoints().get(&name.to_owned());
            let at = at.ok_or_else(|| no_such(format!("checkpoint named {name:?}")))?;
            Some((name.to_owned(), at.commit))
        }
        None => {
            let checkpoints = newest.tree.checkpoints().iter();
            checkpoints.map(|(name, at)| (name.clone(), at.commit)).max_by_key(|(_, commit)| *commit)
        }
    };
    let fetched = match &named {
        Some((_, commit)) => read_commit(&lineage, *commit).await?,
        None => head,
    };
    let (commit, at_end) = (fetched.commit.id, fetched.commit.clone());
    let state = load(&pages, &listing.ids, fetched).await?;
    let diverged =
        |what: &str| RecoveryError::Diverged { store: store.url().to_owned(), commit, what: what.to_owned() };
    pages.load_all(&state.tree).await?;
    if let Err(violations) = state.tree.check() {
        let what = violations.first().map(ToString::to_string).unwrap_or_default();
        return Err(diverged(&format!("its tree is not sound: {what}")));
    }
    if StateHash::of(&state.tree) != Ok(at_end.state) {
        return Err(diverged("its tree does not have the state hash that was committed"));
    }

    let survey = Survey::of(store).await?;
    let images = Images::find(&survey, &pages).await?;
    let journal = Journal::gather(&survey, &images.kept(&pages).await?).await?;
    let target = Target { commit, lsn: at_end.end, chain: at_end.chain, state: Some(at_end.state) };
    let replayed = rebuild_from_oldest(&survey, &pages, &journal, &images, target).await?;
    if let Some((_, rebuilt)) = &replayed {
        let (replayed, restored) = (rebuilt.tree.items(), state.tree.items());
        let same = replayed.and_then(|replayed| Ok(replayed.eq(restored?)));
        if same != Ok(true) {
            return Err(diverged("its journal, replayed, gives another tree than its image"));
        }
    }
    let mut drilled = Drilled {
        volume: lineage.keys().0,
        checkpoint: named.map(|(name, _)| name),
        commit,
        position: at_end.end,
        state: at_end.state,
        replayed_from: replayed.map(|(from, _)| from),
        files: 0,
        directories: 0,
        others: 0,
        bytes: 0,
        content: [0; 32],
    };
    let segments =
        || state.segments.iter().map(|pair| pair.map(|(id, stored)| (*id, stored.clone()))).collect();
    let segments: HashMap<SegmentId, StoredSegment> = pages.ask(segments).await?;
    let content = Content::new(pages.clone(), Arc::default(), state.segments.clone(), room);
    let mut reader = Reader { journal, content, segments, verified: crate::cache::Cache::new(room), store };
    let items = || Ok(state.tree.items()?.collect::<Vec<_>>());
    let mut files: Vec<(Ino, u64)> = Vec::new();
    let mut extents: HashMap<Ino, Vec<(u64, Extent)>> = HashMap::new();
    for item in pages.ask(items).await? {
        match item {
            Item::Inode(ino, inode) => match inode.kind() {
                Kind::File => files.push((ino, inode.size)),
                Kind::Directory => drilled.directories += 1,
                _ => drilled.others += 1,
            },
            Item::Extent { ino, offset, extent } => extents.entry(ino).or_default().push((offset, extent)),
            _ => {}
        }
    }
    drilled.files = files.len() as u64;
    let mut hasher = blake3::Hasher::new();
    for (ino, size) in files {
        let runs = extents.remove(&ino).unwrap_or_default();
        drilled.bytes += reader.hash_file(&mut hasher, ino, size, &runs).await?;
    }
    drilled.content = *hasher.finalize().as_bytes();
    Ok(drilled)
}

struct Reader<'a> {
    journal: Journal,
    content: Content,
    segments: HashMap<SegmentId, StoredSegment>,
    /// Whole segments, verified.
    verified: crate::cache::Cache<SegmentId, Bytes>,
    store: &'a Store,
}

impl Reader<'_> {
    /// Number, size, and each run of bytes with its offset before it and its length behind it.
    async fn hash_file(
        &mut self,
        hasher: &mut blake3::Hasher,
        ino: Ino,
        size: u64,
        runs: &[(u64, Extent)],
    ) -> Result<u64, RecoveryError> {
        hasher.update(&ino.0.to_le_bytes());
        hasher.update(&size.to_le_bytes());
        let mut all = 0;
        // How content lies in extents is no part of it.
        let mut run: Option<(u64, u64)> = None;
        for (offset, extent) in runs {
            match &mut run {
                Some((start, len)) if *start + *len == *offset => *len += extent.len,
                run => {
                    if let Some((_, len)) = run.take() {
                        hasher.update(&len.to_le_bytes());
                    }
                    hasher.update(&offset.to_le_bytes());
                    *run = Some((*offset, extent.len));
                }
            }
            hasher.update(&self.read(extent).await?);
            all += extent.len;
        }
        if let Some((_, len)) = run {
            hasher.update(&len.to_le_bytes());
        }
        Ok(all)
    }

    /// The bytes of an extent, read twice.
    async fn read(&mut self, extent: &Extent) -> Result<Bytes, RecoveryError> {
        let id = extent.place.segment;
        let url = self.store.url();
        let stored = self.segments.get(&id).ok_or_else(|| {
            envelope::damaged(
                url,
                &self.journal.lineage().keys().segments(),
                &format!("nothing says where segment {id} is"),
            )
        })?;
        let segment = match self.verified.get(&id) {
            Some(segment) => segment,
            None => {
                let segment = self.journal.intact(stored).await?;
                self.verified.insert(id, segment.clone(), segment.len() as u64);
                segment
            }
        };
        let start = extent.place.position as usize;
        let end = start.saturating_add(usize::try_from(extent.len).unwrap_or(usize::MAX));
        let damaged = |what: &str| envelope::damaged(url, &stored.key, what);
        let verified = segment.get(start..end).map(|_| segment.slice(start..end));
        let verified = verified.ok_or_else(|| damaged("a file has bytes behind its end"))?;
        if self.content.read(extent.place, extent.len).await? == verified {
            Ok(verified)
        } else {
            Err(damaged("what is read of it is not what was verified"))
        }
    }
}
