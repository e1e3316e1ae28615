//! Ranges of open files: space, holes, shared bytes.

use rfs_core::{Allocate, Errno, Op, Outcome};

use super::File;
use crate::error::{Error, ErrorKind, Result};

impl File {
    /// Does to a range what `fallocate(2)` does. Offset and length need not be aligned.
    ///
    /// # Errors
    /// `EBADF` when the file was not opened for writing; `EINVAL` for an empty range, for one to collapse that ends at
    /// or past the end of the file, or one to insert that begins there; `EFBIG`.
    pub async fn allocate(&self, mode: Allocate, offset: u64, len: u64) -> Result<()> {
        self.writable("allocate in")?;
        self.change(Op::Allocate { target: self.target(), mode, offset, len }, "allocate in").await
    }

    /// Makes a range a hole; the size stays.
    ///
    /// # Errors
    /// As [`File::allocate`].
    pub async fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.allocate(Allocate::PunchHole, offset, len).await
    }

    /// Has a range read as zeros; the file gets as long as its end.
    ///
    /// # Errors
    /// As [`File::allocate`].
    pub async fn zero_range(&self, offset: u64, len: u64) -> Result<()> {
        self.allocate(Allocate::ZeroRange { keep_size: false }, offset, len).await
    }

    /// Takes a range out; what is behind it moves forward.
    ///
    /// # Errors
    /// As [`File::allocate`].
    pub async fn collapse_range(&self, offset: u64, len: u64) -> Result<()> {
        self.allocate(Allocate::Collapse, offset, len).await
    }

    /// Puts a hole in; what was there moves back.
    ///
    /// # Errors
    /// As [`File::allocate`].
    pub async fn insert_range(&self, offset: u64, len: u64) -> Result<()> {
        self.allocate(Allocate::Insert, offset, len).await
    }

    /// The first byte at or after `offset` that is not in a hole.
    ///
    /// # Errors
    /// `ENXIO` when there is none.
    pub async fn seek_data(&self, offset: u64) -> Result<u64> {
        self.look("seek data in", |live, ino| live.tree.seek_data(ino, offset)).await
    }

    /// The first hole at or after `offset`; the end of the file is one.
    ///
    /// # Errors
    /// `ENXIO` at or past the end.
    pub async fn seek_hole(&self, offset: u64) -> Result<u64> {
        self.look("seek hole in", |live, ino| live.tree.seek_hole(ino, offset)).await
    }

    /// Has another file of the volume, or another place in this one, share up to `len` bytes from `offset` on; returns
    /// how many: fewer where this file ends, or after [`COPY_RUNS_MAX`](crate::model::COPY_RUNS_MAX) runs of bytes. No
    /// bytes are moved, and it is one step. Within one file the two must not overlap.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// # let fs = volume.fs();
    /// fs.write("/log", b"old line\nnew line\n").await?;
    /// let (log, kept) = (fs.open("/log").await?, fs.create("/kept").await?);
    /// assert_eq!(log.copy_range(9, &kept, 0, u64::MAX).await?, 9);
    /// assert_eq!(fs.read("/kept").await?, b"new line\n");
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// `EBADF` unless this is open for reading, and `to` for writing and not to append; `EXDEV` when `to` is of another
    /// volume; `EINVAL`, `EFBIG`.
    pub async fn copy_range(&self, offset: u64, to: &Self, to_offset: u64, len: u64) -> Result<u64> {
        let doing = "copy a range of";
        self.readable(doing)?;
        to.writable(doing)?;
        if to.append {
            return Err(self.error(Errno::BadHandle, doing));
        }
        if !std::sync::Arc::ptr_eq(&self.held.handle, &to.held.handle) {
            return Err(self.error(Errno::CrossVolume, doing));
        }
        // As much as the largest file can have: what is asked for beyond is not there.
        let len = len.min(rfs_core::FILE_SIZE_MAX.saturating_sub(offset.max(to_offset)));
        self.held.admit().await?;
        let op = Op::Copy { from: self.target(), from_offset: offset, to: to.target(), to_offset, len };
        match self.held.run(&op, doing).await? {
            Outcome::Copied { len } => Ok(len),
            other => {
                let what = format!("{}: it gave {other:?}", self.held.doing(doing));
                Err(Error::new(ErrorKind::Bug, what))
            }
        }
    }
}
