//! Going back to older states, and on from there.

use std::collections::BTreeMap;
use std::time::Duration;

use rfs::{At, CommitId, ErrorKind, OpenOptions, Options, Volume};
use rfs_testkit::{CallKind, Fault, Rng};

use crate::common::{Place, listing, on_each_store, options};

on_each_store! {
    going_back_can_be_undone
    what_is_gone_back_to_is_there_for_every_opener
}

fn on(place: &Place, seed: u64) -> Options {
    place.on(seed).with_retention(usize::MAX, Duration::ZERO).with_image_every(20 << 10, 4)
}

async fn change(volume: &Volume, random: &mut Rng) {
    let fs = volume.fs();
    for _ in 0..=random.below(6) {
        let (dir, file) = (random.below(4), random.below(6));
        let path = format!("/d{dir}/f{file}");
        match random.below(10) {
            0 => drop(fs.remove_dir_all(format!("/d{dir}")).await),
            1 => drop(fs.remove_file(&path).await),
            2 => drop(fs.rename(&path, format!("/d{}/f{file}", random.below(4))).await),
            3 => drop(fs.hard_link(&path, format!("/l{}", random.below(5))).await),
            _ => {
                fs.create_dir_all(format!("/d{dir}")).await.unwrap();
                let len = random.below(9000) as usize;
                fs.write(&path, vec![random.below(256) as u8; len]).await.unwrap();
            }
        }
    }
}

async fn at(place: &Place, at: At) -> Vec<String> {
    let reader = Volume::open_read_only(&place.url, on(place, 77), at).await.unwrap();
    reader.check().await.unwrap();
    listing(&reader).await
}

async fn going_back_can_be_undone(place: Place) {
    let volume = Volume::create(&place.url, on(&place, 1)).await.unwrap();
    let mut random = Rng::new(5);
    change(&volume, &mut random).await;
    volume.checkpoint("first").await.unwrap().wait().await.unwrap();
    let first = listing(&volume).await;
    for _ in 0..10 {
        change(&volume, &mut random).await;
        volume.commit().await.unwrap();
    }
    volume.fs().write("/uncommitted", b"1").await.unwrap();
    let second = listing(&volume).await;
    let next = volume.fs().metadata("/uncommitted").await.unwrap().ino();

    let back = volume.rewind(&At::Checkpoint("first".to_owned())).await.unwrap();
    assert_eq!(listing(&volume).await, first);
    volume.check().await.unwrap();
    assert_eq!(at(&place, At::Head).await, first);
    assert_eq!(volume.checkpoints().len(), 1, "checkpoints are not gone back to");
    volume.fs().write("/new", b"2").await.unwrap();
    assert!(volume.fs().metadata("/new").await.unwrap().ino() > next, "no inode number is used again");

    let left = CommitId { number: back.commit.number - 1, ..back.commit };
    volume.rewind(&At::Commit(left)).await.unwrap();
    assert_eq!(listing(&volume).await, second);
    volume.rewind(&At::Commit(back.commit)).await.unwrap();
    assert_eq!(listing(&volume).await, first);
    volume.rewind(&At::Head).await.unwrap();
    assert_eq!(listing(&volume).await, first);
    let hash = volume.state_hash().await.unwrap();
    volume.close().await.unwrap();
    let volume = Volume::open(&place.url, on(&place, 2)).await.unwrap();
    assert_eq!(listing(&volume).await, first);
    assert_eq!(volume.state_hash().await.unwrap(), hash);
    let error = volume.rewind(&At::Checkpoint("none".to_owned())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchState, "{error}");
}

/// Random changes, commits, checkpoints, collections and openings: every state that is kept stays as it was.
async fn what_is_gone_back_to_is_there_for_every_opener(place: Place) {
    for seed in 0..4 {
        let place = place.at(format!("{}-{seed}", place.url));
        let dir = tempfile::tempdir().unwrap();
        let mut random = Rng::new(seed);
        let keep = 3;
        let options = |opening: u64| {
            let options = on(&place, seed + opening * 100).with_retention(keep, Duration::ZERO);
            if seed.is_multiple_of(2) { options.with_local_dir(dir.path()) } else { options }
        };
        let mut volume = Volume::create(&place.url, options(0)).await.unwrap();
        let mut commits: BTreeMap<CommitId, Vec<String>> = BTreeMap::new();
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for step in 0..60_u64 {
            change(&volume, &mut random).await;
            let now = listing(&volume).await;
            match random.below(8) {
                0 => {
                    let name = format!("c{step}");
                    let receipt = volume.checkpoint(&name).await.unwrap().wait().await.unwrap();
                    commits.insert(receipt.commit, now.clone());
                    named.insert(name, now);
                }
                1 if !named.is_empty() => {
                    let name = named.keys().nth(random.below(named.len() as u64) as usize).unwrap().clone();
                    let receipt = volume.rewind(&At::Checkpoint(name.clone())).await.unwrap();
                    assert_eq!(listing(&volume).await, named[&name], "seed {seed}, step {step}");
                    let left = CommitId { number: receipt.commit.number - 1, ..receipt.commit };
                    commits.insert(left, now);
                    commits.insert(receipt.commit, named[&name].clone());
                }
                2 if !commits.is_empty() => {
                    let newest: Vec<_> = commits.iter().rev().take(keep).collect();
                    let (id, then) = newest[random.below(newest.len() as u64) as usize];
                    let (id, then) = (*id, then.clone());
                    let receipt = volume.rewind(&At::Commit(id)).await.unwrap();
                    assert_eq!(listing(&volume).await, then, "seed {seed}, step {step}");
                    let left = CommitId { number: receipt.commit.number - 1, ..receipt.commit };
                    commits.insert(left, now);
                    commits.insert(receipt.commit, then);
                }
                3 if !named.is_empty() => {
                    let name = named.keys().next().unwrap().clone();
                    volume.drop_checkpoint(&name).await.unwrap();
                    named.remove(&name);
                }
                4 => drop(volume.collect_garbage().await.unwrap()),
                5 => {
                    if random.below(2) == 0 {
                        volume.close().await.unwrap();
                    } else {
                        volume.commit().await.unwrap();
                        drop(volume);
                    }
                    volume = Volume::open(&place.url, options(step + 1)).await.unwrap();
                    assert_eq!(listing(&volume).await, now, "seed {seed}, step {step}");
                    commits.clear();
                }
                _ => {
                    let receipt = volume.commit().await.unwrap();
                    commits.insert(receipt.commit, now);
                }
            }
            while commits.len() > keep {
                commits.pop_first();
            }
            if step.is_multiple_of(6) {
                for (name, then) in &named {
                    assert_eq!(at(&place, At::Checkpoint(name.clone())).await, *then, "{seed} {step} {name}");
                }
            }
        }
        volume.check().await.unwrap();
    }
}

/// What was gone back to and not yet committed is found in the local directory.
#[tokio::test(start_paused = true)]
async fn going_back_survives_a_crash_before_its_commit() {
    let (sim, store) = crate::common::sim();
    let dir = tempfile::tempdir().unwrap();
    let options = |seed| options(seed).with_store(store.clone()).with_local_dir(dir.path());
    let volume = Volume::create("sim://", options(1)).await.unwrap();
    volume.fs().write("/a", b"old").await.unwrap();
    volume.checkpoint("old").await.unwrap().wait().await.unwrap();
    volume.fs().write("/a", b"new").await.unwrap();
    volume.fs().write("/b", b"new").await.unwrap();
    volume.commit().await.unwrap();
    let before = listing(&volume).await;
    for _ in 0..20 {
        sim.inject(CallKind::Put, 0, Fault::Refused);
    }
    let error = volume.rewind(&At::Checkpoint("old".to_owned())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Outage, "{error}");
    let now = listing(&volume).await;
    assert_ne!(now, before);
    volume.fs().write("/c", b"after").await.unwrap();
    let now_with = listing(&volume).await;
    drop(volume);
    while store.put("until it is accepted", "".into()).await.is_err() {}
    for seed in 2..5 {
        // The committer that was left behind lets go of the directory when it wakes.
        tokio::time::advance(Duration::from_secs(10)).await;
        let volume = Volume::open("sim://", options(seed)).await.unwrap();
        assert_eq!(listing(&volume).await, now_with);
        volume.collect_garbage().await.unwrap();
        volume.commit().await.unwrap();
        volume.collect_garbage().await.unwrap();
        assert_eq!(listing(&volume).await, now_with);
    }
    assert_ne!(now, now_with);
}

#[tokio::test]
async fn handles_and_locks_after_going_back() {
    let place = Place::memory("handles_and_locks_after_going_back");
    let volume = Volume::create(&place.url, on(&place, 1)).await.unwrap();
    let fs = volume.fs();
    fs.write("/both", b"then").await.unwrap();
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true);
    let unlinked = how.open(&fs, "/unlinked").await.unwrap();
    fs.remove_file("/unlinked").await.unwrap();
    volume.checkpoint("then").await.unwrap().wait().await.unwrap();
    let both = how.open(&fs, "/both").await.unwrap();
    both.try_lock().await.unwrap();
    both.write_all_at(b"now!", 0).await.unwrap();
    let since = how.open(&fs, "/since").await.unwrap();
    since.try_lock().await.unwrap();
    volume.commit().await.unwrap();

    volume.rewind(&At::Checkpoint("then".to_owned())).await.unwrap();
    volume.check().await.unwrap();
    assert_eq!(both.read_pieces(0, 10).await.unwrap().concat(), b"then");
    let other = how.open(&fs, "/both").await.unwrap();
    other.try_lock().await.unwrap_err();
    since.read_pieces(0, 1).await.unwrap_err();
    unlinked.write_all_at(b"still held", 0).await.unwrap();
    drop((both, since, unlinked));
    other.try_lock().await.unwrap();
    volume.check().await.unwrap();
    assert!(volume.held_files().is_empty());
    assert_eq!(listing(&volume).await.len(), 1);
}

#[tokio::test]
async fn going_back_costs_three_requests() {
    let place = Place::memory("going_back_costs_three_requests");
    // Nothing is cached: the commit, what its image begins with, and the commit that goes back.
    let options = on(&place, 1).with_image_every(8 << 20, 64).with_cache(0, 0);
    let volume = Volume::create(&place.url, options).await.unwrap();
    let mut random = Rng::new(1);
    for _ in 0..10 {
        change(&volume, &mut random).await;
    }
    volume.checkpoint("then").await.unwrap().wait().await.unwrap();
    for _ in 0..10 {
        change(&volume, &mut random).await;
    }
    volume.commit().await.unwrap();
    let before = volume.metered();
    volume.rewind(&At::Checkpoint("then".to_owned())).await.unwrap();
    let sent = volume.metered() - before;
    assert!(sent.requests() <= 3, "{sent}");
}

/// A part of the tree goes back, and nothing else does.
#[tokio::test]
async fn a_part_of_the_tree_goes_back() {
    for seed in 0..4 {
        let place = Place::memory(&format!("a_part_of_the_tree_goes_back{seed}"));
        let volume = Volume::create(&place.url, on(&place, seed)).await.unwrap();
        let fs = volume.fs();
        fs.create_dir_all("/part/sub/deep").await.unwrap();
        fs.write("/part/sub/f", vec![7; 70_000]).await.unwrap();
        fs.hard_link("/part/sub/f", "/part/sub/deep/link").await.unwrap();
        fs.symlink("../f", "/part/sub/deep/symlink").await.unwrap();
        fs.set_xattr("/part/sub/f", "user.colour", b"red", rfs::XattrMode::Set).await.unwrap();
        let mut how = OpenOptions::new();
        let sparse = how.write(true).create(true).open(&fs, "/part/sparse").await.unwrap();
        sparse.write_all_at(b"end", 1 << 20).await.unwrap();
        sparse.set_len(3 << 20).await.unwrap();
        for file in 0..1500_u32 {
            fs.write(format!("/part/sub/deep/{file}"), [file as u8]).await.unwrap();
        }
        let times = |path: &str| {
            let (fs, path) = (fs.clone(), path.to_owned());
            async move {
                let metadata = fs.symlink_metadata(&path).await.unwrap();
                (metadata.modified(), metadata.accessed(), metadata.mode(), metadata.nlink())
            }
        };
        let attributes = (times("/part/sub").await, times("/part/sub/f").await);
        let then = listing(&volume).await;
        volume.checkpoint("then").await.unwrap().wait().await.unwrap();
        volume.fs().write("/other", b"stays").await.unwrap();
        fs.remove_dir_all("/part/sub/deep").await.unwrap();
        fs.write("/part/sub/f", b"other").await.unwrap();
        fs.write("/part/sub/since", b"goes").await.unwrap();
        volume.collect_garbage().await.unwrap();
        let before = listing(&volume).await;
        let left = volume.commit().await.unwrap().commit;

        let at = At::Checkpoint("then".to_owned());
        volume.rewind_path("/part", &at).await.unwrap();
        let mut expected = then.clone();
        expected.push(before.iter().find(|line| line.starts_with("/other")).unwrap().clone());
        expected.sort();
        assert_eq!(listing(&volume).await, expected);
        assert_eq!((times("/part/sub").await, times("/part/sub/f").await), attributes);
        assert_eq!(fs.xattr("/part/sub/f", "user.colour").await.unwrap(), b"red");
        volume.check().await.unwrap();
        volume.rewind_path("/part", &At::Commit(left)).await.unwrap();
        assert_eq!(listing(&volume).await, before);
        // One file, one that is gone since, one that was not there then, and one that never was.
        volume.rewind_path("/part/sub/f", &at).await.unwrap();
        assert_eq!(fs.read("/part/sub/f").await.unwrap(), vec![7; 70_000]);
        volume.rewind_path("/part/sub/deep", &at).await.unwrap();
        assert_eq!(fs.read("/part/sub/deep/1499").await.unwrap(), [1499_u32 as u8]);
        volume.rewind_path("/part/sub/since", &at).await.unwrap();
        volume.rewind_path("/never", &at).await.unwrap();
        assert!(fs.metadata("/part/sub/since").await.is_err());
        volume.rewind_path("/", &at).await.unwrap();
        assert_eq!(listing(&volume).await, then);
        // What only the older state had is needed by this one now.
        volume.rewind(&At::Commit(left)).await.unwrap();
        volume.rewind_path("/part/sub", &at).await.unwrap();
        volume.drop_checkpoint("then").await.unwrap();
        volume.commit().await.unwrap();
        let expected = listing(&volume).await;
        let options = on(&place, seed + 10).with_retention(1, Duration::ZERO);
        drop((sparse, fs, volume));
        let volume = Volume::open(&place.url, options).await.unwrap();
        for step in 0..6_u8 {
            volume.fs().write("/step", [step]).await.unwrap();
            volume.commit().await.unwrap();
            volume.collect_garbage().await.unwrap();
        }
        volume.fs().remove_file("/step").await.unwrap();
        assert_eq!(listing(&volume).await, expected);
        volume.check().await.unwrap();
    }
}

/// The last commit of an epoch stays for ever, what its state needs does not: it is refused before anything is changed.
#[tokio::test]
async fn what_is_not_kept_is_not_gone_back_to() {
    let place = Place::memory("what_is_not_kept_is_not_gone_back_to");
    let options = |seed| on(&place, seed).with_retention(1, std::time::Duration::ZERO).with_image_every(1, 1);
    let volume = Volume::create(&place.url, options(1)).await.unwrap();
    for round in 0..20_u8 {
        volume.fs().write(format!("/{round}"), vec![round; 2000]).await.unwrap();
        volume.commit().await.unwrap();
    }
    volume.close().await.unwrap();
    let volume = Volume::open(&place.url, options(2)).await.unwrap();
    let ended = volume.commit().await.unwrap().commit;
    for round in 0..20_u8 {
        volume.fs().write(format!("/{round}"), vec![round; 3000]).await.unwrap();
        volume.commit().await.unwrap();
    }
    volume.collect_garbage().await.unwrap();
    let (now, at) = (listing(&volume).await, At::Commit(ended));
    let of = format!("{}-fork", place.url);
    let refused = [
        volume.rewind(&at).await.map(drop).unwrap_err(),
        volume.rewind_path("/1", &at).await.map(drop).unwrap_err(),
        volume.fork(&of, &at).await.map(drop).unwrap_err(),
        volume.pin(&at, "a test", None).await.map(drop).unwrap_err(),
        Volume::open_read_only(&place.url, options(3), at.clone()).await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::NoSuchState, "{error}");
    }
    assert_eq!(listing(&volume).await, now);
    assert!(volume.pins().await.unwrap().is_empty());
    volume.check().await.unwrap();
}
