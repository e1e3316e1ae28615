//! A walk over a tree, by a page of a directory at a time.

use rfs_core::{Attr, Cookie, DirEntry, Ino};

use crate::error::Result;
use crate::inodes::Inodes;

/// Entries that one look at a directory takes.
const PAGE: usize = 1024;

pub(super) enum Step {
    Entry(DirEntry, Attr),
    /// The end of a directory below the first one.
    Leave,
}

/// A walk in depth that keeps a page of each directory that it is in.
pub(super) struct Walk {
    inside: Vec<Inside>,
    /// The path of the directory that was left last.
    pub(super) left: Vec<u8>,
}

struct Inside {
    ino: Ino,
    path: Vec<u8>,
    after: Cookie,
    page: std::vec::IntoIter<(DirEntry, Attr)>,
    more: bool,
}

impl Walk {
    pub(super) fn new(dir: Ino) -> Self {
        Self { inside: vec![Inside::new(dir, Vec::new())], left: Vec::new() }
    }

    pub(super) async fn next(&mut self, inodes: &Inodes) -> Result<Option<Step>> {
        let Some(inside) = self.inside.last_mut() else { return Ok(None) };
        if inside.page.as_slice().is_empty() && inside.more {
            let page = page(inodes, inside.ino, inside.after).await?;
            inside.more = page.len() == PAGE;
            inside.page = page.into_iter();
        }
        if let Some((entry, attr)) = inside.page.next() {
            inside.after = entry.cookie;
            return Ok(Some(Step::Entry(entry, attr)));
        }
        self.left = self.inside.pop().map(|inside| inside.path).unwrap_or_default();
        Ok((!self.inside.is_empty()).then_some(Step::Leave))
    }

    /// Goes into a directory that was come to.
    pub(super) fn enter(&mut self, entry: &DirEntry) {
        let path = self.path(entry.name.as_bytes());
        self.inside.push(Inside::new(entry.ino, path));
    }

    pub(super) fn path(&self, name: &[u8]) -> Vec<u8> {
        let dir = self.inside.last().map_or(&[] as &[u8], |inside| &inside.path);
        [dir, b"/", name].concat()
    }
}

impl Inside {
    fn new(ino: Ino, path: Vec<u8>) -> Self {
        Self { ino, path, after: Cookie(0), page: Vec::new().into_iter(), more: true }
    }
}

async fn page(inodes: &Inodes, dir: Ino, after: Cookie) -> Result<Vec<(DirEntry, Attr)>> {
    inodes.read_dir(dir, after, PAGE).await
}
