//! A tree whose nodes are stored as pages: to be stored, opened again, and let go of in part.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Cookie, Entry, EntryKey, Extent, Footprint, Held, Ino, Inode, Item, LockRange, Map, Missing, Name,
    NodeView, PageRef, Root, SegmentId, Stored, Tree, Usage, XattrName, XattrValue,
};

/// A stored tree: where the roots of its maps are, and what is always in memory. The order of the fields is part of
/// the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTree {
    /// Of the map of inodes.
    pub inodes: Root,
    /// Of the map of directory entries, by name.
    pub entries: Root,
    /// Of the map of directory entries, by cookie.
    pub listing: Root,
    /// Of the map of directory entries, by what they lead to. Where it is empty and there are entries, it was not stored.
    pub links: Root,
    /// Of the map of extents.
    pub extents: Root,
    /// Of the map of extended attributes.
    pub xattrs: Root,
    /// Of the map of live bytes by segment.
    pub segments: Root,
    /// The number that the next new inode gets.
    pub next_ino: Ino,
    /// Bytes of all extents.
    pub allocated: u64,
    /// What each user owns.
    pub users: Vec<(u32, Usage)>,
    /// Inodes without a name.
    pub orphans: Vec<Ino>,
    /// Who holds them, locks, checkpoints, quotas.
    pub items: Vec<Item>,
}

/// A node of one of a tree's maps, to be stored.
#[derive(Clone, Debug)]
pub enum TreeNode<'a> {
    /// Of the map of inodes.
    Inodes(NodeView<'a, Ino, Inode>),
    /// Of the map of directory entries, by name.
    Entries(NodeView<'a, EntryKey, Entry>),
    /// Of the map of directory entries, by cookie.
    Listing(NodeView<'a, (Ino, Cookie), Name>),
    /// Of the map of directory entries, by what they lead to.
    Links(NodeView<'a, (Ino, Ino, Cookie), ()>),
    /// Of the map of extents.
    Extents(NodeView<'a, (Ino, u64), Extent>),
    /// Of the map of extended attributes.
    Xattrs(NodeView<'a, (Ino, XattrName), XattrValue>),
    /// Of the map of live bytes by segment.
    Segments(NodeView<'a, SegmentId, u64>),
}

/// What is always in memory of a stored tree does not fit together: it is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the stored tree {0}")]
pub struct StoredTreeError(String);

impl Tree {
    /// Gives a page to every node that has none: `put` encodes a node and says where it is going to be. When all these
    /// pages can be fetched, [`Stored::mark`] is to be called.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn store<E>(
        &self,
        stored: &mut Stored,
        mut put: impl FnMut(TreeNode<'_>) -> Result<PageRef, E>,
    ) -> Result<StoredTree, E> {
        Ok(StoredTree {
            inodes: self.inodes.store(stored, &mut |node| put(TreeNode::Inodes(node)))?,
            entries: self.entries.store(stored, &mut |node| put(TreeNode::Entries(node)))?,
            listing: self.listing.store(stored, &mut |node| put(TreeNode::Listing(node)))?,
            links: self.links.store(stored, &mut |node| put(TreeNode::Links(node)))?,
            extents: self.extents.store(stored, &mut |node| put(TreeNode::Extents(node)))?,
            xattrs: self.xattrs.store(stored, &mut |node| put(TreeNode::Xattrs(node)))?,
            segments: self.segments.store(stored, &mut |node| put(TreeNode::Segments(node)))?,
            next_ino: self.next_ino,
            allocated: self.allocated,
            users: self.users.iter().map(|(uid, usage)| (*uid, *usage)).collect(),
            orphans: self.orphans.iter().map(|(ino, ())| *ino).collect(),
            items: self.resident_items().collect(),
        })
    }

    /// The tree that was stored. None of its pages is loaded.
    ///
    /// # Errors
    /// What is always in memory does not fit together.
    pub fn open(stored: StoredTree) -> Result<Self, StoredTreeError> {
        let roots = [
            stored.inodes,
            stored.entries,
            stored.listing,
            stored.links,
            stored.extents,
            stored.xattrs,
            stored.segments,
        ];
        if !roots.iter().all(Root::is_sound) {
            return Err(StoredTreeError("has a map whose root, height and length do not fit".to_owned()));
        }
        let mut tree = Self::new(crate::Timestamp::default());
        tree.inodes = Map::open(stored.inodes);
        tree.entries = Map::open(stored.entries);
        tree.listing = Map::open(stored.listing);
        tree.links = Map::open(stored.links);
        tree.extents = Map::open(stored.extents);
        tree.xattrs = Map::open(stored.xattrs);
        tree.segments = Map::open(stored.segments);
        tree.next_ino = stored.next_ino;
        tree.allocated = stored.allocated;
        tree.users = crate::Resident::default();
        let twice = |what: String| StoredTreeError(format!("has {what} twice"));
        for (uid, usage) in stored.users {
            if tree.users.insert(uid, usage).is_some() {
                return Err(twice(format!("the user {uid}")));
            }
        }
        for ino in stored.orphans {
            if tree.orphans.insert(ino, ()).is_some() {
                return Err(twice(format!("the nameless inode {ino}")));
            }
        }
        for item in stored.items {
            match tree.put_resident(item) {
                Ok(false) => {}
                Ok(true) => return Err(twice("a lock, a name or another item".to_owned())),
                Err(item) => return Err(StoredTreeError(format!("has {item:?} outside of its pages"))),
            }
        }
        if let Some(lock) = tree.range_locks.iter().find_map(|(&(_, _, start), lock)| {
            let range = LockRange { start, end: lock.end };
            (!range.is_valid()).then_some(range)
        }) {
            return Err(StoredTreeError(format!("has a lock of {lock:?}, which is no range")));
        }
        Ok(tree)
    }

    /// Whether it was stored without the map of its entries by what they lead to: before it is used [`Tree::index_links`]
    /// has to be called.
    #[must_use]
    pub const fn lacks_links(&self) -> bool {
        self.links.is_empty() && !self.entries.is_empty()
    }

    /// Makes the map of the entries by what they lead to, of the entries, all of which have to be loaded.
    ///
    /// # Errors
    /// A page is missing.
    pub fn index_links(&mut self) -> Result<(), Missing> {
        let links = self.entries.iter().map(|pair| {
            let (key, entry) = pair?;
            Ok((entry.ino, key.parent, entry.cookie))
        });
        let mut links = links.collect::<Result<Vec<_>, Missing>>()?;
        links.sort_unstable();
        // A damaged tree may have an entry's place twice, as `Tree::check` will say.
        links.dedup();
        self.links = Map::from_ascending(links.into_iter().map(|link| (link, ())));
        Ok(())
    }

    /// How much of its pages is in memory.
    #[must_use]
    pub fn held(&self) -> Held {
        let sum = |sum: Held, (_, map): (_, Held)| Held {
            clean: sum.clean + map.clean,
            dirty: sum.dirty + map.dirty,
        };
        self.held_by_map().into_iter().fold(Held::default(), sum)
    }

    /// The same of each of its maps that has pages: what is in the map, and how much of it is in memory.
    #[must_use]
    pub fn held_by_map(&self) -> [(&'static str, Held); 7] {
        [
            ("inodes", self.inodes.held()),
            ("entries", self.entries.held()),
            ("listings", self.listing.held()),
            ("links", self.links.held()),
            ("extents", self.extents.held()),
            ("xattrs", self.xattrs.held()),
            ("segments", self.segments.held()),
        ]
    }

    /// Lets go of pages that are stored and that nobody needed since they were aged, and gives how many bytes they held. What snapshots share with it is held by these still.
    pub fn evict(&mut self) -> usize {
        self.inodes.evict()
            + self.entries.evict()
            + self.listing.evict()
            + self.links.evict()
            + self.extents.evict()
            + self.xattrs.evict()
            + self.segments.evict()
    }

    /// From now on the pages that are loaded count as not needed, until somebody needs them.
    pub fn age(&self) {
        self.inodes.age();
        self.entries.age();
        self.listing.age();
        self.links.age();
        self.extents.age();
        self.xattrs.age();
        self.segments.age();
    }

    /// Nodes with `unwanted` pages lose them, so that the next image stores them again: the tree stays the same. Gives how
    /// many bytes these pages have. Snapshots keep them.
    ///
    /// # Errors
    /// Pages are missing; what was done before is not undone.
    pub fn forget_pages(&mut self, unwanted: &dyn Fn(&PageRef) -> bool) -> Result<u64, Missing> {
        Ok(self.inodes.forget_pages(unwanted)?
            + self.entries.forget_pages(unwanted)?
            + self.listing.forget_pages(unwanted)?
            + self.links.forget_pages(unwanted)?
            + self.extents.forget_pages(unwanted)?
            + self.xattrs.forget_pages(unwanted)?
            + self.segments.forget_pages(unwanted)?)
    }

    /// Visits the pages of this tree but for `kept` ones, and those that these lead to. Of leaves only the place is
    /// needed.
    ///
    /// # Errors
    /// The page of a branch is missing.
    pub fn pages_but(
        &self,
        kept: &dyn Fn(&PageRef) -> bool,
        each: &mut dyn FnMut(PageRef),
    ) -> Result<(), Missing> {
        self.inodes.pages_but(kept, each)?;
        self.entries.pages_but(kept, each)?;
        self.listing.pages_but(kept, each)?;
        self.links.pages_but(kept, each)?;
        self.extents.pages_but(kept, each)?;
        self.xattrs.pages_but(kept, each)?;
        self.segments.pages_but(kept, each)
    }
}

impl Footprint for Ino {}
impl Footprint for SegmentId {}
impl Footprint for u64 {}
impl Footprint for Entry {}
impl Footprint for Extent {}
impl Footprint for (Ino, u64) {}
impl Footprint for (Ino, Ino, Cookie) {}
impl Footprint for () {}
impl Footprint for (Ino, Cookie) {}

impl Footprint for Inode {
    fn heap_bytes(&self) -> usize {
        match &self.body {
            crate::Body::Symlink { target } => target.len() + HEAP,
            _ => 0,
        }
    }
}

impl Footprint for EntryKey {
    fn heap_bytes(&self) -> usize {
        self.name.heap_bytes()
    }
}

impl Footprint for Name {
    fn heap_bytes(&self) -> usize {
        self.long_bytes().map_or(0, |bytes| bytes + HEAP)
    }
}

impl Footprint for (Ino, XattrName) {
    fn heap_bytes(&self) -> usize {
        self.1.as_bytes().len() + HEAP
    }
}

impl Footprint for XattrValue {
    fn heap_bytes(&self) -> usize {
        self.as_bytes().len() + HEAP
    }
}

/// What a shared run of bytes takes beside the bytes: two counts, and what the allocator needs.
const HEAP: usize = 2 * size_of::<usize>() + 8;

#[cfg(test)]
mod tests;
