//! The journal between two positions.

use std::sync::Arc;
use std::vec;

use rfs_core::{Lsn, Tree};
use rfs_journal::Record;
use rfs_recovery::ChangesWalk;

use crate::error::{Error, ErrorKind, Result};
use crate::volume::{Handle, Volume};

impl Volume {
    /// The committed Changes after one position up to and with another, as they are in the journal. The positions of two
    /// states ([`Volume::position`], [`LoggedCommit::end`](crate::LoggedCommit)) have those between the states. Only the
    /// segments between are looked at, and no content is read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// use rfs::{Change, Options, Volume};
    /// let volume = Volume::open_or_create("memory://changes", Options::new()).await?;
    /// let before = volume.position();
    /// volume.fs().create_dir("/dir").await?;
    /// volume.commit().await?;
    /// let mut changes = volume.changes(before, volume.position())?;
    /// let first = changes.next().await?.expect("there is one");
    /// assert!(matches!(first.change, Change::Create { .. }));
    /// assert_eq!(changes.next().await?, None);
    /// # volume.close().await }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the second position is before the first, or not committed in this state.
    pub fn changes(&self, after: Lsn, up_to: Lsn) -> Result<Changes> {
        let shared = self.shared();
        let committed = shared.commits.borrow().committed;
        let invalid = |why: &str| {
            let what = format!("changes of {} from {after} to {up_to}: {why}", self.url());
            Error::new(ErrorKind::Invalid, what)
        };
        if up_to < after {
            return Err(invalid("the second state is older; give the older one first"));
        }
        if up_to > committed {
            return Err(invalid("that is not committed; commit first, or open a later state"));
        }
        Ok(Changes {
            handle: Arc::clone(self.handle()),
            tree: shared.live.read().tree.clone(),
            walk: ChangesWalk::new(after, up_to),
            records: Vec::new().into_iter(),
        })
    }
}

/// A part of the journal, from [`Volume::changes`].
#[derive(Debug)]
pub struct Changes {
    handle: Arc<Handle>,
    tree: Tree,
    walk: ChangesWalk,
    records: vec::IntoIter<Record>,
}

impl Changes {
    /// The next one, with its position; none when there are no more.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`] where the journal was collected; [`ErrorKind::Damaged`], [`ErrorKind::Outage`] and
    /// other errors of the store: then it can be asked again.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        if let Some(record) = self.records.next() {
            return Ok(Some(record));
        }
        let shared = &self.handle.shared;
        let records = self.walk.next(&shared.content, &self.tree).await;
        let doing = || format!("changes of {}", shared.store.url());
        self.records = records.map_err(|error| Error::recovery(doing(), error))?.into_iter();
        Ok(self.records.next())
    }
}
