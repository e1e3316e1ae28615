//! A volume as it lies in the store: its objects, without opening it.

use futures::{StreamExt, TryStreamExt, stream};
use rfs_backends::{MeterSnapshot, Store, StoreErrorKind};
use rfs_core::{CommitId, Lsn, StateHash, Timestamp};
use rfs_journal::verify_segment;
use rfs_recovery::objects::{CommitObject, decode_commit};
use rfs_recovery::{Keys, Lineage, RecoveryError, SUPERBLOCK, commit_log, dump_object};

use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::volume::store;

/// How many objects are fetched at a time.
const REQUESTS: usize = 8;

/// The objects of a volume. Nothing of its tree is loaded, so this also works where the volume cannot be opened.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// use rfs::{Objects, Options, Volume};
/// let volume = Volume::open_or_create("memory://objects", Options::new()).await?;
/// volume.fs().write("/greeting", b"hello").await?;
/// volume.close().await?;
/// let objects = Objects::open("memory://objects", Options::new()).await?;
/// for object in objects.list().await? {
///     objects.verify(&object.key).await?;
/// }
/// assert_eq!(objects.log(None).await?.len(), 3, "the end of epoch 0, a commit, and one that names an image");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Objects {
    store: Store,
    keys: Keys,
    lineage: Lineage,
    created: Timestamp,
}

/// What an object is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ObjectRole {
    /// Says which volume is at the URL.
    Superblock,
    /// A commit, or the end of an epoch.
    Commit,
    /// A piece of the journal.
    Segment,
    /// A piece of an image.
    Image,
    /// Keeps a state, or some objects, for somebody.
    Pin,
    /// Says what a collection keeps.
    Kept,
    /// Nothing that this rfs knows.
    Unknown,
}

/// An object in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its key, below the volume's URL.
    pub key: String,
    /// What it is for.
    pub role: ObjectRole,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub written: Timestamp,
}

/// What stands at one place of the commit log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The place.
    pub id: CommitId,
    /// When it was made, by its writer's clock.
    pub time: Timestamp,
    /// Who made it.
    pub writer: u128,
    /// Bytes of the object.
    pub bytes: u64,
    /// The commit; none where an epoch ends.
    pub commit: Option<LoggedCommit>,
}

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedCommit {
    /// The commit that it extends.
    pub previous: Option<CommitId>,
    /// Where the commit before ended.
    pub base: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// The identity of the tree there.
    pub state: StateHash,
    /// Its name.
    pub checkpoint: Option<String>,
    /// How many segments it adds.
    pub segments: u64,
    /// Their bytes, whether they are in the commit's object or have their own.
    pub segment_bytes: u64,
}

impl Objects {
    /// Finds the volume at a URL.
    ///
    /// # Errors
    /// [`ErrorKind::NoVolume`], [`ErrorKind::Damaged`] for the superblock, [`ErrorKind::Outage`], [`ErrorKind::Denied`].
    pub async fn open(url: &str, options: Options) -> Result<Self> {
        let store = store(url, &options)?;
        let superblock = commit_log::read_superblock(&store).await;
        let superblock =
            superblock.map_err(|error| Error::recovery(format!("find the volume at {url}"), error))?;
        let lineage = Lineage::of(store.clone(), &superblock);
        let lineage =
            lineage.map_err(|error| Error::store(format!("find what {url} is a fork of"), error))?;
        Ok(Self { store, keys: lineage.keys(), lineage, created: superblock.created })
    }

    /// The volume's id.
    #[must_use]
    pub const fn volume(&self) -> u128 {
        self.keys.0
    }

    /// When the volume was made.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// The key of a commit's object.
    #[must_use]
    pub fn commit_key(&self, id: CommitId) -> String {
        self.keys.commit(id)
    }

    /// All objects of the volume, by key.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<StoredObject>> {
        let of_volume = format!("{:032x}", self.keys.0);
        let mut objects = self.listed(&of_volume).await?;
        let superblock = self.store.head(SUPERBLOCK).await;
        let superblock = superblock.map_err(|error| Error::store(format!("look at {SUPERBLOCK}"), error))?;
        objects.push(self.object(superblock));
        Ok(objects)
    }

    /// The newest entries of the commit log, oldest first: so many, or all.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] names the entry that cannot be read; the store's.
    pub async fn log(&self, newest: Option<usize>) -> Result<Vec<LogEntry>> {
        let doing = || format!("read the commit log of {}", self.store.url());
        let mut ids =
            commit_log::list_ids(&self.lineage).await.map_err(|error| Error::recovery(doing(), error))?;
        if let Some(newest) = newest {
            ids.drain(..ids.len().saturating_sub(newest));
        }
        let entries = stream::iter(ids.into_iter().map(|id| self.log_entry(id))).buffered(REQUESTS);
        let entries: Vec<Option<LogEntry>> =
            entries.try_collect().await.map_err(|error: Error| error.during(doing()))?;
        Ok(entries.into_iter().flatten().collect())
    }

    /// An object in words.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`] when there is none of this key, [`ErrorKind::Damaged`] when it cannot be read, the
    /// store's.
    pub async fn describe(&self, key: &str) -> Result<String> {
        let object = self.fetch(key).await?;
        if self.keys.parse_pages(key).is_some() {
            return Ok(format!(
                "object of pages, {} bytes; what refers to a page says where it is",
                object.len()
            ));
        }
        dump_object(self.store.url(), key, &object)
            .map_err(|error| Error::recovery(format!("inspect {key}"), error))
    }

    /// Sees that every byte of an object has its checksum, and that it can be read. Not of an object of pages: their
    /// checksums are where they are referred to, and [`Volume::check`](crate::Volume::check) verifies those that it reads.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] says what does not fit; otherwise as [`Objects::describe`].
    pub async fn verify(&self, key: &str) -> Result<()> {
        let object = self.fetch(key).await?;
        let doing = || format!("verify {key}");
        let damaged = |error: RecoveryError| Error::recovery(doing(), error);
        match self.role(key) {
            ObjectRole::Segment => {
                verify_segment(key, &object, None).map_err(|error| Error::journal(doing(), error))?;
            }
            ObjectRole::Commit => {
                let id = self.keys.parse_commit(key).unwrap_or_default();
                let found = decode_commit(self.store.url(), self.keys, id, &object).map_err(damaged)?;
                let CommitObject::Commit(commit) = found else { return Ok(()) };
                let mut at = 0;
                for added in commit.commit.segments.iter().filter(|added| added.key.is_none()) {
                    // The lengths were checked together, when the commit was decoded.
                    let end = at + added.len as usize;
                    let segment = commit.inline.slice(at..end);
                    at = end;
                    verify_segment(key, &segment, Some(added.hash))
                        .map_err(|error| Error::journal(doing(), error))?;
                }
            }
            ObjectRole::Image if self.keys.parse_pages(key).is_some() => {}
            _ => drop(dump_object(self.store.url(), key, &object).map_err(damaged)?),
        }
        Ok(())
    }

    /// What was asked of the store so far: requests and bytes, by kind.
    #[must_use]
    pub fn metered(&self) -> MeterSnapshot {
        self.store.meter().snapshot()
    }

    async fn listed(&self, prefix: &str) -> Result<Vec<StoredObject>> {
        let listed = self.store.list(prefix, None).await;
        let listed = listed
            .map_err(|error| Error::store(format!("list the objects of {}", self.store.url()), error))?;
        Ok(listed.into_iter().map(|info| self.object(info)).collect())
    }

    fn object(&self, info: rfs_backends::ObjectInfo) -> StoredObject {
        let role = self.role(&info.key);
        let written = Timestamp::from_nanos(info.last_modified_ms.saturating_mul(1_000_000));
        StoredObject { key: info.key, role, bytes: info.size, written }
    }

    fn role(&self, key: &str) -> ObjectRole {
        role_of(self.keys, key)
    }
}

/// What an object of a volume is for.
pub(crate) fn role_of(keys: Keys, key: &str) -> ObjectRole {
    let below = |prefix: String| key.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'));
    if key == SUPERBLOCK {
        ObjectRole::Superblock
    } else if keys.parse_commit(key).is_some() {
        ObjectRole::Commit
    } else if keys.parse_segment(key).is_some() {
        ObjectRole::Segment
    } else if below(keys.images()) || keys.parse_pages(key).is_some() {
        ObjectRole::Image
    } else if keys.parse_pin(key).is_some() {
        ObjectRole::Pin
    } else if keys.parse_kept(key).is_some() || key == keys.kept_v4() {
        ObjectRole::Kept
    } else {
        ObjectRole::Unknown
    }
}

impl Objects {
    async fn fetch(&self, key: &str) -> Result<bytes::Bytes> {
        self.store.get(key).await.map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => {
                let what = format!("{} has no object {key}", self.store.url());
                Error::new(ErrorKind::NoSuchState, what)
            }
            _ => Error::store(format!("fetch {key}"), error),
        })
    }

    /// None for one that was collected since it was listed.
    async fn log_entry(&self, id: CommitId) -> Result<Option<LogEntry>> {
        let key = self.keys.commit(id);
        let object = match self.fetch(&key).await {
            Err(error) if error.kind() == ErrorKind::NoSuchState => return Ok(None),
            object => object?,
        };
        let bytes = object.len() as u64;
        let found = decode_commit(self.store.url(), self.keys, id, &object);
        let entry = match found.map_err(|error| Error::recovery(format!("read {key}"), error))? {
            CommitObject::Fence(fence) => {
                LogEntry { id, time: fence.time, writer: fence.writer, bytes, commit: None }
            }
            CommitObject::Commit(fetched) => {
                let commit = fetched.commit;
                let logged = LoggedCommit {
                    previous: commit.previous.map(|previous| previous.id),
                    base: commit.base,
                    end: commit.end,
                    state: commit.state,
                    checkpoint: commit.checkpoint,
                    segments: commit.segments.len() as u64,
                    segment_bytes: commit.segments.iter().fold(0, |sum, added| added.len.saturating_add(sum)),
                };
                LogEntry { id, time: commit.time, writer: commit.writer, bytes, commit: Some(logged) }
            }
        };
        Ok(Some(entry))
    }
}
