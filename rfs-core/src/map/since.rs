//! What differs between two maps.

use std::cmp::Ordering;

use thiserror::Error;

use super::node::{Branch, Child, Leaf, Node, Within};
use super::{Key, Map, Missing, Value};

/// How one key differs between two maps.
#[derive(Debug)]
pub struct Difference<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// Its value in the old map.
    pub old: Option<&'a V>,
    /// Its value in the new one.
    pub new: Option<&'a V>,
}

/// A page is missing of one of two trees, or of their maps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lacking {
    /// Of the old one.
    #[error("of the old tree, {0}")]
    Old(#[source] Missing),
    /// Of the new one.
    #[error("of the new tree, {0}")]
    New(#[source] Missing),
}

impl From<Lacking> for Missing {
    fn from(lacking: Lacking) -> Self {
        match lacking {
            Lacking::Old(missing) | Lacking::New(missing) => missing,
        }
    }
}

impl<K: Key, V: Value> Map<K, V> {
    /// What must change in `old` to make it this map, in order of the keys. Nodes that both share are skipped, so the
    /// time follows the difference, and their pages need not be loaded. A missing page is told, and ends it.
    pub fn since<'a>(
        &'a self,
        old: &'a Self,
    ) -> impl Iterator<Item = Result<Difference<'a, K, V>, Missing>> + use<'a, K, V> {
        self.since_from(old, None).map(|found| found.map_err(Missing::from))
    }

    /// As [`Map::since`], from a key on; and it tells which of the maps misses a page.
    pub fn since_from<'a>(
        &'a self,
        old: &'a Self,
        from: Option<K>,
    ) -> impl Iterator<Item = Result<Difference<'a, K, V>, Lacking>> + use<'a, K, V> {
        let mut walk = Some((Cursor::new(old, from.clone()), Cursor::new(self, from)));
        std::iter::from_fn(move || {
            let (old, new) = walk.as_mut()?;
            let found = differ(old, new).transpose();
            if !matches!(found, Some(Ok(_))) {
                walk = None;
            }
            found
        })
    }
}

/// The next difference behind two places.
fn differ<'a, K: Key, V: Value>(
    old: &mut Cursor<'a, K, V>,
    new: &mut Cursor<'a, K, V>,
) -> Result<Option<Difference<'a, K, V>>, Lacking> {
    loop {
        match (old.here, new.here) {
            (Here::End, Here::End) => return Ok(None),
            (Here::Tree(a), Here::Tree(b)) => {
                if a.child.is_same(b.child) {
                    old.skip();
                    new.skip();
                    continue;
                }
                // What is higher, or begins earlier, is opened first, so that the two meet again at nodes they share.
                let order = a.level.cmp(&b.level).reverse().then_with(|| a.within.low().cmp(&b.within.low()));
                if order.is_le() {
                    old.open(a).map_err(Lacking::Old)?;
                }
                if order.is_ge() {
                    new.open(b).map_err(Lacking::New)?;
                }
            }
            (Here::Tree(a), Here::Pair(leaf, at)) if Some(&leaf.keys[at]) >= a.within.low() => {
                old.open(a).map_err(Lacking::Old)?;
            }
            (Here::Pair(leaf, at), Here::Tree(b)) if Some(&leaf.keys[at]) >= b.within.low() => {
                new.open(b).map_err(Lacking::New)?;
            }
            (Here::Tree(a), Here::End) => old.open(a).map_err(Lacking::Old)?,
            (Here::End, Here::Tree(b)) => new.open(b).map_err(Lacking::New)?,
            (Here::Pair(a, i), Here::Pair(b, j)) => {
                let order = a.keys[i].cmp(&b.keys[j]);
                if order.is_le() {
                    old.skip();
                }
                if order.is_ge() {
                    new.skip();
                }
                let (left, right) = (a.pair(i), b.pair(j));
                match order {
                    Ordering::Less => {
                        return Ok(Some(Difference { key: left.0, old: Some(left.1), new: None }));
                    }
                    Ordering::Greater => {
                        return Ok(Some(Difference { key: right.0, old: None, new: Some(right.1) }));
                    }
                    Ordering::Equal if left.1 != right.1 => {
                        return Ok(Some(Difference { key: left.0, old: Some(left.1), new: Some(right.1) }));
                    }
                    Ordering::Equal => {}
                }
            }
            (Here::Pair(leaf, at), _) => {
                old.skip();
                let (key, value) = leaf.pair(at);
                return Ok(Some(Difference { key, old: Some(value), new: None }));
            }
            (_, Here::Pair(leaf, at)) => {
                new.skip();
                let (key, value) = leaf.pair(at);
                return Ok(Some(Difference { key, old: None, new: Some(value) }));
            }
        }
    }
}

/// A place in a map: before a whole node, or before a pair.
struct Cursor<'a, K, V> {
    here: Here<'a, K, V>,
    /// The branches above, each with where its keys are, and the child that comes next.
    above: Vec<(&'a Branch<K, V>, Within<'a, K>, usize)>,
    /// Nothing before it is looked at.
    from: Option<K>,
}

enum Here<'a, K, V> {
    Tree(Below<'a, K, V>),
    Pair(&'a Leaf<K, V>, usize),
    End,
}

/// A node that was not looked into.
struct Below<'a, K, V> {
    child: &'a Child<K, V>,
    level: u8,
    within: Within<'a, K>,
}

impl<K, V> Clone for Here<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Here<'_, K, V> {}

impl<K, V> Clone for Below<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Below<'_, K, V> {}

impl<'a, K: Key, V: Value> Cursor<'a, K, V> {
    const fn new(map: &'a Map<K, V>, from: Option<K>) -> Self {
        let root = Below { child: &map.root, level: map.height, within: Within::ALL };
        Self { here: Here::Tree(root), above: Vec::new(), from }
    }

    /// Goes into a node that it stands before.
    fn open(&mut self, below: Below<'a, K, V>) -> Result<(), Missing> {
        match below.child.node(below.within)? {
            Node::Leaf(leaf) => {
                let first = self.from.as_ref().map_or(0, |from| leaf.keys.partition_point(|key| key < from));
                if first < leaf.keys.len() {
                    self.here = Here::Pair(leaf, first);
                } else {
                    self.leave();
                }
            }
            Node::Branch(branch) => {
                let first = self.from.as_ref().map_or(0, |from| branch.index_of(from));
                self.above.push((branch, below.within, first));
                self.leave();
            }
        }
        Ok(())
    }

    /// Goes on behind what it stands before.
    fn skip(&mut self) {
        if let Here::Pair(leaf, at) = self.here
            && at + 1 < leaf.keys.len()
        {
            self.here = Here::Pair(leaf, at + 1);
            return;
        }
        self.leave();
    }

    /// Goes on behind the node that it is in.
    fn leave(&mut self) {
        self.here = Here::End;
        while let Some((branch, within, next)) = self.above.last_mut() {
            if let Some(child) = branch.children.get(*next) {
                let within = within.child(branch, *next);
                self.here = Here::Tree(Below { child, level: branch.level - 1, within });
                *next += 1;
                return;
            }
            self.above.pop();
        }
    }
}
