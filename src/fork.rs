//! Forks and pins: states of a volume that others go on from, or keep.

use rfs_core::{CommitId, Timestamp};
use rfs_recovery::RecoveryError;
use rfs_recovery::pins::{pins, remove_pin};

use crate::engine::{detach, fork, pin, resolve};
use crate::error::{Error, ErrorKind, Result};
use crate::volume::{At, Volume};

/// A fork that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forked {
    /// The id of the new volume.
    pub volume: u128,
    /// The commit whose state it begins with.
    pub at: CommitId,
    /// The pin that keeps this commit in the volume that was forked.
    pub pin: u128,
}

/// What was copied to a fork that borrows nothing any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detached {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What keeps a state of a volume, beside its checkpoints and [`Options::with_retention`](crate::Options::with_retention).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pin {
    /// Its number.
    pub id: u128,
    /// Whose it is: what [`Volume::pin`] was told, or the URL of a fork.
    pub owner: String,
    /// The volume id of the fork that it is for.
    pub fork: Option<u128>,
    /// The commit.
    pub at: CommitId,
    /// When it was made.
    pub made: Timestamp,
    /// When it ends; none when it has to be [removed](Volume::unpin).
    pub expires: Option<Timestamp>,
    /// How many objects it keeps, where that is less than what the commit's state needs.
    pub objects: Option<usize>,
}

impl Volume {
    /// Makes a volume at another URL, of the same kind of store, that begins with a state of this one. It takes a few
    /// requests, however large the state is: the fork refers to this volume's objects, which a [pin](Volume::pins) keeps
    /// from now on. Both go on for themselves. The fork is opened as any volume; it has none of this one's checkpoints.
    ///
    /// Of a volume that is open for writing, `At::Head` is everything up to now, which is committed first. One that is open
    /// for reading can be forked too, beside the writer.
    ///
    /// This volume has to stay where it is until the fork is [detached](Volume::detach).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// use rfs::{At, Options, Volume};
    /// let volume = Volume::create("memory://forks/one", Options::new()).await?;
    /// volume.fs().write("/shared", b"by both").await?;
    /// volume.fork("memory://forks/two", &At::Head).await?;
    ///
    /// let fork = Volume::open("memory://forks/two", Options::new()).await?;
    /// fork.fs().write("/own", b"of the fork").await?;
    /// assert_eq!(fork.fs().read("/shared").await?, b"by both");
    /// assert!(volume.fs().metadata("/own").await.is_err());
    /// # fork.close().await?; volume.close().await }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`] for a state that is not kept,
    /// [`ErrorKind::Invalid`] when there is a volume at the URL; otherwise as
    /// [`Volume::commit`] and [`Volume::create`].
    pub async fn fork(&self, url: &str, at: &At) -> Result<Forked> {
        fork(self.shared(), url, at).await
    }

    /// Copies to a fork what it still borrows from the volumes that it descends from, and lets go of its pin: from then on
    /// it needs nobody but itself. What is uncommitted is committed first. Done again after it was interrupted, it goes on.
    /// On a volume that is no fork it does nothing.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub async fn detach(&self) -> Result<Detached> {
        self.writable("detach")?;
        detach(self.shared()).await
    }

    /// Keeps a state for `owner`, whatever is collected or dropped, until the pin is [removed](Volume::unpin) or until
    /// `expires`, by the clock of the writer that collects. It is not needed for reading: what a reader has open stays
    /// for as long as the grace of [`Options::with_retention`](crate::Options::with_retention).
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`]; [`ErrorKind::Invalid`] for the commit that a fork begins at: it is the other volume's;
    /// the store's.
    pub async fn pin(&self, at: &At, owner: &str, expires: Option<Timestamp>) -> Result<Pin> {
        let shared = self.shared();
        let mut learnt = shared.collector.lock().await;
        let at = resolve(shared, &mut learnt, at).await?;
        if shared.pages.lineage().begins_at().is_some_and(|origin| at.id.epoch <= origin.epoch) {
            let what = format!(
                "pin commit {} of {}: it is of the volume that this one was forked from; pin it there, or commit something first",
                at.id,
                self.url()
            );
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        pin(shared, at.id, owner, None, expires).await.map(shown)
    }

    /// Removes a pin. That of a fork is not to be removed as long as the fork is used: it would lose what it borrows.
    ///
    /// # Errors
    /// The store's.
    pub async fn unpin(&self, id: u128) -> Result<()> {
        let removed = remove_pin(&self.shared().pages.lineage().own(), id).await;
        removed.map_err(|error| self.failed("remove a pin of", error))
    }

    /// What keeps states of this volume for others.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; the store's.
    pub async fn pins(&self) -> Result<Vec<Pin>> {
        let pins = pins(&self.shared().pages.lineage().own()).await;
        Ok(pins.map_err(|error| self.failed("list the pins of", error))?.into_iter().map(shown).collect())
    }

    fn failed(&self, doing: &str, error: RecoveryError) -> Error {
        Error::recovery(format!("{doing} {}", self.url()), error)
    }
}

fn shown(pin: rfs_recovery::pins::Pin) -> Pin {
    let rfs_recovery::pins::Pin { id, owner, fork, at, made, expires, objects, .. } = pin;
    Pin { id, owner, fork, at, made, expires, objects: objects.map(|objects| objects.len()) }
}
