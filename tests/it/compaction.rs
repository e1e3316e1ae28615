//! Compaction: what is in use of objects that are mostly not is stored again, what is kept reads as ever, and in the end
//! a volume takes about what its content does.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rfs::backends::RequestKind;
use rfs::{At, ObjectRole, Options, Store, StoreOptions, Volume};
use rfs_testkit::{CrashPlan, CrashSide, Rng, SimStore};

use crate::common::{options, sim, store_on};

/// Images often, one commit kept, no grace.
fn on(store: &Store, seed: u64) -> Options {
    let options = options(seed).with_store(store.clone()).with_image_every(1 << 20, 4);
    options.with_retention(1, Duration::ZERO).with_compaction_rate(None)
}

/// All files with all their bytes.
async fn contents(volume: &Volume) -> BTreeMap<PathBuf, Vec<u8>> {
    let fs = volume.fs();
    let mut files = BTreeMap::new();
    let mut dirs = vec![Path::new("/").to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let mut entries = fs.read_dir(&dir).await.unwrap();
        while let Some(entry) = entries.next_entry().await.unwrap() {
            if entry.file_type().is_dir() {
                dirs.push(entry.path());
            } else {
                files.insert(entry.path(), fs.read(entry.path()).await.unwrap());
            }
        }
    }
    files
}

/// What a reader finds who knows nothing.
async fn found(store: &Store, at: At) -> BTreeMap<PathBuf, Vec<u8>> {
    let reader = Volume::open_read_only("sim://", on(store, 7), at).await.unwrap();
    reader.check().await.unwrap();
    contents(&reader).await
}

fn stored(sim: &SimStore) -> u64 {
    sim.paths().iter().map(|path| sim.object(path).unwrap().len() as u64).sum()
}

/// Compacts until there is nothing to do, and collects.
async fn settle(volume: &Volume) {
    let mut rounds = 0;
    while volume.compact().await.unwrap().more {
        rounds += 1;
        assert!(rounds < 10, "it comes to an end");
    }
    // The commits that held it meanwhile are not among those that are kept any more.
    for _ in 0..2 {
        volume.compact().await.unwrap();
        volume.collect_garbage().await.unwrap();
    }
}

/// Large segments of which little is in use, and many small commits, each with a little.
#[tokio::test]
async fn what_is_little_in_use_is_put_together() {
    for seed in 1..3 {
        let (sim, store) = sim();
        let volume = Volume::create("sim://", on(&store, seed)).await.unwrap();
        let fs = volume.fs();
        for number in 0..40_u8 {
            // All but the first of each ten is removed.
            fs.write(format!("/large{number}"), vec![number; 40_000]).await.unwrap();
            if number % 10 == 9 {
                volume.commit().await.unwrap();
            }
        }
        for number in 0..40_u8 {
            fs.write(format!("/small{number}"), vec![number; 100]).await.unwrap();
            volume.commit().await.unwrap();
        }
        for number in (0..40).filter(|number| number % 10 != 0) {
            fs.remove_file(format!("/large{number}")).await.unwrap();
        }
        volume.commit().await.unwrap();
        let expected = contents(&volume).await;
        let before = volume.fs().metadata("/large0").await.unwrap();
        volume.compact().await.unwrap();
        volume.collect_garbage().await.unwrap();
        settle(&volume).await;
        let after = volume.fs().metadata("/large0").await.unwrap();
        assert_eq!((before.modified(), before.changed()), (after.modified(), after.changed()));
        assert_eq!(contents(&volume).await, expected);
        assert_eq!(found(&store, At::Head).await, expected);
        let (objects, bytes) = (sim.paths().len(), stored(&sim));
        assert!(objects < 30 && bytes < 4 * 44_000, "{objects} objects, {bytes} bytes");
        let usage = volume.usage().await.unwrap();
        assert!(usage.live_bytes >= 4 * 40_000 + 40 * 100 && usage.borrowed_bytes == 0, "{usage:?}");
        volume.check().await.unwrap();
    }
}

/// What was copied is in use by others than the index of its segment names.
#[tokio::test]
async fn copies_are_found() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", on(&store, 1)).await.unwrap();
    let fs = volume.fs();
    fs.write("/of", vec![7; 500_000]).await.unwrap();
    fs.write("/kept", vec![8; 1000]).await.unwrap();
    volume.commit().await.unwrap();
    fs.write("/copy", b"before").await.unwrap();
    fs.batch().copy_range("/of", 1000, "/copy", 3, 2000).apply().await.unwrap();
    fs.remove_file("/of").await.unwrap();
    volume.commit().await.unwrap();
    let expected = contents(&volume).await;
    let compacted = volume.compact().await.unwrap();
    // And the few bytes that nearly nothing else is with in their object.
    assert_eq!(compacted.content_bytes, 3003);
    settle(&volume).await;
    assert!(stored(&sim) < 20_000, "{} bytes", stored(&sim));
    assert_eq!(found(&store, At::Head).await, expected);
}

/// Objects of pages with little in use are given up, too: the tree's, those of the segments, those of what is counted.
#[tokio::test]
async fn pages_are_put_together() {
    for seed in 1..3 {
        let (sim, store) = sim();
        let options = || on(&store, seed).with_image_every(1 << 20, 2);
        let volume = Volume::create("sim://", options()).await.unwrap();
        let fs = volume.fs();
        for dir in 0..60 {
            fs.create_dir(format!("/{dir}")).await.unwrap();
            for name in 0..150 {
                fs.symlink(format!("to {name}"), format!("/{dir}/{name}")).await.unwrap();
            }
            volume.commit().await.unwrap();
        }
        let hash = volume.state_hash().await.unwrap();
        let count = || sim.paths().iter().filter(|path| path.as_ref().contains("/pages/")).count();
        volume.collect_garbage().await.unwrap();
        let before = count();
        settle(&volume).await;
        let after = count();
        assert!(before >= 15 && after <= 8, "{before} objects of pages became {after}");
        assert_eq!(volume.state_hash().await.unwrap(), hash);
        let reader = Volume::open_read_only("sim://", on(&store, 9), At::Head).await.unwrap();
        reader.check().await.unwrap();
        // It goes on: what is counted is what is there.
        for dir in 0..60 {
            fs.remove_file(format!("/{dir}/7")).await.unwrap();
            volume.commit().await.unwrap();
        }
        settle(&volume).await;
        volume.close().await.unwrap();
        let reader = Volume::open_read_only("sim://", on(&store, 9), At::Head).await.unwrap();
        reader.check().await.unwrap();
        assert!(count() <= 8, "{} objects of pages", count());
    }
}

/// A volume that is changed at random, with states that are kept.
struct Run {
    rng: Rng,
    volume: Volume,
    checkpoints: BTreeMap<String, BTreeMap<PathBuf, Vec<u8>>>,
    names: u64,
}

impl Run {
    fn path(&mut self) -> String {
        format!("/f{}", self.rng.below(30))
    }

    async fn step(&mut self, store: &Store) {
        let fs = self.volume.fs();
        let path = self.path();
        match self.rng.below(20) {
            0..7 => {
                let content = vec![self.rng.below(256) as u8; self.rng.below(60_000) as usize];
                fs.write(path, content).await.unwrap();
            }
            7..9 => drop(fs.remove_file(path).await),
            9..11 => {
                let bytes = vec![self.rng.below(256) as u8; 1 + self.rng.below(3000) as usize];
                drop(fs.batch().write_at(path, bytes, self.rng.below(50_000)).apply().await);
            }
            11 => drop(fs.batch().truncate(path, self.rng.below(50_000)).apply().await),
            12 => {
                let to = self.path();
                let (from, len) = (self.rng.below(20_000), self.rng.below(20_000));
                drop(fs.batch().copy_range(path, from, to, self.rng.below(20_000), len).apply().await);
            }
            13..16 => drop(self.volume.commit().await.unwrap()),
            16 => {
                let name = format!("c{}", self.names);
                self.names += 1;
                self.checkpoints.insert(name.clone(), contents(&self.volume).await);
                self.volume.checkpoint(&name).await.unwrap().wait().await.unwrap();
            }
            17 if self.checkpoints.len() > 3 => {
                let at = self.rng.below(self.checkpoints.len() as u64) as usize;
                let name = self.checkpoints.keys().nth(at).unwrap().clone();
                self.checkpoints.remove(&name);
                self.volume.drop_checkpoint(&name).await.unwrap();
            }
            17..19 => drop(self.volume.compact().await.unwrap()),
            _ => {
                self.volume.collect_garbage().await.unwrap();
                for (name, expected) in &self.checkpoints {
                    assert_eq!(&found(store, At::Checkpoint(name.clone())).await, expected);
                }
            }
        }
    }
}

/// The store holds at most so many times what one new volume with the same content holds, and what never goes: the ends
/// of epochs, and the newest commits.
const FACTOR: u64 = 2;

/// Whatever is done, what is kept reads the same; when nothing is kept the volume takes about what a new one does.
#[tokio::test]
async fn what_is_kept_reads_the_same() {
    for seed in 0..6 {
        let (sim, store) = sim();
        let volume = Volume::create("sim://", on(&store, seed)).await.unwrap();
        let mut run = Run { rng: Rng::new(seed), volume, checkpoints: BTreeMap::new(), names: 0 };
        for step in 1..=250 {
            run.step(&store).await;
            if step % 80 == 0 {
                run.volume.close().await.unwrap();
                run.volume = Volume::open("sim://", on(&store, seed + 100 + step)).await.unwrap();
            }
        }
        let Run { volume, checkpoints, .. } = run;
        volume.commit().await.unwrap();
        volume.collect_garbage().await.unwrap();
        for (name, expected) in &checkpoints {
            assert_eq!(&found(&store, At::Checkpoint(name.clone())).await, expected, "seed {seed}: {name}");
        }
        // What dropping one would free is what a collection deletes then, but for what came with the drop.
        let usage = volume.usage().await.unwrap();
        assert_eq!(usage.checkpoints.len(), checkpoints.len());
        let all: u64 = usage.roles.iter().map(|(_, total)| total.bytes).sum();
        assert_eq!(usage.live_bytes + usage.dead_bytes, all);
        for name in checkpoints.keys() {
            volume.drop_checkpoint(name).await.unwrap();
        }
        settle(&volume).await;
        let expected = contents(&volume).await;
        volume.close().await.unwrap();
        let volume = Volume::open("sim://", on(&store, seed + 50)).await.unwrap();
        settle(&volume).await;
        volume.check().await.unwrap();
        assert_eq!(contents(&volume).await, expected);
        assert_eq!(found(&store, At::Head).await, expected);

        let (fresh_sim, fresh_store) = self::sim();
        let fresh = Volume::create("sim://", on(&fresh_store, seed)).await.unwrap();
        for (path, content) in &expected {
            fresh.fs().write(path, content).await.unwrap();
        }
        fresh.close().await.unwrap();
        let (taken, one) = (stored(&sim), stored(&fresh_sim));
        assert!(taken <= FACTOR * one + 20_000, "seed {seed}: {taken} bytes, a new volume has {one}");
        assert!(sim.paths().len() < 40, "seed {seed}: {} objects", sim.paths().len());
    }
}

/// What dropping a checkpoint would free is told before, and what a collection would delete.
#[tokio::test]
async fn what_a_checkpoint_holds_is_told() {
    let (sim, store) = sim();
    let options = || on(&store, 1).with_inline_bytes(0).with_compaction(0, 0);
    let volume = Volume::create("sim://", options()).await.unwrap();
    let fs = volume.fs();
    for (name, bytes) in [("one", 100_000), ("two", 200_000), ("three", 300_000)] {
        // A state is an image and what was done since: that of the next one is to be without this file.
        drop(fs.remove_file("/a").await);
        volume.compact().await.unwrap();
        fs.write("/a", vec![7; bytes]).await.unwrap();
        volume.checkpoint(name).await.unwrap().wait().await.unwrap();
    }
    for round in 0..9 {
        fs.write("/b", vec![round; 10]).await.unwrap();
        volume.commit().await.unwrap();
    }
    volume.collect_garbage().await.unwrap();
    let usage = volume.usage().await.unwrap();
    assert_eq!(usage.collectable.objects, 0);
    let sizes: BTreeMap<&str, u64> =
        usage.checkpoints.iter().map(|(name, total)| (name.as_str(), total.bytes)).collect();
    assert!((100_000..110_000).contains(&sizes["one"]), "{usage:?}");
    assert!((200_000..210_000).contains(&sizes["two"]), "{usage:?}");
    // Its content is that of the newest state too.
    assert!(sizes["three"] < 10_000, "{usage:?}");
    assert!((300_000..310_000).contains(&usage.live_bytes), "{usage:?}");
    let reader = Volume::open_read_only("sim://", options(), At::Head).await.unwrap();
    let read = reader.usage().await.unwrap();
    assert_eq!((read.live_bytes, &read.checkpoints), (usage.live_bytes, &usage.checkpoints));

    let before = stored(&sim);
    volume.drop_checkpoint("two").await.unwrap();
    volume.commit().await.unwrap();
    let told = volume.usage().await.unwrap().collectable;
    let collected = volume.collect_garbage().await.unwrap();
    assert_eq!((told.objects, told.bytes), (collected.objects, collected.bytes));
    let grown = stored(&sim) + collected.bytes - before;
    assert!(collected.bytes >= sizes["two"] && grown < 10_000, "{collected:?}, {grown} more");
    let roles = volume.usage().await.unwrap().roles;
    assert!(
        roles.iter().any(|(role, total)| *role == ObjectRole::Segment && total.objects >= 2),
        "{roles:?}"
    );
}

/// Makes a volume with much to compact and to collect.
async fn messy(store: &Store) -> Volume {
    let volume = Volume::create("sim://", on(store, 1)).await.unwrap();
    let fs = volume.fs();
    for number in 0..20_u8 {
        fs.write(format!("/a{}", number % 7), vec![number; 20_000]).await.unwrap();
        fs.write(format!("/b{number}"), vec![number; 50]).await.unwrap();
        if number == 10 {
            volume.checkpoint("ten").await.unwrap().wait().await.unwrap();
        } else {
            volume.commit().await.unwrap();
        }
    }
    volume
}

/// A compaction and a collection that are killed in any call leave all states as they were, and the next ones go on.
#[tokio::test(start_paused = true)]
async fn a_crash_at_every_call() {
    let (sim, store) = sim();
    let volume = messy(&store).await;
    let expected = contents(&volume).await;
    volume.close().await.unwrap();
    let ten = found(&store, At::Checkpoint("ten".to_owned())).await;
    let objects: Vec<_> = sim.paths().into_iter().map(|path| (sim.object(&path).unwrap(), path)).collect();
    let mut call = 0;
    for side in [CrashSide::Before, CrashSide::After] {
        call = 0;
        loop {
            let plan = CrashPlan::at_call(call, side, 3);
            let sim = SimStore::new(CrashPlan::never());
            for (object, path) in &objects {
                sim.set_object(path, object.clone());
            }
            let mortal = store_on(&sim.client(plan.clone()));
            let work = async {
                let volume = Volume::open("sim://", on(&mortal, 5)).await?;
                volume.compact().await?;
                volume.collect_garbage().await?;
                volume.close().await
            };
            let done = work.await;
            assert_eq!(done.is_err(), plan.crashed(), "call {call}: {done:?}");
            let store = store_on(&sim);
            assert_eq!(found(&store, At::Head).await, expected, "{side:?} call {call}");
            assert_eq!(found(&store, At::Checkpoint("ten".to_owned())).await, ten, "{side:?} call {call}");
            let volume = Volume::open("sim://", on(&store, 6)).await.unwrap();
            volume.drop_checkpoint("ten").await.unwrap();
            settle(&volume).await;
            assert_eq!(contents(&volume).await, expected);
            volume.close().await.unwrap();
            assert_eq!(found(&store, At::Head).await, expected, "{side:?} call {call}");
            let left = stored(&sim);
            assert!(left < 7 * 20_000 + 20_000, "{side:?} call {call}: {left} bytes are left");
            if !plan.crashed() {
                break;
            }
            call += 1;
        }
    }
    assert!(call > 10, "{call} calls");
}

/// A compaction goes at the rate that it is given, and so does a collection, by the clock that tests move.
#[tokio::test(start_paused = true)]
async fn rates_are_kept() {
    let (_, store) = sim();
    messy(&store).await.close().await.unwrap();
    let rate = |objects: u32, bytes: u64| {
        let options = on(&store, 3).with_collect_rate(NonZeroU32::new(objects));
        options.with_compaction_rate(NonZeroU64::new(bytes))
    };
    let volume = Volume::open("sim://", rate(2, 10_000)).await.unwrap();
    volume.drop_checkpoint("ten").await.unwrap();
    let start = tokio::time::Instant::now();
    let compacted = volume.compact().await.unwrap();
    assert!(compacted.content_bytes > 0, "{compacted:?}");
    assert!(start.elapsed() >= Duration::from_millis(compacted.content_bytes / 10 * 9 / 10), "{compacted:?}");
    let (start, before) = (tokio::time::Instant::now(), volume.metered());
    let collected = volume.collect_garbage().await.unwrap();
    let deletes = (volume.metered() - before).of(RequestKind::Delete).requests;
    assert!(deletes >= collected.objects && collected.objects > 3, "{collected:?}");
    assert!(start.elapsed() >= Duration::from_millis(500) * (collected.objects as u32 - 1), "{collected:?}");
}

/// Users write while content is stored again: what they wrote last is what is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_go_on_meanwhile() {
    let url = crate::common::memory_url("compaction-users");
    let options = || {
        let options = Options::new().with_store_options(StoreOptions::default()).with_commit_interval(None);
        options.with_retention(1, Duration::ZERO).with_image_every(1 << 20, 4)
    };
    let volume = Volume::create(&url, options()).await.unwrap();
    let fs = volume.fs();
    for round in 0..30_u8 {
        for file in 0..8 {
            fs.write(format!("/f{file}"), vec![round; 5000]).await.unwrap();
        }
        fs.write(format!("/g{round}"), vec![round; 3000]).await.unwrap();
        volume.commit().await.unwrap();
    }
    let compactor = volume.clone();
    let compaction = tokio::spawn(async move {
        for _ in 0..5 {
            compactor.compact().await.unwrap();
            compactor.collect_garbage().await.unwrap();
        }
    });
    let mut last = BTreeMap::new();
    let mut rng = Rng::new(5);
    for round in 0..300_u64 {
        let (path, byte) = (format!("/g{}", rng.below(30)), round as u8);
        fs.write(&path, vec![byte; 2000]).await.unwrap();
        last.insert(path, byte);
        if round % 20 == 0 {
            volume.commit().await.unwrap();
        }
    }
    compaction.await.unwrap();
    for (path, byte) in last {
        assert_eq!(fs.read(&path).await.unwrap(), vec![byte; 2000], "{path}");
    }
    for file in 0..8 {
        assert_eq!(fs.read(format!("/f{file}")).await.unwrap(), vec![29; 5000]);
    }
    volume.check().await.unwrap();
    volume.close().await.unwrap();
}
