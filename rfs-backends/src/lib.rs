//! Object-store access for rfs: one [`Store`] over any [`object_store::ObjectStore`].
//!
//! What this crate is *not*: it is no storage trait of its own. A backend is whatever implements
//! [`object_store::ObjectStore`]; a [`Store`] wraps one and adds what rfs relies on:
//!
//! * [`Store::put_new`]: create an object only if it is absent, and know afterwards whose bytes stand there, also
//!   when the answer was lost on the way;
//! * [`Store::probe`]: refuse a store whose create-only put does not hold;
//! * retries with a deadline, capped exponential backoff and full jitter ([`StoreOptions`]);
//! * a pause for a store that is dead, and one try at a time until it is back;
//! * a second request for a read whose answer is late;
//! * limits on how many requests are under way, and on how many bytes pass;
//! * a count of requests and bytes by kind ([`Meter`]);
//! * errors whose kind says what the caller can do ([`StoreErrorKind`]);
//! * a public suite that tells whether a store is fit for rfs ([`conformance`]).
//!
//! Calls use tokio's timer: run them inside a tokio runtime with time enabled.
//!
//! ```
//! use rfs_backends::{PutNew, Store, StoreOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let store = Store::from_url("memory://", StoreOptions::default())?;
//! assert_eq!(store.put_new("log/0001", "writer 1".into()).await?, PutNew::Created);
//! assert_eq!(store.put_new("log/0001", "writer 2".into()).await?, PutNew::Exists("writer 1".into()));
//! # Ok::<(), rfs_backends::StoreError>(())
//! # }).unwrap();
//! ```
//!
//! # Features
//!
//! * `s3`: `s3://` URLs;
//! * `azure`: `az://` URLs;
//! * `gcs`: `gs://` URLs;
//! * `http`: `http://` and `https://` URLs, to read only.
//!
//! Each of these brings an HTTP client and TLS.
//!
//! * `metrics`: requests, retries and dead stores are told to the recorder of the crate `metrics` that the program
//!   installed.

#[cfg(feature = "http-client")]
mod answer;
#[cfg(feature = "azure")]
mod azure;
mod bandwidth;
mod call;
mod circuit;
mod classify;
mod compress;
pub mod conformance;
mod create;
mod error;
mod flushed;
#[cfg(feature = "gcs")]
mod gcs;
mod hedge;
#[cfg(feature = "http-client")]
mod http_date;
#[cfg(feature = "http-client")]
mod labelled;
mod local;
mod memory;
mod meter;
mod metrics;
mod options;
#[cfg(feature = "http-client")]
mod platform;
mod policy;
#[cfg(feature = "http")]
mod read_only;
#[cfg(feature = "s3")]
mod s3;
mod seal;
mod shared;
mod store;
mod upload;
mod url;

pub use compress::{COMPRESSED_SUFFIX, is_compressed};
pub use create::PutNew;
pub use error::{StoreError, StoreErrorKind};
pub use meter::{Count, Meter, MeterSnapshot, RequestKind};
pub use object_store;
pub use options::StoreOptions;
pub use seal::{Algorithm, Encryption, KeyWrapper};
pub use store::{ObjectInfo, Store};

/// What fuzz targets reach that nobody else does.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    use crate::StoreError;

    /// The directory that `rest`, what follows `file://` in the URL, names; it is not made.
    pub fn directory(url: &str, rest: &str) -> Result<std::path::PathBuf, StoreError> {
        crate::local::directory(url, rest)
    }
}
