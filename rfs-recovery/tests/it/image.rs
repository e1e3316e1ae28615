//! Images of arbitrary trees, one after the other: what is read is what was written, and only what changed is written.

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;
use rfs_backends::Store;
use rfs_core::{
    Access, Allocate, At, Change, CommitId, Context, Ino, Limits, LockMode, LockOwner, LockRange, Lsn, Map,
    Node, Op, OpenFlags, OwnerId, PageObject, PageRef, Place, QuotaSubject, SegmentId, StateHash, Target,
    Timestamp, Tree, WriteAt, XattrMode, decide,
};
use rfs_journal::{ChainHash, SegmentHash};
use rfs_recovery::Pages;
use rfs_recovery::image::{EncodedImage, ImageBase, ImageOf, encode_image, read_head};
use rfs_recovery::objects::{PagedImage, StoredHeader, StoredSegment};
use rfs_testkit::{CrashPlan, SimStore, loaded};

use crate::sample::{self, FIRST, KEYS, VOLUME, WRITER};

/// Numbers that follow from a seed (splitmix64), and how many names there are in a directory.
pub(crate) struct Random(pub(crate) u64, pub(crate) u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }

    fn at(&mut self) -> At {
        let dir = ["", "1/", "2/"][self.below(3) as usize];
        At::root(format!("{dir}{}", self.below(self.1)))
    }

    fn ino(&mut self) -> Ino {
        Ino(1 + self.below(3 * self.1))
    }

    fn holder(&mut self) -> LockOwner {
        LockOwner { owner: OwnerId(self.below(3) << 62), key: self.below(3) }
    }
}

pub(crate) fn any_op(random: &mut Random) -> Op {
    let (ino, holder, mode) = (random.ino(), random.holder(), 0o640);
    let (target, offset, len) = (Target::Ino(ino), random.below(100), random.below(50));
    let access = Access { read: true, write: true };
    let lock = if random.below(2) == 0 { LockMode::Shared } else { LockMode::Exclusive };
    match random.below(18) {
        0..2 => Op::Mkdir { at: random.at(), mode },
        2..4 => {
            let flags = OpenFlags { create: true, ..OpenFlags::default() };
            Op::Open { at: random.at(), access, flags, mode }
        }
        4 => {
            let nodes = [Node::Fifo, Node::Socket, Node::CharDevice(u64::MAX), Node::BlockDevice(3)];
            Op::Mknod { at: random.at(), node: nodes[random.below(4) as usize].clone(), mode }
        }
        5 => Op::Symlink { target: vec![0xff; 1 + len as usize], at: random.at() },
        6 => Op::OpenNameless { dir: Target::Ino(Ino::ROOT), access, linkable: len > 20, mode },
        7 => Op::Unlink { at: random.at() },
        8..11 => Op::Write { target, at: WriteAt::Offset(offset), len },
        11 => Op::Allocate { target, mode: Allocate::PunchHole, offset, len },
        12 => {
            let to = Target::Ino(random.ino());
            Op::Copy { from: target, from_offset: offset, to, to_offset: random.below(100), len }
        }
        13 => Op::LockFile { ino, owner: holder, mode: lock },
        14..16 => {
            let range =
                LockRange { start: offset, end: if len == 0 { LockRange::END } else { offset + len } };
            Op::LockRange { ino, owner: holder, range, mode: lock }
        }
        16 => {
            let name = format!("user.{}", random.below(4)).into_bytes();
            Op::SetXattr { target, name, value: vec![7; len as usize], mode: XattrMode::Set }
        }
        _ => {
            let subject = if len == 0 { QuotaSubject::Volume } else { QuotaSubject::User(len as u32) };
            Op::SetQuota { subject, limits: Limits { bytes: Some(1 << 40), inodes: None } }
        }
    }
}

/// A volume whose images are made one after the other.
pub(crate) struct Run {
    pub(crate) sim: SimStore,
    pub(crate) store: Store,
    pub(crate) pages: Pages,
    /// Stored, opened again, let go of in part.
    pub(crate) tree: Tree,
    /// The same, and always in memory.
    pub(crate) model: Tree,
    pub(crate) segments: Map<SegmentId, StoredSegment>,
    pub(crate) base: ImageBase,
    pub(crate) images: u64,
    /// The commit whose state the next image is.
    pub(crate) of: CommitId,
    place: Place,
    time: i64,
}

impl Run {
    pub(crate) fn new() -> Self {
        let sim = SimStore::new(CrashPlan::never());
        let store = sample::store_on(&sim);
        let tree = Tree::new(sample::time(0));
        Self {
            sim,
            pages: sample::pages_of(&store),
            store,
            model: tree.clone(),
            tree,
            segments: Map::default(),
            base: ImageBase::default(),
            images: 0,
            of: FIRST,
            place: Place { segment: SegmentId(0), position: 0 },
            time: 0,
        }
    }

    async fn apply(&mut self, change: &Change) {
        self.model.apply(change, self.place).unwrap();
        while let Err(error) = self.tree.apply(change, self.place) {
            let missing = error.missing().unwrap_or_else(|| panic!("{change:?}: {error}"));
            self.pages.load(missing).await.unwrap();
        }
        self.place.position += change.payload_len();
    }

    pub(crate) async fn run(&mut self, random: &mut Random, ops: usize) {
        for _ in 0..ops {
            self.time += 1;
            let op = any_op(random);
            let owner = random.holder().owner;
            let holders = |_| vec![owner];
            let now = Timestamp::from_nanos(self.time);
            let context = Context { owner, holders: &holders, ..Context::new(now) };
            let Ok(decision) = decide(&self.model, &context, &op) else { continue };
            for change in &decision.changes {
                self.apply(change).await;
            }
        }
        // Whatever comes next is in another segment.
        let id = self.place.segment;
        let header = StoredHeader { id, epoch: 1, writer: WRITER, base: Lsn(0), chain: ChainHash::default() };
        let key = KEYS.segment(id, 1, WRITER);
        let hash = SegmentHash::default();
        let stored = StoredSegment { header, hash, len: 1 << 20, footer_len: 99, key, offset: 0 };
        self.pages.ask(|| self.segments.load(&id)).await.unwrap();
        self.segments.insert(id, stored).unwrap();
        self.place = Place { segment: id.next(), position: 0 };
    }

    pub(crate) fn next_object(&self) -> PageObject {
        PageObject { epoch: 1, number: self.images }
    }

    pub(crate) async fn encode(&mut self) -> EncodedImage {
        self.images += 1;
        let of = ImageOf {
            volume: VOLUME,
            of: self.of,
            lsn: Lsn(9),
            chain: ChainHash::default(),
            state: loaded(StateHash::of(&self.model)),
            next_segment: self.place.segment,
            tree: self.tree.clone(),
            segments: self.segments.clone(),
        };
        let object = self.next_object();
        self.pages.ask(|| encode_image(&of, &self.base, object)).await.unwrap()
    }

    pub(crate) async fn put(&mut self) -> EncodedImage {
        let image = self.encode().await;
        assert_eq!(image.reference.head.object, self.next_object());
        let len: usize = image.pieces.iter().map(bytes::Bytes::len).sum();
        assert_eq!((image.len(), image.is_empty()), (len as u64, false));
        let key = KEYS.pages_of(self.next_object());
        self.store.put_large(&key, image.pieces.clone()).await.unwrap();
        image.is_stored(&Pages::new(sample::lineage_of(&self.store), 0));
        self.base = image.base.clone();
        image
    }

    /// Opens the image as a reader does who knows nothing, and compares all of it.
    pub(crate) async fn check(&self, image: &PagedImage, model: &Tree) -> (Pages, ImageBase) {
        let pages = sample::pages_of(&self.store);
        let (head, base) = read_head(&pages, image).await.unwrap();
        let tree = base.tree().unwrap();
        pages.load_all(tree).await.unwrap();
        assert_eq!(tree, model);
        assert_eq!(StateHash::of(tree), Ok(head.state));
        tree.check().unwrap();
        let segments = || base.segments().iter().map(|pair| pair.map(|(id, _)| *id)).collect();
        let segments: Vec<SegmentId> = pages.ask(segments).await.unwrap();
        assert!(segments.iter().copied().eq((0..head.next_segment.0).map(SegmentId)), "{segments:?}");
        (pages, base)
    }

    /// The objects that have to stay.
    pub(crate) async fn count(
        &self,
        image: &PagedImage,
        pages: &Pages,
        base: &ImageBase,
    ) -> BTreeSet<PageObject> {
        let all = |_: &PageRef| false;
        let walk = || {
            let mut walked: BTreeMap<PageObject, u64> = BTreeMap::new();
            let mut walk = |page: PageRef| *walked.entry(page.object).or_default() += u64::from(page.len);
            base.tree().unwrap().pages_but(&all, &mut walk)?;
            base.segments().pages_but(&all, &mut walk)?;
            Ok(walked)
        };
        let walked = pages.ask(walk).await.unwrap();
        let counted = || base.objects().iter().map(|pair| pair.map(|(key, len)| (*key, *len))).collect();
        let counted: BTreeMap<PageObject, u64> = pages.ask(counted).await.unwrap();
        assert_eq!(counted, walked);
        let mut needed: BTreeSet<PageObject> = counted.into_keys().collect();
        let own = || {
            let mut own = BTreeSet::new();
            let visited = base.objects().pages_but(&all, &mut |page| {
                own.insert(page.object);
            });
            visited.map(|()| own)
        };
        needed.extend(pages.ask(own).await.unwrap());
        needed.insert(image.head.object);
        needed
    }

    /// The next image stores again what lies in some of the objects.
    async fn forget_pages(&mut self, random: &mut Random) -> u64 {
        let thin: BTreeSet<PageObject> = (0..random.below(4))
            .map(|_| PageObject { number: random.below(self.images + 1), ..self.next_object() })
            .collect();
        let unwanted = |page: &PageRef| thin.contains(&page.object);
        let mut bytes = 0;
        let all = || {
            bytes += self.tree.forget_pages(&unwanted)?;
            bytes += self.segments.forget_pages(&unwanted)?;
            self.base.forget_pages(&thin)
        };
        self.pages.ask(all).await.unwrap();
        bytes
    }

    /// Deletes all objects but these.
    fn delete_all_but(&self, needed: &BTreeSet<PageObject>) -> usize {
        let needed: BTreeSet<Path> = needed.iter().map(|object| KEYS.pages_of(*object).into()).collect();
        let gone: Vec<Path> = self.sim.paths().into_iter().filter(|path| !needed.contains(path)).collect();
        assert!(gone.iter().all(|path| self.sim.remove_object(path)));
        gone.len()
    }
}

#[tokio::test]
async fn what_is_read_is_what_was_written() {
    let (mut items, mut shared, mut deleted, mut failed, mut forgotten) = (0, 0, 0, 0, 0);
    for seed in 0..40 {
        let mut random = Random(seed, if seed % 2 == 0 { 4 } else { 150 });
        let mut run = Run::new();
        for _ in 0..8 {
            let ops = [3, 30, 400][random.below(3) as usize];
            run.run(&mut random, ops).await;
            forgotten += run.forget_pages(&mut random).await;
            if random.below(4) == 0 {
                // Its put fails, wholly or in the reply.
                let image = run.encode().await;
                failed += image.pages;
                if random.below(2) == 0 {
                    let key = KEYS.pages_of(run.next_object());
                    run.store.put_large(&key, image.pieces).await.unwrap();
                }
            }
            let image = run.put().await.reference;
            let (pages, base) = run.check(&image, &run.model).await;
            let needed = run.count(&image, &pages, &base).await;
            assert_eq!(needed, run.count(&image, &run.pages, &run.base).await, "seed {seed}");
            shared += usize::from(needed.len() > 1);
            let gone = run.delete_all_but(&needed);
            if gone > 0 {
                deleted += gone;
                run.check(&image, &run.model).await;
            }
            match random.below(3) {
                0 => (run.tree, run.segments) = (base.tree().unwrap().clone(), base.segments().clone()),
                1 => {
                    let (_, base) = read_head(&pages, &image).await.unwrap();
                    (run.tree, run.segments) = (base.tree().unwrap().clone(), base.segments().clone());
                    (run.pages, run.base) = (sample::pages_of(&run.store), base);
                }
                _ => {
                    run.tree.evict();
                    run.base.evict();
                    run.segments.evict();
                }
            }
        }
        items += loaded(run.model.items()).count();
    }
    assert!(
        items > 1000 && shared > 100 && deleted > 100 && failed > 100 && forgotten > 5000,
        "{items} {shared} {deleted} {failed} {forgotten}"
    );
}

/// A tree of many pages, and its first image.
async fn large() -> (Run, Random) {
    let mut run = Run::new();
    let mut random = Random(7, 3000);
    for at in ["1", "2"] {
        let op = Op::Mkdir { at: At::root(at), mode: 0o755 };
        let decision = decide(&run.model, &Context::new(Timestamp::from_nanos(1)), &op).unwrap();
        run.apply(&decision.changes[0]).await;
    }
    run.run(&mut random, 20_000).await;
    run.put().await;
    (run, random)
}

#[tokio::test]
async fn an_image_after_few_changes_has_few_pages() {
    let (mut run, mut random) = large().await;
    let all = run.base.objects().iter().count();
    assert_eq!(all, 1);
    let mut whole = 0;
    run.tree.pages_but(&|_| false, &mut |_| whole += 1).unwrap();
    assert!(whole > 100, "{whole} pages");
    for _ in 0..10 {
        run.run(&mut random, 5).await;
        let image = run.put().await;
        // A Change touches some leaves; above each there is one branch, the root.
        assert!(image.pages < 60, "{} pages", image.pages);
    }
    // Nothing changed but where the next segment is.
    run.run(&mut random, 0).await;
    let image = run.put().await;
    assert_eq!(image.pages, 2, "the segments and the objects");
}

#[tokio::test]
async fn an_image_whose_put_failed_is_stored_by_the_next_one() {
    let (mut run, mut random) = large().await;
    run.run(&mut random, 50).await;
    let failed = run.encode().await;
    let again = run.put().await;
    assert_eq!(again.pages, failed.pages);
    let (pages, base) = run.check(&again.reference, &run.model).await;
    let needed = run.count(&again.reference, &pages, &base).await;
    assert!(!needed.contains(&failed.reference.head.object), "{needed:?}");
    run.run(&mut random, 1).await;
    assert!(run.put().await.pages < again.pages);
}
