//! A small volume with every kind of object and every field of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use rfs_backends::{Store, StoreOptions};
use rfs_core::{
    Change, CommitId, Ino, Limits, LockMode, LockOwner, LockRange, Lsn, Name, Node, OwnerId, QuotaSubject,
    SegmentId, StateHash, Timestamp, Tree, XattrName, XattrValue,
};
use rfs_journal::{Appender, ChainHash, Cut, LogWriter, Residency, Sealed, SegmentHeader, WriterIdentity};
use rfs_recovery::commit_log::{Draft, Published, Publisher, create, take_over};
use rfs_recovery::image::{ImageOf, encode_image};
use rfs_recovery::objects::{AddedSegment, CommitObject, ImageRef, decode_commit};
use rfs_recovery::{Keys, SUPERBLOCK};
use rfs_testkit::{CrashPlan, SimStore};

pub(crate) const VOLUME: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
pub(crate) const WRITER: u128 = 0xfeed_beef;
pub(crate) const NEXT_WRITER: u128 = 0xcafe;
pub(crate) const KEYS: Keys = Keys(VOLUME);
pub(crate) const FIRST: CommitId = CommitId { epoch: 1, number: 0 };
pub(crate) const SECOND: CommitId = CommitId { epoch: 1, number: 1 };
/// Where the second writer's fence stands.
pub(crate) const FENCE: CommitId = CommitId { epoch: 1, number: 2 };

pub(crate) fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + nanos)
}

pub(crate) fn store_on(sim: &SimStore) -> Store {
    Store::new(Arc::new(sim.clone()), "sim://", Path::default(), StoreOptions::default())
}

/// The sample: its objects by key, and the trees of its commits.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) objects: BTreeMap<String, Bytes>,
    pub(crate) image: ImageRef,
    pub(crate) first: Tree,
    pub(crate) second: Tree,
}

impl Sample {
    pub(crate) fn superblock(&self) -> &Bytes {
        &self.objects[SUPERBLOCK]
    }

    pub(crate) fn commit(&self) -> &Bytes {
        &self.objects[&KEYS.commit(SECOND)]
    }

    pub(crate) fn fence(&self) -> &Bytes {
        &self.objects[&KEYS.commit(FENCE)]
    }

    pub(crate) fn image(&self) -> &Bytes {
        &self.objects[&self.image.key]
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
        let state = StateHash::of(&self.tree);
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

/// The sample as it was written with format version 1, every object of it.
pub(crate) async fn version_1() -> Sample {
    let Sample { first, second, .. } = make_of(false).await;
    let shipped = |name| Bytes::from(std::fs::read(golden_path(name)).unwrap());
    let objects: BTreeMap<String, Bytes> = [
        (SUPERBLOCK.to_owned(), "superblock-v1.bin"),
        (KEYS.commit(CommitId::default()), "fence-first-v1.bin"),
        (KEYS.commit(FIRST), "commit-first-v1.bin"),
        (KEYS.segment(SegmentId(1), 1, WRITER), "segment-v1.bin"),
        (KEYS.image(FIRST, WRITER), "image-v1.bin"),
        (KEYS.commit(SECOND), "commit-v1.bin"),
        (KEYS.commit(FENCE), "fence-v1.bin"),
    ]
    .into_iter()
    .map(|(key, name)| (key, shipped(name)))
    .collect();
    let commit = decode_commit("golden", KEYS, SECOND, &objects[&KEYS.commit(SECOND)]).unwrap();
    let CommitObject::Commit(commit) = commit else { panic!("it is a commit") };
    Sample { objects, image: commit.commit.image.unwrap(), first, second }
}

/// Makes the sample: a commit with an inlined segment, its image, a named commit with an uploaded and an inlined
/// segment that names the image, and the fence of the next writer.
pub(crate) async fn make() -> Sample {
    make_of(true).await
}

/// `all` says whether the tree has what there was not in format version 1.
async fn make_of(all: bool) -> Sample {
    let sim = SimStore::new(CrashPlan::never());
    let store = store_on(&sim);
    create(&store, VOLUME, time(-1)).await.unwrap();
    let listing = take_over(&store, KEYS, WRITER, time(0)).await.unwrap();
    let mut publisher = Publisher::new(store.clone(), KEYS, WRITER, listing.slot.epoch + 1, None, Lsn(0));

    let mut journal = Journal::new();
    let file = Ino(2);
    journal.create(file, "file", Node::File);
    journal.write(file, 0, 100);
    journal.create(Ino(3), "dir", Node::Directory);
    if all {
        journal.fill();
    }
    let (sealed, bytes) = journal.seal();
    let published = publish(&mut publisher, journal.draft(vec![added(&sealed, None)], vec![bytes])).await;
    assert_eq!(published.reference.id, FIRST);
    let first = journal.tree.clone();
    let (lsn, chain) = journal.writer.end();
    let of = ImageOf {
        volume: VOLUME,
        of: FIRST,
        lsn,
        chain,
        state: StateHash::of(&first),
        next_segment: SegmentId(1),
        segments: &published.segments,
    };
    let image = encode_image("sim://", WRITER, &of, &first).unwrap();
    store.put_large(&image.reference.key, image.pieces).await.unwrap();

    journal.write(file, 5000, 900);
    let (uploaded, bytes) = journal.seal();
    let key = KEYS.segment(SegmentId(1), 1, WRITER);
    store.put(&key, bytes).await.unwrap();
    let link = if all { Ino(10) } else { Ino(4) };
    journal.create(link, "link", Node::Symlink(Arc::from(&b"../to/\xff"[..])));
    journal.append(&Change::AddCheckpoint { name: "naïve".to_owned(), commit: SECOND, time: time(3) }, &[]);
    let (inlined, bytes) = journal.seal();
    let segments = vec![added(&uploaded, Some(key)), added(&inlined, None)];
    let draft = Draft {
        image: Some(image.reference.clone()),
        checkpoint: Some("naïve".to_owned()),
        metadata: b"flight 17".to_vec(),
        ..journal.draft(segments, vec![bytes])
    };
    assert_eq!(publish(&mut publisher, draft).await.reference.id, SECOND);
    take_over(&store, KEYS, NEXT_WRITER, time(20)).await.unwrap();

    let paths = sim.paths().into_iter();
    let objects = paths.map(|path| (path.to_string(), sim.object(&path).unwrap())).collect();
    Sample { objects, image: image.reference, first, second: journal.tree }
}
