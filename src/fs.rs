//! The files of a volume, by path. Methods are named as `tokio::fs` names them.

mod attributes;
mod copy;
mod read_dir;

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{At, Credential, Errno, Fault, Ino, Node, Op, RenameMode, Target};

pub use self::read_dir::ReadDir;
use crate::batch::Batch;
use crate::engine::{Live, Shared};
use crate::error::{Error, Result};
use crate::file::{File, OpenOptions};
use crate::volume::Handle;

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
    credential: Arc<Credential>,
    /// Whether a symlink at the end of a path is followed.
    follow: bool,
}

impl Fs {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        let credential = Arc::clone(&handle.shared.options.credential);
        Self { handle, credential, follow: true }
    }

    /// The same files for another caller: every operation is checked against its permissions, and what is made is its.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// use rfs::{Credential, Errno, Permissions};
    /// let fs = volume.fs();
    /// fs.write("/secret", b"42").await?;
    /// fs.set_permissions("/secret", Permissions::from_mode(0o600)).await?;
    /// let user = fs.as_user(Credential::user(1000, 1000, &[]));
    /// assert_eq!(user.read("/secret").await.unwrap_err().errno(), Some(Errno::AccessDenied));
    /// # volume.close().await }
    /// ```
    #[must_use]
    pub fn as_user(&self, credential: Credential) -> Self {
        Self { credential: Arc::new(credential), ..self.clone() }
    }

    /// The same files, but an operation on a path that ends in a symlink is about the symlink, as with
    /// `AT_SYMLINK_NOFOLLOW` in Linux. Opening one is `ELOOP`.
    #[must_use]
    pub fn no_follow(&self) -> Self {
        Self { follow: false, ..self.clone() }
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
        let len = file.metadata().await?.len();
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

    /// Makes a directory.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn create_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = At::root(path_bytes(path.as_ref()));
        self.run(Op::Mkdir { at, mode: 0o777 }, "create directory", path.as_ref()).await
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
            while let Some(entry) = entries.next_entry().await? {
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

    /// Makes a regular file, a fifo, a socket or a device. A volume keeps the latter and shows them; it does not open
    /// them.
    ///
    /// # Errors
    /// POSIX's; `EPERM` for a device without [`MKNOD`](crate::Capabilities::MKNOD).
    pub async fn mknod(&self, path: impl AsRef<Path>, node: Node, mode: u32) -> Result<()> {
        let at = At::root(path_bytes(path.as_ref()));
        self.run(Op::Mknod { at, node, mode }, "make node", path.as_ref()).await
    }

    /// Gives a file, directory or symlink another name, replacing what has that name, in one step.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename_with(from, to, RenameMode::Replace).await
    }

    /// As [`Fs::rename`]; what becomes of that which has the new name, `mode` says.
    ///
    /// # Errors
    /// POSIX's: `EEXIST` for [`RenameMode::NoReplace`], `ENOENT` for [`RenameMode::Exchange`] when there is nothing,
    /// `EINVAL` for [`RenameMode::Whiteout`].
    pub async fn rename_with(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        mode: RenameMode,
    ) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let op = Op::Rename { from: At::root(path_bytes(from)), to: At::root(path_bytes(to)), mode };
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
        let look = |live: &Live, ino| live.tree.read_link(ino).map(|target| (ino, target.to_vec()));
        let (ino, bytes) = self.look(path.as_ref(), false, "read link", look).await?;
        self.shared().note_access(self.shared().caller(&self.credential), ino).await;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }

    /// Sets the size of a file: cuts it, or lengthens it with a hole.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn truncate(&self, path: impl AsRef<Path>, size: u64) -> Result<()> {
        let op = Op::Truncate { target: self.target(path.as_ref()), size };
        self.run(op, "truncate", path.as_ref()).await
    }

    /// Starts a batch: several operations that happen together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.handle), Arc::clone(&self.credential))
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) const fn follows(&self) -> bool {
        self.follow
    }

    fn target(&self, path: &Path) -> Target {
        target(path, self.follow)
    }

    pub(crate) const fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    async fn run(&self, op: Op, doing: &str, path: &Path) -> Result<()> {
        self.run_named(op, || format!("{doing} {}", path.display())).await
    }

    async fn run_named(&self, op: Op, doing: impl Fn() -> String + Send + Sync) -> Result<()> {
        self.shared().admit(&doing).await?;
        let shared = self.shared();
        shared.run(shared.caller(&self.credential), &op, &[], doing).await.map(drop)
    }

    /// Looks at what a path leads to, as it is at one moment.
    async fn look<T>(
        &self,
        path: &Path,
        follow: bool,
        doing: &str,
        mut look: impl FnMut(&Live, Ino) -> std::result::Result<T, Fault> + Send,
    ) -> Result<T> {
        let doing = || format!("{doing} {}", path.display());
        let at = At::root(path_bytes(path));
        let found = |live: &Live| {
            let ino = live.tree.lookup(&self.credential, &at, follow)?;
            look(live, ino)
        };
        self.shared().look(found, doing).await
    }

    fn error(&self, errno: Errno, doing: &str, path: &Path) -> Error {
        let _ = self;
        Error::posix(errno, format!("{doing} {}", path.display()))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
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
