//! What is in the store of a volume: its objects and its commit log, as far as they can be read.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, stream};
use rfs_backends::{Store, StoreErrorKind};
use rfs_core::{CommitId, Timestamp};

use crate::commit_log::read_superblock;
use crate::objects::{Commit, CommitObject, CommitRef, Fence, decode_commit_start, missing};
use crate::{Home, Keys, Lineage, ObjectHash, RecoveryError, SUPERBLOCK, envelope};

/// How many objects are fetched at a time.
const REQUESTS: usize = 8;
/// What is read of an object of the commit log at first: mostly all that is not a segment.
const START: u64 = 16 << 10;

/// The objects of a volume.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) lineage: Lineage,
    pub(crate) keys: Keys,
    /// What is wrong with the superblock.
    pub(crate) superblock: Result<(), RecoveryError>,
    /// Every object of the volume but the superblock, with its bytes.
    pub(crate) objects: BTreeMap<String, u64>,
    /// What stands in the commit log; of a fork also the commit that it begins at.
    pub(crate) log: BTreeMap<CommitId, Entry>,
}

/// What stands at a place of the commit log.
#[derive(Debug)]
pub(crate) enum Entry {
    Commit(Box<LoggedCommit>),
    Fence(Fence),
    /// It cannot be read.
    Unreadable(RecoveryError),
}

/// A commit without what is inlined in it.
#[derive(Clone, Debug)]
pub(crate) struct LoggedCommit {
    pub(crate) commit: Commit,
    pub(crate) hash: ObjectHash,
    pub(crate) inline_start: u64,
}

impl LoggedCommit {
    pub(crate) const fn reference(&self) -> CommitRef {
        CommitRef { id: self.commit.id, hash: self.hash }
    }
}

impl Survey {
    /// Looks at what is there. Without a superblock that can be read the volume is known by the keys, if there is but
    /// one.
    ///
    /// # Errors
    /// The superblock's when the volume is not known; the store's.
    pub(crate) async fn of(store: &Store) -> Result<Self, RecoveryError> {
        let (lineage, superblock) = match read_superblock(store).await {
            Ok(superblock) => (Lineage::of(store.clone(), &superblock)?, Ok(())),
            Err(error @ (RecoveryError::Store(_) | RecoveryError::UnknownFormat { .. })) => {
                return Err(error);
            }
            Err(error) => match only_volume(store).await? {
                Some((volume, created)) => (Lineage::alone(store.clone(), Keys(volume), created), Err(error)),
                None => return Err(error),
            },
        };
        let keys = lineage.keys();
        let listed = store.list(&keys.volume(), None).await?;
        let objects: BTreeMap<String, u64> =
            listed.into_iter().map(|object| (object.key, object.size)).collect();
        let ids = objects.iter().filter_map(|(key, size)| Some((keys.parse_commit(key)?, *size)));
        let ids = ids.filter(|(id, _)| *id >= lineage.first_slot()).map(|(id, size)| (id, Some(size)));
        let ids: Vec<(CommitId, Option<u64>)> = ids.chain(lineage.begins_at().map(|at| (at, None))).collect();
        let lineage_of = &lineage;
        let entry =
            |(id, size)| async move { Ok::<_, RecoveryError>((id, entry(lineage_of, id, size).await?)) };
        let mut entries = stream::iter(ids).map(entry).buffer_unordered(REQUESTS);
        let mut log = BTreeMap::new();
        while let Some(entry) = entries.next().await {
            // One that was collected since it was listed is none.
            if let (id, Some(entry)) = entry? {
                log.insert(id, entry);
            }
        }
        drop(entries);
        Ok(Self { lineage, keys, superblock, objects, log })
    }

    /// The name of what stands at a place of the log.
    pub(crate) fn key(&self, id: CommitId) -> String {
        self.lineage.of_epoch(id.epoch).keys.commit(id)
    }

    /// A commit that can be read.
    pub(crate) fn commit(&self, id: CommitId) -> Option<&LoggedCommit> {
        match self.log.get(&id) {
            Some(Entry::Commit(commit)) => Some(commit),
            _ => None,
        }
    }

    /// All commits that can be read, the newest first.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &LoggedCommit> {
        self.log.values().rev().filter_map(|entry| match entry {
            Entry::Commit(commit) => Some(&**commit),
            _ => None,
        })
    }

    /// Whether a place is part of the history: not behind the head that its epoch's end names.
    pub(crate) fn is_history(&self, id: CommitId) -> bool {
        let first = CommitId { epoch: id.epoch, number: 0 };
        let last = CommitId { epoch: id.epoch, number: u64::MAX };
        match self.log.range(first..=last).next_back() {
            Some((_, Entry::Fence(Fence { head: Some(head), .. }))) => id <= head.id,
            Some((_, Entry::Fence(Fence { head: None, .. }))) => false,
            _ => true,
        }
    }

    /// The head as the newest entry tells it; none when the volume has no commit.
    ///
    /// # Errors
    /// The key that the head cannot be known, or read, without.
    pub(crate) fn head(&self) -> Result<Option<&LoggedCommit>, String> {
        let Some((last, entry)) = self.log.last_key_value() else {
            return self.lineage.begins_at().map_or(Ok(None), |at| Err(self.key(at)));
        };
        match entry {
            Entry::Commit(commit) => Ok(Some(commit)),
            Entry::Unreadable(_) => Err(self.key(*last)),
            Entry::Fence(Fence { head: None, .. }) => Ok(None),
            Entry::Fence(Fence { head: Some(head), .. }) => {
                let named = self.commit(head.id).filter(|commit| commit.hash == head.hash);
                named.map(Some).ok_or_else(|| self.key(head.id))
            }
        }
    }

    /// Places in the log where an epoch should have ended and nothing says so: for each of them the newest epoch in a
    /// row of such ones.
    pub(crate) fn open_ends(&self) -> Vec<CommitId> {
        let mut ends = Vec::new();
        let first = self.lineage.first_slot();
        let mut next = first.epoch;
        let mut highest: Option<(&CommitId, &Entry)> = None;
        for (id, entry) in self.log.range(first..) {
            if let Some((last, last_entry)) = highest
                && last.epoch < id.epoch
                && matches!(last_entry, Entry::Commit(_))
            {
                ends.push(CommitId { epoch: last.epoch, number: last.number + 1 });
            }
            if next < id.epoch {
                // An epoch in which nothing was done ends at its first place. Hostile keys may leave gaps of any length.
                ends.extend((next..id.epoch).take(1024).map(|epoch| CommitId { epoch, number: 0 }));
            }
            next = id.epoch + 1;
            highest = Some((id, entry));
        }
        ends
    }
}

/// The volume whose objects are there, if it is one and no fork, and when it was made: its first fence says that too.
async fn only_volume(store: &Store) -> Result<Option<(u128, Timestamp)>, RecoveryError> {
    let listed = store.list("", None).await?;
    let mut volumes = listed.iter().filter_map(|object| {
        let (volume, rest) = object.key.split_once('/')?;
        let digits =
            volume.len() == 32 && volume.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits && rest.starts_with("commits/")).then(|| u128::from_str_radix(volume, 16).ok())?
    });
    let Some(volume) = volumes.next().filter(|first| volumes.all(|volume| volume == *first)) else {
        return Ok(None);
    };
    let (keys, first) = (Keys(volume), CommitId { epoch: 0, number: 0 });
    let object = match store.get(&keys.commit(first)).await {
        Ok(object) => object,
        Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match decode_commit_start(store.url(), keys, first, &object, object.len() as u64) {
        Ok(CommitObject::Fence(fence)) => Ok(Some((volume, fence.time))),
        _ => Ok(None),
    }
}

/// None for one that is gone.
async fn entry(lineage: &Lineage, id: CommitId, size: Option<u64>) -> Result<Option<Entry>, RecoveryError> {
    let Home { store, keys } = lineage.of_epoch(id.epoch);
    let key = keys.commit(id);
    let size = match size {
        Some(size) => size,
        None => match store.head(&key).await {
            Ok(object) => object.size,
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        },
    };
    match read_entry(&store, keys, id, size).await {
        Ok(entry) => Ok(Some(entry)),
        Err(RecoveryError::Missing { .. }) => Ok(None),
        Err(RecoveryError::Store(error))
            if !matches!(error.kind(), StoreErrorKind::Truncated | StoreErrorKind::Damaged) =>
        {
            Err(error.into())
        }
        Err(RecoveryError::Store(_)) => {
            let error = envelope::damaged(store.url(), &key, "it is shorter than it was listed");
            Ok(Some(Entry::Unreadable(error)))
        }
        Err(error) => Ok(Some(Entry::Unreadable(error))),
    }
}

async fn read_entry(store: &Store, keys: Keys, id: CommitId, size: u64) -> Result<Entry, RecoveryError> {
    let key = keys.commit(id);
    let get = |end: u64| {
        let key = &key;
        async move {
            if end == 0 {
                return Ok(Bytes::new());
            }
            store.get_range(key, 0..end).await.map_err(|error| missing(store, key, error))
        }
    };
    let mut start = get(size.min(START)).await?;
    if let Some(body_end) = envelope::attachment_start(&start)
        && body_end > start.len() as u64
        && body_end <= size
    {
        start = get(body_end).await?;
    }
    let found = decode_commit_start(store.url(), keys, id, &start, size)?;
    Ok(match found {
        CommitObject::Fence(fence) => Entry::Fence(fence),
        CommitObject::Commit(commit) => Entry::Commit(Box::new(LoggedCommit {
            commit: commit.commit,
            hash: commit.hash,
            inline_start: commit.inline_start,
        })),
    })
}

/// Whether something stands at the superblock's place.
pub(crate) const fn superblock_problem(error: &RecoveryError) -> (&'static str, super::Problem) {
    match error {
        RecoveryError::NoVolume { .. } => (SUPERBLOCK, super::Problem::Missing),
        _ => (SUPERBLOCK, super::Problem::Damaged),
    }
}
