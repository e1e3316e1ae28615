//! Reading, listing, deleting, and what each costs.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use futures::future::join_all;
use rfs_backends::{MeterSnapshot, RequestKind, Store, StoreErrorKind, StoreOptions};
use std::time::Duration;
use tokio::time::Instant;

async fn cost<T>(store: &Store, call: impl Future<Output = T>) -> (T, MeterSnapshot) {
    let before = store.meter().snapshot();
    let done = call.await;
    (done, store.meter().snapshot() - before)
}

#[tokio::test(start_paused = true)]
async fn every_call_is_metered_exactly() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default());
    let expect = |cost: MeterSnapshot, kind, bytes| {
        assert_eq!((cost.requests(), cost.of(kind).requests, cost.bytes()), (1, 1, bytes), "{cost}");
    };
    let (put, spent) = cost(&store, store.put("a", Bytes::from_static(b"0123456789"))).await;
    put.unwrap();
    expect(spent, RequestKind::Put, 10);
    let (got, spent) = cost(&store, store.get("a")).await;
    assert_eq!(got.unwrap(), "0123456789");
    expect(spent, RequestKind::Get, 10);
    let (got, spent) = cost(&store, store.get_range("a", 3..6)).await;
    assert_eq!(got.unwrap(), "345");
    expect(spent, RequestKind::Get, 3);
    let (info, spent) = cost(&store, store.head("a")).await;
    assert_eq!(info.unwrap().size, 10);
    expect(spent, RequestKind::Head, 0);
    let (listed, spent) = cost(&store, store.list("", None)).await;
    assert_eq!(listed.unwrap().len(), 1);
    expect(spent, RequestKind::List, "volume/a".len() as u64);
    let (deleted, spent) = cost(&store, store.delete("a")).await;
    deleted.unwrap();
    expect(spent, RequestKind::Delete, 0);
    let (nothing, spent) = cost(&store, store.get_range("a", 5..5)).await;
    assert!(nothing.unwrap().is_empty() && spent.requests() == 0);
    assert_eq!(double.requests(), store.meter().snapshot().requests());
}

#[tokio::test(start_paused = true)]
async fn retries_are_metered() {
    let double = Double::scripted([Fault::Fail, Fault::LoseReply]);
    let store = double.store(StoreOptions::default());
    store.put("a", Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(store.meter().snapshot().to_string(), "put 3 (9 B)");
    double.script_gets([Fault::Fail]);
    assert_eq!(store.get("a").await.unwrap(), "abc");
    assert_eq!(store.meter().snapshot().of(RequestKind::Get).requests, 2);
}

#[tokio::test(start_paused = true)]
async fn listings_are_sorted_complete_and_relative() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default());
    for key in ["log/0003", "log/0001", "logs/0001", "log/0002", "log/sub/1", "other"] {
        store.put(key, Bytes::from_static(b"xy")).await.unwrap();
    }
    let keys = async |prefix, after| {
        let listed = store.list(prefix, after).await.unwrap();
        listed.into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("log", None).await, ["log/0001", "log/0002", "log/0003", "log/sub/1"]);
    assert_eq!(keys("log/", Some("log/0001")).await, ["log/0002", "log/0003", "log/sub/1"]);
    assert_eq!(keys("log", Some("log/00011")).await, ["log/0002", "log/0003", "log/sub/1"]);
    assert_eq!(keys("log/sub", None).await, ["log/sub/1"]);
    assert_eq!(keys("", Some("log/sub/1")).await, ["logs/0001", "other"]);
    assert!(keys("nothing", None).await.is_empty());
    assert!(keys("log", Some("zzz")).await.is_empty());
    let info = &store.list("other", None).await.unwrap();
    assert!(info.is_empty(), "a key is not below itself");
    let info = &store.list("", Some("logs/0001")).await.unwrap()[0];
    assert_eq!((info.key.as_str(), info.size), ("other", 2));
    assert!(info.last_modified_ms > 1_577_836_800_000, "after 2020");
}

#[tokio::test(start_paused = true)]
async fn a_long_listing_counts_its_pages_and_has_a_limit() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default().with_max_listed(2500));
    for number in 0..2001 {
        store.put(&format!("k/{number:04}"), Bytes::new()).await.unwrap();
    }
    let (listed, spent) = cost(&store, store.list("k", None)).await;
    assert_eq!((listed.unwrap().len(), spent.of(RequestKind::List).requests), (2001, 3));
    store.delete("k/0000").await.unwrap();
    let (_, spent) = cost(&store, store.list("k", None)).await;
    assert_eq!(spent.of(RequestKind::List).requests, 2, "2000 keys are two pages");
    let small = double.store(StoreOptions::default().with_max_listed(100));
    let error = small.list("k", None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    assert!(error.to_string().contains("with_max_listed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn reads_are_whole_or_errors() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default());
    store.put("a", Bytes::from_static(b"0123456789")).await.unwrap();
    for range in [8..11, 10..11, 500..600, 0..1 << 30] {
        let begun = Instant::now();
        let error = store.get_range("a", range.clone()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Truncated, "{range:?}: {error}");
        assert!(error.to_string().contains("10 bytes"), "{error}");
        assert_eq!(begun.elapsed(), Duration::ZERO, "not worth a second try");
    }
    let kind = async |range| store.get_range("a", range).await.unwrap_err().kind();
    assert_eq!(kind(0..u64::MAX).await, StoreErrorKind::TooLarge);
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    let reversed = 5..3;
    assert_eq!(kind(reversed).await, StoreErrorKind::BadKey);
    assert_eq!(store.get("b").await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.get_range("b", 0..1).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.head("b").await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cuts_ranges_is_found_out() {
    let double = Double::new(Habit::TruncatesRanges);
    let store = double.store(StoreOptions::default());
    store.put("a", Bytes::from_static(b"0123456789")).await.unwrap();
    let error = store.get_range("a", 2..6).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Truncated);
    assert_eq!(store.meter().snapshot().of(RequestKind::Get).requests, 3, "it might have been chance");
}

#[tokio::test(start_paused = true)]
async fn an_object_over_the_limit_is_not_read() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default().with_max_object_bytes(100));
    store.put("a", vec![7; 101].into()).await.unwrap();
    let (error, spent) = cost(&store, store.get("a")).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::TooLarge);
    assert_eq!((spent.requests(), spent.bytes()), (1, 0));
    assert_eq!(store.get_range("a", 1..101).await.unwrap().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn deleting_twice_is_no_error() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default());
    store.put("a", Bytes::new()).await.unwrap();
    store.delete("a").await.unwrap();
    store.delete("a").await.unwrap();
    assert_eq!(double.objects().await, 0);
}

#[tokio::test(start_paused = true)]
async fn keys_that_some_store_cannot_take_are_refused_by_all() {
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default());
    let long = format!("a/{}", "n".repeat(256));
    let longer = "abcdefg/".repeat(140) + "z";
    for key in [
        "", "/", "/a", "a/", "a//b", "../a", "a/./b", "a/..", "a\nb", "nul\0", "staged#1", "x#12/y", &long,
        &longer,
    ] {
        for error in [
            store.put(key, Bytes::new()).await.unwrap_err(),
            store.put_new(key, Bytes::new()).await.unwrap_err(),
            store.put_large(key, vec![]).await.unwrap_err(),
            store.get(key).await.unwrap_err(),
            store.delete(key).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::BadKey, "{key:?}: {error}");
        }
    }
    assert_eq!(store.list("../x", None).await.unwrap_err().kind(), StoreErrorKind::BadKey);
    assert_eq!(double.requests(), 0);
    store.put("a#b/c#", Bytes::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_costs_a_reader_its_deadline_and_no_more() {
    let double = Double::new(Habit::Good);
    double.script_gets(std::iter::repeat_n(Fault::LoseReplySilently, 1000));
    let options = StoreOptions::default()
        .with_deadline(Duration::from_secs(30))
        .with_attempt_timeout(Duration::from_secs(4));
    let store = double.store(options);
    store.put("a", Bytes::new()).await.unwrap();
    let begun = Instant::now();
    let error = store.get("a").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Deadline);
    assert!((20..=31).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!((5..=8).contains(&(double.requests() - 1)), "{}", double.requests());
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_are_limited_and_waiting_has_an_end() {
    let double = Double::new(Habit::Good);
    double.then(Fault::LoseReplySilently);
    let options = StoreOptions::default()
        .with_concurrency(2)
        .with_deadline(Duration::from_secs(3))
        .with_attempt_timeout(Duration::from_secs(10));
    let store = double.store(options);
    let begun = Instant::now();
    let outcomes = join_all((0..8).map(|n| {
        let store = store.clone();
        async move { store.put(&format!("k{n}"), Bytes::new()).await }
    }))
    .await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap_err().kind() == StoreErrorKind::Deadline));
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(double.requests(), 2, "a turn that comes too late is not used");
}

#[tokio::test(start_paused = true)]
async fn endless_options_do_not_overflow() {
    let double = Double::scripted([Fault::Fail]);
    let options = StoreOptions::default()
        .with_deadline(Duration::MAX)
        .with_attempt_timeout(Duration::MAX)
        .with_backoff(Duration::MAX, Duration::from_secs(1))
        .with_min_bytes_per_second(0)
        .with_concurrency(usize::MAX);
    double.store(options).put("a", Bytes::from_static(b"x")).await.unwrap();
}
