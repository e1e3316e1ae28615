//! Stores in this process, for tests and for volumes that need not outlive it.

use crate::{Store, StoreError, StoreOptions, url::name_and_prefix};
use object_store::{memory::InMemory, path::Path};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Named stores stay until the process ends: whoever opens a name again finds what was left there.
static NAMED: LazyLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let (backend, prefix) = if rest.is_empty() {
        (Arc::default(), Path::default())
    } else {
        let (name, prefix) = name_and_prefix(url, rest, "name")?;
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(named.entry(name.to_owned()).or_default()), prefix)
    };
    let options = options.with_hedging(0, 0);
    Ok(Store::new(Arc::<InMemory>::clone(&backend), url, prefix, options).with_multipart(backend))
}
