//! The suite passes good stores and names what is wrong with bad ones.

use crate::double::{Double, Habit};
use rfs_backends::{
    Store, StoreOptions,
    conformance::{Plan, Report, run, run_with},
};
use std::sync::Arc;

fn failed(report: &Report) -> Vec<&'static str> {
    report.failed().map(|check| check.name).collect()
}

#[tokio::test]
async fn memory_is_safe() {
    let store = Store::from_url("memory://", StoreOptions::default()).unwrap();
    let report = run(Arc::clone(store.inner()), 1).await;
    assert!(report.is_safe(), "{report}");
    assert!(failed(&report).is_empty(), "{report}");
    assert!(store.list("", None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/store", dir.path().display());
    let store = Store::from_url(&url, StoreOptions::default()).unwrap();
    // One listing has no pages here, and each object costs several flushes.
    let report = run_with(Arc::clone(store.inner()), 2, &Plan::default().with_listed(60)).await;
    assert!(report.is_safe(), "{report}");
    store.probe(3).await.unwrap();
    assert!(store.list("", None).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_runs_do_not_meet() {
    let double = Double::new(Habit::Good);
    let small = Plan::default().with_listed(5).with_races(2, 3).with_multipart_bytes(1000);
    let run = |seed| run_with(Arc::<Double>::clone(&double), seed, &small);
    let (one, two) = tokio::join!(run(1), run(2));
    assert!(one.is_safe() && two.is_safe(), "{one}\n{two}");
}

#[tokio::test]
async fn bad_stores_are_found_out() {
    for (habit, expected) in [
        (
            Habit::IgnoresCreate,
            &[
                "create-only refuses what exists",
                "create-only leaves the first bytes",
                "of racing creators exactly one wins",
            ][..],
        ),
        (Habit::RacesCreate, &["of racing creators exactly one wins"]),
        (Habit::TruncatesRanges, &["ranges are exact", "a range past the end is not filled up"]),
    ] {
        let report = run(Double::new(habit), 3).await;
        assert!(!report.is_safe(), "{habit:?}\n{report}");
        assert_eq!(failed(&report), expected, "{habit:?}\n{report}");
        assert!(report.to_string().ends_with("NOT safe for rfs"));
    }
    let report = run(Double::new(Habit::HidesKeys), 3).await;
    assert!(!report.is_safe(), "{report}");
    assert!(failed(&report).contains(&"long listings are complete, also after a key"), "{report}");
}
