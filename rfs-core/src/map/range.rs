//! Going through a map in order.

use std::ops::Bound;

use super::node::{Leaf, Node, Within};
use super::{Key, Map, Missing, Value};

/// The pairs of a range of keys, in order. After a missing page it is at its end.
pub struct Range<'a, K, V> {
    map: &'a Map<K, V>,
    place: Place<'a, K, V>,
    end: Bound<K>,
}

/// How far it came.
enum Place<'a, K, V> {
    /// It begins here.
    Start(Bound<K>),
    /// At the pair `at` of a leaf; `next` is the least key that those behind the leaf can have.
    Leaf {
        leaf: &'a Leaf<K, V>,
        at: usize,
        next: Option<&'a K>,
    },
    End,
}

impl<'a, K: Key, V: Value> Range<'a, K, V> {
    pub(super) const fn new(map: &'a Map<K, V>, start: Bound<K>, end: Bound<K>) -> Self {
        Self { map, place: Place::Start(start), end }
    }

    /// The place of the first pair from `start` on, or behind the last one of its leaf.
    fn seek(&self, start: Bound<&K>) -> Result<Place<'a, K, V>, Missing> {
        let (mut child, mut within) = (&self.map.root, Within::ALL);
        loop {
            match child.node(within)? {
                Node::Branch(branch) => {
                    let at = match start {
                        Bound::Included(key) | Bound::Excluded(key) => branch.index_of(key),
                        Bound::Unbounded => 0,
                    };
                    (child, within) = (&branch.children[at], within.child(branch, at));
                }
                Node::Leaf(leaf) => {
                    let at = match start {
                        Bound::Included(key) => leaf.keys.partition_point(|other| other < key),
                        Bound::Excluded(key) => leaf.keys.partition_point(|other| other <= key),
                        Bound::Unbounded => 0,
                    };
                    return Ok(Place::Leaf { leaf, at, next: within.high() });
                }
            }
        }
    }

    fn step(&mut self) -> Result<Option<(&'a K, &'a V)>, Missing> {
        loop {
            match std::mem::replace(&mut self.place, Place::End) {
                Place::Start(start) => self.place = self.seek(start.as_ref())?,
                Place::Leaf { leaf, at, next } if at < leaf.keys.len() => {
                    let (key, value) = leaf.pair(at);
                    let within = match &self.end {
                        Bound::Included(end) => key <= end,
                        Bound::Excluded(end) => key < end,
                        Bound::Unbounded => true,
                    };
                    if !within {
                        return Ok(None);
                    }
                    self.place = Place::Leaf { leaf, at: at + 1, next };
                    return Ok(Some((key, value)));
                }
                Place::Leaf { next: Some(next), .. } => {
                    let beyond = match &self.end {
                        Bound::Included(end) => next > end,
                        Bound::Excluded(end) => next >= end,
                        Bound::Unbounded => false,
                    };
                    if beyond {
                        return Ok(None);
                    }
                    self.place = self.seek(Bound::Included(next))?;
                }
                Place::Leaf { next: None, .. } | Place::End => return Ok(None),
            }
        }
    }
}

impl<'a, K: Key, V: Value> Iterator for Range<'a, K, V> {
    type Item = Result<(&'a K, &'a V), Missing>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
