//! Images as they were before format version 3: the whole tree in one object. They are read, and not written any more.

use std::marker::PhantomData;

use bytes::Bytes;
use rfs_core::{CommitId, Lsn, SegmentId, StateHash, Tree};
use rfs_journal::ChainHash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::envelope::{self, ENVELOPE_HEADER_LEN, ObjectKind};
use crate::objects::{StoredSegment, WholeImage, missing};
use crate::{Home, Keys, Lineage, RecoveryError};

/// The body of an image; its two sections follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBody {
    /// The volume.
    pub volume: u128,
    /// The commit whose state it is.
    pub of: CommitId,
    /// That commit's LSN.
    pub lsn: Lsn,
    /// That commit's chain hash.
    pub chain: ChainHash,
    /// That commit's state hash.
    pub state: StateHash,
    /// The number of the next segment.
    pub next_segment: SegmentId,
    /// The segments of the history so far that are kept.
    pub segments: Section,
    /// The items of the tree.
    pub items: Section,
}

/// A run of values behind the body: [`KeptSegment`]s, then [`rfs_core::Item`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// How many values.
    pub count: u64,
    /// Their bytes.
    pub len: u64,
    /// BLAKE3 of their bytes.
    pub hash: [u8; 32],
}

/// A segment that an image names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSegment {
    /// Where it is.
    pub stored: StoredSegment,
    /// Whether content of the image's tree is in it; if not, it is kept for history alone.
    pub live: bool,
}

/// Reads an image and rebuilds its tree, verifying every byte, every invariant and the state hash.
///
/// # Errors
/// `Missing`, `Damaged`, `UnknownFormat`, `Diverged`, or the store's.
pub async fn read_image(
    lineage: &Lineage,
    image: &WholeImage,
) -> Result<(ImageBody, Vec<KeptSegment>, Tree), RecoveryError> {
    let Home { store, keys } = &lineage.of_key(&image.key);
    let keys = *keys;
    let object = store.get(&image.key).await.map_err(|error| missing(store, &image.key, error))?;
    let (body, attachment) = open_image(store.url(), keys, image, &object)?;
    let damaged = |what: &str| envelope::damaged(store.url(), &image.key, what);
    let cut = attachment.len().min(usize::try_from(body.segments.len).unwrap_or(usize::MAX));
    let (segments, items) = (attachment.slice(..cut), attachment.slice(cut..));
    let segments = decode_section(&body.segments, &segments).ok_or_else(|| damaged(SEGMENTS_DAMAGED))?;
    if !body.items.holds(&items) {
        return Err(damaged("the tree in it is cut, or does not have its checksum"));
    }
    let mut decoded = Values { rest: &items, left: body.items.count, whole: true, of: PhantomData };
    let tree = Tree::from_items(decoded.by_ref());
    if !decoded.whole || !decoded.rest.is_empty() {
        return Err(damaged("the tree in it has another number of items than it says"));
    }
    let tree = tree.map_err(|violations| {
        let what = violations.first().map_or_else(|| "no reason given".to_owned(), ToString::to_string);
        damaged(&format!("the tree in it is not sound: {what}"))
    })?;
    if StateHash::of(&tree) != Ok(body.state) {
        return Err(RecoveryError::Diverged {
            store: store.url().to_owned(),
            commit: image.of,
            what: "the image's tree does not have the commit's state hash".to_owned(),
        });
    }
    Ok((body, segments, tree))
}

/// Reads which segments an image names, without its tree.
///
/// # Errors
/// As [`read_image`].
pub async fn read_image_segments(
    lineage: &Lineage,
    image: &WholeImage,
) -> Result<Vec<KeptSegment>, RecoveryError> {
    let Home { store, keys } = &lineage.of_key(&image.key);
    let keys = *keys;
    let get = |range: std::ops::Range<u64>| async move {
        let got = store.get_range(&image.key, range).await;
        got.map_err(|error| missing(store, &image.key, error))
    };
    let head = get(0..ENVELOPE_HEADER_LEN as u64).await?;
    let start = envelope::attachment_start(&head)
        .ok_or_else(|| envelope::damaged(store.url(), &image.key, "its length is wrong"))?;
    let (body, _) = open_image(store.url(), keys, image, &get(0..start).await?)?;
    let end = start.checked_add(body.segments.len);
    let end = end.ok_or_else(|| envelope::damaged(store.url(), &image.key, SEGMENTS_DAMAGED))?;
    let segments = if body.segments.len == 0 { Bytes::new() } else { get(start..end).await? };
    decode_section(&body.segments, &segments)
        .ok_or_else(|| envelope::damaged(store.url(), &image.key, SEGMENTS_DAMAGED))
}

const SEGMENTS_DAMAGED: &str = "its list of segments is cut, or does not have its checksum";

fn open_image(
    store: &str,
    keys: Keys,
    image: &WholeImage,
    object: &Bytes,
) -> Result<(ImageBody, Bytes), RecoveryError> {
    let opened = envelope::open(store, &image.key, object)?;
    let body: ImageBody = opened.body(store, &image.key, ObjectKind::Image)?;
    if opened.hash != image.hash || body.volume != keys.0 || body.of != image.of {
        return Err(envelope::damaged(store, &image.key, "it is not the image that the commit names"));
    }
    Ok((body, opened.attachment))
}

fn decode_section<T: DeserializeOwned>(section: &Section, bytes: &[u8]) -> Option<Vec<T>> {
    if !section.holds(bytes) {
        return None;
    }
    let mut values = Values { rest: bytes, left: section.count, whole: true, of: PhantomData };
    let decoded = values.by_ref().collect();
    (values.whole && values.rest.is_empty()).then_some(decoded)
}

impl Section {
    fn holds(&self, bytes: &[u8]) -> bool {
        self.len == bytes.len() as u64 && *blake3::hash(bytes).as_bytes() == self.hash
    }
}

/// Decodes values one by one, as far as they can be.
struct Values<'a, T> {
    rest: &'a [u8],
    left: u64,
    /// False when one could not be decoded.
    whole: bool,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Iterator for Values<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        if let Ok((value, rest)) = postcard::take_from_bytes(self.rest) {
            self.rest = rest;
            return Some(value);
        }
        self.whole = false;
        self.left = 0;
        None
    }
}
