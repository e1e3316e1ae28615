//! A store in memory, and a runtime of one thread, for decoders that fetch what they decode.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use rfs_backends::object_store::{memory::InMemory, path::Path};
use rfs_backends::{Store, StoreOptions};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Waits for a future.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| {
        let make =
            || Builder::new_current_thread().enable_time().build().expect("a runtime of one thread starts");
        runtime.get_or_init(make).block_on(future)
    })
}

/// An empty store.
pub(crate) fn empty() -> Store {
    Store::new(Arc::new(InMemory::new()), "fuzz://", Path::default(), StoreOptions::default())
}

/// A store with one object.
pub(crate) fn with(key: &str, object: &[u8]) -> Store {
    let store = empty();
    wait(store.put(key, Bytes::copy_from_slice(object))).expect("a store in memory takes an object");
    store
}
