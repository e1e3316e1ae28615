//! What came from the store, in memory, the oldest let go first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Values up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    budget: u64,
    bytes: u64,
    values: HashMap<K, (V, u64)>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(budget: u64) -> Self {
        Self { budget, bytes: 0, values: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    pub(crate) fn insert(&mut self, key: K, value: V, bytes: u64) {
        if self.values.contains_key(&key) {
            return;
        }
        self.bytes += bytes;
        self.order.push_back(key);
        self.values.insert(key, (value, bytes));
        while self.bytes > self.budget
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some((_, bytes)) = self.values.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
    }
}
