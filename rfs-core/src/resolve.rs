//! From a path to an inode, step by step as Linux does it, so that every error is the one Linux gives.
//!
//! A walk stands at a directory. It takes the components of a path one by one, all but the last; what the last
//! one means is for the Op to say. Symlinks on the way are followed without recursion: what is left of the path
//! waits on a stack while the link's target is walked.

use crate::tree::Entry;
use crate::{
    At, Body, Credential, Errno, Fault, Ino, Kind, NAME_MAX, Name, PATH_MAX, SYMLINKS_MAX, Target, Tree,
};

/// The last component of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last<'a> {
    /// A name to look up in the directory where the walk stands. It may be too long.
    Normal(&'a [u8]),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path is made of slashes.
    Root,
}

/// A path up to its last component, which is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved<'a> {
    /// The directory that the last component is in.
    pub(crate) parent: Ino,
    /// The last component.
    pub(crate) last: Last<'a>,
    /// Whether slashes follow it.
    pub(crate) trailing_slash: bool,
}

/// The state of a path resolution.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    tree: &'a Tree,
    credential: &'a Credential,
    /// Where the walk stands: a directory, as soon as a component was taken.
    pub(crate) ino: Ino,
    /// The component that is next.
    pub(crate) last: Last<'a>,
    /// Whether slashes follow it.
    pub(crate) trailing_slash: bool,
    symlinks: usize,
}

impl Tree {
    /// The inode that a path leads to, for a caller that has to be allowed to search every directory on the way. A
    /// symlink at its end is followed if `follow`, or if a slash comes after it.
    ///
    /// ```
    /// use rfs_core::{At, Credential, Errno, Ino, Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// let root = Credential::root();
    /// assert_eq!(tree.lookup(&root, &At::root("/.."), true), Ok(Ino::ROOT));
    /// assert_eq!(tree.lookup(&root, &At::root("missing"), true), Err(Errno::NotFound.into()));
    /// ```
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`; `EINVAL` for a path with a NUL; `ESTALE` when the inode that
    /// the path starts from is gone.
    pub fn lookup(&self, credential: &Credential, at: &At, follow: bool) -> Result<Ino, Fault> {
        let (mut walk, mut path) = Walk::start(self, credential, at)?;
        let mut follow = follow;
        let mut directory = false;
        loop {
            walk.reach_last(path)?;
            let Last::Normal(name) = walk.last else {
                return walk.dots();
            };
            if walk.trailing_slash {
                follow = true;
                directory = true;
            }
            let (_, entry) = self.child(walk.ino, name)?.ok_or(Errno::NotFound)?;
            if entry.kind != Kind::Symlink || !follow {
                return if directory && entry.kind != Kind::Directory {
                    Err(Errno::NotADirectory.into())
                } else {
                    Ok(entry.ino)
                };
            }
            path = walk.follow(entry.ino)?;
            if path.is_empty() {
                return Ok(walk.ino);
            }
        }
    }

    /// The inode that an Op is about.
    ///
    /// # Errors
    /// Those of [`Tree::lookup`]; `ESTALE` when an inode given by number is gone.
    pub fn target(&self, credential: &Credential, target: &Target) -> Result<Ino, Fault> {
        match target {
            Target::Path { at, follow } => self.lookup(credential, at, *follow),
            Target::Ino(ino) => self.existing(*ino).map(|_| *ino),
        }
    }

    /// What one name in a directory leads to; a symlink is not followed, `.` is the directory itself and `..` the
    /// one that holds it.
    ///
    /// ```
    /// use rfs_core::{Credential, Errno, Ino, Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// assert_eq!(tree.child_of(&Credential::root(), Ino::ROOT, b"missing"), Err(Errno::NotFound.into()));
    /// ```
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES` when the caller may not search the directory, `ENAMETOOLONG`, `ESTALE`.
    pub fn child_of(&self, credential: &Credential, dir: Ino, name: &[u8]) -> Result<Ino, Fault> {
        if !self.existing(dir)?.is_dir() {
            return Err(Errno::NotADirectory.into());
        }
        self.permits_search(credential, dir)?;
        match name {
            b"." => Ok(dir),
            b".." => self.parent(dir),
            _ => Ok(self.child(dir, name)?.map(|(_, entry)| entry.ino).ok_or(Errno::NotFound)?),
        }
    }

    /// The directory that holds a directory; the root holds itself.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE`; `ENOENT` for a removed directory whose parent is gone too.
    pub fn parent(&self, dir: Ino) -> Result<Ino, Fault> {
        match self.existing(dir)?.body {
            Body::Directory { parent, .. } if self.inode(parent)?.is_some() => Ok(parent),
            Body::Directory { .. } => Err(Errno::NotFound.into()),
            _ => Err(Errno::NotADirectory.into()),
        }
    }

    /// The directory that a path's last component is in, and that component.
    pub(crate) fn resolve_parent<'a>(
        &'a self,
        credential: &'a Credential,
        at: &'a At,
    ) -> Result<Resolved<'a>, Fault> {
        let (mut walk, path) = Walk::start(self, credential, at)?;
        walk.reach_last(path)?;
        Ok(Resolved { parent: walk.ino, last: walk.last, trailing_slash: walk.trailing_slash })
    }

    /// As [`Tree::resolve_parent`] for two paths, the second of which is often in the directory of the first.
    pub(crate) fn resolve_parents<'a>(
        &'a self,
        credential: &'a Credential,
        first: &'a At,
        second: &'a At,
    ) -> Result<(Resolved<'a>, Resolved<'a>), Fault> {
        let resolved = self.resolve_parent(credential, first)?;
        let beside = beside(first, second).map(|last| Resolved { last, ..resolved });
        let second = beside.map_or_else(|| self.resolve_parent(credential, second), Ok)?;
        Ok((resolved, second))
    }

    /// The entry of a directory with this name, if there is one.
    pub(crate) fn child(&self, parent: Ino, name: &[u8]) -> Result<Option<(&Name, Entry)>, Fault> {
        if name.len() > NAME_MAX {
            // A removed directory answers before the length is looked at.
            let removed = self.inode(parent)?.is_none_or(|inode| inode.nlink == 0);
            let errno = if removed { Errno::NotFound } else { Errno::NameTooLong };
            return Err(errno.into());
        }
        Ok(self.find_entry(parent, name)?)
    }
}

impl<'a> Walk<'a> {
    /// A walk at the start of a path, and the path.
    pub(crate) fn start(
        tree: &'a Tree,
        credential: &'a Credential,
        at: &'a At,
    ) -> Result<(Self, &'a [u8]), Fault> {
        let path = at.path.as_slice();
        if path.is_empty() {
            return Err(Errno::NotFound.into());
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::NameTooLong.into());
        }
        if path.contains(&0) {
            return Err(Errno::Invalid.into());
        }
        let ino = if path[0] == b'/' { Ino::ROOT } else { at.base };
        if !tree.existing(ino)?.is_dir() {
            return Err(Errno::NotADirectory.into());
        }
        Ok((Self { tree, credential, ino, last: Last::Root, trailing_slash: false, symlinks: 0 }, path))
    }

    /// Takes every component of a path but the last. Each, and the last too, is looked up in a directory that the
    /// caller may search.
    pub(crate) fn reach_last(&mut self, path: &'a [u8]) -> Result<(), Fault> {
        let mut path = skip_slashes(path);
        if path.is_empty() {
            return Ok(());
        }
        let mut waiting: Vec<&'a [u8]> = Vec::new();
        loop {
            self.tree.permits_search(self.credential, self.ino)?;
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            let (component, slashes) = path.split_at(end);
            self.last = match component {
                b"." => Last::Dot,
                b".." => Last::DotDot,
                name => Last::Normal(name),
            };
            path = skip_slashes(slashes);
            if path.is_empty() {
                let Some(outer) = waiting.pop() else {
                    self.trailing_slash = !slashes.is_empty();
                    return Ok(());
                };
                path = outer;
            }
            if let Some(target) = self.take()? {
                waiting.push(path);
                path = target;
            }
        }
    }

    /// Where `.`, `..` or no component at all leads to.
    pub(crate) fn dots(&self) -> Result<Ino, Fault> {
        if self.last == Last::DotDot { self.tree.parent(self.ino) } else { Ok(self.ino) }
    }

    /// Follows a symlink in the directory where the walk stands. Yields the path that is to be walked next; it is
    /// empty when the link leads to the root itself.
    pub(crate) fn follow(&mut self, symlink: Ino) -> Result<&'a [u8], Fault> {
        if self.symlinks == SYMLINKS_MAX {
            return Err(Errno::TooManySymlinks.into());
        }
        self.symlinks += 1;
        let target = self.tree.read_link(symlink)?;
        if target.first() != Some(&b'/') {
            return Ok(target);
        }
        self.ino = Ino::ROOT;
        Ok(skip_slashes(target))
    }

    /// Takes the component that is next. Yields the path to walk before the rest, when it is a symlink.
    fn take(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        let Last::Normal(name) = self.last else {
            self.ino = self.dots()?;
            return Ok(None);
        };
        let (_, entry) = self.tree.child(self.ino, name)?.ok_or(Errno::NotFound)?;
        match entry.kind {
            Kind::Directory => {
                self.ino = entry.ino;
                Ok(None)
            }
            Kind::Symlink => {
                let target = self.follow(entry.ino)?;
                Ok((!target.is_empty()).then_some(target))
            }
            _ => Err(Errno::NotADirectory.into()),
        }
    }
}

/// The last component of a path that differs from another one in that only.
fn beside<'a>(first: &At, second: &'a At) -> Option<Last<'a>> {
    let split = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (dir, _) = first.path.split_at(split(&first.path));
    let (second_dir, name) = second.path.split_at(split(&second.path));
    let is_plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    let is_same = first.base == second.base && dir == second_dir && is_plain(&first.path[dir.len()..]);
    let is_path = second.path.len() < PATH_MAX && !name.contains(&0);
    (is_same && is_path && is_plain(name)).then_some(Last::Normal(name))
}

fn skip_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn two_paths_are_resolved_as_each_by_itself() {
        let tree = Tree::new(Timestamp::from_nanos(0));
        let root = Credential::root();
        let long = format!("/{}", "x".repeat(PATH_MAX - 2));
        let too_long = format!("{long}y");
        let paths = [
            "", "/", ".", "..", "/.", "/..", "a", "b", "a/", "/a", "/b", "//a", "/a/", "/b//", "/a/b",
            "/a\0", "/./a", "/../b", "/./../b", &long, &too_long,
        ];
        let mut beside = 0;
        for first in paths {
            for second in paths {
                let (first, second) = (At::root(first), At::root(second));
                let each = |at| tree.resolve_parent(&root, at);
                let both = each(&first).and_then(|first| Ok((first, each(&second)?)));
                assert_eq!(tree.resolve_parents(&root, &first, &second), both, "{first:?}, {second:?}");
                beside += usize::from(super::beside(&first, &second).is_some());
            }
        }
        assert!(beside > 10, "only {beside} are in one directory");
    }
}
