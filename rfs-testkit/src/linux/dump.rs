//! The whole directory as root sees it, so that looking changes nothing, not even the time of last access.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use rfs_core::{Kind, Timestamp, XATTR_VALUE_MAX};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, SeekFrom, Stat};
use rustix::io::Errno;

use super::session::{Session, names, read};
use crate::target::{Identities, set_time};
use crate::{Attr, Content, Dump, Node, XattrText};

impl Session {
    pub(super) fn dump(&self) -> Result<Dump, Errno> {
        let mut dump = Dump::default();
        let mut seen = Identities::default();
        let root =
            rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        dump_dir(root.as_fd(), b"", &mut seen, &mut dump)?;
        rustix::process::chdir("/")?;
        let mut slots: Vec<_> = self.handles.keys().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            let fd = self.handle(slot)?;
            let stat = rustix::fs::fstat(fd)?;
            let flags = rustix::fs::fcntl_getfl(fd)?;
            let readable = !flags.contains(OFlags::WRONLY);
            let content = match kind(&stat) {
                Kind::File if readable => {
                    rustix::fs::fcntl_setfl(fd, flags | OFlags::NOATIME)?;
                    let content = content(fd, stat.st_size)?;
                    rustix::fs::fcntl_setfl(fd, flags)?;
                    content
                }
                _ => Content::default(),
            };
            let xattrs = xattrs(
                |list| rustix::fs::flistxattr(fd, list),
                |name, value| rustix::fs::fgetxattr(fd, name, value),
            )?;
            let identity = seen.of(stat.st_ino);
            let node = Node { attr: attr(&stat), content, link: Vec::new(), xattrs, identity };
            dump.handles.insert(slot, node);
        }
        Ok(dump)
    }
}

fn dump_dir(dir: BorrowedFd<'_>, path: &[u8], seen: &mut Identities, dump: &mut Dump) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(dir)?;
    let identity = seen.of(stat.st_ino);
    let xattrs = xattrs(
        |list| rustix::fs::flistxattr(dir, list),
        |name, value| rustix::fs::fgetxattr(dir, name, value),
    )?;
    let node = Node { attr: attr(&stat), content: Content::default(), link: Vec::new(), xattrs, identity };
    dump.tree.insert(path.to_vec(), node);
    for name in names(dir)? {
        let path = [path, b"/", &*name].concat();
        let stat = rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOATIME;
        if kind(&stat) == Kind::Directory {
            let below = rustix::fs::openat(dir, &*name, flags, Mode::empty())?;
            dump_dir(below.as_fd(), &path, seen, dump)?;
            continue;
        }
        rustix::process::fchdir(dir)?;
        let mut node = Node {
            attr: attr(&stat),
            content: Content::default(),
            link: Vec::new(),
            xattrs: xattrs_of_name(&name)?,
            identity: seen.of(stat.st_ino),
        };
        match node.attr.kind {
            Kind::Symlink => node.link = rustix::fs::readlinkat(dir, &*name, Vec::new())?.into_bytes(),
            Kind::File => {
                let file = rustix::fs::openat(dir, &*name, flags, Mode::empty())?;
                node.content = content(file.as_fd(), stat.st_size)?;
            }
            _ => {}
        }
        dump.tree.insert(path, node);
    }
    Ok(())
}

/// The extended attributes of a name in the working directory.
fn xattrs_of_name(name: &[u8]) -> Result<BTreeMap<XattrText, XattrText>, Errno> {
    // A name alone could be an absolute path's text nowhere, but "..." and its like are names.
    let path = [b"./", name].concat();
    xattrs(
        |list| rustix::fs::llistxattr(&*path, list),
        |name, value| rustix::fs::lgetxattr(&*path, name, value),
    )
}

fn xattrs(
    list: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<BTreeMap<XattrText, XattrText>, Errno> {
    let mut buffer = vec![0; XATTR_VALUE_MAX];
    let len = list(&mut buffer)?;
    let names = split_names(&buffer[..len]);
    let mut xattrs = BTreeMap::new();
    for name in names {
        let len = get(&name, &mut buffer)?;
        xattrs.insert(XattrText(name), XattrText(buffer[..len].to_vec()));
    }
    Ok(xattrs)
}

/// The names of a list, sorted; without the label that a security module gives to everything.
pub(super) fn split_names(list: &[u8]) -> Vec<Vec<u8>> {
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux");
    let mut names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    names
}

/// The content of a file without the bytes of its holes.
pub(super) fn content(fd: BorrowedFd<'_>, size: i64) -> Result<Content, Errno> {
    let size = size.unsigned_abs();
    let mut content = Content::default();
    content.set_len(size);
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        at = rustix::fs::seek(fd, SeekFrom::Hole(start))?;
        content.write(start, &read(fd, start, at - start)?);
    }
    Ok(content)
}

pub(super) fn attr(stat: &Stat) -> Attr {
    let kind = kind(stat);
    let shown = |seconds: i64, nanos: u64| {
        set_time(Timestamp::from_parts(seconds, u32::try_from(nanos).unwrap_or(0)).as_nanos())
    };
    Attr {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        size: if kind == Kind::Directory { 0 } else { stat.st_size.unsigned_abs() },
        device: stat.st_rdev,
        accessed: if kind == Kind::File { shown(stat.st_atime, stat.st_atime_nsec) } else { None },
        modified: shown(stat.st_mtime, stat.st_mtime_nsec),
    }
}

pub(super) fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode as RawMode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => Kind::File,
    }
}
