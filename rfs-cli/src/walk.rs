//! Everything below a place in a volume, in depth, by a page of a directory at a time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rfs::model::DirEntry;
use rfs::{Attr, Cookie, Fs, Ino, Inodes, Kind};

use crate::error::Failure;
use crate::output::Shown;

/// Entries that one look at a directory takes.
const PAGE: usize = 1024;

/// What a walk comes to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Something, and its path. A directory's entries follow.
    Entry(Vec<u8>, Attr),
    /// The end of a directory.
    Leave(Vec<u8>),
}

/// A walk over a tree that nobody changes. It keeps a page for each directory that it is in.
#[derive(Debug)]
pub(crate) struct Walk {
    inodes: Inodes,
    start: Option<(Vec<u8>, Attr)>,
    inside: Vec<Inside>,
}

#[derive(Debug)]
struct Inside {
    path: Vec<u8>,
    ino: Ino,
    after: Cookie,
    page: std::vec::IntoIter<(DirEntry, Attr)>,
    /// Whether there is a page after this one.
    more: bool,
}

impl Walk {
    /// Begins at a path; a symlink at its end is not followed.
    pub(crate) async fn new(volume: &rfs::Volume, path: &[u8]) -> Result<Self, Failure> {
        let attr = find(&volume.fs(), path).await?;
        Ok(Self { inodes: volume.inodes(), start: Some((path.to_vec(), attr)), inside: Vec::new() })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Step>, Failure> {
        if let Some((path, attr)) = self.start.take() {
            return Ok(Some(self.entry(path, attr)));
        }
        let Some(inside) = self.inside.last_mut() else { return Ok(None) };
        if inside.page.as_slice().is_empty() && inside.more {
            let page = page(&self.inodes, inside.ino, inside.after).await;
            let page = page.map_err(|error| Failure::of(format!("list {}", Shown(&inside.path)), &error))?;
            inside.more = page.len() == PAGE;
            inside.page = page.into_iter();
        }
        let Some((entry, attr)) = inside.page.next() else {
            let left = self.inside.pop();
            return Ok(left.map(|left| Step::Leave(left.path)));
        };
        inside.after = entry.cookie;
        let path = join(&inside.path, entry.name.as_bytes());
        Ok(Some(self.entry(path, attr)))
    }

    fn entry(&mut self, path: Vec<u8>, attr: Attr) -> Step {
        if attr.kind == Kind::Directory {
            let (page, after) = (Vec::new().into_iter(), Cookie(0));
            self.inside.push(Inside { path: path.clone(), ino: attr.ino, after, page, more: true });
        }
        Step::Entry(path, attr)
    }
}

/// The attributes of what a path names; a symlink at its end is not followed.
pub(crate) async fn find(fs: &Fs, path: &[u8]) -> Result<Attr, Failure> {
    let found = fs.symlink_metadata(as_path(path)).await;
    found.map(|metadata| *metadata.attr()).map_err(|error| Failure::of(Shown(path), &error))
}

/// All entries of a directory, by name.
pub(crate) async fn sorted(inodes: &Inodes, dir: Ino) -> rfs::Result<Vec<(DirEntry, Attr)>> {
    let (mut all, mut after) = (Vec::new(), Cookie(0));
    loop {
        let page = page(inodes, dir, after).await?;
        let more = page.len() == PAGE;
        after = page.last().map_or(after, |(entry, _)| entry.cookie);
        all.extend(page);
        if !more {
            break;
        }
    }
    all.sort_unstable_by(|(a, _), (b, _)| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(all)
}

async fn page(inodes: &Inodes, dir: Ino, after: Cookie) -> rfs::Result<Vec<(DirEntry, Attr)>> {
    inodes.read_dir(dir, after, PAGE).await
}

pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, separator, name].concat()
}

pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
