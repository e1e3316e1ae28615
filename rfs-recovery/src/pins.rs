//! Pins: what keeps a commit, or some objects, of a volume for somebody who is not its writer.
//!
//! Who puts a pin and the collector do not know of each other, so each writes before it looks: the pin is put, and then
//! it is asked what the newest collection keeps ([`Kept`]); the collector says what it keeps, and then lists the pins, says
//! what it keeps for them, and only then deletes. One of the two sees the other. That there is a pin says nothing: it may
//! have been put too late, and its owner be about to take it away.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use rfs_backends::{Store, StoreErrorKind};
use rfs_core::{CommitId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::envelope::{self, ObjectKind};
use crate::{Home, Keys, RecoveryError};

/// How many pins are read at a time.
const REQUESTS: usize = 8;

/// Keeps a commit's state, or the objects that it lists. The order of the fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The volume whose objects it keeps.
    pub volume: u128,
    /// Its number.
    pub id: u128,
    /// Whose it is, for people.
    pub owner: String,
    /// The fork that it is for.
    pub fork: Option<u128>,
    /// The commit.
    pub at: CommitId,
    /// When it was put.
    pub made: Timestamp,
    /// When it ends; none when whoever put it takes it away.
    pub expires: Option<Timestamp>,
    /// The objects that are still needed; none when that is all that the commit's state needs.
    pub objects: Option<Vec<String>>,
}

impl Pin {
    /// Whether it keeps nothing any more.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires < now)
    }
}

/// What the newest collection keeps, for pins too, beside what was made after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The volume.
    pub volume: u128,
    /// The newest commit when it began.
    pub newest: CommitId,
    /// The commits whose states it keeps, in order.
    pub states: Vec<CommitId>,
}

impl Kept {
    /// Whether it keeps the state of a commit.
    #[must_use]
    pub fn keeps(&self, id: CommitId) -> bool {
        id > self.newest || self.states.binary_search(&id).is_ok()
    }
}

/// Whether the newest collection keeps the state of a commit. A commit may be there without what its state needs, as a link
/// between others or as the last one of its epoch.
///
/// Who has put a pin before asking can rely on it, as long as the pin stays.
///
/// # Errors
/// As [`read_kept`].
pub async fn is_kept(home: &Home, id: CommitId) -> Result<bool, RecoveryError> {
    Ok(read_kept(home).await?.kept.is_none_or(|kept| kept.keeps(id)))
}

/// Puts a pin, or puts it anew with fewer objects.
///
/// # Errors
/// The store's.
pub async fn put_pin(home: &Home, pin: &Pin) -> Result<(), RecoveryError> {
    let (object, _) = envelope::seal(ObjectKind::Pin, pin);
    Ok(home.store.put(&home.keys.pin(pin.id), object.into()).await?)
}

/// Takes a pin away, if it is there.
///
/// # Errors
/// The store's.
pub async fn remove_pin(home: &Home, id: u128) -> Result<(), RecoveryError> {
    match home.store.delete(&home.keys.pin(id)).await {
        Err(error) if error.kind() != StoreErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A pin, if it is there.
///
/// # Errors
/// `Damaged`, `UnknownFormat`, or the store's.
pub async fn read_pin(home: &Home, id: u128) -> Result<Option<Pin>, RecoveryError> {
    let key = home.keys.pin(id);
    let pin: Option<Pin> = read(&home.store, &key, ObjectKind::Pin).await?;
    match pin {
        Some(pin) if pin.volume != home.keys.0 || pin.id != id => Err(misplaced(&home.store, &key)),
        pin => Ok(pin),
    }
}

/// All pins of a volume, by their numbers.
///
/// # Errors
/// As [`read_pin`].
pub async fn pins(home: &Home) -> Result<Vec<Pin>, RecoveryError> {
    let listed = home.store.list(&home.keys.pins(), None).await?;
    let ids: Vec<u128> = listed.iter().filter_map(|object| home.keys.parse_pin(&object.key)).collect();
    let read = stream::iter(ids).map(|id| read_pin(home, id)).buffered(REQUESTS);
    let read: Vec<Option<Pin>> = read.try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// Says what a collection of this epoch keeps. Each epoch has a place of its own: a writer that was taken over, and does not
/// know it yet, replaces nothing that its successor says.
pub(crate) async fn put_kept(
    store: &Store,
    keys: Keys,
    epoch: u64,
    kept: &Kept,
) -> Result<(), RecoveryError> {
    let (object, _) = envelope::seal(ObjectKind::Kept, kept);
    Ok(store.put(&keys.kept(epoch), object.into()).await?)
}

/// What is found where collections say what they keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundKept {
    /// What that of the newest epoch keeps; none when there was none. A state that an older one does not keep, it does
    /// not keep either.
    pub kept: Option<Kept>,
    /// The names of all objects that say such a thing, the newest last.
    pub keys: Vec<String>,
}

/// What the newest collection keeps.
///
/// # Errors
/// `Damaged`, `UnknownFormat`, or the store's.
pub async fn read_kept(home: &Home) -> Result<FoundKept, RecoveryError> {
    let Home { store, keys } = home;
    let mut gone = None;
    loop {
        let found = said(home).await?;
        let Some(newest) = found.last() else {
            let key = keys.kept_v4();
            let kept = read_kept_at(home, &key).await?;
            // It may have been taken away for what was said elsewhere meanwhile.
            if kept.is_none() && !said(home).await?.is_empty() {
                continue;
            }
            let keys = kept.iter().map(|_| key.clone()).collect();
            return Ok(FoundKept { kept, keys });
        };
        match read_kept_at(home, newest).await? {
            Some(kept) => return Ok(FoundKept { kept: Some(kept), keys: found }),
            // Who collects next takes away what the ones before said: then there is a newer one.
            None if gone.as_ref() != Some(newest) => gone = Some(newest.clone()),
            None => {
                return Err(RecoveryError::Missing { store: store.url().to_owned(), key: newest.clone() });
            }
        }
    }
}

/// The names of all objects in which collections say what they keep, the newest last.
async fn said(home: &Home) -> Result<Vec<String>, RecoveryError> {
    let listed = home.store.list(&home.keys.all_kept(), None).await?;
    let keys = listed.into_iter().map(|object| object.key);
    Ok(keys.filter(|key| home.keys.parse_kept(key).is_some()).collect())
}

async fn read_kept_at(home: &Home, key: &str) -> Result<Option<Kept>, RecoveryError> {
    let kept: Option<Kept> = read(&home.store, key, ObjectKind::Kept).await?;
    match kept {
        Some(kept) if kept.volume != home.keys.0 => Err(misplaced(&home.store, key)),
        kept => Ok(kept),
    }
}

async fn read<T: serde::de::DeserializeOwned>(
    store: &Store,
    key: &str,
    kind: ObjectKind,
) -> Result<Option<T>, RecoveryError> {
    let object: Bytes = match store.get(key).await {
        Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
        object => object?,
    };
    envelope::open(store.url(), key, &object)?.body(store.url(), key, kind).map(Some)
}

fn misplaced(store: &Store, key: &str) -> RecoveryError {
    envelope::damaged(store.url(), key, "it says that it is another volume's, or stands elsewhere")
}

#[cfg(test)]
mod tests {
    use rfs_backends::StoreOptions;

    use super::*;

    fn kept(epoch: u64, numbers: &[u64]) -> Kept {
        let id = |number| CommitId { epoch, number };
        Kept { volume: 7, newest: id(9), states: numbers.iter().map(|number| id(*number)).collect() }
    }

    fn home() -> Home {
        Home { store: Store::from_url("memory://", StoreOptions::default()).unwrap(), keys: Keys(7) }
    }

    /// Found by the model: a collector that was taken over while it slept replaced what its successor had said.
    #[tokio::test]
    async fn what_the_newest_epoch_keeps_counts_whoever_says_something_later() {
        let home = home();
        assert_eq!(read_kept(&home).await.unwrap(), FoundKept::default());
        let say = |epoch, kept| {
            let home = &home;
            async move { put_kept(&home.store, home.keys, epoch, &kept).await.unwrap() }
        };
        say(3, kept(1, &[1, 2])).await;
        say(4, kept(1, &[2])).await;
        say(3, kept(1, &[1, 2, 3])).await;
        let found = read_kept(&home).await.unwrap();
        assert_eq!(found.kept, Some(kept(1, &[2])));
        assert_eq!(found.keys, [home.keys.kept(3), home.keys.kept(4)]);
        assert!(!is_kept(&home, CommitId { epoch: 1, number: 1 }).await.unwrap());
        assert!(is_kept(&home, CommitId { epoch: 1, number: 2 }).await.unwrap());
    }

    #[tokio::test]
    async fn what_was_said_before_version_5_counts_until_something_else_is() {
        let home = home();
        let (object, _) = envelope::seal(ObjectKind::Kept, &kept(1, &[1]));
        home.store.put(&home.keys.kept_v4(), object.into()).await.unwrap();
        let found = read_kept(&home).await.unwrap();
        assert_eq!((found.kept, found.keys), (Some(kept(1, &[1])), vec![home.keys.kept_v4()]));
        put_kept(&home.store, home.keys, 2, &kept(1, &[])).await.unwrap();
        assert_eq!(read_kept(&home).await.unwrap().kept, Some(kept(1, &[])));
    }
}
