//! Pages: what is missing, what is to be stored, what can be let go of.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::node::{BRANCH_MAX, Branch, Child, LEAF_MAX, Leaf, Node, Slot, Within};
use super::{Key, Map, PageRef, Value};

/// A page that has to be fetched before a map can answer. Nothing was changed.
#[derive(Clone)]
pub struct Missing {
    page: PageRef,
    /// An `Asked<K, V>`.
    asked: Arc<dyn Any + Send + Sync>,
    /// What is known to be needed too.
    others: Vec<Missing>,
}

/// So many pages are told at a time, about.
const TOLD_MAX: usize = 256;

/// Where the node of a missing page belongs, and where its keys have to be.
struct Asked<K, V> {
    slot: Arc<Slot<K, V>>,
    low: Option<K>,
    high: Option<K>,
}

/// A page was not loaded that a change needs: a mistake of who made it, since [`Missing`] would have told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a page that a change needs was not loaded: {page:?}")]
pub struct NotLoaded {
    /// The page.
    pub page: Option<PageRef>,
}

/// A decoded page that cannot be a node of the map that asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{page} {what}")]
pub struct Unfit {
    page: PageRef,
    what: &'static str,
}

/// Where the root of a map is stored, and what is known of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The page; none of an empty map.
    pub page: Option<PageRef>,
    /// How many levels of branches are above the leaves.
    pub height: u8,
    /// How many keys the map has.
    pub len: u64,
}

/// A node as a page holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeParts<K, V> {
    /// Pairs, in ascending order of the keys: at most [`LEAF_MAX`].
    Leaf {
        /// The keys.
        keys: Vec<K>,
        /// The value of each.
        values: Vec<V>,
    },
    /// Children: 1 to [`BRANCH_MAX`].
    Branch {
        /// How many levels are below it.
        level: u8,
        /// One between each two children.
        keys: Vec<K>,
        /// Where they are stored.
        children: Vec<PageRef>,
    },
}

/// A node that is to be stored.
#[derive(Clone, Debug)]
pub enum NodeView<'a, K, V> {
    /// As [`NodeParts::Leaf`].
    Leaf {
        /// The keys.
        keys: &'a [K],
        /// The value of each.
        values: &'a [V],
    },
    /// As [`NodeParts::Branch`].
    Branch {
        /// How many levels are below it.
        level: u8,
        /// One between each two children.
        keys: &'a [K],
        /// Where they are stored.
        children: Vec<PageRef>,
    },
}

/// The nodes that were given pages. As soon as these can be fetched, the nodes are to be told so.
#[derive(Default)]
pub struct Stored {
    nodes: Vec<(Arc<dyn Dirty>, PageRef)>,
    /// Pages that nodes among them lead to, and that were stored before.
    kept: Vec<PageRef>,
}

/// How much a key or a value takes in memory beside itself.
pub trait Footprint {
    /// Bytes on the heap, about.
    fn heap_bytes(&self) -> usize {
        0
    }
}

trait Dirty: Send + Sync {
    fn mark(&self, page: PageRef);
}

impl<K: Key, V: Value> Dirty for Slot<K, V> {
    fn mark(&self, page: PageRef) {
        // Who stored it twice keeps the first page.
        let _ = self.page.set(page);
    }
}

impl Stored {
    /// The pages can be fetched from now on.
    pub fn mark(&self) {
        for (node, page) in &self.nodes {
            node.mark(*page);
        }
    }

    /// The pages that were stored before and are still part of the map, without those that only they lead to.
    #[must_use]
    pub fn kept(&self) -> &[PageRef] {
        &self.kept
    }

    /// The new pages.
    pub fn pages(&self) -> impl Iterator<Item = PageRef> {
        self.nodes.iter().map(|(_, page)| *page)
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("nodes", &self.nodes.len()).field("kept", &self.kept.len()).finish()
    }
}

impl Missing {
    pub(super) fn new<K: Key, V: Value>(page: PageRef, slot: Arc<Slot<K, V>>, within: Within<'_, K>) -> Self {
        let asked = Asked { slot, low: within.low().cloned(), high: within.high().cloned() };
        Self { page, asked: Arc::new(asked), others: Vec::new() }
    }

    /// Several as one, so that they are fetched at the same time; the first one stands for them. None if there is none.
    #[must_use]
    pub fn of_all(missing: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all = missing.into_iter();
        let mut first = all.next()?;
        for mut other in all {
            first.others.append(&mut other.others);
            first.others.push(other);
        }
        Some(first)
    }

    /// This page, and those that are known to be needed too.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Whether so many pages are told already that it is time to fetch them.
    #[must_use]
    pub fn is_many(&self) -> bool {
        self.others.len() >= TOLD_MAX
    }

    /// Which page.
    #[must_use]
    pub const fn page(&self) -> PageRef {
        self.page
    }

    /// Whether it belongs to a map of these types.
    #[must_use]
    pub fn is_of<K: Key, V: Value>(&self) -> bool {
        self.asked.is::<Asked<K, V>>()
    }

    /// Between which keys those on the page are, if it belongs to a map of these types: from the first one on, and below
    /// the second one.
    #[must_use]
    pub fn bounds<K: Key, V: Value>(&self) -> Option<(Option<&K>, Option<&K>)> {
        let Asked { low, high, .. } = self.asked.downcast_ref::<Asked<K, V>>()?;
        Some((low.as_ref(), high.as_ref()))
    }

    /// Puts what was decoded from the page in place, for all maps that share it.
    ///
    /// # Errors
    /// It is no node of such a map; nothing is put in place.
    pub fn fill<K: Key, V: Value>(&self, parts: NodeParts<K, V>) -> Result<(), Unfit> {
        let unfit = |what| Unfit { page: self.page, what };
        let asked = self.asked.downcast_ref::<Asked<K, V>>();
        let Asked { slot, low, high } = asked.ok_or_else(|| unfit("belongs to a map of other types"))?;
        let is_below = |key: Option<&K>| key.is_none_or(|key| high.as_ref().is_none_or(|high| key < high));
        let ascend = |keys: &[K]| keys.windows(2).all(|two| two[0] < two[1]);
        let node = match parts {
            NodeParts::Leaf { keys, values } => {
                if keys.len() > LEAF_MAX || keys.len() != values.len() || !ascend(&keys) {
                    return Err(unfit("is no leaf: its keys do not ascend, or their number is wrong"));
                }
                if keys.first().is_some_and(|first| low.as_ref().is_some_and(|low| first < low))
                    || !is_below(keys.last())
                {
                    return Err(unfit(ELSEWHERE));
                }
                Node::Leaf(Leaf { keys, values })
            }
            NodeParts::Branch { level, keys, children } => {
                let count = children.len();
                if count == 0 || count > BRANCH_MAX || keys.len() + 1 != count || level == 0 || !ascend(&keys)
                {
                    return Err(unfit("is no branch: its keys do not ascend, or their number is wrong"));
                }
                // What comes before the first key belongs to the first child.
                if keys.first().is_some_and(|first| low.as_ref().is_some_and(|low| first <= low))
                    || !is_below(keys.last())
                {
                    return Err(unfit(ELSEWHERE));
                }
                let children = children.into_iter().map(|page| Child::stored(page, level - 1)).collect();
                Node::Branch(Branch { level, keys, children })
            }
        };
        if node.level() != slot.level {
            return Err(unfit("is of another level than the one above it says"));
        }
        slot.set_used();
        // Somebody else may have fetched it too.
        let _ = slot.node.set(node);
        Ok(())
    }
}

const ELSEWHERE: &str = "has keys that belong elsewhere";

impl PartialEq for Missing {
    fn eq(&self, other: &Self) -> bool {
        self.page == other.page
    }
}

impl Eq for Missing {}

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Missing").field(&self.page).finish()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not loaded", self.page)
    }
}

impl std::error::Error for Missing {}

impl From<Missing> for NotLoaded {
    fn from(missing: Missing) -> Self {
        Self { page: Some(missing.page) }
    }
}

impl Root {
    /// Whether such a map can be: that what it says of itself fits together.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        // No map gets so far, and adding to it must not overflow.
        const LEN_MAX: u64 = 1 << 62;
        let most = (BRANCH_MAX as u64).saturating_pow(self.height.into()).saturating_mul(LEAF_MAX as u64);
        match self.page {
            Some(_) => self.len > 0 && self.len <= most.min(LEN_MAX),
            None => self.len == 0 && self.height == 0,
        }
    }
}

impl<K: Key, V: Value> Map<K, V> {
    /// The map with this root, which is [sound](Root::is_sound). Nothing of it is loaded.
    #[must_use]
    pub fn open(root: Root) -> Self {
        match root.page {
            Some(page) => {
                let Root { height, len, .. } = root;
                Self { root: Child::stored(page, height), height, len, complete: false }
            }
            None => Self::default(),
        }
    }

    /// Gives a page to every node that has none, children before their parents. `put` encodes a node and says where it
    /// is going to be. The nodes learn it by [`Stored::mark`] only, so that a page that never came to be is not relied
    /// on.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn store<E>(
        &self,
        stored: &mut Stored,
        put: &mut impl FnMut(NodeView<'_, K, V>) -> Result<PageRef, E>,
    ) -> Result<Root, E> {
        let page = if self.len == 0 { None } else { Some(self.root.store(stored, put)?) };
        Ok(Root { page, height: if page.is_some() { self.height } else { 0 }, len: self.len })
    }

    /// Sees to it that what reads or changes the pairs of a range finds all it needs, or tells all pages that are known
    /// to be missing.
    ///
    /// # Errors
    /// Pages are missing.
    pub fn load_range(&self, range: impl RangeBounds<K>) -> Result<(), Missing> {
        if self.complete {
            return Ok(());
        }
        let mut found = Vec::new();
        self.root.missing_in(Within::ALL, (range.start_bound(), range.end_bound()), &mut found);
        Missing::of_all(found).map_or(Ok(()), Err)
    }

    /// As [`Map::load`] for several keys.
    ///
    /// # Errors
    /// Pages are missing.
    pub fn load_each(&self, keys: impl IntoIterator<Item = K>) -> Result<(), Missing> {
        let mut found: BTreeMap<PageRef, Missing> = BTreeMap::new();
        for key in keys {
            if let Err(missing) = self.load(&key) {
                found.insert(missing.page, missing);
            }
            if found.len() >= TOLD_MAX {
                break;
            }
        }
        Missing::of_all(found.into_values()).map_or(Ok(()), Err)
    }

    /// Nodes with `unwanted` pages lose them, so that they are stored again: what the map holds stays the same. Gives
    /// how many bytes these pages have. Clones of the map keep them.
    ///
    /// # Errors
    /// Pages are missing, and nothing was changed: those of all branches, and the unwanted ones.
    pub fn forget_pages(&mut self, unwanted: &dyn Fn(&PageRef) -> bool) -> Result<u64, Missing> {
        if self.len == 0 {
            return Ok(0);
        }
        let mut found = Vec::new();
        self.root.missing_unwanted(Within::ALL, unwanted, &mut found);
        match Missing::of_all(found) {
            Some(missing) => Err(missing),
            None => Ok(self.root.forget_pages(unwanted)),
        }
    }

    /// Adds pages that are missing to those found, up to `most` in all.
    pub(crate) fn missing(&self, most: usize, found: &mut Vec<Missing>) {
        self.root.missing_below(Within::ALL, most, found);
    }

    /// Visits the pages of this map from its root on, but for `kept` ones and those that these lead to. Of leaves only
    /// the place is needed.
    ///
    /// # Errors
    /// The page of a branch is missing.
    pub fn pages_but(
        &self,
        kept: &dyn Fn(&PageRef) -> bool,
        each: &mut dyn FnMut(PageRef),
    ) -> Result<(), Missing> {
        if self.len == 0 { Ok(()) } else { self.root.pages_but(Within::ALL, kept, each) }
    }
}

impl<K: Key, V: Value> Child<K, V> {
    fn store<E>(
        &self,
        stored: &mut Stored,
        put: &mut impl FnMut(NodeView<'_, K, V>) -> Result<PageRef, E>,
    ) -> Result<PageRef, E> {
        if let Some(page) = self.page() {
            stored.kept.push(page);
            return Ok(page);
        }
        let page = match self.loaded().expect("a node that is not stored is loaded") {
            Node::Leaf(Leaf { keys, values }) => put(NodeView::Leaf { keys, values })?,
            Node::Branch(branch) => {
                let children = branch.children.iter().map(|child| child.store(stored, put));
                let children = children.collect::<Result<_, E>>()?;
                put(NodeView::Branch { level: branch.level, keys: &branch.keys, children })?
            }
        };
        let node: Arc<dyn Dirty> = self.0.clone();
        stored.nodes.push((node, page));
        Ok(page)
    }

    fn missing_below(&self, within: Within<'_, K>, most: usize, found: &mut Vec<Missing>) {
        match self.node(within) {
            _ if found.len() >= most => {}
            Err(missing) => found.push(missing),
            Ok(Node::Leaf(_)) => {}
            Ok(Node::Branch(branch)) => {
                for (at, child) in branch.children.iter().enumerate() {
                    child.missing_below(within.child(branch, at), most, found);
                }
            }
        }
    }

    fn missing_unwanted(
        &self,
        within: Within<'_, K>,
        unwanted: &dyn Fn(&PageRef) -> bool,
        found: &mut Vec<Missing>,
    ) {
        if self.0.level == 0 && self.page().is_none_or(|page| !unwanted(&page)) {
            return;
        }
        match self.node(within) {
            _ if found.len() >= TOLD_MAX => {}
            Err(missing) => found.push(missing),
            Ok(Node::Leaf(_)) => {}
            Ok(Node::Branch(branch)) => {
                for (at, child) in branch.children.iter().enumerate() {
                    child.missing_unwanted(within.child(branch, at), unwanted, found);
                }
            }
        }
    }

    /// What it leads to is loaded, as far as it is unwanted.
    fn forget_pages(&mut self, unwanted: &dyn Fn(&PageRef) -> bool) -> u64 {
        let own = self.page().filter(unwanted).map(|page| u64::from(page.len));
        let below: Vec<usize> = match self.loaded() {
            Some(Node::Branch(branch)) => {
                let children = branch.children.iter().enumerate();
                children.filter(|(_, child)| child.leads_to(unwanted)).map(|(at, _)| at).collect()
            }
            _ => Vec::new(),
        };
        if own.is_none() && below.is_empty() {
            return 0;
        }
        let mut bytes = own.unwrap_or(0);
        if let Ok(Node::Branch(branch)) = self.node_mut() {
            for at in below {
                bytes += branch.children[at].forget_pages(unwanted);
            }
        }
        bytes
    }

    fn leads_to(&self, unwanted: &dyn Fn(&PageRef) -> bool) -> bool {
        self.page().is_some_and(|page| unwanted(&page))
            || matches!(self.loaded(), Some(Node::Branch(branch))
                if branch.children.iter().any(|child| child.leads_to(unwanted)))
    }

    fn missing_in(
        &self,
        within: Within<'_, K>,
        (start, end): (Bound<&K>, Bound<&K>),
        found: &mut Vec<Missing>,
    ) {
        match self.node(within) {
            _ if found.len() >= TOLD_MAX => {}
            Err(missing) => found.push(missing),
            Ok(Node::Leaf(_)) => {}
            Ok(Node::Branch(branch)) => {
                let first = match start {
                    Bound::Included(key) | Bound::Excluded(key) => branch.index_of(key),
                    Bound::Unbounded => 0,
                };
                let last = match end {
                    Bound::Included(key) => branch.index_of(key),
                    Bound::Excluded(key) => branch.keys.partition_point(|least| least < key),
                    Bound::Unbounded => branch.keys.len(),
                };
                for (at, child) in branch.children.iter().enumerate().take(last + 1).skip(first) {
                    child.missing_in(within.child(branch, at), (start, end), found);
                }
            }
        }
    }

    fn pages_but(
        &self,
        within: Within<'_, K>,
        kept: &dyn Fn(&PageRef) -> bool,
        each: &mut dyn FnMut(PageRef),
    ) -> Result<(), Missing> {
        if let Some(page) = self.page() {
            if kept(&page) {
                return Ok(());
            }
            each(page);
        }
        if self.0.level == 0 {
            return Ok(());
        }
        if let Node::Branch(branch) = self.node(within)? {
            for (at, child) in branch.children.iter().enumerate() {
                child.pages_but(within.child(branch, at), kept, each)?;
            }
        }
        Ok(())
    }
}

/// What of a map is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of nodes that are stored too, about.
    pub clean: usize,
    /// Bytes of nodes that are not, about.
    pub dirty: usize,
}

impl<K: Key + Footprint, V: Value + Footprint> Map<K, V> {
    /// How much of it is in memory.
    #[must_use]
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        self.root.held(&mut held);
        held
    }

    /// Lets go of clean nodes that nobody needed since a map that shares them was last aged, and gives how many bytes
    /// they held. What is shared with other maps is held by these still.
    pub fn evict(&mut self) -> usize {
        let freed = self.root.evict();
        self.complete &= freed == 0;
        freed
    }

    /// From now on the nodes that are loaded count as not needed, until somebody needs them.
    pub fn age(&self) {
        self.root.age();
    }
}

impl<K: Key + Footprint, V: Value + Footprint> Child<K, V> {
    fn held(&self, held: &mut Held) {
        let Some(node) = self.loaded() else { return };
        let bytes = node.bytes();
        if self.page().is_some() {
            held.clean += bytes;
        } else {
            held.dirty += bytes;
        }
        if let Node::Branch(branch) = node {
            for child in &branch.children {
                child.held(held);
            }
        }
    }

    fn age(&self) {
        self.0.set_unused();
        if let Some(Node::Branch(branch)) = self.loaded() {
            for child in branch.children.iter().filter(|child| child.loaded().is_some()) {
                child.age();
            }
        }
    }

    fn evict(&mut self) -> usize {
        let Some(node) = self.loaded() else { return 0 };
        let mut freed = 0;
        let mut is_needed = false;
        if let Node::Branch(branch) = node
            && branch.children.iter().any(|child| child.loaded().is_some())
        {
            let branch = self.branch_mut();
            for child in &mut branch.children {
                freed += child.evict();
            }
            is_needed = branch.children.iter().any(|child| child.loaded().is_some());
        }
        let Some(page) = self.page() else { return freed };
        if !self.0.is_used() && !is_needed {
            freed += self.loaded().map_or(0, Node::bytes);
            *self = Self::stored(page, self.0.level);
        }
        freed
    }

    /// The branch that this leads to, to have children that are loaded or not, but lead to the same pages.
    fn branch_mut(&mut self) -> &mut Branch<K, V> {
        if Arc::get_mut(&mut self.0).is_none() {
            let Slot { page, node, level, .. } = &*self.0;
            let copy = Slot::new(page.clone(), node.clone(), *level);
            if !self.0.is_used() {
                copy.set_unused();
            }
            self.0 = Arc::new(copy);
        }
        let slot = Arc::get_mut(&mut self.0).expect("it is shared with nobody");
        match slot.node.get_mut() {
            Some(Node::Branch(branch)) => branch,
            _ => unreachable!("it is a branch that is loaded"),
        }
    }
}

impl<K: Footprint, V: Footprint> Node<K, V> {
    fn bytes(&self) -> usize {
        let keys = |keys: &[K]| size_of_val(keys) + keys.iter().map(K::heap_bytes).sum::<usize>();
        let node = match self {
            Self::Leaf(leaf) => {
                let values = leaf.values.iter().map(V::heap_bytes).sum::<usize>();
                keys(&leaf.keys) + size_of_val(leaf.values.as_slice()) + values
            }
            Self::Branch(branch) => {
                keys(&branch.keys)
                    + branch.children.len() * (size_of::<Child<K, V>>() + size_of::<Slot<K, V>>())
            }
        };
        node + size_of::<Slot<K, V>>()
    }
}
