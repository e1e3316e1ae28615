//! The full check of a tree against its invariants. It takes time in proportion to the tree.
//!
//! It is what makes a tree that was read from outside trustworthy: everything else in this crate relies on the
//! invariants that are checked here, and nothing here relies on any of them.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::apply::is_symlink_target;
use crate::xattr::fits;
use crate::{
    Body, EntryKey, Extent, FILE_SIZE_MAX, HeldRange, Ino, Inode, Kind, LockMode, LockOwner, LockRange,
    NAME_MAX, Name, SegmentId, Tree,
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
    /// Checks every invariant. All pages have to be loaded: [`Tree::missing_pages`] tells which are not.
    ///
    /// # Errors
    /// What is wrong: the first hundred violations.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        if let Err(missing) = self.whole() {
            violations.tree(format!("it cannot be checked: {missing}"));
            return violations.into_result();
        }
        self.check_lengths(&mut violations);
        let names = Names::count(self, &mut violations);
        self.check_inodes(&names, &mut violations);
        self.check_reachable(&mut violations);
        self.check_extents(&mut violations);
        self.check_orphans(&mut violations);
        self.check_holds(&mut violations);
        self.check_xattrs(&mut violations);
        self.check_locks(&mut violations);
        self.check_quotas(&mut violations);
        self.check_checkpoints(&mut violations);
        violations.into_result()
    }

    fn check_lengths(&self, violations: &mut Violations) {
        let maps = [
            ("inodes", self.inodes.len(), self.inodes.loaded().count()),
            ("entries", self.entries.len(), self.entries.loaded().count()),
            ("entries by cookie", self.listing.len(), self.listing.loaded().count()),
            ("entries by inode", self.links.len(), self.links.loaded().count()),
            ("extents", self.extents.len(), self.extents.loaded().count()),
            ("attributes", self.xattrs.len(), self.xattrs.loaded().count()),
            ("segments", self.segments.len(), self.segments.loaded().count()),
        ];
        for (what, counted, found) in maps {
            if counted != found as u64 {
                violations.tree(format!("counts {counted} {what}, but has {found}"));
            }
        }
    }

    fn check_inodes(&self, names: &Names, violations: &mut Violations) {
        match self.known(Ino::ROOT).map(|root| &root.body) {
            Some(Body::Directory { parent: Ino::ROOT, .. }) => {}
            _ => violations.inode(Ino::ROOT, "the root is not a directory that holds itself"),
        }
        for (&ino, inode) in self.inodes.loaded() {
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
                    if inode.size != 0 {
                        violations.inode(ino, "the size of what has no content is not 0");
                    }
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
            if self.known(parent).is_some_and(|parent| !parent.is_dir()) {
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
        for (&ino, inode) in self.inodes.loaded() {
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
                let Some(Body::Directory { parent, .. }) = self.known(at).map(|inode| &inode.body) else {
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
        let mut allocated: BTreeMap<Ino, u64> = BTreeMap::new();
        let mut total: u64 = 0;
        let mut before: Option<(Ino, u64, Extent)> = None;
        for (&(ino, offset), &extent) in self.extents.loaded() {
            let left = before.filter(|(holder, ..)| *holder == ino);
            before = None;
            let Some(inode) = self.known(ino).filter(|inode| inode.kind() == Kind::File) else {
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
                    continue;
                }
                if left_end == offset && left.continues(&extent) {
                    violations.extent(ino, offset, "is not merged with the one before, which it continues");
                }
            }
            let count = live.entry(extent.place.segment).or_default();
            match (total.checked_add(extent.len), count.checked_add(extent.len)) {
                (Some(sum), Some(live)) => (total, *count) = (sum, live),
                _ => violations.extent(ino, offset, "the tree would store over 2^64 bytes"),
            }
            // It does not overflow: what is counted of an inode lies between the end of the one before and its size.
            *allocated.entry(ino).or_default() += extent.len;
            before = Some((ino, end, extent));
        }
        for (segment, count) in self.segments.loaded() {
            let found = live.remove(segment).unwrap_or(0);
            if *count != found || found == 0 {
                violations
                    .segment(*segment, format!("counts {count} live bytes, but extents refer to {found}"));
            }
        }
        for segment in live.into_keys() {
            violations.segment(segment, "extents refer to it, but it is not counted");
        }
        if self.allocated != total {
            violations.tree(format!("counts {} stored bytes, but extents have {total}", self.allocated));
        }
        for (&ino, inode) in self.inodes.loaded() {
            let stored = allocated.get(&ino).copied().unwrap_or(0);
            if inode.allocated != stored {
                let counted = inode.allocated;
                violations
                    .inode(ino, format!("counts {counted} stored bytes, but its extents have {stored}"));
            }
        }
    }

    fn check_orphans(&self, violations: &mut Violations) {
        for (&ino, ()) in self.orphans.iter() {
            if self.known(ino).is_none_or(|inode| inode.nlink != 0) {
                violations.inode(ino, "is listed as nameless, but has a name or does not exist");
            }
        }
        for (&ino, inode) in self.inodes.loaded() {
            if inode.nlink == 0 && !self.orphans.contains_key(&ino) {
                violations.inode(ino, "has no name, and is not listed as such");
            }
        }
    }

    /// A nameless inode may be held by nobody: its history may be older than holds are. The next session removes it.
    fn check_holds(&self, violations: &mut Violations) {
        for (&(ino, owner), ()) in self.holds.iter() {
            if !self.orphans.contains_key(&ino) {
                violations.inode(ino, format!("is held by owner {owner}, but is not nameless"));
            }
        }
        for (&ino, ()) in self.linkable.iter() {
            let file = self.known(ino).is_some_and(|inode| inode.kind() == Kind::File);
            if !file || !self.orphans.contains_key(&ino) {
                violations.inode(ino, "may get a first name, but is not a nameless file");
            }
        }
    }

    fn check_xattrs(&self, violations: &mut Violations) {
        for ((ino, name), value) in self.xattrs.loaded() {
            match self.known(*ino) {
                None => violations.inode(*ino, format!("has an attribute {name}, but does not exist")),
                Some(inode) if !fits(inode, name, value) => {
                    violations.inode(*ino, format!("cannot have its value of the attribute {name}"));
                }
                Some(_) => {}
            }
        }
    }

    fn check_locks(&self, violations: &mut Violations) {
        let mut before: Option<(Ino, LockMode)> = None;
        for (&(ino, owner), &mode) in self.file_locks.iter() {
            self.check_lockable(ino, owner, violations);
            if let Some((holder, held)) = before
                && holder == ino
                && mode.excludes(held)
            {
                violations.lock(ino, owner, "conflicts with the lock of another owner");
            }
            before = Some((ino, mode));
        }
        let mut before: Option<(Ino, HeldRange)> = None;
        let mut ranges: BTreeMap<Ino, Vec<HeldRange>> = BTreeMap::new();
        for (&(ino, owner, start), lock) in self.range_locks.iter() {
            self.check_lockable(ino, owner, violations);
            let held = HeldRange { range: LockRange { start, end: lock.end }, owner, mode: lock.mode };
            if !held.range.is_valid() {
                violations.lock(ino, owner, format!("{:?} is no range that can be locked", held.range));
            }
            if let Some((_, left)) = before.filter(|(of, left)| *of == ino && left.owner == owner) {
                if left.range.end > start {
                    violations.lock(ino, owner, format!("its range at {start} overlaps the one before"));
                } else if left.range.end == start && left.mode == lock.mode {
                    violations.lock(
                        ino,
                        owner,
                        format!("its range at {start} is not merged with the one before"),
                    );
                }
            }
            before = Some((ino, held));
            ranges.entry(ino).or_default().push(held);
        }
        for (ino, mut held) in ranges {
            held.sort_unstable_by_key(|held| held.range.start);
            let (mut all, mut exclusive) = (Furthest::default(), Furthest::default());
            for held in held {
                let others = if held.mode == LockMode::Exclusive { &all } else { &exclusive };
                if others.end_of_others(held.owner) > held.range.start {
                    let start = held.range.start;
                    violations.lock(
                        ino,
                        held.owner,
                        format!("its range at {start} conflicts with another owner's"),
                    );
                }
                all.add(&held);
                if held.mode == LockMode::Exclusive {
                    exclusive.add(&held);
                }
            }
        }
    }

    fn check_lockable(&self, ino: Ino, owner: LockOwner, violations: &mut Violations) {
        if self.known(ino).is_none_or(|inode| inode.kind() == Kind::Symlink) {
            violations.lock(ino, owner, "there is no such file or directory");
        }
    }

    fn check_quotas(&self, violations: &mut Violations) {
        for (subject, limits) in self.quotas.iter() {
            if limits.are_none() {
                violations.tree(format!("the quota of {subject:?} limits nothing"));
            }
        }
        let mut users = self.usage_by_user();
        for (uid, counted) in self.users.iter() {
            let found = users.remove(uid);
            if found != Some(*counted) {
                violations.tree(format!("counts {counted:?} of user {uid} instead of {found:?}"));
            }
        }
        for (uid, found) in users {
            violations.tree(format!("does not count {found:?} of user {uid}"));
        }
    }

    /// The inode, as far as it is loaded.
    fn known(&self, ino: Ino) -> Option<&Inode> {
        self.inode(ino).ok().flatten()
    }

    fn check_checkpoints(&self, violations: &mut Violations) {
        for (name, _) in self.checkpoints.iter() {
            if name.is_empty() || name.len() > NAME_MAX {
                violations.checkpoint(name, "a name has 1 to 255 bytes");
            }
        }
    }
}

/// How far the locks reach that begin before a byte: the furthest end, and the furthest of any other owner.
#[derive(Default)]
struct Furthest {
    first: Option<(LockOwner, u64)>,
    of_others: u64,
}

impl Furthest {
    fn end_of_others(&self, owner: LockOwner) -> u64 {
        match self.first {
            Some((holder, end)) if holder != owner => end,
            _ => self.of_others,
        }
    }

    fn add(&mut self, held: &HeldRange) {
        let end = held.range.end;
        match self.first {
            Some((holder, first)) if holder == held.owner => self.first = Some((holder, first.max(end))),
            Some((_, first)) if first < end => {
                self.of_others = first;
                self.first = Some((held.owner, end));
            }
            Some(_) => self.of_others = self.of_others.max(end),
            None => self.first = Some((held.owner, end)),
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
        for (key, entry) in tree.entries.loaded() {
            *names.links.entry(entry.ino).or_default() += 1;
            *names.entries.entry(key.parent).or_default() += 1;
            if entry.kind == Kind::Directory {
                *names.directories.entry(key.parent).or_default() += 1;
                names.parents.insert(entry.ino, key.parent);
            }
            match tree.known(key.parent).map(|inode| &inode.body) {
                Some(Body::Directory { next_cookie, .. }) => {
                    if entry.cookie.0 == 0 || entry.cookie.0 >= *next_cookie {
                        violations.entry(key, "its cookie is not among those given out");
                    }
                }
                _ => violations.entry(key, "there is no such directory"),
            }
            match tree.known(entry.ino) {
                Some(inode) if inode.kind() == entry.kind => {}
                Some(_) => violations.entry(key, format!("inode {} is of another kind", entry.ino)),
                None => violations.entry(key, format!("inode {} does not exist", entry.ino)),
            }
            if tree.listing.get(&(key.parent, entry.cookie)) != Ok(Some(&key.name)) {
                violations.entry(key, "is not listed at its cookie");
            }
            if tree.links.get(&(entry.ino, key.parent, entry.cookie)) != Ok(Some(&())) {
                violations.entry(key, "is not found by its inode");
            }
        }
        if tree.links.len() != tree.entries.len() {
            violations.tree("the names by inode hold some that are no entries");
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
mod tests;
