//! Into a volume.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rfs::{Errno, Fs, Node, OpenOptions, Permissions, Timestamp, XattrMode};
use rustix::fs::{Mode, OFlags, SeekFrom};

use super::side::Side;
use super::{Copied, Cp, not_a_directory, not_recursive, one_side, target};
use crate::error::Failure;
use crate::output::Size;
use crate::progress::Progress;
use crate::volume::open_writer;

/// What is read at a time.
const PIECE: usize = 1 << 20;

pub(super) async fn copy(cp: &Cp, sources: &[Side], url: &str, to: &OsStr) -> Result<Copied, Failure> {
    let mut paths = Vec::new();
    for source in sources {
        let Side::Host(path) = source else { return Err(one_side()) };
        // Before the volume is taken over.
        let metadata = metadata(path)?;
        if metadata.is_dir() && !cp.recursive {
            return Err(not_recursive(&path.display().to_string()));
        }
        paths.push((path, metadata));
    }
    let volume = open_writer(url).await?;
    let fs = volume.fs();
    let to = Path::new(to);
    let into = match fs.metadata(to).await {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.errno() == Some(Errno::NotFound) => false,
        Err(error) => return Err(in_volume(to, &error)),
    };
    if !into && paths.len() > 1 {
        return Err(not_a_directory(&to.display().to_string()));
    }
    let mut copy = Copy {
        inner: fs.no_follow(),
        linked: HashMap::new(),
        copied: Copied::default(),
        progress: Progress::new(),
    };
    for (path, metadata) in paths {
        let target = target(path, into, to);
        copy.all(path.clone(), target, metadata).await?;
    }
    let Copy { copied, progress, inner, .. } = copy;
    progress.show(|| "committing".to_owned());
    drop((fs, inner));
    let closed = volume.close().await;
    drop(progress);
    closed.map_err(|error| Failure::of(format!("commit to {url}"), &error))?;
    Ok(copied)
}

struct Copy {
    /// It follows no symlink at the end of a path.
    inner: Fs,
    /// What has several names, by device and inode: the first name.
    linked: HashMap<(u64, u64), PathBuf>,
    copied: Copied,
    progress: Progress,
}

enum Step {
    Copy(PathBuf, PathBuf, Metadata),
    /// A directory is filled: making entries changed its times.
    Attributes(PathBuf, PathBuf, Metadata),
}

impl Copy {
    async fn all(&mut self, from: PathBuf, to: PathBuf, metadata: Metadata) -> Result<(), Failure> {
        let mut steps = vec![Step::Copy(from, to, metadata)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Copy(from, to, metadata) if metadata.is_dir() => {
                    self.directory(&to).await.map_err(|error| in_volume(&to, &error))?;
                    self.copied.directories += 1;
                    let mut below = Vec::new();
                    for name in names(&from)? {
                        let from = from.join(&name);
                        let metadata = self::metadata(&from)?;
                        below.push(Step::Copy(from, to.join(&name), metadata));
                    }
                    steps.push(Step::Attributes(from, to, metadata));
                    steps.extend(below.into_iter().rev());
                }
                Step::Copy(from, to, metadata) => {
                    self.entry(&from, &to, &metadata).await?;
                    self.copied.files += 1;
                    let Copied { files, bytes, .. } = self.copied;
                    self.progress.show(|| format!("{files} files, {}", Size(bytes)));
                }
                Step::Attributes(from, to, metadata) => self.attributes(&from, &to, &metadata).await?,
            }
        }
        Ok(())
    }

    async fn directory(&self, to: &Path) -> rfs::Result<()> {
        match self.inner.create_dir(to).await {
            // One that is there is filled.
            Err(error) if error.errno() == Some(Errno::Exists) => match self.inner.symlink_metadata(to).await
            {
                Ok(there) if there.is_dir() => Ok(()),
                Ok(_) => Err(error),
                Err(other) => Err(other),
            },
            made => made,
        }
    }

    async fn entry(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), Failure> {
        let failed = |error: rfs::Error| in_volume(to, &error);
        let inode = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1 {
            if let Some(first) = self.linked.get(&inode) {
                self.free(to).await.map_err(failed)?;
                return self.inner.hard_link(first, to).await.map_err(failed);
            }
            self.linked.insert(inode, to.to_path_buf());
        }
        let kind = metadata.file_type();
        if kind.is_file() {
            self.file(from, to, metadata).await?;
        } else {
            self.free(to).await.map_err(failed)?;
            let made = if kind.is_symlink() {
                let target = std::fs::read_link(from).map_err(|error| on_host(from, &error))?;
                self.inner.symlink(target, to).await
            } else {
                let node = if kind.is_fifo() {
                    Node::Fifo
                } else if kind.is_socket() {
                    Node::Socket
                } else if kind.is_char_device() {
                    Node::CharDevice(metadata.rdev())
                } else {
                    Node::BlockDevice(metadata.rdev())
                };
                self.inner.mknod(to, node, metadata.mode() & 0o7777).await
            };
            made.map_err(failed)?;
        }
        self.attributes(from, to, metadata).await
    }

    /// An empty file: one that is there goes on, with its history.
    async fn open(&self, to: &Path) -> rfs::Result<rfs::File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        match options.open(&self.inner, to).await {
            // A symlink, or what only a kernel opens.
            Err(error) if matches!(error.errno(), Some(Errno::TooManySymlinks | Errno::NoSuchData)) => {
                self.free(to).await?;
                options.open(&self.inner, to).await
            }
            opened => opened,
        }
    }

    /// Takes away what a new entry replaces.
    async fn free(&self, to: &Path) -> rfs::Result<()> {
        match self.inner.remove_file(to).await {
            Err(error) if error.errno() == Some(Errno::NotFound) => Ok(()),
            done => done,
        }
    }

    async fn file(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), Failure> {
        let failed = |error: rfs::Error| in_volume(to, &error);
        let failed_here = |error: io::Error| on_host(from, &error);
        // Another kind of thing may have taken its place: a fifo would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source =
            rustix::fs::open(from, flags, Mode::empty()).map_err(|errno| failed_here(errno.into()))?;
        let source = File::from(source);
        let opened = source.metadata().map_err(failed_here)?;
        if (opened.dev(), opened.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(Failure::new(format!(
                "{}: somebody replaced it meanwhile; copy again",
                from.display()
            )));
        }
        let file = self.open(to).await.map_err(failed)?;
        let mut buffer = vec![0; PIECE];
        let (mut at, end) = (0, opened.len());
        while at < end {
            let data = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
                Err(rustix::io::Errno::NXIO) => break,
                data => data.map_err(|errno| failed_here(errno.into()))?,
            };
            let hole = rustix::fs::seek(&source, SeekFrom::Hole(data));
            let hole = hole.map_err(|errno| failed_here(errno.into()))?.min(end);
            at = data;
            while at < hole {
                let wanted = usize::try_from(hole - at).unwrap_or(PIECE).min(PIECE);
                let read = source.read_at(&mut buffer[..wanted], at).map_err(failed_here)?;
                if read == 0 {
                    let what = format!("{}: somebody cut it meanwhile; copy again", from.display());
                    return Err(Failure::new(what));
                }
                file.write_all_at(&buffer[..read], at).await.map_err(failed)?;
                at += read as u64;
                self.copied.bytes += read as u64;
                let bytes = self.copied.bytes;
                self.progress.show(|| format!("{}, {}", from.display(), Size(bytes)));
            }
        }
        if at < end {
            // It ends with a hole.
            file.set_len(end).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn attributes(&self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), Failure> {
        let failed = |error: rfs::Error| in_volume(to, &error);
        let fs = &self.inner;
        fs.chown(to, Some(metadata.uid()), Some(metadata.gid())).await.map_err(failed)?;
        if !metadata.is_symlink() {
            // After the owner, whose change takes set-id bits away.
            let permissions = Permissions::from_mode(metadata.mode() & 0o7777);
            fs.set_permissions(to, permissions).await.map_err(failed)?;
        }
        for (name, value) in xattrs(from).map_err(|error| on_host(from, &error))? {
            match fs.set_xattr(to, &name, &value, XattrMode::Set).await {
                Err(error) if error.errno() == Some(Errno::NotSupported) => {
                    eprintln!(
                        "rfs: {}: attribute {} is not copied: {error}",
                        from.display(),
                        name.escape_ascii()
                    );
                }
                set => set.map_err(failed)?,
            }
        }
        let time = |seconds, nanos| Some(Timestamp::from_parts(seconds, u32::try_from(nanos).unwrap_or(0)));
        let accessed = time(metadata.atime(), metadata.atime_nsec());
        let modified = time(metadata.mtime(), metadata.mtime_nsec());
        fs.set_times(to, accessed, modified).await.map_err(failed)
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>, Failure> {
    let entries = std::fs::read_dir(dir).map_err(|error| on_host(dir, &error))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names: Vec<OsString> = names.collect::<io::Result<_>>().map_err(|error| on_host(dir, &error))?;
    names.sort_unstable();
    Ok(names)
}

/// What a path names; a symlink is not followed.
fn metadata(path: &Path) -> Result<Metadata, Failure> {
    std::fs::symlink_metadata(path).map_err(|error| on_host(path, &error))
}

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

fn xattrs(path: &Path) -> io::Result<Xattrs> {
    let names = match all(|buffer| rustix::fs::llistxattr(path, buffer)) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match all(|buffer| rustix::fs::lgetxattr(path, OsStr::from_bytes(name), buffer)) {
            // It is gone, or only for others to see.
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {}
            value => xattrs.push((name.to_vec(), value?)),
        }
    }
    Ok(xattrs)
}

/// What a call gives that takes a buffer and refuses one that is too small; Linux has at most 64 KiB.
fn all(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    for size in [1 << 10, 64 << 10] {
        let mut buffer = vec![0; size];
        match get(&mut buffer) {
            Err(rustix::io::Errno::RANGE) => {}
            got => {
                buffer.truncate(got?);
                return Ok(buffer);
            }
        }
    }
    Err(rustix::io::Errno::RANGE)
}

fn in_volume(path: &Path, error: &rfs::Error) -> Failure {
    Failure::of(format!("copy to {}", path.display()), error)
}

fn on_host(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::during(path.display(), error);
    if error.kind() == io::ErrorKind::NotFound { failure.not_found() } else { failure }
}
