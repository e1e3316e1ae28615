//! What the kernel holds: which inodes it knows, and how often they are open.

use std::collections::HashMap;

use parking_lot::Mutex;
use rfs::{Attr, Ino, Kind};

const SHARDS: usize = 64;

/// Counts what the kernel holds of each inode, as it counts itself.
#[derive(Debug)]
pub(crate) struct Known {
    shards: [Shard; SHARDS],
}

impl Default for Known {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

type Shard = Mutex<HashMap<Ino, Entry>>;

#[derive(Debug, Default)]
struct Entry {
    /// Answers that named the inode, and were not forgotten.
    lookups: u64,
    /// Handles.
    opens: u64,
    /// Handles among them that can write.
    writers: u64,
    /// The last attributes of an inode that is gone from the volume, or will be as soon as it is closed, while the
    /// kernel still names it: a working directory that was removed, a pipe without a name.
    ghost: Option<Box<Attr>>,
}

impl Known {
    /// The kernel is told of an inode.
    pub(crate) fn told(&self, ino: Ino) {
        self.shard(ino).lock().entry(ino).or_default().lookups += 1;
    }

    /// The kernel forgets so many answers.
    pub(crate) fn forgotten(&self, ino: Ino, lookups: u64) {
        let mut shard = self.shard(ino).lock();
        if let Some(entry) = shard.get_mut(&ino) {
            entry.lookups = entry.lookups.saturating_sub(lookups);
            if entry.lookups == 0 && entry.opens == 0 {
                shard.remove(&ino);
            }
        }
    }

    pub(crate) fn opened(&self, ino: Ino, to_write: bool) {
        let mut shard = self.shard(ino).lock();
        let entry = shard.entry(ino).or_default();
        entry.opens += 1;
        entry.writers += u64::from(to_write);
    }

    /// A handle was closed; `false` when there was none.
    pub(crate) fn closed(&self, ino: Ino, to_write: bool) -> bool {
        let mut shard = self.shard(ino).lock();
        let Some(entry) = shard.get_mut(&ino).filter(|entry| entry.opens > 0) else { return false };
        entry.opens -= 1;
        entry.writers = entry.writers.saturating_sub(u64::from(to_write));
        if entry.lookups == 0 && entry.opens == 0 {
            shard.remove(&ino);
        }
        true
    }

    /// Whether the kernel may hold content of a file that was not written yet. It does not beyond the last handle that
    /// can write, or the last mapping made by it.
    pub(crate) fn may_be_dirty(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get(&ino).is_some_and(|entry| entry.writers > 0)
    }

    /// All of which [`may_be_dirty`](Self::may_be_dirty) is true.
    pub(crate) fn may_all_be_dirty(&self) -> Vec<Ino> {
        let written = |shard: &Shard| {
            let shard = shard.lock();
            shard.iter().filter(|(_, entry)| entry.writers > 0).map(|(ino, _)| *ino).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(written).collect()
    }

    /// An inode has lost its last name; what was last known of it stays until the kernel forgets it.
    pub(crate) fn gone(&self, last: Attr) {
        if let Some(entry) = self.shard(last.ino).lock().get_mut(&last.ino) {
            entry.ghost = Some(Box::new(last));
        }
    }

    pub(crate) fn ghost(&self, ino: Ino) -> Option<Attr> {
        self.shard(ino).lock().get(&ino)?.ghost.as_deref().copied()
    }

    /// Whether it is a directory that is gone, and that the kernel still names.
    pub(crate) fn is_removed_dir(&self, ino: Ino) -> bool {
        self.ghost(ino).is_some_and(|ghost| ghost.kind == Kind::Directory)
    }

    /// Changes the attributes of an inode that is gone.
    pub(crate) fn change_ghost(&self, ino: Ino, change: impl FnOnce(&mut Attr)) -> Option<Attr> {
        let mut shard = self.shard(ino).lock();
        let ghost = shard.get_mut(&ino)?.ghost.as_deref_mut()?;
        change(ghost);
        Some(*ghost)
    }

    /// All inodes that the kernel knows.
    pub(crate) fn all(&self) -> Vec<Ino> {
        self.shards.iter().flat_map(|shard| shard.lock().keys().copied().collect::<Vec<_>>()).collect()
    }

    /// Forgets everything. Gives each inode that was open, as often as it was.
    pub(crate) fn clear(&self) -> Vec<(Ino, u64)> {
        let shards = self.shards.iter();
        let entries = shards.flat_map(|shard| std::mem::take(&mut *shard.lock()));
        entries.filter(|(_, entry)| entry.opens > 0).map(|(ino, entry)| (ino, entry.opens)).collect()
    }

    fn shard(&self, ino: Ino) -> &Shard {
        &self.shards[ino.0 as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use rfs::Times;

    use super::*;

    fn attr(ino: Ino) -> Attr {
        Attr {
            ino,
            kind: Kind::Fifo,
            mode: 0o600,
            uid: 0,
            gid: 0,
            nlink: 0,
            size: 0,
            allocated: 0,
            device: 0,
            times: Times::default(),
        }
    }

    #[test]
    fn a_ghost_lives_until_the_kernel_forgets_it() {
        let (known, ino) = (Known::default(), Ino(7));
        known.gone(attr(ino));
        assert_eq!(known.ghost(ino), None, "the kernel does not know it");
        known.told(ino);
        known.told(ino);
        known.gone(attr(ino));
        known.forgotten(ino, 1);
        assert_eq!(known.change_ghost(ino, |attr| attr.mode = 0o644).map(|attr| attr.mode), Some(0o644));
        known.forgotten(ino, 1);
        assert_eq!(known.ghost(ino), None);
        assert_eq!(known.all(), []);
    }

    #[test]
    fn handles_are_counted_apart_from_answers() {
        let (known, ino) = (Known::default(), Ino(7));
        known.told(ino);
        known.opened(ino, true);
        known.opened(ino, false);
        known.forgotten(ino, 5);
        known.opened(Ino(8), false);
        assert!(known.may_be_dirty(ino) && !known.may_be_dirty(Ino(8)));
        assert_eq!(known.may_all_be_dirty(), [ino]);
        assert!(known.closed(ino, true));
        assert!(!known.may_be_dirty(ino));
        assert!(known.closed(Ino(8), false));
        assert_eq!(known.clear(), [(ino, 1)]);
        assert!(!known.closed(ino, false));
    }
}
