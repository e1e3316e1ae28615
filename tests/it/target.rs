//! Runs the testkit's operations on a volume's public API.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rfs::{File, Metadata, OpenOptions, Permissions, Timestamp, Volume};
use rfs_core::{Credential, Errno, Ino, Kind, RenameMode, SetTime, WriteAt};
use rfs_testkit::{
    Answer, Attr, Condition, Content, Dump, Identities, Node, TestOp, Value, What, XattrText, set_time,
};

use crate::handles::{Handles, Refusal};

/// The operation as the public API can express it; `None` when it cannot.
pub(crate) fn expressible(op: TestOp) -> Option<TestOp> {
    if !Handles::expressible(&op) {
        return None;
    }
    match op {
        TestOp::Mkdir { path, .. } => Some(TestOp::Mkdir { path, mode: 0o755 }),
        // The volume's credential has this umask, the model has none.
        TestOp::Create { path, mode } => Some(TestOp::Create { path, mode: mode & !0o022 }),
        TestOp::Open { slot, path, access, flags, mode } => {
            Some(TestOp::Open { slot, path, access, flags, mode: mode & !0o022 })
        }
        TestOp::OpenNameless { slot, path, access, linkable, mode } => {
            Some(TestOp::OpenNameless { slot, path, access, linkable, mode: mode & !0o022 })
        }
        TestOp::Mknod { path, node, mode } => Some(TestOp::Mknod { path, node, mode: mode & !0o022 }),
        TestOp::Require(_)
        | TestOp::SetMode { what: What::Path { follow: false, .. }, .. }
        | TestOp::SetOwner { what: What::Path { follow: false, .. }, .. }
        | TestOp::SetTimes { what: What::Path { follow: false, .. }, .. }
        | TestOp::Link { from: What::Path { follow: true, .. }, .. }
        | TestOp::SetTimes { accessed: SetTime::Now, .. }
        | TestOp::SetTimes { modified: SetTime::Now, .. }
        | TestOp::ReadDir { what: What::Path { follow: false, .. } | What::Handle(_) } => None,
        TestOp::Batch(ops) => {
            let ops: Option<Vec<TestOp>> = ops.into_iter().map(expressible).collect();
            let ops = ops?;
            ops.iter().all(in_batch).then_some(TestOp::Batch(ops))
        }
        op => Some(op),
    }
}

fn in_batch(op: &TestOp) -> bool {
    match op {
        TestOp::Write { what: What::Path { follow, .. }, .. }
        | TestOp::Truncate { what: What::Path { follow, .. }, .. }
        | TestOp::Require(
            Condition::Exists(What::Path { follow, .. })
            | Condition::Missing(What::Path { follow, .. })
            | Condition::Size(What::Path { follow, .. }, _),
        ) => *follow,
        TestOp::Mkdir { .. }
        | TestOp::Symlink { .. }
        | TestOp::Link { from: What::Path { .. }, .. }
        | TestOp::Unlink { .. }
        | TestOp::Rmdir { .. }
        | TestOp::Rename { mode: RenameMode::Replace, .. } => true,
        _ => false,
    }
}

/// Performs one operation.
pub(crate) async fn perform(
    handles: &mut Handles,
    volume: &Volume,
    op: &TestOp,
) -> Result<Answer, rfs::Error> {
    let answered = match handles.answer(volume, op).await {
        Some(answered) => answered,
        None => answer(volume, op).await.map_err(Refusal::from),
    };
    match answered {
        Ok(value) => Ok(Ok(value)),
        Err(Refusal::Kernel(errno)) => Ok(Err(errno.raw())),
        Err(Refusal::Volume(error)) => match error.errno() {
            Some(errno) => Ok(Err(errno.raw())),
            None => Err(error),
        },
    }
}

async fn answer(volume: &Volume, op: &TestOp) -> rfs::Result<Value> {
    let fs = volume.fs();
    let unit = |()| Value::Unit;
    match op {
        TestOp::Create { path, mode } => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(*mode).open(&fs, host(path)).await.map(drop).map(unit)
        }
        TestOp::Read { what, offset, len } => {
            let file = OpenOptions::new().read(true).no_follow(!follows(what)).open(&fs, path(what)).await?;
            let pieces = file.read_pieces(*offset, *len).await?;
            Ok(Value::Bytes(pieces.concat()))
        }
        TestOp::Write { what, at, data } => {
            let mut options = OpenOptions::new();
            options.write(true).append(*at == WriteAt::End).no_follow(!follows(what));
            let file = options.open(&fs, path(what)).await?;
            let WriteAt::Offset(offset) = at else {
                return file.append(&data.bytes()).await.map(Value::Number);
            };
            file.write_all_at(&data.bytes(), *offset).await?;
            Ok(Value::Number(*offset))
        }
        TestOp::Truncate { what, size } => fs.truncate(path(what), *size).await.map(unit),
        TestOp::Mkdir { path, .. } => fs.create_dir(host(path)).await.map(unit),
        TestOp::Mknod { path, node, mode } => fs.mknod(host(path), node.clone(), *mode).await.map(unit),
        TestOp::Symlink { target, path } => {
            fs.symlink(OsStr::from_bytes(&target.0), host(path)).await.map(unit)
        }
        TestOp::Link { from, to } => fs.hard_link(path(from), host(to)).await.map(unit),
        TestOp::Unlink { path } => fs.remove_file(host(path)).await.map(unit),
        TestOp::Rmdir { path } => fs.remove_dir(host(path)).await.map(unit),
        TestOp::Rename { from, to, mode } => fs.rename_with(host(from), host(to), *mode).await.map(unit),
        TestOp::SetMode { what, mode } => {
            fs.set_permissions(path(what), Permissions::from_mode(*mode)).await.map(unit)
        }
        TestOp::SetOwner { what, uid, gid } => fs.chown(path(what), *uid, *gid).await.map(unit),
        TestOp::SetTimes { what, accessed, modified } => {
            fs.set_times(path(what), time(*accessed), time(*modified)).await.map(unit)
        }
        TestOp::Stat { what } => {
            let metadata = if follows(what) {
                fs.metadata(path(what)).await?
            } else {
                fs.symlink_metadata(path(what)).await?
            };
            Ok(Value::Attr(attr(&metadata)))
        }
        TestOp::ReadLink { path } => {
            fs.read_link(host(path)).await.map(|link| Value::Link(link.as_os_str().as_bytes().to_vec()))
        }
        TestOp::ReadDir { what } => {
            let mut entries = fs.read_dir(path(what)).await?;
            let mut names = Vec::new();
            while let Some(entry) = entries.next_entry().await? {
                names.push(entry.file_name().as_bytes().to_vec());
            }
            names.sort();
            Ok(Value::Names(names))
        }
        TestOp::Batch(ops) => {
            let batch = ops.iter().fold(fs.batch(), |batch, op| match op {
                TestOp::Write { what, at: WriteAt::End, data } => batch.append(path(what), data.bytes()),
                TestOp::Write { what, at: WriteAt::Offset(offset), data } => {
                    batch.write_at(path(what), data.bytes(), *offset)
                }
                TestOp::Truncate { what, size } => batch.truncate(path(what), *size),
                TestOp::Mkdir { path, .. } => batch.create_dir(host(path)),
                TestOp::Symlink { target, path } => batch.symlink(OsStr::from_bytes(&target.0), host(path)),
                TestOp::Link { from, to } => batch.hard_link(path(from), host(to)),
                TestOp::Unlink { path } => batch.remove_file(host(path)),
                TestOp::Rmdir { path } => batch.remove_dir(host(path)),
                TestOp::Rename { from, to, mode: RenameMode::Replace } => batch.rename(host(from), host(to)),
                TestOp::Require(Condition::Exists(what)) => batch.require_exists(path(what)),
                TestOp::Require(Condition::Missing(what)) => batch.require_missing(path(what)),
                TestOp::Require(Condition::Size(what, size)) => batch.require_size(path(what), *size),
                other => panic!("{other:?} is not for a batch"),
            });
            batch.apply().await.map(unit)
        }
        other => panic!("{other:?} is not for this target"),
    }
}

/// The content of a file without the bytes of its holes.
pub(crate) async fn content_of(file: &File, size: u64) -> rfs::Result<Content> {
    let mut content = Content::default();
    content.set_len(size);
    let mut at = 0;
    while at < size {
        let start = match file.seek_data(at).await {
            Err(error) if error.errno() == Some(Errno::NoSuchData) => break,
            start => start?,
        };
        at = file.seek_hole(start).await?;
        content.write(start, &file.read_pieces(start, at - start).await?.concat());
    }
    Ok(content)
}

/// The whole tree with all content.
pub(crate) async fn dump(volume: &Volume) -> rfs::Result<Dump> {
    let fs = volume.fs();
    let mut found = vec![(Vec::new(), fs.metadata("/").await?)];
    let mut at = 0;
    while at < found.len() {
        let (dir, metadata) = found[at].clone();
        at += 1;
        if !metadata.is_dir() {
            continue;
        }
        let mut entries = fs.read_dir(host_of(&dir)).await?;
        while let Some(entry) = entries.next_entry().await? {
            let mut path = dir.clone();
            path.push(b'/');
            path.extend_from_slice(entry.file_name().as_bytes());
            found.push((path, entry.metadata().await?));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut identities = Identities::default();
    let mut dump = Dump::default();
    for (path, metadata) in found {
        let host = host_of(&path);
        let mut content = Content::default();
        let mut link = Vec::new();
        if metadata.is_file() {
            content = content_of(&fs.open(&host).await?, metadata.len()).await?;
        } else if metadata.is_symlink() {
            link = fs.read_link(&host).await?.as_os_str().as_bytes().to_vec();
        }
        let identity = identities.of(metadata.ino());
        let xattrs = xattrs(volume, metadata.attr().ino).await?;
        dump.tree.insert(path, Node { attr: attr(&metadata), content, link, xattrs, identity });
    }
    Ok(dump)
}

async fn xattrs(volume: &Volume, ino: Ino) -> rfs::Result<BTreeMap<XattrText, XattrText>> {
    let (root, inodes) = (Credential::root(), volume.inodes());
    let mut xattrs = BTreeMap::new();
    for name in inodes.xattr_names(&root, ino).await? {
        let value = inodes.xattr(&root, ino, name.as_bytes()).await?;
        xattrs.insert(XattrText(name.as_bytes().to_vec()), XattrText(value));
    }
    Ok(xattrs)
}

/// The path of a dump's key, in which the root is empty.
fn host_of(key: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(key.strip_prefix(b"/").unwrap_or(key)))
}

pub(crate) fn attr(metadata: &Metadata) -> Attr {
    attr_of(metadata.attr())
}

pub(crate) fn attr_of(attr: &rfs_core::Attr) -> Attr {
    Attr {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        size: if attr.kind == Kind::Directory { 0 } else { attr.size },
        device: attr.device,
        accessed: if attr.kind == Kind::File { set_time(attr.times.accessed.as_nanos()) } else { None },
        modified: set_time(attr.times.modified.as_nanos()),
    }
}

/// What is held without a name.
pub(crate) async fn nameless(volume: &Volume, ino: Ino) -> rfs::Result<Node> {
    let inodes = volume.inodes();
    let attr = attr_of(&inodes.attr(ino).await?);
    let mut content = Content::default();
    if attr.kind == Kind::File {
        content.set_len(attr.size);
        let mut at = 0;
        while at < attr.size {
            let start = match inodes.seek_data(ino, at).await {
                Err(error) if error.errno() == Some(Errno::NoSuchData) => break,
                start => start?,
            };
            at = inodes.seek_hole(ino, start).await?;
            content.write(start, &inodes.read(ino, start, at - start).await?.concat());
        }
    }
    Ok(Node { attr, content, link: Vec::new(), xattrs: xattrs(volume, ino).await?, identity: 0 })
}

pub(crate) fn time(time: SetTime) -> Option<Timestamp> {
    match time {
        SetTime::At(time) => Some(time),
        SetTime::Keep | SetTime::Now => None,
    }
}

pub(crate) fn host(path: &rfs_testkit::Path) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&path.bytes))
}

pub(crate) fn path(what: &What) -> PathBuf {
    match what {
        What::Path { path, .. } => host(path),
        What::Handle(slot) => panic!("handle {slot} is not for this target"),
    }
}

pub(crate) fn follows(what: &What) -> bool {
    matches!(what, What::Path { follow: true, .. })
}
