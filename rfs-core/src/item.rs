//! The tree as a list of independent items: what an image holds.

use serde::{Deserialize, Serialize};

use crate::check::Violations;
use crate::tree::RangeLock;
use crate::{
    Checkpoint, Entry, EntryKey, Extent, Ino, Inode, Limits, LockMode, LockOwner, LockRange, Missing,
    OwnerId, QuotaSubject, Resident, SegmentId, Timestamp, Tree, Violation, XattrName, XattrValue,
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
    /// A whole-file lock, in images of format version 1: of owner 0, with this number as key.
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
    // Since format version 2.
    /// An extended attribute.
    Xattr {
        /// The inode.
        ino: Ino,
        /// Its name.
        name: XattrName,
        /// Its value.
        value: XattrValue,
    },
    /// An inode without a name that an owner holds open.
    Hold {
        /// The inode.
        ino: Ino,
        /// Who holds it.
        owner: OwnerId,
    },
    /// An inode that never had a name, and may get one.
    Linkable(Ino),
    /// A whole-file lock.
    FileLock {
        /// The file.
        ino: Ino,
        /// Who holds it.
        owner: LockOwner,
        /// How.
        mode: LockMode,
    },
    /// A byte-range lock.
    RangeLock {
        /// The file.
        ino: Ino,
        /// Who holds it.
        owner: LockOwner,
        /// Which bytes.
        range: LockRange,
        /// How.
        mode: LockMode,
    },
    /// A quota.
    Quota {
        /// Of whom.
        subject: QuotaSubject,
        /// The limits, at least one.
        limits: Limits,
    },
}

impl Tree {
    /// The items of the tree, in an order that depends on the tree alone.
    ///
    /// ```
    /// use rfs_core::{Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// let again = Tree::from_items(tree.items()?);
    /// assert_eq!(again, Ok(tree));
    /// # Ok::<(), rfs_core::Missing>(())
    /// ```
    ///
    /// # Errors
    /// A page is missing: all of them have to be loaded.
    pub fn items(&self) -> Result<impl Iterator<Item = Item> + '_, Missing> {
        self.whole()?;
        let inodes = self.inodes.loaded().map(|(ino, inode)| Item::Inode(*ino, inode.clone()));
        let entries = self.entries.loaded().map(|(key, entry)| Item::Entry(key.clone(), *entry));
        let extents = self.extents.loaded().map(|(key, extent)| item_of_extent(*key, *extent));
        let xattrs = self.xattrs.loaded().map(|((ino, name), value)| Item::Xattr {
            ino: *ino,
            name: name.clone(),
            value: value.clone(),
        });
        let items = std::iter::once(Item::NextIno(self.next_ino))
            .chain(inodes)
            .chain(entries)
            .chain(extents)
            .chain(xattrs)
            .chain(self.resident_items());
        Ok(items)
    }

    /// The items that are always in memory.
    pub(crate) fn resident_items(&self) -> impl Iterator<Item = Item> + '_ {
        let holds = self.holds.iter().map(|(key, ())| Item::Hold { ino: key.0, owner: key.1 });
        let linkable = self.linkable.iter().map(|(ino, ())| Item::Linkable(*ino));
        let file_locks = self.file_locks.iter().map(|(key, mode)| Item::FileLock {
            ino: key.0,
            owner: key.1,
            mode: *mode,
        });
        let range_locks = self.range_locks.iter().map(|(&(ino, owner, start), lock)| Item::RangeLock {
            ino,
            owner,
            range: LockRange { start, end: lock.end },
            mode: lock.mode,
        });
        let quotas =
            self.quotas.iter().map(|(subject, limits)| Item::Quota { subject: *subject, limits: *limits });
        let checkpoints = self
            .checkpoints
            .iter()
            .map(|(name, checkpoint)| Item::Checkpoint { name: name.clone(), checkpoint: *checkpoint });
        holds.chain(linkable).chain(file_locks).chain(range_locks).chain(checkpoints).chain(quotas)
    }

    /// Puts an item in place that is always in memory, and tells whether it was there; any other it gives back.
    pub(crate) fn put_resident(&mut self, item: Item) -> Result<bool, Item> {
        Ok(match item {
            Item::Lock { ino, owner, mode } => {
                let owner = LockOwner { owner: OwnerId(0), key: owner.0 };
                self.file_locks.insert((ino, owner), mode).is_some()
            }
            Item::FileLock { ino, owner, mode } => self.file_locks.insert((ino, owner), mode).is_some(),
            Item::RangeLock { ino, owner, range, mode } => {
                let lock = RangeLock { end: range.end, mode };
                self.range_locks.insert((ino, owner, range.start), lock).is_some()
            }
            Item::Hold { ino, owner } => self.holds.insert((ino, owner), ()).is_some(),
            Item::Linkable(ino) => self.linkable.insert(ino, ()).is_some(),
            Item::Quota { subject, limits } => self.quotas.insert(subject, limits).is_some(),
            Item::Checkpoint { name, checkpoint } => self.checkpoints.insert(name, checkpoint).is_some(),
            paged => return Err(paged),
        })
    }

    /// Makes a tree of its items, in any order, and checks it.
    ///
    /// # Errors
    /// The items are not those of a tree: some of the reasons, as [`Tree::check`] gives them.
    pub fn from_items(items: impl IntoIterator<Item = Item>) -> Result<Self, Vec<Violation>> {
        let mut violations = Violations::default();
        let mut tree = Self::new(Timestamp::default());
        let mut paged = Paged::default();
        let mut next_ino = None;
        for item in items {
            match item {
                Item::NextIno(ino) => {
                    if next_ino.replace(ino).is_some() {
                        violations.tree("its next inode number is there twice");
                    }
                }
                Item::Inode(ino, inode) => {
                    let inode = Inode { allocated: 0, ..inode };
                    if paged.inodes.insert(ino, inode).is_some() {
                        violations.inode(ino, "is there twice");
                    }
                }
                Item::Entry(key, entry) => {
                    if paged.entries.insert(key.clone(), entry).is_some() {
                        violations.entry(&key, "is there twice");
                    }
                }
                Item::Extent { ino, offset, extent } => {
                    if paged.extents.insert((ino, offset), extent).is_some() {
                        violations.extent(ino, offset, "is there twice");
                    }
                }
                Item::Xattr { ino, name, value } => {
                    if paged.xattrs.insert((ino, name.clone()), value).is_some() {
                        violations.inode(ino, format!("its attribute {name} is there twice"));
                    }
                }
                resident => {
                    let what = format!("{resident:?} is there twice");
                    if tree.put_resident(resident) == Ok(true) {
                        violations.tree(what);
                    }
                }
            }
        }
        match next_ino {
            Some(ino) => tree.next_ino = ino,
            None => violations.tree("its next inode number is missing"),
        }
        paged.derive(&mut tree, &mut violations);
        violations.into_result()?;
        tree.check()?;
        Ok(tree)
    }
}

/// The maps that are stored in pages, while a tree is made of items.
#[derive(Default)]
struct Paged {
    inodes: Resident<Ino, Inode>,
    entries: Resident<EntryKey, Entry>,
    extents: Resident<(Ino, u64), Extent>,
    xattrs: Resident<(Ino, XattrName), XattrValue>,
}

impl Paged {
    /// Puts them in place, with the maps that follow from them.
    fn derive(mut self, tree: &mut Tree, violations: &mut Violations) {
        let (mut listing, mut links) = (Resident::default(), Resident::default());
        for (key, entry) in self.entries.iter() {
            if listing.insert((key.parent, entry.cookie), key.name.clone()).is_some() {
                violations.entry(key, "another entry of the directory has its cookie");
            }
            links.insert((entry.ino, key.parent, entry.cookie), ());
        }
        tree.listing = listing.into_map();
        tree.links = links.into_map();
        for (ino, inode) in self.inodes.iter() {
            if inode.nlink == 0 {
                tree.orphans.insert(*ino, ());
            }
        }
        self.count_stored(tree, violations);
        tree.inodes = self.inodes.into_map();
        tree.entries = self.entries.into_map();
        tree.extents = self.extents.into_map();
        tree.xattrs = self.xattrs.into_map();
        tree.users = Resident::default();
        for (uid, used) in tree.usage_by_user() {
            tree.users.insert(uid, used);
        }
    }

    /// Counts what extents refer to: by segment, by inode, and in the whole.
    fn count_stored(&mut self, tree: &mut Tree, violations: &mut Violations) {
        let mut segments: Resident<SegmentId, u64> = Resident::default();
        for ((ino, offset), extent) in self.extents.iter() {
            let Some(total) = tree.allocated.checked_add(extent.len) else {
                violations.extent(*ino, *offset, "the tree would store over 2^64 bytes");
                continue;
            };
            tree.allocated = total;
            // Neither overflows: both are parts of the total.
            if let Some(live) = segments.get_mut(&extent.place.segment) {
                *live += extent.len;
            } else {
                segments.insert(extent.place.segment, extent.len);
            }
            if let Some(inode) = self.inodes.get_mut(ino) {
                inode.allocated += extent.len;
            }
        }
        tree.segments = segments.into_map();
    }
}

const fn item_of_extent((ino, offset): (Ino, u64), extent: Extent) -> Item {
    Item::Extent { ino, offset, extent }
}
