//! Promise 4: whatever happens to an object, what is read is what was written, or it is an error that names the
//! object.
//!
//! A small volume with every kind of object is damaged in one place at a time: a flipped bit, a cut, an object gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use rfs::{
    At, Clock, CommitId, Error, ErrorKind, Options, Record, StateHash, Store, StoreOptions, Timestamp, Volume,
};
use rfs_testkit::{CrashPlan, Rng, SimStore};

use crate::common::options;

/// Objects up to this size have every bit flipped; of larger ones every byte has one.
const EVERY_BIT_BYTES: usize = 2 << 10;
/// Longer than all that one open and one look at everything may take on a store that answers at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of `sim` of its own.
pub(crate) fn on(sim: &SimStore) -> Store {
    let quick = StoreOptions::default().with_deadline(Duration::from_secs(5));
    let client = sim.client(CrashPlan::never());
    Store::new(Arc::new(client), "sim://", Path::from("v"), quick)
}

/// Every object's name and content.
pub(crate) fn objects(sim: &SimStore) -> BTreeMap<Path, Bytes> {
    sim.paths()
        .into_iter()
        .map(|path| {
            let content = sim.object(&path).unwrap();
            (path, content)
        })
        .collect()
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000)
    }
}

/// All that can be read of a state.
#[derive(Debug, PartialEq)]
struct Truth {
    state: StateHash,
    files: BTreeMap<&'static str, Vec<u8>>,
    histories: BTreeMap<&'static str, Vec<Record>>,
}

/// How the names end of the commits that the image makes the head need for content and history only.
const BEFORE_IMAGE: [&str; 3] = ["1-0000000000000000", "1-0000000000000001", "1-0000000000000002"];
/// Of those that the head needs whole.
const SINCE_IMAGE: [&str; 3] = ["1-0000000000000003", "2-0000000000000000", "2-0000000000000001"];
/// Of the newest fence.
const TOP: &str = "2-0000000000000002";

/// Fences below the newest one say nothing any more.
fn is_old_fence(path: &Path) -> bool {
    ["commits/0000000000000000-0000000000000000", "1-0000000000000004"]
        .iter()
        .any(|id| path.as_ref().ends_with(id))
}

const FILES: [&str; 6] = ["/small", "/dir/big", "/dir/mixed", "/late", "/renamed", "/empty"];

impl Truth {
    async fn of(volume: &Volume) -> Self {
        let (mut files, mut histories) = (BTreeMap::new(), BTreeMap::new());
        for path in FILES {
            if volume.fs().try_exists(path).await.unwrap() {
                files.insert(path, volume.fs().read(path).await.unwrap());
                histories.insert(path, volume.history(path).await.unwrap().records);
            }
        }
        Self { state: volume.state_hash().await.unwrap(), files, histories }
    }

    /// Reads everything that can be read. What comes is what was written; what does not come is among the errors.
    async fn compare(&self, volume: &Volume, context: &str) -> Vec<Error> {
        assert_eq!(volume.state_hash().await.unwrap(), self.state, "{context}: another tree");
        let mut errors = Vec::new();
        for (path, expected) in &self.files {
            match volume.fs().read(path).await {
                Ok(content) => assert_eq!(content, *expected, "{context}: {path}"),
                Err(error) => errors.push(error),
            }
        }
        for (path, expected) in &self.histories {
            match volume.history(path).await {
                Ok(history) => {
                    let after = |record: &&Record| record.lsn > history.complete_after;
                    let found: Vec<&Record> = history.records.iter().filter(after).collect();
                    let expected: Vec<&Record> = expected.iter().filter(after).collect();
                    assert_eq!(found, expected, "{context}: history of {path}");
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }
}

/// A volume, and what is in it.
struct Sample {
    sim: SimStore,
    head: Truth,
    /// The state at the checkpoint "named", which is older than the image.
    named: Truth,
    /// The state one commit before the head.
    before: Truth,
}

fn small(seed: u64, sim: &SimStore) -> Options {
    let options = options(seed).with_store(on(sim)).with_clock(Arc::new(Still));
    options.with_inline_bytes(1500).with_image_every(u64::MAX, 3)
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn open(sim: &SimStore, at: At) -> rfs::Result<Volume> {
    Volume::open_read_only("sim://", small(3, sim), at).await
}

fn named() -> At {
    At::Checkpoint("named".into())
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next() as u8).collect()
}

impl Sample {
    /// Two writers' commits, some inlined, some with a segment of their own, on both sides of an image, and last the
    /// fence of a third writer that did nothing.
    async fn make() -> Self {
        let sim = SimStore::new(CrashPlan::never());
        let volume = Volume::create("sim://", small(1, &sim)).await.unwrap();
        let fs = volume.fs();
        fs.write("/small", noise(1, 100)).await.unwrap();
        fs.create_dir("/dir").await.unwrap();
        volume.commit().await.unwrap();
        fs.write("/dir/big", noise(2, 2000)).await.unwrap();
        volume.commit().await.unwrap();
        fs.write("/dir/mixed", noise(3, 200)).await.unwrap();
        volume.checkpoint("named").await.unwrap().wait().await.unwrap();
        settle().await;
        fs.open("/dir/mixed").await.unwrap();
        fs.batch().write_at("/dir/mixed", noise(4, 50), 90).write("/empty", b"").apply().await.unwrap();
        volume.commit().await.unwrap();
        drop((fs, volume));

        let options = small(2, &sim).with_image_every(u64::MAX, u64::MAX);
        let volume = Volume::open("sim://", options).await.unwrap();
        let fs = volume.fs();
        fs.write("/late", noise(5, 2000)).await.unwrap();
        volume.commit().await.unwrap();
        let before = Truth::of(&open(&sim, At::Head).await.unwrap()).await;
        fs.rename("/small", "/renamed").await.unwrap();
        fs.batch().append("/dir/mixed", noise(6, 30)).apply().await.unwrap();
        volume.commit().await.unwrap();
        drop((fs, volume));
        drop(Volume::open("sim://", small(4, &sim)).await.unwrap());

        let head = Truth::of(&open(&sim, At::Head).await.unwrap()).await;
        let named = Truth::of(&open(&sim, named()).await.unwrap()).await;
        let sample = Self { sim, head, named, before };
        let count = |part: &str| sample.paths(|path| path.contains(part)).len();
        assert_eq!((count("/commits/"), count("/pages/"), count("/segments/")), (9, 1, 2));
        sample
    }

    fn paths(&self, wanted: impl Fn(&str) -> bool) -> Vec<Path> {
        self.sim.paths().into_iter().filter(|path| wanted(path.as_ref())).collect()
    }

    /// The head's commit object. Above it there is only the third writer's fence.
    fn newest_commit(&self) -> Path {
        self.paths(|path| path.contains("/commits/")).into_iter().rev().nth(1).unwrap()
    }

    /// Opens the head, or both states, and reads everything; says which errors it met.
    async fn look(&self, context: &str, both: bool) -> Vec<Error> {
        let mut errors = look_at(&self.sim, At::Head, &self.head, context).await;
        if both {
            errors.extend(look_at(&self.sim, named(), &self.named, context).await);
        }
        errors
    }

    /// One damage after the other to `path`, mended each time; says how many were noticed, out of how many.
    async fn with_each(&self, path: &Path, damages: impl Iterator<Item = Damage>) -> (usize, usize) {
        let whole = self.sim.object(path).unwrap();
        let (mut noticed, mut done) = (0, 0);
        for damage in damages {
            let context = format!("{damage:?} of {path}");
            damage.to(&self.sim, path);
            let both = match damage {
                Damage::Flip(bit) => bit / 8 % 8 == bit % 8,
                Damage::Cut(len) => len % 4 == 0,
                Damage::Gone => true,
            };
            let errors = self.look(&context, both).await;
            for error in &errors {
                assert_fits(error, path, &context);
            }
            noticed += usize::from(!errors.is_empty());
            done += 1;
            self.sim.set_object(path, whole.clone());
        }
        assert!(self.look("mended", true).await.is_empty(), "{path} is whole again");
        (noticed, done)
    }
}

async fn look_at(sim: &SimStore, at: At, truth: &Truth, context: &str) -> Vec<Error> {
    let look = async {
        match open(sim, at).await {
            Ok(volume) => truth.compare(&volume, context).await,
            Err(error) => vec![error],
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{context}: it hangs"))
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(u64),
    Cut(usize),
    Gone,
}

impl Damage {
    fn to(self, sim: &SimStore, path: &Path) {
        match self {
            Self::Flip(bit) => sim.flip_bit(path, bit),
            Self::Cut(len) => sim.truncate(path, len),
            Self::Gone => assert!(sim.remove_object(path)),
        }
    }

    /// Every bit, or of a large object a bit of every byte.
    fn flips(len: usize) -> Box<dyn Iterator<Item = Self>> {
        if len <= EVERY_BIT_BYTES {
            return Box::new((0..len as u64 * 8).map(Self::Flip));
        }
        let mut rng = Rng::new(len as u64);
        Box::new((0..len as u64).map(move |byte| Self::Flip(byte * 8 + rng.below(8))))
    }

    fn cuts(len: usize) -> impl Iterator<Item = Self> {
        (0..len).map(Self::Cut)
    }
}

/// The error is of a kind that says what happened, and names the object.
fn assert_fits(error: &Error, path: &Path, context: &str) {
    let key = path.as_ref().strip_prefix("v/").unwrap();
    let fits = match error.kind() {
        ErrorKind::Damaged | ErrorKind::UnknownFormat => true,
        ErrorKind::NoVolume => key == "superblock",
        _ => false,
    };
    let text = error.to_string();
    let names = text.contains(key) || error.kind() == ErrorKind::NoVolume && text.contains("sim://");
    assert!(fits && names, "{context}: {error:?}");
}

async fn flip_bits(wanted: impl Fn(&str) -> bool) {
    let sample = Sample::make().await;
    let paths = sample.paths(wanted);
    assert!(!paths.is_empty());
    for path in paths {
        let len = sample.sim.object(&path).unwrap().len();
        let (noticed, done) = sample.with_each(&path, Damage::flips(len)).await;
        if path.as_ref().ends_with("superblock") || SINCE_IMAGE.iter().any(|id| path.as_ref().ends_with(id)) {
            assert_eq!(noticed, done, "every bit of {path} matters");
        }
        assert!(noticed > 0 || is_old_fence(&path), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn flipped_bits_of_commits_before_the_image() {
    flip_bits(|path| BEFORE_IMAGE.iter().any(|id| path.ends_with(id))).await;
}

#[tokio::test(start_paused = true)]
async fn flipped_bits_of_commits_since_the_image() {
    flip_bits(|path| SINCE_IMAGE.iter().any(|id| path.ends_with(id))).await;
}

#[tokio::test(start_paused = true)]
async fn flipped_bits_of_superblock_and_fences() {
    flip_bits(|path| path.ends_with("superblock") || path.ends_with(TOP) || is_old_fence(&Path::from(path)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn flipped_bits_of_images_and_segments() {
    flip_bits(|path| path.contains("/pages/") || path.contains("/segments/")).await;
}

#[tokio::test(start_paused = true)]
async fn cut_objects() {
    let sample = Sample::make().await;
    for path in sample.paths(|_| true) {
        let len = sample.sim.object(&path).unwrap().len();
        let (noticed, done) = sample.with_each(&path, Damage::cuts(len)).await;
        assert!(noticed * 10 > done || is_old_fence(&path), "{path}: {noticed} of {done} were noticed");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_objects() {
    let sample = Sample::make().await;
    for path in sample.paths(|_| true) {
        let (noticed, _) = sample.with_each(&path, [Damage::Gone].into_iter()).await;
        // Without the fence on top the commit below it is the head as well.
        assert!(noticed == 1 || is_old_fence(&path) || path.as_ref().ends_with(TOP), "{path}");
    }
}

/// Without anything above it, a newest commit that is lost cannot be told from one that was never made.
#[tokio::test(start_paused = true)]
async fn a_newest_commit_that_is_gone_with_its_fence_was_never_made() {
    let sample = Sample::make().await;
    let newest = sample.newest_commit();
    for path in sample.paths(|path| path >= newest.as_ref() && path.contains("/commits/")) {
        sample.sim.remove_object(&path);
    }
    let volume = open(&sample.sim, At::Head).await.unwrap();
    assert!(sample.before.compare(&volume, "one commit back").await.is_empty());
}

/// A head that cannot be read leaves what was before it.
#[tokio::test(start_paused = true)]
async fn earlier_commits_open_beside_a_damaged_head() {
    let sample = Sample::make().await;
    for damage in [Damage::Flip(1000), Damage::Cut(20)] {
        damage.to(&sample.sim, &sample.newest_commit());
        assert_eq!(open(&sample.sim, At::Head).await.unwrap_err().kind(), ErrorKind::Damaged);
        let volume = open(&sample.sim, At::Commit(CommitId { epoch: 2, number: 0 })).await.unwrap();
        assert!(sample.before.compare(&volume, "one commit back").await.is_empty());
    }
}

/// A writer refuses as well, or finds everything and goes on; whatever it does, no object is replaced or deleted.
#[tokio::test(start_paused = true)]
async fn writers_on_damaged_volumes() {
    let sample = Sample::make().await;
    let mut rng = Rng::new(7);
    let (mut went_on, mut refused) = (0, 0);
    for path in sample.paths(|_| true) {
        let len = sample.sim.object(&path).unwrap().len();
        let mut damages = vec![Damage::Gone, Damage::Cut(0), Damage::Cut(len / 2), Damage::Cut(len - 1)];
        damages.extend((0..12).map(|_| Damage::Flip(rng.below(len as u64 * 8))));
        for damage in damages {
            let context = format!("a writer, {damage:?} of {path}");
            let sim = SimStore::new(CrashPlan::never());
            for (path, object) in objects(&sample.sim) {
                sim.set_object(&path, object);
            }
            damage.to(&sim, &path);
            let before = objects(&sim);
            let wrote = tokio::time::timeout(PATIENCE, write_on(&sim, &sample.head, &context)).await;
            match wrote.unwrap_or_else(|_| panic!("{context}: it hangs")) {
                Ok(met) => {
                    went_on += 1;
                    for error in &met {
                        assert_fits(error, &path, &context);
                    }
                    let volume = open(&sim, At::Head).await.unwrap();
                    assert_eq!(volume.fs().read("/new").await.unwrap(), b"new", "{context}");
                }
                Err(error) => {
                    refused += 1;
                    assert_fits(&error, &path, &context);
                    assert_eq!(objects(&sim), before, "{context}: no epoch was taken");
                }
            }
            for (path, object) in before {
                assert_eq!(sim.object(&path), Some(object), "{context}: {path} was touched");
            }
        }
    }
    assert!(went_on > 20 && refused > 20, "{went_on} went on, {refused} refused");
}

/// Opens as the writer, reads everything, and commits a new file; says which errors it met in reading.
async fn write_on(sim: &SimStore, truth: &Truth, context: &str) -> rfs::Result<Vec<Error>> {
    let volume = Volume::open("sim://", small(9, sim)).await?;
    let met = truth.compare(&volume, context).await;
    volume.fs().write("/new", b"new").await.unwrap();
    volume.commit().await.unwrap();
    Ok(met)
}
