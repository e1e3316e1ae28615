//! A small volume with every kind of object and every field of each, as each format version wrote it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use rfs_backends::{Store, StoreOptions};
use rfs_core::{
    Change, CommitId, Ino, Limits, LockMode, LockOwner, LockRange, Lsn, Map, Name, Node, OwnerId, PageObject,
    QuotaSubject, SegmentId, StateHash, Timestamp, Tree, XattrName, XattrValue,
};
use rfs_journal::{Appender, ChainHash, Cut, LogWriter, Residency, Sealed, SegmentHeader, WriterIdentity};
use rfs_recovery::commit_log::{Draft, Published, Publisher, create, take_over};
use rfs_recovery::image::{EncodedImage, ImageBase, ImageOf, encode_image};
use rfs_recovery::objects::{AddedSegment, CommitObject, ImageRef, PagedImage, StoredSegment, decode_commit};
use rfs_recovery::{FORMAT, Keys, Lineage, Pages, SUPERBLOCK};
use rfs_testkit::{CrashPlan, SimStore, loaded};

pub(crate) const VOLUME: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
pub(crate) const WRITER: u128 = 0xfeed_beef;
pub(crate) const NEXT_WRITER: u128 = 0xcafe;
pub(crate) const KEYS: Keys = Keys(VOLUME);
pub(crate) const FIRST: CommitId = CommitId { epoch: 1, number: 0 };
pub(crate) const SECOND: CommitId = CommitId { epoch: 1, number: 1 };
pub(crate) const FIRST_PAGES: PageObject = PageObject { epoch: 1, number: 0 };
pub(crate) const PAGES: PageObject = PageObject { epoch: 1, number: 1 };

pub(crate) fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + nanos)
}

pub(crate) fn store_on(sim: &SimStore) -> Store {
    Store::new(Arc::new(sim.clone()), "sim://", Path::default(), StoreOptions::default())
}

pub(crate) fn lineage_of(store: &Store) -> Lineage {
    Lineage::alone(store.clone(), KEYS, time(-1))
}

pub(crate) fn pages_of(store: &Store) -> Pages {
    Pages::new(lineage_of(store), 1 << 20)
}

/// The sample: its objects by key, and its trees.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) objects: BTreeMap<String, Bytes>,
    /// The newest commit, a named one. It names the image.
    pub(crate) head: CommitId,
    pub(crate) image: ImageRef,
    /// The tree that the image is of.
    pub(crate) imaged: Tree,
    /// The tree of the newest commit.
    pub(crate) newest: Tree,
}

impl Sample {
    pub(crate) fn superblock(&self) -> &Bytes {
        &self.objects[SUPERBLOCK]
    }

    pub(crate) fn head_key(&self) -> String {
        KEYS.commit(self.head)
    }

    pub(crate) fn commit(&self) -> &Bytes {
        &self.objects[&self.head_key()]
    }

    /// Where the second writer's fence stands.
    pub(crate) fn fence_id(&self) -> CommitId {
        CommitId { number: self.head.number + 1, ..self.head }
    }

    pub(crate) fn fence_key(&self) -> String {
        KEYS.commit(self.fence_id())
    }

    pub(crate) fn fence(&self) -> &Bytes {
        &self.objects[&self.fence_key()]
    }

    pub(crate) fn image_key(&self) -> String {
        match &self.image {
            ImageRef::Whole(image) => image.key.clone(),
            ImageRef::Paged(image) => KEYS.pages_of(image.head.object),
        }
    }

    pub(crate) fn image(&self) -> &Bytes {
        &self.objects[&self.image_key()]
    }

    pub(crate) fn paged(&self) -> PagedImage {
        let ImageRef::Paged(image) = &self.image else { panic!("it is a sample of pages") };
        *image
    }

    /// The sample without one of its objects.
    pub(crate) fn without(&self, key: &str) -> Self {
        let mut less = self.clone();
        less.objects.remove(key).unwrap();
        less
    }

    /// A store with these objects, some of them replaced.
    pub(crate) fn store_with(&self, replaced: &[(&str, &Bytes)]) -> Store {
        let sim = SimStore::new(CrashPlan::never());
        let whole = self.objects.iter().map(|(key, object)| (key.as_str(), object));
        for (key, object) in whole.chain(replaced.iter().copied()) {
            sim.set_object(&Path::from(key), object.clone());
        }
        store_on(&sim)
    }
}

/// The journal in the making.
struct Journal {
    residency: Arc<Residency>,
    appender: Appender,
    writer: LogWriter,
    tree: Tree,
}

impl Journal {
    fn new() -> Self {
        let residency = Arc::new(Residency::default());
        let identity = WriterIdentity { volume: VOLUME, epoch: 1, writer: WRITER };
        let start = ChainHash::default();
        Self {
            appender: Appender::new(Arc::clone(&residency), Cut::default(), SegmentId(0), Lsn(0)),
            writer: LogWriter::in_memory(identity, Arc::clone(&residency), Lsn(0), start),
            residency,
            tree: Tree::new(time(0)),
        }
    }

    fn create(&mut self, ino: Ino, name: &str, node: Node) {
        let name = Name::new(name.as_bytes()).unwrap();
        let (mode, uid, gid) = (0o640, 1000, 100);
        let change = Change::Create { parent: Ino::ROOT, name, ino, node, mode, uid, gid, time: time(1) };
        self.append(&change, &[]);
    }

    fn write(&mut self, ino: Ino, offset: u64, len: u64) {
        let payload: Vec<u8> = (0..len).map(|at| (at * 7 + offset) as u8).collect();
        self.append(&Change::Write { ino, offset, len, time: time(2) }, &payload);
    }

    /// Adds one of everything that came with format version 2.
    fn fill(&mut self) {
        let ino = Ino(2);
        for (number, name, node) in [
            (4, "fifo", Node::Fifo),
            (5, "socket", Node::Socket),
            (6, "tty", Node::CharDevice(0x0501)),
            (7, "disk", Node::BlockDevice(u64::MAX)),
        ] {
            self.create(Ino(number), name, node);
        }
        let (session, process) = (OwnerId(1 << 63), OwnerId(4));
        let (handle, pid) = (LockOwner { owner: session, key: 7 }, LockOwner { owner: process, key: 8 });
        let nameless = |ino, owner, linkable| Change::CreateNameless {
            ino: Ino(ino),
            owner,
            linkable,
            mode: 0o600,
            uid: 1000,
            gid: 100,
            time: time(2),
        };
        let value = |bytes: &[u8]| XattrValue::new(bytes).unwrap();
        let attribute = |name: &[u8], value| Change::SetXattr {
            ino,
            name: XattrName::new(name).unwrap(),
            value,
            time: time(2),
        };
        for change in [
            nameless(8, session, true),
            nameless(9, process, false),
            Change::Hold { ino: Ino(8), owner: process },
            Change::Share { from: ino, from_offset: 10, to: Ino(8), to_offset: 0, len: 30, time: time(2) },
            attribute(b"user.origin", value(b"\0\xff")),
            attribute(b"trusted.empty", value(b"")),
            Change::Lock { ino, owner: OwnerId(9), mode: LockMode::Shared },
            Change::LockFile { ino, owner: handle, mode: LockMode::Shared },
            Change::LockRange { ino, owner: pid, range: LockRange::ALL, mode: LockMode::Exclusive },
            Change::UnlockRange { ino, owner: pid, range: LockRange { start: 10, end: 20 } },
            Change::SetQuota {
                subject: QuotaSubject::Volume,
                limits: Limits { bytes: Some(1 << 40), inodes: None },
            },
            Change::SetQuota {
                subject: QuotaSubject::User(1000),
                limits: Limits { bytes: None, inodes: Some(0) },
            },
        ] {
            self.append(&change, &[]);
        }
    }

    fn append(&mut self, change: &Change, payload: &[u8]) {
        let place = self.appender.reserve(payload.len() as u64).unwrap();
        self.tree.apply(change, place).unwrap();
        self.appender.append(change, payload);
    }

    /// Seals a segment; yields what is known of it, and its bytes.
    fn seal(&mut self) -> (Sealed, Bytes) {
        let boundary = self.appender.seal();
        self.writer.write(self.appender.take_work(), false).unwrap();
        let id = boundary.segment.unwrap();
        let bytes = self.residency.segment_bytes(id).unwrap().unwrap().concat();
        (self.residency.sealed(id).unwrap(), bytes.into())
    }

    fn draft(&self, segments: Vec<(AddedSegment, SegmentHeader)>, inline: Vec<Bytes>) -> Draft {
        let (end, chain) = self.writer.end();
        let state = loaded(StateHash::of(&self.tree));
        Draft {
            end,
            chain,
            state,
            time: time(10),
            segments,
            inline,
            image: None,
            checkpoint: None,
            metadata: Vec::new(),
            rewound: Vec::new(),
        }
    }
}

fn added(sealed: &Sealed, key: Option<String>) -> (AddedSegment, SegmentHeader) {
    let (header, hash, len, footer_len) = (sealed.header, sealed.hash, sealed.len, sealed.footer_len);
    (
        AddedSegment {
            id: header.id,
            epoch: header.epoch,
            writer: header.writer,
            hash,
            len,
            footer_len,
            key,
        },
        header,
    )
}

async fn publish(publisher: &mut Publisher, draft: Draft) -> Published {
    publisher.prepare(draft);
    publisher.settle().await.unwrap()
}

/// The golden file `name`.
pub(crate) fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn shipped(name: &str) -> Bytes {
    let path = golden_path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// The sample with these objects as they were shipped, and with the image that its head names.
fn with_shipped(mut sample: Sample, names: impl IntoIterator<Item = (String, &'static str)>) -> Sample {
    sample.objects.extend(names.into_iter().map(|(key, name)| (key, shipped(name))));
    let commit = decode_commit("golden", KEYS, sample.head, sample.commit()).unwrap();
    let CommitObject::Commit(commit) = commit else { panic!("it is a commit") };
    sample.image = commit.commit.image.unwrap();
    sample
}

/// The sample as it was written with format version 1, every object of it.
pub(crate) async fn version_1() -> Sample {
    let mut sample = make_of(1).await;
    sample.objects.clear();
    let names = [
        (SUPERBLOCK.to_owned(), "superblock-v1.bin"),
        (KEYS.commit(CommitId::default()), "fence-first-v1.bin"),
        (KEYS.commit(FIRST), "commit-first-v1.bin"),
        (KEYS.segment(SegmentId(1), 1, WRITER), "segment-v1.bin"),
        (KEYS.image(FIRST, WRITER), "image-v1.bin"),
        (sample.head_key(), "commit-v1.bin"),
        (sample.fence_key(), "fence-v1.bin"),
    ];
    with_shipped(sample, names)
}

/// The objects that were shipped under their keys.
fn by_key(dir: &str) -> BTreeMap<String, Bytes> {
    let files = std::fs::read_dir(golden_path(dir)).unwrap().map(|file| file.unwrap().path());
    let object = |path: std::path::PathBuf| {
        let key = path.file_name().unwrap().to_str().unwrap().replace('_', "/");
        (key, std::fs::read(path).unwrap().into())
    };
    files.map(object).collect()
}

/// The sample as it was written with format version 2, every object of it.
pub(crate) async fn version_2() -> Sample {
    let mut sample = make_of(2).await;
    sample.objects = by_key("v2");
    let names = [
        (SUPERBLOCK.to_owned(), "superblock-v2.bin"),
        (KEYS.image(FIRST, WRITER), "image-v2.bin"),
        (sample.head_key(), "commit-v2.bin"),
        (sample.fence_key(), "fence-v2.bin"),
    ];
    with_shipped(sample, names)
}

/// The sample as it was written with format version 3, every object of it.
pub(crate) async fn version_3() -> Sample {
    let mut sample = make_of(3).await;
    sample.objects = by_key("v3");
    let names = [
        (SUPERBLOCK.to_owned(), "superblock-v3.bin"),
        (KEYS.pages_of(FIRST_PAGES), "pages-first-v3.bin"),
        (KEYS.pages_of(PAGES), "pages-v3.bin"),
        (sample.head_key(), "commit-v3.bin"),
        (sample.fence_key(), "fence-v3.bin"),
    ];
    with_shipped(sample, names)
}

/// The sample as it was written with format version 4, every object of it.
pub(crate) async fn version_4() -> Sample {
    let mut sample = make().await;
    sample.objects = by_key("v4");
    with_shipped(sample, [])
}

/// The sample as it was written with format version 5, every object of it.
pub(crate) async fn version_5() -> Sample {
    assert_eq!(FORMAT, 5, "what is shipped is as it is made now");
    let mut sample = make().await;
    let dir = golden_path("v5");
    if !dir.exists() && std::env::var("RFS_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::create_dir(&dir).unwrap();
        for (key, object) in &sample.objects {
            std::fs::write(dir.join(key.replace('/', "_")), object).unwrap();
        }
    }
    sample.objects = by_key("v5");
    with_shipped(sample, [])
}

/// An object as it was shipped; `RFS_GOLDEN=write` ships it as it is in the store, unless it was.
pub(crate) async fn golden(name: &str, store: &Store, key: &str) -> Bytes {
    let path = golden_path(name);
    if !path.exists() && std::env::var("RFS_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, store.get(key).await.unwrap()).unwrap();
    }
    shipped(name)
}

/// Makes the sample: a commit with an inlined segment, its image, another such commit and its image, which needs pages
/// of the first one; a named commit with an uploaded and an inlined segment that names the image, and the fence of the
/// next writer.
pub(crate) async fn make() -> Sample {
    make_of(3).await
}

/// Makes what version 3 makes of what there was in this version. Before version 3 there was the image of the first
/// commit, and no commit between this one and the named one; that image cannot be made any more.
async fn make_of(version: u16) -> Sample {
    let sim = SimStore::new(CrashPlan::never());
    let store = store_on(&sim);
    create(&store, VOLUME, time(-1)).await.unwrap();
    let listing = take_over(&lineage_of(&store), WRITER, time(0)).await.unwrap();
    let mut publisher = Publisher::new(lineage_of(&store), WRITER, listing.slot.epoch + 1, None, Lsn(0));

    let mut journal = Journal::new();
    let file = Ino(2);
    journal.create(file, "file", Node::File);
    journal.write(file, 0, 100);
    journal.create(Ino(3), "dir", Node::Directory);
    if version > 1 {
        journal.fill();
    }
    let (sealed, bytes) = journal.seal();
    let mut published = publish(&mut publisher, journal.draft(vec![added(&sealed, None)], vec![bytes])).await;
    assert_eq!(published.reference.id, FIRST);
    let mut image = None;
    if version > 2 {
        let mut segments = published.segments.clone();
        let of = image_of(&journal, &published, &segments);
        let first = put_image(&store, FIRST_PAGES, &of, &ImageBase::default()).await;
        journal.write(file, 200, 10);
        let (sealed, bytes) = journal.seal();
        published = publish(&mut publisher, journal.draft(vec![added(&sealed, None)], vec![bytes])).await;
        segments.extend(published.segments.iter().cloned());
        let of = image_of(&journal, &published, &segments);
        image = Some(put_image(&store, PAGES, &of, &first.base).await.reference);
    }
    let imaged = journal.tree.clone();

    journal.write(file, 5000, 900);
    let (uploaded, bytes) = journal.seal();
    let key = KEYS.segment(uploaded.header.id, 1, WRITER);
    store.put(&key, bytes).await.unwrap();
    let link = if version > 1 { Ino(10) } else { Ino(4) };
    journal.create(link, "link", Node::Symlink(Arc::from(&b"../to/\xff"[..])));
    let head = publisher.next_id();
    journal.append(&Change::AddCheckpoint { name: "naïve".to_owned(), commit: head, time: time(3) }, &[]);
    let (inlined, bytes) = journal.seal();
    let segments = vec![added(&uploaded, Some(key)), added(&inlined, None)];
    let draft = Draft {
        image: image.map(ImageRef::Paged),
        checkpoint: Some("naïve".to_owned()),
        metadata: b"flight 17".to_vec(),
        rewound: vec![FIRST],
        ..journal.draft(segments, vec![bytes])
    };
    assert_eq!(publish(&mut publisher, draft).await.reference.id, head);
    take_over(&lineage_of(&store), NEXT_WRITER, time(20)).await.unwrap();

    let paths = sim.paths().into_iter();
    let objects = paths.map(|path| (path.to_string(), sim.object(&path).unwrap())).collect();
    let nowhere = PagedImage { of: FIRST, head: rfs_recovery::page::page_ref(PAGES, 0, &[]) };
    let image = ImageRef::Paged(image.unwrap_or(nowhere));
    Sample { objects, head, image, imaged, newest: journal.tree }
}

fn image_of(journal: &Journal, published: &Published, segments: &[StoredSegment]) -> ImageOf {
    let (lsn, chain) = journal.writer.end();
    ImageOf {
        volume: VOLUME,
        of: published.reference.id,
        lsn,
        chain,
        state: loaded(StateHash::of(&journal.tree)),
        next_segment: SegmentId(segments.len() as u64),
        tree: journal.tree.clone(),
        segments: Map::from_ascending(segments.iter().map(|stored| (stored.header.id, stored.clone()))),
    }
}

/// Encodes an image, puts it in the store, and says so.
pub(crate) async fn put_image(
    store: &Store,
    object: PageObject,
    of: &ImageOf,
    base: &ImageBase,
) -> EncodedImage {
    let image = encode_image(of, base, object).unwrap();
    store.put_large(&KEYS.pages_of(object), image.pieces.clone()).await.unwrap();
    image.is_stored(&Pages::new(lineage_of(store), 0));
    image
}
