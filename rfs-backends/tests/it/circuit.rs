//! A dead store is left alone, and asked again in bounded time.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use rfs_backends::{Store, StoreErrorKind, StoreOptions};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, advance};

fn options() -> StoreOptions {
    StoreOptions::default()
        .with_deadline(Duration::from_secs(10))
        .with_attempt_timeout(Duration::from_secs(3))
        .with_circuit(3, Duration::from_secs(30))
}

/// A put, how long it took, and how many requests it made.
async fn put(double: &Arc<Double>, store: &Store) -> (Result<(), StoreErrorKind>, Duration, u64) {
    let (begun, before) = (Instant::now(), double.requests());
    let outcome = store.put("a", Bytes::new()).await.map_err(|error| error.kind());
    (outcome, begun.elapsed(), double.requests() - before)
}

async fn dead() -> (Arc<Double>, Store) {
    let double = Double::new(Habit::Good);
    double.then(Fault::LoseReplySilently);
    let store = double.store(options());
    for _ in 0..3 {
        assert_eq!(store.left_alone_for(), None);
        let (outcome, took, asked) = put(&double, &store).await;
        assert_eq!(outcome, Err(StoreErrorKind::Deadline));
        assert!(took >= Duration::from_secs(5) && asked >= 2, "{took:?}, {asked} requests");
    }
    (double, store)
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_is_asked_ever_less_and_by_one_at_a_time() {
    let (double, store) = dead().await;
    assert!(store.left_alone_for().is_some());
    let error = store.put("a", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("is not asked for another"), "{error}");
    let before = double.requests();
    let begun = Instant::now();
    // Eight callers that try each second, for half an hour.
    while begun.elapsed() < Duration::from_secs(1800) {
        let each = (0..8).map(|_| store.put("a", Bytes::new()));
        assert!(futures::future::join_all(each).await.iter().all(Result::is_err));
        advance(Duration::from_secs(1)).await;
    }
    let asked = double.requests() - before;
    // A probe takes 3 s, and the pause between two is 15 to 30 s.
    assert!((50..=110).contains(&asked), "{asked} requests in half an hour");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_found_in_bounded_time() {
    let (double, store) = dead().await;
    for _ in 0..600 {
        advance(Duration::from_secs(1)).await;
        put(&double, &store).await.0.unwrap_err();
    }
    double.then(Fault::Serve);
    let begun = Instant::now();
    while put(&double, &store).await.0.is_err() {
        advance(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() <= Duration::from_secs(32), "{:?}", begun.elapsed());
    assert_eq!(store.left_alone_for(), None);
    assert_eq!(put(&double, &store).await, (Ok(()), Duration::ZERO, 1));
    // It begins anew: two calls without an answer are not three.
    double.then(Fault::LoseReplySilently);
    for _ in 0..2 {
        put(&double, &store).await.0.unwrap_err();
    }
    assert_eq!(store.left_alone_for(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer() {
    let double = Double::new(Habit::Good);
    let store = double.store(options());
    for _ in 0..10 {
        double.script_puts([Fault::Deny]);
        put(&double, &store).await.0.unwrap_err();
        store.get("missing").await.unwrap_err();
        double.script_puts(std::iter::repeat_n(Fault::Conflict, 1000));
        store.put_new("taken", Bytes::new()).await.unwrap_err();
    }
    assert_eq!(store.left_alone_for(), None);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_lets_another_try() {
    let (double, store) = dead().await;
    advance(Duration::from_secs(2)).await;
    tokio::time::timeout(Duration::from_millis(10), store.put("a", Bytes::new())).await.unwrap_err();
    double.then(Fault::Serve);
    assert_eq!(put(&double, &store).await.0, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn it_can_be_turned_off_and_is_shared_by_all_prefixes() {
    let double = Double::new(Habit::Good);
    double.then(Fault::LoseReplySilently);
    let stubborn = double.store(options().with_circuit(0, Duration::from_secs(30)));
    for _ in 0..5 {
        assert!(put(&double, &stubborn).await.2 > 1);
    }
    let (_, store) = dead().await;
    let other = store.at_prefix("double://", "other".into());
    assert!(other.left_alone_for().is_some());
}
