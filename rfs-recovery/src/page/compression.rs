//! How the body of a page is stored.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Higher ones take much longer and win next to nothing on bodies of a few KiB.
const LEVEL: i32 = 3;

thread_local! {
    // Making one costs more than compressing a page with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// Adds the body to the page, compressed when that makes it smaller, and says how.
pub(super) fn shrink(body: &[u8], page: &mut Vec<u8>) -> u8 {
    let compressed = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(body).ok());
    match compressed {
        Some(compressed) if compressed.len() < body.len() => {
            page.extend_from_slice(&compressed);
            ZSTD
        }
        _ => {
            page.extend_from_slice(body);
            RAW
        }
    }
}

/// The body of `len` bytes that is stored like this.
pub(super) fn expand(codec: u8, stored: &[u8], len: usize) -> Option<Vec<u8>> {
    let body = match codec {
        RAW if stored.len() == len => stored.to_vec(),
        ZSTD => DECOMPRESSOR
            .with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(stored, len).ok())?,
        _ => return None,
    };
    (body.len() == len).then_some(body)
}
