//! Copies that share their bytes with what they are copies of.

use std::path::Path;

use rfs_core::{Access, At, Errno, Fault, Kind, Op, OpenFlags, Outcome, Permission, Target};

use super::{Fs, path_bytes};
use crate::error::Result;

impl Fs {
    /// Copies the content and permissions of a file, in one step, over what `to` leads to; returns how many bytes. No
    /// bytes are moved: both files share them until one is written to.
    ///
    /// # Errors
    /// POSIX's; `EINVAL` when both are the same file, or `from` is neither a file nor a directory; `EPERM` when `to` is
    /// somebody else's file, whose permissions the caller may not set.
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
            if !flags.exclusive {
                match live.tree.target(&self.credential, &copy) {
                    Ok(other) if other == ino => return Err(Errno::Invalid.into()),
                    Err(Fault::Missing(missing)) => return Err(missing.into()),
                    _ => {}
                }
            }
            let open = Op::Open {
                at: At::root(path_bytes(to)),
                access: Access { read: false, write: true },
                flags: OpenFlags { no_follow: !self.follow, ..flags },
                mode: attr.mode,
            };
            let mut lens = Vec::new();
            let mut copied = 0;
            while copied < attr.size {
                lens.push(live.tree.copy_len(ino, copied, attr.size - copied)?);
                copied += lens[lens.len() - 1];
            }
            live.run_steps(caller, &[], |batch, context| {
                let Outcome::Opened { ino: to, .. } = batch.decide(context, &open)? else {
                    return Err(Errno::Invalid.into());
                };
                let (from, to) = (Target::Ino(ino), Target::Ino(to));
                batch.decide(context, &Op::SetMode { target: to.clone(), mode: attr.mode })?;
                let mut at = 0;
                for len in lens {
                    let (from, to) = (from.clone(), to.clone());
                    batch.decide(context, &Op::Copy { from, from_offset: at, to, to_offset: at, len })?;
                    at += len;
                }
                Ok(())
            })?;
            Ok(attr.size)
        });
        copied.await.map_err(|refused| refused.doing(doing))
    }
}
