//! Why a volume could not be mounted or unmounted.

use std::io;
use std::path::PathBuf;

/// The result of mounting or unmounting.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a volume could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no FUSE on this machine, or not for this process.
    #[error(
        "mount at {}: /dev/fuse is missing; load the kernel module (modprobe fuse), or give the container \
         the device (--device /dev/fuse --cap-add SYS_ADMIN)", .dir.display()
    )]
    NoFuse {
        /// Where to mount.
        dir: PathBuf,
    },
    /// The process may not mount.
    #[error(
        "mount at {}: not permitted ({source}); run as root, or install fusermount3 (package fuse3); for users \
         other than the one who mounts, /etc/fuse.conf must say user_allow_other", .dir.display()
    )]
    Denied {
        /// Where to mount.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory cannot be mounted on.
    #[error("mount at {}: {source}; give an existing directory that is not a mount whose program has died \
         (umount it then)", .dir.display())]
    Directory {
        /// Where to mount.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("{doing} {}: {source}", .dir.display())]
    System {
        /// What was being done.
        doing: &'static str,
        /// Where.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller is not inside a tokio runtime, and the options name none.
    #[error(
        "mount at {}: there is no tokio runtime here; call it from one, or give its handle with \
         MountOptions::with_runtime", .dir.display()
    )]
    NoRuntime {
        /// Where to mount.
        dir: PathBuf,
    },
}
