//! put_large: in one piece below the threshold, in parts above, all or nothing.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use rfs_backends::{RequestKind, StoreErrorKind, StoreOptions};

const MIB: usize = 1 << 20;

/// `pieces` chunks of a MiB, each filled with its number.
fn chunks(pieces: u8) -> Vec<Bytes> {
    (0..pieces).map(|piece| Bytes::from(vec![piece; MIB])).collect()
}

fn options() -> StoreOptions {
    StoreOptions::default().with_part_bytes(5 << 20)
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
