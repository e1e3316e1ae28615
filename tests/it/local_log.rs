//! The local log, as a volume's owner sees it: what survives a kill, what is put aside, what is recycled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rfs::{ErrorKind, Level, LocalLog, OpenOptions, Options, Volume};
use rfs_testkit::{CrashPlan, SimDisk};

use crate::common::{listing, memory_url, options};

/// With a thread of its own for the log, as a program has it.
fn threaded(seed: u64, dir: &Path) -> Options {
    Options::new()
        .with_entropy(rfs::Entropy::seeded(seed))
        .with_commit_interval(None)
        .with_local_dir(dir)
        .with_cut(4096, 1 << 20)
}

/// A copy of a local directory, as a kill would leave it now.
fn as_it_is(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Level Local: what was synced is found again by a process that opens the same directory, without any commit.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_survives_the_process() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("synced"));
    let volume = Volume::create(&url, threaded(1, dir.path())).await.unwrap();
    let fs = volume.fs();
    fs.write("/committed", b"1").await.unwrap();
    volume.commit().await.unwrap();
    let file = OpenOptions::new().append(true).create(true).open(&fs, "/log").await.unwrap();
    for number in 0..100_u8 {
        file.append(&[number; 50]).await.unwrap();
    }
    fs.rename("/committed", "/renamed").await.unwrap();
    file.sync_all().await.unwrap();
    assert_eq!(volume.position_at(Level::Local), volume.position());
    assert!(volume.position_at(Level::Remote) < volume.position());
    let (expected, hash) = (listing(&volume).await, volume.state_hash().await.unwrap());
    // The process is killed here: what the directory holds now is what the next one finds.
    let killed = as_it_is(dir.path());
    drop((file, fs, volume));

    let volume = Volume::open(&url, threaded(2, killed.path())).await.unwrap();
    assert!(
        matches!(volume.open_report().unwrap().local, LocalLog::Replayed(n) if n > 1),
        "{:?}",
        volume.open_report()
    );
    assert_eq!(listing(&volume).await, expected);
    assert_eq!(volume.state_hash().await.unwrap(), hash);
    volume.commit().await.unwrap();
    drop(volume);
    // And from now on on any machine.
    let volume = Volume::open(&url, options(3)).await.unwrap();
    assert_eq!(listing(&volume).await, expected);
}

/// One sync serves all who wait, by the log's own thread; what it acknowledged survives a loss of power.
#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_sync_together() {
    let (url, disk) = (memory_url("together"), SimDisk::new(CrashPlan::never()));
    let on = |seed, disk: &SimDisk| threaded(seed, Path::new("unused")).with_disk(Arc::new(disk.clone()));
    let volume = Volume::create(&url, on(1, &disk)).await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..16 {
        let fs = volume.fs();
        tasks.push(tokio::spawn(async move {
            let file = fs.create(format!("/f{task}")).await.unwrap();
            for _ in 0..20 {
                file.append(b"x").await.unwrap();
                file.sync_data().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(volume.position_at(Level::Local), volume.position());
    let syncs = disk.counts().syncs;
    assert!(syncs < 16 * 20, "{syncs} syncs for {} waits", 16 * 20);
    let expected = listing(&volume).await;
    let after = disk.after_power_loss(7, CrashPlan::never());
    drop(volume);
    let volume = Volume::open(&url, on(2, &after)).await.unwrap();
    assert_eq!(listing(&volume).await, expected);
}

/// Locks and nameless files die with the writer that held them.
#[tokio::test(flavor = "multi_thread")]
async fn locks_and_nameless_files_end_with_their_writer() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("holders"));
    let volume = Volume::create(&url, threaded(1, dir.path())).await.unwrap();
    let fs = volume.fs();
    fs.write("/lock", b"").await.unwrap();
    fs.write("/nameless", vec![1; 10_000]).await.unwrap();
    let (lock, nameless) = (fs.open("/lock").await.unwrap(), fs.open("/nameless").await.unwrap());
    lock.lock().await.unwrap();
    fs.remove_file("/nameless").await.unwrap();
    volume.commit().await.unwrap();
    // The machine is gone: its handles never close.
    std::mem::forget((lock, nameless));
    let volume = Volume::open(&url, options(2)).await.unwrap();
    volume.fs().open("/lock").await.unwrap().try_lock().await.unwrap();
    volume.check().await.unwrap();
    assert_eq!(listing(&volume).await.len(), 1);
}

/// Another machine went on: what this one had not committed is kept aside, and reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_given_up_is_put_aside() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("aside"));
    let volume = Volume::create(&url, threaded(1, dir.path())).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap();
    let file = volume.fs().create("/lost").await.unwrap();
    file.sync_all().await.unwrap();
    let end = volume.position();
    drop((file, volume));

    let elsewhere = Volume::open(&url, options(2)).await.unwrap();
    elsewhere.fs().write("/b", b"2").await.unwrap();
    elsewhere.commit().await.unwrap();
    drop(elsewhere);

    let volume = Volume::open(&url, threaded(3, dir.path())).await.unwrap();
    let LocalLog::Orphaned { files, end: orphaned_end } = &volume.open_report().unwrap().local else {
        panic!("{:?}", volume.open_report());
    };
    assert_eq!(*orphaned_end, end);
    for file in files {
        assert!(dir.path().join(file).metadata().unwrap().len() > 0, "{file} is kept");
    }
    assert_eq!(listing(&volume).await.len(), 2);
    volume.fs().write("/c", b"3").await.unwrap();
    volume.close().await.unwrap();
    let volume = Volume::open(&url, threaded(4, dir.path())).await.unwrap();
    assert_eq!(volume.open_report().unwrap().local, LocalLog::Nothing);
    assert_eq!(listing(&volume).await.len(), 3);
}

/// Another machine only looked: the epoch passed, nothing was committed, and the local log goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_without_a_commit_costs_nothing() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("looked"));
    let volume = Volume::create(&url, threaded(1, dir.path())).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.wait(volume.position(), Level::Local).await.unwrap();
    let killed = as_it_is(dir.path());
    drop(volume);
    drop(Volume::open(&url, options(2)).await.unwrap());
    let volume = Volume::open(&url, threaded(3, killed.path())).await.unwrap();
    assert_eq!(volume.open_report().unwrap().local, LocalLog::Replayed(2));
    assert_eq!(volume.fs().read("/a").await.unwrap(), b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_one_volume() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::create(&memory_url("one"), threaded(1, dir.path())).await.unwrap();
    let busy = Volume::create(&memory_url("other"), threaded(2, dir.path())).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::LocalDirectoryInUse, "{busy}");
    volume.close().await.unwrap();
    let url = memory_url("another");
    let owner = Volume::create(&url, options(3)).await.unwrap();
    let foreign = Volume::open(&url, threaded(4, dir.path())).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::ForeignVolume, "{foreign}");
    // Whoever opened with the wrong directory took nothing from the owner.
    owner.fs().write("/a", b"1").await.unwrap();
    owner.commit().await.unwrap();
}

/// The log is bounded: files whose segments are committed are used again, and content then comes from the store.
#[tokio::test(flavor = "multi_thread")]
async fn the_local_log_is_recycled() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("recycled"));
    let small = |seed| threaded(seed, dir.path()).with_cache(1 << 20, 1 << 20).with_cut(256 << 10, 8 << 20);
    let volume = Volume::create(&url, small(1)).await.unwrap();
    let content: Vec<u8> = (0..8_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for round in 0..40 {
        volume.fs().write(format!("/f{}", round % 3), &content[round..]).await.unwrap();
        volume.commit().await.unwrap();
    }
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 250 << 20, "{bytes} bytes of local log after 320 MB");
    for round in 37..40 {
        assert!(volume.fs().read(format!("/f{}", round % 3)).await.unwrap() == content[round..]);
    }
    volume.fs().write("/tail", b"1").await.unwrap();
    volume.wait(volume.position(), Level::Local).await.unwrap();
    drop(volume);
    let volume = Volume::open(&url, small(2)).await.unwrap();
    assert_eq!(volume.fs().read("/tail").await.unwrap(), b"1");
    assert!(volume.fs().read("/f0").await.unwrap() == content[39..]);
}

/// What the last handle left is in the local log, synced or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_writes_the_log_out() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("written-out"));
    let volume = Volume::create(&url, threaded(1, dir.path())).await.unwrap();
    volume.fs().write("/a", b"not synced").await.unwrap();
    drop(volume);
    let volume = Volume::open(&url, threaded(2, dir.path())).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), b"not synced");
}

/// Closing a volume ends those who wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_who_waits() {
    for round in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let volume =
            Volume::create(&memory_url(&format!("ends{round}")), threaded(1, dir.path())).await.unwrap();
        let file = volume.fs().create("/a").await.unwrap();
        let syncs =
            tokio::spawn(
                async move { while file.append(b"x").await.is_ok() && file.sync_all().await.is_ok() {} },
            );
        tokio::task::yield_now().await;
        volume.close().await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), syncs).await;
        ended.expect("who waits for a sync is told").unwrap();
    }
}

/// A file whose content is another volume's log is content: it says nothing about this log.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_inside_a_file_is_content() {
    let (inner, outer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let volume = Volume::create(&memory_url("inner"), threaded(1, inner.path())).await.unwrap();
    let file = volume.fs().create("/a").await.unwrap();
    for _ in 0..200 {
        file.append(&[7; 100]).await.unwrap();
        file.sync_all().await.unwrap();
    }
    drop((file, volume));
    let log = std::fs::read(inner.path().join("log-00000000")).unwrap();
    let log = &log[..60_000];

    let url = memory_url("outer");
    let volume = Volume::create(&url, threaded(2, outer.path()).with_cut(1 << 20, 1 << 24)).await.unwrap();
    volume.fs().write("/first", b"1").await.unwrap();
    volume.wait(volume.position(), Level::Local).await.unwrap();
    volume.fs().write("/log", log).await.unwrap();
    drop(volume);
    // The last frame is cut off, as by a crash: the copied frames stand behind the end.
    let path = outer.path().join("log-00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.windows(64).rposition(|window| window == &log[log.len() - 64..]).unwrap();
    bytes[end..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let volume = Volume::open(&url, threaded(3, outer.path())).await.unwrap();
    assert_eq!(volume.fs().read("/first").await.unwrap(), b"1");
}

/// A local log that cannot be opened is no reason to stop the writer that has the volume open elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_local_log_fences_nobody() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("fences-nobody"));
    let volume = Volume::create(&url, threaded(1, dir.path())).await.unwrap();
    for round in 0..3 {
        volume.fs().write("/a", [round; 100]).await.unwrap();
        volume.wait(volume.position(), Level::Local).await.unwrap();
    }
    drop(volume);
    let elsewhere = Volume::open(&url, options(2)).await.unwrap();
    let path = dir.path().join("log-00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Volume::open(&url, threaded(3, dir.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("log-00000000"), "{error}");
    elsewhere.fs().write("/b", b"1").await.unwrap();
    elsewhere.commit().await.unwrap();
}

/// Also when the store is out of reach, and when the runtime ends first.
#[test]
fn what_cannot_be_committed_is_written_out() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sim = rfs_testkit::SimStore::new(rfs_testkit::CrashPlan::never());
    let dir = tempfile::tempdir().unwrap();
    let on = |seed| {
        let quick = rfs::StoreOptions::default().with_deadline(Duration::from_millis(200));
        let prefix = object_store::path::Path::from("v");
        let store = rfs::Store::new(std::sync::Arc::new(sim.clone()), "sim://", prefix, quick);
        threaded(seed, dir.path()).with_store(store)
    };
    runtime().block_on(async {
        let volume = Volume::create("sim://", on(1)).await.unwrap();
        volume.fs().write("/a", b"1").await.unwrap();
        sim.set_offline(true);
        volume.commit().await.unwrap_err();
        volume.fs().write("/b", b"2").await.unwrap();
        assert_eq!(volume.close().await.unwrap_err().kind(), ErrorKind::Outage);
        sim.set_offline(false);
    });
    let second = runtime();
    second.block_on(async {
        let volume = Volume::open("sim://", on(2)).await.unwrap();
        assert_eq!(volume.fs().read("/b").await.unwrap(), b"2");
        volume.fs().write("/c", b"3").await.unwrap();
        tokio::spawn(async move {
            let _volume = volume;
            std::future::pending::<()>().await;
        });
    });
    drop(second);
    runtime().block_on(async {
        let volume = Volume::open("sim://", on(3)).await.unwrap();
        assert_eq!(volume.fs().read("/c").await.unwrap(), b"3");
    });
}

/// Level Local, what is held included: a process that is killed and comes back as the same owner finds its files
/// without a name and its locks, though nothing of them was committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_process_finds_what_it_held() {
    let (dir, url) = (tempfile::tempdir().unwrap(), memory_url("restarted"));
    let job = |seed, dir: &Path| threaded(seed, dir).with_owner_id(rfs::OwnerId(3));
    let volume = Volume::create(&url, job(1, dir.path())).await.unwrap();
    let fs = volume.fs();
    let mut both = OpenOptions::new();
    both.read(true).write(true).create(true);
    let (scratch, lock) = (both.open(&fs, "/scratch").await.unwrap(), both.open(&fs, "/lock").await.unwrap());
    let nameless = fs.open_nameless("/", both.clone().create(false)).await.unwrap();
    scratch.append(&[7; 9000]).await.unwrap();
    fs.remove_file("/scratch").await.unwrap();
    lock.lock().await.unwrap();
    scratch.sync_all().await.unwrap();
    let killed = as_it_is(dir.path());
    let (inodes, key) = ([scratch.ino(), nameless.ino()], lock.lock_key());
    drop((scratch, nameless, lock, fs, volume));

    let volume = Volume::open(&url, job(2, killed.path())).await.unwrap();
    let report = volume.open_report().unwrap();
    assert_eq!((report.held_files, report.held_locks), (2, 1));
    assert_eq!(volume.held_files(), inodes);
    let fs = volume.fs();
    let found = fs.open_held(inodes[0], OpenOptions::new().read(true)).await.unwrap();
    let mut content = vec![0; 10_000];
    assert_eq!(found.read_at(&mut content, 0).await.unwrap(), 9000);
    assert!(content[..9000].iter().all(|byte| *byte == 7));
    let named = fs.open_held(inodes[1], OpenOptions::new().read(true)).await.unwrap();
    named.link_to("/kept").await.unwrap();
    assert!(fs.open("/lock").await.unwrap().try_lock_shared().await.is_err());
    both.lock_key(key).open(&fs, "/lock").await.unwrap().unlock().await.unwrap();
    fs.open("/lock").await.unwrap().try_lock().await.unwrap();
    drop((found, named));
    assert!(volume.held_files().is_empty() && volume.held_locks().is_empty());
    volume.check().await.unwrap();
}

/// Found by the simulator: where the commit of a checkpoint would have been made stands the fence of a writer that went
/// on with the same history, and whose head has a later number.
#[tokio::test]
async fn a_checkpoint_that_was_fenced_is_not_found() {
    let (sim, store) = crate::common::sim();
    let dir = tempfile::tempdir().unwrap();
    let client = sim.client(rfs_testkit::CrashPlan::never());
    let local = |seed| {
        let store = crate::common::store_on(&client);
        options(seed).with_store(store).with_local_dir(dir.path()).with_image_every(u64::MAX, 1)
    };
    let volume = Volume::create("sim://", local(1)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap();
    client.set_offline(true);
    let named = volume.checkpoint("fenced").await.unwrap();
    volume.wait(volume.position(), Level::Local).await.unwrap();
    drop((named, volume));
    client.set_offline(false);
    // It changes nothing, and makes commits all the same: they name its image.
    let other =
        Volume::open("sim://", options(3).with_store(store).with_image_every(u64::MAX, 1)).await.unwrap();
    other.close().await.unwrap();
    let volume = Volume::open("sim://", local(5)).await.unwrap();
    assert_eq!(volume.checkpoints(), []);
    volume.commit().await.unwrap();
    volume.check().await.unwrap();
}
