//! What changed, for those who keep copies of it: a kernel that caches, or a server's clients.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rfs_core::{Change, Ino, Name};
use tokio::sync::Notify;

/// Where a change came from: 0 is the program itself, others are its [`Inodes`](crate::Inodes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) u64);

/// What is not as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Changed {
    /// Attributes, extended ones too, but neither content nor size.
    Attributes(Ino),
    /// Content and attributes; of a directory, what it lists.
    Content(Ino),
    /// What a name in a directory leads to, or whether there is one.
    Entry {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Name,
    },
    /// So much that it is not told one by one: anything may have changed.
    Everything,
}

/// So many marks may wait to be told.
const MARKS_MAX: usize = 1 << 16;

/// Tells what others than one [`Inodes`](crate::Inodes) and its clones change. What changes again before it was told is
/// told once; where more than 65,536 things wait to be told, they become one [`Changed::Everything`].
#[derive(Debug)]
pub struct Watch(Arc<Pending>);

impl Watch {
    /// What changed next, in the order in which it first did. `None` when the volume was closed, or failed, and all was
    /// told.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// let mut watch = volume.inodes().watch();
    /// volume.fs().write("/new", b"1").await?;
    /// let first = watch.next().await;
    /// assert!(matches!(first, Some(rfs::Changed::Entry { dir: rfs::Ino::ROOT, .. })));
    /// # volume.close().await }
    /// ```
    pub async fn next(&mut self) -> Option<Changed> {
        loop {
            let woken = self.0.woken.notified();
            {
                let mut queue = self.0.queue.lock();
                if let Some(next) = queue.order.pop_front() {
                    queue.marked.remove(&next);
                    return Some(next);
                }
                if queue.ended {
                    return None;
                }
            }
            woken.await;
        }
    }
}

#[derive(Debug, Default)]
struct Pending {
    origin: Origin,
    queue: Mutex<Queue>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Changed>,
    marked: HashSet<Changed>,
    ended: bool,
}

impl Queue {
    fn mark(&mut self, changed: Changed) {
        if self.marked.contains(&Changed::Everything) {
            return;
        }
        if self.order.len() == MARKS_MAX {
            (self.order, self.marked) =
                (VecDeque::from([Changed::Everything]), HashSet::from([Changed::Everything]));
            return;
        }
        if self.marked.insert(changed.clone()) {
            self.order.push_back(changed);
        }
    }
}

/// Those who watch a volume.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    list: Vec<Weak<Pending>>,
    ended: bool,
}

impl Watchers {
    pub(crate) fn add(&mut self, origin: Origin) -> Watch {
        let pending = Arc::new(Pending { origin, ..Pending::default() });
        pending.queue.lock().ended = self.ended;
        self.list.push(Arc::downgrade(&pending));
        Watch(pending)
    }

    /// Whether anybody watches.
    pub(crate) const fn are_there(&self) -> bool {
        !self.list.is_empty()
    }

    /// Marks what `changes` touch, for all but those from whom they came.
    pub(crate) fn note(&mut self, origin: Origin, changes: &[Change]) {
        if self.list.is_empty() {
            return;
        }
        self.list.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            if watcher.origin != origin {
                let mut queue = watcher.queue.lock();
                for change in changes {
                    touched(change, &mut |changed| queue.mark(changed));
                }
                drop(queue);
                watcher.woken.notify_one();
            }
            true
        });
    }

    /// Nothing will change any more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        for watcher in self.list.drain(..).filter_map(|watcher| watcher.upgrade()) {
            watcher.queue.lock().ended = true;
            watcher.woken.notify_one();
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is not as it was before a Change.
fn touched(change: &Change, mark: &mut dyn FnMut(Changed)) {
    let entry = |mark: &mut dyn FnMut(Changed), dir: Ino, name: &Name| {
        mark(Changed::Entry { dir, name: name.clone() });
        mark(Changed::Content(dir));
    };
    match change {
        Change::Create { parent, name, .. } => entry(mark, *parent, name),
        Change::Link { parent, name, ino, .. }
        | Change::Unlink { parent, name, ino, .. }
        | Change::Rmdir { parent, name, ino, .. } => {
            entry(mark, *parent, name);
            mark(Changed::Attributes(*ino));
        }
        Change::Rename { from_parent, from_name, to_parent, to_name, ino, replaced, .. } => {
            entry(mark, *from_parent, from_name);
            entry(mark, *to_parent, to_name);
            mark(Changed::Attributes(*ino));
            if let Some(replaced) = replaced {
                mark(Changed::Attributes(replaced.ino));
            }
        }
        Change::Exchange { first_parent, first_name, first, second_parent, second_name, second, .. } => {
            entry(mark, *first_parent, first_name);
            entry(mark, *second_parent, second_name);
            mark(Changed::Attributes(*first));
            mark(Changed::Attributes(*second));
        }
        Change::Write { ino, .. }
        | Change::Truncate { ino, .. }
        | Change::Punch { ino, .. }
        | Change::Collapse { ino, .. }
        | Change::Insert { ino, .. }
        | Change::Refer { ino, .. }
        | Change::Share { to: ino, .. } => mark(Changed::Content(*ino)),
        Change::SetAttr { ino, .. }
        | Change::SetXattr { ino, .. }
        | Change::RemoveXattr { ino, .. }
        | Change::Access { ino, .. } => mark(Changed::Attributes(*ino)),
        Change::Rewind { .. } => mark(Changed::Everything),
        _ => {}
    }
}
