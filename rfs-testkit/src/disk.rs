//! A disk in memory that keeps apart what was written and what was synced, and can lose the difference.
//!
//! What survives a loss of power, as [`SimDisk::after_power_loss`] decides it by a seed:
//! - Every sector holds what was last synced, or anything written to it since: each sector for itself, in no order.
//! - A file has its synced length, or any length it had since.
//! - A name made, moved or removed since the last sync of the directory has, or has not, come to be: each change for
//!   itself. A rename happens whole or not at all.
//! - After a sync that failed, nobody knows what it reached, and a later sync does not make up for it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;
use rfs_journal::{Disk, DiskFile};

use crate::crash::Verdict;
use crate::{CrashPlan, CrashSide, Rng};

/// Bytes of the unit that a disk writes whole.
pub const SECTOR_LEN: usize = 512;

/// A disk for tests. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    plan: CrashPlan,
    state: Arc<Mutex<State>>,
}

/// How often a disk was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of the directory.
    pub dir_syncs: u64,
    /// Reads.
    pub reads: u64,
}

type FileId = u64;

#[derive(Clone, Debug, Default)]
struct State {
    names: BTreeMap<String, FileId>,
    certain_names: BTreeMap<String, FileId>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<FileId, FileState>,
    next_id: FileId,
    counts: DiskCounts,
    capacity_bytes: Option<u64>,
    failing_sync: Option<u64>,
    failing_write: Option<u64>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Made(String, FileId),
    Renamed(String, String, FileId),
    Removed(String, FileId),
}

#[derive(Clone, Debug, Default)]
struct FileState {
    /// As a reader sees it.
    written: Vec<u8>,
    synced: Vec<u8>,
    /// What was written to a sector since the last sync, oldest first.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The lengths that the file had since the last sync.
    unsynced_lens: Vec<usize>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(plan: CrashPlan) -> Self {
        Self { plan, state: Arc::default() }
    }

    /// The disk as it is found after its power was lost, with a plan of its own. This one stays as it is.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64, plan: CrashPlan) -> Self {
        let mut rng = Rng::new(seed);
        let mut state = self.state.lock().clone();
        state.lose_power(&mut rng);
        Self { plan, state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as it is found after the process died and the machine lived on: all that was written is there.
    #[must_use]
    pub fn after_kill(&self, plan: CrashPlan) -> Self {
        Self { plan, state: Arc::new(Mutex::new(self.state.lock().clone())) }
    }

    /// How often it was asked, since it was made.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.state.lock().counts
    }

    /// From now on all files together may have so many bytes; a write that needs more fails with `StorageFull`
    /// after it wrote what fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// The file sync after `skip` more ones fails.
    pub fn fail_sync(&self, skip: u64) {
        self.state.lock().failing_sync = Some(skip);
    }

    /// The write after `skip` more ones fails without an effect.
    pub fn fail_write(&self, skip: u64) {
        self.state.lock().failing_write = Some(skip);
    }

    /// All names, those in subdirectories included.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// The content of a file as a reader sees it.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(name).map(|id| state.files[id].written.clone())
    }

    /// Makes a file that is on the disk for certain, name and all.
    pub fn set_content(&self, name: &str, content: &[u8]) {
        let mut state = self.state.lock();
        let id = state.fresh_id();
        let file = FileState { written: content.to_vec(), synced: content.to_vec(), ..FileState::default() };
        state.files.insert(id, file);
        state.names.insert(name.to_owned(), id);
        state.certain_names.insert(name.to_owned(), id);
    }

    /// Flips one bit on the disk. Bit 0 is the lowest of the first byte.
    ///
    /// # Panics
    /// When there is no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        self.state.lock().damage(name, |content| content[(bit / 8) as usize] ^= 1 << (bit % 8));
    }

    /// Cuts a file off.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, name: &str, len: usize) {
        self.state.lock().damage(name, |content| content.truncate(len));
    }

    fn enter(&self, what: impl FnOnce() -> String) -> io::Result<Option<(CrashSide, Rng)>> {
        match self.plan.enter(what) {
            Verdict::Run => Ok(None),
            Verdict::Crash(side, rng) => Ok(Some((side, rng))),
            Verdict::Dead => Err(dead()),
        }
    }

    /// A call that can't be done in part.
    fn whole(
        &self,
        what: impl FnOnce() -> String,
        act: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.enter(what)? {
            None => act(&mut self.state.lock()),
            Some((side, mut rng)) => {
                if side == CrashSide::After || side == CrashSide::Partly && rng.chance(50) {
                    // The crash hides whether it went well.
                    _ = act(&mut self.state.lock());
                }
                Err(dead())
            }
        }
    }

    fn look<T>(&self, look: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        if self.plan.crashed() { Err(dead()) } else { look(&mut self.state.lock()) }
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let found = self.look(|state| Ok(state.names.get(name).copied()))?;
        let id = match found {
            Some(id) => id,
            None if !create => return Err(missing(name)),
            None => {
                let mut made = 0;
                self.whole(
                    || format!("make {name}"),
                    |state| {
                        made = state.fresh_id();
                        state.files.insert(made, FileState::default());
                        state.names.insert(name.to_owned(), made);
                        state.name_changes.push(NameChange::Made(name.to_owned(), made));
                        Ok(())
                    },
                )?;
                made
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), name: name.to_owned(), id }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let top = |name: &&String| !name.contains('/');
        self.look(|state| Ok(state.names.keys().filter(top).cloned().collect()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole(
            || format!("rename {from} to {to}"),
            |state| {
                let id = state.names.remove(from).ok_or_else(|| missing(from))?;
                state.names.insert(to.to_owned(), id);
                state.name_changes.push(NameChange::Renamed(from.to_owned(), to.to_owned(), id));
                Ok(())
            },
        )
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.whole(
            || format!("remove {name}"),
            |state| {
                let id = state.names.remove(name).ok_or_else(|| missing(name))?;
                state.name_changes.push(NameChange::Removed(name.to_owned(), id));
                Ok(())
            },
        )
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.whole(
            || "sync directory".to_owned(),
            |state| {
                state.counts.dir_syncs += 1;
                state.certain_names = state.names.clone();
                state.name_changes.clear();
                Ok(())
            },
        )
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    name: String,
    id: FileId,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.look(|state| {
            state.counts.reads += 1;
            let content = &state.files[&self.id].written;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let len = buffer.len().min(content.len() - start);
            buffer[..len].copy_from_slice(&content[start..start + len]);
            Ok(len)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
        let crash =
            self.disk.enter(|| format!("write {} bytes at {offset} of {}", bytes.len(), self.name))?;
        let mut state = self.disk.state.lock();
        let Some((side, mut rng)) = crash else {
            state.counts.writes += 1;
            state.counts.bytes_written += bytes.len() as u64;
            if count_down(&mut state.failing_write) {
                return Err(io::Error::other("injected write error"));
            }
            let room = state.room_for(self.id, offset);
            state.file(self.id).write(offset, &bytes[..bytes.len().min(room)], |_| true);
            return if room < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) };
        };
        match side {
            CrashSide::Before => {}
            CrashSide::After => state.file(self.id).write(offset, bytes, |_| true),
            CrashSide::Partly => state.file(self.id).write(offset, bytes, |_| rng.chance(50)),
        }
        Err(dead())
    }

    fn sync_data(&self) -> io::Result<()> {
        let crash = self.disk.enter(|| format!("sync {}", self.name))?;
        let mut state = self.disk.state.lock();
        let Some((side, mut rng)) = crash else {
            state.counts.syncs += 1;
            if count_down(&mut state.failing_sync) {
                // As if the system had dropped the pages: no later sync writes them.
                let mut rng = Rng::new(state.counts.syncs);
                state.file(self.id).sync(|_| rng.chance(50));
                state.file(self.id).forget_unsynced();
                return Err(io::Error::other("injected sync error"));
            }
            state.file(self.id).sync(|_| true);
            return Ok(());
        };
        match side {
            CrashSide::Before => {}
            CrashSide::After => state.file(self.id).sync(|_| true),
            CrashSide::Partly => state.file(self.id).sync(|_| rng.chance(50)),
        }
        Err(dead())
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.files[&self.id].written.len() as u64))
    }
}

impl State {
    fn fresh_id(&mut self) -> FileId {
        self.next_id += 1;
        self.next_id
    }

    fn file(&mut self, id: FileId) -> &mut FileState {
        self.files.get_mut(&id).expect("files outlive their names")
    }

    /// How many bytes may be written at `offset`.
    fn room_for(&self, id: FileId, offset: usize) -> usize {
        let Some(capacity) = self.capacity_bytes else { return usize::MAX };
        let used: usize = self.names.values().map(|id| self.files[id].written.len()).sum();
        let own = self.files[&id].written.len();
        let free = usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(used);
        (own + free).saturating_sub(offset)
    }

    fn damage(&mut self, name: &str, damage: impl Fn(&mut Vec<u8>)) {
        let id = self.names[name];
        let file = self.file(id);
        damage(&mut file.written);
        file.synced.clone_from(&file.written);
        file.unsynced.clear();
        file.unsynced_lens.clear();
    }

    fn lose_power(&mut self, rng: &mut Rng) {
        self.names.clone_from(&self.certain_names);
        for change in std::mem::take(&mut self.name_changes) {
            if rng.chance(50) {
                continue;
            }
            match change {
                NameChange::Made(name, id) => _ = self.names.insert(name, id),
                NameChange::Removed(name, id) => self.drop_name(&name, id),
                NameChange::Renamed(from, to, id) => {
                    self.drop_name(&from, id);
                    self.names.insert(to, id);
                }
            }
        }
        self.certain_names.clone_from(&self.names);
        for file in self.files.values_mut() {
            file.lose_power(rng);
        }
    }

    fn drop_name(&mut self, name: &str, id: FileId) {
        if self.names.get(name) == Some(&id) {
            self.names.remove(name);
        }
    }
}

impl FileState {
    /// Writes those sectors of `bytes` that `reaches` says.
    fn write(&mut self, offset: usize, bytes: &[u8], mut reaches: impl FnMut(usize) -> bool) {
        let end = offset + bytes.len();
        if !bytes.is_empty() && end > self.written.len() {
            self.written.resize(end, 0);
            self.unsynced_lens.push(end);
        }
        let mut at = offset;
        while at < end {
            let sector = at / SECTOR_LEN;
            let stop = end.min((sector + 1) * SECTOR_LEN);
            if reaches(sector) {
                self.written[at..stop].copy_from_slice(&bytes[at - offset..stop - offset]);
                let version = sector_of(&self.written, sector);
                self.unsynced.entry(sector).or_default().push(version);
            }
            at = stop;
        }
    }

    /// Makes those unsynced sectors certain that `reaches` says, and the length once every sector is.
    fn sync(&mut self, mut reaches: impl FnMut(usize) -> bool) {
        let unsynced = std::mem::take(&mut self.unsynced);
        for (sector, versions) in unsynced {
            if reaches(sector) {
                let version = versions.last().expect("an unsynced sector was written");
                put_sector(&mut self.synced, sector, version);
            } else {
                self.unsynced.insert(sector, versions);
            }
        }
        if self.unsynced.is_empty() {
            self.synced.resize(self.written.len(), 0);
            self.unsynced_lens.clear();
        }
    }

    /// Nothing of what is not certain now becomes certain by a later sync.
    fn forget_unsynced(&mut self) {
        self.unsynced.clear();
        self.unsynced_lens.clear();
    }

    fn lose_power(&mut self, rng: &mut Rng) {
        let mut content = std::mem::take(&mut self.synced);
        let lens = std::mem::take(&mut self.unsynced_lens);
        let len = match rng.index(lens.len() + 1) {
            0 => content.len(),
            choice => lens[choice - 1],
        };
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            if let Some(survivor) = rng.index(versions.len() + 1).checked_sub(1) {
                put_sector(&mut content, sector, &versions[survivor]);
            }
        }
        content.resize(len, 0);
        self.written.clone_from(&content);
        self.synced = content;
    }
}

/// A sector as the disk holds it; what is past the end of the content is not there.
fn sector_of(content: &[u8], sector: usize) -> Vec<u8> {
    content[sector * SECTOR_LEN..content.len().min((sector + 1) * SECTOR_LEN)].to_vec()
}

fn put_sector(content: &mut Vec<u8>, sector: usize, version: &[u8]) {
    let start = sector * SECTOR_LEN;
    if content.len() < start + version.len() {
        content.resize(start + version.len(), 0);
    }
    content[start..start + version.len()].copy_from_slice(version);
}

/// Whether this is the call that was waited for.
fn count_down(skip: &mut Option<u64>) -> bool {
    match skip {
        Some(0) => {
            *skip = None;
            true
        }
        Some(more) => {
            *more -= 1;
            false
        }
        None => false,
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

fn missing(name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("no file {name}"))
}
