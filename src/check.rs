//! Checks what is in the store of a volume.

use rfs_recovery::check::{CheckOptions, CheckReport};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::volume::store;

/// Sees whether all that a volume's newest state and its checkpoints need is in the store, and is what was written. What is
/// wrong is listed, and the check goes on after it: it also works where the volume cannot be opened. Nothing is changed,
/// and a writer is not disturbed.
///
/// Without [`CheckOptions::with_deep`] what says where the rest is: superblock, commit log, images, footers of segments,
/// and that every object is there with the length that it should have. The trees are rebuilt, their invariants and
/// state hashes verified. With it also every byte of content.
///
/// It holds the tree of one state in memory at a time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// use rfs::{CheckOptions, Options, Volume};
/// let volume = Volume::open_or_create("memory://checked", Options::new()).await?;
/// volume.fs().write("/greeting", b"hello").await?;
/// volume.close().await?;
/// let report = rfs::check("memory://checked", Options::new(), CheckOptions::new().with_deep(true)).await?;
/// assert!(report.is_sound(), "{:?}", report.findings);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::NoVolume`](crate::ErrorKind::NoVolume) when nothing tells which volume it is,
/// [`ErrorKind::Outage`](crate::ErrorKind::Outage), [`ErrorKind::Denied`](crate::ErrorKind::Denied).
pub async fn check(url: &str, options: Options, check: CheckOptions) -> Result<CheckReport> {
    let store = store(url, &options)?;
    let report = rfs_recovery::check::check(&store, options.tree_bytes, check).await;
    report.map_err(|error| Error::recovery(format!("check {}", store.url()), error))
}
