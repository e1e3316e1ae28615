//! Collections of page objects: what no retained state needs goes, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{CommitId, Lsn, PageObject, StateHash, Tree};
use rfs_journal::ChainHash;
use rfs_recovery::RecoveryError;
use rfs_recovery::collect::{Collected, Learnt, Retention, collect};
use rfs_recovery::commit_log::{Draft, Publisher, create, list_ids, read_commit, take_over};
use rfs_recovery::objects::{ImageRef, PagedImage};
use rfs_recovery::state::load;
use rfs_testkit::loaded;

use crate::image::{Random, Run};
use crate::sample::{self, KEYS, NEXT_WRITER, VOLUME, WRITER, time};

/// A volume whose every second commit names an image of the one before.
struct Volume {
    run: Run,
    publisher: Publisher,
    /// By the commits that name images.
    states: BTreeMap<CommitId, (PagedImage, Tree)>,
}

impl Volume {
    async fn new() -> Self {
        let run = Run::new();
        create(&run.store, VOLUME, time(-1)).await.unwrap();
        let listing = take_over(&sample::lineage_of(&run.store), WRITER, time(0)).await.unwrap();
        let epoch = listing.slot.epoch + 1;
        let publisher = Publisher::new(sample::lineage_of(&run.store), WRITER, epoch, None, Lsn(9));
        Self { run, publisher, states: BTreeMap::new() }
    }

    async fn publish(&mut self, image: Option<PagedImage>) -> CommitId {
        self.publisher.prepare(Draft {
            end: Lsn(9),
            chain: ChainHash::default(),
            state: loaded(StateHash::of(&self.run.model)),
            time: time(10),
            segments: Vec::new(),
            inline: Vec::new(),
            image: image.map(ImageRef::Paged),
            checkpoint: None,
            metadata: Vec::new(),
            rewound: Vec::new(),
        });
        self.publisher.settle().await.unwrap().reference.id
    }

    /// Makes changes, an image, and the commit that names it.
    async fn commit(&mut self, random: &mut Random, ops: usize) -> CommitId {
        self.run.run(random, ops).await;
        self.run.of = self.publish(None).await;
        let image = self.run.put().await.reference;
        let id = self.publish(Some(image)).await;
        self.states.insert(id, (image, self.run.model.clone()));
        id
    }

    async fn collect(
        &self,
        newest: CommitId,
        checkpoints: &[CommitId],
        learnt: &mut Learnt,
    ) -> Result<Collected, RecoveryError> {
        let retention = Retention {
            newest,
            checkpoints: checkpoints.iter().copied().collect(),
            keep_commits: 1,
            newest_until_ms: i64::MAX,
            last_segment: None,
            now: time(0),
        };
        collect(&sample::pages_of(&self.run.store), &self.publisher.fence_check(), &retention, learnt).await
    }

    /// How many objects there are, but for what collections say that they keep.
    fn objects(&self) -> usize {
        self.run.sim.paths().iter().filter(|path| KEYS.parse_kept(path.as_ref()).is_none()).count()
    }

    /// The page objects that these states need.
    async fn needed(&self, states: &[CommitId]) -> BTreeSet<PageObject> {
        let mut needed = BTreeSet::new();
        for id in states {
            let (image, model) = &self.states[id];
            let (pages, base) = self.run.check(image, model).await;
            needed.extend(self.run.count(image, &pages, &base).await);
        }
        needed
    }

    fn page_objects(&self) -> BTreeSet<PageObject> {
        let paths = self.run.sim.paths().into_iter();
        paths.filter_map(|path| KEYS.parse_pages(path.as_ref())).collect()
    }

    /// Opens a state as a reader does, and compares all of it.
    async fn opens(&self, id: CommitId) {
        let pages = sample::pages_of(&self.run.store);
        let ids = list_ids(&sample::lineage_of(&self.run.store)).await.unwrap();
        let commit = read_commit(&sample::lineage_of(&self.run.store), id).await.unwrap();
        let state = load(&pages, &ids, commit).await.unwrap();
        pages.load_all(&state.tree).await.unwrap();
        assert_eq!(state.tree, self.states[&id].1);
        state.tree.check().unwrap();
    }
}

async fn put(store: &Store, key: &str) {
    store.put(key, Bytes::from_static(b"of nobody")).await.unwrap();
}

#[tokio::test]
async fn what_no_retained_state_needs_goes() {
    let (mut gone, mut kept) = (0, 0);
    for seed in 0..6 {
        let mut random = Random(seed, if seed % 2 == 0 { 4 } else { 150 });
        let mut volume = Volume::new().await;
        let mut learnt = Learnt::default();
        let named = volume.commit(&mut random, 300).await;
        volume.commit(&mut random, 30).await;
        let other = volume.commit(&mut random, 300).await;
        // An image that failed, and its object is there all the same.
        volume.run.encode().await;
        put(&volume.run.store, &KEYS.pages_of(volume.run.next_object())).await;
        for _ in 0..3 {
            volume.commit(&mut random, 30).await;
        }
        let newest = volume.commit(&mut random, 300).await;
        // The next image is on its way.
        let coming = PageObject { number: volume.run.images + 1, ..volume.run.next_object() };
        put(&volume.run.store, &KEYS.pages_of(coming)).await;
        let whole = KEYS.image(named, WRITER);
        put(&volume.run.store, &whole).await;

        for checkpoints in [&[named, other][..], &[other], &[]] {
            if seed >= 3 {
                learnt = Learnt::default();
            }
            let states = [checkpoints, &[newest]].concat();
            let mut expected = volume.needed(&states).await;
            expected.insert(coming);
            let before = volume.page_objects();
            assert!(expected.is_subset(&before));
            let paths = volume.objects();
            let collected = volume.collect(newest, checkpoints, &mut learnt).await.unwrap();
            assert_eq!(volume.page_objects(), expected, "seed {seed}");
            assert_eq!(collected.objects as usize, paths - volume.objects());
            assert!(!volume.run.sim.paths().iter().any(|path| path.as_ref() == whole));
            for id in states {
                volume.opens(id).await;
            }
            gone += before.len() - expected.len();
            kept += expected.len();
            let again = volume.collect(newest, checkpoints, &mut learnt).await.unwrap();
            assert_eq!((again.objects, volume.page_objects()), (0, expected));
        }
        // The writer goes on from what is left.
        let next = volume.commit(&mut random, 30).await;
        volume.opens(next).await;
    }
    assert!(gone > 20 && kept > 20, "{gone} {kept}");
}

#[tokio::test]
async fn who_lost_the_epoch_deletes_nothing() {
    let mut random = Random(1, 4);
    let mut volume = Volume::new().await;
    volume.commit(&mut random, 30).await;
    let newest = volume.commit(&mut random, 300).await;
    take_over(&sample::lineage_of(&volume.run.store), NEXT_WRITER, time(20)).await.unwrap();
    let before = volume.run.sim.paths();
    let error = volume.collect(newest, &[], &mut Learnt::default()).await.unwrap_err();
    assert!(matches!(error, RecoveryError::Fenced { by: NEXT_WRITER, epoch: 2 }), "{error}");
    assert_eq!(volume.run.sim.paths(), before);
}

/// Which pages an image needs is known by its head and the pages that this leads to: without them nothing is deleted.
#[tokio::test]
async fn a_damaged_image_stops_a_collection() {
    let mut random = Random(1, 150);
    let mut volume = Volume::new().await;
    let named = volume.commit(&mut random, 300).await;
    volume.commit(&mut random, 300).await;
    let newest = volume.commit(&mut random, 300).await;
    let head = volume.states[&named].0.head;
    let key = KEYS.pages_of(head.object);
    let path = object_store::path::Path::from(key.as_str());
    volume.run.sim.flip_bit(&path, u64::from(head.offset) * 8);
    let before = volume.run.sim.paths();
    let error = volume.collect(newest, &[named], &mut Learnt::default()).await.unwrap_err();
    assert!(matches!(&error, RecoveryError::Damaged { key: of, .. } if *of == key), "{error}");
    assert_eq!(volume.run.sim.paths(), before);
}
