//! What is held on the disk: few files, each written from its start to its end, the oldest removed as a whole.
//!
//! Pieces that were used since they were written are copied from a file before it is removed, so what is removed is
//! about what was not used for longest. A file is not written again once another one follows it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rfs_journal::{Disk, DiskFile};

use super::layout::{self, Contents, ObjectId, PieceId};

/// How many full files the budget is for.
const FILES: u64 = 16;
/// Largest file. A larger budget is for more of them.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Smallest size of a full file; with a smaller budget nothing is held.
const FILE_BYTES_MIN: u64 = 4 << 10;
/// Most files beside those that the budget is for: each opening may begin one.
const SHORT_FILES_MAX: u64 = 48;

#[derive(Debug)]
pub(super) struct DiskLevel {
    disk: Arc<dyn Disk>,
    budget: u64,
    /// Size of a full file.
    file_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: BTreeMap<PieceId, Slot>,
    files: BTreeMap<u64, CacheFile>,
    /// The file that is written to; the one with the highest number.
    current: Option<u64>,
    /// Number of the next file.
    next: u64,
    /// Somebody goes on to the next file, or writes a table. Meanwhile pieces that find no room are not kept.
    turning: bool,
}

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    file: u64,
    offset: u32,
    /// Since it was written.
    used: bool,
}

#[derive(Debug)]
struct CacheFile {
    file: Arc<dyn DiskFile>,
    /// Where the next entry goes.
    end: u64,
    /// The file's length, or more.
    bytes: u64,
    /// What was put into it, in order; some of it may be elsewhere by now.
    rows: Vec<(PieceId, u32)>,
    /// Rows, and entries that are being written.
    promised: usize,
    /// Where the last table ends.
    table_end: u64,
}

/// Room for an entry.
struct Place {
    number: u64,
    file: Arc<dyn DiskFile>,
    offset: u32,
}

/// What becomes of a piece that is to be kept.
enum Reserved {
    Place(Place),
    /// It is there, too large, or comes while there is no room.
    Refused,
    /// The caller has to go on to the next file.
    Full,
}

impl DiskLevel {
    /// Takes up what an earlier cache left; none when nothing may be kept, or nothing can be.
    pub(super) fn open(disk: Arc<dyn Disk>, budget: u64) -> Option<Self> {
        let names = match disk.list() {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "the local cache cannot list its directory; it does without the disk");
                return None;
            }
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
        numbers.sort_unstable();
        let file_bytes = (budget / FILES).min(FILE_BYTES_MAX);
        let next = numbers.last().map_or(0, |last| last + 1);
        let level = Self { disk, budget, file_bytes, state: Mutex::new(State { next, ..State::default() }) };
        if file_bytes < FILE_BYTES_MIN {
            for number in numbers {
                level.remove_file(number);
            }
            return None;
        }
        level.take_up(&numbers);
        Some(level)
    }

    fn take_up(&self, numbers: &[u64]) {
        let mut found = Vec::new();
        for &number in numbers {
            let file = self.disk.open(&file_name(number), false);
            match file.and_then(|file| file.len().map(|len| (number, file, len))) {
                Ok((number, _, len)) if len > FILE_BYTES_MAX => _ = self.remove_file(number),
                Ok(file) => found.push(file),
                Err(error) => {
                    tracing::warn!(%error, "the local cache cannot open {}", file_name(number));
                    self.remove_file(number);
                }
            }
        }
        let mut bytes: u64 = found.iter().map(|(.., len)| len).sum();
        let mut count = found.len() as u64;
        let mut state = self.state.lock();
        for (number, file, len) in found {
            // What is over the budget is not even looked at.
            let superfluous = bytes + 2 * self.file_bytes > self.budget || count > self.files_max();
            if superfluous && self.remove_file(number) {
                bytes -= len;
                count -= 1;
                continue;
            }
            let unknown = Contents { rows: Vec::new(), end: None, table_end: 0 };
            let Contents { rows, end, table_end } = if superfluous {
                unknown
            } else {
                layout::read_contents(file.as_ref(), len).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the local cache cannot read {}", file_name(number));
                    unknown
                })
            };
            for &(id, offset) in &rows {
                if id.is_forgotten() {
                    state.forget(id.object);
                } else {
                    state.index.insert(id, Slot { file: number, offset, used: false });
                }
            }
            if end.is_some() && len <= self.file_bytes && numbers.last() == Some(&number) {
                state.current = Some(number);
            }
            let (end, promised) = (end.unwrap_or(len), rows.len());
            state.files.insert(number, CacheFile { file, end, bytes: len, rows, promised, table_end });
        }
    }

    const fn files_max(&self) -> u64 {
        self.budget / self.file_bytes + SHORT_FILES_MAX
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().files.values().map(|file| file.bytes).sum()
    }

    pub(super) fn mark_used(&self, id: &PieceId) {
        if let Some(slot) = self.state.lock().index.get_mut(id) {
            slot.used = true;
        }
    }

    pub(super) fn get(&self, id: &PieceId) -> Option<Bytes> {
        let (slot, file) = {
            let mut state = self.state.lock();
            let slot = state.index.get_mut(id)?;
            slot.used = true;
            let slot = *slot;
            (slot, Arc::clone(&state.files.get(&slot.file)?.file))
        };
        match layout::read_entry(file.as_ref(), id, slot.offset) {
            Ok(Some(bytes)) => return Some(bytes),
            Ok(None) => tracing::warn!("a piece in {} is damaged; it is fetched again", file_name(slot.file)),
            Err(error) => {
                tracing::warn!(%error, "the local cache cannot read {}", file_name(slot.file));
            }
        }
        let mut state = self.state.lock();
        if state.index.get(id).is_some_and(|now| (now.file, now.offset) == (slot.file, slot.offset)) {
            state.index.remove(id);
        }
        None
    }

    pub(super) fn put(&self, id: &PieceId, bytes: &[u8]) {
        let mut reserved = self.reserve(id, false);
        if matches!(reserved, Reserved::Full) {
            self.next_file();
            // Before what is copied takes the room.
            reserved = self.reserve(id, true);
            self.make_room();
            self.state.lock().turning = false;
        }
        if let Reserved::Place(place) = reserved {
            self.write(id, bytes, &place, None);
        }
    }

    pub(super) fn forget(&self, object: ObjectId) {
        if self.state.lock().forget(object) {
            self.put(&PieceId::forgotten(object), &[]);
        }
    }

    /// Writes the table of the current file, unless there is more in it than is new. The next entry goes behind it.
    pub(super) fn flush(&self) {
        if self.start_turning() {
            let worthwhile = {
                let state = self.state.lock();
                let current = state.current.and_then(|number| state.files.get(&number));
                current.is_some_and(|file| file.end - file.table_end > layout::table_len(file.promised))
            };
            if worthwhile {
                self.write_table();
            }
            self.state.lock().turning = false;
        }
    }

    fn start_turning(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().turning, true)
    }

    /// Finds room in the current file. `again`: also for what is there already, and without asking for the next file.
    fn reserve(&self, id: &PieceId, again: bool) -> Reserved {
        let mut state = self.state.lock();
        if id.entry_len() + layout::table_len(1) > self.file_bytes || !again && state.index.contains_key(id) {
            return Reserved::Refused;
        }
        let file_bytes = self.file_bytes;
        let current = state.current;
        if let Some((number, file)) = current.and_then(|number| Some((number, state.files.get_mut(&number)?)))
            && file.end + id.entry_len() + layout::table_len(file.promised + 1) <= file_bytes
            && let Ok(offset) = u32::try_from(file.end)
        {
            file.end += id.entry_len();
            file.bytes = file.bytes.max(file.end);
            file.promised += 1;
            return Reserved::Place(Place { number, file: Arc::clone(&file.file), offset });
        }
        if again || std::mem::replace(&mut state.turning, true) { Reserved::Refused } else { Reserved::Full }
    }

    /// Writes an entry into its place. One that is a copy counts only if the piece still is where it was copied from.
    fn write(&self, id: &PieceId, bytes: &[u8], place: &Place, copy_of: Option<Slot>) {
        let offset = u64::from(place.offset);
        let written = place.file.write_all_at(&layout::encode_entry(id, bytes), offset);
        let mut state = self.state.lock();
        let Some(file) = state.files.get_mut(&place.number) else { return };
        if let Err(error) = written {
            tracing::warn!(%error, "the local cache cannot keep a piece in {}", file_name(place.number));
            file.promised -= 1;
            // If nothing follows it, the next entry takes its place: else whoever walks through the file stops here.
            if file.end == offset + id.entry_len() {
                file.end = offset;
            }
            return;
        }
        file.rows.push((*id, place.offset));
        let moved = copy_of.is_some_and(|from| state.index.get(id) != Some(&from));
        if !id.is_forgotten() && !moved {
            state.index.insert(*id, Slot { file: place.number, offset: place.offset, used: false });
        }
    }

    /// Goes on to the next file. Only one does so at a time.
    fn next_file(&self) {
        self.write_table();
        let number = {
            let mut state = self.state.lock();
            state.current = None;
            let bytes: u64 = state.files.values().map(|file| file.bytes).sum();
            (bytes + self.file_bytes <= self.budget).then_some(state.next)
        };
        if let Some(number) = number {
            match self.disk.open(&file_name(number), true) {
                Ok(file) => {
                    let mut state = self.state.lock();
                    state.next = number + 1;
                    state.current = Some(number);
                    state.files.insert(
                        number,
                        CacheFile { file, end: 0, bytes: 0, rows: Vec::new(), promised: 0, table_end: 0 },
                    );
                }
                Err(error) => tracing::warn!(%error, "the local cache cannot make {}", file_name(number)),
            }
        }
    }

    /// Removes the oldest files, so that there is room for the file after the current one.
    fn make_room(&self) {
        let mut copied = 0;
        while let Some(oldest) = self.superfluous() {
            self.copy_used(oldest, &mut copied);
            if !self.remove(oldest) {
                break;
            }
        }
    }

    /// The oldest file, if it has to go so that the one after the current one has room.
    fn superfluous(&self) -> Option<u64> {
        let state = self.state.lock();
        let current = state.current;
        let full = state.files.iter().filter(|(number, _)| Some(**number) != current);
        let bytes: u64 = full.clone().map(|(_, file)| file.bytes).sum();
        let over = bytes + 2 * self.file_bytes > self.budget || state.files.len() as u64 > self.files_max();
        full.map(|(number, _)| *number).next().filter(|_| over)
    }

    /// Copies what was used of a file to the current one, up to half of that.
    fn copy_used(&self, number: u64, copied: &mut u64) {
        let slot = |offset| Slot { file: number, offset, used: true };
        let (file, used) = {
            let state = self.state.lock();
            let Some(file) = state.files.get(&number) else { return };
            let here = |(id, offset): &&(PieceId, u32)| state.index.get(id) == Some(&slot(*offset));
            (Arc::clone(&file.file), file.rows.iter().filter(here).copied().collect::<Vec<_>>())
        };
        // What was put last is the most likely to be used again.
        for (id, offset) in used.into_iter().rev() {
            if *copied + id.entry_len() > self.file_bytes / 2 {
                return;
            }
            if let Ok(Some(bytes)) = layout::read_entry(file.as_ref(), &id, offset)
                && let Reserved::Place(place) = self.reserve(&id, true)
            {
                self.write(&id, &bytes, &place, Some(slot(offset)));
                *copied += id.entry_len();
            }
        }
    }

    /// Removes a file and what is in it. One that cannot be removed still counts.
    fn remove(&self, number: u64) -> bool {
        {
            let mut state = self.state.lock();
            let State { index, files, .. } = &mut *state;
            let rows = files.get_mut(&number).map(|file| std::mem::take(&mut file.rows)).unwrap_or_default();
            for (id, _) in rows {
                if index.get(&id).is_some_and(|slot| slot.file == number) {
                    index.remove(&id);
                }
            }
        }
        let removed = self.remove_file(number);
        if removed {
            self.state.lock().files.remove(&number);
        }
        removed
    }

    fn remove_file(&self, number: u64) -> bool {
        match self.disk.remove(&file_name(number)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "the local cache cannot remove {}", file_name(number));
                false
            }
            _ => true,
        }
    }

    /// Writes the table of the current file behind its entries. There is room for one.
    fn write_table(&self) {
        let (number, file, at, table) = {
            let mut state = self.state.lock();
            let State { index, files, current, .. } = &mut *state;
            let Some((number, file)) = current.and_then(|number| Some((number, files.get_mut(&number)?)))
            else {
                return;
            };
            let held = |(id, offset): &&(PieceId, u32)| {
                let here = |slot: &Slot| (slot.file, slot.offset) == (number, *offset);
                id.is_forgotten() || index.get(id).is_some_and(here)
            };
            let table = layout::encode_table(&file.rows.iter().filter(held).copied().collect::<Vec<_>>());
            let at = file.end;
            file.end += table.len() as u64;
            file.table_end = file.end;
            file.bytes = file.bytes.max(file.end);
            if file.end + layout::table_len(file.promised) > self.file_bytes {
                // There is none for a second.
                *current = None;
            }
            (number, Arc::clone(&file.file), at, table)
        };
        if let Err(error) = file.write_all_at(&table, at) {
            tracing::warn!(%error, "the local cache cannot write the table of {}", file_name(number));
        }
    }
}

impl State {
    /// Drops the pieces of an object, and says whether there were any.
    fn forget(&mut self, object: ObjectId) -> bool {
        let ids: Vec<PieceId> = self.index.range(PieceId::all_of(object)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.index.remove(id);
        }
        !ids.is_empty()
    }
}

fn file_name(number: u64) -> String {
    format!("cache-{number:08}")
}

fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("cache-")?;
    let number = digits.parse().ok().filter(|number| *number < 1 << 62)?;
    (name == file_name(number)).then_some(number)
}
