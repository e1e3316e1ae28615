//! How files are opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rfs_core::{Access, At, Capabilities, Errno, Ino, Kind, Op, OpenFlags, Outcome, Permission, Target};

use super::{File, Held, State};
use crate::engine::{Live, Refused};
use crate::error::{Error, Result};
use crate::fs::{Fs, path_bytes, target};

/// How a file is opened, as `std::fs::OpenOptions` says it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent flags, as in std::fs::OpenOptions")]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    no_follow: bool,
    mode: u32,
    lock_key: Option<u64>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Nothing is allowed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            no_follow: false,
            mode: 0o666,
            lock_key: None,
        }
    }

    /// Reading is allowed.
    pub const fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// Writing is allowed.
    pub const fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// Every write goes to the end of the file, as it is then.
    pub const fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// The file is emptied.
    pub const fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// The file is made when it is missing.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// The file is made, and must be missing.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// A symlink at the end of the path is refused.
    pub const fn no_follow(&mut self, no_follow: bool) -> &mut Self {
        self.no_follow = no_follow;
        self
    }

    /// Permission bits of a file that is made, without those of the caller's umask. Default: `0o666`.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// The number under which the handle's locks are held: [`File::lock_key`] of a handle that an earlier process of the
    /// same owner had, so that its locks are this handle's; or a number below 2^40 that the program chose itself.
    /// Default: one that no handle had before. Handles with the same number count as one for locks.
    pub const fn lock_key(&mut self, key: u64) -> &mut Self {
        self.lock_key = Some(key);
        self
    }

    /// Opens the file at a path.
    ///
    /// # Errors
    /// POSIX's; `EINVAL` for flags that contradict each other, as in `std::fs`.
    pub async fn open(&self, fs: &Fs, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let doing = || format!("open {}", path.display());
        let access = self.access();
        let write = access.write;
        let truncates = self.truncate && !self.create_new;
        let contradicts = (truncates && (self.append || !self.write))
            || ((self.create || self.create_new) && !write)
            || !(self.read || write);
        if contradicts {
            return Err(Error::posix(Errno::Invalid, doing()));
        }
        let flags = OpenFlags {
            create: self.create || self.create_new,
            exclusive: self.create_new,
            truncate: truncates,
            directory: false,
            no_follow: self.no_follow || !fs.follows(),
        };
        let shared = &fs.handle().shared;
        if flags.create || flags.truncate {
            shared.admit(doing).await?;
        }
        let op = Op::Open { at: At::root(path_bytes(path)), access, flags, mode: self.mode };
        let caller = shared.caller(fs.credential());
        self.hold(fs, path, access, |live| match live.run(caller, &op, &[])? {
            Outcome::Opened { ino, .. } => {
                live.hold(ino);
                Ok(ino)
            }
            _ => Err(Errno::Invalid.into()),
        })
        .await
    }

    /// What opens a file by its number, or makes one without a name.
    pub(crate) async fn hold(
        &self,
        fs: &Fs,
        path: &Path,
        access: Access,
        mut open: impl FnMut(&mut Live) -> std::result::Result<Ino, Refused> + Send,
    ) -> Result<File> {
        let opened = fs.handle().shared.change(|live| Ok((open(live)?, live.lock_owner(self.lock_key))));
        let (ino, locks) =
            opened.await.map_err(|refused| refused.doing(|| format!("open {}", path.display())))?;
        let (handle, credential) = (Arc::clone(fs.handle()), Arc::clone(fs.credential()));
        let held = Held { handle, credential, ino, locks, path: path.to_path_buf() };
        let state = Mutex::new(State::Idle);
        Ok(File { held: Arc::new(held), access, append: self.append, cursor: 0, state })
    }

    const fn access(&self) -> Access {
        Access { read: self.read, write: self.write || self.append }
    }
}

impl Fs {
    /// Opens a file without a name: those that the volume's owner held when its last process ended
    /// ([`Volume::held_files`](crate::Volume::held_files)), and any other inode by its number. What else a path would
    /// have to allow is not asked. The flags that make files are `EINVAL` here.
    ///
    /// # Errors
    /// `ESTALE` when there is no such inode; `EACCES`; `EPERM` for one that the owner does not hold, without
    /// [`DAC_READ_SEARCH`](Capabilities::DAC_READ_SEARCH).
    pub async fn open_held(&self, ino: Ino, options: &OpenOptions) -> Result<File> {
        let path = PathBuf::from(format!("inode {ino}"));
        let access = options.access();
        let makes = options.create || options.create_new;
        if makes || !(access.read || access.write) || (options.truncate && !access.write) {
            return Err(Error::posix(Errno::Invalid, format!("open {}", path.display())));
        }
        let shared = &self.handle().shared;
        if options.truncate {
            shared.admit(|| format!("open {}", path.display())).await?;
        }
        let credential = self.credential();
        let caller = shared.caller(credential);
        options
            .hold(self, &path, access, |live| {
                let kind = live.tree.attr(ino)?.kind;
                let owner = live.session().owner;
                if !credential.has(Capabilities::DAC_READ_SEARCH)
                    && !live.tree.holders(ino).any(|holder| holder == owner)
                {
                    return Err(Errno::NotPermitted.into());
                }
                match kind {
                    Kind::Directory if access.write => return Err(Errno::IsADirectory.into()),
                    Kind::File | Kind::Directory => {}
                    Kind::Symlink => return Err(Errno::TooManySymlinks.into()),
                    _ => return Err(Errno::NoSuchData.into()),
                }
                let read = if access.read { Permission::READ } else { Permission::NONE };
                let write = if access.write { Permission::WRITE } else { Permission::NONE };
                live.tree.permits(credential, ino, read | write)?;
                if options.truncate {
                    live.run(caller, &Op::Truncate { target: Target::Ino(ino), size: 0 }, &[])?;
                }
                live.open_ino(caller, ino)?;
                Ok(ino)
            })
            .await
    }

    /// Makes a file without a name, in the file system of `dir`, and opens it (`O_TMPFILE`). It goes with its last
    /// handle, unless [`File::link_to`] gives it a name first; with `create_new` it can't get one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// let fs = volume.fs();
    /// let file = fs.open_nameless("/", rfs::OpenOptions::new().read(true).write(true)).await?;
    /// file.write_all_at(b"whole", 0).await?;
    /// file.link_to("/result").await?;
    /// assert_eq!(fs.read("/result").await?, b"whole");
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// POSIX's: `EINVAL` when it is not opened for writing, `ENOTDIR`, `EACCES`.
    pub async fn open_nameless(&self, dir: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let dir = dir.as_ref();
        let shared = &self.handle().shared;
        let access = options.access();
        shared.admit(|| format!("open a nameless file in {}", dir.display())).await?;
        let linkable = !options.create_new;
        let op = Op::OpenNameless { dir: target(dir, true), access, linkable, mode: options.mode };
        let caller = shared.caller(self.credential());
        options
            .hold(self, &dir.join("(nameless)"), access, |live| match live.run(caller, &op, &[])? {
                Outcome::Opened { ino, .. } | Outcome::Made { ino } => {
                    live.hold(ino);
                    Ok(ino)
                }
                _ => Err(Errno::Invalid.into()),
            })
            .await
    }
}
