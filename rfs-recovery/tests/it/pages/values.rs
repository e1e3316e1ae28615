//! Arbitrary pairs of every map, with the extremes among them.

use proptest::collection::vec;
use proptest::prelude::*;
use rfs_core::{
    Body, Cookie, Entry, EntryKey, Extent, FILE_SIZE_MAX, Ino, Inode, Kind, Lsn, Name, PageObject, PageRef,
    Place, SegmentId, Times, Timestamp, XattrName, XattrValue,
};
use rfs_journal::{ChainHash, SegmentHash};
use rfs_recovery::objects::{StoredHeader, StoredSegment};

/// A pair that the tree could hold.
pub(super) trait Pair<V>: Sized {
    fn pair() -> BoxedStrategy<(Self, V)>;
}

pub(super) fn pair<K: Pair<V>, V>() -> BoxedStrategy<(K, V)> {
    K::pair()
}

/// A child that a page can refer to, often right behind the one before.
pub(super) fn child() -> BoxedStrategy<PageRef> {
    let object = prop_oneof![
        3 => Just(PageObject { epoch: 1, number: 2 }),
        1 => (number(), number()).prop_map(|(epoch, number)| PageObject { epoch, number }),
    ];
    let offset = prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)];
    (object, offset, 0..1500_u32, any::<[u8; 16]>())
        .prop_map(|(object, offset, len, hash)| PageRef { object, offset, len, hash })
        .boxed()
}

fn number() -> BoxedStrategy<u64> {
    prop_oneof![0..300_u64, any::<u64>(), Just(0), Just(u64::MAX)].boxed()
}

fn small_number() -> BoxedStrategy<u32> {
    prop_oneof![0..300_u32, any::<u32>(), Just(u32::MAX)].boxed()
}

fn bytes(max: usize) -> BoxedStrategy<Vec<u8>> {
    let byte = || prop_oneof![Just(b'x'), 1..=u8::MAX];
    prop_oneof![9 => vec(byte(), 1..12), 1 => vec(byte(), 1..=max)].boxed()
}

fn name() -> BoxedStrategy<Name> {
    let ordinary = (0..100_u32).prop_map(|number| format!("part-{number:05}.parquet").into_bytes());
    let any = prop_oneof![ordinary, bytes(255)];
    any.prop_filter_map("a name", |bytes| Name::new(&bytes).ok()).boxed()
}

fn time() -> BoxedStrategy<Timestamp> {
    let recent = 1_700_000_000_000_000_000..1_700_000_001_000_000_000_i64;
    let nanos = prop_oneof![4 => recent, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    nanos.prop_map(Timestamp::from_nanos).boxed()
}

fn times() -> impl Strategy<Value = Times> {
    let each = (time(), time(), time(), time());
    each.prop_map(|(accessed, modified, changed, born)| Times { accessed, modified, changed, born })
}

fn body() -> BoxedStrategy<Body> {
    prop_oneof![
        4 => Just(Body::File),
        2 => (number(), number(), number()).prop_map(|(parent, entries, next_cookie)| {
            Body::Directory { parent: Ino(parent), entries, next_cookie }
        }),
        2 => bytes(4095).prop_map(|target| Body::Symlink { target: target.into() }),
        1 => Just(Body::Fifo),
        1 => Just(Body::Socket),
        1 => number().prop_map(|device| Body::CharDevice { device }),
        1 => number().prop_map(|device| Body::BlockDevice { device }),
    ]
    .boxed()
}

fn inode() -> impl Strategy<Value = Inode> {
    let ids = (small_number(), small_number(), small_number());
    let sizes = (number(), number());
    (0..=0o7777_u32, ids, sizes, times(), body()).prop_map(|(mode, ids, (size, allocated), times, body)| {
        let (uid, gid, nlink) = ids;
        let (size, allocated) = match &body {
            Body::File => {
                let size = size.min(FILE_SIZE_MAX);
                (size, allocated.min(size))
            }
            Body::Symlink { target } => (target.len() as u64, 0),
            _ => (0, 0),
        };
        Inode { mode, uid, gid, nlink, size, times, body, allocated }
    })
}

impl Pair<Inode> for Ino {
    fn pair() -> BoxedStrategy<(Self, Inode)> {
        (number().prop_map(Ino), inode()).boxed()
    }
}

impl Pair<Entry> for EntryKey {
    fn pair() -> BoxedStrategy<(Self, Entry)> {
        let kind = prop_oneof![
            Just(Kind::File),
            Just(Kind::Directory),
            Just(Kind::Symlink),
            Just(Kind::Fifo),
            Just(Kind::Socket),
            Just(Kind::CharDevice),
            Just(Kind::BlockDevice),
        ];
        let entry = (number(), kind, number()).prop_map(|(ino, kind, cookie)| Entry {
            ino: Ino(ino),
            kind,
            cookie: Cookie(cookie),
        });
        let key = (number(), name()).prop_map(|(parent, name)| Self { parent: Ino(parent), name });
        (key, entry).boxed()
    }
}

impl Pair<Name> for (Ino, Cookie) {
    fn pair() -> BoxedStrategy<(Self, Name)> {
        ((number().prop_map(Ino), number().prop_map(Cookie)), name()).boxed()
    }
}

impl Pair<()> for (Ino, Ino, Cookie) {
    fn pair() -> BoxedStrategy<(Self, ())> {
        let key = (number().prop_map(Ino), number().prop_map(Ino), number().prop_map(Cookie));
        key.prop_map(|key| (key, ())).boxed()
    }
}

impl Pair<Extent> for (Ino, u64) {
    fn pair() -> BoxedStrategy<(Self, Extent)> {
        let numbers = (number(), number(), number(), number(), number());
        let pair = numbers.prop_map(|(ino, offset, segment, position, len)| {
            let offset = offset % FILE_SIZE_MAX;
            let len = len.clamp(1, FILE_SIZE_MAX - offset);
            let position = position.min(u64::MAX - len);
            ((Ino(ino), offset), Extent { place: Place { segment: SegmentId(segment), position }, len })
        });
        pair.boxed()
    }
}

impl Pair<XattrValue> for (Ino, XattrName) {
    fn pair() -> BoxedStrategy<(Self, XattrValue)> {
        let usual = Just(b"user.mime_type".to_vec());
        let name = prop_oneof![usual, bytes(255)].prop_map(|name| XattrName::new(&name).unwrap());
        let value = prop_oneof![
            20 => vec(any::<u8>(), 0..40),
            1 => vec(any::<u8>(), 0..=65_536),
        ];
        let value = value.prop_map(|value| XattrValue::new(&value).unwrap());
        ((number().prop_map(Ino), name), value).boxed()
    }
}

impl Pair<u64> for SegmentId {
    fn pair() -> BoxedStrategy<(Self, u64)> {
        (number().prop_map(SegmentId), number()).boxed()
    }
}

impl Pair<u64> for PageObject {
    fn pair() -> BoxedStrategy<(Self, u64)> {
        let object = (number(), number()).prop_map(|(epoch, number)| Self { epoch, number });
        (object, number()).boxed()
    }
}

impl Pair<StoredSegment> for SegmentId {
    fn pair() -> BoxedStrategy<(Self, StoredSegment)> {
        let header = (number(), number(), any::<u128>(), number(), any::<[u8; 32]>()).prop_map(
            |(id, epoch, writer, base, chain)| {
                let (id, base, chain) = (SegmentId(id), Lsn(base), ChainHash(chain));
                StoredHeader { id, epoch, writer, base, chain }
            },
        );
        let key = prop_oneof!["[0-9a-f]{32}/segments/[0-9a-f]{16}", "\\PC{0,200}"];
        let rest = (any::<[u8; 32]>(), number(), small_number(), key, number());
        let pair = (header, rest).prop_map(|(header, (hash, len, footer_len, key, offset))| {
            let hash = SegmentHash(hash);
            (header.id, StoredSegment { header, hash, len, footer_len, key, offset })
        });
        pair.boxed()
    }
}
