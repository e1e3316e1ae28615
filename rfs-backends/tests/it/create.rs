//! put_new: created, or another's, and never a guess.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use rfs_backends::{PutNew, RequestKind, StoreErrorKind, StoreOptions};
use std::time::Duration;
use tokio::time::Instant;

const OURS: Bytes = Bytes::from_static(b"writer A, commit 7");
const THEIRS: Bytes = Bytes::from_static(b"writer B, commit 7");

fn patient() -> StoreOptions {
    StoreOptions::default().with_deadline(Duration::from_mins(1)).with_attempt_timeout(Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn a_clean_create_is_exactly_one_request() {
    let double = Double::new(Habit::Good);
    let store = double.store(patient());
    assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Created);
    let cost = store.meter().snapshot();
    assert_eq!((cost.requests(), double.requests()), (1, 1));
    assert_eq!(cost.of(RequestKind::Put).bytes, OURS.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_found_to_be_ours() {
    for lost in [Fault::LoseReply, Fault::LoseReplySilently] {
        let double = Double::scripted([lost]);
        let store = double.store(patient());
        assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Created);
        assert_eq!(double.stands("commit").await, Some(OURS));
        let cost = store.meter().snapshot();
        assert_eq!((cost.of(RequestKind::Put).requests, cost.of(RequestKind::Get).requests), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_arrived_is_sent_again() {
    let double = Double::scripted([Fault::Fail, Fault::Fail, Fault::Fail]);
    let store = double.store(patient());
    assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Created);
    assert_eq!(double.stands("commit").await, Some(OURS));
    assert_eq!(store.meter().snapshot().of(RequestKind::Put).requests, 4);
}

#[tokio::test(start_paused = true)]
async fn anothers_object_is_reported_and_left() {
    let double = Double::scripted([Fault::Overtake(THEIRS)]);
    let store = double.store(patient());
    assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Exists(THEIRS));
    assert_eq!(double.stands("commit").await, Some(THEIRS));
    // And in the gap between a lost request and its repetition.
    let double = Double::scripted([Fault::Fail, Fault::Overtake(THEIRS)]);
    assert_eq!(double.store(patient()).put_new("commit", OURS).await.unwrap(), PutNew::Exists(THEIRS));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_with_nothing_there_is_tried_again() {
    let double = Double::scripted([Fault::Conflict, Fault::Conflict]);
    let store = double.store(patient());
    assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Created);
    let cost = store.meter().snapshot();
    assert_eq!((cost.of(RequestKind::Put).requests, cost.of(RequestKind::Get).requests), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failing_read_back_is_repeated() {
    let double = Double::scripted([Fault::LoseReply]);
    double.script_gets([Fault::Fail, Fault::LoseReplySilently, Fault::Fail]);
    let store = double.store(patient());
    assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Created);
    assert_eq!(store.meter().snapshot().of(RequestKind::Get).requests, 4);
}

#[tokio::test(start_paused = true)]
async fn an_unresolved_create_ends_at_its_deadline_and_can_be_repeated() {
    for (fault, kind) in [
        (Fault::LoseReply, StoreErrorKind::Unreachable),
        (Fault::LoseReplySilently, StoreErrorKind::Deadline),
    ] {
        let double = Double::scripted([fault.clone(), Fault::Fail, Fault::Fail]);
        double.then(if matches!(fault, Fault::LoseReply) { Fault::Fail } else { Fault::LoseReplySilently });
        // Every answer to a read is lost as well.
        double.script_gets(std::iter::repeat_n(fault, 10_000));
        let store = double.store(patient());
        let begun = Instant::now();
        let error = store.put_new("commit", OURS).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(40) && took <= Duration::from_secs(61), "{took:?}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.kind().is_transient() && error.to_string().contains("double://commit"), "{error}");
        double.script_gets([]);
        double.then(Fault::Serve);
        assert_eq!(store.put_new("commit", OURS).await.unwrap(), PutNew::Created);
    }
}

#[tokio::test(start_paused = true)]
async fn endless_conflicts_end_at_the_deadline_too() {
    let double = Double::new(Habit::Good);
    double.then(Fault::Conflict);
    let error = double.store(patient()).put_new("commit", OURS).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Deadline, "{error}");
    // Capped backoff: an outage of a minute is some dozens of requests, not thousands.
    assert!((10..150).contains(&double.requests()), "{}", double.requests());
}

#[tokio::test(start_paused = true)]
async fn what_will_not_change_is_not_tried_again() {
    for (fault, kind) in
        [(Fault::Deny, StoreErrorKind::Denied), (Fault::Unimplemented, StoreErrorKind::NoPutIfAbsent)]
    {
        let double = Double::new(Habit::Good);
        double.then(fault);
        let store = double.store(patient());
        let error = store.put_new("commit", OURS).await.unwrap_err();
        assert_eq!((error.kind(), double.requests()), (kind, 1), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_run() {
    let run = async |seed| {
        let double = Double::new(Habit::Good);
        double.then(Fault::Fail);
        let begun = Instant::now();
        double.store(patient().with_jitter_seed(seed)).put_new("commit", OURS).await.unwrap_err();
        (begun.elapsed(), double.requests())
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await.0, run(2).await.0);
}

#[tokio::test(start_paused = true)]
async fn probe_accepts_a_good_store_and_leaves_nothing() {
    let double = Double::new(Habit::Good);
    let store = double.store(patient().with_concurrency(1));
    store.probe(0xfeed).await.unwrap();
    assert_eq!(double.objects().await, 0);
    assert!(store.meter().snapshot().requests() < 120);
}

#[tokio::test(start_paused = true)]
async fn probe_is_not_misled_by_lost_replies() {
    let double =
        Double::scripted([Fault::LoseReply, Fault::Serve, Fault::Fail, Fault::LoseReply, Fault::Conflict]);
    double.store(patient()).probe(1).await.unwrap();
    assert_eq!(double.objects().await, 0);
}

#[tokio::test(start_paused = true)]
async fn probe_refuses_stores_without_put_if_absent() {
    for habit in [Habit::IgnoresCreate, Habit::RacesCreate] {
        let double = Double::new(habit);
        let error = double.store(patient()).probe(7).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::NoPutIfAbsent, "{error}");
        assert!(error.to_string().contains("with_assume_put_if_absent"), "{error}");
        assert_eq!(double.objects().await, 0, "{habit:?}");
    }
    let double = Double::new(Habit::IgnoresCreate);
    double.store(patient().with_assume_put_if_absent(true)).probe(7).await.unwrap();
    assert_eq!(double.requests(), 0);
}
