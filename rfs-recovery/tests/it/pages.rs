//! Pages: what is encoded comes back, and what was not encoded is refused or is sound all the same.

mod golden;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use rfs_core::{
    BRANCH_MAX, Body, Cookie, Entry, EntryKey, Extent, Ino, Inode, LEAF_MAX, Name, NodeParts, PageObject,
    PageRef, SegmentId, Times, XattrName, XattrValue,
};
use rfs_recovery::objects::StoredSegment;
use rfs_recovery::page::{
    Column, PAGE_FORMAT, PageError, Paged, decode_page, encode_branch, encode_leaf, page_hash, page_len_max,
    page_ref,
};

use self::values::{child, pair};

const OBJECT: PageObject = PageObject { epoch: 3, number: 17 };
/// Bytes before the body; the codec stands at 3, the count at 4, the length of the body at 6.
const HEADER_LEN: usize = 10;

fn refer(page: &[u8]) -> PageRef {
    page_ref(OBJECT, 4096, page)
}

fn decode<K: Paged<V>, V: Column>(page: &[u8]) -> Result<NodeParts<K, V>, PageError> {
    decode_page(page, &refer(page))
}

fn leaf_of<K: Paged<V>, V: Column>(pairs: BTreeMap<K, V>) -> (NodeParts<K, V>, Vec<u8>) {
    let (keys, values): (Vec<K>, Vec<V>) = pairs.into_iter().unzip();
    let page = encode_leaf(&keys, &values);
    (NodeParts::Leaf { keys, values }, page)
}

fn encode<K: Paged<V>, V: Column>(body: &NodeParts<K, V>) -> Vec<u8> {
    match body {
        NodeParts::Leaf { keys, values } => encode_leaf(keys, values),
        NodeParts::Branch { level, keys, children } => encode_branch::<K, V>(*level, keys, children),
    }
}

/// Whatever a page decodes to can be encoded again, and then is the same.
fn decodes_soundly<K, V>(page: &[u8])
where
    K: Paged<V> + Debug,
    V: Column + PartialEq + Debug,
{
    match decode::<K, V>(page) {
        Ok(body) => assert_eq!(decode(&encode(&body)), Ok(body)),
        Err(error) => assert!(error.to_string().starts_with("page at 4096.."), "{error}"),
    }
}

/// Flips every bit of a page, and cuts it at every length.
fn damage<K, V>(page: &[u8])
where
    K: Paged<V> + Debug,
    V: Column + PartialEq + Debug,
{
    let refuses = |bytes: &[u8]| {
        let error = decode_page::<K, V>(bytes, &refer(page)).unwrap_err();
        assert!(matches!(error, PageError::Damaged { .. }), "{error}");
    };
    for bit in 0..page.len() * 8 {
        let mut flipped = page.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refuses(&flipped);
        decodes_soundly::<K, V>(&flipped);
    }
    for len in 0..page.len() {
        refuses(&page[..len]);
        decodes_soundly::<K, V>(&page[..len]);
    }
}

/// A page with this body, uncompressed.
fn page_with(kind: u8, level: u8, count: u16, body: &[u8]) -> Vec<u8> {
    let mut page = vec![PAGE_FORMAT, kind, level, 0];
    page.extend(count.to_le_bytes());
    page.extend((body.len() as u32).to_le_bytes());
    page.extend(body);
    page
}

/// The page with its body uncompressed.
pub(crate) fn uncompressed(page: &[u8]) -> Vec<u8> {
    let len = u32::from_le_bytes(*page[6..].first_chunk().unwrap()) as usize;
    let body = match page[3] {
        0 => page[HEADER_LEN..].to_vec(),
        _ => zstd::bulk::decompress(&page[HEADER_LEN..], len).unwrap(),
    };
    let count = u16::from_le_bytes([page[4], page[5]]);
    page_with(page[1], page[2], count, &body)
}

fn cases(cases: u32) -> ProptestConfig {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(4);
    ProptestConfig { failure_persistence: None, rng_seed, cases, ..ProptestConfig::default() }
}

/// The tests that every map passes.
macro_rules! map_tests {
    ($($name:ident: $key:ty => $value:ty;)*) => { $(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(cases(64))]

                #[test]
                fn leaves_come_back(pairs in btree_map_of(pair::<$key, $value>(), 0..=LEAF_MAX)) {
                    let (body, page) = leaf_of(pairs);
                    prop_assert!(page.len() <= page_len_max::<$key, $value>());
                    prop_assert_eq!(decode(&page), Ok(body));
                    prop_assert_eq!(decode(&uncompressed(&page)), decode::<$key, $value>(&page));
                }

                #[test]
                fn branches_come_back(
                    level in 1..=u8::MAX,
                    keys in keys_of(pair::<$key, $value>(), 0..BRANCH_MAX),
                    seed in vec(child(), BRANCH_MAX),
                ) {
                    let keys: Vec<$key> = keys.into_iter().collect();
                    let children = seed[..=keys.len()].to_vec();
                    let page = encode_branch::<$key, $value>(level, &keys, &children);
                    prop_assert!(page.len() <= page_len_max::<$key, $value>());
                    let body = NodeParts::<$key, $value>::Branch { level, keys, children };
                    prop_assert_eq!(decode(&page), Ok(body));
                }

                #[test]
                fn garbage_is_refused_or_sound(
                    level in 0..3_u8,
                    count in 0..6_u16,
                    body in vec(prop_oneof![3 => 0..4_u8, 1 => any::<u8>()], 0..400),
                ) {
                    let kind = <$key as Paged<$value>>::KIND as u8;
                    decodes_soundly::<$key, $value>(&page_with(kind, level, count, &body));
                    let mut compressed = page_with(kind, level, count, &body);
                    compressed[3] = 1;
                    decodes_soundly::<$key, $value>(&compressed);
                }
            }

            proptest! {
                #![proptest_config(cases(4))]

                #[test]
                fn damage_is_seen_or_harmless(
                    pairs in btree_map_of(pair::<$key, $value>(), 1..=4),
                    children in vec(child(), 1..=4),
                ) {
                    let keys: Vec<$key> = pairs.keys().take(children.len() - 1).cloned().collect();
                    let branch = encode_branch::<$key, $value>(1, &keys, &children[..=keys.len()]);
                    let (_, leaf) = leaf_of(pairs);
                    for page in [leaf, branch] {
                        // Of a long one the rest is like the start.
                        if page.len() < 2000 {
                            damage::<$key, $value>(&page);
                            damage::<$key, $value>(&uncompressed(&page));
                        }
                    }
                }
            }
        }
    )* };
}

map_tests! {
    inodes: Ino => Inode;
    entries: EntryKey => Entry;
    listing: (Ino, Cookie) => Name;
    links: (Ino, Ino, Cookie) => ();
    extents: (Ino, u64) => Extent;
    xattrs: (Ino, XattrName) => XattrValue;
    live_bytes: SegmentId => u64;
    segments: SegmentId => StoredSegment;
    objects: PageObject => u64;
}

fn btree_map_of<K: Paged<V> + Debug, V: Column + Debug>(
    pair: BoxedStrategy<(K, V)>,
    size: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = BTreeMap<K, V>> {
    vec(pair, size).prop_map(|pairs| pairs.into_iter().collect())
}

fn keys_of<K: Paged<V> + Debug, V: Column + Debug>(
    pair: BoxedStrategy<(K, V)>,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = BTreeSet<K>> {
    vec(pair.prop_map(|(key, _)| key), size).prop_map(|keys| keys.into_iter().collect())
}

#[test]
fn the_greatest_pages_fit() {
    let noise = |seed: u64, len: usize| -> Vec<u8> {
        let mut rng = rfs_testkit::Rng::new(seed);
        (0..len).map(|_| 1 + (rng.below(255)) as u8).collect()
    };
    let xattrs = (0..LEAF_MAX as u64).map(|number| {
        let name = XattrName::new(&noise(number, 255)).unwrap();
        ((Ino(number << 57), name), XattrValue::new(&noise(number, 65_536)).unwrap())
    });
    let (body, page) = leaf_of(xattrs.collect());
    assert!(page.len() > 8 << 20 && page.len() <= page_len_max::<(Ino, XattrName), XattrValue>());
    assert_eq!(decode(&page), Ok(body));
    let symlinks = (0..LEAF_MAX as u64).map(|number| {
        let target = noise(number, 4095).into();
        let body = Body::Symlink { target };
        let (mode, nlink, times) = (0o7777, u32::MAX, Times::default());
        let inode =
            Inode { mode, uid: u32::MAX, gid: u32::MAX, nlink, size: 4095, times, body, allocated: 0 };
        (Ino(number), inode)
    });
    let (body, page) = leaf_of(symlinks.collect());
    assert!(page.len() <= page_len_max::<Ino, Inode>());
    assert_eq!(decode(&page), Ok(body));
}

#[test]
fn a_length_that_is_not_true_is_refused_before_it_is_used() {
    let (_, page) = leaf_of(BTreeMap::from([(SegmentId(1), 7_u64), (SegmentId(2), 8)]));
    for len in [0, 3, 5, u32::MAX] {
        for codec in [0, 1, 2, 255] {
            let mut page = uncompressed(&page);
            page[3] = codec;
            page[6..10].copy_from_slice(&len.to_le_bytes());
            decode::<SegmentId, u64>(&page).unwrap_err();
        }
    }
    // Zeros without end, in a few bytes.
    let bomb = zstd::bulk::compress(&vec![0; 1 << 24], 1).unwrap();
    for len in [1 << 24, 1 << 10, 4] {
        let mut page = page_with(6, 0, 2, &bomb);
        page[3] = 1;
        page[6..10].copy_from_slice(&u32::to_le_bytes(len));
        decode::<SegmentId, u64>(&page).unwrap_err();
    }
}

#[test]
fn a_count_that_is_not_true_is_refused() {
    let (_, page) = leaf_of(BTreeMap::from([(SegmentId(1), 7_u64), (SegmentId(2), 8)]));
    for (level, count) in [(0, 1), (0, 3), (0, u16::MAX), (0, 129), (1, 0), (1, 513), (1, u16::MAX)] {
        let body = uncompressed(&page)[HEADER_LEN..].to_vec();
        decode::<SegmentId, u64>(&page_with(6, level, count, &body)).unwrap_err();
    }
}

#[test]
fn keys_that_do_not_ascend_are_refused() {
    for keys in [[2, 0], [2, 1]] {
        // Deltas, folded: first 1 more than 0, then 0 or 1 less.
        let page = page_with(6, 0, 2, &[keys[0], keys[1], 7, 7]);
        decode::<SegmentId, u64>(&page).unwrap_err();
    }
    decode::<SegmentId, u64>(&page_with(6, 0, 2, &[2, 2, 7, 7])).unwrap();
}

#[test]
fn values_that_no_tree_holds_are_refused() {
    let names = |name: &[u8]| {
        let mut body = vec![2, 2, 0, name.len() as u8];
        body.extend(name);
        decode::<(Ino, Cookie), Name>(&page_with(3, 0, 1, &body))
    };
    names(b"fine").unwrap();
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        names(name).unwrap_err();
    }
    let extent = |offset: u64, extent: Extent| {
        decode::<(Ino, u64), Extent>(&encode_leaf(&[(Ino(1), offset)], &[extent])).is_ok()
    };
    let place = |position| rfs_core::Place { segment: SegmentId(0), position };
    assert!(extent(0, Extent { place: place(0), len: 1 }));
    assert!(!extent(0, Extent { place: place(0), len: 0 }));
    assert!(!extent(0, Extent { place: place(u64::MAX), len: 1 }));
    assert!(!extent(u64::MAX, Extent { place: place(0), len: 1 }));
}

#[test]
fn another_page_is_not_taken_for_this_one() {
    let (_, page) = leaf_of(BTreeMap::from([(SegmentId(1), 7_u64)]));
    let error = decode::<SegmentId, StoredSegment>(&page).unwrap_err();
    assert!(error.to_string().contains("another map"), "{error}");
    let mut later = page.clone();
    later[0] += 1;
    let error = decode::<SegmentId, u64>(&later).unwrap_err();
    assert!(matches!(error, PageError::UnknownFormat { version: 2, .. }), "{error}");
    let elsewhere = PageRef { hash: page_hash(&later), ..refer(&page) };
    let error = decode_page::<SegmentId, u64>(&page, &elsewhere).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}
