//! The tree as a list of independent items: what an image holds.

use serde::{Deserialize, Serialize};

use crate::check::Violations;
use crate::{
    Checkpoint, Cookie, Entry, EntryKey, Extent, Ino, Inode, LockMode, Map, Name, OwnerId, SegmentId,
    Timestamp, Tree, Violation,
};

/// One piece of a tree. The items of a tree are all that is needed to make it again.
///
/// The order of the variants, and of the fields in each, is part of the image's format: a new variant goes to the
/// end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Item {
    /// The number that the next new inode gets. A tree has exactly one.
    NextIno(Ino),
    /// An inode.
    Inode(Ino, Inode),
    /// A directory entry.
    Entry(EntryKey, Entry),
    /// A run of a file's bytes.
    Extent {
        /// The file.
        ino: Ino,
        /// File offset of the first byte.
        offset: u64,
        /// Where the bytes are.
        extent: Extent,
    },
    /// A lock.
    Lock {
        /// The file.
        ino: Ino,
        /// Who holds it.
        owner: OwnerId,
        /// How.
        mode: LockMode,
    },
    /// A named commit.
    Checkpoint {
        /// The name.
        name: String,
        /// What it names.
        checkpoint: Checkpoint,
    },
}

impl Tree {
    /// The items of the tree, in an order that depends on the tree alone.
    ///
    /// ```
    /// use rfs_core::{Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// assert_eq!(Tree::from_items(tree.items()), Ok(tree));
    /// ```
    pub fn items(&self) -> impl Iterator<Item = Item> + '_ {
        let inodes = self.inodes.iter().map(|(ino, inode)| Item::Inode(*ino, inode.clone()));
        let entries = self.entries.iter().map(|(key, entry)| Item::Entry(key.clone(), *entry));
        let extents = self.extents.iter().map(|(key, extent)| item_of_extent(*key, *extent));
        let locks = self.locks.iter().map(|(key, mode)| Item::Lock { ino: key.0, owner: key.1, mode: *mode });
        let checkpoints = self
            .checkpoints
            .iter()
            .map(|(name, checkpoint)| Item::Checkpoint { name: name.clone(), checkpoint: *checkpoint });
        std::iter::once(Item::NextIno(self.next_ino))
            .chain(inodes)
            .chain(entries)
            .chain(extents)
            .chain(locks)
            .chain(checkpoints)
    }

    /// Makes a tree of its items, in any order, and checks it.
    ///
    /// # Errors
    /// The items are not those of a tree: some of the reasons, as [`Tree::check`] gives them.
    pub fn from_items(items: impl IntoIterator<Item = Item>) -> Result<Self, Vec<Violation>> {
        let mut violations = Violations::default();
        let mut tree = Self::new(Timestamp::default());
        tree.inodes = Map::default();
        let mut next_ino = None;
        for item in items {
            match item {
                Item::NextIno(ino) => {
                    if next_ino.replace(ino).is_some() {
                        violations.tree("its next inode number is there twice");
                    }
                }
                Item::Inode(ino, inode) => {
                    if tree.inodes.insert(ino, inode).is_some() {
                        violations.inode(ino, "is there twice");
                    }
                }
                Item::Entry(key, entry) => {
                    if tree.entries.insert(key.clone(), entry).is_some() {
                        violations.entry(&key, "is there twice");
                    }
                }
                Item::Extent { ino, offset, extent } => {
                    if tree.extents.insert((ino, offset), extent).is_some() {
                        violations.extent(ino, offset, "is there twice");
                    }
                }
                Item::Lock { ino, owner, mode } => {
                    if tree.locks.insert((ino, owner), mode).is_some() {
                        violations.lock(ino, owner, "is there twice");
                    }
                }
                Item::Checkpoint { name, checkpoint } => {
                    if tree.checkpoints.insert(name.clone(), checkpoint).is_some() {
                        violations.checkpoint(&name, "is there twice");
                    }
                }
            }
        }
        match next_ino {
            Some(ino) => tree.next_ino = ino,
            None => violations.tree("its next inode number is missing"),
        }
        tree.derive(&mut violations);
        violations.into_result()?;
        tree.check()?;
        Ok(tree)
    }

    /// Fills the maps that follow from the others.
    fn derive(&mut self, violations: &mut Violations) {
        let mut listing: Map<(Ino, Cookie), Name> = Map::default();
        for (key, entry) in self.entries.iter() {
            if listing.insert((key.parent, entry.cookie), key.name.clone()).is_some() {
                violations.entry(key, "another entry of the directory has its cookie");
            }
        }
        self.listing = listing;
        let mut orphans = Map::default();
        for (ino, inode) in self.inodes.iter() {
            if inode.nlink == 0 {
                orphans.insert(*ino, ());
            }
        }
        self.orphans = orphans;
        let mut segments: Map<SegmentId, u64> = Map::default();
        for ((ino, offset), extent) in self.extents.iter() {
            let live = segments.get(&extent.place.segment).copied().unwrap_or(0);
            match live.checked_add(extent.len) {
                Some(live) => {
                    segments.insert(extent.place.segment, live);
                }
                None => violations.extent(*ino, *offset, "its segment would hold over 2^64 live bytes"),
            }
        }
        self.segments = segments;
    }
}

const fn item_of_extent((ino, offset): (Ino, u64), extent: Extent) -> Item {
    Item::Extent { ino, offset, extent }
}
