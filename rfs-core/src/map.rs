//! The persistent ordered map that the tree is made of.
//!
//! It shares structure: cloning is O(1), and a clone stays as it was while the original goes on. This module is
//! the only one that knows which library provides it.

mod page_ref;

use std::fmt::{self, Debug};
use std::ops::RangeBounds;

use equivalent::Comparable;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
pub use page_ref::{PageObject, PageRef};

/// A persistent ordered map.
#[derive(Clone)]
pub struct Map<K, V>(OrdMap<K, V>);

impl<K: Ord + Debug, V: Debug> Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

/// How one key differs between two maps.
#[derive(Debug)]
pub(crate) struct Difference<'a, K, V> {
    pub(crate) key: &'a K,
    pub(crate) old: Option<&'a V>,
    pub(crate) new: Option<&'a V>,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(OrdMap::default())
    }
}

impl<K: Ord + Clone + PartialEq, V: Clone + PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.diff(&other.0).next().is_none()
    }
}

impl<K: Ord + Clone + Eq, V: Clone + Eq> Eq for Map<K, V> {}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// How many keys it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// All pairs, in order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter()
    }

    /// The pairs whose keys are in the range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.range(range)
    }

    /// The pair of a key that is given in a borrowed form.
    pub(crate) fn find<Q: Comparable<K> + ?Sized>(&self, key: &Q) -> Option<(&K, &V)> {
        self.0.get_key_value(key)
    }

    /// The greatest pair whose key is at most `key`.
    pub(crate) fn at_or_before(&self, key: &K) -> Option<(&K, &V)> {
        self.0.get_prev(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }
}

impl<K: Ord + Clone + PartialEq, V: Clone + PartialEq> Map<K, V> {
    /// What must change in `old` to make it this map. Shared structure is skipped, so the time follows the
    /// difference.
    pub(crate) fn since<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = Difference<'a, K, V>> {
        old.0.diff(&self.0).map(|item| match item {
            DiffItem::Add(key, new) => Difference { key, old: None, new: Some(new) },
            DiffItem::Remove(key, old) => Difference { key, old: Some(old), new: None },
            DiffItem::Update { old, new } => Difference { key: new.0, old: Some(old.1), new: Some(new.1) },
        })
    }
}
