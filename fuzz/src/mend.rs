//! Gives bytes the checksums that they ask for, as an attacker would who knows the formats: where something stands is
//! taken from the bytes themselves, and nothing but checksums, magics and versions is changed.

use rfs_core::Lsn;
use rfs_journal::{ChainHash, FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, TRAILER_LEN};
use rfs_recovery::ObjectHash;

const OBJECT_HEADER_LEN: usize = 48;
const CACHE_HEADER_LEN: usize = 52;
const CACHE_ROW_LEN: usize = 32;
const CACHE_TRAILER_LEN: usize = 16;

/// Mends an object in an envelope whose body ends with the bytes: header and hash. Returns the hash.
///
/// The length of the body stays what it says if there are as many bytes; else it is all of them.
pub fn object(object: &mut [u8]) -> ObjectHash {
    if object.len() < OBJECT_HEADER_LEN {
        return ObjectHash([0; 32]);
    }
    object[..8].copy_from_slice(b"RFS-OBJ\0");
    let there = object.len() - OBJECT_HEADER_LEN;
    let body_len = (u32_at(object, 12) as usize).min(there);
    object[12..16].copy_from_slice(&(body_len as u32).to_le_bytes());
    let body_end = OBJECT_HEADER_LEN + body_len;
    let hash = *blake3::Hasher::new()
        .update(&object[..16])
        .update(&object[OBJECT_HEADER_LEN..body_end])
        .finalize()
        .as_bytes();
    object[16..OBJECT_HEADER_LEN].copy_from_slice(&hash);
    ObjectHash(hash)
}

/// The body of an object, and what follows it.
pub fn object_parts(object: &[u8]) -> Option<(&[u8], &[u8])> {
    let body_len = u32::from_le_bytes(*object.get(12..16)?.first_chunk()?) as usize;
    object.get(OBJECT_HEADER_LEN..)?.split_at_checked(body_len)
}

/// Mends a run of segments, as a file of the local log holds them: headers, frames, footers.
pub fn segments(bytes: &mut [u8], volume: Option<u128>) {
    let mut at = 0;
    while bytes.len() - at >= SEGMENT_HEADER_LEN {
        let len = segment(&mut bytes[at..], volume);
        at += len;
        if len == 0 || !bytes[at..].starts_with(b"RFS-SEG\0") {
            return;
        }
    }
}

/// Mends the segment that `bytes` start with, and says where it ends: behind the footer, or the last whole frame.
fn segment(bytes: &mut [u8], volume: Option<u128>) -> usize {
    let header = &mut bytes[..SEGMENT_HEADER_LEN];
    header[..8].copy_from_slice(b"RFS-SEG\0");
    if let Some(volume) = volume {
        header[16..32].copy_from_slice(&volume.to_be_bytes());
    }
    let volume = crc32c::crc32c(&header[16..32]);
    let mut chain = ChainHash(*header[72..104].first_chunk().expect("the header is longer"));
    seal_crc(header);
    let header: [u8; SEGMENT_HEADER_LEN] = (*header).try_into().expect("it is a header");
    let tag = u32_at(&header, SEGMENT_HEADER_LEN - 4);
    let mut at = SEGMENT_HEADER_LEN;
    while bytes[at..].starts_with(b"RFSF") {
        let Some(len) = frame(&mut bytes[at..], tag, volume, &mut chain) else { break };
        at += len;
    }
    let Some(end) = bytes[at..].windows(8).position(|window| window == b"RFS-FTR\0") else { return at };
    let end = at + end + 12;
    if end > bytes.len() || end < at + TRAILER_LEN {
        return at;
    }
    let body_len = end - TRAILER_LEN - at;
    let (body, trailer) = bytes[at..end].split_at_mut(body_len);
    trailer[..4].copy_from_slice(&(body_len as u32).to_le_bytes());
    let hash = *blake3::Hasher::new().update(&header).update(body).finalize().as_bytes();
    trailer[4..36].copy_from_slice(&hash);
    seal_crc(trailer);
    end
}

/// Mends the frame that `bytes` start with, if it is all there, and says how long it is.
fn frame(bytes: &mut [u8], tag: u32, volume: u32, chain: &mut ChainHash) -> Option<usize> {
    let header = bytes.get(..FRAME_HEADER_LEN)?;
    let (count, payload_len, changes_len) = (u32_at(header, 12), u32_at(header, 16), u32_at(header, 20));
    let middle = FRAME_HEADER_LEN.checked_add(payload_len as usize)?;
    let end = middle.checked_add(changes_len as usize)?;
    let (payload, changes) = bytes.get(FRAME_HEADER_LEN..end)?.split_at(payload_len as usize);
    let base = u64::from_le_bytes(*header[32..40].first_chunk()?);
    *chain = chain.extend(Lsn(base), count, payload, changes);
    let (payload_crc, changes_crc) = (crc32c::crc32c(payload), crc32c::crc32c(changes));
    let header = &mut bytes[..FRAME_HEADER_LEN];
    header[8..12].copy_from_slice(&tag.to_le_bytes());
    header[24..28].copy_from_slice(&payload_crc.to_le_bytes());
    header[28..32].copy_from_slice(&changes_crc.to_le_bytes());
    header[48..80].copy_from_slice(&chain.0);
    header[80..84].copy_from_slice(&volume.to_le_bytes());
    seal_crc(header);
    Some(end)
}

/// Mends a compressed object: the number of its blocks, the checksums of the blocks as far as they are there, and that of the
/// table.
pub fn compressed(object: &mut [u8]) {
    const HEADER_LEN: usize = 32;
    const ROW_LEN: usize = 8;
    let Some(header) = object.get(..HEADER_LEN) else { return };
    let len: [u8; 8] = header[16..24].try_into().expect("the slice has 8 bytes");
    let blocks = u64::from_le_bytes(len).div_ceil(1 << 16);
    let room = (object.len() - HEADER_LEN) / ROW_LEN;
    let Some(count) = usize::try_from(blocks).ok().filter(|count| *count <= room) else { return };
    object[24..28].copy_from_slice(&(count as u32).to_le_bytes());
    let mut at = HEADER_LEN + count * ROW_LEN;
    for number in 0..count {
        let row = HEADER_LEN + number * ROW_LEN;
        let end = at.saturating_add((u32_at(object, row) & !(1 << 31)) as usize);
        let Some(crc) = object.get(at..end).map(crc32c::crc32c) else { break };
        object[row + 4..row + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    let table = &object[HEADER_LEN..HEADER_LEN + count * ROW_LEN];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&object[..HEADER_LEN - 4]), table);
    object[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// Mends a file of the local cache: entries, tables and their headers. Entries become those of one of `objects`, by
/// the first byte of the object that they name.
pub fn cache_file(bytes: &mut [u8], objects: &[[u8; 16]]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + CACHE_HEADER_LEN) {
        let len = u32_at(header, 4) as usize;
        if header.starts_with(b"RFSP") {
            let object = objects[usize::from(header[16]) % objects.len()];
            header[16..32].copy_from_slice(&object);
        }
        let head: [u8; 32] = *header.first_chunk().expect("the header is longer");
        let end = at + CACHE_HEADER_LEN + len;
        let content = bytes.get(at + CACHE_HEADER_LEN..end).unwrap_or_default();
        let check = *blake3::Hasher::new().update(&head).update(content).finalize().as_bytes();
        let is_table = head.starts_with(b"RFST");
        if !is_table {
            bytes[at + 32..at + 48].copy_from_slice(&check[..16]);
        }
        seal_crc(&mut bytes[at..at + CACHE_HEADER_LEN]);
        if is_table {
            table(bytes, at + CACHE_HEADER_LEN, end);
        }
        at = end;
    }
}

fn table(bytes: &mut [u8], start: usize, end: usize) {
    let Some(table) = bytes.get_mut(start..end).filter(|table| table.len() >= CACHE_TRAILER_LEN) else {
        return;
    };
    let rows_len = table.len() - CACHE_TRAILER_LEN;
    let (rows, trailer) = table.split_at_mut(rows_len);
    let count = (rows_len / CACHE_ROW_LEN) as u32;
    trailer[..4].copy_from_slice(&count.to_le_bytes());
    let rows_end = rows_len / CACHE_ROW_LEN * CACHE_ROW_LEN;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&rows[rows_len - rows_end..]), &trailer[..4]);
    trailer[4..8].copy_from_slice(&crc.to_le_bytes());
    trailer[8..].copy_from_slice(b"RFS-CTB\0");
}

/// The last four bytes become the checksum of those before.
fn seal_crc(bytes: &mut [u8]) {
    let (body, crc) = bytes.split_at_mut(bytes.len() - 4);
    crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
