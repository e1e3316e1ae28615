//! Mounts an rfs volume, so that any Linux program can use it.
//!
//! The program that holds the [`Volume`](rfs::Volume) answers the kernel itself, in threads of its own: there is no
//! daemon, and the program goes on using the volume through its API. The kernel checks permissions, keeps locks, and
//! caches names, attributes and content; what the program changes through the API is told to it.
//!
//! A program that is built with overflow checks, as debug builds are, should switch them off for the crate `fuser`: else a
//! thread that answers panics when somebody sets a file's time to the earliest there is.
//!
//! ```toml
//! [profile.dev.package.fuser]
//! overflow-checks = false
//! ```
//!
//! It is not for other systems than Linux, and not for a volume that another machine writes: a volume has one writer.
//!
//! ```no_run
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rfs_mount::{Mount, MountOptions};
//! let volume = rfs::Volume::open_or_create("file:///srv/store", rfs::Options::new()).await?;
//! let mount = Mount::new(volume, "/mnt/job".as_ref(), MountOptions::new())?;
//! tokio::process::Command::new("make").current_dir("/mnt/job").status().await?;
//! let volume = mount.unmount()?;
//! volume.checkpoint("built").await?.wait().await?;
//! # Ok(()) }
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("rfs-mount needs Linux: use the API of rfs on other systems");

mod attributes;
mod caller;
mod error;
mod filesystem;
mod invalidate;
mod known;
mod mount;
mod options;
mod reply;
mod served;

pub use error::{Error, Result};
pub use mount::{FS_TYPE, Mount, UnmountError};
pub use options::MountOptions;
