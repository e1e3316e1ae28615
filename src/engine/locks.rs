//! Waiting for locks. Who would wait for ever is told so before it waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rfs_core::{Change, Errno, Ino, LockMode, LockOwner, LockRange, Op, Tree};
use tokio::sync::Notify;

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

/// Where locks changed.
#[derive(Debug, Default)]
pub(crate) struct LocksChanged {
    /// Somebody may get a lock now.
    released: Vec<Ino>,
    /// Somebody got a lock: who waits may now wait for them too.
    granted: Vec<(Ino, LockOwner)>,
    everywhere: bool,
}

impl LocksChanged {
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::UnlockFile { ino, .. } | Change::UnlockRange { ino, .. } | Change::Reap { ino } => {
                self.released.push(*ino);
            }
            // It may have been an exclusive one before.
            Change::LockFile { ino, mode: LockMode::Shared, .. }
            | Change::LockRange { ino, mode: LockMode::Shared, .. } => self.released.push(*ino),
            Change::LockFile { ino, owner, .. } | Change::LockRange { ino, owner, .. } => {
                self.granted.push((*ino, *owner));
            }
            Change::EndOwner { .. } => self.everywhere = true,
            _ => {}
        }
    }

    const fn is_empty(&self) -> bool {
        self.released.is_empty() && self.granted.is_empty() && !self.everywhere
    }
}

/// Who waits for which lock.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    /// What wakes those who wait on an inode, and how many they are.
    inodes: BTreeMap<Ino, (Arc<Notify>, usize)>,
    /// The edges of the graph in which a circle is a deadlock, by who waits.
    requests: HashMap<LockOwner, Vec<LockRequest>>,
}

impl Waits {
    /// Wakes those who wait where locks changed.
    pub(crate) fn wake(&self, changed: &LocksChanged) {
        if changed.is_empty() {
            return;
        }
        let waiters = self.0.lock();
        let woken: Vec<Arc<Notify>> = if changed.everywhere {
            waiters.inodes.values().map(|(notify, _)| Arc::clone(notify)).collect()
        } else {
            // A grant closes a circle only if whom it was given to waits as well.
            let granted = changed.granted.iter().filter(|(_, owner)| waiters.requests.contains_key(owner));
            let inodes = changed.released.iter().chain(granted.map(|(ino, _)| ino));
            let watched = inodes.filter_map(|ino| waiters.inodes.get(ino));
            watched.map(|(notify, _)| Arc::clone(notify)).collect()
        };
        drop(waiters);
        for notify in woken {
            notify.notify_waiters();
        }
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        self.wake(&LocksChanged { everywhere: true, ..LocksChanged::default() });
    }

    /// What wakes those who wait on an inode.
    fn watch(&self, ino: Ino) -> Watching<'_> {
        let mut waiters = self.0.lock();
        let (notify, count) = waiters.inodes.entry(ino).or_default();
        *count += 1;
        Watching { waits: self, ino, notify: Arc::clone(notify) }
    }

    /// Notes that somebody waits, for as long as what it returns lives.
    ///
    /// A circle has a last one to close it: whoever begins to wait, or was woken by a lock that was released or given to
    /// one who waits, comes through here and sees all others that wait. `EDEADLK` then.
    fn enter(&self, tree: &Tree, request: LockRequest) -> Result<Waiting<'_>, Errno> {
        let mut waiters = self.0.lock();
        let mut seen = HashSet::new();
        let mut blockers = request.blockers(tree);
        while let Some(owner) = blockers.pop() {
            if owner == request.owner {
                return Err(Errno::Deadlock);
            }
            if seen.insert(owner) {
                let of_owner = waiters.requests.get(&owner).into_iter().flatten();
                blockers.extend(of_owner.flat_map(|other| other.blockers(tree)));
            }
        }
        waiters.requests.entry(request.owner).or_default().push(request);
        Ok(Waiting { waits: self, request })
    }
}

struct Watching<'a> {
    waits: &'a Waits,
    ino: Ino,
    notify: Arc<Notify>,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let mut waiters = self.waits.0.lock();
        if let Some((_, count)) = waiters.inodes.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                waiters.inodes.remove(&self.ino);
            }
        }
    }
}

struct Waiting<'a> {
    waits: &'a Waits,
    request: LockRequest,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiters = self.waits.0.lock();
        if let Some(requests) = waiters.requests.get_mut(&self.request.owner) {
            if let Some(at) = requests.iter().position(|request| *request == self.request) {
                requests.swap_remove(at);
            }
            if requests.is_empty() {
                waiters.requests.remove(&self.request.owner);
            }
        }
    }
}

impl Shared {
    /// Takes a lock, or waits until it can be taken. A whole-file lock in another mode is given up first, as flock(2)
    /// does: two that share it and both want to be alone would wait for ever.
    pub(crate) async fn lock(&self, request: LockRequest) -> Result<(), Refused> {
        let watching = self.waits.watch(request.ino);
        loop {
            let changed = watching.notify.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before the try, so that no release falls between the two.
            changed.as_mut().enable();
            match self.change(|live| live.run(self.itself(), &request.op(), &[])).await {
                Err(Refused::Posix(Errno::WouldBlock)) => {}
                taken => return taken.map(drop),
            }
            let LockRequest { ino, owner, wanted } = request;
            if matches!(wanted, Wanted::File(_)) {
                self.change(|live| live.run(self.itself(), &Op::UnlockFile { ino, owner }, &[])).await?;
            }
            let waiting = self.waits.enter(&self.live.read().tree, request)?;
            changed.await;
            drop(waiting);
        }
    }
}
