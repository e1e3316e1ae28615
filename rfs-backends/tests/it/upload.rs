//! put_large: in one piece below the threshold, in parts above, all or nothing; nothing is left behind.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use rfs_backends::{RequestKind, StoreErrorKind, StoreOptions};
use std::{sync::Arc, time::Duration};

const MIB: usize = 1 << 20;

/// `pieces` chunks of a MiB, each filled with its number.
fn chunks(pieces: u8) -> Vec<Bytes> {
    (0..pieces).map(|piece| Bytes::from(vec![piece; MIB])).collect()
}

fn options() -> StoreOptions {
    StoreOptions::default().with_multipart_threshold(8 << 20).with_part_bytes(5 << 20)
}

#[tokio::test(start_paused = true)]
async fn below_the_threshold_it_is_one_put() {
    let double = Double::new(Habit::Good);
    let store = double.store(options());
    store.put_large("segment", chunks(7)).await.unwrap();
    assert_eq!(store.meter().snapshot().to_string(), "put 1 (7340032 B)");
    assert_eq!(double.stands("segment").await.unwrap(), chunks(7).concat());
    store.put_large("nothing", vec![]).await.unwrap();
    assert_eq!(double.stands("nothing").await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn from_the_threshold_on_it_goes_up_in_parts() {
    let double = Double::new(Habit::Good);
    let store = double.store(options());
    store.put_large("segment", chunks(12)).await.unwrap();
    assert_eq!(double.stands("segment").await.unwrap(), chunks(12).concat());
    // A start, parts of 5, 5 and 2 MiB, a completion.
    let spent = store.meter().snapshot();
    assert_eq!(spent.to_string(), "multipart 5 (12582912 B)");
    assert_eq!(double.aborts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_part_aborts_and_the_upload_begins_again() {
    let double = Double::new(Habit::Good);
    double.script_parts([Fault::Serve, Fault::Fail]);
    let store = double.store(options());
    store.put_large("segment", chunks(12)).await.unwrap();
    assert_eq!(double.aborts(), 1);
    assert_eq!(double.stands("segment").await.unwrap(), chunks(12).concat());
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_for_good_leaves_nothing() {
    let double = Double::new(Habit::Good);
    double.script_parts([Fault::Serve, Fault::Deny]);
    let store = double.store(options());
    let error = store.put_large("segment", chunks(12)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    assert_eq!((double.aborts(), double.objects().await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_part_without_an_answer_does_not_hang() {
    let double = Double::new(Habit::Good);
    double.script_parts(std::iter::repeat_n(Fault::LoseReplySilently, 1000));
    let store = double.store(options());
    let error = store.put_large("segment", chunks(12)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Deadline, "{error}");
    assert!(double.aborts() >= 1);
    assert_eq!(double.objects().await, 0);
}

#[tokio::test(start_paused = true)]
async fn more_parts_than_permits_do_not_block_each_other() {
    let double = Double::new(Habit::Good);
    let store = double.store(options().with_concurrency(1));
    let (one, two) = tokio::join!(store.put_large("one", chunks(30)), store.put_large("two", chunks(30)));
    one.unwrap();
    two.unwrap();
    assert_eq!(store.meter().snapshot().of(RequestKind::Multipart).requests, 2 * 8);
}

/// Three parts of 5, 5 and 2 MiB, on a store where parts can be sent again. The outcome, and what the store says.
async fn resumed(double: &Arc<Double>) -> Result<(), StoreErrorKind> {
    let store = double.resumable(options());
    let outcome = store.put_large("segment", chunks(12)).await;
    if outcome.is_ok() {
        assert_eq!(double.stands("segment").await.unwrap(), chunks(12).concat());
    }
    outcome.map_err(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn only_the_parts_that_fail_are_sent_again() {
    let double = Double::new(Habit::Good);
    double.script_parts([Fault::Serve, Fault::Fail, Fault::LoseReply]);
    assert_eq!(resumed(&double).await, Ok(()));
    let mut parts = double.parts();
    parts.sort_unstable();
    assert_eq!(parts, [0, 1, 1, 2, 2]);
    assert_eq!((double.open(), double.aborts()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_resumable_upload_that_fails_for_good_is_aborted() {
    let double = Double::new(Habit::Good);
    double.script_parts([Fault::Serve, Fault::Deny]);
    assert_eq!(resumed(&double).await, Err(StoreErrorKind::Denied));
    assert_eq!((double.open(), double.aborts(), double.objects().await), (0, 1, 0));
    double.script_parts(std::iter::repeat_n(Fault::LoseReplySilently, 1000));
    assert_eq!(resumed(&double).await, Err(StoreErrorKind::Deadline));
    assert_eq!((double.open(), double.objects().await), (0, 0));
    double.script_parts(std::iter::repeat_n(Fault::Fail, 1000));
    assert_eq!(resumed(&double).await, Err(StoreErrorKind::Unreachable));
    assert_eq!((double.open(), double.objects().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_answer_is_lost_is_looked_up() {
    let double = Double::new(Habit::Good);
    double.script_completions([Fault::LoseReply]);
    assert_eq!(resumed(&double).await, Ok(()));
    double.script_completions([Fault::Fail, Fault::Fail]);
    assert_eq!(resumed(&double).await, Ok(()));
    assert_eq!((double.open(), double.parts().len(), double.aborts()), (0, 6, 0));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_the_store_forgets_is_begun_again() {
    let double = Double::new(Habit::Good);
    double.script_parts([Fault::Serve, Fault::Overtake(Bytes::new())]);
    assert_eq!(resumed(&double).await, Ok(()));
    assert_eq!(double.open(), 0);
    assert!((5..=6).contains(&double.parts().len()), "{:?}", double.parts());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_upload_is_aborted_in_the_background() {
    for resumable in [false, true] {
        let double = Double::new(Habit::Good);
        double.script_parts([Fault::Serve, Fault::LoseReplySilently, Fault::Serve]);
        let store = if resumable { double.resumable(options()) } else { double.store(options()) };
        let dropped = tokio::time::timeout(Duration::from_secs(1), store.put_large("segment", chunks(12)));
        dropped.await.unwrap_err();
        tokio::task::yield_now().await;
        assert_eq!((double.open(), double.aborts()), (0, 1), "resumable: {resumable}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_aborted_now_is_aborted_by_the_next_upload() {
    let double = Double::new(Habit::Good);
    let store = double.resumable(options());
    double.script_parts([Fault::Deny]);
    double.script_abortions([Fault::Fail]);
    store.put_large("segment", chunks(12)).await.unwrap_err();
    assert_eq!(double.open(), 1);
    store.put_large("other", chunks(12)).await.unwrap();
    assert_eq!((double.open(), double.aborts()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn concurrent_resumable_uploads_do_not_block_each_other() {
    let double = Double::new(Habit::Good);
    let store = double.resumable(options().with_concurrency(1));
    // As tasks, which a multi-threaded runtime may move.
    let upload = |key: &'static str| {
        let store = store.clone();
        tokio::spawn(async move { store.put_large(key, chunks(30)).await })
    };
    let (one, two) = tokio::join!(upload("one"), upload("two"));
    one.unwrap().unwrap();
    two.unwrap().unwrap();
    assert_eq!(store.meter().snapshot().of(RequestKind::Multipart).requests, 2 * 8);
}
