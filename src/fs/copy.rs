//! Copies that share their bytes with what they are copies of.

use std::path::Path;

use rfs_core::{Access, At, Errno, Kind, Op, OpenFlags, Permission, Target};

use super::{Fs, path_bytes};
use crate::engine::Refused;
use crate::error::Result;

/// Who makes a copy may write to it while it is made, whatever permissions it gets.
const MODE_MEANWHILE: u32 = 0o600;

impl Fs {
    /// Copies the content and permissions of a file, in one step, over what `to` leads to; returns how many bytes. No
    /// bytes are moved: both files share them until one is written to.
    ///
    /// # Errors
    /// POSIX's; `EINVAL` when both are the same file, or `from` is neither a file nor a directory.
    pub async fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64> {
        let replace = OpenFlags { create: true, truncate: true, ..OpenFlags::default() };
        self.share(from.as_ref(), to.as_ref(), replace).await
    }

    /// Makes a file that shares all content of another, and has its permissions, in one step.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// let fs = volume.fs();
    /// fs.write("/table", vec![7; 1 << 20]).await?;
    /// fs.clone_file("/table", "/table.before").await?;
    /// fs.write("/table", b"new").await?;
    /// assert_eq!(fs.metadata("/table.before").await?.len(), 1 << 20);
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// As [`Fs::copy`]; `EEXIST` when `to` is there.
    pub async fn clone_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let make = OpenFlags { create: true, exclusive: true, ..OpenFlags::default() };
        self.share(from.as_ref(), to.as_ref(), make).await.map(drop)
    }

    async fn share(&self, from: &Path, to: &Path, flags: OpenFlags) -> Result<u64> {
        let doing = || format!("copy {} to {}", from.display(), to.display());
        let shared = self.shared();
        shared.admit(doing).await?;
        let (source, copy) = (self.target(from), self.target(to));
        let caller = shared.caller(&self.credential);
        let copied = shared.change(|live| {
            live.usable()?;
            let ino = live.tree.target(&self.credential, &source)?;
            live.tree.permits(&self.credential, ino, Permission::READ)?;
            let attr = live.tree.attr(ino)?;
            match attr.kind {
                Kind::File => {}
                Kind::Directory => return Err(Errno::IsADirectory.into()),
                _ => return Err(Errno::Invalid.into()),
            }
            if !flags.exclusive && live.tree.target(&self.credential, &copy) == Ok(ino) {
                return Err(Errno::Invalid.into());
            }
            let open = Op::Open {
                at: At::root(path_bytes(to)),
                access: Access { read: false, write: true },
                flags: OpenFlags { no_follow: !self.follow, ..flags },
                mode: MODE_MEANWHILE,
            };
            let mut ops = vec![open];
            let mut at = 0;
            while at < attr.size {
                let (from, to) = (Target::Ino(ino), copy.clone());
                let len = live.tree.copy_len(ino, at, attr.size - at);
                ops.push(Op::Copy { from, from_offset: at, to, to_offset: at, len });
                at += len;
            }
            ops.push(Op::SetMode { target: copy.clone(), mode: attr.mode });
            live.run_batch(caller, &ops, &[]).map_err(Refused::of_one)?;
            Ok(attr.size)
        });
        copied.map_err(|refused| refused.doing(doing))
    }
}
