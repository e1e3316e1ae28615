//! The bytes of a file of the cache, which `docs/format.md` describes.

use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;
use rfs_journal::DiskFile;

const HEADER_LEN: usize = 52;
const ROW_LEN: usize = 32;
const TRAILER_LEN: usize = 16;
const ENTRY: [u8; 4] = *b"RFSP";
const TABLE: [u8; 4] = *b"RFST";
const TABLE_END: [u8; 8] = *b"RFS-CTB\0";

/// Names an object.
pub(super) type ObjectId = [u8; 16];

/// Names a piece of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PieceId {
    pub(super) object: ObjectId,
    pub(super) start: u64,
    /// 0 says that the object is forgotten.
    pub(super) len: u32,
}

impl PieceId {
    /// The piece, unless it is empty or too long for an entry.
    pub(super) fn new(key: &str, start: u64, len: u64) -> Option<Self> {
        let len = u32::try_from(len).ok().filter(|len| *len > 0)?;
        Some(Self { object: Self::object(key), start, len })
    }

    pub(super) fn object(key: &str) -> ObjectId {
        first_16(&blake3::hash(key.as_bytes()))
    }

    pub(super) const fn forgotten(object: ObjectId) -> Self {
        Self { object, start: 0, len: 0 }
    }

    pub(super) const fn all_of(object: ObjectId) -> RangeInclusive<Self> {
        Self::forgotten(object)..=Self { object, start: u64::MAX, len: u32::MAX }
    }

    pub(super) const fn is_forgotten(&self) -> bool {
        self.len == 0
    }

    /// Bytes of its entry.
    pub(super) fn entry_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.len)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.len.to_le_bytes());
        out.extend(self.start.to_le_bytes());
        out.extend(self.object);
    }
}

/// What a file holds, in the order in which it was put.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) rows: Vec<(PieceId, u32)>,
    /// Where the next entry may be written; none when what stands behind the entries is not known.
    pub(super) end: Option<u64>,
    /// Where the last table ends.
    pub(super) table_end: u64,
}

pub(super) fn encode_entry(id: &PieceId, bytes: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEADER_LEN + bytes.len());
    entry.extend(ENTRY);
    id.put(&mut entry);
    let check = check(&entry, bytes);
    entry.extend(check);
    entry.extend(crc32c::crc32c(&entry).to_le_bytes());
    entry.extend(bytes);
    entry
}

/// Bytes of a table of so many rows.
pub(super) const fn table_len(rows: usize) -> u64 {
    (HEADER_LEN + rows * ROW_LEN + TRAILER_LEN) as u64
}

/// The content of the entry of `id` at `offset`; none when what stands there is not it.
pub(super) fn read_entry(file: &dyn DiskFile, id: &PieceId, offset: u32) -> io::Result<Option<Bytes>> {
    let mut entry = vec![0; HEADER_LEN + id.len as usize];
    let read = file.read_at(&mut entry, u64::from(offset))?;
    let right = read == entry.len()
        && entry.first_chunk().and_then(decode_header) == Some(Header::Entry(*id))
        && entry[32..48] == check(&entry[..32], &entry[HEADER_LEN..]);
    // A slice of a longer one would keep the header, which is not counted; it is short.
    Ok(right.then(|| Bytes::from(entry).slice(HEADER_LEN..)))
}

pub(super) fn encode_table(rows: &[(PieceId, u32)]) -> Vec<u8> {
    let len = (rows.len() * ROW_LEN + TRAILER_LEN) as u32;
    let mut table = Vec::with_capacity(HEADER_LEN + len as usize);
    table.extend(TABLE);
    table.extend(len.to_le_bytes());
    table.resize(HEADER_LEN - 4, 0);
    table.extend(crc32c::crc32c(&table).to_le_bytes());
    for (id, offset) in rows {
        table.extend(id.object);
        table.extend(id.start.to_le_bytes());
        table.extend(id.len.to_le_bytes());
        table.extend(offset.to_le_bytes());
    }
    table.extend((rows.len() as u32).to_le_bytes());
    table.extend(crc32c::crc32c(&table[HEADER_LEN..]).to_le_bytes());
    table.extend(TABLE_END);
    table
}

/// Finds out what a file of `len` bytes holds: by its table, or else by walking from entry to entry.
pub(super) fn read_contents(file: &dyn DiskFile, len: u64) -> io::Result<Contents> {
    match read_table(file, len)? {
        Some(contents) => Ok(contents),
        None => walk(file, len),
    }
}

fn read_table(file: &dyn DiskFile, len: u64) -> io::Result<Option<Contents>> {
    let mut trailer = [0; TRAILER_LEN];
    let Some(trailer_at) = len.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
    if file.read_at(&mut trailer, trailer_at)? != TRAILER_LEN || trailer[8..] != TABLE_END {
        return Ok(None);
    }
    let count = u32_at(&trailer, 0) as usize;
    let table_len = count * ROW_LEN;
    let Some(table_at) = trailer_at.checked_sub(table_len as u64) else { return Ok(None) };
    if table_at / (HEADER_LEN as u64) < count as u64 {
        return Ok(None);
    }
    let mut table = vec![0; table_len + 4];
    let whole = file.read_at(&mut table, table_at)? == table.len();
    if !whole || crc32c::crc32c(&table) != u32_at(&trailer, 4) {
        return Ok(None);
    }
    let rows = table[..table_len].chunks_exact(ROW_LEN).map(|row| {
        let id = PieceId { object: array_at(row, 0), start: u64_at(row, 16), len: u32_at(row, 24) };
        (id, u32_at(row, 28))
    });
    let rows: Vec<_> = rows.filter(|(id, at)| u64::from(*at) + id.entry_len() <= table_at).collect();
    Ok(Some(Contents { rows, end: Some(len), table_end: len }))
}

fn walk(file: &dyn DiskFile, len: u64) -> io::Result<Contents> {
    let mut rows = Vec::new();
    let (mut at, mut table_end) = (0, 0);
    while at < len {
        let mut bytes = [0; HEADER_LEN];
        let whole = file.read_at(&mut bytes, at)? == HEADER_LEN;
        let header = if whole { decode_header(&bytes) } else { None };
        let (Some(header), Ok(offset)) = (header, u32::try_from(at)) else {
            return Ok(Contents { rows, end: None, table_end });
        };
        at += HEADER_LEN as u64 + u64::from(u32_at(&bytes, 4));
        if at > len {
            return Ok(Contents { rows, end: None, table_end });
        }
        match header {
            Header::Entry(id) => rows.push((id, offset)),
            Header::Table => table_end = at,
        }
    }
    Ok(Contents { rows, end: Some(at), table_end })
}

/// What stands behind a header.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    Entry(PieceId),
    Table,
}

fn decode_header(header: &[u8; HEADER_LEN]) -> Option<Header> {
    if crc32c::crc32c(&header[..48]) != u32_at(header, 48) {
        return None;
    }
    let id = PieceId { object: array_at(header, 16), start: u64_at(header, 8), len: u32_at(header, 4) };
    match array_at(header, 0) {
        ENTRY => Some(Header::Entry(id)),
        TABLE => Some(Header::Table),
        _ => None,
    }
}

fn check(header: &[u8], bytes: &[u8]) -> [u8; 16] {
    first_16(&blake3::Hasher::new().update(header).update(bytes).finalize())
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    array_at(hash.as_bytes(), 0)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the callers' fields lie within what they read")
}
