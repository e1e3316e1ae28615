//! The bodies of a volume's objects. The order of the fields is part of the format.

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{CommitId, Footprint, Lsn, PageRef, SegmentId, StateHash, Timestamp};
use rfs_journal::{ByteSection, ChainHash, SegmentHash, SegmentHeader};
use serde::{Deserialize, Serialize};

use crate::envelope::{self, ObjectHash, ObjectKind, Opened};
use crate::{Home, Keys, Lineage, RecoveryError};

/// The body of the superblock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    /// The volume id.
    pub volume: u128,
    /// When it was made.
    pub created: Timestamp,
    /// What it is a fork of.
    pub origin: Option<Origin>,
}

/// [`Superblock`] before format version 4.
#[derive(Deserialize)]
struct SuperblockV3 {
    volume: u128,
    created: Timestamp,
}

/// What a fork begins at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The commit whose state it begins with, and whose history it goes on with.
    pub at: CommitRef,
    /// What keeps that commit; none when nothing is borrowed any more.
    pub pin: Option<OriginPin>,
    /// The volumes that it descends from, oldest first.
    pub ancestors: Vec<Ancestor>,
}

/// What keeps what a fork borrows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginPin {
    /// The number of the pin.
    pub id: u128,
    /// The volume that it is a pin of.
    pub volume: u128,
    /// Where that is.
    pub location: Location,
}

/// A volume that a fork descends from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its id.
    pub volume: u128,
    /// When it was made.
    pub created: Timestamp,
    /// The last of its epochs that the fork's history goes through. Those up to it, and after the one before it, are
    /// this volume's.
    pub last_epoch: u64,
    /// Where its objects are.
    pub location: Location,
}

/// Where the objects of another volume are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The URL.
    pub url: String,
    /// The prefix in the same backend; none if it is another one.
    pub prefix: Option<String>,
}

/// Names a commit together with what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRef {
    /// Which commit.
    pub id: CommitId,
    /// Its object's hash.
    pub hash: ObjectHash,
}

/// The body of a commit: makes the history up to `end` durable. Before format version 3 the image was a
/// [`WholeImage`]; before version 4 nothing was rewound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The volume.
    pub volume: u128,
    /// Which commit this is.
    pub id: CommitId,
    /// Who made it.
    pub writer: u128,
    /// The commit that it extends; none for the first of the volume.
    pub previous: Option<CommitRef>,
    /// The LSN at which the commit before ended.
    pub base: Lsn,
    /// The LSN at which this one ends.
    pub end: Lsn,
    /// The chain hash at `end`.
    pub chain: ChainHash,
    /// The tree's state hash at `end`.
    pub state: StateHash,
    /// When it was made.
    pub time: Timestamp,
    /// The segments that it adds, in order. They hold the Changes from `base` to `end`.
    pub segments: Vec<AddedSegment>,
    /// The newest image that was whole when this commit was made.
    pub image: Option<ImageRef>,
    /// Its name, if it is a checkpoint.
    pub checkpoint: Option<String>,
    /// The caller's own.
    pub metadata: ByteSection,
    /// The commits that its segments go back to: who replays them needs their states.
    pub rewound: Vec<CommitId>,
}

/// A segment that a commit adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedSegment {
    /// Its number.
    pub id: SegmentId,
    /// Epoch of the writer that began it.
    pub epoch: u64,
    /// That writer.
    pub writer: u128,
    /// Its identity.
    pub hash: SegmentHash,
    /// Its length in bytes.
    pub len: u64,
    /// Bytes of its footer, trailer included.
    pub footer_len: u32,
    /// Its object; none when it is inlined: such segments follow the commit's body one behind the other.
    pub key: Option<String>,
}

/// Where a segment is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSegment {
    /// Its header.
    pub header: StoredHeader,
    /// Its identity.
    pub hash: SegmentHash,
    /// Its length in bytes.
    pub len: u64,
    /// Bytes of its footer, trailer included.
    pub footer_len: u32,
    /// The object that holds it.
    pub key: String,
    /// Where it starts in that object.
    pub offset: u64,
}

impl Footprint for StoredSegment {
    fn heap_bytes(&self) -> usize {
        self.key.capacity()
    }
}

/// The fields of a [`SegmentHeader`] beside its version and the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHeader {
    /// Number of the segment.
    pub id: SegmentId,
    /// Epoch of the writer that began it.
    pub epoch: u64,
    /// That writer.
    pub writer: u128,
    /// The LSN before its first record.
    pub base: Lsn,
    /// The chain hash at that LSN.
    pub chain: ChainHash,
}

impl StoredHeader {
    /// The header of a segment of this volume that was written with this format version.
    #[must_use]
    pub const fn with_version(self, version: u16, volume: u128) -> SegmentHeader {
        let Self { id, epoch, writer, base, chain } = self;
        SegmentHeader { version, volume, id, epoch, writer, base, chain }
    }

    /// Whether it is that of a segment of this volume, whatever its format version.
    #[must_use]
    pub fn is_of(&self, header: &SegmentHeader, volume: u128) -> bool {
        self.with_version(header.version, volume) == *header
    }
}

impl From<SegmentHeader> for StoredHeader {
    fn from(header: SegmentHeader) -> Self {
        let SegmentHeader { id, epoch, writer, base, chain, .. } = header;
        Self { id, epoch, writer, base, chain }
    }
}

/// Names an image together with what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageRef {
    /// One whole object.
    Whole(WholeImage),
    /// Pages.
    Paged(PagedImage),
}

/// An image as it was before format version 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeImage {
    /// The commit whose state it is.
    pub of: CommitId,
    /// Its object.
    pub key: String,
    /// Its object's hash.
    pub hash: ObjectHash,
}

/// An image in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagedImage {
    /// The commit whose state it is.
    pub of: CommitId,
    /// Where its head is.
    pub head: PageRef,
}

impl ImageRef {
    /// The commit whose state it is.
    #[must_use]
    pub const fn of(&self) -> CommitId {
        match self {
            Self::Whole(image) => image.of,
            Self::Paged(image) => image.of,
        }
    }

    /// The name of the object that it is in, or that its head is in.
    #[must_use]
    pub fn key(&self, lineage: &Lineage) -> String {
        match self {
            Self::Whole(image) => image.key.clone(),
            Self::Paged(image) => lineage.page_key(image.head.object),
        }
    }
}

/// [`Commit`] before format version 4.
#[derive(Deserialize)]
struct CommitV3 {
    volume: u128,
    id: CommitId,
    writer: u128,
    previous: Option<CommitRef>,
    base: Lsn,
    end: Lsn,
    chain: ChainHash,
    state: StateHash,
    time: Timestamp,
    segments: Vec<AddedSegment>,
    image: Option<ImageRef>,
    checkpoint: Option<String>,
    metadata: ByteSection,
}

impl From<CommitV3> for Commit {
    fn from(commit: CommitV3) -> Self {
        Self {
            volume: commit.volume,
            id: commit.id,
            writer: commit.writer,
            previous: commit.previous,
            base: commit.base,
            end: commit.end,
            chain: commit.chain,
            state: commit.state,
            time: commit.time,
            segments: commit.segments,
            image: commit.image,
            checkpoint: commit.checkpoint,
            metadata: commit.metadata,
            rewound: Vec::new(),
        }
    }
}

/// [`Commit`] before format version 3.
#[derive(Deserialize)]
struct CommitV2 {
    volume: u128,
    id: CommitId,
    writer: u128,
    previous: Option<CommitRef>,
    base: Lsn,
    end: Lsn,
    chain: ChainHash,
    state: StateHash,
    time: Timestamp,
    segments: Vec<AddedSegment>,
    image: Option<WholeImage>,
    checkpoint: Option<String>,
    metadata: ByteSection,
}

impl From<CommitV2> for CommitV3 {
    fn from(commit: CommitV2) -> Self {
        Self {
            volume: commit.volume,
            id: commit.id,
            writer: commit.writer,
            previous: commit.previous,
            base: commit.base,
            end: commit.end,
            chain: commit.chain,
            state: commit.state,
            time: commit.time,
            segments: commit.segments,
            image: commit.image.map(ImageRef::Whole),
            checkpoint: commit.checkpoint,
            metadata: commit.metadata,
        }
    }
}

/// The body of a fence: ends an epoch, and says who owns the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The volume.
    pub volume: u128,
    /// Whose place it takes: the epoch that it ends, and the number above that epoch's last commit.
    pub at: CommitId,
    /// Who put it.
    pub writer: u128,
    /// The epoch that this writer owns.
    pub next_epoch: u64,
    /// The newest commit below it.
    pub head: Option<CommitRef>,
    /// When it was put.
    pub time: Timestamp,
}

/// What stands at a commit's name.
#[derive(Clone, Debug)]
pub enum CommitObject {
    /// A commit.
    Commit(Box<FetchedCommit>),
    /// The end of an epoch.
    Fence(Fence),
}

/// A commit as it came from the store.
#[derive(Clone, Debug)]
pub struct FetchedCommit {
    /// Its body.
    pub commit: Commit,
    /// Its object's hash.
    pub hash: ObjectHash,
    /// The inlined segments' bytes; empty when there are none.
    pub inline: Bytes,
    /// Where those start in the object.
    pub inline_start: u64,
}

impl FetchedCommit {
    /// Names this commit.
    #[must_use]
    pub const fn reference(&self) -> CommitRef {
        CommitRef { id: self.commit.id, hash: self.hash }
    }
}

/// The body of a superblock of any version.
pub(crate) fn read_superblock_body(
    opened: &Opened,
    store: &str,
    key: &str,
) -> Result<Superblock, RecoveryError> {
    if opened.version < 4 {
        let SuperblockV3 { volume, created } = opened.body(store, key, ObjectKind::Superblock)?;
        return Ok(Superblock { volume, created, origin: None });
    }
    let superblock: Superblock = opened.body(store, key, ObjectKind::Superblock)?;
    let epochs = superblock.origin.iter().flat_map(|origin| {
        origin.ancestors.iter().map(|ancestor| ancestor.last_epoch).chain([origin.at.id.epoch])
    });
    let epochs: Vec<u64> = epochs.collect();
    let [ancestors @ .., at] = epochs.as_slice() else { return Ok(superblock) };
    // No history gets so far: such a number is not one of ours, and adding to it must not overflow.
    if ancestors.last() == Some(at) && *at < 1 << 62 && ancestors.is_sorted_by(|a, b| a < b) {
        Ok(superblock)
    } else {
        Err(envelope::damaged(store, key, "what it says that it is a fork of does not fit together"))
    }
}

/// Encodes a commit with the bytes of its inlined segments.
pub(crate) fn encode_commit(commit: &Commit, inline: &[Bytes]) -> (Bytes, ObjectHash, u64) {
    let (mut object, hash) = envelope::seal(ObjectKind::Commit, commit);
    let inline_start = object.len() as u64;
    for piece in inline {
        object.extend_from_slice(piece);
    }
    (object.into(), hash, inline_start)
}

/// Decodes what stands at a commit's name.
///
/// # Errors
/// `Damaged`, `UnknownFormat`.
pub fn decode_commit(
    store: &str,
    keys: Keys,
    id: CommitId,
    object: &Bytes,
) -> Result<CommitObject, RecoveryError> {
    decode_commit_start(store, keys, id, object, object.len() as u64)
}

/// Decodes what stands at a commit's name from the start of an object of `len` bytes. The inlined segments' bytes are there
/// as far as they are in `start`.
///
/// # Errors
/// `Damaged`, `UnknownFormat`.
pub fn decode_commit_start(
    store: &str,
    keys: Keys,
    id: CommitId,
    start: &Bytes,
    len: u64,
) -> Result<CommitObject, RecoveryError> {
    let key = keys.commit(id);
    let opened = envelope::open(store, &key, start)?;
    let attached = len.checked_sub(opened.attachment_start);
    let misplaced =
        || envelope::damaged(store, &key, "it says that it is another volume's, or stands elsewhere");
    if opened.is(ObjectKind::Fence) {
        let fence: Fence = opened.body(store, &key, ObjectKind::Fence)?;
        let right = fence.volume == keys.0 && fence.at == id && fence.next_epoch == id.epoch + 1;
        return if right && attached == Some(0) { Ok(CommitObject::Fence(fence)) } else { Err(misplaced()) };
    }
    let commit = read_commit_body(&opened, store, &key)?;
    if commit.volume != keys.0 || commit.id != id {
        return Err(misplaced());
    }
    let mut inlined = commit.segments.iter().filter(|added| added.key.is_none()).map(|added| added.len);
    let inlined = inlined.try_fold(0_u64, |sum: u64, len| sum.checked_add(len));
    let goes_on = commit.rewound.iter().all(|to| *to < commit.id);
    if inlined.is_none() || inlined != attached || commit.end < commit.base || !goes_on {
        return Err(envelope::damaged(
            store,
            &key,
            "its inlined segments are cut, or its numbers do not fit",
        ));
    }
    Ok(CommitObject::Commit(Box::new(FetchedCommit {
        commit,
        hash: opened.hash,
        inline_start: opened.attachment_start,
        inline: opened.attachment,
    })))
}

/// The body of a commit of any version.
pub(crate) fn read_commit_body(opened: &Opened, store: &str, key: &str) -> Result<Commit, RecoveryError> {
    match opened.version {
        ..3 => opened.body(store, key, ObjectKind::Commit).map(|body: CommitV2| CommitV3::from(body).into()),
        3 => opened.body(store, key, ObjectKind::Commit).map(CommitV3::into),
        4.. => opened.body(store, key, ObjectKind::Commit),
    }
}

/// Fetches what stands at a commit's name, wherever in the lineage that is.
pub(crate) async fn fetch_commit(lineage: &Lineage, id: CommitId) -> Result<CommitObject, RecoveryError> {
    let Home { store, keys } = lineage.of_epoch(id.epoch);
    let key = keys.commit(id);
    let object = store.get(&key).await.map_err(|error| missing(&store, &key, error))?;
    decode_commit(store.url(), keys, id, &object)
}

/// `Missing` for an object that is not there, else the store's error.
pub(crate) fn missing(store: &Store, key: &str, error: rfs_backends::StoreError) -> RecoveryError {
    match error.kind() {
        rfs_backends::StoreErrorKind::NotFound => {
            RecoveryError::Missing { store: store.url().to_owned(), key: key.to_owned() }
        }
        // What stands there was read, and is not what was sealed or compressed.
        rfs_backends::StoreErrorKind::Damaged => envelope::damaged(store.url(), key, error.detail()),
        _ => error.into(),
    }
}
