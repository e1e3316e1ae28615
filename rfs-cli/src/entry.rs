//! A file, directory or symlink, as commands tell of it.

use rfs::{Attr, Kind};
use serde::Serialize;

use crate::time::Rfc3339;

/// Any bytes in JSON: the text, and where they are no UTF-8 the bytes too, in hexadecimal digits.
#[derive(Debug, Serialize)]
pub(crate) struct Path {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl Path {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        use std::fmt::Write;
        let path_hex = std::str::from_utf8(bytes).is_err().then(|| {
            bytes.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a String does not fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        });
        Self { path: String::from_utf8_lossy(bytes).into_owned(), path_hex }
    }
}

/// The fields of an entry in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    path: Path,
    kind: &'static str,
    /// Permission bits as `chmod` takes them.
    mode: String,
    uid: u32,
    gid: u32,
    nlink: u32,
    ino: u64,
    size: u64,
    allocated: u64,
    device: u64,
    accessed: String,
    modified: String,
    changed: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xattrs: Option<Vec<String>>,
}

impl Entry {
    pub(crate) fn new(path: &[u8], attr: &Attr) -> Self {
        let time = |time| format!("{:#}", Rfc3339(time));
        Self {
            path: Path::new(path),
            kind: kind(attr.kind),
            mode: format!("{:04o}", attr.mode),
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            ino: attr.ino.0,
            size: attr.size,
            allocated: attr.allocated,
            device: attr.device,
            accessed: time(attr.times.accessed),
            modified: time(attr.times.modified),
            changed: time(attr.times.changed),
            created: time(attr.times.born),
            target: None,
            xattrs: None,
        }
    }

    pub(crate) fn with_target(mut self, target: Option<Vec<u8>>) -> Self {
        self.target = target.map(|target| String::from_utf8_lossy(&target).into_owned());
        self
    }

    pub(crate) fn with_xattrs(mut self, names: Vec<String>) -> Self {
        self.xattrs = Some(names);
        self
    }
}

pub(crate) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
        _ => "unknown",
    }
}

/// Kind and permission bits as `ls -l` writes them.
pub(crate) fn mode(attr: &Attr) -> String {
    let kind = match attr.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = attr.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, attr.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}
