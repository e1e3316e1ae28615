//! How two trees differ, inode by inode.
//!
//! The maps of a tree that tell of an inode have its number first in their keys: inodes, links, extents, attributes. So
//! a walk over what differs between each two of them, side by side, comes to all that differs of one inode at once, and
//! costs what differs: nodes that both trees share are skipped, and their pages need not be loaded.
//!
//! An inode is known by its number. In trees of which one came from the other that is the same file. Where both went on
//! from a common state (two forks, or a state that was gone back from), a number that was given out on either side since
//! stands for two files: the difference is exact all the same, and tells how the one is turned into the other.

use std::ops::Range;

use crate::xattr::least_xattr;
use crate::{Cookie, Extent, Ino, Inode, Lacking, Missing, Name, SegmentId, Tree, XattrName};

/// Of so many runs of one file it is told exactly which differ; what is behind them counts as different.
pub const RUNS_MAX: usize = 1 << 14;

/// How one inode differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeDifference {
    /// Its number.
    pub ino: Ino,
    /// What it was in the old tree.
    pub old: Option<Inode>,
    /// What it is in the new one.
    pub new: Option<Inode>,
    /// The names that it lost, each with its directory.
    pub lost: Vec<(Ino, Name)>,
    /// The names that it gained.
    pub gained: Vec<(Ino, Name)>,
    /// Where its bytes lie at different places in the journal, in order, without what is past the end of the longer
    /// one. They may be the same bytes all the same, as those that compaction moved.
    pub content: Vec<Range<u64>>,
    /// The extended attributes that differ.
    pub xattrs: Vec<XattrName>,
}

/// A walk over the differences of two trees, by the numbers of the inodes. It is never more than one inode in memory,
/// aside from the trees.
///
/// ```
/// use rfs_core::{At, Context, Op, Place, SegmentId, Timestamp, Tree, TreeDiff, decide};
/// let old = Tree::new(Timestamp::from_nanos(0));
/// let mut new = old.clone();
/// let context = Context::new(Timestamp::from_nanos(1));
/// for change in &decide(&new, &context, &Op::Mkdir { at: At::root("logs"), mode: 0o755 })?.changes {
///     new.apply(change, Place { segment: SegmentId(0), position: 0 })?;
/// }
/// let mut diff = TreeDiff::default();
/// let root = diff.next(&old, &new)?.expect("its time of modification is another");
/// assert!(root.gained.is_empty() && root.old.is_some());
/// let logs = diff.next(&old, &new)?.expect("it is new");
/// assert_eq!((logs.old, logs.gained.len()), (None, 1));
/// assert_eq!(diff.next(&old, &new), Ok(None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TreeDiff {
    at: At,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// All inodes before this one are done.
    Inode(Ino),
    /// All inodes are; of the names at the places before this one it is done too.
    Place(Ino, Cookie),
    End,
}

impl Default for At {
    fn default() -> Self {
        Self::Inode(Ino(0))
    }
}

impl TreeDiff {
    /// The next difference. It is to be asked with the same trees each time, loaded or not.
    ///
    /// # Errors
    /// A page of one of the trees is missing: to be loaded, and asked again.
    pub fn next(&mut self, old: &Tree, new: &Tree) -> Result<Option<InodeDifference>, Lacking> {
        if let At::Inode(from) = self.at {
            if let Some(ino) = first(old, new, from)? {
                let found = of_inode(old, new, ino)?;
                self.at =
                    ino.0.checked_add(1).map_or(At::Place(Ino(0), Cookie(0)), |next| At::Inode(Ino(next)));
                return Ok(Some(found));
            }
            self.at = At::Place(Ino(0), Cookie(0));
        }
        self.next_renamed(old, new)
    }

    /// The next place in a directory where the same inode stands under another name: such names are not seen by the
    /// links. It can only be where both trees gave out the same cookies.
    fn next_renamed(&mut self, old: &Tree, new: &Tree) -> Result<Option<InodeDifference>, Lacking> {
        while let At::Place(parent, cookie) = self.at {
            let next = new.listing.since_from(&old.listing, Some((parent, cookie))).next();
            let Some(difference) = next.transpose()? else { break };
            let &(parent, cookie) = difference.key;
            if let (Some(was), Some(is)) = (difference.old, difference.new) {
                let then = old.entry(parent, was).map_err(Lacking::Old)?;
                let now = new.entry(parent, is).map_err(Lacking::New)?;
                if let (Some(then), Some(now)) = (then, now)
                    && then.ino == now.ino
                {
                    let ino = now.ino;
                    let found = InodeDifference {
                        ino,
                        old: old.inode(ino).map_err(Lacking::Old)?.cloned(),
                        new: new.inode(ino).map_err(Lacking::New)?.cloned(),
                        lost: vec![(parent, was.clone())],
                        gained: vec![(parent, is.clone())],
                        content: Vec::new(),
                        xattrs: Vec::new(),
                    };
                    self.at = after(parent, cookie);
                    return Ok(Some(found));
                }
            }
            self.at = after(parent, cookie);
        }
        self.at = At::End;
        Ok(None)
    }
}

const fn after(parent: Ino, cookie: Cookie) -> At {
    match (cookie.0.checked_add(1), parent.0.checked_add(1)) {
        (Some(cookie), _) => At::Place(parent, Cookie(cookie)),
        (None, Some(parent)) => At::Place(Ino(parent), Cookie(0)),
        (None, None) => At::End,
    }
}

/// The first inode from one on of which something differs.
fn first(old: &Tree, new: &Tree, from: Ino) -> Result<Option<Ino>, Lacking> {
    let inode = new.inodes.since_from(&old.inodes, Some(from)).next().transpose()?;
    let mut found = inode.map(|difference| *difference.key);
    let mut note = |ino: Ino| found = Some(found.map_or(ino, |found| found.min(ino)));
    let key = Some((from, Ino(0), Cookie(0)));
    if let Some(link) = new.links.since_from(&old.links, key).next().transpose()? {
        note(link.key.0);
    }
    if let Some(extent) = new.extents.since_from(&old.extents, Some((from, 0))).next().transpose()? {
        note(extent.key.0);
    }
    let key = Some(least_xattr(from));
    if let Some(xattr) = new.xattrs.since_from(&old.xattrs, key).next().transpose()? {
        note(xattr.key.0);
    }
    Ok(found)
}

fn of_inode(old: &Tree, new: &Tree, ino: Ino) -> Result<InodeDifference, Lacking> {
    let mut found = InodeDifference {
        ino,
        old: old.inode(ino).map_err(Lacking::Old)?.cloned(),
        new: new.inode(ino).map_err(Lacking::New)?.cloned(),
        lost: Vec::new(),
        gained: Vec::new(),
        content: Vec::new(),
        xattrs: Vec::new(),
    };
    for link in new.links.since_from(&old.links, Some((ino, Ino(0), Cookie(0)))) {
        let link = link?;
        let &(of, parent, cookie) = link.key;
        if of != ino {
            break;
        }
        if link.old.is_some() {
            let name = old.listing.get(&(parent, cookie)).map_err(Lacking::Old)?;
            found.lost.extend(name.map(|name| (parent, name.clone())));
        } else {
            let name = new.listing.get(&(parent, cookie)).map_err(Lacking::New)?;
            found.gained.extend(name.map(|name| (parent, name.clone())));
        }
    }
    for xattr in new.xattrs.since_from(&old.xattrs, Some(least_xattr(ino))) {
        let xattr = xattr?;
        if xattr.key.0 != ino {
            break;
        }
        found.xattrs.push(xattr.key.1.clone());
    }
    let (mut was, mut is) = (Vec::new(), Vec::new());
    let mut rest = None;
    for run in new.extents.since_from(&old.extents, Some((ino, 0))) {
        let run = run?;
        let &(of, offset) = run.key;
        if of != ino {
            break;
        }
        if was.len() + is.len() >= RUNS_MAX {
            rest = Some(offset);
            break;
        }
        was.extend(run.old.map(|extent| (offset, *extent)));
        is.extend(run.new.map(|extent| (offset, *extent)));
    }
    found.content = differing(&was, &is);
    if let Some(rest) = rest {
        let end = |inode: &Option<Inode>| inode.as_ref().map_or(0, |inode| inode.size);
        push(&mut found.content, rest..end(&found.old).max(end(&found.new)));
    }
    Ok(found)
}

impl Tree {
    /// Where a file's bytes are stored: what is not in a hole, in order; after [`RUNS_MAX`] runs all up to its end.
    ///
    /// # Errors
    /// A page is missing.
    pub fn stored_ranges(&self, ino: Ino) -> Result<Vec<Range<u64>>, Missing> {
        let mut ranges = Vec::new();
        for (count, run) in self.extents.range((ino, 0)..(ino.next(), 0)).enumerate() {
            let (&(_, offset), extent) = run?;
            if count == RUNS_MAX {
                let end = self.inode(ino)?.map_or(offset, |inode| inode.size);
                push(&mut ranges, offset..end);
                break;
            }
            push(&mut ranges, offset..offset + extent.len);
        }
        Ok(ranges)
    }
}

impl Tree {
    /// Where a file's bytes lie in this segment or in later ones, in order; after [`RUNS_MAX`] such runs all up to its
    /// end.
    ///
    /// # Errors
    /// A page is missing.
    pub fn ranges_from(&self, ino: Ino, segment: SegmentId) -> Result<Vec<Range<u64>>, Missing> {
        let (mut ranges, mut count) = (Vec::new(), 0);
        for run in self.extents.range((ino, 0)..(ino.next(), 0)) {
            let (&(_, offset), extent) = run?;
            if extent.place.segment < segment {
                continue;
            }
            if count == RUNS_MAX {
                let end = self.inode(ino)?.map_or(offset, |inode| inode.size);
                push(&mut ranges, offset..end);
                break;
            }
            count += 1;
            push(&mut ranges, offset..offset + extent.len);
        }
        Ok(ranges)
    }
}

/// The ranges in which two lists of runs, each in order and without overlap, lead to different places.
fn differing(old: &[(u64, Extent)], new: &[(u64, Extent)]) -> Vec<Range<u64>> {
    let (mut ranges, mut at) = (Vec::new(), 0);
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let over = |at: u64| move |run: &&(u64, Extent)| run.0 + run.1.len <= at;
        while old.next_if(over(at)).is_some() {}
        while new.next_if(over(at)).is_some() {}
        let runs = [old.peek().copied(), new.peek().copied()];
        let Some(start) = runs.iter().flatten().map(|run| run.0.max(at)).min() else { return ranges };
        let place = |run: Option<&(u64, Extent)>| {
            let (offset, extent) = run.filter(|run| run.0 <= start)?;
            Some((extent.place.segment, extent.place.position + (start - offset)))
        };
        let stop = |run: &(u64, Extent)| if run.0 <= start { run.0 + run.1.len } else { run.0 };
        at = runs.iter().flatten().map(|run| stop(run)).min().unwrap_or(start);
        if place(runs[0]) != place(runs[1]) {
            push(&mut ranges, start..at);
        }
    }
}

/// Adds a range behind the others.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ if range.is_empty() => {}
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests;
