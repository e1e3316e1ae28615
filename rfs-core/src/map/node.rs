//! Nodes, and what leads to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Key, Missing, NotLoaded, PageRef, Value};

/// Most pairs of a leaf. In unit tests little, so that small maps have many levels.
pub const LEAF_MAX: usize = if cfg!(test) { 6 } else { 128 };
/// Most children of a branch.
pub const BRANCH_MAX: usize = if cfg!(test) { 5 } else { 512 };

/// What leads to a node. Clones lead to the same one.
pub(super) struct Child<K, V>(pub(super) Arc<Slot<K, V>>);

/// A node that is loaded, or stored, or both.
pub(super) struct Slot<K, V> {
    /// Where it is stored; not set as long as it is dirty.
    pub(super) page: OnceLock<PageRef>,
    pub(super) node: OnceLock<Node<K, V>>,
    /// How many levels are below it: also of a node that is not loaded, so that a page cannot lead back up.
    pub(super) level: u8,
    /// Whether somebody needed it since it was aged.
    used: AtomicBool,
}

#[derive(Clone)]
pub(super) enum Node<K, V> {
    Leaf(Leaf<K, V>),
    Branch(Branch<K, V>),
}

/// Pairs, in order.
#[derive(Clone)]
pub(super) struct Leaf<K, V> {
    pub(super) keys: Vec<K>,
    pub(super) values: Vec<V>,
}

/// Children, in order.
pub(super) struct Branch<K, V> {
    /// How many levels are below it.
    pub(super) level: u8,
    /// One between each two children: at most every key of the right one, and more than every key of the left one.
    pub(super) keys: Vec<K>,
    pub(super) children: Vec<Child<K, V>>,
}

/// Where the keys of a node have to be.
pub(super) struct Within<'a, K> {
    /// At most every key.
    low: Option<&'a K>,
    /// More than every key.
    high: Option<&'a K>,
}

impl<K> Clone for Within<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Within<'_, K> {}

impl<'a, K> Within<'a, K> {
    /// Anywhere, as in a root.
    pub(super) const ALL: Self = Self { low: None, high: None };

    /// Those of the child at `at`, where those of the branch are in this.
    pub(super) fn child<V>(self, branch: &'a Branch<K, V>, at: usize) -> Self {
        let low = at.checked_sub(1).and_then(|before| branch.keys.get(before));
        Self { low: low.or(self.low), high: branch.keys.get(at).or(self.high) }
    }

    pub(super) const fn low(&self) -> Option<&'a K> {
        self.low
    }

    pub(super) const fn high(&self) -> Option<&'a K> {
        self.high
    }
}

impl<K: Clone, V> Clone for Branch<K, V> {
    fn clone(&self) -> Self {
        Self { level: self.level, keys: self.keys.clone(), children: self.children.clone() }
    }
}

impl<K, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// To be changed: the copy has no page.
impl<K: Clone, V: Clone> Clone for Slot<K, V> {
    fn clone(&self) -> Self {
        Self::new(OnceLock::new(), self.node.clone(), self.level)
    }
}

impl<K, V> Slot<K, V> {
    pub(super) const fn new(page: OnceLock<PageRef>, node: OnceLock<Node<K, V>>, level: u8) -> Self {
        Self { page, node, level, used: AtomicBool::new(true) }
    }

    /// Somebody needed it.
    pub(super) fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_unused(&self) {
        self.used.store(false, Ordering::Relaxed);
    }

    /// Whether somebody needed it since it was aged.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl<K, V> Node<K, V> {
    /// How many levels are below it.
    pub(super) const fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Branch(branch) => branch.level,
        }
    }
}

impl<K, V> Child<K, V> {
    pub(super) fn empty() -> Self {
        Self::dirty(Node::Leaf(Leaf { keys: Vec::new(), values: Vec::new() }))
    }

    pub(super) fn dirty(node: Node<K, V>) -> Self {
        let level = node.level();
        Self(Arc::new(Slot::new(OnceLock::new(), OnceLock::from(node), level)))
    }

    pub(super) fn stored(page: PageRef, level: u8) -> Self {
        Self(Arc::new(Slot::new(OnceLock::from(page), OnceLock::new(), level)))
    }

    /// The node, if it is loaded.
    pub(super) fn loaded(&self) -> Option<&Node<K, V>> {
        self.0.node.get()
    }

    pub(super) fn page(&self) -> Option<PageRef> {
        self.0.page.get().copied()
    }

    /// Whether the two are known to lead to the same node.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.page().is_some_and(|page| other.page() == Some(page))
    }
}

impl<K: Key, V: Value> Child<K, V> {
    /// The node, whose keys have to be `within`.
    pub(super) fn node(&self, within: Within<'_, K>) -> Result<&Node<K, V>, Missing> {
        let Some(node) = self.0.node.get() else { return Err(self.missing(within)) };
        if !self.0.is_used() {
            self.0.set_used();
        }
        Ok(node)
    }

    #[cold]
    fn missing(&self, within: Within<'_, K>) -> Missing {
        let page = self.page().expect("a node that is not loaded is stored");
        Missing::new(page, Arc::clone(&self.0), within)
    }

    /// The node, to be changed: a copy if others share it. It is dirty from now on.
    pub(super) fn node_mut(&mut self) -> Result<&mut Node<K, V>, NotLoaded> {
        if self.loaded().is_none() {
            return Err(NotLoaded { page: self.page() });
        }
        let slot = Arc::make_mut(&mut self.0);
        slot.page.take();
        *slot.used.get_mut() = true;
        Ok(slot.node.get_mut().expect("it is loaded"))
    }

    /// The last pair below it that is `before`, which holds up to a key, or up to just before it; of all pairs, when
    /// all of them come before the key.
    pub(super) fn last<'a>(
        &'a self,
        within: Within<'a, K>,
        key: Option<&K>,
        before: &impl Fn(&K) -> bool,
    ) -> Result<Option<(&'a K, &'a V)>, Missing> {
        match self.node(within)? {
            Node::Leaf(leaf) => {
                let after = if key.is_some() { leaf.keys.partition_point(before) } else { leaf.keys.len() };
                Ok(after.checked_sub(1).map(|at| leaf.pair(at)))
            }
            Node::Branch(branch) => {
                let at = key.map_or(branch.children.len() - 1, |key| branch.index_of(key));
                if let Some(found) = branch.children[at].last(within.child(branch, at), key, before)? {
                    return Ok(Some(found));
                }
                for (at, child) in branch.children[..at].iter().enumerate().rev() {
                    if let Some(found) = child.last(within.child(branch, at), None, before)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }

    /// What is in it, as its own.
    pub(super) fn into_node(self) -> Option<Node<K, V>> {
        match Arc::try_unwrap(self.0) {
            Ok(mut slot) => slot.node.take(),
            Err(shared) => shared.node.get().cloned(),
        }
    }
}

impl<K, V> Leaf<K, V> {
    pub(super) fn pair(&self, at: usize) -> (&K, &V) {
        (&self.keys[at], &self.values[at])
    }

    pub(super) fn insert(&mut self, at: usize, key: K, value: V) {
        self.keys.insert(at, key);
        self.values.insert(at, value);
    }

    pub(super) fn split_off(&mut self, at: usize) -> Self {
        Self { keys: self.keys.split_off(at), values: self.values.split_off(at) }
    }
}

impl<K: Key, V> Branch<K, V> {
    /// Which child a key belongs to.
    pub(super) fn index_of(&self, key: &K) -> usize {
        self.keys.partition_point(|least| least <= key)
    }
}
