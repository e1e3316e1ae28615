//! The full check of a tree against its invariants. It takes time in proportion to the tree.
//!
//! It is what makes a tree that was read from outside trustworthy: everything else in this crate relies on the
//! invariants that are checked here, and nothing here relies on any of them.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::apply::is_symlink_target;
use crate::{
    Body, EntryKey, Extent, FILE_SIZE_MAX, Ino, Inode, Kind, LockMode, LockOwner, NAME_MAX, Name, SegmentId,
    Tree,
};

/// How many violations are reported at most.
const VIOLATIONS_MAX: usize = 100;

/// One thing that is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Of the tree as a whole.
    #[error("the tree: {what}")]
    Tree {
        /// What is wrong.
        what: String,
    },
    /// Of an inode.
    #[error("inode {ino}: {what}")]
    Inode {
        /// Which.
        ino: Ino,
        /// What is wrong.
        what: String,
    },
    /// Of a directory entry.
    #[error("entry {name} of directory {parent}: {what}")]
    Entry {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Name,
        /// What is wrong.
        what: String,
    },
    /// Of a run of a file's bytes.
    #[error("extent of inode {ino} at offset {offset}: {what}")]
    Extent {
        /// The file.
        ino: Ino,
        /// File offset of the run.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Of a lock.
    #[error("lock on inode {ino} of owner {owner:?}: {what}")]
    Lock {
        /// The file.
        ino: Ino,
        /// Who holds it.
        owner: LockOwner,
        /// What is wrong.
        what: String,
    },
    /// Of what is known of a segment.
    #[error("segment {segment}: {what}")]
    Segment {
        /// Which.
        segment: SegmentId,
        /// What is wrong.
        what: String,
    },
    /// Of a named commit.
    #[error("checkpoint {name:?}: {what}")]
    Checkpoint {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// The first violations found, up to a limit.
#[derive(Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    pub(crate) fn into_result(self) -> Result<(), Vec<Violation>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    pub(crate) fn tree(&mut self, what: impl Into<String>) {
        self.add(Violation::Tree { what: what.into() });
    }

    pub(crate) fn inode(&mut self, ino: Ino, what: impl Into<String>) {
        self.add(Violation::Inode { ino, what: what.into() });
    }

    pub(crate) fn entry(&mut self, key: &EntryKey, what: impl Into<String>) {
        self.add(Violation::Entry { parent: key.parent, name: key.name.clone(), what: what.into() });
    }

    pub(crate) fn extent(&mut self, ino: Ino, offset: u64, what: impl Into<String>) {
        self.add(Violation::Extent { ino, offset, what: what.into() });
    }

    pub(crate) fn lock(&mut self, ino: Ino, owner: LockOwner, what: impl Into<String>) {
        self.add(Violation::Lock { ino, owner, what: what.into() });
    }

    pub(crate) fn checkpoint(&mut self, name: &str, what: impl Into<String>) {
        self.add(Violation::Checkpoint { name: name.to_owned(), what: what.into() });
    }

    fn segment(&mut self, segment: SegmentId, what: impl Into<String>) {
        self.add(Violation::Segment { segment, what: what.into() });
    }

    fn add(&mut self, violation: Violation) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(violation);
        }
    }
}

impl Tree {
    /// Checks every invariant.
    ///
    /// # Errors
    /// What is wrong: the first hundred violations.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        let names = Names::count(self, &mut violations);
        self.check_inodes(&names, &mut violations);
        self.check_reachable(&mut violations);
        self.check_extents(&mut violations);
        self.check_orphans(&mut violations);
        self.check_locks(&mut violations);
        self.check_checkpoints(&mut violations);
        violations.into_result()
    }

    fn check_inodes(&self, names: &Names, violations: &mut Violations) {
        match self.inode(Ino::ROOT).map(|root| &root.body) {
            Some(Body::Directory { parent: Ino::ROOT, .. }) => {}
            _ => violations.inode(Ino::ROOT, "the root is not a directory that holds itself"),
        }
        for (&ino, inode) in self.inodes.iter() {
            if ino.0 == 0 || ino >= self.next_ino {
                violations
                    .inode(ino, format!("is not among the numbers given out, next is {}", self.next_ino));
            }
            if inode.mode > 0o7777 {
                violations.inode(ino, format!("its mode {:o} has unknown bits", inode.mode));
            }
            match &inode.body {
                Body::File => {
                    if inode.size > FILE_SIZE_MAX {
                        violations.inode(ino, format!("its size {} is over the limit", inode.size));
                    }
                    names.check_links(ino, inode, violations);
                }
                Body::Symlink { target } => {
                    if !is_symlink_target(target) {
                        violations.inode(ino, "its target has not 1 to 4095 bytes without NUL");
                    }
                    if inode.size != target.len() as u64 {
                        violations.inode(ino, "its size is not the length of its target");
                    }
                    names.check_links(ino, inode, violations);
                }
                Body::Fifo | Body::Socket | Body::CharDevice { .. } | Body::BlockDevice { .. } => {
                    names.check_links(ino, inode, violations);
                }
                Body::Directory { parent, entries, .. } => {
                    if inode.size != 0 {
                        violations.inode(ino, "a directory's size is not 0");
                    }
                    self.check_directory(ino, inode, *parent, *entries, names, violations);
                }
            }
        }
    }

    fn check_directory(
        &self,
        ino: Ino,
        inode: &Inode,
        parent: Ino,
        entries: u64,
        names: &Names,
        violations: &mut Violations,
    ) {
        let held = names.entries.get(&ino).copied().unwrap_or(0);
        if entries != held {
            violations.inode(ino, format!("counts {entries} entries, but has {held}"));
        }
        let named = names.links.get(&ino).copied().unwrap_or(0);
        if inode.nlink == 0 && ino != Ino::ROOT {
            if held != 0 || named != 0 {
                violations.inode(ino, "a removed directory has entries or a name");
            }
            if self.inode(parent).is_some_and(|parent| !parent.is_dir()) {
                violations.inode(ino, format!("its last parent {parent} is not a directory"));
            }
            return;
        }
        let links = 2 + names.directories.get(&ino).copied().unwrap_or(0);
        if u64::from(inode.nlink) != links {
            violations.inode(ino, format!("nlink is {}, but {links} links lead to it", inode.nlink));
        }
        let wanted = u64::from(ino != Ino::ROOT);
        if named != wanted {
            violations.inode(ino, format!("a directory has {named} names instead of {wanted}"));
        }
        if named == 1 && names.parents.get(&ino) != Some(&parent) {
            violations.inode(ino, format!("says that {parent} holds it, but another directory does"));
        }
    }

    /// Directories must not hold one another in a circle. What is not in a circle ends at the root, as every other
    /// directory has a name in its parent.
    fn check_reachable(&self, violations: &mut Violations) {
        let mut reached = BTreeSet::from([Ino::ROOT]);
        for (&ino, inode) in self.inodes.iter() {
            if !inode.is_dir() || inode.nlink == 0 {
                continue;
            }
            let mut way = BTreeSet::new();
            let mut at = ino;
            while !reached.contains(&at) {
                if !way.insert(at) {
                    violations.inode(ino, "cannot be reached from the root: directories hold one another");
                    break;
                }
                let Some(Body::Directory { parent, .. }) = self.inode(at).map(|inode| &inode.body) else {
                    violations.inode(ino, format!("is below {at}, which is not a directory"));
                    break;
                };
                at = *parent;
            }
            reached.extend(way);
        }
    }

    fn check_extents(&self, violations: &mut Violations) {
        let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
        let mut before: Option<(Ino, u64, Extent)> = None;
        for (&(ino, offset), &extent) in self.extents.iter() {
            let left = before.filter(|(holder, ..)| *holder == ino);
            before = None;
            let Some(inode) = self.inode(ino).filter(|inode| inode.kind() == Kind::File) else {
                violations.extent(ino, offset, "there is no such file");
                continue;
            };
            if extent.len == 0 {
                violations.extent(ino, offset, "is empty");
            }
            let Some(end) = offset.checked_add(extent.len).filter(|end| *end <= inode.size) else {
                violations.extent(ino, offset, "is not inside the file");
                continue;
            };
            if extent.place.position.checked_add(extent.len).is_none() {
                violations.extent(ino, offset, "is no range of a segment");
                continue;
            }
            if let Some((_, left_end, left)) = left {
                if left_end > offset {
                    violations.extent(ino, offset, "overlaps the one before");
                } else if left_end == offset && left.continues(&extent) {
                    violations.extent(ino, offset, "is not merged with the one before, which it continues");
                }
            }
            let count = live.entry(extent.place.segment).or_default();
            match count.checked_add(extent.len) {
                Some(sum) => *count = sum,
                None => violations.extent(ino, offset, "its segment would hold over 2^64 live bytes"),
            }
            before = Some((ino, end, extent));
        }
        for (segment, count) in self.segments.iter() {
            let found = live.remove(segment).unwrap_or(0);
            if *count != found || found == 0 {
                violations
                    .segment(*segment, format!("counts {count} live bytes, but extents refer to {found}"));
            }
        }
        for segment in live.into_keys() {
            violations.segment(segment, "extents refer to it, but it is not counted");
        }
    }

    fn check_orphans(&self, violations: &mut Violations) {
        for (&ino, ()) in self.orphans.iter() {
            if self.inode(ino).is_none_or(|inode| inode.nlink != 0) {
                violations.inode(ino, "is listed as nameless, but has a name or does not exist");
            }
        }
        for (&ino, inode) in self.inodes.iter() {
            if inode.nlink == 0 && !self.orphans.contains_key(&ino) {
                violations.inode(ino, "has no name, and is not listed as such");
            }
        }
    }

    fn check_locks(&self, violations: &mut Violations) {
        let mut before: Option<(Ino, LockMode)> = None;
        for (&(ino, owner), &mode) in self.file_locks.iter() {
            if self.inode(ino).is_none_or(|inode| inode.kind() == Kind::Symlink) {
                violations.lock(ino, owner, "there is no such file or directory");
            }
            if let Some((holder, held)) = before
                && holder == ino
                && (held == LockMode::Exclusive || mode == LockMode::Exclusive)
            {
                violations.lock(ino, owner, "conflicts with the lock of another owner");
            }
            before = Some((ino, mode));
        }
    }

    fn check_checkpoints(&self, violations: &mut Violations) {
        for (name, _) in self.checkpoints.iter() {
            if name.is_empty() || name.len() > NAME_MAX {
                violations.checkpoint(name, "a name has 1 to 255 bytes");
            }
        }
    }
}

/// What the entries say of the inodes.
#[derive(Default)]
struct Names {
    /// For each inode, how many entries lead to it.
    links: BTreeMap<Ino, u64>,
    /// For each directory, how many entries it has.
    entries: BTreeMap<Ino, u64>,
    /// For each directory, how many of its entries lead to directories.
    directories: BTreeMap<Ino, u64>,
    /// For each directory, one that has an entry for it.
    parents: BTreeMap<Ino, Ino>,
}

impl Names {
    fn count(tree: &Tree, violations: &mut Violations) -> Self {
        let mut names = Self::default();
        for (key, entry) in tree.entries.iter() {
            *names.links.entry(entry.ino).or_default() += 1;
            *names.entries.entry(key.parent).or_default() += 1;
            if entry.kind == Kind::Directory {
                *names.directories.entry(key.parent).or_default() += 1;
                names.parents.insert(entry.ino, key.parent);
            }
            match tree.inode(key.parent).map(|inode| &inode.body) {
                Some(Body::Directory { next_cookie, .. }) => {
                    if entry.cookie.0 == 0 || entry.cookie.0 >= *next_cookie {
                        violations.entry(key, "its cookie is not among those given out");
                    }
                }
                _ => violations.entry(key, "there is no such directory"),
            }
            match tree.inode(entry.ino) {
                Some(inode) if inode.kind() == entry.kind => {}
                Some(_) => violations.entry(key, format!("inode {} is of another kind", entry.ino)),
                None => violations.entry(key, format!("inode {} does not exist", entry.ino)),
            }
            if tree.listing.get(&(key.parent, entry.cookie)) != Some(&key.name) {
                violations.entry(key, "is not listed at its cookie");
            }
        }
        if tree.listing.len() != tree.entries.len() {
            violations.tree("the listing holds names that are no entries");
        }
        names
    }

    fn check_links(&self, ino: Ino, inode: &Inode, violations: &mut Violations) {
        let links = self.links.get(&ino).copied().unwrap_or(0);
        if u64::from(inode.nlink) != links {
            violations.inode(ino, format!("nlink is {}, but {links} names lead to it", inode.nlink));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Access, At, Context, Cookie, Entry, Op, OpenFlags, Place, Target, Timestamp, WriteAt, decide,
    };

    /// `d` (2) with `d/f` (3), the symlink `s` (4), a lock on `d/f`, 8 bytes in it; `gone` (5) is open only.
    fn tree() -> Tree {
        let mut tree = Tree::new(Timestamp::default());
        let flags = OpenFlags { create: true, ..OpenFlags::default() };
        let open = |path| Op::Open {
            at: At::root(path),
            access: Access { read: true, write: true },
            flags,
            mode: 0,
        };
        let lock = |owner| Op::Lock { ino: Ino(3), owner: OwnerId(owner), mode: LockMode::Shared };
        let ops = [
            Op::Mkdir { at: At::root("d"), mode: 0 },
            open("d/f"),
            Op::Symlink { target: b"d/f".to_vec(), at: At::root("s") },
            Op::Write { target: Target::Ino(Ino(3)), at: WriteAt::End, len: 8 },
            lock(1),
            lock(2),
            Op::Mkdir { at: At::root("gone"), mode: 0 },
            Op::Rmdir { at: At::root("gone") },
        ];
        let context = Context { is_open: &|_| true, ..Context::new(Timestamp::default()) };
        for op in ops {
            for change in decide(&tree, &context, &op).expect("it can be done").changes {
                tree.apply(&change, Place::default()).expect("it fits");
            }
        }
        tree
    }

    type Damage = fn(&mut Tree);

    fn inode(tree: &mut Tree, ino: u64) -> &mut Inode {
        tree.inodes.get_mut(&Ino(ino)).expect("it was made")
    }

    fn key(parent: u64, name: &str) -> EntryKey {
        EntryKey { parent: Ino(parent), name: Name::new(name.as_bytes()).expect("a name") }
    }

    #[test]
    fn each_broken_invariant_is_named() {
        assert_eq!(tree().check(), Ok(()));
        let cases: [(&str, Damage); 30] = [
            ("the root is not", |tree| inode(tree, 1).body = Body::File),
            ("not among the numbers given out", |tree| tree.next_ino = Ino(5)),
            ("has unknown bits", |tree| inode(tree, 3).mode = 0o10_000),
            ("is over the limit", |tree| inode(tree, 3).size = FILE_SIZE_MAX + 1),
            ("a directory's size", |tree| inode(tree, 2).size = 1),
            ("its target has not", |tree| inode(tree, 4).body = Body::Symlink { target: Arc::from(*b"") }),
            ("the length of its target", |tree| inode(tree, 4).size = 9),
            ("but 1 names lead to it", |tree| inode(tree, 3).nlink = 2),
            ("but 3 links lead to it", |tree| inode(tree, 1).nlink = 4),
            ("counts 0 entries, but has 1", |tree| set_directory(tree, 2, 1, 0, 2)),
            ("says that 5 holds it", |tree| set_directory(tree, 2, 5, 1, 2)),
            ("its last parent 3", |tree| set_directory(tree, 5, 3, 0, 1)),
            ("a removed directory has", |tree| {
                tree.entries.insert(key(5, "x"), Entry { ino: Ino(3), kind: Kind::File, cookie: Cookie(1) });
            }),
            ("has 2 names instead of 1", |tree| {
                tree.entries
                    .insert(key(1, "x"), Entry { ino: Ino(2), kind: Kind::Directory, cookie: Cookie(9) });
            }),
            ("its cookie is not among", |tree| set_directory(tree, 2, 1, 1, 1)),
            ("inode 3 is of another kind", |tree| {
                tree.entries
                    .insert(key(2, "f"), Entry { ino: Ino(3), kind: Kind::Symlink, cookie: Cookie(1) });
            }),
            ("inode 9 does not exist", |tree| {
                tree.entries.insert(key(2, "f"), Entry { ino: Ino(9), kind: Kind::File, cookie: Cookie(1) });
            }),
            ("there is no such directory", |tree| {
                tree.inodes.remove(&Ino(2));
            }),
            ("is not listed at its cookie", |tree| {
                tree.listing.remove(&(Ino(2), Cookie(1)));
            }),
            ("names that are no entries", |tree| {
                tree.listing.insert((Ino(2), Cookie(7)), key(2, "x").name);
            }),
            ("there is no such file", |tree| {
                tree.inodes.remove(&Ino(3));
            }),
            ("is not inside the file", |tree| inode(tree, 3).size = 7),
            ("counts 9 live bytes", |tree| {
                tree.segments.insert(SegmentId(0), 9);
            }),
            ("but extents refer to 0", |tree| {
                tree.segments.insert(SegmentId(5), 0);
            }),
            ("but it is not counted", |tree| {
                tree.segments.remove(&SegmentId(0));
            }),
            ("is listed as nameless", |tree| {
                tree.orphans.insert(Ino(3), ());
            }),
            ("is not listed as such", |tree| {
                tree.orphans.remove(&Ino(5));
            }),
            ("conflicts with the lock", |tree| {
                tree.file_locks.insert((Ino(3), OwnerId(2)), LockMode::Exclusive);
            }),
            ("no such file or directory", |tree| {
                tree.file_locks.insert((Ino(4), OwnerId(2)), LockMode::Shared);
            }),
            ("a name has 1 to 255", |tree| {
                let checkpoint =
                    crate::Checkpoint { commit: crate::CommitId::default(), time: Timestamp::default() };
                tree.checkpoints.insert(String::new(), checkpoint);
            }),
        ];
        for (text, damage) in cases {
            let mut tree = tree();
            damage(&mut tree);
            let violations = tree.check().expect_err(text);
            assert!(
                violations.iter().any(|violation| violation.to_string().contains(text)),
                "{text}: {violations:?}"
            );
        }
    }

    fn set_directory(tree: &mut Tree, ino: u64, parent: u64, entries: u64, next_cookie: u64) {
        inode(tree, ino).body = Body::Directory { parent: Ino(parent), entries, next_cookie };
    }
}
