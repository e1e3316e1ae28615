//! What was fetched from the store is found in the local directory by the next writer there.

use std::sync::Arc;

use rfs::{ErrorKind, Options, Volume};
use rfs_recovery::local_cache::LocalCache;
use rfs_testkit::{CrashPlan, SimDisk, SimStore};

use crate::common::{listing, options, sim, store_on};

const FILES: u8 = 24;

fn content(number: u8) -> Vec<u8> {
    (0..40_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ number).collect()
}

/// A volume that was written elsewhere.
async fn written_elsewhere() -> SimStore {
    let (sim, store) = sim();
    let options = options(1).with_store(store).with_cut(16 << 10, 128 << 10).with_inline_bytes(0);
    let volume = Volume::create("sim://", options).await.unwrap();
    let fs = volume.fs();
    for number in 0..FILES {
        fs.write(format!("/f{number:02}"), content(number)).await.unwrap();
        for name in 0..40 {
            fs.create(format!("/n{number:02}-{name}")).await.unwrap();
        }
        volume.commit().await.unwrap();
    }
    volume.close().await.unwrap();
    sim
}

/// Opens the volume with this disk, reads everything, and gives how many gets that took, to open it and to read it.
async fn gets(sim: &SimStore, options: Options, disk: &SimDisk) -> (u64, u64) {
    let client = sim.client(CrashPlan::never());
    let options = options.with_store(store_on(&client)).with_disk(Arc::new(disk.clone()));
    let volume = Volume::open("sim://", options).await.unwrap();
    let opening = client.counts().gets;
    for number in 0..FILES {
        assert_eq!(volume.fs().read(format!("/f{number:02}")).await.unwrap(), content(number));
    }
    assert_eq!(listing(&volume).await.len(), usize::from(FILES) * 41);
    let reading = client.counts().gets - opening;
    volume.close().await.unwrap();
    (opening, reading)
}

fn cache_files(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.starts_with("cache-")).collect()
}

/// `most`: how many pieces are fetched again at most. Nobody waits for one to be kept.
async fn is_read_once(options: impl Fn(u64) -> Options, most: u64) {
    let (sim, disk) = (written_elsewhere().await, SimDisk::new(CrashPlan::never()));
    let (_, cold) = gets(&sim, options(3), &disk).await;
    assert!(cold >= 2 * u64::from(FILES), "{cold}");
    let (_, warm) = gets(&sim, options(5), &disk).await;
    assert!(warm <= most, "{warm} of {cold}");

    // Also by the next process, and what the loss of power left is not believed more than the rest.
    let (_, killed) = gets(&sim, options(7), &disk.after_kill(CrashPlan::never())).await;
    assert!(killed <= most, "{killed} of {cold}");
    for seed in 0..3 {
        gets(&sim, options(9), &disk.after_power_loss(seed, CrashPlan::never())).await;
    }

    // Every piece has a bit of these, as it is longer.
    for name in cache_files(&disk) {
        let bits = disk.content(&name).unwrap().len() as u64 * 8;
        (0..bits).step_by(1000).for_each(|bit| disk.flip_bit(&name, bit));
    }
    let (_, damaged) = gets(&sim, options(11), &disk).await;
    assert!(damaged >= cold / 2, "{damaged} of {cold}");
    let (_, again) = gets(&sim, options(13), &disk).await;
    assert!(again <= most, "what was damaged was fetched and kept again: {again} of {cold}");
}

/// Pieces that have their own checksum, but are not what the store has.
#[tokio::test]
async fn what_it_gives_is_verified() {
    let (sim, disk) = (written_elsewhere().await, SimDisk::new(CrashPlan::never()));
    gets(&sim, options(3).with_disk_cache(0), &disk).await;
    let client = sim.client(CrashPlan::never());
    let elsewhere = Arc::new(SimDisk::new(CrashPlan::never()));
    let reader = Volume::open("sim://", options(3).with_store(store_on(&client)).with_disk(elsewhere)).await;
    let reader = reader.unwrap();
    listing(&reader).await;
    let calls = client.calls();
    drop(reader);
    let cache = LocalCache::open(Some(Arc::new(disk.clone())), 0, 1 << 30);
    let mut lies = 0;
    for call in calls {
        let range = call.strip_prefix("get v/").and_then(|call| call.split_once(" Some(Bounded("));
        let Some((key, range)) = range else { continue };
        let (start, end) = range.trim_end_matches(')').split_once("..").unwrap();
        let (start, end): (u64, u64) = (start.parse().unwrap(), end.parse().unwrap());
        cache.put(key, start, &vec![7; (end - start) as usize]);
        lies += 1;
    }
    assert!(lies > u64::from(FILES));
    drop(cache);
    let (_, reading) = gets(&sim, options(5), &disk).await;
    assert!(reading > u64::from(FILES), "{reading}");
    let (_, reading) = gets(&sim, options(7), &disk).await;
    assert_eq!(reading, 0, "the truth is kept instead");
}

#[tokio::test]
async fn the_next_writer_does_not_fetch_again() {
    is_read_once(options, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_writer_with_threads_does_not_fetch_again() {
    let with_threads = |seed| {
        Options::new().with_entropy(rfs::Entropy::seeded(seed)).with_commit_interval(None).with_tree_memory(0)
    };
    is_read_once(with_threads, 8).await;
}

#[tokio::test]
async fn nothing_is_kept_when_it_is_turned_off() {
    let (sim, disk) = (written_elsewhere().await, SimDisk::new(CrashPlan::never()));
    let (_, cold) = gets(&sim, options(3).with_disk_cache(0), &disk).await;
    assert_eq!(cache_files(&disk), Vec::<String>::new());
    gets(&sim, options(5), &disk).await;
    assert_ne!(cache_files(&disk), Vec::<String>::new());
    let (_, off) = gets(&sim, options(7).with_disk_cache(0), &disk).await;
    assert_eq!((off, cache_files(&disk)), (cold, Vec::new()));
}

/// A bound is one, whatever is read; and a disk that is full is none that is read wrong from.
#[tokio::test]
async fn it_is_bounded() {
    const BYTES: u64 = 256 << 10;
    let (sim, disk) = (written_elsewhere().await, SimDisk::new(CrashPlan::never()));
    for seed in [3, 4, 5] {
        gets(&sim, options(seed).with_disk_cache(BYTES), &disk).await;
        let held: u64 = cache_files(&disk).iter().map(|name| disk.content(name).unwrap().len() as u64).sum();
        assert!(held > 0 && held <= BYTES, "{held}");
    }
}

/// The directory is free as soon as the volume is closed, or was not opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_is_let_go_of() {
    let (sim, dir) = (written_elsewhere().await, tempfile::tempdir().unwrap());
    let local = || Options::new().with_store(store_on(&sim)).with_local_dir(dir.path());
    for _ in 0..3 {
        let volume = Volume::open("sim://", local()).await.unwrap();
        volume.fs().read("/f00").await.unwrap();
        // Readers do not keep it.
        let fs = volume.fs();
        volume.close().await.unwrap();
        let volume = Volume::open("sim://", local()).await.unwrap();
        assert_eq!(fs.read("/f00").await.unwrap_err().kind(), ErrorKind::Closed);
        volume.fs().read("/f01").await.unwrap();
        drop(volume);
    }
    let image = sim.paths().into_iter().find(|path| path.as_ref().contains("/pages/"));
    let image = image.expect("an image was written when the volume was closed");
    let whole = sim.object(&image).unwrap();
    for _ in 0..3 {
        sim.remove_object(&image);
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).for_each(|path| {
            if path.to_string_lossy().contains("cache-") {
                std::fs::remove_file(path).unwrap();
            }
        });
        assert_eq!(Volume::open("sim://", local()).await.unwrap_err().kind(), ErrorKind::Damaged);
        sim.set_object(&image, whole.clone());
        drop(Volume::open("sim://", local()).await.unwrap());
    }
}
