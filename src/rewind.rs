//! Going back: the whole volume, or a part of it.

use std::path::{Component, Path};

use crate::engine::{Receipt, rewind, rewind_path};
use crate::error::Result;
use crate::volume::{At, Volume};

impl Volume {
    /// Takes the volume back to an older state, which is then committed: all files are as they were. The state that is left
    /// behind is committed first, so that going back can be undone by going back to that.
    ///
    /// What belongs to the history as a whole stays as it is: checkpoints, and inode numbers, none of which is used again.
    /// Locks stay as far as what they are on is there. A handle stays open; when its file is not there any more it gets
    /// `ESTALE`.
    ///
    /// It takes a few requests, however much differs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// use rfs::{At, Options, Volume};
    /// let volume = Volume::create("memory://", Options::new()).await?;
    /// volume.fs().write("/model", b"good").await?;
    /// volume.checkpoint("good").await?.wait().await?;
    /// volume.fs().write("/model", b"bad").await?;
    /// let bad = volume.commit().await?.commit;
    /// volume.rewind(&At::Checkpoint("good".to_owned())).await?;
    /// assert_eq!(volume.fs().read("/model").await?, b"good");
    /// volume.rewind(&At::Commit(bad)).await?;
    /// assert_eq!(volume.fs().read("/model").await?, b"bad");
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`](crate::ErrorKind::NoSuchState) for a state that is not kept; otherwise as
    /// [`Volume::commit`].
    pub async fn rewind(&self, at: &At) -> Result<Receipt> {
        self.writable("rewind")?;
        rewind(self.shared(), at).await
    }

    /// Takes a file, or a directory with everything below it, back to what was at this path in an older state, and commits
    /// that. What was not there is removed, what is not there any more is made, and the directory that it is in has to be
    /// there. The state that is left behind is committed first.
    ///
    /// What comes back are new inodes with the content, names, owners, modes, attributes and times of modification and
    /// access that were; no bytes move. It takes time in proportion to what is at the path. It is made beside it, under a
    /// name `.rewind-N`, and takes its place in one step, which is also where what was there until then is removed. A crash
    /// may leave this name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// use rfs::{At, Options, Volume};
    /// let volume = Volume::create("memory://", Options::new()).await?;
    /// let fs = volume.fs();
    /// fs.write("/model", b"good").await?;
    /// fs.write("/log", b"one\n").await?;
    /// volume.checkpoint("good").await?.wait().await?;
    /// fs.write("/model", b"bad").await?;
    /// fs.write("/log", b"one\ntwo\n").await?;
    /// volume.rewind_path("/model", &At::Checkpoint("good".to_owned())).await?;
    /// assert_eq!((fs.read("/model").await?, fs.read("/log").await?), (b"good".to_vec(), b"one\ntwo\n".to_vec()));
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// POSIX's for the path; otherwise as [`Volume::rewind`].
    pub async fn rewind_path(&self, path: impl AsRef<Path>, at: &At) -> Result<Receipt> {
        self.writable("rewind")?;
        let path = path.as_ref();
        if path.components().all(|component| matches!(component, Component::RootDir | Component::CurDir)) {
            return rewind(self.shared(), at).await;
        }
        rewind_path(self, path, at).await
    }
}
