//! Each object of a small volume is lost or damaged in turn: a check names it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path as Key;
use rfs::{
    At, CheckOptions, CheckReport, Clock, CommitId, Options, Problem, StateHash, Store, Timestamp, Volume,
};
use rfs_testkit::{Rng, SimStore};

use crate::common::{Place, options, sim, store_on};

/// What it should be, by the model of the tree: what is at each path.
pub(crate) type Truth = BTreeMap<PathBuf, String>;

#[derive(Debug)]
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000)
    }
}

/// A volume with several epochs, checkpoints, images, and segments of both kinds.
pub(crate) struct Sample {
    pub(crate) sim: SimStore,
    pub(crate) head: Truth,
    pub(crate) checkpoints: BTreeMap<&'static str, Truth>,
    /// What the state hash of each was, the head's under an empty name.
    pub(crate) states: BTreeMap<&'static str, StateHash>,
    /// The commits of the checkpoints.
    pub(crate) commits: BTreeMap<String, CommitId>,
}

pub(crate) fn small(seed: u64, store: Store) -> Options {
    let options = options(seed).with_store(store).with_clock(Arc::new(Still));
    options.with_inline_bytes(1500).with_image_every(u64::MAX, 3)
}

pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next() as u8).collect()
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Everything in a volume.
pub(crate) async fn truth(volume: &Volume) -> rfs::Result<Truth> {
    let fs = volume.fs();
    let mut truth = Truth::new();
    let mut dirs = vec![Path::new("/").to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let mut entries = fs.read_dir(&dir).await?;
        while let Some(entry) = entries.next_entry().await? {
            let (path, metadata) = (entry.path(), entry.metadata().await?);
            let content = if metadata.is_file() { fs.read(&path).await? } else { Vec::new() };
            let line = format!("{:o} {} {content:x?}", metadata.mode(), metadata.len());
            if metadata.is_dir() {
                dirs.push(path.clone());
            }
            truth.insert(path, line);
        }
    }
    Ok(truth)
}

pub(crate) async fn open_at(sim: &SimStore, at: At) -> rfs::Result<Volume> {
    Volume::open_read_only("sim://", small(3, store_on(sim)), at).await
}

pub(crate) fn named(name: &str) -> At {
    if name.is_empty() { At::Head } else { At::Checkpoint(name.to_owned()) }
}

impl Sample {
    pub(crate) async fn make() -> Self {
        let (sim, store) = sim();
        let volume = Volume::create("sim://", small(1, store)).await.unwrap();
        let fs = volume.fs();
        fs.write("/small", noise(1, 100)).await.unwrap();
        fs.create_dir("/dir").await.unwrap();
        volume.commit().await.unwrap();
        fs.write("/dir/big", noise(2, 2000)).await.unwrap();
        fs.symlink("big", "/dir/link").await.unwrap();
        volume.checkpoint("one").await.unwrap().wait().await.unwrap();
        fs.write("/dir/mixed", noise(3, 200)).await.unwrap();
        volume.commit().await.unwrap();
        settle().await;
        fs.batch().write_at("/dir/mixed", noise(4, 50), 90).write("/empty", b"").apply().await.unwrap();
        volume.commit().await.unwrap();
        drop((fs, volume));

        let volume = Volume::open("sim://", small(2, store_on(&sim))).await.unwrap();
        let fs = volume.fs();
        fs.write("/late", noise(5, 2000)).await.unwrap();
        volume.commit().await.unwrap();
        fs.rename("/small", "/renamed").await.unwrap();
        fs.hard_link("/renamed", "/dir/again").await.unwrap();
        volume.checkpoint("two").await.unwrap().wait().await.unwrap();
        settle().await;
        fs.remove_file("/dir/mixed").await.unwrap();
        fs.write("/middle", noise(9, 300)).await.unwrap();
        volume.commit().await.unwrap();
        volume.close().await.unwrap();

        let options = small(5, store_on(&sim)).with_image_every(u64::MAX, u64::MAX);
        let volume = Volume::open("sim://", options).await.unwrap();
        let fs = volume.fs();
        fs.write("/last/../new", noise(6, 1700)).await.unwrap_err();
        fs.write("/new", noise(6, 1700)).await.unwrap();
        volume.commit().await.unwrap();
        fs.batch().append("/late", noise(7, 30)).apply().await.unwrap();
        volume.checkpoint("three").await.unwrap().wait().await.unwrap();
        fs.create_dir("/dir/deep").await.unwrap();
        fs.write("/dir/deep/end", noise(8, 60)).await.unwrap();
        volume.commit().await.unwrap();
        drop((fs, volume));
        drop(Volume::open("sim://", small(4, store_on(&sim))).await.unwrap());

        let mut sample = Self {
            sim,
            head: Truth::new(),
            checkpoints: BTreeMap::new(),
            states: BTreeMap::new(),
            commits: BTreeMap::new(),
        };
        for name in ["", "one", "two", "three"] {
            let volume = open_at(&sample.sim, named(name)).await.unwrap();
            let truth = truth(&volume).await.unwrap();
            sample.states.insert(name, volume.state_hash().await.unwrap());
            match name {
                "" => {
                    sample.head = truth;
                    let checkpoints = volume.checkpoints().into_iter();
                    sample.commits = checkpoints.map(|(name, at)| (name, at.commit)).collect();
                }
                name => drop(sample.checkpoints.insert(name, truth)),
            }
        }
        let count = |part: &str| sample.sim.paths().iter().filter(|key| key.as_ref().contains(part)).count();
        assert_eq!((count("/commits/"), count("/pages/"), count("/segments/")), (15, 3, 3));
        sample
    }
}

impl Sample {
    /// The same volume once more.
    pub(crate) fn copy(&self) -> SimStore {
        let (copy, _) = sim();
        for (key, object) in objects(&self.sim) {
            copy.set_object(&key, object);
        }
        copy
    }
}

pub(crate) fn objects(sim: &SimStore) -> BTreeMap<Key, Bytes> {
    sim.paths().into_iter().map(|key| (key.clone(), sim.object(&key).unwrap())).collect()
}

pub(crate) fn below(key: &Key) -> &str {
    key.as_ref().strip_prefix("v/").unwrap()
}

pub(crate) async fn check(sim: &SimStore, deep: bool) -> CheckReport {
    let options = small(3, store_on(sim));
    rfs::check("sim://", options, CheckOptions::new().with_deep(deep)).await.unwrap()
}

/// The first bit, the last one, and some between.
pub(crate) fn bits(len: usize) -> Vec<u64> {
    let (mut rng, bits) = (Rng::new(len as u64), len as u64 * 8);
    let mut some = vec![0, bits - 1];
    some.extend((0..8).map(|_| rng.below(bits)));
    some
}

/// The newest fence: without it the commit below is the head as well.
pub(crate) fn is_top(sim: &SimStore, key: &Key) -> bool {
    sim.paths().into_iter().rfind(|key| key.as_ref().contains("/commits/")).as_ref() == Some(key)
}

#[tokio::test(start_paused = true)]
async fn a_sound_volume_is_sound() {
    let sample = Sample::make().await;
    for deep in [false, true] {
        let report = check(&sample.sim, deep).await;
        assert!(report.is_sound(), "{:#?}", report.findings);
        let states: Vec<_> = report.states.iter().map(|state| state.checkpoint.as_deref()).collect();
        assert_eq!(states, [None, Some("one"), Some("three"), Some("two")]);
        assert!(report.states.iter().all(|state| state.sound && state.inodes > 3));
        let all = objects(&sample.sim);
        assert_eq!(report.objects + report.unreferenced.len() as u64, all.len() as u64);
        assert_eq!(report.entries, 15);
    }
    assert!(check(&sample.sim, true).await.bytes > check(&sample.sim, false).await.bytes + 5000);
}

#[tokio::test(start_paused = true)]
async fn each_object_that_is_gone_is_named() {
    let sample = Sample::make().await;
    let unreferenced = check(&sample.sim, true).await.unreferenced;
    for (key, object) in objects(&sample.sim) {
        sample.sim.remove_object(&key);
        for deep in [false, true] {
            let report = check(&sample.sim, deep).await;
            let finding = report.findings.iter().find(|finding| finding.key == below(&key));
            if is_top(&sample.sim, &key) || unreferenced.iter().any(|(other, _)| other == below(&key)) {
                assert!(report.is_sound(), "{key}: {:#?}", report.findings);
                continue;
            }
            if key > sample.sim.paths().into_iter().rfind(|key| key.as_ref().contains("/commits/")).unwrap()
                && key.as_ref().contains("/commits/")
            {
                assert!(report.is_sound(), "{key}: {:#?}", report.findings);
                continue;
            }
            let finding = finding.unwrap_or_else(|| panic!("{key} is gone: {:#?}", report.findings));
            assert_eq!(finding.problem, Problem::Missing, "{finding}");
            assert!(report.findings.iter().all(|other| other.key == finding.key), "{:#?}", report.findings);
        }
        sample.sim.set_object(&key, object);
    }
    assert!(check(&sample.sim, true).await.is_sound());
}

#[tokio::test(start_paused = true)]
async fn each_flipped_bit_is_named() {
    let sample = Sample::make().await;
    let unreferenced = check(&sample.sim, true).await.unreferenced;
    for (key, object) in objects(&sample.sim) {
        let mut named = 0;
        for bit in bits(object.len()) {
            sample.sim.flip_bit(&key, bit);
            let report = check(&sample.sim, true).await;
            let finding = report.findings.iter().find(|finding| finding.key == below(&key));
            named += u64::from(finding.is_some());
            let told = finding.is_some() || unreferenced.iter().any(|(other, _)| other == below(&key));
            // Pages that later images gave up are in objects that are needed.
            assert!(told || key.as_ref().contains("/pages/"), "bit {bit} of {key}: {:#?}", report.findings);
            sample.sim.set_object(&key, object.clone());
        }
        assert!(named > 0 || unreferenced.iter().any(|(other, _)| other == below(&key)), "{key}");
    }
}

/// What suffers is told: states, paths, and which bytes.
#[tokio::test(start_paused = true)]
async fn what_suffers_is_told() {
    let sample = Sample::make().await;
    let all = objects(&sample.sim);
    let (key, _) = all.iter().find(|(key, _)| key.as_ref().contains("/segments/")).unwrap();
    sample.sim.remove_object(key);
    let report = check(&sample.sim, false).await;
    let finding = &report.findings[0];
    let states = ["the newest state", "checkpoint \"one\"", "checkpoint \"three\"", "checkpoint \"two\""];
    assert_eq!(finding.states, states);
    let paths: Vec<_> =
        finding.paths.iter().map(|path| (path.path.to_str().unwrap(), &path.ranges[..])).collect();
    assert_eq!(paths, [("/dir/big", std::slice::from_ref(&(0..2000)))]);
    assert!(report.states.iter().all(|state| !state.sound));
}

/// What is gone back to, and what is collected, is no damage.
#[tokio::test(start_paused = true)]
async fn rewound_and_collected_volumes_are_sound() {
    let sample = Sample::make().await;
    let sim = sample.copy();
    let options = || small(21, store_on(&sim)).with_retention(1, std::time::Duration::ZERO);
    let volume = Volume::open("sim://", options()).await.unwrap();
    volume.fs().write("/before", noise(10, 400)).await.unwrap();
    volume.rewind(&named("one")).await.unwrap();
    volume.fs().write("/after", noise(11, 40)).await.unwrap();
    volume.commit().await.unwrap();
    let expected = truth(&volume).await.unwrap();
    let report = check(&sim, true).await;
    assert!(report.is_sound(), "{:#?}", report.findings);
    volume.collect_garbage().await.unwrap();
    let report = check(&sim, true).await;
    assert!(report.is_sound(), "{:#?}", report.findings);
    drop(volume);

    // Replay goes through the place where it went back, also when that is all there is.
    let image = objects(&sim).into_keys().rfind(|key| key.as_ref().contains("/pages/")).unwrap();
    sim.remove_object(&image);
    assert!(!check(&sim, true).await.is_sound());
    let report = rfs::repair("sim://", options(), rfs::RepairOptions::new()).await.unwrap();
    let volume = open_at(&sim, At::Head).await.unwrap();
    if report.lost.is_empty() {
        assert!(report.left.is_empty(), "{report:#?}");
        assert_eq!(truth(&volume).await.unwrap(), expected);
    }
}

/// A request that was lost may be done when its sender has given up long ago: a pin of what is collected stands there then.
/// Nobody relies on it.
#[tokio::test]
async fn a_pin_that_came_too_late_is_no_damage() {
    let place = Place::memory("a_pin_that_came_too_late_is_no_damage");
    let on =
        |seed| place.on(seed).with_inline_bytes(0).with_retention(1, Duration::ZERO).with_image_every(1, 1);
    let volume = Volume::create(&place.url, on(1)).await.unwrap();
    volume.fs().write("/a", noise(1, 1_000)).await.unwrap();
    volume.commit().await.unwrap();
    let pinned = volume.pin(&At::Head, "nobody", None).await.unwrap();
    let store = place.store();
    let pins = store.list("", None).await.unwrap().into_iter();
    let [pin] = pins.filter(|object| object.key.contains("/pins/")).collect::<Vec<_>>().try_into().unwrap();
    let late = store.get(&pin.key).await.unwrap();
    volume.unpin(pinned.id).await.unwrap();
    volume.fs().remove_file("/a").await.unwrap();
    for _ in 0..3 {
        volume.fs().write("/b", noise(2, 1_000)).await.unwrap();
        volume.commit().await.unwrap();
    }
    assert!(volume.collect_garbage().await.unwrap().objects > 0);
    volume.close().await.unwrap();

    store.put(&pin.key, late).await.unwrap();
    let deep = CheckOptions::new().with_deep(true);
    let report = rfs::check(&place.url, on(2), deep).await.unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    let repaired = rfs::repair(&place.url, on(3), rfs::RepairOptions::new()).await.unwrap();
    assert!(repaired.commit.is_none() && repaired.done.is_empty(), "{repaired:#?}");
}

/// A fork is checked with what it borrows, and its parent with what is pinned for it. A damage of the parent's is found
/// in both.
#[tokio::test]
async fn forks_are_checked_with_what_they_borrow() {
    let root = tempfile::tempdir().unwrap();
    let [parent, child] = ["parent", "child"].map(|name| format!("file://{}/{name}", root.path().display()));
    let options =
        || options(23).with_clock(Arc::new(Still)).with_inline_bytes(1500).with_image_every(u64::MAX, 3);
    let volume = Volume::create(&parent, options()).await.unwrap();
    for step in 0..5 {
        volume.fs().write(format!("/file-{step}"), noise(step, 1700)).await.unwrap();
        volume.commit().await.unwrap();
    }
    volume.fork(&child, &At::Head).await.unwrap();
    volume.close().await.unwrap();
    let fork = Volume::open(&child, options()).await.unwrap();
    fork.fs().write("/own", noise(9, 100)).await.unwrap();
    fork.close().await.unwrap();
    let deep = CheckOptions::new().with_deep(true);
    for url in [&parent, &child] {
        let report = rfs::check(url, options(), deep).await.unwrap();
        assert!(report.is_sound(), "{url}: {:#?}", report.findings);
        let repaired = rfs::repair(url, options(), rfs::RepairOptions::new()).await.unwrap();
        assert!(repaired.commit.is_none() && repaired.done.is_empty(), "{repaired:#?}");
    }
    let objects = rfs::Objects::open(&parent, options()).await.unwrap().list().await.unwrap();
    let segment = objects.iter().find(|object| object.role == rfs::ObjectRole::Segment).unwrap();
    std::fs::remove_file(root.path().join("parent").join(&segment.key)).unwrap();
    for url in [&parent, &child] {
        let report = rfs::check(url, options(), deep).await.unwrap();
        let finding = report.findings.iter().find(|finding| finding.key == segment.key);
        let finding = finding.unwrap_or_else(|| panic!("{url}: {:#?}", report.findings));
        assert!(finding.states.contains(&"the newest state".to_owned()), "{finding}");
        let paths: Vec<_> = finding.paths.iter().map(|path| path.path.to_str().unwrap()).collect();
        assert!(paths.is_empty() || paths == ["/file-0"], "{url}: {paths:?}");
    }
}
