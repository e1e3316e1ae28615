//! What the program's recorder is told.

use crate::double::{Double, Fault, Habit};
use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use rfs_backends::StoreOptions;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What was told, by names and labels as Prometheus writes them: each step of a counter or gauge, each value of a histogram in
/// thousandths.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, Vec<i64>>>>);

impl Told {
    fn values(&self, name: &str) -> Vec<i64> {
        self.0.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    /// The sum of all that begins with `name`.
    fn sum(&self, name: &str) -> i64 {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(told, _)| told.starts_with(name)).flat_map(|(_, values)| values).sum()
    }

    fn handle(&self, key: &Key) -> Arc<Handle> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        Arc::new(Handle(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

struct Handle(Told, String);

impl Handle {
    fn add(&self, value: i64) {
        self.0.0.lock().unwrap().entry(self.1.clone()).or_default().push(value);
    }
}

impl metrics::CounterFn for Handle {
    fn increment(&self, value: u64) {
        self.add(value.cast_signed());
    }
    fn absolute(&self, _: u64) {
        unreachable!("no counter is set");
    }
}

impl metrics::GaugeFn for Handle {
    fn increment(&self, value: f64) {
        self.add(value as i64);
    }
    fn decrement(&self, value: f64) {
        self.add(-value as i64);
    }
    fn set(&self, _: f64) {
        unreachable!("several stores share a gauge");
    }
}

impl metrics::HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.add((value * 1000.0).round() as i64);
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}

/// Requests by kind and outcome.
fn requests(told: &Told, kind: &str, outcome: &str) -> i64 {
    told.sum(&format!("rfs_store_requests_total{{kind={kind:?},outcome={outcome:?}}}"))
}

const BYTES: Bytes = Bytes::from_static(b"12345");

#[tokio::test(start_paused = true)]
async fn a_put_that_is_retried_is_two_requests_and_one_retry() {
    let told = Told::default();
    let _telling = metrics::set_default_local_recorder(&told);
    let double = Double::scripted([Fault::Fail, Fault::Delay(Duration::from_millis(250))]);
    let store = double.store(StoreOptions::default());
    store.put("a", BYTES).await.unwrap();
    assert_eq!((requests(&told, "put", "unreachable"), requests(&told, "put", "ok")), (1, 1));
    assert_eq!(told.sum("rfs_store_requests_total"), 2);
    assert_eq!(told.sum("rfs_store_retries_total{why=\"unreachable\"}"), 1);
    assert_eq!(told.sum("rfs_store_retries_total"), 1);
    assert_eq!(told.sum("rfs_store_sent_bytes_total{kind=\"put\"}"), 10);
    assert_eq!(told.values("rfs_store_request_duration_seconds{kind=\"put\"}"), [0, 250]);
    assert_eq!(told.sum("rfs_store_received_bytes_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_request_is_told_with_its_outcome_and_bytes() {
    let told = Told::default();
    let _telling = metrics::set_default_local_recorder(&told);
    let double = Double::new(Habit::Good);
    let store = double.resumable(StoreOptions::default().with_multipart_threshold(8 << 20));
    store.put_new("a", BYTES).await.unwrap();
    store.put_new("a", BYTES).await.unwrap();
    store.get_range("a", 1..4).await.unwrap();
    store.get("missing").await.unwrap_err();
    store.head("a").await.unwrap();
    store.list("", None).await.unwrap();
    store.delete("a").await.unwrap();
    double.script_parts([Fault::Fail]);
    store.put_large("large", vec![vec![0; 9 << 20].into()]).await.unwrap();
    let told_requests = |kind: &str| told.sum(&format!("rfs_store_requests_total{{kind={kind:?}"));
    for count in store.meter().snapshot().to_string().split(", ") {
        let (kind, number) = count.split(' ').next().zip(count.split(' ').nth(1)).unwrap();
        assert_eq!(told_requests(kind).to_string(), number, "{kind}");
    }
    assert_eq!(requests(&told, "put", "conflict"), 1);
    assert_eq!((requests(&told, "get", "ok"), requests(&told, "get", "not_found")), (2, 1));
    assert_eq!(told.sum("rfs_store_received_bytes_total{kind=\"get\"}"), 8);
    // Two parts, one of them twice, begun and completed.
    assert_eq!((requests(&told, "multipart", "ok"), requests(&told, "multipart", "unreachable")), (4, 1));
    assert_eq!(told.sum("rfs_store_retries_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn hedges_and_what_nobody_waited_for_are_told() {
    let told = Told::default();
    let _telling = metrics::set_default_local_recorder(&told);
    let late = |ms| Fault::Delay(Duration::from_millis(ms));
    let double = Double::new(Habit::Good);
    let store = double.store(StoreOptions::default());
    store.put("a", BYTES).await.unwrap();
    for _ in 0..40 {
        double.script_gets([late(60)]);
        store.get("a").await.unwrap();
    }
    double.script_gets([late(5000), late(30)]);
    store.get("a").await.unwrap();
    assert_eq!((requests(&told, "hedge", "ok"), requests(&told, "get", "dropped")), (1, 1));
    double.script_gets([late(100), late(500)]);
    store.get("a").await.unwrap();
    assert_eq!((requests(&told, "hedge", "dropped"), requests(&told, "get", "ok")), (1, 41));
    double.then(Fault::LoseReplySilently);
    tokio::time::timeout(Duration::from_secs(1), store.put("b", BYTES)).await.unwrap_err();
    assert_eq!(requests(&told, "put", "dropped"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_left_alone_is_told_until_it_is_back() {
    let told = Told::default();
    let _telling = metrics::set_default_local_recorder(&told);
    let open = || (told.sum("rfs_store_circuit_opened_total"), told.sum("rfs_store_circuits_open"));
    let dead = Double::new(Habit::Good);
    dead.then(Fault::LoseReplySilently);
    let store = dead.store(StoreOptions::default().with_circuit(2, Duration::from_secs(30)));
    store.put("a", BYTES).await.unwrap_err();
    assert_eq!(open(), (0, 0));
    store.put("a", BYTES).await.unwrap_err();
    assert_eq!(open(), (1, 1));
    assert!(requests(&told, "put", "deadline") >= 4);
    // A probe in vain opens it no second time; what is not sent is no request.
    let asked = told.sum("rfs_store_requests_total");
    store.put("a", BYTES).await.unwrap_err();
    assert_eq!(told.sum("rfs_store_requests_total"), asked);
    tokio::time::advance(Duration::from_secs(2)).await;
    store.put("a", BYTES).await.unwrap_err();
    assert_eq!((told.sum("rfs_store_requests_total"), open()), (asked + 1, (1, 1)));
    dead.then(Fault::Serve);
    tokio::time::advance(Duration::from_secs(40)).await;
    store.put("a", BYTES).await.unwrap();
    assert_eq!(open(), (1, 0));
}
