//! Attributes by path: of inodes, extended ones, and those of the whole volume.

use std::path::Path;

use rfs_core::{
    Errno, Limits, Op, Permission, Quota, QuotaSubject, SetTime, StatFs, Timestamp, XattrMode, XattrName,
};

use super::Fs;
use crate::engine::Live;
use crate::error::Result;
use crate::metadata::{Metadata, Permissions};

impl Fs {
    /// The attributes of what a path leads to.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), self.follow).await
    }

    /// The attributes of what a path names; a symlink at its end is not followed.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), false).await
    }

    /// Whether a path leads to something.
    ///
    /// # Errors
    /// POSIX's, but for those that mean that it does not.
    pub async fn try_exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.stat(path.as_ref(), self.follow).await {
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
        let op = Op::SetMode { target: self.target(path.as_ref()), mode: permissions.mode() };
        self.run(op, "set permissions of", path.as_ref()).await
    }

    /// Sets owner and group, where given. A symlink is followed, but not by [`Fs::no_follow`].
    ///
    /// # Errors
    /// POSIX's.
    pub async fn chown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let op = Op::SetOwner { target: self.target(path.as_ref()), uid, gid };
        self.run(op, "set owner of", path.as_ref()).await
    }

    /// Sets the times of last access and last modification, where given. A symlink is followed, but not by
    /// [`Fs::no_follow`].
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
        let op = Op::SetTimes { target: self.target(path.as_ref()), accessed, modified };
        self.run(op, "set times of", path.as_ref()).await
    }

    /// Whether the caller may read, write or execute what a path leads to. [`Permission::NONE`] asks only whether there
    /// is something.
    ///
    /// # Errors
    /// POSIX's: `EACCES` when not.
    pub async fn access(&self, path: impl AsRef<Path>, access: Permission) -> Result<()> {
        let permits = |live: &Live, ino| live.tree.permits(&self.credential, ino, access);
        self.look(path.as_ref(), self.follow, "access", permits).await
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// POSIX's: `ENODATA` when there is none, `EOPNOTSUPP` for a namespace that is not known.
    pub async fn xattr(&self, path: impl AsRef<Path>, name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let name = name.as_ref().to_vec();
        let value = |live: &Live, ino| {
            let value = live.tree.xattr(&self.credential, ino, &name)?;
            Ok(value.as_bytes().to_vec())
        };
        self.look(path.as_ref(), self.follow, "get an attribute of", value).await
    }

    /// The names of the extended attributes that the caller may see.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn xattr_names(&self, path: impl AsRef<Path>) -> Result<Vec<XattrName>> {
        let names = |live: &Live, ino| live.tree.xattr_names(&self.credential, ino);
        self.look(path.as_ref(), self.follow, "list attributes of", names).await
    }

    /// Sets an extended attribute: `user.*`, `trusted.*`, `security.*`, and the ACLs `system.posix_acl_access` and
    /// `system.posix_acl_default` in the form that Linux gives them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// let fs = volume.fs();
    /// fs.write("/part-1", b"1").await?;
    /// fs.set_xattr("/part-1", "user.source", b"sensor 7", rfs::XattrMode::Create).await?;
    /// assert_eq!(fs.xattr("/part-1", "user.source").await?, b"sensor 7");
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// POSIX's: `EEXIST` and `ENODATA` as `mode` says, `EOPNOTSUPP`, `ERANGE`, `E2BIG` over 64 KiB.
    pub async fn set_xattr(
        &self,
        path: impl AsRef<Path>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        mode: XattrMode,
    ) -> Result<()> {
        let (name, value) = (name.as_ref().to_vec(), value.as_ref().to_vec());
        let op = Op::SetXattr { target: self.target(path.as_ref()), name, value, mode };
        self.run(op, "set an attribute of", path.as_ref()).await
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// POSIX's: `ENODATA` when there is none.
    pub async fn remove_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<[u8]>) -> Result<()> {
        let op = Op::RemoveXattr { target: self.target(path.as_ref()), name: name.as_ref().to_vec() };
        self.run(op, "remove an attribute of", path.as_ref()).await
    }

    /// How large the volume is, and how much of it is free: its quota, if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), and others for which the volume stopped.
    pub async fn stat_fs(&self) -> Result<StatFs> {
        self.look(Path::new("/"), true, "sizes of", |live, _| Ok(live.tree.stat_fs())).await
    }

    /// The quotas that are set, with what is used of each.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), and others for which the volume stopped.
    pub async fn quotas(&self) -> Result<Vec<(QuotaSubject, Quota)>> {
        self.look(Path::new("/"), true, "quotas of", |live, _| Ok(live.tree.quotas().collect())).await
    }

    /// Limits the bytes and inodes of the volume (past it: `ENOSPC`) or of one user (`EDQUOT`). What is over the limit
    /// already stays. No limits drop the quota.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// use rfs::{Errno, Limits, QuotaSubject};
    /// let fs = volume.fs();
    /// fs.set_quota(QuotaSubject::Volume, Limits { bytes: Some(10), inodes: None }).await?;
    /// fs.write("/small", b"12345").await?;
    /// let error = fs.write("/large", b"123456").await.unwrap_err();
    /// assert_eq!(error.errno(), Some(Errno::NoSpace));
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// `EPERM` without [`SYS_RESOURCE`](crate::Capabilities::SYS_RESOURCE).
    pub async fn set_quota(&self, subject: QuotaSubject, limits: Limits) -> Result<()> {
        self.run_named(Op::SetQuota { subject, limits }, || format!("set the quota of {subject:?}")).await
    }

    async fn stat(&self, path: &Path, follow: bool) -> Result<Metadata> {
        self.look(path, follow, "metadata of", |live, ino| live.tree.attr(ino).map(Metadata::new)).await
    }
}
