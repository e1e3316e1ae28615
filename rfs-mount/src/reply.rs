//! Answers to the kernel.

use std::time::Duration;

use fuser::{
    Errno, FileAttr, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr,
};
use rfs::{Attr, Ino, Kind, Times};

use crate::attributes::file_attr;

/// How long the kernel may believe what it was told. A volume has one writer, and what that changes is told.
pub(crate) const TTL: Duration = Duration::from_hours(24);
/// Inode numbers are never reused.
pub(crate) const GENERATION: Generation = Generation(0);

pub(crate) fn entry(reply: ReplyEntry, attr: Attr) {
    reply.entry(&TTL, &file_attr(&attr), GENERATION);
}

/// There is none, and the kernel may remember that: inode 0 says so.
pub(crate) fn no_entry(reply: ReplyEntry) {
    let nothing = Attr {
        ino: Ino(0),
        kind: Kind::File,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        size: 0,
        allocated: 0,
        device: 0,
        times: Times::default(),
    };
    reply.entry(&TTL, &FileAttr { ino: INodeNo(0), ..file_attr(&nothing) }, GENERATION);
}

pub(crate) fn attributes(reply: ReplyAttr, attr: Attr) {
    reply.attr(&TTL, &file_attr(&attr));
}

/// A value, or its length if there is no room for it.
pub(crate) fn xattr(reply: ReplyXattr, room: u32, value: &[u8]) {
    match room as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// An answer that can be an error.
pub(crate) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyWrite,
    ReplyXattr
);
