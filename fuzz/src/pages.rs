//! Pages of every map, and the heads of images.

use std::fmt::Debug;

use rfs_core::{
    CommitId, Cookie, Entry, EntryKey, Extent, Ino, Inode, Name, NodeParts, PageObject, PageRef, SegmentId,
    Timestamp, XattrName, XattrValue,
};
use rfs_recovery::image::{ImageHead, read_head};
use rfs_recovery::objects::{PagedImage, StoredSegment};
use rfs_recovery::page::{
    Column, MapKind, PAGE_FORMAT, Paged, decode_page, encode_branch, encode_leaf, page_hash, page_ref,
};
use rfs_recovery::{Keys, Lineage, Pages};

use crate::store::{wait, with};
use crate::{VOLUME, choices};

const OBJECT: PageObject = PageObject { epoch: 1, number: 0 };
/// Bytes of a page's header.
const HEADER_LEN: usize = 10;

/// One page: `choices, page`. Its hash is always right; a choice makes its header right too, with an uncompressed body.
pub fn page(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let (mend, kind) = (choice & 1 != 0, choice >> 1);
    match kind % 9 {
        0 => of_map::<Ino, Inode>(bytes, mend),
        1 => of_map::<EntryKey, Entry>(bytes, mend),
        2 => of_map::<(Ino, Cookie), Name>(bytes, mend),
        3 => of_map::<(Ino, u64), Extent>(bytes, mend),
        4 => of_map::<(Ino, XattrName), XattrValue>(bytes, mend),
        5 => of_map::<SegmentId, u64>(bytes, mend),
        6 => of_map::<SegmentId, StoredSegment>(bytes, mend),
        7 => of_map::<PageObject, u64>(bytes, mend),
        _ => of_map::<(Ino, Ino, Cookie), ()>(bytes, mend),
    }
}

fn of_map<K, V>(bytes: &[u8], mend: bool)
where
    K: Paged<V> + Clone + Debug,
    V: Column + Clone + Debug + PartialEq,
{
    let mut page = bytes.to_vec();
    if mend && page.len() >= HEADER_LEN {
        let len = (page.len() - HEADER_LEN) as u32;
        let kind: MapKind = K::KIND;
        (page[0], page[1], page[3]) = (PAGE_FORMAT, kind as u8, 0);
        page[6..HEADER_LEN].copy_from_slice(&len.to_le_bytes());
    }
    let Ok(node) = decode_page::<K, V>(&page, &page_ref(OBJECT, 0, &page)) else { return };
    let again = match &node {
        NodeParts::Leaf { keys, values } => encode_leaf::<K, V>(keys, values),
        NodeParts::Branch { level, keys, children } => encode_branch::<K, V>(*level, keys, children),
    };
    let decoded = decode_page::<K, V>(&again, &page_ref(OBJECT, 0, &again));
    assert!(decoded == Ok(node), "a page comes back");
}

/// An object of pages with its head: `where the head starts, object`. What the head says is opened, and what can be
/// loaded of it is.
pub fn image_head(input: &[u8]) {
    let Some((start, object)) = input.split_first_chunk::<2>() else { return };
    let start = usize::from(u16::from_le_bytes(*start)).min(object.len());
    let head = &object[start..];
    let decoded = head.get(1..).and_then(|body| postcard::take_from_bytes::<ImageHead>(body).ok());
    let prefix = head.get(1..).and_then(|body| postcard::take_from_bytes::<(u128, CommitId)>(body).ok());
    let said = decoded.map(|(head, _)| (head.volume, head.of)).or(prefix.map(|(said, _)| said));
    let (volume, of) = said.unwrap_or((VOLUME, CommitId { epoch: 1, number: 0 }));
    let keys = Keys(volume);
    let reference =
        PageRef { object: OBJECT, offset: start as u32, len: head.len() as u32, hash: page_hash(head) };
    let lineage = Lineage::alone(with(&keys.pages_of(OBJECT), object), keys, Timestamp::from_nanos(0));
    let pages = Pages::new(lineage, 1 << 20);
    let Ok((head, base)) = wait(read_head(&pages, &PagedImage { of, head: reference })) else { return };
    assert!(head.volume == volume && head.of == of, "it is the image that the commit names");
    let Some(tree) = base.tree() else { return };
    if wait(pages.load_all(tree)).is_ok() {
        let _ = tree.check();
        let _ = tree.usage();
    }
}
