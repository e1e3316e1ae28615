//! How two states of a volume differ.

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use rfs_core::{
    Attr, Body, Ino, Inode, InodeDifference, Lacking, Missing, Name, SegmentId, Tree, TreeDiff, XattrName,
};

use crate::error::{Error, ErrorKind, Result};
use crate::inodes::Inodes;
use crate::volume::{Handle, Volume};

/// So many directories are remembered with their names.
const DIRS: usize = 1 << 14;
/// A page takes so many times its stored size in memory, about.
const EXPANSION: u64 = 4;
/// Names of one inode that are fetched at a time.
const NAMES: usize = 1024;

/// How one file, directory or other inode differs between two states.
///
/// An inode is known by its number: what is renamed, or linked, is the same one. A directory whose entries changed has
/// other times, and is told too; what is below a directory that was renamed is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The inode.
    pub ino: Ino,
    /// In which of the states it is.
    pub kind: DifferenceKind,
    /// A path of it: in the second state, or, if it is removed, in the first.
    pub path: PathBuf,
    /// Its attributes in the first state.
    pub before: Option<Attr>,
    /// Its attributes in the second state.
    pub after: Option<Attr>,
    /// The names that became others. Of a file that lost and gained several, each lost one with a gained one.
    pub renamed: Vec<(PathBuf, PathBuf)>,
    /// The names that it lost besides; of what is removed all.
    pub unlinked: Vec<PathBuf>,
    /// The names that it gained besides; of what is created all.
    pub linked: Vec<PathBuf>,
    /// Where its content differs, in order: by the places in the journal that its bytes lie at, so these may be the same
    /// bytes (what was written again, or moved by compaction). What lies outside is the same for certain, up to the
    /// smaller of the sizes. Of a file that is created all that is stored; of one that is removed nothing is told.
    pub content: Vec<Range<u64>>,
    /// The extended attributes that differ.
    pub xattrs: Vec<XattrName>,
}

/// In which of two states something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// In the second only.
    Created,
    /// In the first only.
    Removed,
    /// In both.
    Changed,
}

impl Volume {
    /// How `later` differs from this state. Both are states of one volume, or of volumes of which one is a fork of the
    /// other; either may be open for writing: then it is its state of now, committed or not. The differences come one
    /// after the other, by inode numbers, in time that follows their number: of the trees only what differs is read, and
    /// no content.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// use rfs::{At, DifferenceKind, Options, Volume};
    /// let volume = Volume::open_or_create("memory://diff", Options::new()).await?;
    /// volume.fs().write("/draft", b"text").await?;
    /// volume.checkpoint("monday").await?.wait().await?;
    /// volume.fs().rename("/draft", "/final").await?;
    ///
    /// let monday = At::Checkpoint("monday".to_owned());
    /// let monday = Volume::open_read_only("memory://diff", Options::new(), monday).await?;
    /// let mut diff = monday.diff(&volume)?;
    /// while let Some(difference) = diff.next().await? {
    ///     assert_eq!(difference.kind, DifferenceKind::Changed);
    ///     for (from, to) in difference.renamed {
    ///         assert_eq!((from.to_str(), to.to_str()), (Some("/draft"), Some("/final")));
    ///     }
    /// }
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] and other errors of a volume that is of no use any more.
    pub fn diff(&self, later: &Self) -> Result<Diff> {
        Ok(Diff { states: States::of(self, later)?, walk: TreeDiff::default(), next: None })
    }
}

/// The differences of two states, from [`Volume::diff`].
#[derive(Debug)]
pub struct Diff {
    states: States,
    walk: TreeDiff,
    /// The other half of what was told already.
    next: Option<Difference>,
}

impl Diff {
    /// The next difference; none when there are no more.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], [`ErrorKind::Outage`] and other errors of the store: then it can be asked again.
    pub async fn next(&mut self) -> Result<Option<Difference>> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        while let Some(found) = self.states.next(&mut self.walk).await? {
            return match Change::of(&found) {
                Change::None => continue,
                Change::Created(new) => self.created(found.ino, new).await,
                Change::Removed(old) => self.removed(found.ino, old).await,
                Change::Replaced(old, new) => {
                    let removed = self.removed(found.ino, old).await?;
                    self.next = Some(self.created(found.ino, new).await?);
                    Ok(removed)
                }
                Change::Changed(old, new) => {
                    let (before, after) = (old.attr(found.ino), new.attr(found.ino));
                    self.changed(&found, before, after).await
                }
            }
            .map(Some);
        }
        Ok(None)
    }

    async fn created(&mut self, ino: Ino, new: &Inode) -> Result<Difference> {
        let linked = self.states.new.paths(ino).await?;
        let mut content = Vec::new();
        if let Body::File = new.body {
            let ranges = self.states.new.ask(|tree| tree.stored_ranges(ino)).await?;
            content = ranges;
        }
        let xattrs = self.states.new.xattr_names(ino).await?;
        let path = linked.first().cloned().unwrap_or_else(|| PathBuf::from("/"));
        let (kind, after) = (DifferenceKind::Created, Some(new.attr(ino)));
        let (renamed, unlinked, before) = (Vec::new(), Vec::new(), None);
        Ok(Difference { ino, kind, path, before, after, renamed, unlinked, linked, content, xattrs })
    }

    async fn removed(&mut self, ino: Ino, old: &Inode) -> Result<Difference> {
        let unlinked = self.states.old.paths(ino).await?;
        let xattrs = self.states.old.xattr_names(ino).await?;
        let path = unlinked.first().cloned().unwrap_or_else(|| PathBuf::from("/"));
        let (kind, before) = (DifferenceKind::Removed, Some(old.attr(ino)));
        let (renamed, linked, content, after) = (Vec::new(), Vec::new(), Vec::new(), None);
        Ok(Difference { ino, kind, path, before, after, renamed, unlinked, linked, content, xattrs })
    }

    async fn changed(&mut self, found: &InodeDifference, before: Attr, after: Attr) -> Result<Difference> {
        let mut unlinked = Vec::new();
        for (parent, name) in &found.lost {
            unlinked.push(self.states.old.path(*parent, name).await?);
        }
        let mut linked = Vec::new();
        for (parent, name) in &found.gained {
            linked.push(self.states.new.path(*parent, name).await?);
        }
        let pairs = unlinked.len().min(linked.len());
        let renamed: Vec<_> = unlinked.drain(..pairs).zip(linked.drain(..pairs)).collect();
        let path = match (renamed.first(), linked.first()) {
            (Some((_, to)), _) | (None, Some(to)) => to.clone(),
            (None, None) => self.states.new.first_path(found.ino).await?,
        };
        Ok(Difference {
            ino: found.ino,
            kind: DifferenceKind::Changed,
            path,
            before: Some(before),
            after: Some(after),
            renamed,
            unlinked,
            linked,
            content: found.content.clone(),
            xattrs: found.xattrs.clone(),
        })
    }
}

/// What became of an inode, as far as it has a name.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// It has a name in neither state.
    None,
    Created(&'a Inode),
    Removed(&'a Inode),
    /// It is something else altogether, under the same number: both sides went on from a common state.
    Replaced(&'a Inode, &'a Inode),
    Changed(&'a Inode, &'a Inode),
}

impl<'a> Change<'a> {
    pub(crate) fn of(found: &'a InodeDifference) -> Self {
        // What has no name is seen by those only who hold it open.
        let old = found.old.as_ref().filter(|inode| inode.nlink > 0);
        let new = found.new.as_ref().filter(|inode| inode.nlink > 0);
        match (old, new) {
            (None, None) => Self::None,
            (None, Some(new)) => Self::Created(new),
            (Some(old), None) => Self::Removed(old),
            (Some(old), Some(new)) if is_same_object(&old.body, &new.body) => Self::Changed(old, new),
            (Some(old), Some(new)) => Self::Replaced(old, new),
        }
    }
}

/// Whether one can become the other by what can be done to it.
fn is_same_object(old: &Body, new: &Body) -> bool {
    match (old, new) {
        (Body::File, Body::File) | (Body::Directory { .. }, Body::Directory { .. }) => true,
        (old, new) => old == new,
    }
}

/// Two states that are compared.
#[derive(Debug)]
pub(crate) struct States {
    pub(crate) old: Side,
    pub(crate) new: Side,
    parted: Parted,
}

/// From which segment on equal places hold other bytes, since both went on from a common state.
#[derive(Clone, Copy, Debug)]
enum Parted {
    /// They are states of one volume.
    Never,
    /// It was not looked yet.
    Unknown,
    From(SegmentId),
}

/// A state as it was when the comparison began.
#[derive(Debug)]
pub(crate) struct Side {
    handle: Arc<Handle>,
    tree: Tree,
    /// Bytes that were loaded since pages were let go of.
    loaded: u64,
    dirs: HashMap<Ino, (Ino, Name)>,
}

impl States {
    pub(crate) fn of(old: &Volume, new: &Volume) -> Result<Self> {
        let parted = if old.id() == new.id() { Parted::Never } else { Parted::Unknown };
        Ok(Self { old: Side::of(old)?, new: Side::of(new)?, parted })
    }

    /// The next difference of a walk.
    pub(crate) async fn next(&mut self, walk: &mut TreeDiff) -> Result<Option<InodeDifference>> {
        let parted = self.parted().await?;
        loop {
            match walk.next(&self.old.tree, &self.new.tree) {
                Ok(Some(mut found)) => {
                    if let Some(segment) = parted {
                        self.add_parted(&mut found, segment).await?;
                    }
                    return Ok(Some(found));
                }
                Ok(None) => return Ok(None),
                Err(Lacking::Old(missing)) => self.old.load(&missing).await?,
                Err(Lacking::New(missing)) => self.new.load(&missing).await?,
            }
        }
    }
}

impl States {
    async fn parted(&mut self) -> Result<Option<SegmentId>> {
        match self.parted {
            Parted::Never => return Ok(None),
            Parted::From(segment) => return Ok(Some(segment)),
            Parted::Unknown => {}
        }
        let (old, new) = (&self.old.handle.shared, &self.new.handle.shared);
        let parted = new.content.parts_from(&old.content).await;
        let doing = || format!("compare {} with {}", old.store.url(), new.store.url());
        let parted = parted.map_err(|error| Error::recovery(doing(), error))?;
        self.parted = Parted::From(parted);
        Ok(Some(parted))
    }

    /// Adds what lies at places that are the same by name only.
    async fn add_parted(&mut self, found: &mut InodeDifference, segment: SegmentId) -> Result<()> {
        let ino = found.ino;
        let mut ranges = std::mem::take(&mut found.content);
        ranges.extend(self.old.ask(|tree| tree.ranges_from(ino, segment)).await?);
        ranges.extend(self.new.ask(|tree| tree.ranges_from(ino, segment)).await?);
        ranges.sort_unstable_by_key(|range| range.start);
        for range in ranges {
            match found.content.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => found.content.push(range),
            }
        }
        Ok(())
    }
}

impl Side {
    fn of(volume: &Volume) -> Result<Self> {
        let handle = Arc::clone(volume.handle());
        let tree = {
            let live = handle.shared.live.read();
            let doing = || format!("compare {} with another state", handle.shared.store.url());
            live.usable().map_err(|refused| refused.doing(doing))?;
            live.tree.clone()
        };
        Ok(Self { handle, tree, loaded: 0, dirs: HashMap::new() })
    }

    pub(crate) fn inodes(&self) -> Inodes {
        Inodes::new(Arc::clone(&self.handle))
    }

    /// Asks the tree, with the pages that this needs.
    pub(crate) async fn ask<T>(
        &mut self,
        mut ask: impl FnMut(&Tree) -> std::result::Result<T, Missing>,
    ) -> Result<T> {
        loop {
            match ask(&self.tree) {
                Ok(answer) => return Ok(answer),
                Err(missing) => self.load(&missing).await?,
            }
        }
    }

    async fn load(&mut self, missing: &Missing) -> Result<()> {
        self.handle.shared.load(missing).await?;
        self.loaded += u64::from(missing.page().len) * EXPANSION;
        if self.loaded > self.handle.shared.options.tree_bytes / 4 {
            self.loaded = 0;
            self.tree.evict();
            self.tree.age();
        }
        Ok(())
    }

    /// The names of an inode, each with its directory; the root has none.
    pub(crate) async fn names(&mut self, ino: Ino) -> Result<Vec<(Ino, Name)>> {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let some = self.ask(|tree| tree.names(ino, after, NAMES)).await?;
            after = some.last().map(|(parent, cookie, _)| (*parent, *cookie));
            let is_all = some.len() < NAMES;
            names.extend(some.into_iter().map(|(parent, _, name)| (parent, name)));
            if is_all || after.is_none() {
                return Ok(names);
            }
        }
    }

    /// The directories below the root that lead to a directory, with their names: that one last.
    pub(crate) async fn way(&mut self, dir: Ino) -> Result<Vec<(Ino, Name)>> {
        let (mut way, mut at) = (Vec::new(), dir);
        while at != Ino::ROOT {
            if let Some((parent, name)) = self.dirs.get(&at) {
                way.push((at, name.clone()));
                at = *parent;
                continue;
            }
            let name = self.ask(|tree| tree.names(at, None, 1)).await?.pop();
            // A damaged tree may have directories that hold one another.
            let most = self.tree.inode_count();
            let Some((parent, _, name)) = name.filter(|_| (way.len() as u64) < most) else {
                let what = format!("inode {dir} of {}: no path leads to it", self.handle.shared.store.url());
                return Err(Error::new(ErrorKind::Damaged, what));
            };
            if self.dirs.len() >= DIRS {
                self.dirs.clear();
            }
            self.dirs.insert(at, (parent, name.clone()));
            way.push((at, name));
            at = parent;
        }
        way.reverse();
        Ok(way)
    }

    pub(crate) async fn path(&mut self, parent: Ino, name: &Name) -> Result<PathBuf> {
        let mut path = Vec::new();
        for (_, dir) in self.way(parent).await? {
            path.push(b'/');
            path.extend_from_slice(dir.as_bytes());
        }
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        Ok(PathBuf::from(OsString::from_vec(path)))
    }

    /// All paths of an inode.
    async fn paths(&mut self, ino: Ino) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (parent, name) in self.names(ino).await? {
            paths.push(self.path(parent, &name).await?);
        }
        Ok(paths)
    }

    /// One path of an inode.
    pub(crate) async fn first_path(&mut self, ino: Ino) -> Result<PathBuf> {
        match self.ask(|tree| tree.names(ino, None, 1)).await?.pop() {
            Some((parent, _, name)) => self.path(parent, &name).await,
            None => Ok(PathBuf::from("/")),
        }
    }

    async fn xattr_names(&mut self, ino: Ino) -> Result<Vec<XattrName>> {
        self.ask(|tree| tree.all_xattrs(ino).map(|xattrs| xattrs.into_iter().map(|(name, _)| name).collect()))
            .await
    }
}
