//! Waiting for locks. Who would wait for ever is told so before it waits.

use std::collections::HashSet;

use parking_lot::Mutex;
use rfs_core::{Errno, Ino, LockMode, LockOwner, LockRange, Op, Tree};

use super::Shared;
use super::live::Refused;

/// A lock that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockRequest {
    pub(crate) ino: Ino,
    pub(crate) owner: LockOwner,
    pub(crate) wanted: Wanted,
}

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    File(LockMode),
    Range(LockRange, LockMode),
}

impl LockRequest {
    /// What takes the lock without waiting.
    pub(crate) const fn op(&self) -> Op {
        let Self { ino, owner, wanted } = *self;
        match wanted {
            Wanted::File(mode) => Op::LockFile { ino, owner, mode },
            Wanted::Range(range, mode) => Op::LockRange { ino, owner, range, mode },
        }
    }

    /// Who holds what is in its way.
    fn blockers(&self, tree: &Tree) -> Vec<LockOwner> {
        let conflicts =
            |held: LockMode, wanted: LockMode| held == LockMode::Exclusive || wanted == LockMode::Exclusive;
        let holders: Vec<LockOwner> = match self.wanted {
            Wanted::File(mode) => {
                let held = tree.file_locks(self.ino).filter(|(_, held)| conflicts(*held, mode));
                held.map(|(owner, _)| owner).collect()
            }
            Wanted::Range(range, mode) => {
                let held = tree.range_locks(self.ino);
                let held = held.filter(|held| held.range.overlaps(&range) && conflicts(held.mode, mode));
                held.map(|held| held.owner).collect()
            }
        };
        holders.into_iter().filter(|owner| *owner != self.owner).collect()
    }
}

/// Who waits for which lock: the edges of the graph in which a circle is a deadlock.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Vec<LockRequest>>);

impl Waits {
    /// Notes that somebody waits, for as long as what it returns lives.
    ///
    /// A circle has a last one to close it: whoever begins to wait, or was woken by a lock that changed hands, comes
    /// through here and sees all others that wait. `EDEADLK` then.
    fn enter(&self, tree: &Tree, request: LockRequest) -> Result<Waiting<'_>, Errno> {
        let mut waiting = self.0.lock();
        let mut seen = HashSet::new();
        let mut blockers = request.blockers(tree);
        while let Some(owner) = blockers.pop() {
            if owner == request.owner {
                return Err(Errno::Deadlock);
            }
            if seen.insert(owner) {
                let of_owner = waiting.iter().filter(|other| other.owner == owner);
                blockers.extend(of_owner.flat_map(|other| other.blockers(tree)));
            }
        }
        waiting.push(request);
        Ok(Waiting { waits: self, request })
    }
}

struct Waiting<'a> {
    waits: &'a Waits,
    request: LockRequest,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waits.0.lock();
        if let Some(at) = waiting.iter().position(|request| *request == self.request) {
            waiting.swap_remove(at);
        }
    }
}

impl Shared {
    /// Takes a lock, or waits until it can be taken. A whole-file lock in another mode is given up first, as flock(2)
    /// does: two that share it and both want to be alone would wait for ever.
    pub(crate) async fn lock(&self, request: LockRequest) -> Result<(), Refused> {
        loop {
            let changed = self.locks_changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before the try, so that no release falls between the two.
            changed.as_mut().enable();
            match self.change(|live| live.run(self.itself(), &request.op(), &[])) {
                Err(Refused::Posix(Errno::WouldBlock)) => {}
                taken => return taken.map(drop),
            }
            let LockRequest { ino, owner, wanted } = request;
            if matches!(wanted, Wanted::File(_)) {
                self.change(|live| live.run(self.itself(), &Op::UnlockFile { ino, owner }, &[]))?;
            }
            let waiting = self.waits.enter(&self.live.read().tree, request)?;
            changed.await;
            drop(waiting);
        }
    }
}
