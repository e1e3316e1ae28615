//! The form of a compressed object: a table, and blocks that are compressed each for itself.
//!
//! ```text
//! header   "RFS-ZIP\0", version u16 = 1, two bytes of zero, content of a block u32 = 65,536, content u64, blocks u32,
//!          CRC32C u32 of the bytes before it and of the table
//! table    for each block: its stored bytes u32, the highest bit set if they are a zstd frame; CRC32C u32 of these bytes
//! blocks   one behind the other
//! ```
//! All numbers are little-endian. The table stands in front: who writes has the whole content, and who reads a range asks
//! for the table first.

use std::cell::RefCell;
use std::ops::Range;

use bytes::{Buf, Bytes};
use zstd::bulk::{Compressor, Decompressor};

const MAGIC: [u8; 8] = *b"RFS-ZIP\0";
const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 32;
const ROW_LEN: usize = 8;
/// Bytes of content in a block.
pub(super) const CONTENT_LEN: usize = 64 << 10;
/// No object is so long: 64 GiB of content.
const BLOCKS_MAX: u64 = 1 << 20;
const ZSTD: u32 = 1 << 31;
/// Zstandard's fastest level is as fast as most networks, and wins nearly as much on journals as higher ones.
const LEVEL: i32 = 1;

thread_local! {
    // Making one costs more than compressing a block with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// Where the blocks of an object are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    content_len: u64,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// Where its stored bytes begin in the object.
    start: u64,
    len: u32,
    is_frame: bool,
    crc: u32,
}

/// Makes an object, block by block.
#[derive(Default)]
pub(super) struct Writer {
    content_len: u64,
    table: Vec<u8>,
    blocks: Vec<Bytes>,
}

impl Writer {
    /// Adds a block; all but the last one are full.
    pub(super) fn push(&mut self, content: &[u8]) {
        let compressed = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(content).ok());
        let pays = |stored: &Vec<u8>| stored.len() + content.len() / 16 <= content.len();
        let (stored, codec) = match compressed.filter(pays) {
            // The compressor's buffer is as long as the content.
            Some(frame) => (Bytes::copy_from_slice(&frame), ZSTD),
            None => (Bytes::copy_from_slice(content), 0),
        };
        self.content_len += content.len() as u64;
        self.table.extend((stored.len() as u32 | codec).to_le_bytes());
        self.table.extend(crc32c::crc32c(&stored).to_le_bytes());
        self.blocks.push(stored);
    }

    /// The object; none when it would be longer than any can be.
    pub(super) fn finish(self) -> Option<Vec<Bytes>> {
        let count = u32::try_from(self.blocks.len()).ok().filter(|count| u64::from(*count) <= BLOCKS_MAX)?;
        let mut head = Vec::with_capacity(HEADER_LEN + self.table.len());
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend([0; 2]);
        head.extend((CONTENT_LEN as u32).to_le_bytes());
        head.extend(self.content_len.to_le_bytes());
        head.extend(count.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &self.table);
        head.extend(crc.to_le_bytes());
        head.extend(self.table);
        Some([Bytes::from(head)].into_iter().chain(self.blocks).collect())
    }
}

/// How many bytes of an object its header and table take; the error says what is wrong.
pub(super) fn table_end(mut head: &[u8]) -> Result<usize, String> {
    if head.len() < HEADER_LEN || !head.starts_with(&MAGIC) {
        return Err("it is not compressed, though its name says so".to_owned());
    }
    head.advance(MAGIC.len());
    let version = head.get_u16_le();
    if version != VERSION {
        return Err(format!("it is compressed in version {version}, this rfs reads {VERSION}"));
    }
    let (_, content) = (head.get_u16_le(), head.get_u32_le());
    let (content_len, count) = (head.get_u64_le(), u64::from(head.get_u32_le()));
    let fits = content as usize == CONTENT_LEN && content_len.div_ceil(CONTENT_LEN as u64) == count;
    if !fits || count > BLOCKS_MAX {
        return Err("its header has lengths that do not fit each other".to_owned());
    }
    Ok(HEADER_LEN + count as usize * ROW_LEN)
}

impl Table {
    /// The table of an object that begins like this.
    pub(super) fn decode(object: &[u8]) -> Result<Self, String> {
        let end = table_end(object)?;
        let Some(head) = object.get(..end) else { return Err("its table is cut".to_owned()) };
        let (before, mut rest) = head.split_at(HEADER_LEN - 4);
        let crc = rest.get_u32_le();
        if crc32c::crc32c_append(crc32c::crc32c(before), rest) != crc {
            return Err("its table does not have its checksum".to_owned());
        }
        let content_len = (&before[16..]).get_u64_le();
        let mut rows = Vec::with_capacity(rest.len() / ROW_LEN);
        let mut start = end as u64;
        while rest.has_remaining() {
            let (len, crc) = (rest.get_u32_le(), rest.get_u32_le());
            let (is_frame, len) = (len & ZSTD != 0, len & !ZSTD);
            let content = content_of(content_len, rows.len() as u64);
            let plain = content.end - content.start;
            if len == 0 || u64::from(len) > plain || !is_frame && u64::from(len) != plain {
                return Err(format!("block {} has a length that it cannot have", rows.len()));
            }
            rows.push(Row { start, len, is_frame, crc });
            start += u64::from(len);
        }
        Ok(Self { content_len, rows })
    }

    pub(super) const fn content_len(&self) -> u64 {
        self.content_len
    }

    /// What it counts among the tables that are kept: its blocks, and one at least.
    pub(super) fn weight(&self) -> usize {
        self.rows.len().max(1)
    }

    /// Where the object ends.
    pub(super) fn end(&self) -> u64 {
        self.rows.last().map_or(HEADER_LEN as u64, |last| last.start + u64::from(last.len))
    }

    /// Which stored bytes the blocks are of which a range of the content, which is not empty, has something.
    pub(super) fn stored(&self, range: &Range<u64>) -> Option<Range<u64>> {
        if range.end > self.content_len || range.is_empty() {
            return None;
        }
        let (first, last) = (self.rows.get(block_of(range.start))?, self.rows.get(block_of(range.end - 1))?);
        Some(first.start..last.start + u64::from(last.len))
    }

    /// The bytes of a range of the content, which is not empty, of the stored bytes of its blocks. The error says what is
    /// wrong, and where.
    pub(super) fn open(&self, range: &Range<u64>, mut stored: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
        for number in block_of(range.start)..=block_of(range.end - 1) {
            let wrong = |what: &str| format!("block {number} {what}");
            let row = self.rows.get(number).ok_or_else(|| wrong("does not exist"))?;
            let (block, rest) = stored.split_at_checked(row.len as usize).ok_or_else(|| wrong("is cut"))?;
            stored = rest;
            if crc32c::crc32c(block) != row.crc {
                return Err(wrong("does not have its checksum"));
            }
            let content = content_of(self.content_len, number as u64);
            let wanted = range.start.max(content.start)..range.end.min(content.end);
            let wanted = (wanted.start - content.start) as usize..(wanted.end - content.start) as usize;
            if !row.is_frame {
                out.extend_from_slice(&block[wanted]);
                continue;
            }
            let len = (content.end - content.start) as usize;
            let opened = DECOMPRESSOR
                .with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(block, len).ok())
                .filter(|opened| opened.len() == len);
            out.extend_from_slice(&opened.ok_or_else(|| wrong("does not decompress"))?[wanted]);
        }
        Ok(out)
    }

    /// What is left of the content of a whole object: zeros stand for the blocks that do not open.
    pub(super) fn salvage(&self, object: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, row) in (0..).zip(&self.rows) {
            let content = content_of(self.content_len, number);
            let stored = usize::try_from(row.start).ok().and_then(|start| object.get(start..));
            match self.open(&content, stored.unwrap_or_default()) {
                Ok(opened) => out.extend(opened),
                Err(_) => out.resize(out.len() + (content.end - content.start) as usize, 0),
            }
        }
        out
    }
}

fn block_of(offset: u64) -> usize {
    usize::try_from(offset / CONTENT_LEN as u64).unwrap_or(usize::MAX)
}

fn content_of(content_len: u64, number: u64) -> Range<u64> {
    let start = number * CONTENT_LEN as u64;
    start..content_len.min(start + CONTENT_LEN as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, which compresses, and what does not, in turns.
    pub(super) fn content(len: usize) -> Vec<u8> {
        let noise = |at: usize| blake3::hash(&(at as u64 / 32).to_le_bytes()).as_bytes()[at % 32];
        let text = |at: usize| b"a line of a log, as there are many\n"[at % 35];
        (0..len).map(|at| if at / 70_000 % 2 == 0 { text(at) } else { noise(at) }).collect()
    }

    fn made(content: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        content.chunks(CONTENT_LEN).for_each(|block| writer.push(block));
        writer.finish().unwrap().concat()
    }

    #[test]
    fn every_range_comes_back() {
        for len in [0, 1, CONTENT_LEN - 1, CONTENT_LEN, CONTENT_LEN + 1, 5 * CONTENT_LEN + 77] {
            let content = content(len);
            let object = made(&content);
            let table = Table::decode(&object).unwrap();
            assert_eq!((table.content_len(), table.rows.len()), (len as u64, len.div_ceil(CONTENT_LEN)));
            let edges = [0, 1, 100, CONTENT_LEN - 1, CONTENT_LEN, CONTENT_LEN + 1, 3 * CONTENT_LEN, len];
            for start in edges {
                for end in edges.into_iter().filter(|end| *end > start && *end <= len) {
                    let range = start as u64..end as u64;
                    let stored = table.stored(&range).unwrap();
                    let stored = &object[stored.start as usize..stored.end as usize];
                    assert_eq!(table.open(&range, stored).unwrap(), content[start..end], "{range:?}");
                }
            }
            assert_eq!(table.stored(&(0..len as u64 + 1)), None);
        }
        let text = made(&content(60_000));
        assert!(text.len() < 6_000, "{}", text.len());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let content = content(CONTENT_LEN + 9_000);
        let object = made(&content);
        let whole = |object: &[u8]| {
            let table = Table::decode(object)?;
            let range = 0..content.len() as u64;
            let stored = table.stored(&range).ok_or("other lengths")?;
            let stored = object.get(stored.start as usize..stored.end as usize).ok_or("cut")?;
            table.open(&range, stored)
        };
        assert_eq!(whole(&object).as_ref(), Ok(&content));
        for end in (0..object.len()).step_by(7) {
            assert!(whole(&object[..end]).is_err(), "cut at {end}");
        }
        for bit in (0..object.len() * 8).step_by(11).chain(0..HEADER_LEN * 8) {
            let mut damaged = object.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(whole(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_anything_is_allocated() {
        let mut object = made(b"x");
        object[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        object[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(table_end(&object).is_err());
    }

    /// Found by fuzzing: a store was asked for an empty range, again and again.
    #[test]
    fn a_block_without_bytes_is_refused() {
        let mut object = made(b"rfs");
        object[32..36].copy_from_slice(&ZSTD.to_le_bytes());
        object[36..40].copy_from_slice(&crc32c::crc32c(&[]).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&object[..28]), &object[32..40]);
        object[28..32].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Table::decode(&object).unwrap_err(), "block 0 has a length that it cannot have");
    }

    /// The format, byte by byte: text that is stored as it is, so that no compressor has a say.
    #[test]
    fn the_form_stays() {
        #[rustfmt::skip]
        let golden = [
            b'R', b'F', b'S', b'-', b'Z', b'I', b'P', 0,
            1, 0, 0, 0, 0, 0, 1, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0, 0xd9, 0xfc, 0xe0, 0xa4,
            3, 0, 0, 0, 0xfd, 0x24, 0x13, 0xf2,
            b'r', b'f', b's',
        ];
        assert_eq!(made(b"rfs"), golden);
        assert_eq!(Table::decode(&golden).unwrap().open(&(0..3), b"rfs").unwrap(), b"rfs");
    }
}
