//! The model's locks.

use rfs_core::{Errno, LockMode, LockRange};

use super::{ModelFs, Outcome};
use crate::{Slot, Value};

/// A range of bytes that a handle has locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangeLock {
    pub(super) handle: u64,
    range: LockRange,
    mode: LockMode,
}

impl ModelFs {
    pub(super) fn lock_file(&mut self, slot: Slot, mode: LockMode) -> Outcome {
        let handle = *self.handle(slot)?;
        let loses = self.rules.failed_lock_change_loses_lock;
        let locks = &mut self.node_mut(handle.node).locks;
        if locks.get(&handle.id) == Some(&mode) {
            return Ok(Value::Unit);
        }
        let conflict = |(id, held): (&u64, &LockMode)| {
            *id != handle.id && (mode == LockMode::Exclusive || *held == LockMode::Exclusive)
        };
        if locks.iter().any(conflict) {
            if loses {
                locks.remove(&handle.id);
            }
            return Err(Errno::WouldBlock);
        }
        locks.insert(handle.id, mode);
        Ok(Value::Unit)
    }

    pub(super) fn unlock_file(&mut self, slot: Slot) -> Outcome {
        let handle = *self.handle(slot)?;
        self.node_mut(handle.node).locks.remove(&handle.id);
        Ok(Value::Unit)
    }

    pub(super) fn lock_range(&mut self, slot: Slot, range: LockRange, mode: LockMode) -> Outcome {
        let handle = *self.handle(slot)?;
        let allowed = if mode == LockMode::Shared { handle.access.read } else { handle.access.write };
        if !allowed {
            return Err(Errno::BadHandle);
        }
        if self.is_in_the_way(slot, range, mode)? {
            return Err(Errno::WouldBlock);
        }
        self.unlock_range(slot, range)?;
        let lock = RangeLock { handle: handle.id, range, mode };
        self.node_mut(handle.node).range_locks.push(lock);
        Ok(Value::Unit)
    }

    /// Cuts the range out of what the handle holds.
    pub(super) fn unlock_range(&mut self, slot: Slot, range: LockRange) -> Outcome {
        let handle = *self.handle(slot)?;
        let held = std::mem::take(&mut self.node_mut(handle.node).range_locks);
        for lock in held {
            if lock.handle != handle.id {
                self.node_mut(handle.node).range_locks.push(lock);
                continue;
            }
            let before = LockRange::new(lock.range.start, lock.range.end.min(range.start));
            let behind = LockRange::new(lock.range.start.max(range.end), lock.range.end);
            let kept = [before, behind].into_iter().flatten().map(|range| RangeLock { range, ..lock });
            self.node_mut(handle.node).range_locks.extend(kept);
        }
        Ok(Value::Unit)
    }

    pub(super) fn get_lock(&self, slot: Slot, range: LockRange, mode: LockMode) -> Outcome {
        self.is_in_the_way(slot, range, mode).map(Value::Truth)
    }

    fn is_in_the_way(&self, slot: Slot, range: LockRange, mode: LockMode) -> Result<bool, Errno> {
        let handle = self.handle(slot)?;
        Ok(self.node(handle.node).range_locks.iter().any(|lock| {
            let one_is_exclusive = mode == LockMode::Exclusive || lock.mode == LockMode::Exclusive;
            lock.handle != handle.id && lock.range.overlaps(&range) && one_is_exclusive
        }))
    }
}
