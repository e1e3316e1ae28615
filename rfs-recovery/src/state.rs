//! Rebuilds the state of a volume at a commit: the newest image before it, then the journal.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, stream};
use rfs_core::{Change, CommitId, Difference, Lsn, Map, SegmentId, StateHash, Timestamp, Tree};
use rfs_journal::{ChainHash, Footer, Record, VerifiedSegment, verify_segment};

use crate::commit_log::read_commit;
use crate::image::{ImageBase, read_head, read_image};
use crate::objects::{
    CommitObject, CommitRef, FetchedCommit, ImageRef, StoredSegment, fetch_commit, missing,
};
use crate::{Home, Lineage, Pages, RecoveryError};

/// How many objects are fetched at a time.
const FETCHES: usize = 16;
/// A segment up to this size is fetched whole; of a larger one the footer does, where it repeats the Changes.
const WHOLE_BYTES: u64 = 1 << 20;

/// The state of a volume at a commit.
#[derive(Clone, Debug)]
pub struct State {
    /// The tree.
    pub tree: Tree,
    /// Its state hash.
    pub state: StateHash,
    /// The commit; none for a volume without any.
    pub commit: Option<CommitRef>,
    /// When it was made.
    pub time: Option<Timestamp>,
    /// Its LSN.
    pub lsn: Lsn,
    /// Its chain hash.
    pub chain: ChainHash,
    /// The number of the next segment.
    pub next_segment: SegmentId,
    /// Where the history's segments are, as far as they are kept.
    pub segments: Map<SegmentId, StoredSegment>,
    /// The image that it was rebuilt from.
    pub image: Option<ImageRef>,
    /// What that image stored.
    pub base: ImageBase,
    /// Bytes of journal since that image.
    pub replayed_bytes: u64,
    /// Where each commit since that image ends, the image's own first.
    pub boundaries: Vec<(Lsn, ChainHash)>,
}

impl State {
    /// The state of a volume without any commit.
    #[must_use]
    pub fn empty(created: Timestamp) -> Self {
        let tree = Tree::new(created);
        Self {
            state: StateHash::of(&tree).expect("a new tree is loaded"),
            tree,
            commit: None,
            time: None,
            lsn: Lsn(0),
            chain: ChainHash::default(),
            next_segment: SegmentId(0),
            segments: Map::default(),
            image: None,
            base: ImageBase::default(),
            replayed_bytes: 0,
            boundaries: vec![(Lsn(0), ChainHash::default())],
        }
    }
}

/// Rebuilds the state at a commit that is known by its number only, as [`load`] does.
///
/// # Errors
/// `NoSuchState` when there is none, or a fence in its place; otherwise as there.
pub async fn load_at(pages: &Pages, id: CommitId) -> Result<State, RecoveryError> {
    load(pages, &[], read_commit(pages.lineage(), id).await?).await
}

/// Rebuilds the state at `commit`, which is among `ids`, verifying every byte that it reads, and the state hash of each
/// commit that it replays. Of an image in pages only what is needed is read.
///
/// # Errors
/// `Missing`, `Damaged`, `UnknownFormat`, `Diverged`, or the store's.
pub async fn load(pages: &Pages, ids: &[CommitId], commit: FetchedCommit) -> Result<State, RecoveryError> {
    let image = commit.commit.image.clone();
    let from = image.as_ref().map(ImageRef::of);
    let mut state = match image {
        Some(image) => from_image(pages, image).await?,
        None => State::empty(pages.lineage().created()),
    };
    let commits = commits_since(pages.lineage(), ids, from, commit).await?;
    for fetched in &commits {
        extend(pages, &mut state, fetched).await?;
    }
    Ok(state)
}

pub(crate) async fn from_image(pages: &Pages, image: ImageRef) -> Result<State, RecoveryError> {
    let mut state = State::empty(Timestamp::default());
    match &image {
        ImageRef::Whole(whole) => {
            let (body, segments, tree) = read_image(pages.lineage(), whole).await?;
            let segments = segments.into_iter().map(|kept| (kept.stored.header.id, kept.stored));
            (state.tree, state.segments) = (tree, Map::from_ascending(segments));
            (state.state, state.lsn, state.chain) = (body.state, body.lsn, body.chain);
            state.next_segment = body.next_segment;
        }
        ImageRef::Paged(paged) => {
            let (head, base) = read_head(pages, paged).await?;
            state.tree = base.tree().cloned().unwrap_or(state.tree);
            if state.tree.lacks_links() {
                pages.load_all(&state.tree).await?;
                pages.ask(|| state.tree.index_links()).await?;
            }
            state.segments = base.segments().clone();
            (state.state, state.lsn, state.chain) = (head.state, head.lsn, head.chain);
            state.next_segment = head.next_segment;
            state.base = base;
        }
    }
    state.boundaries = vec![(state.lsn, state.chain)];
    state.image = Some(image);
    Ok(state)
}

/// The commits after `from` up to and with `last`, in order, each extending the one before. Those among `ids` are
/// fetched several at a time, the others one by one.
async fn commits_since(
    lineage: &Lineage,
    ids: &[CommitId],
    from: Option<CommitId>,
    last: FetchedCommit,
) -> Result<Vec<FetchedCommit>, RecoveryError> {
    if from == Some(last.commit.id) {
        return Ok(Vec::new());
    }
    let between = ids.iter().copied();
    let between = between.filter(|id| Some(*id) > from && *id < last.commit.id).collect::<Vec<_>>();
    let next_to_it = last.commit.previous.map(|previous| previous.id) == from;
    let between = if next_to_it { Vec::new() } else { between };
    let fetched = stream::iter(between).map(|id| fetch_commit(lineage, id));
    let mut by_id = BTreeMap::new();
    let mut fetched = std::pin::pin!(fetched.buffered(FETCHES));
    while let Some(object) = fetched.next().await {
        // One that cannot be read matters if another one extends it. Then it is asked for again.
        if let Ok(CommitObject::Commit(commit)) = object {
            by_id.insert(commit.commit.id, *commit);
        }
    }
    let mut commits = vec![last];
    loop {
        let first = &commits[commits.len() - 1];
        let Some(previous) = first.commit.previous.filter(|previous| Some(previous.id) != from) else {
            break;
        };
        if previous.id >= first.commit.id {
            let what = "it says that it extends a commit that comes after it";
            return Err(misplaced(lineage, first.commit.id, what));
        }
        let before = match by_id.remove(&previous.id) {
            Some(before) => Some(before),
            None => match fetch_commit(lineage, previous.id).await? {
                CommitObject::Commit(commit) => Some(*commit),
                CommitObject::Fence(_) => None,
            },
        };
        let extended = before.filter(|before| before.hash == previous.hash);
        let before = extended.ok_or_else(|| {
            misplaced(lineage, previous.id, "it is not the commit that the next one extends")
        })?;
        commits.push(before);
    }
    commits.reverse();
    Ok(commits)
}

fn misplaced(lineage: &Lineage, id: CommitId, what: &str) -> RecoveryError {
    let Home { store, keys } = lineage.of_epoch(id.epoch);
    crate::envelope::damaged(store.url(), &keys.commit(id), what)
}

/// Applies one commit to the state of the one before.
async fn extend(pages: &Pages, state: &mut State, fetched: &FetchedCommit) -> Result<(), RecoveryError> {
    let commit = &fetched.commit;
    let Home { store, keys } = &pages.lineage().of_epoch(commit.id.epoch);
    let key = keys.commit(commit.id);
    let damaged = |what: &str| crate::envelope::damaged(store.url(), &key, what);
    if commit.base != state.lsn {
        return Err(damaged("it does not begin where the commit before it ends"));
    }
    let before = state.tree.clone();
    let mut inline = fetched.inline.clone();
    let mut inline_start = fetched.inline_start;
    for added in &commit.segments {
        if added.id != state.next_segment {
            return Err(damaged("its segments are not numbered on from the commit before it"));
        }
        let header = crate::objects::StoredHeader {
            id: added.id,
            epoch: added.epoch,
            writer: added.writer,
            base: state.lsn,
            chain: state.chain,
        };
        let stored = StoredSegment {
            header,
            hash: added.hash,
            len: added.len,
            footer_len: added.footer_len,
            key: added.key.clone().unwrap_or_else(|| key.clone()),
            offset: if added.key.is_some() { 0 } else { inline_start },
        };
        // The lengths were seen to add up when the commit was decoded.
        let inlined = added.key.is_none().then(|| inline.split_to(added.len as usize));
        inline_start += inlined.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let (records, end, chain) = read_records(pages.lineage(), &stored, inlined).await?;
        for run in records.split_inclusive(|record| matches!(record.change, Change::Rewind { .. })) {
            match run {
                [before @ .., Record { change: Change::Rewind { to }, .. }]
                    if commit.rewound.contains(to) =>
                {
                    apply(pages, commit.id, &mut state.tree, before).await?;
                    let older = Box::pin(load_at(pages, *to)).await?;
                    go_back(pages, state, older).await?;
                }
                _ => apply(pages, commit.id, &mut state.tree, run).await?,
            }
        }
        state.replayed_bytes += stored.len;
        (state.lsn, state.chain) = (end, chain);
        state.next_segment = state.next_segment.next();
        let id = stored.header.id;
        pages.ask(|| state.segments.load(&id)).await?;
        state.segments.insert(id, stored).expect("it was loaded");
    }
    if (state.lsn, state.chain) != (commit.end, commit.chain) {
        return Err(damaged("its segments do not end where it says"));
    }
    state.state = pages.ask(|| state.state.update(&before, &state.tree)).await?;
    if state.state != commit.state {
        return Err(RecoveryError::Diverged {
            store: store.url().to_owned(),
            commit: commit.id,
            what: "replay does not give the state hash that was committed".to_owned(),
        });
    }
    state.commit = Some(fetched.reference());
    state.time = Some(commit.time);
    state.boundaries.push((state.lsn, state.chain));
    Ok(())
}

/// Takes a state back to an older one.
///
/// # Errors
/// As [`load`].
pub async fn go_back(pages: &Pages, state: &mut State, older: State) -> Result<(), RecoveryError> {
    state.tree = pages.ask(|| state.tree.rewound_to(&older.tree)).await?;
    for stored in gone_since(pages, &older.segments, &state.segments).await? {
        let id = stored.header.id;
        pages.ask(|| state.segments.load(&id)).await?;
        state.segments.insert(id, stored).expect("it was loaded");
    }
    state.base = older.base;
    state.replayed_bytes = state.replayed_bytes.saturating_add(older.replayed_bytes);
    Ok(())
}

/// The segments of an older state that are not in the map of a newer one.
///
/// # Errors
/// As [`load`].
pub async fn gone_since(
    pages: &Pages,
    older: &Map<SegmentId, StoredSegment>,
    newer: &Map<SegmentId, StoredSegment>,
) -> Result<Vec<StoredSegment>, RecoveryError> {
    let gone = || {
        let differing = older.since(newer).filter_map(|difference| match difference {
            Ok(Difference { old: None, new: Some(stored), .. }) => Some(Ok(stored.clone())),
            Ok(_) => None,
            Err(missing) => Some(Err(missing)),
        });
        differing.collect()
    };
    pages.ask(gone).await
}

/// Applies records of the history to a tree.
///
/// # Errors
/// `Diverged` when one does not fit.
pub(crate) async fn apply(
    pages: &Pages,
    commit: CommitId,
    tree: &mut Tree,
    records: &[Record],
) -> Result<(), RecoveryError> {
    pages.apply(tree, records).await?.map_err(|(record, error)| RecoveryError::Diverged {
        store: pages.store().url().to_owned(),
        commit,
        what: format!("record {} cannot be applied: {error}", record.lsn),
    })
}

/// The records of a stored segment, with the LSN and chain hash at its end.
async fn read_records(
    lineage: &Lineage,
    stored: &StoredSegment,
    inline: Option<Bytes>,
) -> Result<(Vec<Record>, Lsn, ChainHash), RecoveryError> {
    if inline.is_none() && stored.len > WHOLE_BYTES {
        let footer = fetch_footer(lineage, stored).await?;
        if let Some(records) = footer.records(&stored.key, stored.header.id) {
            return Ok((records?, footer.end, footer.chain));
        }
    }
    let bytes = match inline {
        Some(bytes) => bytes,
        None => fetch_whole(lineage, stored).await?,
    };
    let VerifiedSegment { records, footer, .. } = verify(lineage, stored, &bytes)?;
    Ok((records, footer.end, footer.chain))
}

fn verify(
    lineage: &Lineage,
    stored: &StoredSegment,
    bytes: &Bytes,
) -> Result<VerifiedSegment, RecoveryError> {
    let Home { store, keys } = lineage.of_key(&stored.key);
    let segment = verify_segment(&stored.key, bytes, Some(stored.hash))?;
    if stored.header.is_of(&segment.header, keys.0) {
        Ok(segment)
    } else {
        Err(crate::envelope::damaged(store.url(), &stored.key, "it is another segment than the commit names"))
    }
}

async fn fetch_whole(lineage: &Lineage, stored: &StoredSegment) -> Result<Bytes, RecoveryError> {
    let store = lineage.of_key(&stored.key).store;
    let range = stored.offset..stored.offset.saturating_add(stored.len);
    store.get_range(&stored.key, range).await.map_err(|error| missing(&store, &stored.key, error))
}

/// The footer of a stored segment.
///
/// # Errors
/// `Missing`, `Damaged`, or the store's.
pub async fn fetch_footer(lineage: &Lineage, stored: &StoredSegment) -> Result<Footer, RecoveryError> {
    let store = lineage.of_key(&stored.key).store;
    let got = store.get_range(&stored.key, footer_range(stored)).await;
    let tail = got.map_err(|error| missing(&store, &stored.key, error))?;
    decode_footer(lineage, stored, &tail)
}

/// Where the footer of a segment is in its object.
pub(crate) const fn footer_range(stored: &StoredSegment) -> Range<u64> {
    let end = stored.offset.saturating_add(stored.len);
    end.saturating_sub(stored.footer_len as u64)..end
}

/// The footer of a stored segment, of its bytes.
pub(crate) fn decode_footer(
    lineage: &Lineage,
    stored: &StoredSegment,
    tail: &Bytes,
) -> Result<Footer, RecoveryError> {
    let keys = lineage.of_key(&stored.key).keys;
    // Nothing but the hash tells which version the header has: it covers both.
    let decode = |version| {
        let header = stored.header.with_version(version, keys.0).encode();
        Footer::decode(&stored.key, stored.len, &header, tail, Some(stored.hash))
    };
    let newest = decode(rfs_journal::FORMAT);
    let older = || (1..rfs_journal::FORMAT).rev().find_map(|version| decode(version).ok());
    newest.or_else(|error| older().ok_or(error)).map_err(RecoveryError::from)
}
