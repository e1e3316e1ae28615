//! A copy of what an older tree has, made in the tree of now without moving a byte.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rfs_core::{
    At, Body, Change, Cookie, Credential, Errno, Fault, Ino, Inode, Name, Node, Place, Timestamp, Tree,
    XattrName, XattrValue,
};
use tracing::debug;

use super::Shared;
use super::live::{Live, Refused, apply};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::path_bytes;

/// So many steps are one unit: their Changes fit into a frame.
const STEPS: usize = 1000;
/// Bytes of attributes in such a unit.
const BYTES: usize = 1 << 20;
/// How much of a directory is listed at a time.
const ENTRIES: usize = 512;

/// A step of making a copy. Inodes and directories are named by their numbers in the older tree.
#[derive(Debug)]
enum Step {
    Create {
        parent: Option<Ino>,
        name: Name,
        ino: Ino,
        inode: Inode,
    },
    Link {
        parent: Ino,
        name: Name,
        ino: Ino,
    },
    Refer {
        ino: Ino,
        offset: u64,
        len: u64,
        to: Place,
    },
    Size {
        ino: Ino,
        size: u64,
    },
    Xattr {
        ino: Ino,
        name: XattrName,
        value: XattrValue,
    },
    /// After everything else was done to it.
    Attributes {
        ino: Ino,
        inode: Inode,
    },
}

/// Makes a copy of what `path` leads to in `older`, as `copy`, a path of now. Says whether there was anything.
pub(super) async fn graft(shared: &Shared, older: &Tree, path: &Path, copy: &Path) -> Result<bool> {
    let doing = || format!("find {} as it was", path.display());
    let at = At::root(path_bytes(path));
    let from = match ask(shared, || older.lookup(&Credential::root(), &at, false)).await {
        Err(error) if matches!(error.errno(), Some(Errno::NotFound | Errno::NotADirectory)) => {
            return Ok(false);
        }
        from => from.map_err(|error| error.during(doing()))?,
    };
    let name = copy.file_name().unwrap_or_default();
    let name = Name::new(&path_bytes(Path::new(name)))
        .map_err(|_| Error::posix(Errno::Invalid, format!("make {}", copy.display())))?;
    let dir = At::root(path_bytes(copy.parent().unwrap_or(Path::new("/"))));
    let look = |live: &Live| live.tree.lookup(&Credential::root(), &dir, true);
    let dir = shared.look(look, || format!("find the directory of {}", copy.display())).await?;
    let steps = plan(shared, older, from, name).await.map_err(|error| error.during(doing()))?;
    debug!(steps = steps.len(), "what was is made again");
    let mut made = HashMap::new();
    let mut rest = steps.as_slice();
    while !rest.is_empty() {
        shared.admit(|| format!("make {}", copy.display())).await?;
        let (unit, after) = rest.split_at(unit_len(rest));
        let now = shared.options.clock.now();
        let mut new = HashMap::new();
        let make = |live: &mut Live| {
            live.run_changes(|tree| {
                new.clear();
                let mut changes = Vec::with_capacity(unit.len());
                for step in unit {
                    let numbers = |ino: &Ino| new.get(ino).or_else(|| made.get(ino)).copied();
                    let (change, ino) = change(step, tree.next_ino(), dir, numbers, now)?;
                    new.extend(ino.map(|ino| (ino, tree.next_ino())));
                    apply(tree, &change, Place::default())?;
                    changes.push(change);
                }
                Ok(changes)
            })
        };
        let done = shared.change(make).await;
        done.map_err(|refused| refused.doing(|| format!("make {}", copy.display())))?;
        made.extend(new);
        rest = after;
    }
    Ok(true)
}

fn unit_len(steps: &[Step]) -> usize {
    let mut bytes = 0;
    let fits = steps.iter().take(STEPS).take_while(|step| {
        bytes += match step {
            Step::Xattr { value, .. } => value.as_bytes().len(),
            Step::Create { inode, .. } => match &inode.body {
                Body::Symlink { target } => target.len(),
                _ => 0,
            },
            _ => 0,
        };
        bytes <= BYTES
    });
    fits.count().max(1)
}

/// What a step comes to, and which inode of the older tree it makes.
fn change(
    step: &Step,
    next: Ino,
    dir: Ino,
    numbers: impl Fn(&Ino) -> Option<Ino>,
    time: Timestamp,
) -> std::result::Result<(Change, Option<Ino>), Refused> {
    let number = |ino: &Ino| {
        let bug = || Refused::Volume(Error::new(ErrorKind::Bug, format!("inode {ino} was not made again")));
        numbers(ino).ok_or_else(bug)
    };
    Ok(match step {
        Step::Create { parent, name, ino, inode } => {
            let parent = parent.as_ref().map_or(Ok(dir), number)?;
            let Inode { mode, uid, gid, .. } = *inode;
            let unknown = || Refused::Posix(Errno::NotSupported);
            let (name, node) = (name.clone(), node(inode).ok_or_else(unknown)?);
            (Change::Create { parent, name, ino: next, node, mode, uid, gid, time }, Some(*ino))
        }
        Step::Link { parent, name, ino } => {
            let (parent, ino, name) = (number(parent)?, number(ino)?, name.clone());
            (Change::Link { parent, name, ino, time }, None)
        }
        Step::Refer { ino, offset, len, to } => {
            let ino = number(ino)?;
            (Change::Refer { ino, offset: *offset, len: *len, to: *to, time }, None)
        }
        Step::Size { ino, size } => (Change::Truncate { ino: number(ino)?, size: *size, time }, None),
        Step::Xattr { ino, name, value } => {
            let ino = number(ino)?;
            (Change::SetXattr { ino, name: name.clone(), value: value.clone(), time }, None)
        }
        Step::Attributes { ino, inode } => {
            let (accessed, modified) = (Some(inode.times.accessed), Some(inode.times.modified));
            let (ino, mode) = (number(ino)?, Some(inode.mode));
            (Change::SetAttr { ino, mode, uid: None, gid: None, accessed, modified, time }, None)
        }
    })
}

fn node(inode: &Inode) -> Option<Node> {
    Some(match &inode.body {
        Body::File => Node::File,
        Body::Directory { .. } => Node::Directory,
        Body::Symlink { target } => Node::Symlink(target.clone()),
        Body::Fifo => Node::Fifo,
        Body::Socket => Node::Socket,
        Body::CharDevice { device } => Node::CharDevice(*device),
        Body::BlockDevice { device } => Node::BlockDevice(*device),
        _ => return None,
    })
}

/// All steps, in an order in which each finds what it needs.
async fn plan(shared: &Shared, older: &Tree, from: Ino, name: Name) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    // What is to be done with a directory when all below it is there comes after that.
    let mut last = Vec::new();
    let mut seen = HashSet::new();
    let mut todo = vec![(None, name, from)];
    while let Some((parent, name, ino)) = todo.pop() {
        if let Some(parent) = parent.filter(|_| seen.contains(&ino)) {
            steps.push(Step::Link { parent, name, ino });
            continue;
        }
        let inode = ask(shared, || older.inode(ino)?.cloned().ok_or(Fault::Errno(Errno::Stale))).await?;
        steps.push(Step::Create { parent, name, ino, inode: inode.clone() });
        for attribute in ask(shared, || older.xattr_names(&Credential::root(), ino)).await? {
            let value = || older.xattr(&Credential::root(), ino, attribute.as_bytes()).cloned();
            let value = ask(shared, value).await?;
            steps.push(Step::Xattr { ino, name: attribute, value });
        }
        match &inode.body {
            Body::Directory { .. } => {
                let mut after = Cookie(0);
                loop {
                    let entries = ask(shared, || older.read_dir(ino, after, ENTRIES)).await?;
                    let Some(end) = entries.last() else { break };
                    after = end.cookie;
                    todo.extend(entries.into_iter().map(|entry| (Some(ino), entry.name, entry.ino)));
                }
                last.push(Step::Attributes { ino, inode });
                continue;
            }
            Body::File => {
                let ranges = ask(shared, || older.file_ranges(ino, 0..u64::MAX)).await?;
                let runs = ranges.into_iter().filter_map(|run| Some((run.range, run.place?)));
                steps.extend(runs.map(|(range, to)| Step::Refer {
                    ino,
                    offset: range.start,
                    len: range.end - range.start,
                    to,
                }));
                steps.push(Step::Size { ino, size: inode.size });
            }
            _ => {}
        }
        if inode.nlink > 1 {
            seen.insert(ino);
        }
        steps.push(Step::Attributes { ino, inode });
    }
    steps.append(&mut last);
    Ok(steps)
}

async fn ask<T>(shared: &Shared, mut look: impl FnMut() -> std::result::Result<T, Fault>) -> Result<T> {
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(Fault::Errno(errno)) => return Err(Error::posix(errno, "read an older state".to_owned())),
            Err(Fault::Missing(missing)) => shared.load(&missing).await?,
        }
    }
}
