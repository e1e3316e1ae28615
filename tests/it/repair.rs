//! Each object of a small volume is lost or damaged in turn: a repair restores what the journal holds, and says what is
//! lost otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rfs::{Options, RepairOptions, RepairReport, Volume};
use rfs_testkit::{CrashPlan, CrashSide, Rng, SimStore};

use crate::check::{Sample, Truth, below, bits, check, is_top, named, objects, open_at, small};
use crate::common::{store_on, store_over};

fn options(sim: &SimStore) -> Options {
    small(11, store_on(sim))
}

async fn repair(sim: &SimStore, repair: RepairOptions) -> RepairReport {
    rfs::repair("sim://", options(sim), repair).await.unwrap()
}

/// What can be read of a state: of each path what it is, or none.
async fn readable(sim: &SimStore, name: &str, truth_of: &Truth) -> Option<BTreeMap<String, bool>> {
    let volume = open_at(sim, named(name)).await.ok()?;
    let fs = volume.fs();
    let mut readable = BTreeMap::new();
    for (path, line) in truth_of {
        let Ok(metadata) = fs.symlink_metadata(path).await else { return None };
        let content = if metadata.is_file() { fs.read(path).await } else { Ok(Vec::new()) };
        let right = content
            .is_ok_and(|content| format!("{:o} {} {content:x?}", metadata.mode(), metadata.len()) == *line);
        readable.insert(path.display().to_string(), right);
    }
    Some(readable)
}

/// How a repair went.
#[derive(Debug, Default)]
struct Outcome {
    /// Of each state which paths are lost; all of them under an empty name.
    lost: BTreeMap<&'static str, Vec<String>>,
}

/// Repairs a damaged copy and compares every state with the model.
async fn mend(sample: &Sample, sim: &SimStore, context: &str) -> Outcome {
    let before = objects(sim);
    let dry = repair(sim, RepairOptions::new().with_dry_run(true)).await;
    assert_eq!(objects(sim), before, "{context}: a dry run does nothing");
    let report = repair(sim, RepairOptions::new()).await;
    assert_eq!(dry.done, report.done, "{context}");
    // Nothing is gone but what stands below `aside` now.
    let after = objects(sim);
    for (key, object) in &before {
        let kept = after.get(key) == Some(object) || after.values().any(|other| other == object);
        assert!(kept, "{context}: {key} is gone: {report:#?}");
    }
    let mut outcome = Outcome::default();
    let told = |name: &str, path: &str| {
        let state =
            if name.is_empty() { "the newest state".to_owned() } else { format!("checkpoint {name:?}") };
        let commit =
            sample.commits.get(name).map_or_else(|| "commit".to_owned(), |id| format!("commit {id}:"));
        let lost =
            report.lost.iter().any(|lost| lost.contains(&format!("{name:?}")) || lost.contains(&commit));
        lost || report.left.iter().any(|finding| {
            let suffers = finding.paths.iter().any(|suffering| suffering.path.to_str() == Some(path));
            finding.states.contains(&state) && (suffers || finding.paths.is_empty())
        })
    };
    let states = sample.checkpoints.iter().map(|(name, truth)| (*name, truth));
    for (name, truth) in states.chain([("", &sample.head)]) {
        let Some(readable) = readable(sim, name, truth).await else {
            assert!(told(name, ""), "{context}: {name:?} is lost, and nothing says so: {report:#?}");
            outcome.lost.insert(name, vec![String::new()]);
            continue;
        };
        let lost: Vec<String> =
            readable.into_iter().filter(|(_, right)| !right).map(|(path, _)| path).collect();
        for path in &lost {
            assert!(
                told(name, path),
                "{context}: {path} of {name:?} is lost, and nothing says so: {report:#?}"
            );
        }
        if !lost.is_empty() {
            outcome.lost.insert(name, lost);
        }
    }
    if outcome.lost.is_empty() {
        // Segments that no state needs any more hold what `history` tells.
        assert!(report.left.iter().all(|finding| finding.states.is_empty()), "{context}: {report:#?}");
    }
    let checked = check(sim, true).await;
    assert_eq!(checked.findings, report.left, "{context}");
    let again = repair(sim, RepairOptions::new()).await;
    assert_eq!(
        (again.commit, again.done.len()),
        (None, 0),
        "{context}: a second repair does nothing: {again:#?}"
    );
    outcome
}

/// The volume can be written again, and read.
async fn goes_on(sim: &SimStore, context: &str) {
    let volume = match Volume::open("sim://", options(sim)).await {
        Ok(volume) => volume,
        Err(error) => panic!("{context}: {error}"),
    };
    volume.fs().write("/after", b"it goes on").await.unwrap();
    volume.close().await.unwrap();
    let volume = open_at(sim, named("")).await.unwrap();
    assert_eq!(volume.fs().read("/after").await.unwrap(), b"it goes on", "{context}");
}

/// What the repair made garbage of is collected, and nothing else.
async fn is_collected(sim: &SimStore, context: &str) {
    let left = check(sim, true).await.findings;
    let volume = Volume::open("sim://", options(sim).with_retention(1, Duration::ZERO)).await.unwrap();
    volume.collect_garbage().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(volume);
    let report = check(sim, true).await;
    for finding in report.findings {
        assert!(left.iter().any(|known| known.key == finding.key), "{context}: {finding}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sound_volume_is_left_alone() {
    let sample = Sample::make().await;
    let before = objects(&sample.sim);
    let report = repair(&sample.sim, RepairOptions::new()).await;
    assert_eq!((report.commit, report.done.len(), report.left.len()), (None, 0, 0));
    assert_eq!(objects(&sample.sim), before);
}

#[tokio::test(start_paused = true)]
async fn each_object_that_is_gone() {
    let sample = Sample::make().await;
    let mut outcomes = BTreeMap::new();
    for key in objects(&sample.sim).into_keys().filter(|key| !is_top(&sample.sim, key)) {
        let sim = sample.copy();
        sim.remove_object(&key);
        let context = format!("{key} is gone");
        let outcome = mend(&sample, &sim, &context).await;
        goes_on(&sim, &context).await;
        outcomes.insert(below(&key).to_owned(), outcome.lost);
    }
    let lost = |part: &str| {
        let (_, lost) = outcomes.iter().find(|(key, _)| key.contains(part)).unwrap();
        lost.iter().map(|(name, paths)| (*name, paths.join(" "))).collect::<Vec<_>>()
    };
    let all = |path: &str, names: &[&'static str]| -> Vec<(&'static str, String)> {
        names.iter().map(|name| (*name, path.to_owned())).collect()
    };
    // Whatever the journal holds is there again: images, the superblock, commits whose segments have their own objects.
    let untouched = outcomes.iter().filter(|(_, lost)| lost.is_empty()).count();
    assert_eq!((untouched, outcomes.len()), (12, 21));
    for part in ["superblock", "/pages/", "commits/0000000000000001-0000000000000001"] {
        assert_eq!(lost(part), []);
    }
    // A segment of content that images are newer than.
    assert_eq!(lost("segments/0000000000000004"), all("/late", &["", "three", "two"]));
    // One that has to be replayed: what follows it goes.
    assert_eq!(lost("segments/0000000000000007"), all("", &["", "three"]));
    // The newest commit, with all that is in it.
    assert_eq!(lost("commits/0000000000000003-0000000000000002"), all("", &[""]));
}

#[tokio::test(start_paused = true)]
async fn each_flipped_bit() {
    let sample = Sample::make().await;
    let mut outcomes = BTreeMap::new();
    for (key, object) in objects(&sample.sim) {
        for bit in bits(object.len()) {
            let sim = sample.copy();
            sim.flip_bit(&key, bit);
            let context = format!("bit {bit} of {key}");
            let outcome = mend(&sample, &sim, &context).await;
            goes_on(&sim, &context).await;
            if outcome.lost.values().flatten().all(|path| !path.is_empty()) {
                is_collected(&sim, &context).await;
            }
            outcomes.insert((below(&key).to_owned(), bit), outcome.lost);
        }
    }
    // Payload is there once, and so are the Changes of a segment that has more of them than payload. Such ones are lost,
    // as far as no image is newer. Everything else follows from the rest.
    let lost = outcomes.iter().filter(|(_, lost)| !lost.is_empty()).collect::<Vec<_>>();
    assert!(lost.len() * 5 < outcomes.len() && lost.len() > 10, "{} of {}", lost.len(), outcomes.len());
    for ((key, _), lost) in lost {
        let is_replayed = key.contains("commits/0000000000000003-");
        assert!(key.contains("/segments/") || key.contains("/commits/"), "{key}");
        assert!(is_replayed || lost.values().flatten().all(|path| !path.is_empty()), "{key}: {lost:?}");
    }
}

/// What is lost is given up when that is asked for: files are cut, and the names of checkpoints that are gone.
#[tokio::test(start_paused = true)]
async fn what_is_lost_is_dropped_on_request() {
    let sample = Sample::make().await;
    let sim = sample.copy();
    let all = objects(&sim);
    let gone = |part: &str| all.keys().find(|key| key.as_ref().contains(part)).unwrap().clone();
    sim.remove_object(&gone("segments/0000000000000004"));
    sim.remove_object(&gone("commits/0000000000000001-0000000000000000"));
    let report = repair(&sim, RepairOptions::new()).await;
    // A later image has the state of a checkpoint whose own journal is gone.
    assert_eq!((report.done.len(), report.lost.len(), report.left.len()), (1, 1, 2), "{report:#?}");
    let volume = open_at(&sim, named("")).await.unwrap();
    volume.fs().read("/late").await.unwrap_err();

    let report = repair(&sim, RepairOptions::new().with_drop_lost(true)).await;
    assert!(report.commit.is_some(), "{report:#?}");
    let volume = open_at(&sim, named("")).await.unwrap();
    assert_eq!(volume.fs().read("/late").await.unwrap(), b"");
    assert_eq!(volume.fs().read("/renamed").await.unwrap(), b"");
    let left: Vec<_> = report.left.iter().flat_map(|finding| &finding.states).collect();
    assert!(left.iter().all(|state| state.starts_with("checkpoint")), "{left:?}");
    assert_eq!(volume.checkpoints().len(), 2, "one of them could not be restored");
    goes_on(&sim, "dropped").await;
}

/// The volume is taken over: whoever had it open learns so.
#[tokio::test(start_paused = true)]
async fn a_writer_is_fenced() {
    let sample = Sample::make().await;
    let sim = sample.copy();
    let volume = Volume::open("sim://", options(&sim)).await.unwrap();
    let key = objects(&sim)
        .into_keys()
        .find(|key| key.as_ref().ends_with("0002-0000000000000001") && key.as_ref().contains("/pages/"))
        .unwrap();
    sim.remove_object(&key);
    let report = repair(&sim, RepairOptions::new()).await;
    assert!(report.commit.is_some() && report.left.is_empty(), "{report:#?}");
    volume.fs().write("/late", b"never").await.unwrap();
    assert_eq!(volume.commit().await.unwrap_err().kind(), rfs::ErrorKind::Fenced);
    goes_on(&sim, "fenced").await;
    let log = rfs::Objects::open("sim://", options(&sim)).await.unwrap().log(None).await.unwrap();
    assert!(log.iter().any(|entry| entry.commit.is_some() && Some(entry.id) == report.commit));
}

/// Everything at once: nothing panics, and what is left is told.
#[tokio::test(start_paused = true)]
async fn many_damages_at_once() {
    let sample = Sample::make().await;
    for seed in 0..24 {
        let sim = sample.copy();
        let mut rng = Rng::new(seed);
        for (key, object) in objects(&sim) {
            match rng.below(6) {
                0 => drop(sim.remove_object(&key)),
                1 => sim.flip_bit(&key, rng.below(object.len() as u64 * 8)),
                2 => sim.truncate(&key, rng.below(object.len() as u64) as usize),
                _ => {}
            }
        }
        let context = format!("seed {seed}");
        match rfs::repair("sim://", options(&sim), RepairOptions::new()).await {
            Err(error) => {
                let unknown = [rfs::ErrorKind::NoVolume, rfs::ErrorKind::Damaged].contains(&error.kind());
                assert!(unknown && error.to_string().contains("superblock"), "{context}: {error}");
            }
            Ok(report) => {
                let again = repair(&sim, RepairOptions::new()).await;
                assert_eq!((again.commit, &again.left), (None, &report.left), "{context}");
                if report.commit.is_some() {
                    goes_on(&sim, &context).await;
                }
            }
        }
    }
}

/// A repair that dies at any of its calls changes nothing that the next one does not find: it ends as if it were the first.
#[tokio::test(start_paused = true)]
async fn a_repair_that_dies_is_done_again() {
    let sample = Sample::make().await;
    let sound = sample.copy();
    let part = |part: &str| objects(&sound).into_keys().find(|key| key.as_ref().contains(part)).unwrap();
    let damage = |sim: &SimStore| {
        sim.remove_object(&part("/pages/0000000000000002-0000000000000001"));
        sim.remove_object(&part("superblock"));
        // The body of a commit whose segment is needed, and the footer of a segment.
        sim.flip_bit(&part("commits/0000000000000001-0000000000000003"), 500);
        let segment = part("segments/0000000000000004");
        sim.flip_bit(&segment, sound.object(&segment).unwrap().len() as u64 * 8 - 1);
    };
    let calls = {
        let sim = sample.copy();
        damage(&sim);
        let plan = CrashPlan::never();
        rfs::repair("sim://", over(&sim, &plan), RepairOptions::new()).await.unwrap();
        assert!(mend(&sample, &sim, "at once").await.lost.is_empty());
        plan.calls()
    };
    assert!(calls > 10, "{calls} calls change something");
    let mut died = 0;
    for call in 0..calls {
        for side in [CrashSide::Before, CrashSide::After] {
            let sim = sample.copy();
            damage(&sim);
            let plan = CrashPlan::at_call(call, side, call);
            let context = format!("{side:?} call {call}");
            let first = rfs::repair("sim://", over(&sim, &plan), RepairOptions::new()).await;
            died += u64::from(first.is_err());
            let outcome = rfs::repair("sim://", options(&sim), RepairOptions::new()).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(outcome.lost.is_empty() && outcome.left.is_empty(), "{context}: {outcome:#?}");
            assert!(mend(&sample, &sim, &context).await.lost.is_empty(), "{context}");
        }
    }
    assert!(died >= calls, "{died}");
}

/// A client of the store that dies as planned.
fn over(sim: &SimStore, plan: &CrashPlan) -> Options {
    small(11, store_over(Arc::new(sim.client(plan.clone()))))
}
