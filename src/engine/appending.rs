//! Appends to one file, one after the other: the journal takes each at once, and the tree learns of them together, when
//! somebody looks at it.
//!
//! An append that goes on where the last Write ended becomes a part of that Write in the journal, as long as nothing else
//! was done meanwhile. In the tree it would change the same extent, the same inode and the same counts again and again.
//! So they are kept apart until the lock is taken for anything else: whoever has it sees a tree that knows everything.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use rfs_core::{Change, Ino, Place, Timestamp, WriteAt};

use super::CommitState;
use super::live::{Live, apply};
use crate::options::Options;

/// The lock of [`Live`].
#[derive(Debug)]
pub(crate) struct LiveLock(RwLock<Live>);

impl LiveLock {
    pub(crate) const fn new(live: Live) -> Self {
        Self(RwLock::new(live))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Live> {
        let live = self.0.read();
        if live.appending.as_ref().is_none_or(Appending::is_known) {
            return live;
        }
        drop(live);
        let mut live = self.0.write();
        live.learn();
        RwLockWriteGuard::downgrade(live)
    }

    /// Ends the row of appends: what the caller does may be anything.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Live> {
        let mut live = self.0.write();
        live.learn();
        live.appending = None;
        live
    }

    /// Appends to a file, if that goes on a row of appends: then it gives the offset. If not, nothing was done.
    pub(crate) fn go_on(
        &self,
        ino: Ino,
        at: WriteAt,
        payload: &[u8],
        now: impl FnOnce() -> Timestamp,
    ) -> Option<u64> {
        self.0.write().go_on(ino, at, payload, now)
    }
}

/// A row of appends. The last record of the open frame is the Write that they are a part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appending {
    ino: Ino,
    /// The file's size.
    end: u64,
    /// The file's size where it ends.
    end_max: u64,
    /// How much may be journaled before it has to be asked whether there is room.
    journaled_max: u64,
    /// What the tree does not know yet: so many bytes, where the first one lies, and when the last one was written.
    unknown: u64,
    place: Place,
    time: Timestamp,
}

impl Appending {
    const fn is_known(&self) -> bool {
        self.unknown == 0
    }
}

impl Live {
    /// After a Write up to `end`: appends may go on there.
    pub(crate) fn begin_appending(&mut self, ino: Ino, end: u64, commits: &CommitState, options: &Options) {
        let Some(front) = &self.front else { return };
        // Who watches is told of each one. What fails is told when there is room.
        if commits.outage.is_some() || commits.failed || self.watchers.are_there() {
            return;
        }
        let Some(end_max) = self.tree.append_end(ino, end) else { return };
        self.appending = Some(Appending {
            ino,
            end,
            end_max,
            journaled_max: commits.committed_bytes.saturating_add(options.outage_bytes),
            unknown: 0,
            place: front.appender.end(),
            time: Timestamp::default(),
        });
    }

    fn go_on(
        &mut self,
        ino: Ino,
        at: WriteAt,
        payload: &[u8],
        now: impl FnOnce() -> Timestamp,
    ) -> Option<u64> {
        let (appending, front) = (self.appending.as_mut()?, self.front.as_mut()?);
        let (offset, len) = (appending.end, payload.len() as u64);
        let goes_on = appending.ino == ino
            && match at {
                WriteAt::End => true,
                WriteAt::Offset(at) => at == offset,
            };
        let end = offset.checked_add(len).filter(|end| *end <= appending.end_max)?;
        let has_room = front.journaled.bytes < appending.journaled_max && front.appender.takes(payload.len());
        if !goes_on || len == 0 || !has_room {
            return None;
        }
        let time = now();
        if !front.go_on(&Change::Write { ino, offset, len, time }, payload) {
            return None;
        }
        appending.end = end;
        appending.unknown += len;
        appending.time = time;
        Some(offset)
    }

    /// Has the tree know of all appends.
    fn learn(&mut self) {
        let Some(appending) = &mut self.appending else { return };
        let Appending { ino, end, place, time, unknown: len, .. } = *appending;
        if len == 0 {
            return;
        }
        appending.unknown = 0;
        appending.place.position += len;
        let change = Change::Write { ino, offset: end - len, len, time };
        if let Err(refused) = apply(&mut self.tree, &change, place) {
            // The journal has it: what is in memory must not go on without it.
            self.failure.get_or_insert(refused.doing(|| format!("appending to inode {ino}")));
            self.appending = None;
        }
    }
}
