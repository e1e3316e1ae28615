//! Volumes: create, open, commit, wait, look back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rfs_backends::{MeterSnapshot, Store};
use rfs_core::{
    Checkpoint, CommitId, Credential, Errno, Ino, Lsn, Op, OwnerId, StateHash, Timestamp, Tree, Violation,
};
use rfs_recovery::collect::Collected;
use rfs_recovery::{History, Keys, commit_log, history};
use tokio::sync::oneshot;

use crate::engine::{
    Compacted, Live, OpenReport, Receipt, Shared, StoreUsage, collect_at_close, collect_now, commit_named,
    commit_now, compact_now, image_at_close, name_image, open_reader, open_writer, queue_commit, usage_now,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Fs, path_bytes};
use crate::inodes::Inodes;
use crate::options::{Level, Options};

/// Which state of a volume is opened for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum At {
    /// The newest commit.
    Head,
    /// This commit.
    Commit(CommitId),
    /// The commit with this name.
    Checkpoint(String),
    /// The newest commit that was made at this time or before, by its writer's clock. Where writers with different
    /// clocks followed each other there may be several commits after which the clock went past this time: then it is
    /// one of them. It costs one request for each time that the number of commits can be halved.
    Time(Timestamp),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("its head"),
            Self::Commit(id) => write!(f, "commit {id}"),
            Self::Checkpoint(name) => write!(f, "checkpoint {name:?}"),
            Self::Time(time) => {
                let (seconds, nanos) = time.to_parts();
                write!(f, "time {seconds}.{nanos:09} (Unix)")
            }
        }
    }
}

/// Why [`Volume::check`] did not find a tree sound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The first hundred invariants that do not hold.
    #[error("{} invariants of the tree do not hold, the first one: {}", .0.len(), .0[0])]
    Unsound(Vec<Violation>),
    /// A part of the tree cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Error),
}

impl From<Vec<Violation>> for CheckError {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Unsound(violations)
    }
}

/// A tree of files whose durable home is an object store.
///
/// Cloning gives another handle to the same open volume. The volume is closed when the last handle, [`Fs`] and
/// [`File`](crate::File) is gone; what was not committed by then is lost, unless there is a local directory. Call
/// [`Volume::close`] to commit first.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// use rfs::{Options, Volume};
/// let volume = Volume::open_or_create("memory://", Options::new()).await?;
/// volume.fs().write("/greeting", b"hello").await?;
/// let receipt = volume.checkpoint("first").await?.wait().await?;
/// assert_eq!(receipt.position, volume.position());
/// # volume.close().await }
/// ```
#[derive(Clone, Debug)]
pub struct Volume {
    handle: Arc<Handle>,
}

/// Closes the volume when the last one who uses it is gone.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    report: Option<OpenReport>,
}

/// Not the tree: it may be large, and its names are nobody's business in a log.
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Handle");
        text.field("url", &self.shared.store.url())
            .field("volume", &format_args!("{:032x}", self.shared.keys.0));
        text.field("epoch", &self.report.as_ref().map(|report| report.epoch)).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.write_out();
        self.shared.let_go_of_disk();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Handle {
    /// Has everything so far on the local disk, if there is one.
    fn write_out(&self) {
        // A runtime that ends closes the volume before its last handle goes.
        let failure = self.shared.live.read().failure.as_ref().map(Error::kind);
        let usable = failure.is_none_or(|kind| kind == ErrorKind::Closed);
        let driver = self.shared.driver.as_ref();
        if let Some(driver) = driver.filter(|driver| usable && driver.has_disk() && !driver.is_ended())
            && let Err(error) = driver.drive(&self.shared, true)
        {
            tracing::warn!(%error, "the local log was not written out at the end");
        }
    }
}

impl Volume {
    /// Makes a volume at an empty URL and opens it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there is a volume already; otherwise as [`Volume::open`].
    pub async fn create(url: &str, options: Options) -> Result<Self> {
        let store = store(url, &options)?;
        if !Box::pin(make(&store, &options)).await? {
            let what =
                format!("create {}: there is a volume already; open it, or choose another URL", store.url());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Self::open_store(store, options).await
    }

    /// Opens the volume at a URL as its one writer: whoever was it before learns so at its next commit.
    ///
    /// URLs: `memory://NAME`, `file:///DIRECTORY`, `s3://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, `gs://BUCKET/PREFIX`, each
    /// of the last three with its feature; `http://` and `https://` are to read only.
    ///
    /// # Errors
    /// [`ErrorKind::NoVolume`], [`ErrorKind::Outage`], [`ErrorKind::Denied`], [`ErrorKind::NoBucket`],
    /// [`ErrorKind::UnsafeStore`], [`ErrorKind::Damaged`], [`ErrorKind::UnknownFormat`],
    /// [`ErrorKind::LocalDirectoryInUse`], [`ErrorKind::ForeignVolume`], [`ErrorKind::LocalDisk`],
    /// [`ErrorKind::Invalid`].
    pub async fn open(url: &str, options: Options) -> Result<Self> {
        let store = store(url, &options)?;
        Self::open_store(store, options).await
    }

    /// Opens the volume at a URL, or makes one there.
    ///
    /// # Errors
    /// As [`Volume::open`].
    pub async fn open_or_create(url: &str, options: Options) -> Result<Self> {
        let store = store(url, &options)?;
        match Box::pin(commit_log::read_superblock(&store)).await {
            Ok(_) => {}
            Err(rfs_recovery::RecoveryError::NoVolume { .. }) => {
                Box::pin(make(&store, &options)).await?;
            }
            Err(error) => return Err(Error::recovery(format!("open {}", store.url()), error)),
        }
        Self::open_store(store, options).await
    }

    /// Opens a state of the volume for reading. It does not disturb the writer, and does not follow it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`]; otherwise as [`Volume::open`].
    pub async fn open_read_only(url: &str, options: Options, at: At) -> Result<Self> {
        let store = store(url, &options)?;
        let shared = Box::pin(open_reader(store, options, &at)).await?;
        Ok(Self { handle: Arc::new(Handle { shared, report: None }) })
    }

    async fn open_store(store: Store, options: Options) -> Result<Self> {
        // Opening is long and seldom: what it needs on its way is not carried by every future that opens a volume.
        let (shared, report) = Box::pin(open_writer(store, options)).await?;
        Ok(Self { handle: Arc::new(Handle { shared, report: Some(report) }) })
    }

    /// The files of the volume.
    #[must_use]
    pub fn fs(&self) -> Fs {
        Fs::new(Arc::clone(&self.handle))
    }

    /// The tree by inode numbers, for mounts and servers. Each call begins a new one, whose [`Watch`](crate::Watch) does
    /// not tell what it changed itself.
    #[must_use]
    pub fn inodes(&self) -> Inodes {
        Inodes::new(Arc::clone(&self.handle))
    }

    /// The owner for whom handles are opened and locks are taken: [`Options::with_owner_id`].
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.shared().live.read().session().owner
    }

    /// The locks of the volume's owner: on which inodes, and under which keys ([`File::lock_key`](crate::File::lock_key)).
    /// [`OpenOptions::lock_key`](crate::OpenOptions::lock_key) gives a handle those of one key.
    #[must_use]
    pub fn held_locks(&self) -> Vec<(Ino, u64)> {
        let live = self.shared().live.read();
        let mut held: Vec<_> =
            live.tree.locks_of(live.session().owner).map(|(ino, holder)| (ino, holder.key)).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    /// The inodes without a name that the volume's owner holds: those that handles have open, and those that an earlier
    /// program of the same owner left. [`Fs::open_held`] opens them; the last handle that is closed removes them.
    #[must_use]
    pub fn held_files(&self) -> Vec<Ino> {
        let live = self.shared().live.read();
        live.tree.held_by(live.session().owner).collect()
    }

    /// The volume's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.shared().store.url()
    }

    /// The volume's id.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.shared().keys.0
    }

    /// What was found when the volume was opened; none when it is open for reading only.
    #[must_use]
    pub fn open_report(&self) -> Option<&OpenReport> {
        self.handle.report.as_ref()
    }

    /// The position in the history after the last change.
    #[must_use]
    pub fn position(&self) -> Lsn {
        let committed = self.shared().commits.borrow().committed;
        self.shared().live.read().lsn(committed)
    }

    /// Up to which position everything is at `level`.
    #[must_use]
    pub fn position_at(&self, level: Level) -> Lsn {
        let committed = self.shared().commits.borrow().committed;
        match (level, &self.shared().driver) {
            (Level::Memory, _) => self.position(),
            (Level::Local, Some(driver)) if driver.has_disk() => driver.durable().max(committed),
            _ => committed,
        }
    }

    /// Waits until everything up to `position` is at `level`. For [`Level::Remote`] no commit is forced: it waits for
    /// those that others ask for, or that are made on their own; so without either it waits for ever. On a volume
    /// without a local directory [`Level::Local`] is [`Level::Remote`].
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`], [`ErrorKind::LocalDisk`], [`ErrorKind::Closed`].
    pub async fn wait(&self, position: Lsn, level: Level) -> Result<()> {
        self.shared().wait(position, level).await
    }

    /// Commits everything up to now, and waits until it is durable. When nothing changed since the last commit, that
    /// one's receipt is returned and nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when another writer took over: then nothing since the last commit will be seen.
    /// [`ErrorKind::Outage`] and other errors of the store: then the commit goes on by itself.
    pub async fn commit(&self) -> Result<Receipt> {
        self.writable("commit")?;
        commit_now(self.shared()).await
    }

    /// Starts a commit of the state as it is now, under a name that keeps it until it is dropped. Waiting for it is
    /// up to the caller.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken, `EINVAL` or `ENAMETOOLONG` for one that cannot be; otherwise as
    /// [`Volume::commit`].
    pub async fn checkpoint(&self, name: &str) -> Result<Commit> {
        self.checkpoint_with(name, Vec::new()).await
    }

    /// As [`Volume::checkpoint`], with bytes of the caller's own in the commit object (64 KiB at most).
    ///
    /// # Errors
    /// As [`Volume::checkpoint`]; `EFBIG` for too much metadata.
    pub async fn checkpoint_with(&self, name: &str, metadata: Vec<u8>) -> Result<Commit> {
        const METADATA_MAX: usize = 64 << 10;
        let doing = || format!("checkpoint {name:?}");
        self.writable("checkpoint")?;
        if metadata.len() > METADATA_MAX {
            return Err(Error::posix(Errno::TooBig, doing()));
        }
        let shared = self.shared();
        shared.admit(doing).await?;
        let failures = shared.commits.borrow().failures;
        let (sender, done) = oneshot::channel();
        let mut asked = Some((metadata, sender));
        let queued = shared.change(|live| {
            let commit = live.front.as_ref().map_or_else(CommitId::default, |front| front.next_commit);
            live.run(shared.itself(), &Op::AddCheckpoint { name: name.to_owned(), commit }, &[])?;
            let queued = asked.take().and_then(|(metadata, sender)| {
                queue_commit(shared, live, Some(name.to_owned()), metadata, sender)
            });
            Ok(queued.ok_or(Errno::ReadOnly)?)
        });
        let position = queued.await.map_err(|refused| refused.doing(doing))?;
        shared.wake.notify_one();
        Ok(Commit { handle: Arc::clone(&self.handle), done, failures, position, receipt: None })
    }

    /// The caller's own bytes in a commit, as [`Volume::checkpoint_with`] was given them.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchState`] when the commit was collected, or never was.
    pub async fn metadata_of(&self, commit: CommitId) -> Result<Vec<u8>> {
        let shared = self.shared();
        let doing = || format!("metadata of commit {commit} of {}", shared.store.url());
        let found = commit_log::read_commit(shared.pages.lineage(), commit).await;
        found.map(|commit| commit.commit.metadata.0).map_err(|error| Error::recovery(doing(), error))
    }

    /// Forgets a checkpoint's name. Its state is collected when nothing else needs it.
    ///
    /// # Errors
    /// `ENOENT` when there is none of this name.
    pub async fn drop_checkpoint(&self, name: &str) -> Result<()> {
        let doing = || format!("drop checkpoint {name:?}");
        self.shared().admit(doing).await?;
        let op = Op::DropCheckpoint { name: name.to_owned() };
        self.shared().run(self.shared().itself(), &op, &[], doing).await.map(drop)
    }

    /// The checkpoints, by name.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<(String, Checkpoint)> {
        let live = self.shared().live.read();
        live.tree.checkpoints().iter().map(|(name, checkpoint)| (name.clone(), *checkpoint)).collect()
    }

    /// The committed history of one file, found by the segment indexes: only the places that they name are read.
    ///
    /// # Errors
    /// POSIX's for the path; [`ErrorKind::Damaged`], [`ErrorKind::Outage`].
    pub async fn history(&self, path: impl AsRef<std::path::Path>) -> Result<History> {
        let path = path.as_ref();
        let bytes = path_bytes(path);
        let doing = || format!("history of {}", path.display());
        let at = rfs_core::At::root(bytes);
        let look = |live: &Live| Ok((live.tree.clone(), live.tree.lookup(&Credential::root(), &at, false)?));
        let (tree, ino) = self.shared().look(look, doing).await?;
        let found = history(&self.shared().content, ino, &tree).await;
        found.map_err(|error| Error::recovery(doing(), error))
    }

    /// Deletes the objects that no retained state needs: not the newest commits, the checkpoints, or anything younger
    /// than the grace. It runs beside the writer's work; commits go on meanwhile. [`Options::with_auto_collect`] has it done
    /// whenever there is something to delete.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] before anything is deleted, when another writer took over.
    pub async fn collect_garbage(&self) -> Result<Collected> {
        self.writable("collect garbage")?;
        Box::pin(collect_now(self.shared())).await
    }

    /// How much of the tree is in memory, by what it is of: inodes, entries, listings, links (the names of an inode),
    /// extents, xattrs, segments. Looking takes time in proportion to that. [`Options::with_tree_memory`] bounds it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let volume = rfs::Volume::create("memory://", rfs::Options::new()).await?;
    /// let held: usize = volume.tree_memory().iter().map(|(_, held)| held.clean + held.dirty).sum();
    /// assert!(held < 10_000);
    /// # rfs::Result::Ok(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn tree_memory(&self) -> [(&'static str, rfs_core::Held); 7] {
        self.shared().live.read().tree.held_by_map()
    }

    /// What the volume takes in its store: how much of that is in use, what a collection would delete, and what dropping
    /// each checkpoint would free. Nothing is changed, and no content is read: what the retained states need is marked by
    /// their indexes, as a collection does it. A volume that is open for reading only has to be open at its head.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], [`ErrorKind::Outage`].
    pub async fn usage(&self) -> Result<StoreUsage> {
        usage_now(self.shared()).await
    }

    /// Stores what is in use of objects that are mostly not again, so that the next [`Volume::collect_garbage`] can delete
    /// them: content by records of the journal, pages by an image. [`Options::with_compaction`] says when that is worth it,
    /// and how much is done at a time; call it again as long as there is [more](Compacted::more). What is asked for like this
    /// also takes small objects that are mostly not in use, though they are few. What users see does not change, and they
    /// go on meanwhile. With [`Options::with_auto_collect`] it is done by itself.
    ///
    /// # Errors
    /// As [`Volume::commit`]; [`ErrorKind::Damaged`] when what is in use cannot be read.
    pub async fn compact(&self) -> Result<Compacted> {
        self.writable("compact")?;
        compact_now(self.shared()).await
    }

    /// The identity of the tree as it is now. It costs a pass over the whole tree, all of which is in memory then.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], [`ErrorKind::Outage`]: a part of the tree cannot be read.
    pub async fn state_hash(&self) -> Result<StateHash> {
        let tree = self.whole_tree("state hash of").await?;
        StateHash::of(&tree).map_err(|missing| Error::new(ErrorKind::Bug, missing.to_string()))
    }

    /// Verifies every invariant of the tree as it is now. It costs a pass over the whole tree, all of which is in memory
    /// then.
    ///
    /// # Errors
    /// What does not hold, or why it cannot be told.
    pub async fn check(&self) -> std::result::Result<(), CheckError> {
        Ok(self.whole_tree("check").await?.check()?)
    }

    /// The tree as it is now, with all its pages.
    async fn whole_tree(&self, doing: &str) -> Result<Tree> {
        let shared = self.shared();
        let tree = shared.live.read().tree.clone();
        let loaded = shared.pages.load_all(&tree).await;
        loaded.map_err(|error| Error::recovery(format!("{doing} {}", shared.store.url()), error))?;
        Ok(tree)
    }

    /// What was asked of the object store so far: requests and bytes, by kind.
    #[must_use]
    pub fn metered(&self) -> MeterSnapshot {
        self.shared().store.meter().snapshot()
    }

    /// Commits what is not committed, waits for it, and closes the volume for all its handles. An image that is being
    /// made is waited for too, and named by one more commit.
    ///
    /// # Errors
    /// As [`Volume::commit`]: the volume is closed all the same, and what the local directory holds is found again.
    pub async fn close(self) -> Result<()> {
        let shared = self.shared();
        shared.collector.end_compaction();
        let mut committed = self.commit_rest().await;
        if committed.is_ok() && shared.driver.is_some() && shared.live.read().failure.is_none() {
            image_at_close(shared).await;
            // Everything is committed, whether or not there will be an image.
            let _ = name_image(shared).await;
            collect_at_close(shared).await;
            committed = self.commit_rest().await;
        }
        // Also what could not be committed: whoever opens the local directory again finds it.
        self.handle.write_out();
        let closed = Error::new(ErrorKind::Closed, "the volume was closed");
        shared.fail(&closed);
        shared.closing.store(true, Ordering::Release);
        shared.wake.notify_one();
        shared.pages.flush_local_cache().await;
        shared.let_go_of_disk();
        committed
    }

    /// Commits what is not committed.
    async fn commit_rest(&self) -> Result<()> {
        let shared = self.shared();
        let is_dirty = shared.driver.is_some()
            && shared.live.read().failure.is_none()
            && self.position() > shared.commits.borrow().committed;
        if is_dirty { commit_now(shared).await.map(drop) } else { Ok(()) }
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn writable(&self, doing: &str) -> Result<()> {
        match &self.shared().driver {
            Some(_) => Ok(()),
            None => Err(Error::posix(Errno::ReadOnly, format!("{doing} in {}", self.url()))),
        }
    }
}

/// A commit that was started by [`Volume::checkpoint`]. Dropping it does not stop the commit.
#[derive(Debug)]
#[must_use]
pub struct Commit {
    handle: Arc<Handle>,
    done: oneshot::Receiver<Result<Receipt>>,
    failures: u64,
    position: Lsn,
    receipt: Option<Receipt>,
}

impl Commit {
    /// The position that it makes durable.
    #[must_use]
    pub const fn position(&self) -> Lsn {
        self.position
    }

    /// Waits until the commit is durable. After an outage it can be waited for again: the commit goes on by itself.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub async fn wait(&mut self) -> Result<Receipt> {
        if let Some(receipt) = &self.receipt {
            return Ok(receipt.clone());
        }
        let receipt = commit_named(&self.handle.shared, &mut self.done, &mut self.failures).await?;
        Ok(self.receipt.insert(receipt).clone())
    }
}

pub(crate) fn store(url: &str, options: &Options) -> Result<Store> {
    match &options.store {
        Some(store) => Ok(store.clone()),
        None => {
            let jitter = identity(options)? as u64;
            let store_options = options.store_options.clone().with_jitter_seed(jitter);
            Store::from_url(url, store_options).map_err(|error| Error::store(format!("open {url}"), error))
        }
    }
}

/// Makes a volume, unless there is one; says whether it did.
async fn make(store: &Store, options: &Options) -> Result<bool> {
    let doing = format!("create {}", store.url());
    let id = identity(options)?;
    let made = commit_log::create(store, id, options.clock.now()).await;
    let superblock = made.map_err(|error| Error::recovery(doing, error))?;
    Ok(Keys(superblock.volume) == Keys(id))
}

pub(crate) fn identity(options: &Options) -> Result<u128> {
    options.entropy.identity().map_err(|error| Error::caused(ErrorKind::Bug, "drawing an identity", error))
}
