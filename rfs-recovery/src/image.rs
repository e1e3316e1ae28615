//! Images: the tree at a commit, as pages, so that opening does not replay the journal from its start.
//!
//! An image is made from a snapshot, in the background. It stores the nodes that no earlier image has stored, packed
//! into one object, children before their parents and the *head* last:
//!
//! ```text
//! page page page ... page head
//! ```
//!
//! The head says where the roots of the maps are, and holds what is always in memory. Commits name the head by its
//! [`PageRef`], which holds its hash; so the commit stands for every byte of the image, although none but those that
//! are needed are read. The roots' pages are in the head once more: who has read the head need not fetch them.
//!
//! An image also counts for every object of pages how many bytes of it are in use, from what the image before counted.
//! Collection goes by that.

mod version_1;
mod whole;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use rfs_core::{
    CommitId, Key, Lsn, Map, Missing, NodeView, PageObject, PageRef, Root, SegmentId, StateHash, Stored,
    StoredTree, Tree, TreeNode, Value,
};
use rfs_journal::{ByteSection, ChainHash};
use serde::{Deserialize, Serialize};

pub use self::whole::{ImageBody, KeptSegment, Section, read_image, read_image_segments};
use crate::objects::{PagedImage, StoredSegment};
use crate::page::{Column, MapKind, Paged, encode_branch, encode_leaf, page_ref};
use crate::{Pages, RecoveryError};

/// The version of image heads that this crate writes.
const HEAD_FORMAT: u8 = 2;
/// Largest root that is repeated in the head, in bytes.
const ROOT_MAX: u32 = 64 << 10;
/// Pieces in which pages are handed to the store.
const PIECE_BYTES: usize = 8 << 20;

/// The head of an image. The order of the fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHead {
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
    /// The tree.
    pub tree: StoredTree,
    /// The segments of the history so far that are kept.
    pub segments: Root,
    /// The objects that the tree's pages and the segments' pages are in, each with how many bytes of it are in use.
    pub objects: Root,
    /// The roots' pages once more.
    pub roots: Vec<(PageRef, ByteSection)>,
}

/// The state that an image is of.
#[derive(Clone, Debug)]
pub struct ImageOf {
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
    /// The tree.
    pub tree: Tree,
    /// The segments of the history so far that are kept.
    pub segments: Map<SegmentId, StoredSegment>,
}

/// What an image stored. The next one stores what is not part of it.
#[derive(Clone, Debug, Default)]
pub struct ImageBase {
    tree: Option<Tree>,
    segments: Map<SegmentId, StoredSegment>,
    objects: Map<PageObject, u64>,
    /// The roots' pages, as far as they are repeated in the head.
    roots: Vec<(PageRef, ByteSection)>,
}

/// An image, encoded.
#[derive(Debug)]
pub struct EncodedImage {
    /// What a commit names it by.
    pub reference: PagedImage,
    /// The object's bytes, in pieces.
    pub pieces: Vec<Bytes>,
    /// How many pages these are, the head not counted.
    pub pages: u64,
    /// What the next image is based on.
    pub base: ImageBase,
    stored: Stored,
}

impl EncodedImage {
    /// The object is in the store: its pages can be relied on. They are kept for who reads them next, in as much room as
    /// there is.
    pub fn is_stored(&self, pages: &Pages) {
        self.stored.mark();
        let mut kept = Vec::new();
        for page in self.stored.pages().chain([self.reference.head]) {
            let (piece, start) = (page.offset as usize / PIECE_BYTES, page.offset as usize % PIECE_BYTES);
            // One that lies in two pieces is read when it is needed.
            let range = start..start + page.len as usize;
            if let Some(piece) = self.pieces.get(piece).filter(|piece| piece.len() >= range.end) {
                let bytes = piece.slice(range);
                pages.keep(&page, &bytes);
                kept.push((page, bytes));
            }
        }
        pages.keep_local(kept);
    }

    /// Bytes of the object.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether the object is empty, which it never is: it has a head.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Encodes an image that is going to be `object`, which has no bytes yet. It takes time in proportion to what changed
/// since `base`.
///
/// # Errors
/// A page of what was given up since `base` is missing: to be loaded, and tried again.
pub fn encode_image(of: &ImageOf, base: &ImageBase, object: PageObject) -> Result<EncodedImage, Missing> {
    let mut packer = Packer { object, bytes: Vec::new(), last: BTreeMap::new(), pages: 0 };
    let mut stored = Stored::default();
    let tree = of.tree.store(&mut stored, |node| {
        Ok::<_, Missing>(match node {
            TreeNode::Inodes(node) => packer.put(&node),
            TreeNode::Entries(node) => packer.put(&node),
            TreeNode::Listing(node) => packer.put(&node),
            TreeNode::Links(node) => packer.put(&node),
            TreeNode::Extents(node) => packer.put(&node),
            TreeNode::Xattrs(node) => packer.put(&node),
            TreeNode::Segments(node) => packer.put(&node),
        })
    })?;
    let segments = of.segments.store(&mut stored, &mut |node| Ok::<_, Missing>(packer.put(&node)))?;
    let objects = base.count(&stored)?;
    let objects_root = objects.store(&mut stored, &mut |node| Ok::<_, Missing>(packer.put(&node)))?;
    let mut head = ImageHead {
        volume: of.volume,
        of: of.of,
        lsn: of.lsn,
        chain: of.chain,
        state: of.state,
        next_segment: of.next_segment,
        tree,
        segments,
        objects: objects_root,
        roots: Vec::new(),
    };
    let is_root = |(page, _): &(PageRef, ByteSection)| head.roots_of().contains(&Some(*page));
    let roots: Vec<_> = base.roots.iter().cloned().chain(packer.last_pages()).filter(is_root).collect();
    head.roots.clone_from(&roots);
    let (head, pages, bytes) = packer.finish(&head);
    let mut bytes = Bytes::from(bytes);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        pieces.push(bytes.split_to(bytes.len().min(PIECE_BYTES)));
    }
    let base = ImageBase { tree: Some(of.tree.clone()), segments: of.segments.clone(), objects, roots };
    Ok(EncodedImage { reference: PagedImage { of: of.of, head }, pieces, pages, base, stored })
}

impl ImageHead {
    fn roots_of(&self) -> [Option<PageRef>; 9] {
        let StoredTree { inodes, entries, listing, links, extents, xattrs, segments, .. } = &self.tree;
        let roots =
            [inodes, entries, listing, links, extents, xattrs, segments, &self.segments, &self.objects];
        roots.map(|root| root.page)
    }
}

impl ImageBase {
    /// What the image with this head stored. Nothing of it is loaded.
    ///
    /// # Errors
    /// The tree in it does not fit together.
    fn open(head: &ImageHead) -> Result<Self, String> {
        if !head.segments.is_sound() || !head.objects.is_sound() {
            return Err("has a map whose root, height and length do not fit".to_owned());
        }
        let (segments, objects) = (Map::open(head.segments), Map::open(head.objects));
        let tree = Some(Tree::open(head.tree.clone()).map_err(|error| error.to_string())?);
        Ok(Self { tree, segments, objects, roots: head.roots.clone() })
    }

    /// The tree that was stored.
    #[must_use]
    pub const fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// The segments that were stored.
    #[must_use]
    pub const fn segments(&self) -> &Map<SegmentId, StoredSegment> {
        &self.segments
    }

    /// The objects that its pages are in, each with how many bytes of it are in use; those of this very map are not
    /// counted.
    #[must_use]
    pub const fn objects(&self) -> &Map<PageObject, u64> {
        &self.objects
    }

    /// Pages of the map of objects that are in these are stored again by the next image, as are those in objects that
    /// only this map is in: it does not count its own.
    ///
    /// # Errors
    /// A page is missing.
    pub fn forget_pages(&mut self, thin: &BTreeSet<PageObject>) -> Result<(), Missing> {
        let objects = self.objects.clone();
        let counted = || objects.iter().map(|pair| pair.map(|(object, _)| *object)).collect();
        let counted: Result<BTreeSet<PageObject>, Missing> = counted();
        let counted = counted?;
        let unwanted = |page: &PageRef| thin.contains(&page.object) || !counted.contains(&page.object);
        self.objects.forget_pages(&unwanted).map(drop)
    }

    /// Lets go of pages of the tree that nobody needed since they were aged.
    pub fn evict(&mut self) {
        self.tree.as_mut().map(Tree::evict);
    }

    /// How many bytes of every object are in use after this image.
    fn count(&self, stored: &Stored) -> Result<Map<PageObject, u64>, Missing> {
        const LOADED: &str = "what is changed was loaded";
        let kept: HashSet<PageRef> = stored.kept().iter().copied().collect();
        let kept = |page: &PageRef| kept.contains(page);
        let mut given_up = Vec::new();
        if let Some(tree) = &self.tree {
            tree.pages_but(&kept, &mut |page| given_up.push(page))?;
        }
        self.segments.pages_but(&kept, &mut |page| given_up.push(page))?;
        let mut objects = self.objects.clone();
        for PageRef { object, len, .. } in given_up {
            objects.load(&object)?;
            let Some(bytes) = objects.get_mut(&object).expect(LOADED) else { continue };
            *bytes = bytes.saturating_sub(u64::from(len));
            if *bytes == 0 {
                objects.remove(&object).expect(LOADED);
            }
        }
        let new: u64 = stored.pages().map(|page| u64::from(page.len)).sum();
        if let Some(PageRef { object, .. }) = stored.pages().next() {
            objects.load(&object)?;
            objects.insert(object, new).expect(LOADED);
        }
        Ok(objects)
    }
}

/// Puts pages one behind the other.
struct Packer {
    object: PageObject,
    bytes: Vec<u8>,
    /// The last page of each map: its root, if that was stored.
    last: BTreeMap<MapKind, PageRef>,
    pages: u64,
}

impl Packer {
    fn put<K: Key + Paged<V>, V: Value + Column>(&mut self, node: &NodeView<'_, K, V>) -> PageRef {
        let page = match node {
            NodeView::Leaf { keys, values } => encode_leaf::<K, V>(keys, values),
            NodeView::Branch { level, keys, children } => encode_branch::<K, V>(*level, keys, children),
        };
        let place = self.place(&page);
        self.pages += 1;
        self.last.insert(K::KIND, place);
        self.bytes.extend(page);
        place
    }

    fn last_pages(&self) -> impl Iterator<Item = (PageRef, ByteSection)> {
        let short = self.last.values().filter(|page| page.len <= ROOT_MAX);
        short.map(|page| {
            let start = page.offset as usize;
            (*page, ByteSection(self.bytes[start..start + page.len as usize].to_vec()))
        })
    }

    fn place(&self, page: &[u8]) -> PageRef {
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        page_ref(self.object, offset, page)
    }

    fn finish(mut self, head: &ImageHead) -> (PageRef, u64, Vec<u8>) {
        let mut bytes = vec![HEAD_FORMAT];
        bytes = postcard::to_extend(head, bytes).expect("a head has no field that cannot be encoded");
        let place = self.place(&bytes);
        self.bytes.extend(bytes);
        (place, self.pages, self.bytes)
    }
}

/// Reads the head of an image.
///
/// # Errors
/// `Missing`, `Damaged`, `UnknownFormat`, or the store's.
pub async fn read_head(pages: &Pages, image: &PagedImage) -> Result<(ImageHead, ImageBase), RecoveryError> {
    let damaged = |what: &str| pages.damaged(&image.head, what);
    let bytes = pages.read(&image.head).await?;
    let volume = pages.lineage().of_epoch(image.head.object.epoch).keys.0;
    let (&version, body) = bytes.split_first().ok_or_else(|| damaged("is empty"))?;
    if version == 0 || version > HEAD_FORMAT {
        let key = pages.lineage().page_key(image.head.object);
        let (version, newest) = (u16::from(version), u16::from(HEAD_FORMAT));
        return Err(RecoveryError::UnknownFormat { key, version, newest });
    }
    let decoded: Result<(ImageHead, &[u8]), _> = if version == 1 {
        postcard::take_from_bytes::<version_1::ImageHead>(body).map(|(head, rest)| (head.into(), rest))
    } else {
        postcard::take_from_bytes(body)
    };
    let head = match decoded {
        Ok((head, [])) if head.volume == volume && head.of == image.of => head,
        Ok(_) => return Err(damaged("is not the image that the commit names")),
        Err(error) => return Err(damaged(&format!("cannot be decoded: {error}"))),
    };
    for (page, bytes) in &head.roots {
        if crate::page::page_hash(&bytes.0) == page.hash {
            pages.keep(page, &bytes.0);
        }
    }
    let base = ImageBase::open(&head).map_err(|error| damaged(&error))?;
    Ok((head, base))
}
