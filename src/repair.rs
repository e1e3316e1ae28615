//! Repairs what is in the store of a volume.

use rfs_recovery::repair::{RepairOptions, RepairReport, Repairer};

use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::volume::store;

/// Rebuilds what follows from the journal of a volume, as far as that is kept, and puts aside what nothing explains: what
/// is missing or damaged is found as [`check`](crate::check) finds it, with every byte.
///
/// It takes the volume over, as a writer does, and what it does becomes a commit. Nothing is deleted: what cannot be read
/// is moved below `aside`. What is lost is told, and stays an error when it is read; see
/// [`RepairOptions::with_drop_lost`]. Where nothing is wrong that can be mended, nothing is done.
///
/// It reads all that the volume has in the store, and holds trees in memory as a whole.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// use rfs::{Options, RepairOptions, Volume};
/// Volume::open_or_create("memory://repaired", Options::new()).await?.close().await?;
/// let report = rfs::repair("memory://repaired", Options::new(), RepairOptions::new()).await?;
/// assert!(report.done.is_empty() && report.left.is_empty() && report.commit.is_none());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::NoVolume`] when nothing tells which volume it is, [`ErrorKind::Fenced`] when somebody else writes it
/// meanwhile, [`ErrorKind::Outage`], [`ErrorKind::Denied`].
pub async fn repair(url: &str, options: Options, repair: RepairOptions) -> Result<RepairReport> {
    let store = store(url, &options)?;
    let writer = options.entropy.identity();
    let writer =
        writer.map_err(|error| Error::caused(ErrorKind::Bug, "drawing a writer's identity", error))?;
    let by = Repairer { writer, time: options.clock.now(), pages_bytes: options.tree_bytes };
    let report = Box::pin(rfs_recovery::repair::repair(&store, by, repair)).await;
    report.map_err(|error| Error::recovery(format!("repair {}", store.url()), error))
}
