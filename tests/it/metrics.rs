//! What the program's recorder is told of how far the commits are behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use rfs::{At, Clock, Options, Timestamp, Volume};
use rfs_testkit::{CrashPlan, SimDisk};

use crate::common::{options, sim, store_on};

/// The gauges, by name and label.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, f64>>>);

impl Told {
    fn of(&self, name: &str) -> Option<f64> {
        self.0.lock().unwrap().get(name).copied()
    }

    /// Bytes and age, in seconds, of what is not durable.
    fn behind(&self, label: &str) -> (f64, f64) {
        let of = |what: &str| self.of(&format!("rfs_volume_undurable_{what}{label}")).unwrap();
        (of("bytes"), of("age_seconds"))
    }
}

struct Handle(Told, String);

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        unreachable!("it is set");
    }
    fn decrement(&self, _: f64) {
        unreachable!("it is set");
    }
    fn set(&self, value: f64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let name = match key.labels().next() {
            Some(label) => format!("{}{{{}={:?}}}", key.name(), label.key(), label.value()),
            None => key.name().to_owned(),
        };
        Gauge::from_arc(Arc::new(Handle(self.clone(), name)))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Seconds since 1970, as the test says.
#[derive(Clone, Debug, Default)]
struct Set(Arc<Mutex<i64>>);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(*self.0.lock().unwrap() * 1_000_000_000)
    }
}

#[tokio::test]
async fn bytes_and_age_of_what_is_not_durable_are_told() {
    let told = Told::default();
    let _telling = metrics::set_default_local_recorder(&told);
    let (sim, store) = sim();
    let clock = Set::default();
    let at = |seconds| *clock.0.lock().unwrap() = seconds;
    let with = |seed, store| options(seed).with_store(store).with_clock(Arc::new(clock.clone()));
    let label = "{volume=\"jobs\"}";
    let commit_time = || told.of(&format!("rfs_volume_commit_timestamp_seconds{label}"));

    at(1000);
    let volume = Volume::create("sim://", with(1, store).with_metrics_name("jobs")).await.unwrap();
    volume.commit().await.unwrap();
    assert_eq!((told.behind(label), commit_time()), ((0.0, 0.0), Some(1000.0)));
    at(1010);
    volume.fs().write("/a", vec![1; 1000]).await.unwrap();
    at(1017);
    volume.fs().write("/b", vec![1; 1000]).await.unwrap();
    let (bytes, age) = told.behind(label);
    assert!((2000.0..3000.0).contains(&bytes), "{bytes}");
    assert_eq!((age, commit_time()), (7.0, Some(1000.0)));
    volume.commit().await.unwrap();
    assert_eq!((told.behind(label), commit_time()), ((0.0, 0.0), Some(1017.0)));

    // A reader has nothing to tell, and says nothing for the writer.
    volume.fs().write("/c", vec![1; 1000]).await.unwrap();
    let before = told.behind(label);
    let reading: Options = with(3, store_on(&sim)).with_metrics_name("jobs");
    let reader = Volume::open_read_only("sim://", reading, At::Head).await.unwrap();
    reader.close().await.unwrap();
    assert_eq!(told.behind(label), before);
    at(1020);
    volume.close().await.unwrap();
    assert_eq!((told.behind(label), commit_time()), ((0.0, 0.0), Some(1020.0)));

    // The time of the newest commit is known again.
    let volume = Volume::open("sim://", with(2, store_on(&sim))).await.unwrap();
    assert_eq!(told.of("rfs_volume_commit_timestamp_seconds"), Some(1020.0));
    volume.close().await.unwrap();
}

#[tokio::test]
async fn what_a_local_log_has_is_told_when_it_is_opened() {
    let told = Told::default();
    let _telling = metrics::set_default_local_recorder(&told);
    let (sim, store) = sim();
    let disk = SimDisk::new(CrashPlan::never());
    let volume = Volume::create("sim://", options(1).with_store(store).with_disk(Arc::new(disk.clone())));
    let volume = volume.await.unwrap();
    volume.fs().write("/a", vec![1; 1000]).await.unwrap();
    volume.wait(volume.position(), rfs::Level::Local).await.unwrap();
    let before = told.behind("");
    let disk = disk.after_kill(CrashPlan::never());
    drop(volume);

    // The session begins with a change, too.
    let options = options(2).with_store(store_on(&sim)).with_disk(Arc::new(disk)).with_metrics_name("next");
    let volume = Volume::open("sim://", options).await.unwrap();
    let label = "{volume=\"next\"}";
    let (bytes, _) = told.behind(label);
    assert!((before.0..before.0 + 500.0).contains(&bytes), "{bytes} after {before:?}");
    volume.commit().await.unwrap();
    assert!(told.behind(label).0 < 1.0);
    volume.close().await.unwrap();
}
