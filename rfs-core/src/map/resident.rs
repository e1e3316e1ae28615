//! Maps that are always in memory: of what is open and locked, and of what a volume's owner names.

use std::fmt::{self, Debug};
use std::ops::RangeBounds;

use super::{Key, Map, Missing, Value};

/// A persistent ordered map that is always loaded, so that it answers at once. What it holds has to be bounded by
/// what is in use, not by what is there.
pub struct Resident<K, V>(Map<K, V>);

const LOADED: &str = "a resident map has no pages";

impl<K, V> Clone for Resident<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Resident<K, V> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<K: Key, V: Value> Debug for Resident<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

impl<K: Key, V: Value> PartialEq for Resident<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Key, V: Value + Eq> Eq for Resident<K, V> {}

impl<K: Key, V: Value> Resident<K, V> {
    /// How many keys it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether it has no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        loaded(self.0.get(key))
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// All pairs, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(loaded)
    }

    /// The pairs whose keys are in the range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.0.range(range).map(loaded)
    }

    pub(crate) fn at_or_before(&self, key: &K) -> Option<(&K, &V)> {
        loaded(self.0.at_or_before(key))
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).expect(LOADED)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value).expect(LOADED)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key).expect(LOADED)
    }

    /// The map, as one that may have pages from now on.
    pub(crate) fn into_map(self) -> Map<K, V> {
        self.0
    }

    /// The map itself.
    pub(crate) const fn as_map(&self) -> &Map<K, V> {
        &self.0
    }
}

fn loaded<T>(answer: Result<T, Missing>) -> T {
    answer.expect(LOADED)
}
