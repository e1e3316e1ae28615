//! What the handles, the log driver and the committer of one volume share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use rfs_core::{
    AtimePolicy, Credential, Errno, Fault, Ino, LockOwner, Lsn, Missing, Op, Outcome, Place, Target, WriteAt,
};
use rfs_journal::Residency;
use rfs_recovery::{Content, Keys, Pages, RecoveryError};
use tokio::sync::Notify;

use super::CommitState;
use super::appending::LiveLock;
use super::committer::Outage;
use super::driver::Driver;
use super::latest::Latest;
use super::live::{Caller, Live, Refused};
use super::loaded::Loaded;
use super::locks::Waits;
use super::watch::Origin;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Standing;
use crate::options::{Level, Options};

/// Closed frames beyond this size are written out before more is taken.
const QUEUE_BYTES: u64 = 1 << 20;
/// How many pieces of a read are fetched at a time.
const FETCHES: usize = 8;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store: rfs_backends::Store,
    pub(crate) keys: Keys,
    pub(crate) live: LiveLock,
    pub(crate) content: Content,
    pub(crate) pages: Pages,
    pub(crate) loaded: Loaded,
    /// The one that it was opened on: handles may be dropped elsewhere.
    pub(crate) runtime: Option<tokio::runtime::Handle>,
    pub(crate) residency: Arc<Residency>,
    /// None when the volume is open for reading only.
    pub(crate) driver: Option<Driver>,
    /// Wakes the committer: something is dirty, asked for, or over.
    pub(crate) wake: Notify,
    /// Up to where a commit was asked for: one more than the position, 0 for none.
    pub(crate) asked: AtomicU64,
    /// How often a commit was asked for.
    pub(crate) asks: AtomicU64,
    pub(crate) closing: AtomicBool,
    pub(crate) commits: Latest<CommitState>,
    pub(crate) waits: Waits,
    pub(crate) undurable: crate::metrics::Undurable,
    /// How many [`Inodes`](crate::Inodes) there ever were: each is an origin of changes.
    pub(crate) origins: AtomicU64,
    pub(crate) publisher: tokio::sync::Mutex<Option<super::committer::Committer>>,
    pub(crate) uploads: super::uploads::Uploads,
    pub(crate) image: Mutex<super::image::ImageState>,
    /// No image is being made any more.
    pub(crate) image_ended: Notify,
    pub(crate) collector: super::Collector,
    pub(crate) ahead: super::read_ahead::ReadAhead,
}

impl Shared {
    /// The program itself, with this credential, now.
    pub(crate) fn caller<'a>(&self, credential: &'a Credential) -> Caller<'a> {
        self.caller_from(credential, Origin::default())
    }

    pub(crate) fn caller_from<'a>(&self, credential: &'a Credential, origin: Origin) -> Caller<'a> {
        Caller { now: self.options.clock.now(), credential, origin }
    }

    /// The volume itself, now.
    pub(crate) fn itself(&self) -> Caller<'static> {
        static ROOT: Credential = Credential::root();
        self.caller(&ROOT)
    }

    /// Runs one Op. `what` names it in an error.
    pub(crate) async fn run(
        &self,
        caller: Caller<'_>,
        op: &Op,
        payload: &[u8],
        what: impl FnOnce() -> String + Send,
    ) -> Result<Outcome> {
        let done = self.change(|live| live.run(caller, op, payload)).await;
        done.map_err(|refused| refused.doing(what))
    }

    /// Changes the tree under the lock, and wakes the committer when the volume became dirty by it. As long as pages are
    /// missing they are fetched, and it is tried again.
    pub(crate) async fn change<T>(
        &self,
        mut change: impl FnMut(&mut Live) -> std::result::Result<T, Refused> + Send,
    ) -> std::result::Result<T, Refused> {
        loop {
            match self.change_now(&mut change) {
                Err(Refused::Missing(missing)) => self.load(&missing).await.map_err(Refused::Volume)?,
                done => return done,
            }
        }
    }

    /// Writes to a file; then appends may go on. For [`Shared::change`].
    pub(crate) fn write(
        &self,
        live: &mut Live,
        credential: &Credential,
        ino: Ino,
        at: WriteAt,
        bytes: &[u8],
    ) -> std::result::Result<Outcome, Refused> {
        let len = bytes.len() as u64;
        let op = Op::Write { target: Target::Ino(ino), at, len };
        let outcome = live.run(self.caller(credential), &op, bytes)?;
        if let Outcome::Written { offset } = outcome
            && len > 0
        {
            live.begin_appending(ino, offset + len, &self.commits.borrow(), &self.options);
        }
        Ok(outcome)
    }

    /// Appends to a file, if that only goes on what was appended last: then it gives the offset. If not, nothing was done.
    pub(crate) fn go_on(&self, ino: Ino, at: WriteAt, bytes: &[u8]) -> Option<u64> {
        self.live.go_on(ino, at, bytes, || self.options.clock.now())
    }

    /// Looks at the tree as it is at one moment. As long as pages are missing they are fetched, and it is looked again.
    pub(crate) async fn look<T>(
        &self,
        mut look: impl FnMut(&Live) -> std::result::Result<T, Fault> + Send,
        doing: impl Fn() -> String + Send,
    ) -> Result<T> {
        loop {
            let looked = {
                let live = self.live.read();
                live.usable().map_err(|refused| refused.doing(&doing))?;
                look(&live)
            };
            match looked {
                Ok(found) => return Ok(found),
                Err(Fault::Errno(errno)) => return Err(Error::posix(errno, doing())),
                Err(Fault::Missing(missing)) => {
                    self.load(&missing).await.map_err(|error| error.during(doing()))?;
                }
            }
        }
    }

    /// Fetches a missing page, and lets go of others when there are too many.
    pub(crate) async fn load(&self, missing: &Missing) -> Result<()> {
        let doing = || format!("read the tree of {}", self.store.url());
        self.pages.load(missing).await.map_err(|error| Error::recovery(doing(), error))?;
        for missing in missing.all() {
            self.loaded.note(missing.page());
        }
        if self.loaded.is_over(self.options.tree_bytes) {
            self.make_room();
        }
        Ok(())
    }

    /// Changes the tree under the lock, unless a page is missing.
    pub(crate) fn change_now<T>(
        &self,
        change: impl FnOnce(&mut Live) -> std::result::Result<T, Refused>,
    ) -> std::result::Result<T, Refused> {
        let mut live = self.live.write();
        let before = live.lsn(Lsn(0));
        let done = change(&mut live);
        let bug = match &done {
            Err(Refused::Volume(error)) if error.kind() == ErrorKind::Bug => Some(error.clone()),
            _ => None,
        };
        let after = live.lsn(Lsn(0));
        let journaled = live.front.as_ref().map(|front| front.journaled).unwrap_or_default();
        let locks_changed = std::mem::take(&mut live.locks_changed);
        drop(live);
        if let Some(bug) = bug {
            self.fail(&bug);
        }
        self.waits.wake(&locks_changed);
        if after != before {
            let commits = self.commits.borrow();
            let due = journaled.is_due(commits.fixed_journal, &self.options);
            if before <= commits.fixed || due {
                self.wake.notify_one();
            }
            drop(commits);
            self.tell_undurable(Some(before));
        }
        done
    }

    /// Tells how far the commits are behind. `before` is where the change began that was just made.
    pub(crate) fn tell_undurable(&self, before: Option<Lsn>) {
        let standing = || {
            let (end, bytes) = {
                let live = self.live.read();
                (live.lsn(Lsn(0)), live.front.as_ref().map_or(0, |front| front.journaled.bytes))
            };
            let commits = self.commits.borrow();
            let bytes = bytes.saturating_sub(commits.committed_bytes);
            Standing { end, fixed: commits.fixed, committed: commits.committed, bytes }
        };
        self.undurable.tell(standing, before, || self.options.clock.now());
    }

    /// Waits until there is room for more changes: in the queue of the local log, and in the outage budget.
    pub(crate) async fn admit(&self, what: impl Fn() -> String) -> Result<()> {
        let Some(journaled) = self.admit_now(&what)? else { return Ok(()) };
        let mut commits = self.commits.view();
        loop {
            let room = Room::of(&commits.look());
            if self.has_room(room, journaled, &what)? {
                return Ok(());
            }
            self.ask_commit(self.live.read().lsn(Lsn(0)));
            commits.changed().await;
        }
    }

    /// As [`Shared::admit`], without waiting. If it has to be waited, it gives how much was journaled by now.
    pub(crate) fn admit_now(&self, what: impl Fn() -> String) -> Result<Option<u64>> {
        let Some(driver) = &self.driver else { return Ok(None) };
        let (queued, journaled) = {
            let live = self.live.read();
            let Some(front) = &live.front else { return Ok(None) };
            (front.appender.queued_bytes(), front.journaled.bytes)
        };
        if queued > QUEUE_BYTES {
            driver.relieve(self, queued).map_err(|error| error.during(what()))?;
        }
        let room = Room::of(&self.commits.borrow());
        let has_room = self.has_room(room, journaled, what)?;
        Ok((!has_room).then_some(journaled))
    }

    /// Whether the outage budget has room when so much was journaled.
    fn has_room(&self, room: Room, journaled: u64, what: impl Fn() -> String) -> Result<bool> {
        if room.failed {
            self.live.read().usable().map_err(|refused| refused.doing(&what))?;
        }
        let over = journaled.saturating_sub(room.committed_bytes) >= self.options.outage_bytes;
        let Some(outage) = room.outage else { return Ok(!over) };
        if over || outage.since.elapsed() >= self.options.outage_time {
            let why =
                format!("{}: commits fail, and the budget for going on without them is used up", what());
            return Err(outage.error.during(why));
        }
        Ok(true)
    }

    /// Wakes the committer to commit what there is up to `position`.
    pub(crate) fn ask_commit(&self, position: Lsn) {
        self.asked.fetch_max(position.0 + 1, Ordering::AcqRel);
        self.asks.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Whether a commit was asked for that is not fixed yet. By position: what was asked for before and has become part
    /// of a commit must not commit what came after.
    pub(crate) fn is_commit_asked(&self) -> bool {
        let asked = self.asked.load(Ordering::Acquire);
        let commits = self.commits.borrow();
        asked > 0 && (asked - 1 > commits.fixed.0 || commits.receipt.is_none())
    }

    /// Waits until the history up to `position` is at `level`.
    pub(crate) async fn wait(&self, position: Lsn, level: Level) -> Result<()> {
        let Some(driver) = &self.driver else { return Ok(()) };
        match level {
            Level::Memory => Ok(()),
            Level::Local if driver.has_disk() => driver.wait(self, position).await,
            _ => {
                let mut commits = self.commits.view();
                loop {
                    if commits.look().committed >= position {
                        return Ok(());
                    }
                    self.live
                        .read()
                        .usable()
                        .map_err(|refused| refused.doing(|| format!("wait for {position}")))?;
                    commits.changed().await;
                }
            }
        }
    }

    /// Waits until everything that was done so far is at the volume's level.
    pub(crate) async fn sync(&self) -> Result<()> {
        if self.driver.is_none() {
            return Ok(());
        }
        let position = self.live.read().lsn(Lsn(0));
        match self.options.level {
            Level::Memory => Ok(()),
            Level::Local if self.has_disk() => self.wait(position, Level::Local).await,
            _ => super::commit_now(self).await.map(drop),
        }
    }

    /// Up to `len` bytes of a file from `offset` on: as many as there are.
    pub(crate) async fn read(
        self: &Arc<Self>,
        caller: Caller<'_>,
        ino: Ino,
        offset: u64,
        len: u64,
    ) -> std::result::Result<Vec<Bytes>, ReadError> {
        let mut missed = Vec::new();
        loop {
            let mut pieces = Vec::new();
            let looked = {
                let live = self.live.read();
                live.usable().map_err(ReadError::Refused)?;
                let ranges = live.tree.file_ranges(ino, offset..offset.saturating_add(len));
                ranges.map(|ranges| {
                    for run in ranges {
                        let len = run.range.end - run.range.start;
                        let front = live.front.as_ref();
                        let open = run.place.and_then(|place| front?.appender.read_open(place, len));
                        pieces.push(Piece { len, place: run.place, open });
                    }
                    len > 0 && self.is_access_due(&live, caller, ino)
                })
            };
            let touched = match looked {
                Ok(touched) => touched,
                Err(Fault::Errno(errno)) => return Err(ReadError::Posix(errno)),
                Err(Fault::Missing(missing)) => {
                    self.load(&missing).await.map_err(|error| ReadError::Refused(Refused::Volume(error)))?;
                    continue;
                }
            };
            if touched && missed.is_empty() {
                self.accessed(caller, ino).await;
            }
            let places: Vec<_> = pieces.iter().map(|piece| (piece.len, piece.place)).collect();
            match self.fetch(pieces).await {
                // It was overwritten, committed and collected meanwhile: what is there now is elsewhere.
                Err(RecoveryError::Missing { .. }) if places != missed => missed = places,
                fetched => {
                    let fetched = fetched.map_err(ReadError::Recovery)?;
                    let read = fetched.iter().fold(0, |bytes, piece| bytes + piece.len() as u64);
                    self.read_ahead(ino, offset..offset.saturating_add(read));
                    return Ok(fetched);
                }
            }
        }
    }

    /// The pieces in order, some of them fetched at a time.
    async fn fetch(&self, mut pieces: Vec<Piece>) -> std::result::Result<Vec<Bytes>, RecoveryError> {
        let mut fetched = Vec::with_capacity(pieces.len());
        let fetch = |Piece { len, place, open }| async move {
            let bytes = match (place, open) {
                (_, Some(bytes)) => Some(bytes),
                (Some(place), None) => Some(self.content.read(place, len).await?),
                (None, None) => None,
            };
            Ok::<_, RecoveryError>((len, bytes))
        };
        let mut push = |(len, bytes)| match bytes {
            Some(bytes) => fetched.push(bytes),
            None => push_zeros(&mut fetched, len),
        };
        // One alone needs nothing that is set up for several.
        if pieces.len() == 1
            && let Some(piece) = pieces.pop()
        {
            push(fetch(piece).await?);
            return Ok(fetched);
        }
        let mut all = stream::iter(pieces.into_iter().map(fetch)).buffered(FETCHES);
        while let Some(piece) = all.try_next().await? {
            push(piece);
        }
        Ok(fetched)
    }

    /// Whether what was just read of an inode gets a new time of last access. It takes no lock, so that a policy that
    /// changes nothing costs nothing.
    fn is_access_due(&self, live: &Live, caller: Caller<'_>, ino: Ino) -> bool {
        self.options.atime != AtimePolicy::Never
            && live.front.is_some()
            && self.commits.borrow().outage.is_none()
            && live.decide(caller, &Op::Accessed { ino }).is_ok_and(|decision| !decision.changes.is_empty())
    }

    /// What was read of an inode has the time of last access that the policy gives it.
    pub(crate) async fn note_access(&self, caller: Caller<'_>, ino: Ino) {
        let due = self.is_access_due(&self.live.read(), caller, ino);
        if due {
            self.accessed(caller, ino).await;
        }
    }

    async fn accessed(&self, caller: Caller<'_>, ino: Ino) {
        // Who reads is not told that the time could not be kept: reading is what was asked for.
        let _ = self.change(|live| live.run(caller, &Op::Accessed { ino }, &[])).await;
    }

    /// A handle lets go of an inode, and of the locks that it held under `locks`. What misses a page is done in the
    /// background; if there is no runtime any more, by the next writer.
    pub(crate) fn let_go(self: &Arc<Self>, caller: Caller<'static>, ino: Ino, locks: Option<LockOwner>) {
        let mut last = None;
        let mut let_go = move |live: &mut Live| {
            if let Some(owner) = locks {
                live.unlock_all(caller, ino, owner)?;
            }
            if *last.get_or_insert_with(|| live.let_go(ino)) {
                live.release(caller, ino)?;
            }
            Ok(())
        };
        #[expect(
            clippy::needless_borrows_for_generic_args,
            reason = "a copy would not know that it let go already"
        )]
        let done = self.change_now(&mut let_go);
        if let Err(Refused::Missing(_)) = done
            && let Some(runtime) = &self.runtime
        {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                let _ = shared.change(let_go).await;
            });
        }
    }

    /// Whether the journal is on a local disk too.
    pub(crate) fn has_disk(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::has_disk)
    }

    /// Nothing is written or kept in the local directory any more, and another volume may use it.
    pub(crate) fn let_go_of_disk(&self) {
        self.pages.close_local_cache();
        if let Some(driver) = &self.driver {
            driver.stop();
        }
    }

    /// Makes the volume refuse everything from now on.
    pub(crate) fn fail(&self, error: &Error) {
        let mut live = self.live.write();
        if live.failure.is_none() {
            live.failure = Some(error.clone());
        }
        live.watchers.end();
        drop(live);
        self.commits.change(|state| state.failed = true);
        if let Some(driver) = &self.driver {
            driver.wake_waiters();
        }
        self.waits.wake_all();
    }
}

/// A run of a file that is to be read; `open` is its bytes if they are in the frame that is still open.
struct Piece {
    len: u64,
    place: Option<Place>,
    open: Option<Bytes>,
}

/// A hole, in pieces that share their memory: it may be larger than any memory.
fn push_zeros(pieces: &mut Vec<Bytes>, mut len: u64) {
    static ZEROS: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; 1 << 20]));
    while len > 0 {
        let piece = len.min(ZEROS.len() as u64);
        pieces.push(ZEROS.slice(..piece as usize));
        len -= piece;
    }
}

/// What the outage budget depends on: copied, since nobody may wait for the tree while holding the state of the commits.
struct Room {
    committed_bytes: u64,
    outage: Option<Outage>,
    failed: bool,
}

impl Room {
    fn of(commits: &CommitState) -> Self {
        let CommitState { committed_bytes, outage, failed, .. } = commits;
        Self { committed_bytes: *committed_bytes, outage: outage.clone(), failed: *failed }
    }
}

/// Why content could not be read.
pub(crate) enum ReadError {
    Posix(Errno),
    Refused(Refused),
    Recovery(rfs_recovery::RecoveryError),
}

impl ReadError {
    pub(crate) fn doing(self, what: impl FnOnce() -> String) -> Error {
        match self {
            Self::Posix(errno) => Error::posix(errno, what()),
            Self::Refused(refused) => refused.doing(what),
            Self::Recovery(error) => Error::recovery(what(), error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entropy, OpenOptions, Volume};

    /// A bug that shows while something is done ends the volume as any failure does: nobody waits for what never comes.
    #[tokio::test]
    async fn all_who_wait_hear_of_a_bug() -> Result<()> {
        let options =
            Options::new().with_entropy(Entropy::seeded(1)).with_commit_interval(None).with_one_thread();
        let volume = Volume::create("memory://", options).await?;
        let fs = volume.fs();
        let mut how = OpenOptions::new();
        how.write(true).create(true);
        let (holder, other) = (how.open(&fs, "/f").await?, how.open(&fs, "/f").await?);
        holder.try_lock().await?;
        let mut watch = volume.inodes().watch();
        let handle = Arc::clone(fs.handle());
        let position = volume.position();
        let locks = tokio::spawn(async move { other.lock().await });
        let commits = tokio::spawn(async move { handle.shared.wait(position, Level::Remote).await });
        let watches = tokio::spawn(async move { watch.next().await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!locks.is_finished() && !commits.is_finished() && !watches.is_finished());

        let bug = Error::new(ErrorKind::Bug, "made up");
        assert!(fs.handle().shared.change::<()>(|_| Err(Refused::Volume(bug.clone()))).await.is_err());
        for waiting in [locks, commits] {
            let told = waiting.await.expect("it does not panic");
            assert_eq!(told.expect_err("the volume is of no use").kind(), ErrorKind::Bug);
        }
        assert_eq!(watches.await.expect("it does not panic"), None);
        assert_eq!(fs.write("/g", b"").await.expect_err("nothing goes on").kind(), ErrorKind::Bug);
        Ok(())
    }

    /// A bug that somebody found who told nobody: what was journaled is not committed, all hear of it, and the committer ends.
    #[tokio::test]
    async fn a_bug_that_nobody_told_ends_the_committer() -> Result<()> {
        let options =
            Options::new().with_entropy(Entropy::seeded(2)).with_commit_interval(None).with_one_thread();
        let volume = Volume::create("memory://", options).await?;
        volume.fs().write("/f", b"not committed").await?;
        let handle = Arc::clone(volume.fs().handle());
        let before = (Arc::strong_count(&handle.shared), volume.metered());
        handle.shared.live.write().failure = Some(Error::new(ErrorKind::Bug, "made up"));
        let (waiting, position) = (Arc::clone(&handle), volume.position());
        handle.shared.ask_commit(position);
        let told = tokio::spawn(async move { waiting.shared.wait(position, Level::Remote).await });
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(told.is_finished(), "nobody was told");
        let told = told.await.expect("it does not panic");
        assert_eq!(told.expect_err("the volume is of no use").kind(), ErrorKind::Bug);
        assert!(Arc::strong_count(&handle.shared) < before.0, "the committer goes on");
        assert_eq!((volume.metered() - before.1).requests(), 0, "nothing was committed");
        Ok(())
    }
}
