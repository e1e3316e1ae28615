//! Prints a volume's objects readably.

use std::fmt::Write;

use bytes::Bytes;
use rfs_journal::dump_segment;

use crate::RecoveryError;
use crate::envelope::{self, ObjectKind};
use crate::image::ImageBody;
use crate::objects::{Fence, read_commit_body, read_superblock_body};
use crate::pins::{Kept, Pin};

/// Any object of a volume in words: superblock, commit (with its inlined segment), fence, image, segment, pin,
/// what a collection keeps.
///
/// # Errors
/// `Damaged` or `UnknownFormat` when it cannot be read.
pub fn dump_object(store: &str, key: &str, object: &Bytes) -> Result<String, RecoveryError> {
    if rfs_journal::read_header(key, object).is_ok() {
        return Ok(dump_segment(key, object)?);
    }
    let opened = envelope::open(store, key, object)?;
    let mut out = format!("object hash {}\n", opened.hash);
    let printed = if opened.is(ObjectKind::Superblock) {
        write!(out, "{:#?}", read_superblock_body(&opened, store, key)?)
    } else if opened.is(ObjectKind::Fence) {
        write!(out, "{:#?}", opened.body::<Fence>(store, key, ObjectKind::Fence)?)
    } else if opened.is(ObjectKind::Image) {
        write!(out, "{:#?}", opened.body::<ImageBody>(store, key, ObjectKind::Image)?)
    } else if opened.is(ObjectKind::Pin) {
        write!(out, "{:#?}", opened.body::<Pin>(store, key, ObjectKind::Pin)?)
    } else if opened.is(ObjectKind::Kept) {
        write!(out, "{:#?}", opened.body::<Kept>(store, key, ObjectKind::Kept)?)
    } else {
        write!(out, "{:#?}", read_commit_body(&opened, store, key)?)
    };
    printed.expect("writing to a String does not fail");
    if opened.is(ObjectKind::Commit) && !opened.attachment.is_empty() {
        out.push_str("\ninlined ");
        out.push_str(&dump_segment(key, &opened.attachment)?);
    }
    Ok(out)
}
