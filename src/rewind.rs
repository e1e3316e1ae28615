//! Going back: the whole volume, or a part of it.

use crate::engine::{Receipt, rewind};
use crate::error::Result;
use crate::volume::{At, Volume};

impl Volume {
    /// Takes the volume back to an older state, which is then committed: all files are as they were. The state that is left
    /// behind is committed first, so that going back can be undone by going back to that.
    ///
    /// What belongs to the history as a whole stays as it is: checkpoints, and inode numbers, none of which is used again.
    /// Locks stay as far as what they are on is there. A handle stays open; when its file is not there any more it gets
    /// `ENOENT`.
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
}
