//! Volumes, stores and directories for all who race.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use rfs::{Options, Store, StoreOptions, Volume};
use tokio::runtime::Runtime;

use crate::contest::Course;

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

/// The S3 server's, if there is one.
pub(crate) fn s3(course: &Course) -> Option<Store> {
    let s3 = course.s3.as_ref()?;
    let options = StoreOptions::default()
        .with_endpoint(s3.endpoint.clone())
        .with_region("us-east-1")
        .with_access_key_id(s3.access_key.clone())
        .with_secret_access_key(s3.secret_key.clone())
        .with_allow_http(true);
    Some(Store::from_url(&s3.url, options).expect("the store is opened"))
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

/// What was put since `before`: requests and bytes.
pub(crate) fn put_since(store: &Store, before: &rfs::backends::MeterSnapshot) -> (u64, u64) {
    let spent = store.meter().snapshot() - *before;
    (spent.requests(), spent.bytes())
}
