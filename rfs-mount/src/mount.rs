//! A mounted volume.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rfs::Volume;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::UnmountFlags;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::filesystem::Filesystem;
use crate::invalidate;
use crate::options::MountOptions;
use crate::served::{Invalidate, Served};

/// The type of a mounted volume's file system, as `/proc/self/mountinfo` shows it.
pub const FS_TYPE: &str = "fuse.rfs";
const SUBTYPE: &str = "rfs";

/// A volume that is mounted. Dropping it unmounts; what was not committed then is not committed.
#[derive(Debug)]
pub struct Mount {
    volume: Option<Volume>,
    dir: PathBuf,
    /// The device number that the kernel gave it: what else is mounted at the directory has another.
    device: u64,
    /// It tells whether the connection is cut.
    connection: OwnedFd,
    served: Arc<Served>,
    ended: watch::Receiver<bool>,
    session: Option<BackgroundSession>,
    invalidator: Option<JoinHandle<()>>,
}

impl Mount {
    /// Mounts a volume at an existing directory, and answers the kernel from threads of its own.
    ///
    /// # Errors
    /// [`Error::NoFuse`], [`Error::Denied`], [`Error::Directory`], [`Error::NoRuntime`], [`Error::System`].
    #[expect(clippy::needless_pass_by_value, reason = "options are made for the call")]
    pub fn new(volume: Volume, dir: &Path, options: MountOptions) -> Result<Self> {
        let runtime = match &options.runtime {
            Some(runtime) => runtime.clone(),
            None => tokio::runtime::Handle::try_current()
                .map_err(|_| Error::NoRuntime { dir: dir.to_path_buf() })?,
        };
        let refused = |source| Error::Directory { dir: dir.to_path_buf(), source };
        let dir = dir.canonicalize().map_err(refused)?;
        if !dir.is_dir() {
            return Err(refused(io::ErrorKind::NotADirectory.into()));
        }
        if !Path::new("/dev/fuse").exists() {
            return Err(Error::NoFuse { dir });
        }
        let (ask, asked) = mpsc::unbounded_channel();
        let inodes = volume.inodes();
        let changes = inodes.watch();
        let served = Arc::new(Served::new(inodes, runtime.clone(), &options, ask));
        let (end, ended) = watch::channel(false);
        let filesystem = Filesystem::new(Arc::clone(&served), end);
        let config = config(&options, volume.url());
        let session = Session::new(filesystem, &dir, &config).map_err(|source| mount_error(&dir, source))?;
        let notifier = session.notifier();
        served.notifier.set(notifier.clone()).ok();
        let connection = session.as_fd().try_clone_to_owned().map_err(|source| {
            served.end();
            Error::System { doing: "keep the connection of the mount at", dir: dir.clone(), source }
        })?;
        let invalidator = {
            let served = Arc::clone(&served);
            let work = move || runtime.block_on(invalidate::run(served, changes, notifier, asked));
            std::thread::Builder::new().name("rfs-invalidate".into()).spawn(work)
        };
        let started = invalidator.and_then(|invalidator| Ok((invalidator, session.spawn()?)));
        let (invalidator, session) = started.map_err(|source| {
            served.end();
            Error::System { doing: "start the threads of the mount at", dir: dir.clone(), source }
        })?;
        let mut mount = Self {
            volume: Some(volume),
            dir,
            device: 0,
            connection,
            served,
            ended,
            session: Some(session),
            invalidator: Some(invalidator),
        };
        match std::fs::metadata(&mount.dir) {
            Ok(root) => mount.device = root.dev(),
            Err(source) => return Err(mount.system("look at", source)),
        }
        tracing::debug!(dir = %mount.dir.display(), "mounted");
        Ok(mount)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until it is not mounted any more: somebody unmounted it.
    pub async fn wait(&self) {
        // The sender goes when the session ends, whatever it says before.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Waits until the kernel was told of everything that the program changed through the API so far, so that whoever
    /// looks at the mount then sees it.
    pub async fn refresh(&self) {
        let (done, told) = oneshot::channel();
        if self.served.invalidate.send(Invalidate::Told(done)).is_ok() {
            // An invalidator that has ended tells nobody.
            let _ = told.await;
        }
    }

    /// The last failure of the volume that programs met as `EIO`, `ESTALE` or `ETIMEDOUT`, if any.
    #[must_use]
    pub fn failure(&self) -> Option<rfs::Error> {
        self.served.failure()
    }

    /// Unmounts, and gives the volume back with everything that was written to the mount. Programs that still use the
    /// mount get `ENOTCONN` from then on; what they unlinked and kept open is removed. A mount that somebody else has
    /// detached while programs use it, or has mounted something over, goes on for them until the volume is closed; it is
    /// left where it is. So does that of a user other than root, but taken off its directory, where no `fusectl` is
    /// mounted on `/sys/fs/fuse/connections`. It blocks: async code calls it where that is allowed.
    ///
    /// # Errors
    /// The mount is still there, and comes back with the error: try again, or take the volume by
    /// [`Mount::into_volume`] so that what was done is not lost.
    pub fn unmount(mut self) -> std::result::Result<Volume, UnmountError> {
        match self.end() {
            Ok(()) => Ok(self.into_volume()),
            Err(error) => Err(UnmountError { error, mount: Box::new(self) }),
        }
    }

    /// The volume. If it is still mounted then programs get errors from the mount as soon as the volume is closed.
    #[must_use]
    pub fn into_volume(mut self) -> Volume {
        self.volume.take().expect("nothing else takes it out")
    }

    fn end(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if !*self.ended.borrow() {
            match self.take_off() {
                Ok(true) => {}
                Ok(false) => {
                    // Nobody can tell when its last user goes. Dropped, it would unmount what is there instead.
                    std::mem::forget(session);
                    return Ok(());
                }
                // Somebody was faster.
                Err(_) if *self.ended.borrow() => {}
                Err(source) => {
                    self.session = Some(session);
                    return Err(self.system("unmount", source));
                }
            }
        }
        let joined = session.join();
        self.served.end();
        if let Some(invalidator) = self.invalidator.take()
            && invalidator.join().is_err()
        {
            tracing::error!("the thread that invalidates caches panicked");
        }
        // A thread that was reading when the connection was cut says so. The mount is gone whatever it says.
        if let Err(error) = joined {
            tracing::debug!(%error, dir = %self.dir.display(), "the mount's threads ended with an error");
        }
        Ok(())
    }

    /// Writes out what the kernel holds, then cuts the connection and takes the mount away, whoever uses it. `false` when
    /// it goes on for them: it is not on top of its directory, or it is detached but cannot be cut.
    fn take_off(&self) -> io::Result<bool> {
        let dir = &self.dir;
        let on_top = self.is_on_top();
        if on_top {
            // What cannot be written out is told to the programs that wrote it; the volume has failed then.
            let written = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
            if let Err(error) = written {
                tracing::warn!(%error, dir = %dir.display(), "what the kernel held could not be written out");
            }
        }
        // That only begins to write the pages; on a FUSE file system it does not wait for them.
        for ino in self.served.known.may_all_be_dirty() {
            self.served.write_out(ino);
        }
        // It takes its time, and unmounting goes by path.
        if !on_top || !self.is_on_top() {
            tracing::warn!(dir = %dir.display(), "the mount is not on top of its directory any more");
            return Ok(false);
        }
        // Without the force, a copy of the mount in another namespace would keep it, and us, alive.
        match rustix::mount::unmount(dir, UnmountFlags::FORCE | UnmountFlags::DETACH) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::PERM) => self.take_off_as_user(),
            Err(error) => Err(error.into()),
        }
    }

    /// The helper detaches the mount, and does not cut its connection.
    fn take_off_as_user(&self) -> io::Result<bool> {
        let minor = rustix::fs::minor(self.device);
        // Before it is unmounted: the number may be another mount's then, but not that of the open file.
        let abort = File::options().write(true).open(format!("/sys/fs/fuse/connections/{minor}/abort"));
        helper(&self.dir)?;
        if self.is_cut()? {
            return Ok(true);
        }
        match abort.and_then(|mut abort| abort.write_all(b"1")) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(
                    %error, dir = %self.dir.display(),
                    "the mount is detached, but cannot be cut off from who uses it (is fusectl mounted?)"
                );
                Ok(false)
            }
        }
    }

    /// Whether the kernel has given the mount up.
    fn is_cut(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.connection, PollFlags::empty())];
        rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(polled[0].revents().contains(PollFlags::ERR))
    }

    /// Whether it is what its directory leads to.
    fn is_on_top(&self) -> bool {
        // Nothing but the device number, which the kernel tells of any mount to anybody, and without asking who serves it.
        match rustix::fs::statx(CWD, &self.dir, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()) {
            Ok(root) => rustix::fs::makedev(root.stx_dev_major, root.stx_dev_minor) == self.device,
            // Older kernels ask, and get no answer where the connection is cut.
            Err(errno) => errno == rustix::io::Errno::NOTCONN,
        }
    }

    fn system(&self, doing: &'static str, source: io::Error) -> Error {
        Error::System { doing, dir: self.dir.clone(), source }
    }
}

/// A mount that could not be unmounted, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnmountError {
    #[source]
    error: Error,
    mount: Box<Mount>,
}

impl UnmountError {
    /// The mount, which is still there.
    #[must_use]
    pub fn into_mount(self) -> Mount {
        *self.mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "a mount that is dropped could not be unmounted");
            // Its threads go on for as long as somebody uses it; what waits for them would wait for ever. Dropped, it
            // would try to unmount once more.
            if let Some(session) = self.session.take() {
                std::mem::forget(session);
            }
        }
    }
}

fn config(options: &MountOptions, url: &str) -> Config {
    // The helper would complain.
    let root = rustix::process::geteuid().is_root();
    let source = options.source.clone().unwrap_or_else(|| url.to_owned());
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(source.replace(',', "_")),
        // fuser's own option for it stays with the helper, and never gets to the kernel.
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
        MountOption::DefaultPermissions,
        if options.set_id && root { MountOption::Suid } else { MountOption::NoSuid },
        if options.devices && root { MountOption::Dev } else { MountOption::NoDev },
        if options.read_only { MountOption::RO } else { MountOption::RW },
    ];
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    config
}

fn mount_error(dir: &Path, source: io::Error) -> Error {
    let dir = dir.to_path_buf();
    match source.kind() {
        // It exists, but there is no driver behind it; or the helper for users is missing.
        io::ErrorKind::NotFound if source.raw_os_error() == Some(2) => Error::Denied { dir, source },
        io::ErrorKind::PermissionDenied => Error::Denied { dir, source },
        _ => Error::System { doing: "mount at", dir, source },
    }
}

/// Users other than root unmount through a helper.
fn helper(dir: &Path) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for program in ["fusermount3", "fusermount"] {
        match Command::new(program).args(["-u", "-z", "--"]).arg(dir).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => last = io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
