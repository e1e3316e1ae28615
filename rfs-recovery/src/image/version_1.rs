//! Heads of images in version 1, whose trees had no map of the entries by what they lead to.

use rfs_core::{CommitId, Ino, Item, Lsn, PageRef, Root, SegmentId, StateHash, Usage};
use rfs_journal::{ByteSection, ChainHash};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct ImageHead {
    volume: u128,
    of: CommitId,
    lsn: Lsn,
    chain: ChainHash,
    state: StateHash,
    next_segment: SegmentId,
    tree: StoredTree,
    segments: Root,
    objects: Root,
    roots: Vec<(PageRef, ByteSection)>,
}

#[derive(Deserialize)]
struct StoredTree {
    inodes: Root,
    entries: Root,
    listing: Root,
    extents: Root,
    xattrs: Root,
    segments: Root,
    next_ino: Ino,
    allocated: u64,
    users: Vec<(u32, Usage)>,
    orphans: Vec<Ino>,
    items: Vec<Item>,
}

impl From<ImageHead> for super::ImageHead {
    fn from(head: ImageHead) -> Self {
        let tree = rfs_core::StoredTree {
            inodes: head.tree.inodes,
            entries: head.tree.entries,
            listing: head.tree.listing,
            links: Root { page: None, height: 0, len: 0 },
            extents: head.tree.extents,
            xattrs: head.tree.xattrs,
            segments: head.tree.segments,
            next_ino: head.tree.next_ino,
            allocated: head.tree.allocated,
            users: head.tree.users,
            orphans: head.tree.orphans,
            items: head.tree.items,
        };
        Self {
            volume: head.volume,
            of: head.of,
            lsn: head.lsn,
            chain: head.chain,
            state: head.state,
            next_segment: head.next_segment,
            tree,
            segments: head.segments,
            objects: head.objects,
            roots: head.roots,
        }
    }
}
