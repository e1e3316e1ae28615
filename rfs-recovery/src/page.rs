//! Nodes of the tree's maps as bytes: pages.
//!
//! A page holds one node, column by column, compressed. Its hash stands in the reference that leads to it, so the
//! pages below a root form a Merkle tree: whoever holds the root's reference can verify all of it. A page is verified
//! before it is decoded, and decoded soundly whatever is in it: every length is bounded before it is used, keys
//! ascend, and each key and value is one that the tree could hold.

mod column;
mod compression;
mod pairs;
mod records;

use rfs_core::{BRANCH_MAX, LEAF_MAX, NodeParts, PageObject, PageRef};
use thiserror::Error;

pub use self::column::{Column, Input};
pub use self::pairs::{MapKind, Paged};

/// The version of pages that this crate writes.
pub const PAGE_FORMAT: u8 = 1;

/// Bytes of a page's header.
const HEADER_LEN: usize = 10;
/// Most bytes of one child in a branch's body: a flag, four numbers, and a hash.
const CHILD_MAX: usize = 1 + 4 * column::NUMBER_MAX + 16;

/// Why a page cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PageError {
    /// The bytes are not those that were stored.
    #[error("{page} is damaged: {what}")]
    Damaged {
        /// The page.
        page: PageRef,
        /// What does not fit.
        what: &'static str,
    },
    /// A later version of rfs wrote it.
    #[error("{page} has format version {version}, this rfs reads up to {PAGE_FORMAT}")]
    UnknownFormat {
        /// The page.
        page: PageRef,
        /// Its version.
        version: u8,
    },
}

/// Encodes a leaf.
///
/// # Panics
/// When there is not one value for each key, or there are more than [`LEAF_MAX`].
#[must_use]
pub fn encode_leaf<K: Paged<V>, V: Column>(keys: &[K], values: &[V]) -> Vec<u8> {
    assert!(keys.len() == values.len(), "a leaf has a value for each key");
    assert!(keys.len() <= LEAF_MAX, "a leaf has at most {LEAF_MAX} pairs");
    debug_assert!(keys.is_sorted_by(|left, right| left < right), "the keys of a leaf ascend");
    let mut body = Vec::new();
    K::encode(keys, &mut body);
    V::encode(values, &mut body);
    seal(K::KIND, 0, keys.len(), &body)
}

/// Encodes a branch.
///
/// # Panics
/// When `level` is 0, there is not one key less than children, or there are more children than
/// [`BRANCH_MAX`].
#[must_use]
pub fn encode_branch<K: Paged<V>, V: Column>(level: u8, keys: &[K], children: &[PageRef]) -> Vec<u8> {
    assert!(level > 0, "a branch is above a leaf");
    assert!(keys.len() + 1 == children.len(), "a branch has a key between any two children");
    assert!(children.len() <= BRANCH_MAX, "a branch has at most {BRANCH_MAX} children");
    debug_assert!(keys.is_sorted_by(|left, right| left < right), "the keys of a branch ascend");
    let mut body = Vec::new();
    K::encode(keys, &mut body);
    encode_children(children, &mut body);
    seal(K::KIND, level, children.len(), &body)
}

/// The hash by which a page is referred to.
#[must_use]
pub fn page_hash(page: &[u8]) -> [u8; 16] {
    *blake3::hash(page).as_bytes().first_chunk().expect("the hash is longer")
}

/// The reference to a page that is stored in `object` from `offset` on.
///
/// # Panics
/// When the page is longer than any that is encoded here.
#[must_use]
pub fn page_ref(object: PageObject, offset: u32, page: &[u8]) -> PageRef {
    let len = u32::try_from(page.len()).expect("a page has some MiB at most");
    PageRef { object, offset, len, hash: page_hash(page) }
}

/// Most bytes of a page of this map. A reference that says more is damaged, and need not be followed.
#[must_use]
pub const fn page_len_max<K: Paged<V>, V: Column>() -> usize {
    HEADER_LEN + body_len_max::<K, V>()
}

/// Most bytes of the body of a page of this map, uncompressed: what the greatest keys and values add up to.
const fn body_len_max<K: Paged<V>, V: Column>() -> usize {
    let leaf = LEAF_MAX * (K::MAX + V::MAX);
    let branch = BRANCH_MAX * (K::MAX + CHILD_MAX);
    if leaf > branch { leaf } else { branch }
}

/// Verifies and decodes the page that `page` refers to.
///
/// # Errors
/// `Damaged`, `UnknownFormat`.
pub fn decode_page<K: Paged<V>, V: Column>(
    bytes: &[u8],
    page: &PageRef,
) -> Result<NodeParts<K, V>, PageError> {
    let page = *page;
    let damaged = |what| PageError::Damaged { page, what };
    if bytes.len() != page.len as usize || bytes.len() > page_len_max::<K, V>() {
        return Err(damaged("its length is wrong"));
    }
    if page_hash(bytes) != page.hash {
        return Err(damaged("it does not have its checksum"));
    }
    let (header, stored) =
        bytes.split_first_chunk::<HEADER_LEN>().ok_or_else(|| damaged("it is shorter than its header"))?;
    let [version, kind, level, codec, count0, count1, len0, len1, len2, len3] = *header;
    if version == 0 || version > PAGE_FORMAT {
        return Err(PageError::UnknownFormat { page, version });
    }
    if kind != K::KIND as u8 {
        return Err(damaged("it is of another map"));
    }
    let len = u32::from_le_bytes([len0, len1, len2, len3]) as usize;
    if len > body_len_max::<K, V>() {
        return Err(damaged("it says that it is longer than a page can be"));
    }
    let body = compression::expand(codec, stored, len).ok_or_else(|| damaged("it cannot be decompressed"))?;
    let count = usize::from(u16::from_le_bytes([count0, count1]));
    let mut input = Input::new(&body);
    let decoded =
        if level == 0 { decode_leaf(&mut input, count) } else { decode_branch(&mut input, level, count) };
    let decoded = decoded.ok_or_else(|| damaged("it cannot be decoded"))?;
    if input.is_empty() { Ok(decoded) } else { Err(damaged("it has bytes that belong to nothing")) }
}

fn decode_leaf<K: Paged<V>, V: Column>(input: &mut Input<'_>, count: usize) -> Option<NodeParts<K, V>> {
    if count > LEAF_MAX {
        return None;
    }
    let keys = K::decode(input, count)?;
    let values = V::decode(input, count)?;
    let sound = ascend(&keys, count)
        && values.len() == count
        && keys.iter().zip(&values).all(|(key, value)| key.is_sound(value));
    sound.then_some(NodeParts::Leaf { keys, values })
}

fn decode_branch<K: Paged<V>, V: Column>(
    input: &mut Input<'_>,
    level: u8,
    count: usize,
) -> Option<NodeParts<K, V>> {
    if count > BRANCH_MAX {
        return None;
    }
    let keys = K::decode(input, count.checked_sub(1)?)?;
    let children = decode_children(input, count)?;
    let reachable = children.iter().all(|child| child.len as usize <= page_len_max::<K, V>());
    (ascend(&keys, count - 1) && reachable).then_some(NodeParts::Branch { level, keys, children })
}

fn ascend<K: Ord>(keys: &[K], count: usize) -> bool {
    keys.len() == count && keys.is_sorted_by(|left, right| left < right)
}

fn seal(kind: MapKind, level: u8, count: usize, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("the body of a page has some MiB at most");
    let count = u16::try_from(count).expect("a node has some hundred pairs or children at most");
    let [count0, count1] = count.to_le_bytes();
    let [len0, len1, len2, len3] = len.to_le_bytes();
    let mut page = vec![PAGE_FORMAT, kind as u8, level, 0, count0, count1, len0, len1, len2, len3];
    page[3] = compression::shrink(body, &mut page);
    page
}

/// Children mostly stand one behind the other in few objects.
fn encode_children(children: &[PageRef], out: &mut Vec<u8>) {
    let mut before = PageRef::START;
    for child in children {
        let same = child.object == before.object;
        out.push(u8::from(same));
        if !same {
            column::put_number(out, child.object.epoch);
            column::put_delta(out, before.object.number, child.object.number);
        }
        let expected = if same { before.end() } else { 0 };
        column::put_delta(out, expected, u64::from(child.offset));
        column::put_number(out, u64::from(child.len));
        before = *child;
    }
    for child in children {
        out.extend(child.hash);
    }
}

fn decode_children(input: &mut Input<'_>, count: usize) -> Option<Vec<PageRef>> {
    let mut children = Vec::with_capacity(count);
    let mut before = PageRef::START;
    for _ in 0..count {
        let mut child = before;
        let same = input.flag()?;
        if !same {
            let epoch = input.number()?;
            child.object = PageObject { epoch, number: input.delta(before.object.number)? };
        }
        let expected = if same { before.end() } else { 0 };
        child.offset = u32::try_from(input.delta(expected)?).ok()?;
        child.len = u32::try_from(input.number()?).ok()?;
        children.push(child);
        before = child;
    }
    for child in &mut children {
        child.hash = input.array()?;
    }
    Some(children)
}

/// What the encoding of children asks of a reference.
trait Placed {
    /// What stands before the first.
    const START: Self;
    /// Where the next one is expected.
    fn end(&self) -> u64;
}

impl Placed for PageRef {
    const START: Self = Self { object: PageObject { epoch: 0, number: 0 }, offset: 0, len: 0, hash: [0; 16] };

    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }
}
