//! Fuzz targets: bytes from outside never cause a panic, an unbounded allocation or a half-applied change.
//!
//! Each target is one function on bytes, called by the program of the same name in `targets/`. Where a checksum stands
//! before a decoder, the target gives the bytes the checksums that they ask for ([`mend`]), so that the decoder is
//! reached; the first byte of such an input says whether it does. What decodes must encode to what decodes to the same.

#![forbid(unsafe_code)]

mod attributes;
mod compressed;
mod journal;
mod local;
pub mod mend;
mod names;
mod objects;
mod pages;
mod store;
mod trees;

pub use attributes::xattr;
pub use compressed::compressed;
pub use journal::{change, local_log, segment};
pub use local::cache_file;
pub use names::{key, url};
pub use objects::{object, whole_image};
pub use pages::{image_head, page};
pub use trees::{apply_changes, ops};

/// The volume that every input is about: that of the golden files of objects.
pub const VOLUME: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;

/// Splits off the first byte, the target's choices.
fn choices(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}
