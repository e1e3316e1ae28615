//! Images: the whole tree at a commit, so that opening does not replay the journal from its start.

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{CommitId, Item, Lsn, SegmentId, StateHash, Tree};
use rfs_journal::ChainHash;
use serde::{Deserialize, Serialize};

use crate::envelope::{self, ENVELOPE_HEADER_LEN, ObjectKind};
use crate::objects::{ImageRef, StoredSegment, missing};
use crate::{Keys, RecoveryError};

/// Pieces in which an image is handed to the store.
const PIECE_BYTES: usize = 8 << 20;

/// The body of an image; the tree's items follow it.
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
    pub segments: Vec<KeptSegment>,
    /// How many items follow.
    pub items: u64,
    /// Their bytes.
    pub items_len: u64,
    /// BLAKE3 of their bytes.
    pub items_hash: [u8; 32],
}

/// A segment that an image names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSegment {
    /// Where it is.
    pub stored: StoredSegment,
    /// Whether content of the image's tree is in it; if not, it is kept for history alone.
    pub live: bool,
}

/// What an image says of the history, beside the tree.
pub struct ImageOf<'a> {
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
    /// The segments of the history so far.
    pub segments: &'a [StoredSegment],
}

/// An image, encoded.
#[derive(Clone, Debug)]
pub struct EncodedImage {
    /// What a commit names it by.
    pub reference: ImageRef,
    /// The object's bytes, in pieces.
    pub pieces: Vec<Bytes>,
}

/// Encodes an image of `tree`, to be put under its key by `writer`.
#[must_use]
pub fn encode_image(writer: u128, of: &ImageOf<'_>, tree: &Tree) -> EncodedImage {
    let mut items = Vec::new();
    let mut count = 0;
    for item in tree.items() {
        items = postcard::to_extend(&item, items).expect("an item has no field that cannot be encoded");
        count += 1;
    }
    let segments = of.segments.iter().map(|stored| KeptSegment {
        stored: stored.clone(),
        live: tree.segments().contains_key(&stored.header.id),
    });
    let body = ImageBody {
        volume: of.volume,
        of: of.of,
        lsn: of.lsn,
        chain: of.chain,
        state: of.state,
        next_segment: of.next_segment,
        segments: segments.collect(),
        items: count,
        items_len: items.len() as u64,
        items_hash: *blake3::hash(&items).as_bytes(),
    };
    let (head, hash) = envelope::seal(ObjectKind::Image, &body);
    let key = Keys(of.volume).image(of.of, writer);
    let mut items = Bytes::from(items);
    let mut pieces = vec![Bytes::from(head)];
    while !items.is_empty() {
        pieces.push(items.split_to(items.len().min(PIECE_BYTES)));
    }
    EncodedImage { reference: ImageRef { of: of.of, key, hash }, pieces }
}

/// Reads an image and rebuilds its tree, verifying every byte, every invariant and the state hash.
///
/// # Errors
/// `Missing`, `Damaged`, `UnknownFormat`, `Diverged`, or the store's.
pub async fn read_image(
    store: &Store,
    keys: Keys,
    image: &ImageRef,
) -> Result<(ImageBody, Tree), RecoveryError> {
    let object = store.get(&image.key).await.map_err(|error| missing(store, &image.key, error))?;
    let (body, items) = open_image(store.url(), keys, image, &object)?;
    let damaged = |what: &str| envelope::damaged(store.url(), &image.key, what);
    if items.len() as u64 != body.items_len || *blake3::hash(&items).as_bytes() != body.items_hash {
        return Err(damaged("the tree in it is cut, or does not have its checksum"));
    }
    let tree = Tree::from_items(Items { rest: &items, left: body.items }).map_err(|violations| {
        let what = violations.first().map_or_else(|| "no reason given".to_owned(), ToString::to_string);
        damaged(&format!("the tree in it is not sound: {what}"))
    })?;
    if StateHash::of(&tree) != body.state {
        return Err(RecoveryError::Diverged {
            store: store.url().to_owned(),
            commit: image.of,
            what: "the image's tree does not have the commit's state hash".to_owned(),
        });
    }
    Ok((body, tree))
}

/// Reads what an image says of the history, without its tree.
///
/// # Errors
/// As [`read_image`].
pub async fn read_image_body(
    store: &Store,
    keys: Keys,
    image: &ImageRef,
) -> Result<ImageBody, RecoveryError> {
    let get = |len: u64| async move {
        let got = store.get_range(&image.key, 0..len).await;
        got.map_err(|error| missing(store, &image.key, error))
    };
    let head = get(ENVELOPE_HEADER_LEN as u64).await?;
    let body_len = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
    let object = get(ENVELOPE_HEADER_LEN as u64 + u64::from(body_len)).await?;
    Ok(open_image(store.url(), keys, image, &object)?.0)
}

fn open_image(
    store: &str,
    keys: Keys,
    image: &ImageRef,
    object: &Bytes,
) -> Result<(ImageBody, Bytes), RecoveryError> {
    let opened = envelope::open(store, &image.key, object)?;
    let body: ImageBody = opened.body(store, &image.key, ObjectKind::Image)?;
    if opened.hash != image.hash || body.volume != keys.0 || body.of != image.of {
        return Err(envelope::damaged(store, &image.key, "it is not the image that the commit names"));
    }
    Ok((body, opened.attachment))
}

/// Decodes items; stops at the first that cannot be decoded, which leaves a tree that fails its check.
struct Items<'a> {
    rest: &'a [u8],
    left: u64,
}

impl Iterator for Items<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.left = self.left.checked_sub(1)?;
        let (item, rest) = postcard::take_from_bytes(self.rest).ok()?;
        self.rest = rest;
        Some(item)
    }
}
