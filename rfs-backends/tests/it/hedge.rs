//! Late answers are asked for once more, within a budget.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use rfs_backends::{RequestKind, Store, StoreErrorKind, StoreOptions};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

fn late(ms: u64) -> Fault {
    Fault::Delay(Duration::from_millis(ms))
}

/// How long a get takes that meets these faults, in milliseconds, and its outcome.
async fn get(
    double: &Arc<Double>,
    store: &Store,
    faults: impl IntoIterator<Item = Fault>,
) -> (u64, Result<Bytes, StoreErrorKind>) {
    double.script_gets(faults);
    let begun = Instant::now();
    let outcome = store.get("a").await.map_err(|error| error.kind());
    (begun.elapsed().as_millis() as u64, outcome)
}

/// A store whose answers took 60 ms so far.
async fn steady(options: StoreOptions) -> (Arc<Double>, Store) {
    let double = Double::new(Habit::Good);
    let store = double.store(options);
    store.put("a", Bytes::from_static(b"abc")).await.unwrap();
    for _ in 0..40 {
        assert_eq!(get(&double, &store, [late(60)]).await.0, 60);
    }
    (double, store)
}

fn hedges(store: &Store) -> (u64, u64) {
    let count = store.meter().snapshot().of(RequestKind::Hedge);
    (count.requests, count.bytes)
}

const ABC: Result<Bytes, StoreErrorKind> = Ok(Bytes::from_static(b"abc"));

#[tokio::test(start_paused = true)]
async fn the_first_of_two_answers_wins() {
    let (double, store) = steady(StoreOptions::default()).await;
    assert_eq!(hedges(&store), (0, 0));
    // The second wins.
    assert_eq!(get(&double, &store, [late(5000), late(30)]).await, (90, ABC));
    assert_eq!(hedges(&store), (1, 3));
    // The first wins after all.
    assert_eq!(get(&double, &store, [late(100), late(500)]).await, (100, ABC));
    assert_eq!(hedges(&store), (2, 3));
    let spent = store.meter().snapshot();
    assert_eq!(spent.of(RequestKind::Get).requests + 2 + 1, double.requests());
    // What was saved up is spent.
    assert_eq!(get(&double, &store, [late(500), late(30)]).await, (500, ABC));
    assert_eq!(hedges(&store), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_other_answer() {
    for (faults, outcome) in [
        ([late(400), Fault::Fail], (400, ABC)),
        ([Fault::LoseReplySilently, late(30)], (90, ABC)),
        ([late(80), Fault::Deny], (80, ABC)),
    ] {
        let (double, store) = steady(StoreOptions::default()).await;
        assert_eq!(get(&double, &store, faults).await, outcome);
        assert_eq!(hedges(&store).0, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn second_requests_stay_within_their_budget() {
    let (double, store) = steady(StoreOptions::default().with_hedging(50, 5)).await;
    for _ in 0..1000 {
        get(&double, &store, [late(60), late(60)]).await.1.unwrap();
        get(&double, &store, [late(700), late(700)]).await.1.unwrap();
    }
    let spent = store.meter().snapshot();
    let (first, second) = (spent.of(RequestKind::Get).requests, spent.of(RequestKind::Hedge).requests);
    assert!(second * 20 <= first, "{second} for {first}");
    assert!(second * 25 >= first, "{second} for {first}: the budget is used");
}

#[tokio::test(start_paused = true)]
async fn they_can_be_turned_off_and_keep_to_the_limit_of_requests() {
    for options in [StoreOptions::default().with_hedging(95, 0), StoreOptions::default().with_concurrency(1)]
    {
        let (double, store) = steady(options).await;
        assert_eq!(get(&double, &store, [late(900), late(1)]).await, (900, ABC));
        assert_eq!(hedges(&store), (0, 0));
    }
}
