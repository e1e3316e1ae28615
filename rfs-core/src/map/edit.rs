//! Changing a map.

use super::node::{BRANCH_MAX, Branch, Child, LEAF_MAX, Leaf, Node};
use super::{Key, Map, NotLoaded, Value};

/// A node that was split: what it keeps, the least key of the rest, and the rest.
type Rest<K, V> = Option<(K, Child<K, V>)>;

/// All pages that a change needs have to be loaded: [`Map::load`], or any way of reading, sees to that.
impl<K: Key, V: Value> Map<K, V> {
    /// Makes a map of pairs in ascending order of their keys; of each key the first pair counts. Nodes are filled whole.
    pub fn from_ascending(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut leaves: Vec<(K, Child<K, V>)> = Vec::new();
        let mut leaf = Leaf { keys: Vec::new(), values: Vec::new() };
        let mut len = 0;
        let close = |leaf: &mut Leaf<K, V>, leaves: &mut Vec<(K, Child<K, V>)>| {
            if let Some(least) = leaf.keys.first().cloned() {
                leaves.push((least, Child::dirty(Node::Leaf(leaf.split_off(0)))));
            }
        };
        let mut last: Option<K> = None;
        for (key, value) in pairs {
            if last.as_ref().is_some_and(|last| *last >= key) {
                continue;
            }
            if leaf.keys.len() == LEAF_MAX {
                close(&mut leaf, &mut leaves);
            }
            last = Some(key.clone());
            leaf.insert(leaf.keys.len(), key, value);
            len += 1;
        }
        close(&mut leaf, &mut leaves);
        let mut level = leaves;
        let mut height = 0;
        while level.len() > 1 {
            height += 1;
            let mut above = Vec::with_capacity(level.len().div_ceil(BRANCH_MAX));
            let mut rest = level.into_iter().peekable();
            while let Some((least, first)) = rest.next() {
                let (mut keys, mut children) = (Vec::new(), vec![first]);
                while children.len() < BRANCH_MAX
                    && let Some((key, child)) = rest.next()
                {
                    keys.push(key);
                    children.push(child);
                }
                above.push((least, Child::dirty(Node::Branch(Branch { level: height, keys, children }))));
            }
            level = above;
        }
        level.pop().map_or_else(Self::default, |(_, root)| Self { root, height, len, complete: true })
    }

    /// Puts a pair in place. It gives the value that the key had.
    ///
    /// # Errors
    /// A page on the way is not loaded; the map is as it was.
    pub fn insert(&mut self, key: K, value: V) -> Result<Option<V>, NotLoaded> {
        let (old, rest) = self.root.insert(key, value)?;
        if let Some((least, right)) = rest {
            let left = std::mem::replace(&mut self.root, Child::empty());
            self.height += 1;
            let branch = Branch { level: self.height, keys: vec![least], children: vec![left, right] };
            self.root = Child::dirty(Node::Branch(branch));
        }
        self.len += u64::from(old.is_none());
        Ok(old)
    }

    /// The value of a key, to be changed.
    ///
    /// # Errors
    /// As [`Map::insert`].
    pub fn get_mut(&mut self, key: &K) -> Result<Option<&mut V>, NotLoaded> {
        if self.get(key)?.is_none() {
            return Ok(None);
        }
        let mut child = &mut self.root;
        loop {
            match child.node_mut()? {
                Node::Branch(branch) => {
                    let at = branch.index_of(key);
                    child = &mut branch.children[at];
                }
                Node::Leaf(leaf) => {
                    return Ok(leaf.keys.binary_search(key).ok().map(|at| &mut leaf.values[at]));
                }
            }
        }
    }

    /// Takes a key out. It gives the value that it had.
    ///
    /// # Errors
    /// As [`Map::insert`].
    pub fn remove(&mut self, key: &K) -> Result<Option<V>, NotLoaded> {
        // What is not changed is not to be stored anew.
        if self.get(key)?.is_none() {
            return Ok(None);
        }
        self.take(key)
    }

    /// As [`Map::remove`], of a key that is there: it is not looked for first.
    pub(crate) fn take(&mut self, key: &K) -> Result<Option<V>, NotLoaded> {
        let removed = self.root.remove(key)?;
        self.len -= u64::from(removed.is_some());
        if self.len == 0 {
            *self = Self::default();
        }
        self.lower();
        Ok(removed)
    }

    /// Takes all keys of a range out, and gives how many there were.
    ///
    /// # Errors
    /// As [`Map::insert`]: also of the pages in the range.
    pub fn remove_range(&mut self, range: impl std::ops::RangeBounds<K>) -> Result<u64, NotLoaded> {
        let mut keys = Vec::new();
        for pair in self.range(range) {
            keys.push(pair?.0.clone());
        }
        for key in &keys {
            self.remove(key)?;
        }
        Ok(keys.len() as u64)
    }

    /// Takes away roots that have one child only.
    fn lower(&mut self) {
        while let Some(Node::Branch(branch)) = self.root.loaded()
            && branch.children.len() < 2
        {
            let only = branch.children[0].clone();
            self.height -= 1;
            self.root = only;
        }
    }
}

impl<K: Key, V: Value> Child<K, V> {
    fn insert(&mut self, key: K, value: V) -> Result<(Option<V>, Rest<K, V>), NotLoaded> {
        match self.node_mut()? {
            Node::Leaf(leaf) => match leaf.keys.binary_search(&key) {
                Ok(at) => Ok((Some(std::mem::replace(&mut leaf.values[at], value)), None)),
                Err(at) => Ok((None, leaf.add(at, key, value))),
            },
            Node::Branch(branch) => {
                let at = branch.index_of(&key);
                let (old, rest) = branch.children[at].insert(key, value)?;
                Ok((old, rest.and_then(|(least, right)| branch.add(at, least, right))))
            }
        }
    }

    fn remove(&mut self, key: &K) -> Result<Option<V>, NotLoaded> {
        match self.node_mut()? {
            Node::Leaf(leaf) => Ok(leaf.keys.binary_search(key).ok().map(|at| {
                leaf.keys.remove(at);
                leaf.values.remove(at)
            })),
            Node::Branch(branch) => {
                let at = branch.index_of(key);
                let removed = branch.children[at].remove(key)?;
                branch.tidy(at)?;
                Ok(removed)
            }
        }
    }

    /// How much is in it, of how much there may be; none when it is not loaded.
    fn filled(&self) -> Option<(usize, usize)> {
        Some(match self.loaded()? {
            Node::Leaf(leaf) => (leaf.keys.len(), LEAF_MAX),
            Node::Branch(branch) => (branch.children.len(), BRANCH_MAX),
        })
    }
}

impl<K: Key, V: Value> Leaf<K, V> {
    fn add(&mut self, at: usize, key: K, value: V) -> Rest<K, V> {
        if self.keys.len() < LEAF_MAX {
            self.insert(at, key, value);
            return None;
        }
        // What comes in ascending order leaves full nodes behind.
        let cut = if at == LEAF_MAX { LEAF_MAX } else { LEAF_MAX / 2 };
        let mut right = self.split_off(cut);
        if at > cut || cut == LEAF_MAX {
            right.insert(at - cut, key, value);
        } else {
            self.insert(at, key, value);
        }
        Some((right.keys[0].clone(), Child::dirty(Node::Leaf(right))))
    }
}

impl<K: Key, V: Value> Branch<K, V> {
    /// Puts a child in place behind the one at `at`.
    fn add(&mut self, at: usize, least: K, child: Child<K, V>) -> Rest<K, V> {
        self.keys.insert(at, least);
        self.children.insert(at + 1, child);
        let count = self.children.len();
        if count <= BRANCH_MAX {
            return None;
        }
        let cut = if at + 2 == count { count - 1 } else { count / 2 };
        let children = self.children.split_off(cut);
        let keys = self.keys.split_off(cut);
        let least = self.keys.pop().expect("there is a key before every child but the first");
        let right = Self { level: self.level, keys, children };
        Some((least, Child::dirty(Node::Branch(right))))
    }

    /// Joins the child at `at` with a neighbour that is loaded if it is thin; takes it away if it is empty.
    fn tidy(&mut self, at: usize) -> Result<(), NotLoaded> {
        let Some((filled, most)) = self.children[at].filled() else { return Ok(()) };
        if filled >= most / 4 {
            return Ok(());
        }
        let fits = |neighbour: usize| {
            let other = self.children.get(neighbour).and_then(Child::filled);
            other.is_some_and(|(other, _)| filled == 0 || filled + other <= most * 3 / 4)
        };
        // Where the two meet.
        let between = if fits(at + 1) {
            at
        } else if at > 0 && fits(at - 1) {
            at - 1
        } else {
            return Ok(());
        };
        if filled == 0 {
            self.keys.remove(between);
            self.children.remove(at);
            return Ok(());
        }
        self.join(between)
    }

    /// Joins the child at `at` with the one behind it.
    fn join(&mut self, at: usize) -> Result<(), NotLoaded> {
        let least = self.keys.remove(at);
        let right = self.children.remove(at + 1).into_node();
        match (self.children[at].node_mut()?, right) {
            (Node::Leaf(left), Some(Node::Leaf(mut right))) => {
                left.keys.append(&mut right.keys);
                left.values.append(&mut right.values);
            }
            (Node::Branch(left), Some(Node::Branch(mut right))) => {
                left.keys.push(least);
                left.keys.append(&mut right.keys);
                left.children.append(&mut right.children);
            }
            _ => unreachable!("neighbours that are loaded are of one level"),
        }
        Ok(())
    }
}
