//! How much of the tree is in memory, and what is let go of when it is too much.

use std::sync::atomic::{AtomicU64, Ordering};

use rfs_core::PageRef;

use super::Shared;

/// A page takes so many times its stored size in memory, about.
const EXPANSION: u64 = 4;

/// What was loaded since something was let go of last.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    bytes: AtomicU64,
}

impl Loaded {
    pub(crate) fn note(&self, page: PageRef) {
        self.bytes.fetch_add(u64::from(page.len) * EXPANSION, Ordering::Relaxed);
    }

    /// Whether so much was loaded that it is time to look what is not needed: not for every page, since looking takes
    /// time in proportion to what is loaded.
    pub(crate) fn is_over(&self, budget: u64) -> bool {
        self.bytes.load(Ordering::Relaxed) > budget / 4
    }
}

impl Shared {
    /// Lets go of the pages that nobody needed since it was done last, if what is loaded and stored takes more than half
    /// of the budget. What was needed stays: so whoever fetches one page after the other has all of them in the end.
    pub(crate) fn make_room(&self) {
        self.loaded.bytes.store(0, Ordering::Relaxed);
        let mut live = self.live.write();
        if live.tree.held().clean as u64 <= self.options.tree_bytes / 2 {
            return;
        }
        live.tree.evict();
        // What these share with the tree would else stay in memory for as long as nothing is committed. What only they
        // hold, to be compared with the tree, they keep.
        if let Some(base) = &mut self.image.lock().base {
            base.evict();
        }
        if let Ok(mut publisher) = self.publisher.try_lock()
            && let Some(committer) = &mut *publisher
        {
            committer.tree.evict();
        }
        live.tree.age();
        drop(live);
        self.content.evict();
    }

    /// Frees what takes long to free, as the nodes of a tree do: beside the runtime's tasks, unless the volume keeps to
    /// one thread.
    pub(crate) fn free<T: Send + 'static>(&self, what: T) {
        match self.runtime.as_ref().filter(|_| !self.options.one_thread) {
            Some(runtime) => drop(runtime.spawn_blocking(move || drop(what))),
            None => drop(what),
        }
    }
}
