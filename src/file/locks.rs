//! Locks of open files.

use rfs_core::{HeldRange, LockMode, LockRange, Op};

use super::{File, Held};
use crate::engine::{LockRequest, Wanted};
use crate::error::Result;

impl File {
    /// Waits until nobody else holds a lock on the file, and takes it. The lock is advisory and goes with the last clone
    /// of this handle. A lock that this handle holds in another mode is given up while it waits.
    ///
    /// # Errors
    /// `EDEADLK` when who is in its way waits, directly or through others, for a lock of this handle, or of one with the
    /// same [key](crate::OpenOptions::lock_key): it holds no lock on the whole file then. [`ErrorKind::Closed`](crate::ErrorKind::Closed), and others for which the volume stopped.
    pub async fn lock(&self) -> Result<()> {
        self.wait_for_lock(LockMode::Exclusive).await
    }

    /// As [`File::lock`], together with others that share it.
    ///
    /// # Errors
    /// As [`File::lock`].
    pub async fn lock_shared(&self) -> Result<()> {
        self.wait_for_lock(LockMode::Shared).await
    }

    /// Takes the lock if nobody else holds one.
    ///
    /// # Errors
    /// `EAGAIN` when somebody does.
    pub async fn try_lock(&self) -> Result<()> {
        self.take_lock(LockMode::Exclusive).await
    }

    /// Takes a share of the lock if nobody else holds it alone.
    ///
    /// # Errors
    /// `EAGAIN` when somebody does.
    pub async fn try_lock_shared(&self) -> Result<()> {
        self.take_lock(LockMode::Shared).await
    }

    /// Releases the lock, if this handle holds one.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), and others for which the volume stopped.
    pub async fn unlock(&self) -> Result<()> {
        let Held { ino, locks: owner, .. } = *self.held;
        self.held.run(&Op::UnlockFile { ino, owner }, "unlock").await.map(drop)
    }

    /// Waits until nobody else holds a lock on a byte of the range that is in the way of `mode`, and takes it. Byte-range
    /// locks are those of the open file (`F_OFD_SETLK`): clones share them, they go with the last clone, and two handles
    /// of one program exclude each other. They and whole-file locks do not see each other.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// # let fs = volume.fs();
    /// use rfs::{LockMode, LockRange, OpenOptions};
    /// let mut options = OpenOptions::new();
    /// options.read(true).write(true).create(true);
    /// let (one, other) = (options.open(&fs, "/table").await?, options.open(&fs, "/table").await?);
    /// let first_page = LockRange::new(0, 4096).expect("it is not empty");
    /// one.lock_range(first_page, LockMode::Exclusive).await?;
    /// other.try_lock_range(LockRange { start: 4096, end: 8192 }, LockMode::Exclusive).await?;
    /// let held = other.test_lock_range(first_page, LockMode::Shared).await?.expect("the first handle is in the way");
    /// assert_eq!(held.owner.key, one.lock_key());
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// `EBADF` for a shared lock of a file that is not open for reading, or an exclusive one of a file not open for
    /// writing; `EDEADLK` as [`File::lock`]: what the handle held before, it still holds.
    pub async fn lock_range(&self, range: LockRange, mode: LockMode) -> Result<()> {
        self.may_lock(mode)?;
        let taken = self.held.handle.shared.lock(self.request(Wanted::Range(range, mode))).await;
        taken.map_err(|refused| refused.doing(|| self.held.doing("lock a range of")))
    }

    /// As [`File::lock_range`], if nobody is in the way.
    ///
    /// # Errors
    /// `EAGAIN` when somebody is; `EBADF`.
    pub async fn try_lock_range(&self, range: LockRange, mode: LockMode) -> Result<()> {
        self.may_lock(mode)?;
        self.held.run(&self.request(Wanted::Range(range, mode)).op(), "lock a range of").await.map(drop)
    }

    /// Releases what this handle holds of a range.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), and others for which the volume stopped.
    pub async fn unlock_range(&self, range: LockRange) -> Result<()> {
        let Held { ino, locks: owner, .. } = *self.held;
        self.held.run(&Op::UnlockRange { ino, owner, range }, "unlock a range of").await.map(drop)
    }

    /// What is in the way of a lock on a range, if anything.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), and others for which the volume stopped.
    pub async fn test_lock_range(&self, range: LockRange, mode: LockMode) -> Result<Option<HeldRange>> {
        self.look("test locks of", |live, ino| {
            Ok(live.tree.range_lock_conflict(ino, self.held.locks, range, mode))
        })
        .await
    }

    /// The number under which the volume's owner holds this handle's locks. A program that opens the volume as the same
    /// owner gets the locks back by opening the file with [`OpenOptions::lock_key`](crate::OpenOptions::lock_key).
    #[must_use]
    pub fn lock_key(&self) -> u64 {
        self.held.locks.key
    }

    async fn wait_for_lock(&self, mode: LockMode) -> Result<()> {
        let taken = self.held.handle.shared.lock(self.request(Wanted::File(mode))).await;
        taken.map_err(|refused| refused.doing(|| self.held.doing("lock")))
    }

    async fn take_lock(&self, mode: LockMode) -> Result<()> {
        self.held.run(&self.request(Wanted::File(mode)).op(), "lock").await.map(drop)
    }

    fn request(&self, wanted: Wanted) -> LockRequest {
        LockRequest { ino: self.held.ino, owner: self.held.locks, wanted }
    }

    fn may_lock(&self, mode: LockMode) -> Result<()> {
        match mode {
            LockMode::Shared => self.readable("lock a range of"),
            LockMode::Exclusive => self.writable("lock a range of"),
        }
    }
}
