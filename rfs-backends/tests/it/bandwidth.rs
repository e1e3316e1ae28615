//! Bodies go no faster than the options say, and what waits for that is no outage.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use futures::future::{join, join_all};
use rfs_backends::StoreOptions;
use std::{num::NonZeroU64, time::Duration};
use tokio::time::Instant;

const MIB: usize = 1 << 20;

/// Up to `up` MiB, and down to `down` MiB, each second.
fn limited(up: u64, down: u64) -> StoreOptions {
    let rate = |mib| NonZeroU64::new(mib << 20);
    StoreOptions::default()
        .with_bandwidth(rate(up), rate(down))
        .with_attempt_timeout(Duration::from_millis(500))
        .with_deadline(Duration::from_secs(2))
}

fn body(mib: usize) -> Bytes {
    vec![7; mib * MIB].into()
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn puts_keep_to_it_over_all_clones_and_prefixes_whatever_the_deadline() {
    let double = Double::new(Habit::Good);
    let store = double.store(limited(1, 0));
    let other = store.clone().at_prefix("double://other", "other".into());
    let begun = Instant::now();
    // A second's worth was saved up, and what goes last need not have passed.
    store.put("first", body(1)).await.unwrap();
    assert!(seconds(begun) < 1.0, "{}", seconds(begun));
    let puts = (0..20).map(|i| {
        let store = if i % 2 == 0 { &store } else { &other };
        async move { store.put(&format!("{i}"), body(2)).await }
    });
    for put in join_all(puts).await {
        put.unwrap();
    }
    let took = seconds(begun);
    assert!((39.0..=41.0).contains(&took), "{took} s for 41 MiB");
    assert_eq!(store.meter().snapshot().requests(), 21, "none was tried twice");
    // What is small comes in between.
    let begun = Instant::now();
    let small = async {
        tokio::task::yield_now().await;
        store.put("small", Bytes::from_static(b"small")).await.unwrap();
        seconds(begun)
    };
    let (large, small) = join(store.put("large", body(8)), small).await;
    large.unwrap();
    assert!(small < 1.2 && seconds(begun) > 7.0, "{small} s and {} s", seconds(begun));
    // Reading is not limited, and nor is what has no body.
    let begun = Instant::now();
    for _ in 0..10 {
        store.get("large").await.unwrap();
        store.head("large").await.unwrap();
        store.list("", None).await.unwrap();
    }
    assert!(begun.elapsed().is_zero(), "{}", seconds(begun));
}

#[tokio::test(start_paused = true)]
async fn reads_keep_to_it_by_range_and_whole() {
    let double = Double::new(Habit::Good);
    let store = double.store(limited(0, 1));
    store.put("a", body(8)).await.unwrap();
    let begun = Instant::now();
    for i in 0..8 {
        let range = i * MIB as u64..(i + 1) * MIB as u64;
        assert_eq!(store.get_range("a", range).await.unwrap().len(), MIB);
    }
    let took = seconds(begun);
    assert!((6.9..=7.1).contains(&took), "{took} s");
    assert_eq!(store.get("a").await.unwrap().len(), 8 * MIB);
    let took = seconds(begun);
    assert!((14.9..=15.1).contains(&took), "{took} s");
    assert_eq!(store.meter().snapshot().requests(), 10);
}

#[tokio::test(start_paused = true)]
async fn uploads_in_parts_keep_to_it_and_outlive_their_deadline() {
    for resumable in [true, false] {
        let double = Double::new(Habit::Good);
        let options = limited(1, 0);
        let store = if resumable { double.resumable(options) } else { double.store(options) };
        let begun = Instant::now();
        store.put_large("a", vec![body(80)]).await.unwrap();
        let took = seconds(begun);
        assert!((78.0..=80.1).contains(&took), "{took} s, resumable: {resumable}");
        assert_eq!(double.stands("a").await.unwrap().len(), 80 * MIB);
        // Ten parts, begun and completed.
        assert_eq!(store.meter().snapshot().requests(), 12);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_has_the_time_that_waiting_took_and_pays_again() {
    let double = Double::scripted([Fault::LoseReplySilently, Fault::Fail]);
    let store = double.store(limited(1, 0).with_backoff(Duration::ZERO, Duration::ZERO));
    let begun = Instant::now();
    store.put("a", body(10)).await.unwrap();
    // Three times ten seconds but the one that was saved up, and for the first try its time (and what bodies add).
    let took = seconds(begun);
    assert!((29.0..=41.0).contains(&took), "{took} s");
    assert_eq!(store.meter().snapshot().requests(), 3);
    // The store's own time is counted as ever.
    double.then(Fault::LoseReplySilently);
    let begun = Instant::now();
    store.put("a", Bytes::from_static(b"small")).await.unwrap_err();
    assert!(seconds(begun) <= 3.1, "{} s", seconds(begun));
}

#[tokio::test(start_paused = true)]
async fn what_waits_holds_up_no_request_without_a_body() {
    let double = Double::new(Habit::Good);
    let store = double.store(limited(1, 1).with_concurrency(1));
    store.put("a", body(1)).await.unwrap();
    let begun = Instant::now();
    let look = async {
        tokio::task::yield_now().await;
        store.head("a").await.unwrap();
        seconds(begun)
    };
    let (put, looked) = join(store.put("b", body(30)), look).await;
    put.unwrap();
    assert!(looked < 0.1 && seconds(begun) > 28.0, "{looked} s and {} s", seconds(begun));
}
