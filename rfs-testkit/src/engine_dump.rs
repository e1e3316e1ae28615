//! A tree of rfs as a [`Dump`].

use std::collections::BTreeMap;

use rfs_core::{Cookie, Credential, Errno, Ino, Kind, Place, Tree, XattrName};

use crate::target::{Identities, set_time};
use crate::whole::{loaded, posix};
use crate::{Attr, Content, Dump, Node, XattrText};

/// The whole of a tree; `read` fetches content from its place. A tree knows of no handles.
pub fn dump_tree(tree: &Tree, mut read: impl FnMut(Place, u64) -> Vec<u8>) -> Dump {
    let mut dump = Dump::default();
    dump_dir(tree, Ino::ROOT, b"", &mut read, &mut Identities::default(), &mut dump);
    dump
}

/// Fetches content from its place.
pub(crate) type Fetch<'a> = dyn FnMut(Place, u64) -> Vec<u8> + 'a;

pub(crate) fn dump_dir(
    tree: &Tree,
    dir: Ino,
    path: &[u8],
    read: &mut Fetch<'_>,
    seen: &mut Identities,
    dump: &mut Dump,
) {
    dump.tree.insert(path.to_vec(), node(tree, dir, read, seen));
    let mut names = names(tree, dir).expect("a directory in the tree can be listed");
    names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    for (name, ino) in names {
        let path = [path, b"/", &name].concat();
        if loaded(tree.inode(ino)).is_some_and(rfs_core::Inode::is_dir) {
            dump_dir(tree, ino, &path, read, seen, dump);
        } else {
            dump.tree.insert(path, node(tree, ino, read, seen));
        }
    }
}

pub(crate) fn node(tree: &Tree, ino: Ino, read: &mut Fetch<'_>, seen: &mut Identities) -> Node {
    let attr = attr(tree, ino).expect("an entry or a handle leads to an inode");
    let mut content = Content::default();
    let mut link = Vec::new();
    if attr.kind == Kind::File {
        content.set_len(attr.size);
        for run in tree.file_ranges(ino, 0..attr.size).expect("a file has ranges") {
            if let Some(place) = run.place {
                content.write(run.range.start, &read(place, run.range.end - run.range.start));
            }
        }
    } else if attr.kind == Kind::Symlink {
        link = tree.read_link(ino).expect("a symlink has a target").to_vec();
    }
    Node { attr, content, link, xattrs: xattrs(tree, ino), identity: seen.of(ino.0) }
}

fn xattrs(tree: &Tree, ino: Ino) -> BTreeMap<XattrText, XattrText> {
    let root = Credential::root();
    let names = tree.xattr_names(&root, ino).expect("an inode in the tree has a list");
    let value = |name: &XattrName| {
        let value = tree.xattr(&root, ino, name.as_bytes()).expect("what is listed is there");
        (XattrText(name.as_bytes().to_vec()), XattrText(value.as_bytes().to_vec()))
    };
    names.iter().map(value).collect()
}

/// The names in a directory, in small steps so that cookies have work to do.
pub(crate) fn names(tree: &Tree, dir: Ino) -> Result<Vec<(Vec<u8>, Ino)>, Errno> {
    let mut names = Vec::new();
    let mut after = Cookie(0);
    loop {
        let step = match posix(tree.read_dir(dir, after, 3)) {
            // A removed directory: what the kernel says, and libraries hide, as POSIX asks.
            Err(Errno::NotFound) => return Ok(names),
            step => step?,
        };
        let Some(last) = step.last() else { return Ok(names) };
        after = last.cookie;
        names.extend(step.iter().map(|entry| (entry.name.as_bytes().to_vec(), entry.ino)));
    }
}

pub(crate) fn attr(tree: &Tree, ino: Ino) -> Result<Attr, Errno> {
    let attr = posix(tree.attr(ino))?;
    let of_file = attr.kind == Kind::File;
    Ok(Attr {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        size: attr.size,
        device: attr.device,
        accessed: if of_file { set_time(attr.times.accessed.as_nanos()) } else { None },
        modified: set_time(attr.times.modified.as_nanos()),
    })
}
