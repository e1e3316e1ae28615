//! The commit log: who owns the volume, and what is committed.
//!
//! The requests are here; what is concluded from their answers is in [`crate::protocol`].

use bytes::Bytes;
use rfs_backends::{PutNew, Store};
use rfs_core::{CommitId, Lsn, StateHash, Timestamp};
use rfs_journal::{ByteSection, ChainHash};

use crate::envelope::{self, ObjectHash, ObjectKind};
use crate::objects::{
    AddedSegment, Commit, CommitObject, CommitRef, Fence, FetchedCommit, ImageRef, StoredSegment, Superblock,
    decode_commit, encode_commit, fetch_commit, read_superblock_body,
};
use crate::protocol::{self, HeadIs, Rival, Top};
use crate::{Home, Keys, Lineage, RecoveryError, keys};

/// How often an opener tries to take a volume over while others do the same.
const TAKEOVER_TRIES: usize = 16;

/// The commit log as one list showed it.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Every commit and fence, in order.
    pub ids: Vec<CommitId>,
    /// The newest commit; none when the volume has none yet.
    pub head: Option<FetchedCommit>,
    /// Where the next commit, or the fence that ends the epoch, would stand.
    pub slot: CommitId,
}

/// Makes a volume at an empty URL. When there is one already, returns that one.
///
/// # Errors
/// The store's; `NoPutIfAbsent` when it is not safe.
pub async fn create(store: &Store, volume: u128, time: Timestamp) -> Result<Superblock, RecoveryError> {
    store.probe(volume).await?;
    let superblock = Superblock { volume, created: time, origin: None };
    let (object, _) = envelope::seal(ObjectKind::Superblock, &superblock);
    match store.put_new(keys::SUPERBLOCK, object.into()).await? {
        PutNew::Created => Ok(superblock),
        PutNew::Exists(object) => decode_superblock(store, &object),
    }
}

/// Puts the superblock of a fork at an empty URL; says whether it did, or there is a volume already.
///
/// # Errors
/// The store's.
pub async fn create_fork(store: &Store, superblock: &Superblock) -> Result<bool, RecoveryError> {
    let (object, _) = envelope::seal(ObjectKind::Superblock, superblock);
    match store.put_new(keys::SUPERBLOCK, object.into()).await? {
        PutNew::Created => Ok(true),
        PutNew::Exists(_) => Ok(false),
    }
}

/// Replaces the superblock of a fork by one of the same volume that says anew where the objects that it borrowed are.
///
/// # Errors
/// The store's.
pub async fn replace_superblock(store: &Store, superblock: &Superblock) -> Result<(), RecoveryError> {
    let (object, _) = envelope::seal(ObjectKind::Superblock, superblock);
    Ok(store.put(keys::SUPERBLOCK, object.into()).await?)
}

/// Which volume is at the store's URL.
///
/// # Errors
/// `NoVolume`, `Damaged`, `UnknownFormat`, or the store's.
pub async fn read_superblock(store: &Store) -> Result<Superblock, RecoveryError> {
    match store.get(keys::SUPERBLOCK).await {
        Ok(object) => decode_superblock(store, &object),
        Err(error) if error.kind() == rfs_backends::StoreErrorKind::NotFound => {
            Err(RecoveryError::NoVolume { store: store.url().to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Sees that the store still refuses to create what exists: a second create of the superblock, by `writer`.
///
/// # Errors
/// `CreateNotRefused` when the store let it pass, or the store's.
pub async fn probe_superblock(
    store: &Store,
    superblock: &Superblock,
    writer: u128,
) -> Result<(), RecoveryError> {
    // The bytes differ from those that stand there, and still decode to the same volume if the store lets them pass.
    let (mut object, _) = envelope::seal(ObjectKind::Superblock, superblock);
    object.extend(writer.to_be_bytes());
    match store.put_new(keys::SUPERBLOCK, object.into()).await? {
        PutNew::Exists(_) => Ok(()),
        PutNew::Created => Err(RecoveryError::CreateNotRefused { store: store.url().to_owned() }),
    }
}

fn decode_superblock(store: &Store, object: &Bytes) -> Result<Superblock, RecoveryError> {
    let opened = envelope::open(store.url(), keys::SUPERBLOCK, object)?;
    read_superblock_body(&opened, store.url(), keys::SUPERBLOCK)
}

/// Lists the commit log and finds its head.
///
/// # Errors
/// `Damaged`, `Missing`, `UnknownFormat`, or the store's.
pub async fn list(lineage: &Lineage) -> Result<Listing, RecoveryError> {
    let ids = list_ids(lineage).await?;
    let begins_at = lineage.begins_at();
    let top = match ids.last().copied().filter(|last| Some(*last) != begins_at) {
        Some(last) => Some((last, fetch_commit(lineage, last).await?)),
        None => None,
    };
    let seen = top.as_ref().map(|(last, object)| match object {
        CommitObject::Commit(_) => (*last, Top::Commit),
        CommitObject::Fence(fence) => (*last, Top::Fence { next_epoch: fence.next_epoch, head: fence.head }),
    });
    let (head, slot) = protocol::conclude(seen, lineage.first_slot());
    let head = match (head, top) {
        (HeadIs::Top, Some((_, CommitObject::Commit(commit)))) => Some(*commit),
        (HeadIs::Named(head), _) => {
            Some(named(lineage, head, "the one that the newest fence names as the head").await?)
        }
        (HeadIs::Start, _) => match lineage.origin().map(|origin| origin.at) {
            Some(at) => Some(named(lineage, at, "the one that the superblock says it is a fork of").await?),
            None => None,
        },
        _ => None,
    };
    Ok(Listing { ids, head, slot })
}

/// The commit that is named with its hash.
async fn named(lineage: &Lineage, commit: CommitRef, what: &str) -> Result<FetchedCommit, RecoveryError> {
    match fetch_commit(lineage, commit.id).await? {
        CommitObject::Commit(found) if found.hash == commit.hash => Ok(*found),
        _ => {
            let Home { store, keys } = lineage.of_epoch(commit.id.epoch);
            let what = format!("it is not {what}");
            Err(envelope::damaged(store.url(), &keys.commit(commit.id), &what))
        }
    }
}

/// The ids of every commit and fence, in order. Of a fork the first one is the commit that it begins at.
///
/// # Errors
/// The store's.
pub async fn list_ids(lineage: &Lineage) -> Result<Vec<CommitId>, RecoveryError> {
    let keys = lineage.keys();
    let objects = lineage.store().list(&keys.commits(), None).await?;
    let first = lineage.first_slot();
    let ids = objects.iter().filter_map(|object| keys.parse_commit(&object.key)).filter(|id| *id >= first);
    let mut ids: Vec<CommitId> = ids.chain(lineage.begins_at()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// One commit.
///
/// # Errors
/// `NoSuchState` when there is none, or a fence in its place; `Damaged`, `UnknownFormat`, or the store's.
pub async fn read_commit(lineage: &Lineage, id: CommitId) -> Result<FetchedCommit, RecoveryError> {
    match fetch_commit(lineage, id).await {
        Ok(CommitObject::Commit(commit)) => Ok(*commit),
        Ok(CommitObject::Fence(_)) | Err(RecoveryError::Missing { .. }) => {
            let store = lineage.store().url().to_owned();
            Err(RecoveryError::NoSuchState { store, what: format!("commit {id}") })
        }
        Err(error) => Err(error),
    }
}

/// Takes the volume over, as [`take_over_from`] does, from the commit log as it stands now.
///
/// # Errors
/// As there.
pub async fn take_over(lineage: &Lineage, writer: u128, time: Timestamp) -> Result<Listing, RecoveryError> {
    let listing = list(lineage).await?;
    take_over_from(lineage, writer, time, listing).await
}

/// Takes the volume over: ends the running epoch with a fence right above the head that `listing` shows, or, if that
/// has moved on, above the one that stands there now. The head of the listing that is returned is final, and
/// `slot.epoch + 1` is the caller's.
///
/// # Errors
/// `Fenced` when others take over faster than this opener, or the store's.
pub async fn take_over_from(
    lineage: &Lineage,
    writer: u128,
    time: Timestamp,
    mut listing: Listing,
) -> Result<Listing, RecoveryError> {
    let (store, keys) = (lineage.store(), lineage.keys());
    let mut rival = Rival { by: 0, epoch: 0 };
    for attempt in 0..TAKEOVER_TRIES {
        if attempt > 0 {
            listing = list(lineage).await?;
        }
        let slot = listing.slot;
        let next_epoch = protocol::epoch_after(slot);
        let head = listing.head.as_ref().map(FetchedCommit::reference);
        let fence = Fence { volume: keys.0, at: slot, writer, next_epoch, head, time };
        let (object, _) = envelope::seal(ObjectKind::Fence, &fence);
        match store.put_new(&keys.commit(slot), object.into()).await? {
            PutNew::Created => {}
            PutNew::Exists(object) => {
                rival = whose(decode_commit(store.url(), keys, slot, &object)?);
                continue;
            }
        }
        let above = store.list(&keys.commits(), Some(&keys.commit(slot))).await?;
        let above = above.iter().filter_map(|object| keys.parse_commit(&object.key));
        match protocol::above_fence(slot, above) {
            None => return Ok(listing),
            Some(id) => rival = Rival { by: 0, epoch: id.epoch },
        }
    }
    Err(rival.into())
}

/// What a commit is to make durable.
#[derive(Debug)]
pub struct Draft {
    /// The LSN at which it ends.
    pub end: Lsn,
    /// The chain hash at `end`.
    pub chain: ChainHash,
    /// The state hash at `end`.
    pub state: StateHash,
    /// When it is made.
    pub time: Timestamp,
    /// The segments that it adds; those without a key are inlined.
    pub segments: Vec<(AddedSegment, rfs_journal::SegmentHeader)>,
    /// The bytes of the inlined segments, one behind the other.
    pub inline: Vec<Bytes>,
    /// The newest whole image.
    pub image: Option<ImageRef>,
    /// Its name.
    pub checkpoint: Option<String>,
    /// The caller's own.
    pub metadata: Vec<u8>,
    /// The commits that its segments go back to.
    pub rewound: Vec<CommitId>,
}

/// A commit that is durable.
#[derive(Clone, Debug)]
pub struct Published {
    /// The commit.
    pub reference: CommitRef,
    /// The one that it extends.
    pub previous: Option<CommitId>,
    /// Where its segments are.
    pub segments: Vec<StoredSegment>,
    /// Bytes of its object.
    pub bytes: u64,
}

/// Publishes the commits of one epoch, in order.
#[derive(Debug)]
pub struct Publisher {
    lineage: Lineage,
    store: Store,
    keys: Keys,
    writer: u128,
    epoch: u64,
    next: u64,
    previous: Option<CommitRef>,
    base: Lsn,
    unresolved: Option<Unresolved>,
}

/// A commit that was, or will be, put, and whose outcome is not known.
#[derive(Debug)]
struct Unresolved {
    id: CommitId,
    object: Bytes,
    hash: ObjectHash,
    end: Lsn,
    segments: Vec<StoredSegment>,
}

impl Publisher {
    /// A publisher for the owner of `epoch`, whose first commit extends `previous`, which ends at `base`.
    #[must_use]
    pub fn new(lineage: Lineage, writer: u128, epoch: u64, previous: Option<CommitRef>, base: Lsn) -> Self {
        let (store, keys) = (lineage.store().clone(), lineage.keys());
        Self { lineage, store, keys, writer, epoch, next: 0, previous, base, unresolved: None }
    }

    /// The newest commit of the volume.
    #[must_use]
    pub const fn head(&self) -> Option<CommitRef> {
        self.previous
    }

    /// Which commit the next one, or the unresolved one, is.
    #[must_use]
    pub const fn next_id(&self) -> CommitId {
        CommitId { epoch: self.epoch, number: self.next }
    }

    /// Whether a commit was prepared whose outcome is not known yet.
    #[must_use]
    pub const fn is_unresolved(&self) -> bool {
        self.unresolved.is_some()
    }

    /// Fixes what the next commit says. Nothing is sent yet.
    ///
    /// # Panics
    /// When the one before is unresolved: its content must not change, since it may be durable already.
    pub fn prepare(&mut self, draft: Draft) {
        assert!(self.unresolved.is_none(), "one commit is in flight at a time");
        let id = self.next_id();
        let Draft { end, chain, state, time, segments, inline, image, checkpoint, metadata, rewound } = draft;
        let (added, headers): (Vec<_>, Vec<_>) = segments.into_iter().unzip();
        let commit = Commit {
            volume: self.keys.0,
            id,
            writer: self.writer,
            previous: self.previous,
            base: self.base,
            end,
            chain,
            state,
            time,
            segments: added,
            image,
            checkpoint,
            metadata: ByteSection(metadata),
            rewound,
        };
        let (object, hash, inline_start) = encode_commit(&commit, &inline);
        let commit_key = self.keys.commit(id);
        let mut next_inline = inline_start;
        let segments = commit.segments.into_iter().zip(headers).map(|(added, header)| {
            let offset = if added.key.is_some() { 0 } else { next_inline };
            next_inline += if added.key.is_some() { 0 } else { added.len };
            let key = added.key.unwrap_or_else(|| commit_key.clone());
            let (hash, len, footer_len) = (added.hash, added.len, added.footer_len);
            StoredSegment { header: header.into(), hash, len, footer_len, key, offset }
        });
        let segments = segments.collect();
        self.unresolved = Some(Unresolved { id, object, hash, end, segments });
    }

    /// Puts the prepared commit, and finds out whose object stands there then. After an outage it is called again,
    /// and puts the same bytes.
    ///
    /// # Errors
    /// `Fenced` when another writer took over; nothing of this commit will ever be seen. The store's otherwise: then
    /// the commit may or may not be durable, and stays prepared.
    ///
    /// # Panics
    /// When nothing is prepared.
    pub async fn settle(&mut self) -> Result<Published, RecoveryError> {
        let unresolved = self.unresolved.as_ref().expect("a commit was prepared");
        let key = self.keys.commit(unresolved.id);
        let stands = match self.store.put_new(&key, unresolved.object.clone()).await? {
            PutNew::Created => None,
            PutNew::Exists(object) => Some(object),
        };
        protocol::settled(unresolved.id, stands, |object| {
            decode_commit(self.store.url(), self.keys, unresolved.id, &object).ok().map(whose)
        })?;
        let Unresolved { id, object, hash, end, segments } =
            self.unresolved.take().expect("a commit was prepared");
        let reference = CommitRef { id, hash };
        let previous = self.previous.replace(reference).map(|previous| previous.id);
        self.base = end;
        self.next += 1;
        Ok(Published { reference, previous, segments, bytes: object.len() as u64 })
    }

    /// What tells whether another writer has taken over, also while this one goes on.
    #[must_use]
    pub fn fence_check(&self) -> FenceCheck {
        let next = self.next_id();
        let head = protocol::listed_from(next);
        FenceCheck { lineage: self.lineage.clone(), writer: self.writer, epoch: next.epoch, head }
    }
}

/// Tells a writer whether another one has taken over since a commit of its own.
#[derive(Clone, Debug)]
pub struct FenceCheck {
    lineage: Lineage,
    writer: u128,
    epoch: u64,
    head: CommitId,
}

impl FenceCheck {
    /// The epoch of the writer that asks.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Looks, with one list.
    ///
    /// # Errors
    /// `Fenced`, or the store's.
    pub async fn run(&self) -> Result<(), RecoveryError> {
        let listed_from = self.head;
        let (store, keys) = (self.lineage.store(), self.lineage.keys());
        let above = store.list(&keys.commits(), Some(&keys.commit(listed_from))).await?;
        let ids = above.iter().filter_map(|object| keys.parse_commit(&object.key));
        let Some(id) = protocol::deciding(listed_from, ids) else { return Ok(()) };
        let rival = match fetch_commit(&self.lineage, id).await {
            Ok(object) => whose(object),
            // It may be our own, and damaged.
            Err(error) if id.epoch == self.epoch => return Err(error),
            Err(RecoveryError::Store(error)) => return Err(error.into()),
            Err(_) => Rival { by: 0, epoch: protocol::epoch_after(id) },
        };
        if rival.by == self.writer { Ok(()) } else { Err(rival.into()) }
    }
}

/// Who put an object, and which epoch is theirs.
fn whose(object: CommitObject) -> Rival {
    match object {
        CommitObject::Fence(fence) => Rival { by: fence.writer, epoch: fence.next_epoch },
        CommitObject::Commit(commit) => Rival { by: commit.commit.writer, epoch: commit.commit.id.epoch },
    }
}

impl From<Rival> for RecoveryError {
    fn from(Rival { by, epoch }: Rival) -> Self {
        Self::Fenced { by, epoch }
    }
}
