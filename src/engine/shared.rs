//! What the handles, the log driver and the committer of one volume share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rfs_core::{Errno, Ino, Lsn, Op, Outcome};
use rfs_journal::Residency;
use rfs_recovery::{Content, Keys};
use tokio::sync::{Notify, watch};

use super::CommitState;
use super::driver::Driver;
use super::live::{Caller, Live, Refused};
use crate::error::{Error, ErrorKind, Result};
use crate::options::{Level, Options};

/// Closed frames beyond this size are written out before more is taken.
const QUEUE_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store: rfs_backends::Store,
    pub(crate) keys: Keys,
    pub(crate) live: RwLock<Live>,
    pub(crate) content: Content,
    pub(crate) residency: Arc<Residency>,
    /// None when the volume is open for reading only.
    pub(crate) driver: Option<Driver>,
    /// Wakes the committer: something is dirty, asked for, or over.
    pub(crate) wake: Notify,
    pub(crate) commit_asked: AtomicBool,
    pub(crate) closing: AtomicBool,
    pub(crate) commits: watch::Sender<CommitState>,
    pub(crate) locks_changed: Notify,
    pub(crate) publisher: tokio::sync::Mutex<Option<super::committer::Committer>>,
    /// One upload of sealed segments at a time; what was uploaded and no commit names yet.
    pub(crate) uploaded: tokio::sync::Mutex<super::committer::Uploaded>,
    pub(crate) image: Mutex<super::committer::ImageState>,
}

impl Shared {
    pub(crate) fn caller(&self) -> Caller {
        Caller { now: self.options.clock.now(), uid: self.options.uid, gid: self.options.gid }
    }

    /// Runs one Op. `what` names it in an error.
    pub(crate) fn run(&self, op: &Op, payload: &[u8], what: impl FnOnce() -> String) -> Result<Outcome> {
        self.change(|live, caller| live.run(caller, op, payload)).map_err(|refused| refused.doing(what))
    }

    /// Changes the tree under the lock, and wakes the committer when the volume became dirty by it.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Live, Caller) -> std::result::Result<T, Refused>,
    ) -> std::result::Result<T, Refused> {
        let caller = self.caller();
        let mut live = self.live.write();
        let before = live.lsn(Lsn(0));
        let done = change(&mut live, caller);
        if let Err(Refused::Volume(error)) = &done
            && error.kind() == ErrorKind::Bug
        {
            live.failure = Some(error.clone());
        }
        let after = live.lsn(Lsn(0));
        let journaled = live.front.as_ref().map_or(0, |front| front.journaled_bytes);
        drop(live);
        if after != before {
            let commits = self.commits.borrow();
            let due = journaled.saturating_sub(commits.fixed_bytes) >= self.options.commit_bytes;
            if before <= commits.fixed || due {
                self.wake.notify_one();
            }
        }
        done
    }

    /// Waits until there is room for more changes: in the queue of the local log, and in the outage budget.
    pub(crate) async fn admit(&self, what: impl Fn() -> String) -> Result<()> {
        let Some(driver) = &self.driver else { return Ok(()) };
        let (queued, journaled) = {
            let live = self.live.read();
            let Some(front) = &live.front else { return Ok(()) };
            (front.appender.queued_bytes(), front.journaled_bytes)
        };
        if queued > QUEUE_BYTES {
            driver.relieve(self).map_err(|error| error.during(what()))?;
        }
        let mut commits = self.commits.subscribe();
        loop {
            let (committed_bytes, outage, failed) = {
                let state = commits.borrow_and_update();
                (state.committed_bytes, state.outage.clone(), state.failed)
            };
            if failed {
                self.live.read().usable().map_err(|refused| refused.doing(&what))?;
            }
            let over = journaled.saturating_sub(committed_bytes) >= self.options.outage_bytes;
            if let Some(outage) = outage {
                if over || outage.since.elapsed() >= self.options.outage_time {
                    let why = format!(
                        "{}: commits fail, and the budget for going on without them is used up",
                        what()
                    );
                    return Err(outage.error.during(why));
                }
                return Ok(());
            }
            if !over {
                return Ok(());
            }
            self.ask_commit();
            wait_for_change(&mut commits).await.map_err(|error| error.during(what()))?;
        }
    }

    /// Wakes the committer to commit what there is.
    pub(crate) fn ask_commit(&self) {
        self.commit_asked.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits until the history up to `position` is at `level`.
    pub(crate) async fn wait(&self, position: Lsn, level: Level) -> Result<()> {
        let Some(driver) = &self.driver else { return Ok(()) };
        match level {
            Level::Memory => Ok(()),
            Level::Local if driver.has_disk() => driver.wait(self, position).await,
            _ => {
                let mut commits = self.commits.subscribe();
                loop {
                    if commits.borrow_and_update().committed >= position {
                        return Ok(());
                    }
                    self.live
                        .read()
                        .usable()
                        .map_err(|refused| refused.doing(|| format!("wait for {position}")))?;
                    wait_for_change(&mut commits).await?;
                }
            }
        }
    }

    /// Up to `len` bytes of a file from `offset` on: as many as there are.
    pub(crate) async fn read(
        &self,
        ino: Ino,
        offset: u64,
        len: u64,
    ) -> std::result::Result<Vec<Bytes>, ReadError> {
        let mut pieces = Vec::new();
        {
            let live = self.live.read();
            live.usable().map_err(ReadError::Refused)?;
            let ranges = live.tree.file_ranges(ino, offset..offset.saturating_add(len));
            for run in ranges.map_err(ReadError::Posix)? {
                let len = run.range.end - run.range.start;
                let front = live.front.as_ref();
                let open = run.place.and_then(|place| front?.appender.read_open(place, len));
                pieces.push((len, run.place, open));
            }
        }
        let mut read = Vec::with_capacity(pieces.len());
        for (len, place, open) in pieces {
            match (place, open) {
                (_, Some(bytes)) => read.push(bytes),
                (Some(place), None) => {
                    read.push(self.content.read(place, len).await.map_err(ReadError::Recovery)?);
                }
                (None, None) => push_zeros(&mut read, len),
            }
        }
        Ok(read)
    }

    /// Whether the journal is on a local disk too.
    pub(crate) fn has_disk(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::has_disk)
    }

    /// Makes the volume refuse everything from now on.
    pub(crate) fn fail(&self, error: &Error) {
        let mut live = self.live.write();
        if live.failure.is_none() {
            live.failure = Some(error.clone());
        }
        drop(live);
        self.commits.send_modify(|state| state.failed = true);
        if let Some(driver) = &self.driver {
            driver.wake_waiters();
        }
        self.locks_changed.notify_waiters();
    }
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

pub(crate) async fn wait_for_change(commits: &mut watch::Receiver<CommitState>) -> Result<()> {
    commits.changed().await.map_err(|_| Error::new(ErrorKind::Closed, "the volume was closed"))
}
