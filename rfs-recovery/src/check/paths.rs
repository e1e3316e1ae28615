//! Which paths of a tree suffer.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rfs_core::{
    Cookie, Entry, EntryKey, Extent, Ino, Inode, Key, Missing, Name, Tree, Value, XattrName, XattrValue,
};

use super::report::{Findings, Found};
use crate::{Pages, RecoveryError};

/// No path is deeper.
const DEPTH_MAX: usize = 4096;
/// Of so many inode numbers of a page that cannot be read it is asked what they are called.
const INODES_MAX: u64 = 4096;

/// One path of an inode; without a name, its number in words.
pub(crate) async fn path_of(pages: &Pages, tree: &Tree, ino: Ino) -> PathBuf {
    try_path_of(pages, tree, ino).await.unwrap_or_else(|| PathBuf::from(format!("inode {ino}")))
}

/// The paths of an inode, at most so many.
pub(crate) async fn paths_of(pages: &Pages, tree: &Tree, ino: Ino, most: usize) -> Vec<PathBuf> {
    let names = pages.ask(|| tree.names(ino, None, most)).await.unwrap_or_default();
    let mut paths = Vec::new();
    for (parent, _, name) in names {
        let parent = path_of(pages, tree, parent).await;
        paths.push(parent.join(OsString::from_vec(name.as_bytes().to_vec())));
    }
    if paths.is_empty() {
        paths.push(path_of(pages, tree, ino).await);
    }
    paths
}

async fn try_path_of(pages: &Pages, tree: &Tree, ino: Ino) -> Option<PathBuf> {
    let mut names: Vec<Name> = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        if names.len() == DEPTH_MAX {
            return None;
        }
        let (parent, _, name) = pages.ask(|| tree.names(at, None, 1)).await.ok()?.pop()?;
        names.push(name);
        at = parent;
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

/// Names what a page is about that cannot be read, as far as other pages tell it.
///
/// # Errors
/// None yet: what cannot be read is left out.
pub(crate) async fn tell_page(
    pages: &Pages,
    tree: &Tree,
    missing: &Missing,
    found: Found,
    findings: &mut Findings,
) -> Result<(), RecoveryError> {
    let Some((first, last)) = inodes_of(missing) else { return Ok(()) };
    let last = Ino(last.0.min(first.0.saturating_add(INODES_MAX)));
    for ino in (first.0..=last.0).map(Ino) {
        // Numbers that were given back have no names.
        let named = ino == Ino::ROOT
            || pages.ask(|| tree.names(ino, None, 1)).await.is_ok_and(|names| !names.is_empty());
        if named {
            let path = path_of(pages, tree, ino).await;
            findings.suffers(found, path, Vec::new());
        }
    }
    Ok(())
}

/// Between which inodes, or directories, those are that a page is about.
fn inodes_of(missing: &Missing) -> Option<(Ino, Ino)> {
    of::<Ino, Inode>(missing, |key| *key)
        .or_else(|| of::<EntryKey, Entry>(missing, |key| key.parent))
        .or_else(|| of::<(Ino, Cookie), Name>(missing, |key| key.0))
        .or_else(|| of::<(Ino, u64), Extent>(missing, |key| key.0))
        .or_else(|| of::<(Ino, XattrName), XattrValue>(missing, |key| key.0))
}

fn of<K: Key, V: Value>(missing: &Missing, ino: impl Fn(&K) -> Ino) -> Option<(Ino, Ino)> {
    let (low, high) = missing.bounds::<K, V>()?;
    Some((low.map_or(Ino::ROOT, &ino), high.map_or(Ino(u64::MAX), &ino)))
}
