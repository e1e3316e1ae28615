//! The persistent ordered map that the tree is made of: a B+tree whose nodes are loaded, or stored as a page, or both.
//!
//! - Cloning is O(1): clones share nodes, and a node that is shared is copied before it is changed.
//! - A node that is not loaded is a [`PageRef`]. Who needs it is told so by [`Missing`], before anything is changed;
//!   the caller fetches the page, gives it to [`Missing::fill`], and tries again. A page that one map loads is there
//!   for all that share it.
//! - A node that was changed since it was stored is dirty: it has no page. [`Map::store`] visits just those.
//! - Clean nodes can be let go of: [`Map::evict`].
//!
//! Nodes are split when they are full: in the middle, or at the end when keys come in ascending order, so that they
//! are filled whole then. A node that gets thin is joined with a neighbour that is loaded; nothing is loaded for that.
//! So a leaf may be empty: taking it away would give its keys to a neighbour that is not loaded, and what was loaded for
//! a change would not do for it any more. The structure goes back to Comer, "The Ubiquitous B-Tree" (1979);
//! copying the path to what changes, to Rodeh, "B-trees, Shadowing, and Clones" (2008).

mod edit;
mod node;
mod page_ref;
mod range;
mod resident;
mod since;
mod stored;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::ops::RangeBounds;

use equivalent::Comparable;

pub use node::{BRANCH_MAX, LEAF_MAX};
use node::{Child, Node, Within};
pub use page_ref::{PageObject, PageRef};
pub use range::Range;
pub use resident::Resident;
pub use since::{Difference, Lacking};
pub use stored::{Footprint, Held, Missing, NodeParts, NodeView, NotLoaded, Root, Stored, Unfit};

/// What a key of a map is.
pub trait Key: Ord + Clone + Debug + Send + Sync + 'static {}
impl<K: Ord + Clone + Debug + Send + Sync + 'static> Key for K {}

/// What a value of a map is.
pub trait Value: Clone + PartialEq + Debug + Send + Sync + 'static {}
impl<V: Clone + PartialEq + Debug + Send + Sync + 'static> Value for V {}

/// A persistent ordered map whose nodes may be stored elsewhere.
///
/// ```
/// use rfs_core::Map;
/// let mut map: Map<u64, &str> = Map::default();
/// map.insert(2, "two")?;
/// let before = map.clone();
/// map.insert(1, "one")?;
/// assert_eq!((before.len(), map.len(), map.get(&1)), (1, 2, Ok(Some(&"one"))));
/// # Ok::<(), rfs_core::NotLoaded>(())
/// ```
pub struct Map<K, V> {
    root: Child<K, V>,
    /// How many levels of branches are above the leaves.
    height: u8,
    len: u64,
    /// Whether every node is known to be loaded: nothing has to be looked for before a change then.
    complete: bool,
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), height: self.height, len: self.len, complete: self.complete }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { root: Child::empty(), height: 0, len: 0, complete: true }
    }
}

impl<K: Key, V: Value> Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for pair in self {
            match pair {
                Ok((key, value)) => map.entry(key, value),
                Err(missing) => map.entry(&missing.page(), &"not loaded"),
            };
        }
        map.finish()
    }
}

/// Two maps are equal when they have the same pairs. Where that cannot be told without pages that are not loaded,
/// they are not.
impl<K: Key, V: Value> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.since(other).next().is_none()
    }
}

impl<K: Key, V: Value + Eq> Eq for Map<K, V> {}

impl<'a, K: Key, V: Value> IntoIterator for &'a Map<K, V> {
    type Item = Result<(&'a K, &'a V), Missing>;
    type IntoIter = Range<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> Map<K, V> {
    /// How many keys it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<K: Key, V: Value> Map<K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// A page on the way to it is missing.
    pub fn get(&self, key: &K) -> Result<Option<&V>, Missing> {
        let (mut child, mut within) = (&self.root, Within::ALL);
        loop {
            match child.node(within)? {
                Node::Branch(branch) => {
                    let at = branch.index_of(key);
                    (child, within) = (&branch.children[at], within.child(branch, at));
                }
                Node::Leaf(leaf) => return Ok(leaf.keys.binary_search(key).ok().map(|at| &leaf.values[at])),
            }
        }
    }

    /// Whether the key is there.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn contains_key(&self, key: &K) -> Result<bool, Missing> {
        Ok(self.get(key)?.is_some())
    }

    /// Sees to it that what changes at a key finds all it needs.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn load(&self, key: &K) -> Result<(), Missing> {
        if self.complete { Ok(()) } else { self.get(key).map(drop) }
    }

    /// The pair of a key that is given in a borrowed form.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn find<Q: Comparable<K> + ?Sized>(&self, key: &Q) -> Result<Option<(&K, &V)>, Missing> {
        let (mut child, mut within) = (&self.root, Within::ALL);
        loop {
            match child.node(within)? {
                Node::Branch(branch) => {
                    let at = branch.keys.partition_point(|least| key.compare(least).is_ge());
                    (child, within) = (&branch.children[at], within.child(branch, at));
                }
                Node::Leaf(leaf) => {
                    let found = leaf.keys.binary_search_by(|other| key.compare(other).reverse());
                    return Ok(found.ok().map(|at| leaf.pair(at)));
                }
            }
        }
    }

    /// The greatest pair whose key is at most `key`.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn at_or_before(&self, key: &K) -> Result<Option<(&K, &V)>, Missing> {
        self.last_of(key, |other| other <= key)
    }

    /// The greatest pair whose key is less than `key`.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn before(&self, key: &K) -> Result<Option<(&K, &V)>, Missing> {
        self.last_of(key, |other| other < key)
    }

    /// The last pair that is `before`, which holds up to `key`, or up to just before it.
    fn last_of(&self, key: &K, before: impl Fn(&K) -> bool) -> Result<Option<(&K, &V)>, Missing> {
        self.root.last(Within::ALL, Some(key), &before)
    }

    /// All pairs, in order of their keys. A missing page is told, and ends it.
    #[must_use]
    pub fn iter(&self) -> Range<'_, K, V> {
        self.range(..)
    }

    /// The pairs up to the first missing page, in order of their keys.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = (&K, &V)> {
        self.iter().map_while(Result::ok)
    }

    /// The pairs whose keys are in the range, in order. A missing page is told, and ends it.
    pub fn range(&self, range: impl RangeBounds<K>) -> Range<'_, K, V> {
        Range::new(self, range.start_bound().cloned(), range.end_bound().cloned())
    }
}
