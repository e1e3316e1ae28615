//! Volumes, stores and directories for all who race.

use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use rfs::{Options, Store, StoreOptions, Volume};
use tokio::runtime::Runtime;

use crate::contest::{Course, Score};
use crate::memory::{RECORD, names};

/// What S3 takes for a small object, about: no server here does.
pub(crate) const PUT: Duration = Duration::from_millis(30);
pub(crate) const GET: Duration = Duration::from_millis(15);

pub(crate) fn runtime() -> Runtime {
    Runtime::new().expect("a runtime starts")
}

/// The defaults, but that nothing is committed unless asked for.
pub(crate) fn options() -> Options {
    Options::new()
        .with_commit_interval(None)
        .with_commit_bytes(u64::MAX)
        .with_outage_budget(u64::MAX, Duration::from_hours(1))
}

/// A store in memory as far away as S3 is.
pub(crate) fn far() -> Store {
    let config = ThrottleConfig {
        wait_put_per_call: PUT,
        wait_get_per_call: GET,
        wait_list_per_call: GET,
        wait_delete_per_call: GET,
        ..ThrottleConfig::default()
    };
    let store = Arc::new(ThrottledStore::new(InMemory::new(), config));
    Store::new(store, "far://", Path::default(), StoreOptions::default())
}

/// The S3 server's store, or one on the disk.
pub(crate) fn store(course: &Course) -> Store {
    let Some(s3) = &course.s3 else { return on_disk(&disk_url(course)) };
    let options = StoreOptions::default()
        .with_endpoint(s3.endpoint.clone())
        .with_region("us-east-1")
        .with_access_key_id(s3.access_key.clone())
        .with_secret_access_key(s3.secret_key.clone())
        .with_allow_http(true);
    Store::from_url(&s3.url, options).expect("the store is opened")
}

pub(crate) fn disk_url(course: &Course) -> String {
    format!("file://{}/store", course.disk.display())
}

pub(crate) fn on_disk(url: &str) -> Store {
    Store::from_url(url, StoreOptions::default()).expect("the store is opened")
}

pub(crate) async fn volume(store: Store, options: Options) -> Volume {
    Volume::create("", options.with_store(store)).await.expect("a volume is made")
}

/// Bytes that do not compress.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend(state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Makes a directory with so many files.
pub(crate) async fn fill(volume: &Volume, dir: &str, count: usize) {
    let fs = volume.fs();
    fs.create_dir_all(dir).await.expect("the directory is made");
    for path in names(dir, 'a', count) {
        fs.write(path, RECORD).await.expect("a file is written");
    }
}

/// How long `work` takes, which does so many units, and what it asks of the store.
pub(crate) async fn metered<T>(store: &Store, units: usize, work: impl Future<Output = T>) -> (Score, T) {
    let (before, start) = (store.meter().snapshot(), Instant::now());
    let done = work.await;
    let took = start.elapsed();
    let spent = store.meter().snapshot() - before;
    (Score::of(units, took).asking(spent.requests(), spent.bytes()), done)
}
