//! Commits, checkpoints, opening again, looking back.

use std::sync::Arc;
use std::time::Duration;

use rfs::backends::RequestKind;
use rfs::{At, Entropy, Errno, ErrorKind, Level, Options, Volume};
use rfs_testkit::{CallKind, CrashPlan, Fault};

use crate::common::{listing, memory_url, options, sim, store_over};
use crate::gate::Gate;

/// A3, A9: nothing goes to the store between commits, and a new process finds what was committed.
#[tokio::test]
async fn what_is_committed_is_found_again_and_nothing_else_is_sent() {
    let url = memory_url("found_again");
    let volume = Volume::create(&url, options(1)).await.unwrap();
    let fs = volume.fs();
    let before = volume.metered();
    for number in 0..100 {
        fs.create_dir_all(format!("/d{}/e", number % 7)).await.unwrap();
        fs.write(format!("/d{}/e/f{number}", number % 7), vec![number as u8; 100 * number]).await.unwrap();
    }
    fs.symlink("d1/e", "/link").await.unwrap();
    assert_eq!((volume.metered() - before).requests(), 0);
    let receipt = volume.commit().await.unwrap();
    fs.write("/not-committed", b"lost with the machine").await.unwrap();
    let hash = {
        fs.remove_file("/not-committed").await.unwrap();
        volume.state_hash().await.unwrap()
    };
    fs.write("/not-committed", b"lost with the machine").await.unwrap();
    let mut expected = listing(&volume).await;
    expected.retain(|line| !line.starts_with("/not-committed"));
    drop((fs, volume));

    let volume = Volume::open(&url, options(2)).await.unwrap();
    assert_eq!(listing(&volume).await, expected);
    assert_eq!(volume.position(), receipt.position);
    assert_eq!(volume.open_report().unwrap().commit, Some(receipt.commit));
    volume.check().await.unwrap();
    // The root's times differ, since the file came and went; all else is the same.
    assert_ne!(volume.state_hash().await.unwrap(), hash);
}

/// A6: a commit of less than 1 MiB is one put and nothing else; without a change it is nothing.
#[tokio::test]
async fn a_small_commit_is_one_put() {
    let (_, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store)).await.unwrap();
    one_put_per_commit(&volume).await;
}

pub(crate) async fn one_put_per_commit(volume: &Volume) {
    let fs = volume.fs();
    for size in [0, 1, 4096, 300_000, 1_000_000] {
        fs.write(format!("/f{size}"), vec![7; size]).await.unwrap();
        let before = volume.metered();
        volume.checkpoint(&format!("c{size}")).await.unwrap().wait().await.unwrap();
        let sent = volume.metered() - before;
        assert_eq!((sent.requests(), sent.of(RequestKind::Put).requests), (1, 1), "{size} bytes");
        assert!(sent.bytes() < size as u64 + size as u64 / 50 + 2000, "{} for {size} bytes", sent.bytes());
        let before = volume.metered();
        volume.commit().await.unwrap();
        assert_eq!((volume.metered() - before).requests(), 0);
    }
}

/// What is asked for when nothing is there to be committed must not commit what comes after: only its own caller knows
/// when that belongs together.
#[tokio::test]
async fn an_idle_commit_does_not_commit_what_comes_after() {
    let (_, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    let receipt = volume.commit().await.unwrap();
    assert_eq!(volume.commit().await.unwrap(), receipt);
    volume.fs().write("/b", b"half of it").await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(volume.position_at(Level::Remote), receipt.position);
    assert_eq!(volume.commit().await.unwrap().position, volume.position());
}

/// A checkpoint that is on its way is the commit that was asked for at the same position: what comes after is not in it.
#[tokio::test]
async fn a_commit_beside_a_checkpoint_does_not_commit_what_comes_after() {
    let (sim, _) = sim();
    let (gate, mut keeper) = Gate::before(Arc::new(sim.clone()));
    let volume = Volume::create("sim://", options(1).with_store(store_over(Arc::new(gate)))).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    keeper.close();
    let mut checkpoint = volume.checkpoint("one").await.unwrap();
    let waiter = volume.clone();
    let commit = tokio::spawn(async move { waiter.commit().await });
    keeper.stopped().await;
    volume.fs().write("/b", b"half of it").await.unwrap();
    keeper.open();
    let receipt = checkpoint.wait().await.unwrap();
    assert_eq!(commit.await.unwrap().unwrap(), receipt);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(volume.position_at(Level::Remote), receipt.position);
}

/// Promise 6: an idle volume sends nothing.
#[tokio::test(start_paused = true)]
async fn an_idle_volume_sends_nothing() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", Options::new().with_one_thread().with_store(store)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap();
    let before = (volume.metered(), sim.calls().len());
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((volume.metered() - before.0).requests(), 0);
    assert_eq!(sim.calls().len(), before.1);
}

/// A6: commits on their own, by time and by bytes.
#[tokio::test(start_paused = true)]
async fn commits_happen_by_time_and_by_bytes() {
    let (_, store) = sim();
    let options = Options::new().with_one_thread().with_store(store).with_entropy(Entropy::seeded(1));
    let options = options.with_commit_interval(Some(Duration::from_secs(10))).with_commit_bytes(50_000);
    let volume = Volume::create("sim://", options).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    let position = volume.position();
    tokio::time::timeout(Duration::from_secs(9), volume.wait(position, Level::Remote)).await.unwrap_err();
    tokio::time::timeout(Duration::from_secs(2), volume.wait(position, Level::Remote))
        .await
        .unwrap()
        .unwrap();
    volume.fs().write("/a", vec![1; 60_000]).await.unwrap();
    let position = volume.position();
    tokio::time::timeout(Duration::from_secs(1), volume.wait(position, Level::Remote))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(volume.position_at(Level::Remote), position);
}

/// A8: while a commit is on its way the application goes on, and the commit covers what was before it.
#[tokio::test(start_paused = true)]
async fn work_goes_on_during_a_slow_commit() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store.clone())).await.unwrap();
    let fs = volume.fs();
    fs.write("/a", b"before").await.unwrap();
    let hold = sim.hold_next_put();
    let mut commit = volume.checkpoint("slow").await.unwrap();
    tokio::task::yield_now().await;
    for number in 0..1000 {
        fs.write(format!("/during{number}"), b"x").await.unwrap();
    }
    assert!(volume.position_at(Level::Remote) < commit.position());
    hold.release();
    let receipt = commit.wait().await.unwrap();
    assert_eq!(receipt.position, volume.position_at(Level::Remote));
    let options = options(2).with_store(store);
    let then = Volume::open_read_only("sim://", options, At::Checkpoint("slow".into())).await.unwrap();
    assert_eq!(listing(&then).await.len(), 1);
    assert_eq!(then.fs().read("/a").await.unwrap(), b"before");
}

/// Promise 5: a checkpoint reads the same whatever happens after it.
#[tokio::test]
async fn checkpoints_stay_as_they_were() {
    let url = memory_url("checkpoints");
    let volume = Volume::create(&url, options(1).with_image_every(20_000, 3)).await.unwrap();
    let fs = volume.fs();
    let mut expected = Vec::new();
    for round in 0..12_u8 {
        fs.write(format!("/f{}", round % 4), vec![round; 3000]).await.unwrap();
        fs.rename(format!("/f{}", round % 4), "/last").await.unwrap();
        let receipt = volume.checkpoint(&format!("c{round}")).await.unwrap().wait().await.unwrap();
        expected.push((receipt, listing(&volume).await));
    }
    let taken = volume.checkpoint("c3").await.unwrap_err();
    assert_eq!(taken.errno(), Some(Errno::Exists));
    for (round, (receipt, lines)) in expected.iter().enumerate() {
        for at in [At::Commit(receipt.commit), At::Checkpoint(format!("c{round}"))] {
            let then = Volume::open_read_only(&url, options(2), at).await.unwrap();
            assert_eq!(listing(&then).await, *lines);
            assert_eq!(then.state_hash().await.unwrap(), receipt.state);
            let refused = then.fs().write("/x", b"").await.unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::ReadOnly));
            assert_eq!(then.commit().await.unwrap_err().errno(), Some(Errno::ReadOnly));
        }
    }
    let head = Volume::open_read_only(&url, options(2), At::Head).await.unwrap();
    assert_eq!(listing(&head).await, expected[11].1);
    let none = Volume::open_read_only(&url, options(2), At::Checkpoint("none".into())).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NoSuchState);
    volume.drop_checkpoint("c3").await.unwrap();
    assert_eq!(volume.drop_checkpoint("c3").await.unwrap_err().errno(), Some(Errno::NotFound));
    assert_eq!(volume.checkpoints().len(), 11);
}

/// Opening replays from the newest image.
#[tokio::test]
async fn opening_starts_from_the_newest_image() {
    let url = memory_url("images");
    let volume = Volume::create(&url, options(1).with_image_every(1, 1)).await.unwrap();
    for round in 0..6 {
        volume.fs().write(format!("/f{round}"), vec![round; 50_000]).await.unwrap();
        volume.commit().await.unwrap();
        // The image is written in the background.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let expected = listing(&volume).await;
    drop(volume);
    let volume = Volume::open(&url, options(2)).await.unwrap();
    let replayed = volume.open_report().unwrap().replayed_bytes;
    assert!(replayed < 120_000, "{replayed} bytes were replayed");
    assert_eq!(listing(&volume).await, expected);
    volume.check().await.unwrap();
}

/// Large commits: segments go up ahead, in parts, and come back.
#[tokio::test]
async fn large_segments_are_uploaded_and_read_back() {
    let (_, store) = sim();
    let large =
        || options(1).with_store(store.clone()).with_cut(64 << 10, 1 << 20).with_inline_bytes(100_000);
    let volume = Volume::create("sim://", large()).await.unwrap();
    let content: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    volume.fs().write("/big", &content).await.unwrap();
    volume.commit().await.unwrap();
    volume.fs().write("/small", b"s").await.unwrap();
    volume.commit().await.unwrap();
    drop(volume);
    let volume = Volume::open("sim://", large()).await.unwrap();
    let before = volume.metered();
    assert_eq!(volume.fs().read("/big").await.unwrap(), content);
    assert!((volume.metered() - before).bytes() < 6_000_000);
    assert_eq!(volume.fs().read("/small").await.unwrap(), b"s");
}

/// A4, A10: the history of one file of many names only its own records, reads only their places, and rebuilds it.
#[tokio::test]
async fn one_files_history_rebuilds_it() {
    use rfs_core::Change;
    let (_, store) = sim();
    let opened = || options(1).with_store(store.clone()).with_inline_bytes(1000);
    let volume = Volume::create("sim://", opened()).await.unwrap();
    let fs = volume.fs();
    let file = fs.create("/wanted").await.unwrap();
    for round in 0..50_u8 {
        fs.write(format!("/other{round}"), vec![round; 20_000]).await.unwrap();
        file.write_all_at(&[round; 10], u64::from(round) * 7).await.unwrap();
        if round % 10 == 0 {
            file.set_len(u64::from(round) * 7 + 5).await.unwrap();
            volume.commit().await.unwrap();
        }
    }
    volume.commit().await.unwrap();
    let expected = fs.read("/wanted").await.unwrap();
    drop((file, fs, volume));

    let volume = Volume::open("sim://", opened()).await.unwrap();
    let before = volume.metered();
    let history = volume.history("/wanted").await.unwrap();
    let read = volume.metered() - before;
    assert!(read.bytes() < 60_000, "{} bytes were read of a journal of 1 MB", read.bytes());
    assert_eq!(history.complete_after.0, 0);
    let whole = volume.fs().read("/wanted").await.unwrap();
    assert_eq!(whole, expected);
    let mut rebuilt = Vec::new();
    let mut writes = 0;
    for record in &history.records {
        match &record.change {
            Change::Create { .. } => rebuilt.clear(),
            Change::Write { offset, len, .. } => {
                let end = (offset + len) as usize;
                rebuilt.resize(rebuilt.len().max(end), 0);
                rebuilt[*offset as usize..end].fill(writes);
                writes += 1;
            }
            Change::Truncate { size, .. } => rebuilt.resize(*size as usize, 0),
            other => panic!("{other:?} is not in this file's history"),
        }
    }
    assert_eq!(rebuilt, expected);
}

/// Promise 7: work goes on during an outage up to the budget, is pushed back with the right error, and resumes.
#[tokio::test(start_paused = true)]
async fn an_outage_pushes_back_at_the_budget_and_ends_by_itself() {
    let (sim, store) = sim();
    let options = options(1).with_store(store).with_outage_budget(100_000, Duration::from_secs(3600));
    let volume = Volume::create("sim://", options).await.unwrap();
    let fs = volume.fs();
    sim.set_offline(true);
    fs.write("/a", b"1").await.unwrap();
    let error = volume.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Outage, "{error}");
    let mut written = 0;
    let error = loop {
        match fs.write(format!("/f{written}"), vec![1; 1000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Outage, "{error}");
    assert!((50..=100).contains(&written), "{written} writes of 1000 bytes in a budget of 100,000");
    assert_eq!(fs.read("/f0").await.unwrap(), vec![1; 1000]);
    sim.set_offline(false);
    volume.commit().await.unwrap();
    fs.write("/again", b"1").await.unwrap();
    assert_eq!(volume.position_at(Level::Remote).0 + 2, volume.position().0);
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_pushes_back_too() {
    let (sim, store) = sim();
    let options = options(1).with_store(store).with_outage_budget(u64::MAX, Duration::from_secs(600));
    let volume = Volume::create("sim://", options).await.unwrap();
    sim.set_offline(true);
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap_err();
    volume.fs().write("/b", b"1").await.unwrap();
    tokio::time::advance(Duration::from_secs(700)).await;
    let error = volume.fs().write("/c", b"1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Outage);
    sim.set_offline(false);
    let mut position = rfs::Lsn(0);
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        position = volume.position_at(Level::Remote);
    }
    volume.fs().write("/c", b"1").await.unwrap();
    assert!(position > rfs::Lsn(0), "the commit was tried again without being asked");
}

/// A lost reply is not taken for lost, nor for done.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_looked_up() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store.clone())).await.unwrap();
    for round in 0..5 {
        volume.fs().write("/a", vec![round; 10]).await.unwrap();
        sim.inject(CallKind::Put, 0, Fault::LostReply);
        let receipt = volume.commit().await.unwrap();
        assert_eq!(receipt.commit.number, u64::from(round));
    }
    drop(volume);
    let volume = Volume::open("sim://", options(2).with_store(store)).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), [4; 10]);
}

/// What garbage collection leaves reads as before; what it deletes nobody needs.
#[tokio::test]
async fn collection_keeps_what_is_retained() {
    let (sim, store) = sim();
    let keep_two = |seed| {
        let options = options(seed).with_store(store.clone()).with_image_every(10_000, 4);
        options.with_retention(2, Duration::ZERO).with_inline_bytes(2000)
    };
    let volume = Volume::create("sim://", keep_two(1)).await.unwrap();
    let fs = volume.fs();
    let mut kept = Vec::new();
    for round in 0..40_u8 {
        fs.write(format!("/f{}", round % 5), vec![round; 4000]).await.unwrap();
        if round % 13 == 5 {
            volume.checkpoint(&format!("c{round}")).await.unwrap().wait().await.unwrap();
            kept.push((format!("c{round}"), listing(&volume).await));
        } else {
            volume.commit().await.unwrap();
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    // But for what a collection says that it keeps.
    let count = || sim.paths().iter().filter(|path| !path.as_ref().contains("/kept-by/")).count() as u64;
    let before = count();
    let collected = volume.collect_garbage().await.unwrap();
    assert!(collected.objects > 20, "{collected:?} of {before}");
    assert_eq!(count(), before - collected.objects);
    assert_eq!(volume.collect_garbage().await.unwrap().objects, 0);
    let expected = listing(&volume).await;
    let check = async || {
        for (name, lines) in &kept {
            let at = At::Checkpoint(name.clone());
            let then = Volume::open_read_only("sim://", keep_two(3), at).await.unwrap();
            assert_eq!(listing(&then).await, *lines, "{name}");
        }
        let head = Volume::open_read_only("sim://", keep_two(3), At::Head).await.unwrap();
        assert_eq!(listing(&head).await, expected);
    };
    check().await;
    drop((fs, volume));
    let volume = Volume::open("sim://", keep_two(4)).await.unwrap();
    volume.fs().write("/g", b"1").await.unwrap();
    volume.fs().remove_file("/g").await.unwrap();
    volume.commit().await.unwrap();
    volume.collect_garbage().await.unwrap();
    check().await;
    for (name, _) in &kept {
        volume.drop_checkpoint(name).await.unwrap();
    }
    for _ in 0..3 {
        volume.fs().write("/h", b"1").await.unwrap();
        volume.commit().await.unwrap();
    }
    assert!(volume.collect_garbage().await.unwrap().objects > 0);
    assert_eq!(volume.fs().read("/f4").await.unwrap(), [39; 4000]);
    drop(volume);
    let volume = Volume::open("sim://", keep_two(5)).await.unwrap();
    assert_eq!(volume.fs().read("/f4").await.unwrap(), [39; 4000]);
    volume.check().await.unwrap();
}

/// A7: commits asked for by many at once are serialised, and each covers what its caller did.
#[tokio::test]
async fn concurrent_commits_are_serialised() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store.clone())).await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..10 {
        let volume = volume.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..10 {
                volume.fs().write(format!("/t{task}-{round}"), b"x").await.unwrap();
                let position = volume.position();
                let receipt = if round % 3 == 0 {
                    volume.checkpoint(&format!("t{task}-{round}")).await.unwrap().wait().await.unwrap()
                } else {
                    volume.commit().await.unwrap()
                };
                assert!(receipt.position >= position);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let commits = sim.paths().iter().filter(|path| path.as_ref().contains("/commits/")).count();
    assert!(commits <= 102, "{commits} objects for 100 commits and the fences");
    drop(volume);
    let volume = Volume::open("sim://", options(2).with_store(store)).await.unwrap();
    assert_eq!(listing(&volume).await.len(), 100);
    assert_eq!(volume.checkpoints().len(), 40);
}

/// A1: several volumes are open at once, each with its own files.
#[tokio::test]
async fn volumes_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let one = Volume::create(&memory_url("mix"), options(1)).await.unwrap();
    let url = format!("file://{}", dir.path().display());
    let other = Volume::create(&url, options(2)).await.unwrap();
    one.fs().write("/a", b"one").await.unwrap();
    other.fs().write("/a", b"other").await.unwrap();
    one.commit().await.unwrap();
    other.commit().await.unwrap();
    assert_ne!(one.id(), other.id());
    assert_eq!(one.fs().read("/a").await.unwrap(), b"one");
    assert_eq!(other.fs().read("/a").await.unwrap(), b"other");
}

/// A checkpoint that was asked for, and whose commit was never made, is not there: not as a name, not as a state.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_was_never_made_has_no_name() {
    let (sim, store) = sim();
    let disk = rfs_testkit::SimDisk::new(CrashPlan::never());
    let on_disk = |seed| options(seed).with_store(store.clone()).with_disk(Arc::new(disk.clone()));
    let volume = Volume::create("sim://", on_disk(1)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.checkpoint("made").await.unwrap().wait().await.unwrap();
    sim.set_offline(true);
    let mut lost = volume.checkpoint("lost").await.unwrap();
    volume.wait(lost.position(), Level::Local).await.unwrap();
    assert_eq!(lost.wait().await.unwrap_err().kind(), ErrorKind::Outage);
    drop(volume);
    sim.set_offline(false);
    let volume = Volume::open("sim://", on_disk(2)).await.unwrap();
    let names: Vec<String> = volume.checkpoints().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["made"]);
    volume.checkpoint("lost").await.unwrap().wait().await.unwrap();
    let then =
        Volume::open_read_only("sim://", options(3).with_store(store.clone()), At::Checkpoint("lost".into()));
    assert_eq!(then.await.unwrap().fs().read("/a").await.unwrap(), b"1");
    volume.collect_garbage().await.unwrap();
}

/// The caller's own bytes come back.
#[tokio::test]
async fn a_commit_keeps_its_metadata() {
    let (_, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store)).await.unwrap();
    let mut commit = volume.checkpoint_with("named", b"flight 17".to_vec()).await.unwrap();
    let receipt = commit.wait().await.unwrap();
    assert_eq!(volume.metadata_of(receipt.commit).await.unwrap(), b"flight 17");
    let next = rfs::CommitId { number: receipt.commit.number + 1, ..receipt.commit };
    assert_eq!(volume.metadata_of(next).await.unwrap_err().kind(), ErrorKind::NoSuchState);
    let much = volume.checkpoint_with("much", vec![0; 70_000]).await.unwrap_err();
    assert_eq!(much.errno(), Some(Errno::TooBig));
}

/// A dead writer left segments with the numbers that its successor uses again: collecting them costs nobody else's.
#[tokio::test]
async fn a_dead_writers_uploads_are_collected_and_nothing_else() {
    let (sim, store) = sim();
    let small = |seed| {
        let options =
            options(seed).with_store(store.clone()).with_inline_bytes(1024).with_cut(64 << 10, 256 << 10);
        options.with_cache(0, 0).with_image_every(1, 1).with_retention(1, Duration::ZERO)
    };
    let content = |seed: u8| vec![seed; 200 << 10];
    let first = Volume::create("sim://", small(1)).await.unwrap();
    let before = sim.paths().len();
    for number in 0..20 {
        first.fs().write(format!("/dead{number}"), content(1)).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(sim.paths().len() > before, "segments went up ahead of a commit that never came");
    drop(first);

    let second = Volume::open("sim://", small(2)).await.unwrap();
    for number in 0..20 {
        second.fs().write(format!("/live{number}"), content(2)).await.unwrap();
    }
    for round in 0..8 {
        second.fs().write("/small", [round]).await.unwrap();
        second.commit().await.unwrap();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        if round % 2 == 1 {
            assert!(second.collect_garbage().await.unwrap().objects > 0);
        }
        assert_eq!(second.fs().read("/live0").await.unwrap(), content(2), "round {round}");
    }
    drop(second);
    let third = Volume::open("sim://", small(3)).await.unwrap();
    for number in 0..20 {
        assert_eq!(third.fs().read(format!("/live{number}")).await.unwrap(), content(2));
    }
}

/// What the last handle left undone is committed in its time, also when it is the closing of a handle itself.
#[tokio::test(start_paused = true)]
async fn closing_a_handle_is_committed_in_its_time() {
    let (_, store) = sim();
    let options = Options::new().with_one_thread().with_store(store).with_entropy(Entropy::seeded(1));
    let volume =
        Volume::create("sim://", options.with_commit_interval(Some(Duration::from_secs(10)))).await.unwrap();
    let file = volume.fs().create("/a").await.unwrap();
    volume.fs().remove_file("/a").await.unwrap();
    volume.commit().await.unwrap();
    drop(file);
    let position = volume.position();
    assert!(position > volume.position_at(Level::Remote));
    tokio::time::timeout(Duration::from_secs(11), volume.wait(position, Level::Remote))
        .await
        .unwrap()
        .unwrap();
}

/// A commit that was asked for during an outage is made when the store is back, without being asked for again.
#[tokio::test(start_paused = true)]
async fn a_commit_asked_for_in_an_outage_goes_on_by_itself() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store)).await.unwrap();
    sim.set_offline(true);
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap_err();
    volume.fs().write("/b", b"2").await.unwrap();
    volume.commit().await.unwrap_err();
    sim.set_offline(false);
    let position = volume.position();
    tokio::time::timeout(Duration::from_secs(60), volume.wait(position, Level::Remote))
        .await
        .unwrap()
        .unwrap();
}

/// A checkpoint that was made stays made, whatever becomes of the store and the volume after it.
#[tokio::test(start_paused = true)]
async fn a_made_checkpoint_is_reported_as_made() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store)).await.unwrap();
    let mut made = volume.checkpoint("made").await.unwrap();
    volume.wait(made.position(), Level::Remote).await.unwrap();
    sim.set_offline(true);
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap_err();
    volume.close().await.unwrap_err();
    assert_eq!(made.wait().await.unwrap().position, made.position());
    assert_eq!(made.wait().await.unwrap().position, made.position());
}

/// A rival's object that cannot be read fences all the same.
#[tokio::test(start_paused = true)]
async fn an_unreadable_rival_fences() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap();
    let commit = sim.paths().into_iter().rfind(|path| path.as_ref().contains("/commits/")).unwrap();
    let next = commit.as_ref().replace("-0000000000000000", "-0000000000000001");
    sim.set_object(&object_store::path::Path::from(next), "not an rfs object");
    volume.fs().write("/a", b"2").await.unwrap();
    assert_eq!(volume.commit().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(volume.fs().write("/a", b"3").await.unwrap_err().kind(), ErrorKind::Fenced);
}

/// A damaged head does not keep earlier commits from being opened.
#[tokio::test]
async fn earlier_commits_open_beside_a_damaged_head() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store.clone())).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    let earlier = volume.commit().await.unwrap();
    volume.fs().write("/a", b"2").await.unwrap();
    volume.commit().await.unwrap();
    let head = sim.paths().into_iter().rfind(|path| path.as_ref().contains("/commits/")).unwrap();
    sim.flip_bit(&head, 700);
    let open = |at| Volume::open_read_only("sim://", options(2).with_store(store.clone()), at);
    assert_eq!(open(At::Head).await.unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(open(At::Commit(earlier.commit)).await.unwrap().fs().read("/a").await.unwrap(), b"1");
}

/// Opening costs the same however often the volume was opened without a commit.
#[tokio::test]
async fn idle_openings_do_not_add_up() {
    let (_, store) = sim();
    let volume = Volume::create("sim://", options(1).with_store(store.clone())).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap();
    let mut requests = Vec::new();
    for seed in 0..20 {
        let before = store.meter().snapshot();
        let volume = Volume::open("sim://", options(2 + seed).with_store(store.clone())).await.unwrap();
        requests.push((store.meter().snapshot() - before).requests());
        assert_eq!(volume.fs().read("/a").await.unwrap(), b"1");
    }
    assert_eq!(requests[1], requests[19], "{requests:?}");
}

/// The history of a file after its oldest part was collected, on another machine.
#[tokio::test]
async fn history_goes_as_far_back_as_it_is_kept() {
    let (_, store) = sim();
    let small = |seed| {
        let options = options(seed).with_store(store.clone()).with_image_every(1, 1);
        options.with_retention(1, Duration::ZERO)
    };
    let volume = Volume::create("sim://", small(1)).await.unwrap();
    for round in 0..6_u8 {
        volume.fs().write("/a", [round; 100]).await.unwrap();
        volume.commit().await.unwrap();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    let whole = volume.history("/a").await.unwrap();
    assert_eq!(whole.complete_after.0, 0);
    assert!(volume.collect_garbage().await.unwrap().objects > 0);
    drop(volume);
    let volume = Volume::open("sim://", small(2)).await.unwrap();
    let rest = volume.history("/a").await.unwrap();
    assert!(rest.complete_after.0 > 0);
    assert!(!rest.records.is_empty() && whole.records.ends_with(&rest.records));
}

/// A runtime that ended takes its volume's committer with it: that is an error, not a hang.
#[test]
fn a_volume_whose_runtime_ended_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let volume = first.block_on(Volume::create("memory://", options(1))).unwrap();
    drop(first);
    let error = runtime().block_on(volume.commit()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}
