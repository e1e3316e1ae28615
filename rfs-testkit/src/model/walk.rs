//! How the model follows paths: as text. A symlink's text takes the place of its name, and the walk goes on.

use rfs_core::{Errno, Kind, NAME_MAX, PATH_MAX, SYMLINKS_MAX};

use super::{ModelFs, NodeId, ROOT};
use crate::Path;

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Name(Vec<u8>),
    Dot,
    DotDot,
    Root,
}

/// A path of which all but the last component is resolved.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    pub(super) dir: NodeId,
    pub(super) last: Last,
    pub(super) slash: bool,
}

impl ModelFs {
    /// What the whole path leads to.
    pub(super) fn follow(&self, path: &Path, follow: bool) -> Result<NodeId, Errno> {
        let mut links = 0;
        let mut at = self.walk(path, &mut links)?;
        loop {
            let node = match &at.last {
                Last::Name(name) => self.look_up(at.dir, name)?,
                _ => self.step_to_special(&at)?,
            };
            match self.node(node).kind {
                Kind::Symlink if follow || at.slash => {
                    at = self.walk_link(at.dir, node, if at.slash { b"/" } else { b"" }, &mut links)?;
                }
                Kind::Directory => return Ok(node),
                _ if at.slash => return Err(Errno::NotADirectory),
                _ => return Ok(node),
            }
        }
    }

    /// The directory and the name for something new.
    pub(super) fn place_for(&self, path: &Path, is_dir: bool) -> Result<(NodeId, Vec<u8>), Errno> {
        let at = self.walk(path, &mut 0)?;
        let Last::Name(name) = at.last else { return Err(Errno::Exists) };
        match self.look_up(at.dir, &name) {
            Ok(_) => Err(Errno::Exists),
            Err(Errno::NotFound) if self.is_removed(at.dir) || at.slash && !is_dir => Err(Errno::NotFound),
            Err(Errno::NotFound) => Ok((at.dir, name)),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn walk(&self, path: &Path, links: &mut usize) -> Result<Walked, Errno> {
        check_path(&path.bytes)?;
        let base = match path.base {
            Some(slot) if path.bytes[0] != b'/' => self.handle(slot)?.node,
            _ => ROOT,
        };
        self.walk_from(base, &path.bytes, links)
    }

    /// Goes on with what a symlink says in place of its name; `rest` is what follows the name.
    pub(super) fn walk_link(
        &self,
        dir: NodeId,
        link: NodeId,
        rest: &[u8],
        links: &mut usize,
    ) -> Result<Walked, Errno> {
        *links += 1;
        if *links > SYMLINKS_MAX {
            return Err(Errno::TooManySymlinks);
        }
        self.walk_from(dir, &[self.node(link).link.as_slice(), rest].concat(), links)
    }

    pub(super) fn walk_from(&self, base: NodeId, path: &[u8], links: &mut usize) -> Result<Walked, Errno> {
        let mut dir = if path.starts_with(b"/") { ROOT } else { base };
        let mut rest = without_slashes(path);
        if rest.is_empty() {
            return Ok(Walked { dir, last: Last::Root, slash: true });
        }
        loop {
            if self.node(dir).kind != Kind::Directory {
                return Err(Errno::NotADirectory);
            }
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            let last = match name {
                b"." => Last::Dot,
                b".." => Last::DotDot,
                name => Last::Name(name.to_vec()),
            };
            let following = without_slashes(tail);
            let at = Walked { dir, last, slash: !tail.is_empty() };
            if following.is_empty() {
                return Ok(at);
            }
            dir = match &at.last {
                Last::Name(name) => self.look_up(dir, name)?,
                _ => self.step_to_special(&at)?,
            };
            if self.node(dir).kind == Kind::Symlink {
                return self.walk_link(at.dir, dir, tail, links);
            }
            rest = following;
        }
    }

    pub(super) fn look_up(&self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        if self.is_removed(dir) {
            return Err(Errno::NotFound);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::NameTooLong);
        }
        self.node(dir).entries.get(name).copied().ok_or(Errno::NotFound)
    }

    pub(super) fn step_to_special(&self, at: &Walked) -> Result<NodeId, Errno> {
        match at.last {
            Last::DotDot => {
                let parent = self.node(at.dir).parent;
                let gone =
                    self.is_removed(parent) && !self.handles.values().any(|handle| handle.node == parent);
                if gone && !self.rules.removed_parent_stays { Err(Errno::NotFound) } else { Ok(parent) }
            }
            _ => Ok(at.dir),
        }
    }

    pub(super) fn is_removed(&self, dir: NodeId) -> bool {
        self.node(dir).nlink == 0
    }

    /// Whether `dir` is `above` or somewhere below it.
    pub(super) fn is_inside(&self, mut dir: NodeId, above: NodeId) -> bool {
        while dir != above && dir != ROOT {
            dir = self.node(dir).parent;
        }
        dir == above
    }
}

/// What Linux looks at before it looks at a path at all.
pub(super) fn check_path(path: &[u8]) -> Result<(), Errno> {
    if path.contains(&0) {
        return Err(Errno::Invalid);
    }
    if path.is_empty() {
        return Err(Errno::NotFound);
    }
    if path.len() >= PATH_MAX { Err(Errno::NameTooLong) } else { Ok(()) }
}

/// What follows the slashes at the start.
fn without_slashes(path: &[u8]) -> &[u8] {
    let kept = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[kept..]
}
