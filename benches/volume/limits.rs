//! What the disk itself takes, by system calls alone. `cargo xtask race` races against the same.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::{Condvar, Mutex};

/// A file whose blocks were all written before, used from its start again when it is full.
pub(crate) struct Prefilled {
    file: fs::File,
    len: u64,
    at: u64,
}

impl Prefilled {
    /// A new one of so many bytes.
    pub(crate) fn new(path: &Path, len: usize) -> Self {
        let file = fs::File::create(path).expect("the file is made");
        file.write_all_at(&vec![0; len], 0).expect("the disk takes it");
        file.sync_all().expect("the disk takes it");
        Self { file, len: len as u64, at: 0 }
    }

    /// Writes, and syncs what was written.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > self.len {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).expect("the disk takes it");
        self.file.sync_data().expect("the disk takes it");
        self.at += bytes.len() as u64;
    }
}

/// The plainest group commit: who finds nobody syncing writes and syncs all that waits, and wakes the others.
pub(crate) struct GroupCommit {
    queue: Mutex<Queue>,
    /// Held by who syncs only.
    file: Mutex<Prefilled>,
    synced: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    appended: u64,
    durable: u64,
    syncing: bool,
}

impl GroupCommit {
    /// With a new file of so many bytes.
    pub(crate) fn new(path: &Path, len: usize) -> Self {
        Self { queue: Mutex::default(), file: Mutex::new(Prefilled::new(path, len)), synced: Condvar::new() }
    }

    /// Appends; the record is on the disk when it returns.
    pub(crate) fn append(&self, record: &[u8]) {
        let mut queue = self.queue.lock();
        queue.waiting.extend_from_slice(record);
        queue.appended += 1;
        let mine = queue.appended;
        while queue.durable < mine {
            if queue.syncing {
                self.synced.wait(&mut queue);
                continue;
            }
            queue.syncing = true;
            let (bytes, upto) = (std::mem::take(&mut queue.waiting), queue.appended);
            drop(queue);
            self.file.lock().append(&bytes);
            queue = self.queue.lock();
            (queue.durable, queue.syncing) = (upto, false);
            self.synced.notify_all();
        }
    }
}
