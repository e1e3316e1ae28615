//! Where a volume's objects are: its own, and those that a fork borrows from the volumes that it descends from.
//!
//! A fork goes on with the history of its parent, in epochs of its own: the first one is greater than that of the commit
//! that it begins at. So an epoch tells whose a commit or an object of pages is; of everything else the key does, since
//! each begins with the id of its volume.

use std::sync::Arc;

use parking_lot::RwLock;
use rfs_backends::{Store, StoreError};
use rfs_core::{CommitId, PageObject, Timestamp};

use crate::Keys;
use crate::objects::{Ancestor, Location, Origin, Superblock};

/// A volume and those that it descends from. Clones are the same.
#[derive(Clone, Debug)]
pub struct Lineage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own: Home,
    /// When it was made.
    created: Timestamp,
    origin: RwLock<Option<Descent>>,
}

/// What a fork begins at, and whose objects it borrows.
#[derive(Debug)]
struct Descent {
    origin: Origin,
    /// Oldest first.
    ancestors: Vec<Opened>,
    pin: Option<(Home, u128)>,
}

#[derive(Clone, Debug)]
struct Opened {
    home: Home,
    last_epoch: u64,
}

/// Where the objects of one volume are.
#[derive(Clone, Debug)]
pub struct Home {
    /// The store.
    pub store: Store,
    /// Their names in it.
    pub keys: Keys,
}

impl Lineage {
    /// A volume that is no fork, or of which nothing but its own objects is asked for.
    #[must_use]
    pub fn alone(store: Store, keys: Keys, created: Timestamp) -> Self {
        Self(Arc::new(Inner { own: Home { store, keys }, created, origin: RwLock::default() }))
    }

    /// The volume with this superblock, in `store`.
    ///
    /// # Errors
    /// The URL of a volume that it borrows from cannot be opened.
    pub fn of(store: Store, superblock: &Superblock) -> Result<Self, StoreError> {
        let lineage = Self::alone(store, Keys(superblock.volume), superblock.created);
        lineage.set_origin(superblock.origin.clone())?;
        Ok(lineage)
    }

    /// Its objects are found as this origin says from now on.
    ///
    /// # Errors
    /// As [`Lineage::of`].
    pub fn set_origin(&self, origin: Option<Origin>) -> Result<(), StoreError> {
        let store = &self.0.own.store;
        let descent = match origin {
            None => None,
            Some(origin) => {
                let ancestors = origin.ancestors.iter().map(|ancestor| {
                    let home = Home { store: ancestor.location.open(store)?, keys: Keys(ancestor.volume) };
                    Ok(Opened { home, last_epoch: ancestor.last_epoch })
                });
                let ancestors = ancestors.collect::<Result<_, StoreError>>()?;
                let pin = origin.pin.as_ref().map(|pin| {
                    let home = Home { store: pin.location.open(store)?, keys: Keys(pin.volume) };
                    Ok::<_, StoreError>((home, pin.id))
                });
                let pin = pin.transpose()?;
                Some(Descent { origin, ancestors, pin })
            }
        };
        *self.0.origin.write() = descent;
        Ok(())
    }

    /// Where the volume's own objects are.
    #[must_use]
    pub fn own(&self) -> Home {
        self.0.own.clone()
    }

    /// The volume's own store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.own.store
    }

    /// The names of the volume's own objects.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.0.own.keys
    }

    /// When the volume that the whole history begins in was made.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        let descent = self.0.origin.read();
        let oldest = descent.as_ref().and_then(|descent| descent.origin.ancestors.first());
        oldest.map_or(self.0.created, |oldest| oldest.created)
    }

    /// What a fork of this volume descends from that begins at a commit of it and has its objects in `store`.
    #[must_use]
    pub fn ancestors_of_fork(&self, at: CommitId, store: &Store) -> Vec<Ancestor> {
        let descent = self.0.origin.read();
        let mut ancestors = Vec::new();
        for (known, said) in
            descent.iter().flat_map(|descent| descent.ancestors.iter().zip(&descent.origin.ancestors))
        {
            let location = Location::of(&known.home.store, store);
            let last_epoch = known.last_epoch.min(at.epoch);
            ancestors.push(Ancestor { last_epoch, location, ..said.clone() });
            if at.epoch <= known.last_epoch {
                return ancestors;
            }
        }
        let location = Location::of(self.store(), store);
        let (volume, created) = (self.keys().0, self.0.created);
        ancestors.push(Ancestor { volume, created, last_epoch: at.epoch, location });
        ancestors
    }

    /// The origin with everything in copies beside the volume's own objects.
    #[must_use]
    pub fn detached_origin(&self) -> Option<Origin> {
        let mut origin = self.origin()?;
        for ancestor in &mut origin.ancestors {
            ancestor.location = Location::of(self.store(), self.store());
        }
        Some(origin)
    }

    /// What it begins at, if it is a fork.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.0.origin.read().as_ref().map(|descent| descent.origin.clone())
    }

    /// The pin that keeps what it borrows, and whose that is.
    #[must_use]
    pub fn pin(&self) -> Option<(Home, u128)> {
        self.0.origin.read().as_ref().and_then(|descent| descent.pin.clone())
    }

    /// The commit that it begins at, if it is a fork.
    #[must_use]
    pub fn begins_at(&self) -> Option<CommitId> {
        self.0.origin.read().as_ref().map(|descent| descent.origin.at.id)
    }

    /// Where the first fence of the volume stands.
    #[must_use]
    pub fn first_slot(&self) -> CommitId {
        CommitId { epoch: self.begins_at().map_or(0, |at| at.epoch + 1), number: 0 }
    }

    /// Where the objects are that were made in an epoch.
    #[must_use]
    pub fn of_epoch(&self, epoch: u64) -> Home {
        let descent = self.0.origin.read();
        let mut ancestors = descent.iter().flat_map(|descent| &descent.ancestors);
        let ancestor = ancestors.find(|ancestor| epoch <= ancestor.last_epoch);
        ancestor.map_or(&self.0.own, |ancestor| &ancestor.home).clone()
    }

    /// The volume whose collections could delete what a state of an epoch needs, and whose pins keep it. Where the objects
    /// are copies, that is not the volume that they are named after.
    #[must_use]
    pub fn keeper_of_epoch(&self, epoch: u64) -> Home {
        let home = self.of_epoch(epoch);
        let own = self.own();
        let pinned = self.pin().map(|(pinned, _)| pinned);
        let keepers = [Some(own), pinned].into_iter().flatten();
        keepers.into_iter().find(|keeper| keeper.is_at(&home)).unwrap_or(home)
    }

    /// The name of an object of pages.
    #[must_use]
    pub fn page_key(&self, object: PageObject) -> String {
        self.of_epoch(object.epoch).keys.pages_of(object)
    }

    /// Where an object is.
    #[must_use]
    pub fn of_key(&self, key: &str) -> Home {
        let descent = self.0.origin.read();
        let mut ancestors = descent.iter().flat_map(|descent| &descent.ancestors);
        let ancestor = ancestors.find(|ancestor| ancestor.home.keys.is_named(key));
        ancestor.map_or(&self.0.own, |ancestor| &ancestor.home).clone()
    }

    /// Whether an object is another volume's.
    #[must_use]
    pub fn is_borrowed(&self, key: &str) -> bool {
        let home = self.of_key(key);
        home.keys != self.keys() && !self.is_own_place(&home)
    }

    /// The volumes that it descends from and whose objects it has at its own place: copies.
    #[must_use]
    pub fn detached(&self) -> Vec<Keys> {
        let descent = self.0.origin.read();
        let ancestors = descent.iter().flat_map(|descent| &descent.ancestors);
        let at_home = ancestors.filter(|ancestor| self.is_own_place(&ancestor.home));
        at_home.map(|ancestor| ancestor.home.keys).collect()
    }

    fn is_own_place(&self, home: &Home) -> bool {
        self.0.own.is_at(home)
    }
}

impl Home {
    /// Whether both are at one place, whatever the names.
    fn is_at(&self, other: &Self) -> bool {
        self.store.is_same_backend(&other.store) && self.store.prefix() == other.store.prefix()
    }
}

impl Location {
    /// Where `store` is, for somebody who has the store `from`.
    #[must_use]
    pub fn of(store: &Store, from: &Store) -> Self {
        let prefix = store.is_same_backend(from).then(|| store.prefix().to_string());
        Self { url: store.url().to_owned(), prefix }
    }

    fn open(&self, from: &Store) -> Result<Store, StoreError> {
        match &self.prefix {
            Some(prefix) if *prefix == from.prefix().as_ref() => Ok(from.clone()),
            Some(prefix) => Ok(from.at_prefix(&self.url, prefix.as_str().into())),
            None => from.sibling(&self.url),
        }
    }
}
