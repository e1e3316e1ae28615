//! The pages as they were shipped stay readable, and their bodies are written the same. How a body is compressed is
//! the compressor's affair.

use std::fmt::Debug;

use rfs_core::{
    Body, Cookie, Entry, EntryKey, Extent, Ino, Inode, Kind, Lsn, Name, NodeParts, PageObject, PageRef,
    Place, SegmentId, Times, XattrName, XattrValue,
};
use rfs_journal::{ChainHash, SegmentHash};
use rfs_recovery::objects::{StoredHeader, StoredSegment};
use rfs_recovery::page::{Column, Paged, encode_branch, encode_leaf};
use rfs_recovery::{Keys, page::page_hash};

use super::{decode, uncompressed};
use crate::sample::{self, KEYS, WRITER, time};

fn golden<K, V>(name: &str, pairs: Vec<(K, V)>)
where
    K: Paged<V> + Debug,
    V: Column + PartialEq + Debug,
{
    let (keys, values): (Vec<K>, Vec<V>) = pairs.into_iter().unzip();
    let leaf = encode_leaf(&keys, &values);
    let separators = keys[1..].to_vec();
    let children: Vec<PageRef> = (0..keys.len() as u32).map(child).collect();
    let branch = encode_branch::<K, V>(1, &separators, &children);
    let leaf_body = NodeParts::Leaf { keys, values };
    let branch_body = NodeParts::Branch { level: 1, keys: separators, children };
    for (part, made, body) in [("leaf", leaf, leaf_body), ("branch", branch, branch_body)] {
        let path = sample::golden_path(&format!("page-{name}-{part}-v1.bin"));
        if !path.exists() && std::env::var("RFS_GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &made).unwrap();
        }
        let page = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(decode(&page), Ok(body), "{name} {part}");
        assert_eq!(
            uncompressed(&page),
            uncompressed(&made),
            "{name} {part}: it is written as the same bytes"
        );
    }
}

/// Pages behind one another, some of them in another object.
fn child(number: u32) -> PageRef {
    let object = PageObject { epoch: 2, number: u64::from(number / 3) };
    PageRef { object, offset: number * 1000, len: 1000, hash: page_hash(&number.to_le_bytes()) }
}

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

#[test]
fn inodes_v1() {
    let directory = Body::Directory { parent: Ino::ROOT, entries: 7, next_cookie: 9 };
    let bodies = [
        (directory, 0, 0),
        (Body::File, 10_000_000, 9_000_000),
        (Body::File, 0, 0),
        (Body::Symlink { target: (*b"../data/part-00001").into() }, 18, 0),
        (Body::Symlink { target: (*b"../data/part-00002").into() }, 18, 0),
        (Body::Fifo, 0, 0),
        (Body::Socket, 0, 0),
        (Body::CharDevice { device: 0x0501 }, 0, 0),
        (Body::BlockDevice { device: u64::MAX }, 0, 0),
    ];
    let inodes = bodies.into_iter().zip(1..).map(|((body, size, allocated), number)| {
        let times = Times {
            accessed: time(number * 10),
            modified: time(number * 1000 + 7),
            changed: time(number * 1000 + 8),
            born: time(number * 10),
        };
        let mode = if number == 2 { 0o4755 } else { 0o644 };
        let inode = Inode { mode, uid: 1000, gid: 100, nlink: 1, size, times, body, allocated };
        (Ino(number.cast_unsigned()), inode)
    });
    golden("inodes", inodes.collect());
}

#[test]
fn entries_v1() {
    let entry = |ino, kind, cookie| Entry { ino: Ino(ino), kind, cookie: Cookie(cookie) };
    let key = |parent, text| EntryKey { parent: Ino(parent), name: name(text) };
    let entries = [
        (key(1, "data"), entry(2, Kind::Directory, 1)),
        (key(1, "latest"), entry(9, Kind::Symlink, 4)),
        (key(2, "part-00001.parquet"), entry(3, Kind::File, 1)),
        (key(2, "part-00002.parquet"), entry(4, Kind::File, 2)),
        (key(2, "socket"), entry(7, Kind::Socket, 5)),
    ];
    golden("entries", entries.to_vec());
}

#[test]
fn listing_v1() {
    let names =
        [(1, 1, "data"), (1, 4, "latest"), (2, 1, "part-00001.parquet"), (2, 2, "part-00002.parquet")];
    let pairs = names.map(|(ino, cookie, text)| ((Ino(ino), Cookie(cookie)), name(text)));
    golden("listing", pairs.to_vec());
}

#[test]
fn links_v1() {
    let links = [(2, 1, 1), (3, 2, 1), (4, 2, 2), (4, 2, 7), (9, 1, 4)];
    let pairs = links.map(|(ino, dir, cookie)| ((Ino(ino), Ino(dir), Cookie(cookie)), ()));
    golden("links", pairs.to_vec());
}

#[test]
fn extents_v1() {
    let extents =
        [(3, 0, 0, 216, 4096), (3, 8192, 0, 4312, 100), (4, 0, 1, 216, 1 << 40), (5, 7, 0, 4412, 1)];
    let pairs = extents.map(|(ino, offset, segment, position, len)| {
        let place = Place { segment: SegmentId(segment), position };
        ((Ino(ino), offset), Extent { place, len })
    });
    golden("extents", pairs.to_vec());
}

#[test]
fn xattrs_v1() {
    let xattrs = [
        (2, "user.mime_type", &b"text/plain"[..]),
        (2, "user.origin", b"\x00\xff"),
        (3, "user.mime_type", b"text/html"),
        (4, "user.empty", b""),
    ];
    let pairs = xattrs.map(|(ino, name, value)| {
        ((Ino(ino), XattrName::new(name.as_bytes()).unwrap()), XattrValue::new(value).unwrap())
    });
    golden("xattrs", pairs.to_vec());
}

#[test]
fn live_bytes_v1() {
    golden(
        "live-bytes",
        [(0, 16 << 20), (1, 1), (300, u64::MAX)].map(|(id, live)| (SegmentId(id), live)).to_vec(),
    );
}

#[test]
fn objects_v1() {
    let objects = [(1, 0, 16 << 20), (1, 300, 1), (7, 2, u64::MAX)];
    let pairs = objects.map(|(epoch, number, bytes)| (PageObject { epoch, number }, bytes));
    golden("objects", pairs.to_vec());
}

#[test]
fn segments_v1() {
    let segments = (0..3_u64).map(|number| {
        let id = SegmentId(number + 5);
        let chain = ChainHash([number as u8; 32]);
        let header = StoredHeader { id, epoch: 1, writer: WRITER, base: Lsn(number * 100), chain };
        let inlined = number == 1;
        let key = if inlined { KEYS.commit(sample::SECOND) } else { Keys::segment(KEYS, id, 1, WRITER) };
        let (hash, offset) = (SegmentHash([0xee; 32]), if inlined { 400 } else { 0 });
        (id, StoredSegment { header, hash, len: 16 << 20, footer_len: 5000, key, offset })
    });
    golden("segments", segments.collect());
}
