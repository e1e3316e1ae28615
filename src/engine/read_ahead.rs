//! Finds out who reads a file from front to back, and fetches what comes next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rfs_core::{Fault, Ino, Place};

use super::Shared;

/// How far ahead of a reader is fetched, in bytes; no more than a quarter of the memory for content.
const WINDOW: u64 = 8 << 20;
/// How many readers are known at a time.
const READERS: usize = 32;
/// How many stretches are fetched at a time: while the last frames of one are on their way, the next one begins.
const STRETCHES: usize = 2;
/// How many frames of a stretch are fetched at a time.
const FETCHES: usize = 8;

/// Who reads the files of a volume from front to back.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    /// The one that read last is the last.
    readers: Mutex<VecDeque<Reader>>,
    /// How many stretches are fetched ahead: what bounds them.
    running: AtomicUsize,
}

#[derive(Debug)]
struct Reader {
    ino: Ino,
    /// Where the next read begins if it goes on.
    end: u64,
    /// Up to where it was fetched ahead.
    fetched: u64,
}

impl ReadAhead {
    /// Notes what was read, and says what is to be fetched ahead.
    fn note(&self, ino: Ino, read: Range<u64>, window: u64) -> Option<Range<u64>> {
        let mut readers = self.readers.lock();
        let known = readers.iter().position(|reader| (reader.ino, reader.end) == (ino, read.start));
        let Some(mut reader) = known.and_then(|at| readers.remove(at)) else {
            if readers.len() == READERS {
                readers.pop_front();
            }
            readers.push_back(Reader { ino, end: read.end, fetched: read.end });
            return None;
        };
        reader.end = read.end;
        let next = reader.fetched.max(read.end)..read.end.saturating_add(window);
        // Not a little at each read.
        let due = next.end.saturating_sub(next.start) >= window / 2 && self.begin();
        if due {
            reader.fetched = next.end;
        }
        readers.push_back(reader);
        due.then_some(next)
    }

    /// Begins to fetch a stretch, unless there are enough under way.
    fn begin(&self) -> bool {
        let more = |running| (running < STRETCHES).then_some(running + 1);
        self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

impl Shared {
    /// Somebody read this: what comes next is fetched, if it looks as if that were read, too.
    pub(crate) fn read_ahead(self: &Arc<Self>, ino: Ino, read: Range<u64>) {
        let window = WINDOW.min(self.options.memory_bytes / 4);
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.options.one_thread) else { return };
        if read.is_empty() || window == 0 {
            return;
        }
        if let Some(next) = self.ahead.note(ino, read, window) {
            let running = Running(Arc::clone(self));
            runtime.spawn(async move { running.0.fetch_ahead(ino, next).await });
        }
    }

    /// What cannot be fetched is whoever's business who reads it.
    async fn fetch_ahead(&self, ino: Ino, range: Range<u64>) {
        let Some(places) = self.places(ino, range).await else { return };
        let open = places.into_iter().take_while(|_| !self.closing.load(Ordering::Acquire));
        let fetches = open.map(|place| async move { drop(self.content.read_ahead(place).await) });
        stream::iter(fetches).buffered(FETCHES).for_each(|()| async {}).await;
    }

    async fn places(&self, ino: Ino, range: Range<u64>) -> Option<Vec<Place>> {
        loop {
            let found = {
                let live = self.live.read();
                live.usable().ok()?;
                live.tree.file_ranges(ino, range.clone())
            };
            match found {
                Ok(runs) => return Some(runs.into_iter().filter_map(|run| run.place).collect()),
                Err(Fault::Missing(missing)) => self.load(&missing).await.ok()?,
                Err(Fault::Errno(_)) => return None,
            }
        }
    }
}

/// However it ends, something else may be fetched ahead then.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ahead.running.fetch_sub(1, Ordering::AcqRel);
    }
}
