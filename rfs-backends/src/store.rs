//! The handle: keys in, bytes out, over any object store.

use crate::{
    Meter, StoreError, StoreErrorKind, StoreOptions,
    call::{Call, Jitter},
    classify::Failure,
    compress::{Tables, is_compressed},
    seal::Cipher,
    shared::Shared,
    url,
};
use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutPayload, multipart::MultipartStore, path::Path};
use std::{fmt, ops::Range, sync::Arc, time::Duration};
use tokio::sync::{OnceCell, Semaphore};

mod attempt;
mod keys;
mod list;
mod read;

pub(crate) use attempt::within;

/// An object store, and a prefix in it under which all keys lie.
///
/// A clone is the same store: it shares the limits and the [`Meter`]. Keys are relative to the prefix, parts are
/// separated by `/`, and what is stored under a key is what was given, byte by byte.
///
/// Every call ends by its deadline, which is [`StoreOptions::with_deadline`] plus the time that its body is granted, and
/// what it waits for the bandwidth of [`StoreOptions::with_bandwidth`].
/// A call that ends in an error may have been executed all the same; a put can always be repeated with the same bytes.
/// Dropping a call's future abandons it, with the same uncertainty.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn ObjectStore>,
    url: String,
    prefix: Path,
    pub(crate) options: StoreOptions,
    pub(crate) shared: Arc<Shared>,
    permits: Semaphore,
    jitter: Jitter,
    /// What objects are sealed with, once it was needed.
    pub(crate) cipher: OnceCell<Cipher>,
    /// Those of compressed objects.
    pub(crate) tables: Tables,
}

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key, relative to the [`Store`]'s prefix.
    pub key: String,
    /// The size in bytes; of a [compressed](crate::is_compressed) object not that of its content.
    pub size: u64,
    /// When the store says that the object was last written, in milliseconds since 1970 UTC, by the store's clock.
    pub last_modified_ms: i64,
}

impl Store {
    /// A store over any implementation of [`ObjectStore`], with all keys under `prefix`.
    ///
    /// `url_for_messages` names the store in errors; it must hold no secret. Backends that retry by themselves do so
    /// below the meter and the deadlines: turn their retries off.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreOptions, object_store::{memory::InMemory, path::Path}};
    /// use std::sync::Arc;
    ///
    /// let store = Store::new(Arc::new(InMemory::new()), "mine://", Path::from("jobs"), StoreOptions::default());
    /// assert_eq!(store.url(), "mine://");
    /// ```
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        url_for_messages: &str,
        prefix: Path,
        options: StoreOptions,
    ) -> Self {
        let permits = options.concurrency;
        Self::assemble(inner, url_for_messages.to_owned(), prefix, options, Arc::default(), permits)
    }

    /// The same store, begun anew, with the backend's interface for uploads that can be resumed: parts that fail are
    /// sent again, instead of the whole object. Stores of [`from_url`](Self::from_url) have it where there is one.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreOptions, object_store::{memory::InMemory, path::Path}};
    /// use std::sync::Arc;
    ///
    /// let backend = Arc::new(InMemory::new());
    /// let store = Store::new(backend.clone(), "mine://", Path::from("jobs"), StoreOptions::default());
    /// let store = store.with_multipart(backend);
    /// ```
    #[must_use]
    pub fn with_multipart(self, backend: Arc<dyn MultipartStore>) -> Self {
        let Inner { backend: inner, url, prefix, options, .. } = &*self.inner;
        let shared = Arc::new(Shared { parts: Some(backend), ..Shared::default() });
        let permits = options.concurrency;
        Self::assemble(Arc::clone(inner), url.clone(), prefix.clone(), options.clone(), shared, permits)
    }

    /// Opens the store that a URL names.
    ///
    /// * `memory://name[/prefix]`: in this process, shared by all who open the same name, until the process ends.
    ///   `memory://` alone is a fresh store that nobody else sees.
    /// * `file:///dir`: a directory, which is made if it is missing. File and directory are flushed to disk before a
    ///   put is acknowledged. What a crash leaves half written (files named `NAME#N`) is never listed or read.
    ///   Characters that have a meaning in URLs are written as `%XX`.
    /// * `s3://bucket[/prefix]` (feature `s3`): S3 or a store that speaks its protocol.
    /// * `az://container[/prefix]` (feature `azure`): Azure Blob Storage.
    /// * `gs://bucket[/prefix]` (feature `gcs`): Google Cloud Storage.
    /// * `http://host[:port][/path]`, `https://...` (feature `http`): what an HTTP server has there, to read only.
    ///
    /// Settings of a platform come from the options, and where they are silent from the platform's usual variables,
    /// such as `AWS_REGION` and `AZURE_STORAGE_ACCOUNT_NAME`; a credential comes whole from one of the two. With none
    /// in either, the platform's own chain is asked (web identity, container, instance metadata). `docs/stores.md` lists
    /// the variables.
    ///
    /// Opening `file://` touches the disk and blocks for as long; the others send nothing yet.
    ///
    /// # Errors
    /// [`BadUrl`](StoreErrorKind::BadUrl) for a malformed URL or option, [`Unsupported`](StoreErrorKind::Unsupported)
    /// if this build lacks the scheme's feature, [`Denied`](StoreErrorKind::Denied) if a directory can't be made.
    pub fn from_url(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        url::open(url, options)
    }

    pub(crate) fn assemble(
        backend: Arc<dyn ObjectStore>,
        url: String,
        prefix: Path,
        options: StoreOptions,
        shared: Arc<Shared>,
        permits: usize,
    ) -> Self {
        let jitter = Jitter::new(options.jitter_seed);
        let permits = Semaphore::new(permits);
        let (cipher, tables) = (OnceCell::new(), Tables::default());
        Self {
            inner: Arc::new(Inner { backend, url, prefix, options, shared, permits, jitter, cipher, tables }),
        }
    }

    /// The same store with its own limit on concurrent requests.
    pub(crate) fn with_permits(&self, permits: usize) -> Self {
        let inner = &self.inner;
        Self::assemble(
            Arc::clone(&inner.backend),
            inner.url.clone(),
            inner.prefix.clone(),
            inner.options.clone(),
            Arc::clone(&inner.shared),
            permits,
        )
    }

    /// The store at another URL, with the same options. Where both are places of one backend (one bucket, one named memory
    /// store, or a backend that the caller gave) it is the very same backend, and its requests are metered together.
    ///
    /// Of a backend that the caller gave, the URL has the scheme that this store's has, and the rest of it is the prefix.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreOptions};
    /// let store = Store::from_url("memory://siblings/one", StoreOptions::default())?;
    /// let other = store.sibling("memory://siblings/two")?;
    /// assert!(store.is_same_backend(&other));
    /// assert_eq!((other.url(), other.prefix().as_ref()), ("memory://siblings/two", "two"));
    /// # Ok::<(), rfs_backends::StoreError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::from_url`].
    pub fn sibling(&self, url: &str) -> Result<Self, StoreError> {
        match url::sibling_prefix(&self.inner.url, url)? {
            Some(prefix) => Ok(self.at_prefix(url, prefix)),
            None => Self::from_url(url, self.inner.options.clone()),
        }
    }

    /// The same backend at another prefix. `url_for_messages` names it in errors.
    #[must_use]
    pub fn at_prefix(&self, url_for_messages: &str, prefix: Path) -> Self {
        let Inner { backend, options, shared, .. } = &*self.inner;
        let permits = options.concurrency;
        let (backend, shared) = (Arc::clone(backend), Arc::clone(shared));
        Self::assemble(backend, url_for_messages.to_owned(), prefix, options.clone(), shared, permits)
    }

    /// Whether both are places of one backend in this process.
    #[must_use]
    pub fn is_same_backend(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner.backend, &other.inner.backend)
    }

    /// The URL, as it stands in messages.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The prefix under which all keys lie.
    pub fn prefix(&self) -> &Path {
        &self.inner.prefix
    }

    /// The largest object that [`Store::get`](Self::get) takes, in bytes.
    #[must_use]
    pub fn max_object_bytes(&self) -> u64 {
        self.inner.options.max_object_bytes
    }

    /// Whether the caller vouched for the store's create-only puts, so that they are not tried out.
    #[must_use]
    pub fn assumes_put_if_absent(&self) -> bool {
        self.inner.options.assume_put_if_absent
    }

    /// Requests and bytes so far, of all clones of this store.
    pub fn meter(&self) -> &Meter {
        &self.inner.shared.meter
    }

    /// How long calls on this store fail at once, because it gave no answer for long; none while it is asked as usual.
    /// See [`StoreOptions::with_circuit`].
    pub fn left_alone_for(&self) -> Option<Duration> {
        self.inner.shared.circuit.left()
    }

    /// The backend below. What is done through it is neither metered nor retried, and sees keys with their prefix.
    pub fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.backend
    }

    /// Writes an object, replacing what is there.
    ///
    /// Meant for names that only one writer uses, where writing the same bytes twice does no harm.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_chunks("writing", key, vec![bytes]).await
    }

    pub(crate) async fn put_chunks(
        &self,
        doing: &'static str,
        key: &str,
        chunks: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        inner.path(doing, key)?;
        let chunks = inner.compressed(doing, key, chunks).await?;
        self.put_stored(doing, key, chunks).await
    }

    /// Puts what is not compressed any more.
    pub(crate) async fn put_stored(
        &self,
        doing: &'static str,
        key: &str,
        chunks: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let path = inner.path(doing, key)?;
        let payload: PutPayload = inner.sealed(key, chunks).await?.into_iter().collect();
        let mut call = inner.call(doing, key, payload.content_length() as u64);
        call.run(|limit| inner.attempt_put(&path, payload.clone(), PutMode::Overwrite, limit)).await
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`NotFound`](StoreErrorKind::NotFound); [`TooLarge`](StoreErrorKind::TooLarge), before anything is read, if the
    /// object is over [`StoreOptions::with_max_object_bytes`]; [`Truncated`](StoreErrorKind::Truncated) if fewer bytes
    /// come than the store announced.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let inner = &*self.inner;
        let path = inner.path("reading", key)?;
        let got = inner.call("reading", key, 0).run(|limit| inner.attempt_get(&path, None, limit)).await;
        inner.decompressed(key, inner.unsealed(key, got?).await?).await
    }

    /// Reads what is left of an object that is damaged. Zeros stand for the blocks of 64 KiB that cannot be decrypted or
    /// decompressed, so that what is around them keeps its place; what is neither encrypted nor compressed comes as it is.
    /// Whoever asks has checksums of its own.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use object_store::{ObjectStoreExt, path::Path};
    ///
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// store.put("log.z", vec![1; 150_000].into()).await?;
    /// let path = Path::from("log.z");
    /// let mut stored = store.inner().get(&path).await?.bytes().await?.to_vec();
    /// *stored.last_mut().unwrap() ^= 1;
    /// store.inner().put(&path, stored.into()).await?;
    ///
    /// assert!(store.get("log.z").await.is_err());
    /// let left = store.salvage("log.z").await?;
    /// assert_eq!((left.len(), left[131_071], left[131_072]), (150_000, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Damaged`](StoreErrorKind::Damaged) if what tells where the blocks are is damaged.
    pub async fn salvage(&self, key: &str) -> Result<Bytes, StoreError> {
        let inner = &*self.inner;
        let path = inner.path("reading", key)?;
        let got = inner.call("reading", key, 0).run(|limit| inner.attempt_get(&path, None, limit)).await;
        inner.salvage_decompressed(key, inner.salvage_unsealed(key, got?).await?)
    }

    /// Reads exactly the bytes of `range`. An empty range is answered without asking the store.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreErrorKind, StoreOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// store.put("a", "0123456789".into()).await?;
    /// assert_eq!(store.get_range("a", 2..5).await?, "234");
    /// let error = store.get_range("a", 8..12).await.unwrap_err();
    /// assert_eq!(error.kind(), StoreErrorKind::Truncated);
    /// # Ok::<(), rfs_backends::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](StoreErrorKind::NotFound); [`Truncated`](StoreErrorKind::Truncated) if the object, or the answer,
    /// ends before the range does; [`TooLarge`](StoreErrorKind::TooLarge) for a range over
    /// [`StoreOptions::with_max_object_bytes`].
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let inner = &*self.inner;
        inner.path("reading", key)?;
        let call = |bytes| inner.call("reading", key, bytes);
        let Some(length) = range.end.checked_sub(range.start) else {
            let detail = format!("the range {}..{} ends before it begins", range.start, range.end);
            return Err(call(0).fail(Failure::last(StoreErrorKind::BadKey, detail)));
        };
        if length == 0 {
            return Ok(Bytes::new());
        }
        if length > inner.options.max_object_bytes {
            return Err(call(0).fail(inner.too_large("a range", length)));
        }
        if is_compressed(key) {
            inner.decompressed_range(key, range).await
        } else {
            inner.stored_range(key, range).await
        }
    }

    /// The size and time of an object, without its bytes.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let inner = &*self.inner;
        let path = inner.path("looking at", key)?;
        let meta = inner.call("looking at", key, 0).run(|limit| inner.attempt_head(&path, limit)).await?;
        Ok(ObjectInfo {
            key: key.to_owned(),
            size: inner.content_len(key, meta.size),
            last_modified_ms: meta.last_modified.timestamp_millis(),
        })
    }

    /// Lists all objects below `prefix`, sorted by key, whatever order the store has.
    ///
    /// `prefix` counts by whole parts: `a/b` lists `a/b/c`, not `a/bc` and not `a/b` itself; a slash at its end
    /// changes nothing, and the empty prefix lists everything. With `after`, a key of this store, only what sorts
    /// after it is listed. The keys are relative to the store, not to `prefix`.
    ///
    /// Each page received grants the time of one more attempt, beyond the deadline.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// for key in ["log/2", "log/1", "logs/1", "log/3"] {
    ///     store.put(key, "x".into()).await?;
    /// }
    /// let keys: Vec<_> = store.list("log", Some("log/1")).await?.into_iter().map(|object| object.key).collect();
    /// assert_eq!(keys, ["log/2", "log/3"]);
    /// # Ok::<(), rfs_backends::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`TooLarge`](StoreErrorKind::TooLarge) if there are more than [`StoreOptions::with_max_listed`].
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        let inner = &*self.inner;
        let below = match prefix.strip_suffix('/').unwrap_or(prefix) {
            "" => inner.prefix.clone(),
            below => inner.path("listing", below)?,
        };
        let offset = after.map(|key| inner.path("listing", key)).transpose()?;
        let mut listed = inner
            .call("listing", prefix, 0)
            .run(|limit| inner.attempt_list(&below, offset.as_ref(), limit))
            .await?;
        listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        // A page boundary between two equal keys can't be told from a repeated page.
        listed.dedup_by(|a, b| a.key == b.key);
        Ok(listed)
    }

    /// Deletes an object. That it is missing is success.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let path = inner.path("deleting", key)?;
        inner.call("deleting", key, 0).run(|limit| inner.attempt_delete(&path, limit)).await
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.inner.url)
            .field("prefix", &self.inner.prefix)
            .finish_non_exhaustive()
    }
}
impl Inner {
    /// The bytes of a range, which is not empty, as they were before they were sealed.
    pub(crate) async fn stored_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let path = self.path("reading", key)?;
        let Some(cipher) = self.cipher(false).await? else {
            let mut call = self.call("reading", key, range.end - range.start);
            return call.run(|limit| self.attempt_get(&path, Some(range.clone()), limit)).await;
        };
        let blocks = Self::sealed_range(&range);
        let mut call = self.call("reading", key, blocks.end - blocks.start);
        let stored = call.run(|limit| self.attempt_get_up_to(&path, blocks.clone(), limit)).await?;
        self.unsealed_range(cipher, key, &range, &stored)
    }

    /// The first `len` bytes of an object, or all if it has less, as they were before they were sealed.
    pub(crate) async fn beginning(&self, key: &str, len: u64) -> Result<Bytes, StoreError> {
        let path = self.path("reading", key)?;
        let cipher = self.cipher(false).await?;
        let range = if cipher.is_some() { Self::sealed_range(&(0..len)) } else { 0..len };
        let mut call = self.call("reading", key, range.end - range.start);
        let stored = call.run(|limit| self.attempt_get_up_to(&path, range.clone(), limit)).await?;
        match cipher {
            Some(cipher) => self.unsealed_beginning(cipher, key, &stored),
            None => Ok(stored),
        }
    }

    pub(crate) fn call(&self, doing: &'static str, key: &str, body: u64) -> Call<'_> {
        Call::new(&self.options, &self.jitter, &self.shared.circuit, doing, self.target(key), body)
    }

    pub(crate) fn too_large(&self, what: &str, size: u64) -> Failure {
        Failure::too_large(what, size, "bytes", "with_max_object_bytes", self.options.max_object_bytes)
    }
}
