//! Whether a host directory stands at a state, as far as a difference touches it. Nothing is changed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{Attr, Ino, Inode, InodeDifference, Kind, Name, TreeDiff};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};

use super::host::{Host, Spot};
use super::options::Misfit;
use super::{Apply, PIECE, blocking, copy, failed, is_own, is_touched, next_data};
use crate::diff::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::restore::host::{Wanted, file_type, mode_for};

/// So many misfits are listed; then nothing more is looked at.
const MISFITS: usize = 100;
/// More bytes of names, or of a value, of extended attributes Linux does not give.
const XATTRS_MAX: usize = 1 << 16;

impl Apply {
    /// Where the directory does not stand at the old state.
    pub(super) async fn verify(&mut self) -> Result<Vec<Misfit>> {
        let (mut walk, mut misfits) = (TreeDiff::default(), Vec::new());
        while let Some(found) = self.states.next(&mut walk).await?
            && misfits.len() < MISFITS
        {
            self.tell();
            match Change::of(&found) {
                Change::None => {}
                Change::Created(_) => self.verify_free(found.ino, None, &mut misfits).await?,
                Change::Removed(old) => self.verify_inode(found.ino, old, true, &mut misfits).await?,
                Change::Replaced(old, _) => {
                    self.verify_inode(found.ino, old, true, &mut misfits).await?;
                    self.verify_free(found.ino, None, &mut misfits).await?;
                }
                Change::Changed(old, new) => {
                    let read = !found.content.is_empty() || old.size != new.size;
                    if is_touched(&found, old, new) || !(found.lost.is_empty() && found.gained.is_empty()) {
                        self.verify_inode(found.ino, old, read, &mut misfits).await?;
                    }
                    self.verify_free(found.ino, Some(&found), &mut misfits).await?;
                }
            }
            self.progress.verified += 1;
        }
        misfits.truncate(MISFITS);
        Ok(misfits)
    }

    /// Nothing is where something will be made, but for what is there in the old state.
    async fn verify_free(
        &mut self,
        ino: Ino,
        only: Option<&InodeDifference>,
        misfits: &mut Vec<Misfit>,
    ) -> Result<()> {
        let names = match only {
            Some(found) => found.gained.clone(),
            None => self.states.new.names(ino).await?,
        };
        for (parent, name) in names {
            let dir = self.states.old.ask(|tree| tree.inode(parent).map(Option::<&Inode>::cloned)).await?;
            let was_dir = dir.is_some_and(|dir| dir.is_dir() && dir.nlink > 0);
            if !was_dir || self.states.old.ask(|tree| tree.entry(parent, &name)).await?.is_some() {
                continue;
            }
            let (spot, path) = self.states.old.spot(parent, name).await?;
            let there = self.look_at(&path, move |host| host.stat(&spot)).await?;
            if there.is_some() {
                misfits.push(Misfit { path, why: "is there, and is not in the first state".to_owned() });
            }
        }
        Ok(())
    }

    async fn verify_inode(
        &mut self,
        ino: Ino,
        old: &Inode,
        read: bool,
        misfits: &mut Vec<Misfit>,
    ) -> Result<()> {
        let may_lack = self.may_lack(old.kind());
        let wanted = Arc::new(self.states.old.wanted(ino, old).await?);
        if ino == Ino::ROOT {
            let of = Arc::clone(&wanted);
            let why = self.look_at(Path::new("/"), move |host| root_differs(host, &of)).await?;
            misfits.extend(why.map(|why| Misfit { path: PathBuf::from("/"), why }));
            return Ok(());
        }
        let mut first: Option<(Spot, PathBuf, Stat)> = None;
        for (parent, name) in self.states.old.names(ino).await? {
            let (spot, path) = self.states.old.spot(parent, name).await?;
            let at = spot.clone();
            let Some(stat) = self.look_at(&path, move |host| host.stat(&at)).await? else {
                if !may_lack {
                    misfits.push(Misfit { path, why: "is missing".to_owned() });
                }
                continue;
            };
            match &first {
                None => first = Some((spot, path, stat)),
                Some((_, other, of)) if (of.st_dev, of.st_ino) != (stat.st_dev, stat.st_ino) => {
                    misfits
                        .push(Misfit { path, why: format!("is not the same file as {}", other.display()) });
                }
                Some(_) => {}
            }
        }
        let Some((spot, path, stat)) = first else { return Ok(()) };
        let (of, at) = (copy(&wanted), spot.clone());
        if let Some(why) = self.look_at(&path, move |host| differs(host, &at, &stat, &of)).await? {
            misfits.push(Misfit { path, why });
            return Ok(());
        }
        let why = match old.kind() {
            Kind::File if read => self.content_differs(&path, &spot, &wanted.attr, &stat).await?,
            Kind::Directory if read => return self.verify_entries(ino, spot, path, misfits).await,
            _ => None,
        };
        misfits.extend(why.map(|why| Misfit { path, why }));
        Ok(())
    }

    /// A directory that is to go holds nothing that would be lost.
    async fn verify_entries(
        &mut self,
        ino: Ino,
        spot: Spot,
        path: PathBuf,
        misfits: &mut Vec<Misfit>,
    ) -> Result<()> {
        let mut way = spot.way;
        way.push((ino, spot.name));
        let names = self.look_at(&path, move |host| entries(host, &way)).await?;
        for bytes in names {
            let entry = match Name::new(&bytes) {
                Ok(name) => self.states.old.ask(|tree| tree.entry(ino, &name)).await?,
                Err(_) => None,
            };
            if entry.is_none() && misfits.len() < MISFITS {
                let path = path.join(OsStr::from_bytes(&bytes));
                misfits.push(Misfit { path, why: "is in a directory that is to be removed".to_owned() });
            }
        }
        Ok(())
    }

    async fn content_differs(
        &mut self,
        path: &Path,
        spot: &Spot,
        attr: &Attr,
        stat: &Stat,
    ) -> Result<Option<String>> {
        let (seconds, nanos) = attr.times.modified.to_parts();
        if self.options.trust_times && (stat.st_mtime, stat.st_mtime_nsec) == (seconds, u64::from(nanos)) {
            return Ok(None);
        }
        let at = spot.clone();
        let file = Arc::new(self.look_at(path, move |host| open(host, &at)).await?);
        let inodes = self.states.old.inodes();
        let mut at = 0;
        let told = |at: u64| Some(format!("has other content, from byte {at} on or behind it"));
        while at < attr.size {
            let data = next_data(&inodes, attr.ino, at, attr.size).await?;
            let (of, from) = (Arc::clone(&file), at);
            if !self.look_at(path, move |_| is_zero(&of, from, data)).await? {
                return Ok(told(at));
            }
            at = data;
            if at == attr.size {
                break;
            }
            let stop = inodes.seek_hole(attr.ino, at).await?;
            while at < stop {
                let pieces = inodes.read(attr.ino, at, (stop - at).min(PIECE)).await?;
                let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
                if len == 0 {
                    let what = format!("{}: it changed meanwhile", path.display());
                    return Err(Error::new(ErrorKind::Invalid, what));
                }
                let (of, from) = (Arc::clone(&file), at);
                if !self.look_at(path, move |_| is_same(&of, from, &pieces)).await? {
                    return Ok(told(at));
                }
                at += len;
            }
        }
        Ok(None)
    }

    async fn look_at<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Host) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let host = Arc::clone(&self.host);
        let seen = blocking(move || look(&host)).await;
        seen.map_err(|error| failed(format_args!("look at {}", path.display()), &error))
    }
}

fn root_differs(host: &Host, wanted: &Wanted) -> io::Result<Option<String>> {
    let stat = rustix::fs::fstat(&host.root)?;
    let xattrs = own_xattrs(&format!("/proc/self/fd/{}", host.root.as_raw_fd()))?;
    Ok(attributes_differ(host, &stat, wanted, &xattrs))
}

/// What of it, but for a file's content, is not as it has to be.
fn differs(host: &Host, spot: &Spot, stat: &Stat, wanted: &Wanted) -> io::Result<Option<String>> {
    let attr = &wanted.attr;
    if FileType::from_raw_mode(stat.st_mode) != file_type(attr.kind) {
        return Ok(Some(format!("is no {}", said(attr.kind))));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if matches!(attr.kind, Kind::File | Kind::Symlink) && size != attr.size {
        return Ok(Some(format!("has {size} bytes instead of {}", attr.size)));
    }
    if attr.kind != Kind::Directory && stat.st_nlink != u64::from(attr.nlink) {
        return Ok(Some(format!("has {} names instead of {}", stat.st_nlink, attr.nlink)));
    }
    if matches!(attr.kind, Kind::CharDevice | Kind::BlockDevice) && stat.st_rdev != attr.device {
        return Ok(Some("is another device".to_owned()));
    }
    let dir = host.dir(&spot.way)?;
    let name = OsStr::from_bytes(spot.name.as_bytes());
    if attr.kind == Kind::Symlink {
        let target = rustix::fs::readlinkat(&dir, name, Vec::new())?;
        if target.as_bytes() != wanted.target {
            return Ok(Some("leads elsewhere".to_owned()));
        }
    }
    let xattrs = if matches!(attr.kind, Kind::File | Kind::Directory) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
        own_xattrs(&format!("/proc/self/fd/{}", path.as_raw_fd()))?
    } else {
        Vec::new()
    };
    Ok(attributes_differ(host, stat, wanted, &xattrs))
}

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

fn attributes_differ(host: &Host, stat: &Stat, wanted: &Wanted, xattrs: &Xattrs) -> Option<String> {
    let attr = &wanted.attr;
    let own = rustix::process::geteuid().as_raw();
    if host.owners && (stat.st_uid, stat.st_gid) != (attr.uid, attr.gid) && attr.uid != u32::MAX {
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        return Some(format!("belongs to {uid}:{gid} instead of {}:{}", attr.uid, attr.gid));
    }
    if !host.owners && stat.st_uid != own {
        return Some(format!("belongs to user {}, and only root can change it", stat.st_uid));
    }
    let mode = mode_for(stat, attr, &mut Vec::new()).as_raw_mode();
    if attr.kind != Kind::Symlink && stat.st_mode & 0o7777 != mode {
        return Some(format!("has permissions {:04o} instead of {mode:04o}", stat.st_mode & 0o7777));
    }
    let mut expected: Vec<_> = wanted.xattrs.iter().filter(|(name, _)| is_own(name)).collect();
    let mut found: Vec<_> = xattrs.iter().collect();
    expected.sort();
    found.sort();
    (expected != found).then(|| "has other extended attributes".to_owned())
}

/// The extended attributes that users set.
fn own_xattrs(path: &str) -> io::Result<Xattrs> {
    let mut names = vec![0; XATTRS_MAX];
    let len = match rustix::fs::listxattr(path, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        len => len?,
    };
    names.truncate(len);
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_own(name)) {
        let mut value = vec![0; XATTRS_MAX];
        let len = rustix::fs::getxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(len);
        xattrs.push((name.to_vec(), value));
    }
    Ok(xattrs)
}

fn entries(host: &Host, way: &[(Ino, Name)]) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(host.dir(way)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if ![b".".as_slice(), b".."].contains(&name) {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

fn open(host: &Host, spot: &Spot) -> io::Result<File> {
    let dir = host.dir(&spot.way)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = OsStr::from_bytes(spot.name.as_bytes());
    Ok(rustix::fs::openat(&dir, name, flags, Mode::empty())?.into())
}

fn is_same(file: &File, mut at: u64, pieces: &[Bytes]) -> io::Result<bool> {
    for piece in pieces {
        let mut found = vec![0; piece.len()];
        if !read_exact(file, at, &mut found)? || found != *piece {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}

/// Whether there are only zeros; holes of the host's file are passed over.
fn is_zero(file: &File, mut at: u64, end: u64) -> io::Result<bool> {
    let mut found = vec![0; (1 << 16).min(usize::try_from(end - at).unwrap_or(1 << 16))];
    while at < end {
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => at = data.min(end),
            Err(rustix::io::Errno::NXIO) => return Ok(true),
            Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        let len = found.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        if !read_exact(file, at, &mut found[..len])? || found[..len].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Whether there was so much.
fn read_exact(file: &File, at: u64, into: &mut [u8]) -> io::Result<bool> {
    match file.read_exact_at(into, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

const fn said(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "regular file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        _ => "device",
    }
}
