//! The files of a volume, by path. Methods are named as `tokio::fs` names them.

#![expect(clippy::unused_async, reason = "what needs no waiting is named and called as in tokio::fs, too")]

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{At, Cookie, Errno, Ino, Op, SetTime, Target, Timestamp};

use crate::batch::Batch;
use crate::engine::{Live, Shared};
use crate::error::{Error, Result};
use crate::file::{File, OpenOptions};
use crate::metadata::{DirEntry, Metadata, Permissions};
use crate::volume::Handle;

/// Entries that one look at a directory takes.
const LISTED: usize = 128;

/// The files of a volume. Relative paths start at the root, as absolute ones do.
///
/// Every operation runs at once on the tree in this process, and is recorded in the journal; none of them waits for
/// the object store, except to read content that is only there.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
/// let fs = volume.fs();
/// fs.create_dir_all("/logs/today").await?;
/// fs.write("/logs/today/a.tmp", b"one").await?;
/// fs.rename("/logs/today/a.tmp", "/logs/today/a").await?;
/// assert_eq!(fs.read("/logs/today/a").await?, b"one");
/// # volume.close().await }
/// ```
#[derive(Clone, Debug)]
pub struct Fs {
    handle: Arc<Handle>,
}

impl Fs {
    pub(crate) const fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        OpenOptions::new().read(true).open(self, path).await
    }

    /// Makes a file, or empties the one that is there, and opens it for writing.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn create(&self, path: impl AsRef<Path>) -> Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(self, path).await
    }

    /// All content of a file.
    ///
    /// # Errors
    /// POSIX's; `EFBIG` when it does not fit into memory; [`ErrorKind::Damaged`](crate::ErrorKind::Damaged), [`ErrorKind::Outage`](crate::ErrorKind::Outage).
    pub async fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let file = self.open(&path).await?;
        let len = file.metadata()?.len();
        let mut content = Vec::new();
        let fits = usize::try_from(len).is_ok_and(|len| content.try_reserve_exact(len).is_ok());
        if !fits {
            return Err(self.error(Errno::TooBig, "read all of", path.as_ref()));
        }
        for piece in file.read_pieces(0, len).await? {
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    /// All content of a file, as text.
    ///
    /// # Errors
    /// As [`Fs::read`]; `EINVAL` when it is not UTF-8.
    pub async fn read_to_string(&self, path: impl AsRef<Path>) -> Result<String> {
        let content = self.read(&path).await?;
        String::from_utf8(content).map_err(|_| self.error(Errno::Invalid, "read text of", path.as_ref()))
    }

    /// Makes a file with this content, or replaces the content of the one that is there.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.create(path).await?;
        file.write_all_at(content.as_ref(), 0).await
    }

    /// Copies the content and permissions of a file; returns how many bytes.
    ///
    /// # Errors
    /// As [`Fs::read`]; `EINVAL` when both are the same file.
    pub async fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64> {
        const PIECE: u64 = 1 << 20;
        let source = from.as_ref().to_path_buf();
        let from = self.open(from).await?;
        let metadata = from.metadata()?;
        if self.metadata(&to).await.is_ok_and(|same| same.ino() == metadata.ino()) {
            return Err(self.error(Errno::Invalid, "copy onto itself", &source));
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(metadata.mode());
        let to = options.open(self, to).await?;
        let mut at = 0;
        loop {
            // Until the end as it is then: another may cut the file meanwhile.
            let pieces = from.read_pieces(at, PIECE).await?;
            if pieces.is_empty() {
                return Ok(at);
            }
            for piece in pieces {
                to.write_all_at(&piece, at).await?;
                at += piece.len() as u64;
            }
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn create_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = At::root(path_bytes(path.as_ref()));
        self.run(Op::Mkdir { at, mode: 0o777 & !UMASK }, "create directory", path.as_ref()).await
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = Some(path.as_ref());
        while let Some(dir) = at.filter(|dir| !dir.as_os_str().is_empty()) {
            match self.metadata(dir).await {
                Ok(metadata) if metadata.is_dir() => break,
                Ok(_) => return Err(self.error(Errno::NotADirectory, "create directory", dir)),
                Err(error) if error.errno() == Some(Errno::NotFound) => missing.push(dir),
                Err(error) => return Err(error),
            }
            at = dir.parent();
        }
        for dir in missing.into_iter().rev() {
            match self.create_dir(dir).await {
                Err(error) if error.errno() == Some(Errno::Exists) && self.metadata(dir).await?.is_dir() => {}
                made => made?,
            }
        }
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = At::root(path_bytes(path.as_ref()));
        self.run(Op::Rmdir { at }, "remove directory", path.as_ref()).await
    }

    /// Removes a directory and everything below it.
    ///
    /// # Errors
    /// POSIX's. What was removed before an error stays removed.
    pub async fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        if !self.symlink_metadata(&path).await?.is_dir() {
            return Err(self.error(Errno::NotADirectory, "remove directory", path.as_ref()));
        }
        let mut stack = vec![path.as_ref().to_path_buf()];
        while let Some(dir) = stack.last().cloned() {
            let mut entries = self.read_dir(&dir).await?;
            let mut below = false;
            while let Some(entry) = entries.next_entry()? {
                if entry.file_type().is_dir() {
                    stack.push(entry.path());
                    below = true;
                } else {
                    self.remove_file(entry.path()).await?;
                }
            }
            drop(entries);
            if !below {
                self.remove_dir(&dir).await?;
                stack.pop();
            }
        }
        Ok(())
    }

    /// Removes a file or symlink. Handles that have it open go on to use it.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = At::root(path_bytes(path.as_ref()));
        self.run(Op::Unlink { at }, "remove", path.as_ref()).await
    }

    /// Gives a file, directory or symlink another name, replacing what has that name, in one step.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let op = Op::Rename { from: At::root(path_bytes(from)), to: At::root(path_bytes(to)) };
        self.run_named(op, || format!("rename {} to {}", from.display(), to.display())).await
    }

    /// Gives a file another name beside the ones that it has.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn hard_link(&self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
        let (original, link) = (original.as_ref(), link.as_ref());
        let op = Op::Link { from: target(original, false), to: At::root(path_bytes(link)) };
        self.run_named(op, || format!("link {} to {}", link.display(), original.display())).await
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn symlink(&self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
        let op =
            Op::Symlink { target: path_bytes(original.as_ref()), at: At::root(path_bytes(link.as_ref())) };
        self.run(op, "make symlink", link.as_ref()).await
    }

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let bytes = self.look(path.as_ref(), false, "read link", |live, ino| {
            live.tree.read_link(ino).map(<[u8]>::to_vec)
        })?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }

    /// The attributes of what a path leads to.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), true)
    }

    /// The attributes of what a path names; a symlink at its end is not followed.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), false)
    }

    /// Whether a path leads to something.
    ///
    /// # Errors
    /// POSIX's, but for those that mean that it does not.
    pub async fn try_exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.stat(path.as_ref(), true) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.errno(), Some(Errno::NotFound | Errno::NotADirectory)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn set_permissions(&self, path: impl AsRef<Path>, permissions: Permissions) -> Result<()> {
        let op = Op::SetMode { target: target(path.as_ref(), true), mode: permissions.mode() };
        self.run(op, "set permissions of", path.as_ref()).await
    }

    /// Sets owner and group, where given. A symlink is followed.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn chown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let op = Op::SetOwner { target: target(path.as_ref(), true), uid, gid };
        self.run(op, "set owner of", path.as_ref()).await
    }

    /// Sets the times of last access and last modification, where given. A symlink is followed.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn set_times(
        &self,
        path: impl AsRef<Path>,
        accessed: Option<Timestamp>,
        modified: Option<Timestamp>,
    ) -> Result<()> {
        let time = |time: Option<Timestamp>| time.map_or(SetTime::Keep, SetTime::At);
        let (accessed, modified) = (time(accessed), time(modified));
        let op = Op::SetTimes { target: target(path.as_ref(), true), accessed, modified };
        self.run(op, "set times of", path.as_ref()).await
    }

    /// Sets the size of a file: cuts it, or lengthens it with a hole.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn truncate(&self, path: impl AsRef<Path>, size: u64) -> Result<()> {
        let op = Op::Truncate { target: target(path.as_ref(), true), size };
        self.run(op, "truncate", path.as_ref()).await
    }

    /// Lists a directory. An entry that is there all the time is seen exactly once, whatever comes and goes meanwhile.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        let path = path.as_ref();
        let doing = || format!("list {}", path.display());
        let ino = {
            let mut live = self.shared().live.write();
            live.usable().map_err(|refused| refused.doing(doing))?;
            let ino = live.tree.lookup(&At::root(path_bytes(path)), true);
            let ino = ino.and_then(|ino| live.tree.read_dir(ino, Cookie(0), 0).map(|_| ino));
            let ino = ino.map_err(|errno| Error::posix(errno, doing()))?;
            live.hold(ino);
            ino
        };
        let handle = Arc::clone(&self.handle);
        Ok(ReadDir { handle, path: path.to_path_buf(), ino, after: Cookie(0), page: Vec::new().into_iter() })
    }

    /// Starts a batch: several operations that happen together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.handle))
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    async fn run(&self, op: Op, doing: &str, path: &Path) -> Result<()> {
        self.run_named(op, || format!("{doing} {}", path.display())).await
    }

    async fn run_named(&self, op: Op, doing: impl Fn() -> String) -> Result<()> {
        self.shared().admit(&doing).await?;
        self.shared().run(&op, &[], doing).map(drop)
    }

    fn stat(&self, path: &Path, follow: bool) -> Result<Metadata> {
        self.look(path, follow, "metadata of", |live, ino| live.tree.attr(ino).map(Metadata::new))
    }

    /// Looks at what a path leads to, as it is at one moment.
    fn look<T>(
        &self,
        path: &Path,
        follow: bool,
        doing: &str,
        look: impl FnOnce(&Live, Ino) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        let doing = || format!("{doing} {}", path.display());
        let live = self.shared().live.read();
        live.usable().map_err(|refused| refused.doing(doing))?;
        let found = live.tree.lookup(&At::root(path_bytes(path)), follow);
        found.and_then(|ino| look(&live, ino)).map_err(|errno| Error::posix(errno, doing()))
    }

    fn error(&self, errno: Errno, doing: &str, path: &Path) -> Error {
        let _ = self;
        Error::posix(errno, format!("{doing} {}", path.display()))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// Permission bits that new files and directories do not get.
pub(crate) const UMASK: u32 = 0o022;

/// A listing of a directory, from [`Fs::read_dir`].
#[derive(Debug)]
pub struct ReadDir {
    handle: Arc<Handle>,
    path: PathBuf,
    ino: Ino,
    after: Cookie,
    page: std::vec::IntoIter<rfs_core::DirEntry>,
}

impl ReadDir {
    /// The next entry, in no order; `.` and `..` are not among them.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub fn next_entry(&mut self) -> Result<Option<DirEntry>> {
        if self.page.as_slice().is_empty() {
            let doing = || format!("list {}", self.path.display());
            let live = self.handle.shared.live.read();
            live.usable().map_err(|refused| refused.doing(doing))?;
            let page = live.tree.read_dir(self.ino, self.after, LISTED);
            self.page = page.map_err(|errno| Error::posix(errno, doing()))?.into_iter();
        }
        let Some(entry) = self.page.next() else { return Ok(None) };
        self.after = entry.cookie;
        Ok(Some(DirEntry::new(&self.handle, &self.path, entry)))
    }

    /// A position in the listing that stays valid: [`ReadDir::seek`] goes back to it.
    #[must_use]
    pub const fn cookie(&self) -> Cookie {
        self.after
    }

    /// Goes on after `cookie`; 0 is the start.
    pub fn seek(&mut self, cookie: Cookie) {
        self.after = cookie;
        self.page = Vec::new().into_iter();
    }
}

impl Drop for ReadDir {
    fn drop(&mut self) {
        let ended = self.handle.shared.change(|live, caller| {
            live.let_go(caller, self.ino);
            Ok(())
        });
        debug_assert!(ended.is_ok(), "letting go is never refused");
    }
}

pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    OsStr::as_bytes(path.as_os_str()).to_vec()
}

pub(crate) fn target(path: &Path, follow: bool) -> Target {
    Target::Path { at: At::root(path_bytes(path)), follow }
}

/// Content, in pieces that share the memory of where they were read.
pub(crate) type Pieces = Vec<Bytes>;
