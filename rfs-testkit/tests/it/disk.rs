//! The simulated disk loses what it may lose, and nothing else.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use rfs_journal::Disk;
use rfs_testkit::{CrashPlan, CrashSide, SECTOR_LEN, SimDisk};

fn disk() -> SimDisk {
    SimDisk::new(CrashPlan::never())
}

/// The contents of `name` that 200 losses of power leave; `None` is no file.
fn survivors(disk: &SimDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..200).map(|seed| disk.after_power_loss(seed, CrashPlan::never()).content(name)).collect()
}

#[test]
fn what_is_synced_survives_and_the_rest_is_a_coin_per_sector() {
    let disk = disk();
    let file = disk.open("log", true).unwrap();
    file.write_all_at(&[1; 2 * SECTOR_LEN], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(survivors(&disk, "log"), BTreeSet::from([Some(vec![1; 2 * SECTOR_LEN])]));

    file.write_all_at(&[2; 2 * SECTOR_LEN], 0).unwrap();
    file.write_all_at(&[3; 1], 0).unwrap();
    let mut first_sectors = BTreeSet::new();
    let mut mixed = false;
    for content in survivors(&disk, "log").into_iter().flatten() {
        assert_eq!(content.len(), 2 * SECTOR_LEN);
        let (first, second) = content.split_at(SECTOR_LEN);
        assert!(second.iter().all(|byte| *byte == second[0]), "a sector is never torn");
        first_sectors.insert((first[0], first[1]));
        mixed |= first[1] != second[0];
    }
    assert_eq!(first_sectors, BTreeSet::from([(1, 1), (2, 2), (3, 2)]), "each version may be the one");
    assert!(mixed, "sectors are lost each for itself");
    let kept = disk.after_kill(CrashPlan::never()).content("log").unwrap();
    assert_eq!((kept[0], kept[1]), (3, 2), "a killed process loses nothing");
}

#[test]
fn a_name_is_certain_only_after_a_sync_of_the_directory() {
    let disk = disk();
    let file = disk.open("new", true).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(survivors(&disk, "new"), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_dir().unwrap();
    disk.rename("new", "old/new").unwrap();
    for seed in 0..100 {
        let after = disk.after_power_loss(seed, CrashPlan::never());
        assert_eq!(after.names().len(), 1, "a rename happens whole or not at all");
        assert_eq!(after.content(&after.names()[0]).unwrap(), b"x");
    }
    assert_eq!(survivors(&disk, "new").len(), 2);
    disk.sync_dir().unwrap();
    assert_eq!(survivors(&disk, "old/new"), BTreeSet::from([Some(b"x".to_vec())]));
    disk.remove("old/new").unwrap();
    assert_eq!(survivors(&disk, "old/new").len(), 2);
    assert_eq!(disk.open("old/new", false).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(file.len().unwrap(), 1, "an open file outlives its name");
}

#[test]
fn one_seed_is_one_outcome() {
    let run = |seed| {
        let disk = SimDisk::new(CrashPlan::at_call(3, CrashSide::Partly, seed));
        let file = disk.open("log", true).unwrap();
        file.write_all_at(&[1; 5_000], 0).unwrap();
        disk.sync_dir().unwrap();
        file.write_all_at(&[2; 5_000], 1_000).unwrap_err();
        disk.after_power_loss(seed, CrashPlan::never()).content("log").unwrap()
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert!((1..20).any(|seed| run(seed) != run(0)));
}

#[test]
fn a_crash_ends_everything_on_its_side_of_the_effect() {
    for (side, expected) in [(CrashSide::Before, 0), (CrashSide::After, 700)] {
        let plan = CrashPlan::at_call(1, side, 0);
        let disk = SimDisk::new(plan.clone());
        let file = disk.open("log", true).unwrap();
        file.write_all_at(&[1; 700], 0).unwrap_err();
        assert!(plan.crashed());
        assert!(file.sync_data().is_err() && file.len().is_err() && disk.list().is_err());
        assert_eq!(plan.calls(), 2, "{:?}", plan.trace());
        assert_eq!(disk.after_kill(CrashPlan::never()).content("log").unwrap().len(), expected);
    }
}

#[test]
fn faults_come_when_they_are_due() {
    let disk = disk();
    let file = disk.open("log", true).unwrap();
    disk.set_capacity(Some(1_000));
    file.write_all_at(&[1; 600], 0).unwrap();
    let full = file.write_all_at(&[1; 600], 600).unwrap_err();
    assert_eq!((full.kind(), file.len().unwrap()), (ErrorKind::StorageFull, 1_000));
    file.write_all_at(&[2; 1_000], 0).unwrap();
    disk.set_capacity(None);

    disk.fail_write(1);
    file.write_all_at(b"a", 0).unwrap();
    file.write_all_at(b"b", 0).unwrap_err();
    file.write_all_at(b"c", 0).unwrap();
    disk.sync_dir().unwrap();
    file.sync_data().unwrap();

    file.write_all_at(&[9; 4 * SECTOR_LEN], 0).unwrap();
    disk.fail_sync(0);
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    let lost = |content: &Vec<u8>| content.iter().any(|byte| *byte != 9);
    let outcomes = survivors(&disk, "log");
    assert_eq!(outcomes.len(), 1, "what a failed sync reached is no longer a coin");
    assert!(outcomes.iter().flatten().all(lost), "a later sync does not make up for a failed one");

    disk.flip_bit("log", 8);
    assert_eq!(disk.content("log").unwrap()[1], 8);
    disk.truncate("log", 1);
    assert_eq!(file.len().unwrap(), 1);
    assert_eq!(disk.counts().dir_syncs, 1);
}
