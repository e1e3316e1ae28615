//! The whole way on each kind of store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rfs::backends::{PutNew, RequestKind, StoreErrorKind};
use rfs::{
    At, Change, CheckOptions, DrillOptions, ErrorKind, ObjectRole, Options, Problem, RestoreOptions, Volume,
};

use rfs_testkit::Rng;

use crate::commits::one_put_per_commit;
use crate::common::{Place, listing, on_each_store};
use crate::model;

on_each_store! {
    a_small_commit_costs_one_put
    a_volume_lives_through_many_machines
    large_files_go_up_in_parts_and_come_back
    an_existing_volume_is_not_made_again
    checkpoints_stay_as_they_were
    random_operations_are_the_models
    what_nothing_needs_is_deleted
    a_tree_is_restored_and_drilled
    a_files_history_is_found
    each_lost_or_damaged_object_is_named
    many_tasks_write_and_commit_at_once
    the_store_keeps_its_word
}

fn on(place: &Place, seed: u64) -> Options {
    place.on(seed)
}

/// Bytes that differ from place to place.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn a_small_commit_costs_one_put(place: Place) {
    let volume = Volume::create(&place.url, on(&place, 1).with_inline_bytes(1 << 20)).await.unwrap();
    one_put_per_commit(&volume).await;
}

/// A9, A12: each machine finds what the one before committed, with nothing but the URL.
async fn a_volume_lives_through_many_machines(place: Place) {
    let mut expected = Vec::new();
    let mut hash = None;
    for machine in 0..6_u8 {
        let dir = tempfile::tempdir().unwrap();
        let options = on(&place, u64::from(machine)).with_local_dir(dir.path()).with_image_every(1 << 20, 4);
        let options = options.with_retention(2, Duration::ZERO);
        let volume = Volume::open_or_create(&place.url, options).await.unwrap();
        assert_eq!(listing(&volume).await, expected, "machine {machine}");
        let found = volume.state_hash().await.unwrap();
        assert!(hash.is_none_or(|hash| hash == found));
        let fs = volume.fs();
        for step in 0..4_u8 {
            fs.create_dir_all(format!("/m{machine}/s{step}")).await.unwrap();
            fs.write(format!("/m{machine}/s{step}/f"), vec![machine; 5000 * usize::from(step)])
                .await
                .unwrap();
            if machine > 0 {
                let (from, to) = (format!("/m{}/s{step}/f", machine - 1), format!("/m{machine}/s{step}/old"));
                fs.rename(from, to).await.unwrap();
            }
            volume.commit().await.unwrap();
        }
        volume.collect_garbage().await.unwrap();
        let file = fs.open(format!("/m{machine}/s3/f")).await.unwrap();
        file.sync_all().await.unwrap();
        expected = listing(&volume).await;
        hash = Some(volume.state_hash().await.unwrap());
        drop((file, fs));
        if machine % 2 == 0 {
            volume.close().await.unwrap();
        }
        // Otherwise the machine is just gone, its local directory with it.
    }
    let reader = Volume::open_read_only(&place.url, on(&place, 99), At::Head).await.unwrap();
    assert_eq!(listing(&reader).await, expected);
}

async fn large_files_go_up_in_parts_and_come_back(place: Place) {
    let large = |seed| on(&place, seed).with_cut(256 << 10, 48 << 20);
    let volume = Volume::create(&place.url, large(1)).await.unwrap();
    let mut rng = Rng::new(1);
    let content: Vec<u8> = (0..5_000_000).flat_map(|_| rng.next().to_le_bytes()).collect();
    let before = volume.metered();
    volume.fs().write("/big", &content).await.unwrap();
    volume.commit().await.unwrap();
    let sent = volume.metered() - before;
    assert!(sent.of(RequestKind::Multipart).requests > 0, "{sent}");
    drop(volume);
    let volume = Volume::open(&place.url, large(2)).await.unwrap();
    assert!(volume.fs().read("/big").await.unwrap() == content);
}

async fn an_existing_volume_is_not_made_again(place: Place) {
    let none = Volume::open(&place.url, on(&place, 1)).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NoVolume, "{none}");
    let volume = Volume::create(&place.url, on(&place, 1)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    let error = Volume::create(&place.url, on(&place, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    volume.commit().await.unwrap();
}

async fn checkpoints_stay_as_they_were(place: Place) {
    let options = |seed| on(&place, seed).with_retention(1, Duration::ZERO).with_image_every(u64::MAX, 3);
    let volume = Volume::create(&place.url, options(1)).await.unwrap();
    let mut named = BTreeMap::new();
    for round in 0..6_u32 {
        let fs = volume.fs();
        fs.write(format!("/f{}", round % 4), noise(round, 20_000)).await.unwrap();
        fs.symlink(format!("f{round}"), format!("/l{round}")).await.unwrap();
        let name = format!("round {round}");
        let receipt = volume.checkpoint(&name).await.unwrap().wait().await.unwrap();
        named.insert(name, (receipt.commit, listing(&volume).await));
    }
    volume.drop_checkpoint("round 1").await.unwrap();
    named.remove("round 1").unwrap();
    volume.commit().await.unwrap();
    volume.collect_garbage().await.unwrap();
    for (name, (commit, expected)) in &named {
        for at in [At::Checkpoint(name.clone()), At::Commit(*commit)] {
            let reader = Volume::open_read_only(&place.url, options(2), at).await.unwrap();
            assert_eq!(listing(&reader).await, *expected, "{name}");
            reader.check().await.unwrap();
        }
    }
    let dropped = At::Checkpoint("round 1".to_owned());
    let error = Volume::open_read_only(&place.url, options(3), dropped).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchState, "{error}");
}

/// A2, A9: whatever is done, by whatever openings, is what the reference model has.
async fn random_operations_are_the_models(place: Place) {
    for seed in 0..2 {
        let url = format!("{}-{seed}", place.url);
        let small = |writer| {
            let options = place.at(&*url).on(seed * 2 + writer);
            options.with_cut(2_000, 30_000).with_image_every(u64::MAX, 3)
        };
        model::run(&url, small, seed + 1000, 250).await;
    }
}

async fn what_nothing_needs_is_deleted(place: Place) {
    let options = |seed| {
        let options = on(&place, seed).with_retention(1, Duration::ZERO).with_image_every(1 << 20, 4);
        options.with_inline_bytes(10_000).with_compaction_rate(None)
    };
    let volume = Volume::create(&place.url, options(1)).await.unwrap();
    let fs = volume.fs();
    for round in 0..8_u32 {
        for file in 0..4 {
            fs.write(format!("/f{file}"), noise(round * 4 + file, 40_000)).await.unwrap();
        }
        fs.write(format!("/small{round}"), noise(round, 500)).await.unwrap();
        volume.commit().await.unwrap();
    }
    for file in 0..3 {
        fs.remove_file(format!("/f{file}")).await.unwrap();
    }
    volume.commit().await.unwrap();
    let stored = |objects: Vec<rfs::StoredObject>| objects.iter().map(|object| object.bytes).sum::<u64>();
    let all = rfs::Objects::open(&place.url, options(2)).await.unwrap();
    let before = stored(all.list().await.unwrap());
    let usage = volume.usage().await.unwrap();
    assert!(usage.dead_bytes > usage.live_bytes, "{usage:?}");
    let mut rounds = 0;
    while volume.compact().await.unwrap().more {
        rounds += 1;
        assert!(rounds < 10, "it comes to an end");
    }
    let mut deleted = 0;
    for _ in 0..2 {
        volume.compact().await.unwrap();
        deleted += volume.collect_garbage().await.unwrap().objects;
    }
    let after = stored(all.list().await.unwrap());
    assert!(deleted > 0 && after < before / 2, "{deleted} objects deleted, {before} bytes are now {after}");
    let expected = listing(&volume).await;
    volume.close().await.unwrap();
    let volume = Volume::open(&place.url, options(3)).await.unwrap();
    assert_eq!(listing(&volume).await, expected);
    assert_eq!(volume.fs().read("/f3").await.unwrap(), noise(31, 40_000));
    volume.check().await.unwrap();
}

async fn a_tree_is_restored_and_drilled(place: Place) {
    let volume = Volume::create(&place.url, on(&place, 1)).await.unwrap();
    let fs = volume.fs();
    fs.create_dir_all("/a/b").await.unwrap();
    fs.write("/a/b/large", noise(7, 3_000_000)).await.unwrap();
    fs.write("/a/empty", b"").await.unwrap();
    fs.hard_link("/a/b/large", "/linked").await.unwrap();
    fs.symlink("b/large", "/a/link").await.unwrap();
    volume.checkpoint("whole").await.unwrap().wait().await.unwrap();
    volume.close().await.unwrap();
    let reader = Volume::open_read_only(&place.url, on(&place, 2), At::Checkpoint("whole".to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("restored");
    let _restored = reader.await.unwrap().restore(&target, RestoreOptions::new()).await.unwrap();
    assert!(std::fs::read(target.join("linked")).unwrap() == noise(7, 3_000_000));
    assert!(std::fs::read(target.join("a/link")).unwrap() == noise(7, 3_000_000), "the link leads there");
    assert_eq!(std::fs::read(target.join("a/empty")).unwrap(), b"");
    let receipt = rfs::drill(&place.url, on(&place, 3), DrillOptions::new()).await.unwrap();
    assert_eq!(receipt.drilled.checkpoint.as_deref(), Some("whole"));
    assert_eq!(
        (receipt.drilled.files, receipt.drilled.bytes >= 3_000_000),
        (2, true),
        "{}",
        receipt.to_json()
    );
}

/// A10: by the segment indexes, from the store alone.
async fn a_files_history_is_found(place: Place) {
    let volume = Volume::create(&place.url, on(&place, 1).with_inline_bytes(1000)).await.unwrap();
    for round in 0..5_u32 {
        volume.fs().write("/followed", noise(round, 3000)).await.unwrap();
        volume.fs().write(format!("/other{round}"), noise(round, 90_000)).await.unwrap();
        volume.commit().await.unwrap();
    }
    drop(volume);
    let reader = Volume::open_read_only(&place.url, on(&place, 2), At::Head).await.unwrap();
    let before = reader.metered();
    let history = reader.history("/followed").await.unwrap();
    let mut rebuilt = Vec::new();
    for record in &history.records {
        match &record.change {
            Change::Write { offset, len, .. } => rebuilt.resize((offset + len) as usize, 0),
            Change::Truncate { size, .. } => rebuilt.resize(*size as usize, 0),
            _ => {}
        }
    }
    let writes =
        history.records.iter().filter(|record| matches!(record.change, Change::Write { .. })).count();
    assert_eq!((rebuilt.len(), writes), (3000, 5), "{:?}", history.records);
    let cost = reader.metered() - before;
    assert!(cost.bytes() < 150_000, "only what the indexes name is read: {cost}");
}

/// Promise 4, on the store itself: what is lost or damaged is an error that names it, for a check and for who reads.
async fn each_lost_or_damaged_object_is_named(place: Place) {
    let options = |seed| on(&place, seed).with_inline_bytes(1000).with_image_every(u64::MAX, 3);
    let volume = Volume::create(&place.url, options(1)).await.unwrap();
    for round in 0..4_u32 {
        volume.fs().write(format!("/f{round}"), noise(round, 30_000)).await.unwrap();
        volume.commit().await.unwrap();
    }
    volume.close().await.unwrap();
    let deep = || rfs::check(&place.url, options(2), CheckOptions::new().with_deep(true));
    let report = deep().await.unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    let store = place.store();
    let objects = rfs::Objects::open(&place.url, options(3)).await.unwrap().list().await.unwrap();
    let segments: Vec<_> = objects.iter().filter(|object| object.role == ObjectRole::Segment).collect();
    assert!(segments.len() >= 4, "{objects:?}");
    for (number, segment) in segments.iter().enumerate() {
        let bytes = store.get(&segment.key).await.unwrap();
        let problem = if number % 2 == 0 {
            store.delete(&segment.key).await.unwrap();
            Problem::Missing
        } else {
            let mut damaged = bytes.to_vec();
            // Within the content.
            damaged[bytes.len() / 2] ^= 1;
            store.put(&segment.key, damaged.into()).await.unwrap();
            Problem::Damaged
        };
        let report = deep().await.unwrap();
        let found = report.findings.iter().find(|finding| finding.key == segment.key);
        assert_eq!(found.map(|finding| finding.problem), Some(problem), "{:?}", report.findings);
        let reader = Volume::open_read_only(&place.url, options(4), At::Head).await.unwrap();
        let mut failures = Vec::new();
        for round in 0..4_u32 {
            match reader.fs().read(format!("/f{round}")).await {
                Ok(content) => assert!(content == noise(round, 30_000), "what is read is what was written"),
                Err(error) => failures.push(error),
            }
        }
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!(failures[0].kind(), ErrorKind::Damaged, "{}", failures[0]);
        assert!(failures[0].to_string().contains(&segment.key), "{}", failures[0]);
        store.put(&segment.key, bytes).await.unwrap();
    }
    assert!(deep().await.unwrap().is_sound());
}

/// A7: commits are serialised, whoever asks for them.
async fn many_tasks_write_and_commit_at_once(place: Place) {
    let volume = Volume::create(&place.url, on(&place, 1).with_image_every(u64::MAX, 4)).await.unwrap();
    let volume = Arc::new(volume);
    let tasks = (0..8_u32).map(|task| {
        let volume = Arc::clone(&volume);
        tokio::spawn(async move {
            for round in 0..4 {
                let path = format!("/t{task}-{round}");
                volume.fs().write(&path, noise(task * 10 + round, 5000)).await.unwrap();
                let written = volume.position();
                let receipt = volume.commit().await.unwrap();
                assert!(receipt.position >= written);
                assert!(volume.position_at(rfs::Level::Remote) >= receipt.position);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let hash = volume.state_hash().await.unwrap();
    drop(volume);
    let volume = Volume::open(&place.url, on(&place, 2)).await.unwrap();
    assert_eq!(volume.state_hash().await.unwrap(), hash);
    for task in 0..8_u32 {
        for round in 0..4 {
            let content = volume.fs().read(format!("/t{task}-{round}")).await.unwrap();
            assert!(content == noise(task * 10 + round, 5000));
        }
    }
}

/// What the protocol leans on, by the store's own calls.
async fn the_store_keeps_its_word(place: Place) {
    let store = place.store();
    store.probe(u128::from(std::process::id())).await.unwrap();
    // But for the key, where objects are encrypted.
    let left = store.list("", None).await.unwrap();
    assert!(left.iter().all(|object| object.key == "encryption"), "the probe leaves nothing: {left:?}");
    assert_eq!(store.put_new("log/1", "ours".into()).await.unwrap(), PutNew::Created);
    assert_eq!(store.put_new("log/1", "theirs".into()).await.unwrap(), PutNew::Exists("ours".into()));
    for beyond in [3..5, 4..5] {
        let error = store.get_range("log/1", beyond).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Truncated, "{error}");
    }
    store.put("logs/1", "x".into()).await.unwrap();
    store.put("log/2", "xy".into()).await.unwrap();
    let listed = store.list("log", Some("log/1")).await.unwrap();
    assert_eq!(listed.iter().map(|object| (&*object.key, object.size)).collect::<Vec<_>>(), [("log/2", 2)]);
    for key in ["log/1", "log/1", "log/2", "logs/1"] {
        store.delete(key).await.unwrap();
    }
    let error = store.get("log/1").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
}
