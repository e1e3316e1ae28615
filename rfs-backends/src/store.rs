//! The handle: keys in, bytes out, over any object store.

use crate::{
    Meter, RequestKind, StoreError, StoreErrorKind, StoreOptions,
    call::{Call, Jitter, Limit},
    classify::Failure,
    compress::{Tables, is_compressed},
    metrics::Request,
    policy::{self, Repeat},
    seal::Cipher,
    shared::Shared,
    url,
};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    future::{Either, select},
};
use object_store::{
    GetOptions, GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    multipart::MultipartStore, path::Path,
};
use std::{fmt, future::Future, ops::Range, sync::Arc, time::Duration};
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::Instant,
};

/// Keys of one listing page of S3, by which listings are counted.
const KEYS_PER_PAGE: usize = 1000;

/// The longest part of a key between two slashes: no local file name may be longer.
const LONGEST_SEGMENT: usize = 255;

/// The longest key with its prefix: S3 takes no longer one.
const LONGEST_KEY: usize = 1024;

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
    /// The size in bytes.
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

    /// The backend's path of a key. Refused is what some store can't take, so that a volume can move to any store.
    pub(crate) fn path(&self, doing: &'static str, key: &str) -> Result<Path, StoreError> {
        let refuse =
            |why: &str| Err(StoreError::new(StoreErrorKind::BadKey, doing, self.target(key), why, None));
        // The parser forgives a slash at either end; two names for one object would be one too many.
        let slashed = key.is_empty() || key.starts_with('/') || key.ends_with('/');
        let Some(relative) = Path::parse(key).ok().filter(|_| !slashed) else {
            return refuse("a part is empty, `.`, `..`, or has a control character");
        };
        for segment in relative.as_ref().split('/') {
            if segment.len() > LONGEST_SEGMENT {
                return refuse("a part is over 255 bytes");
            }
            let digits = segment.rsplit_once('#').map(|(_, digits)| digits);
            if digits
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            {
                return refuse("a part ends in `#` and digits, which file:// keeps for unfinished files");
            }
        }
        if self.prefix.as_ref().is_empty() {
            return Ok(relative);
        }
        if self.prefix.as_ref().len() + 1 + relative.as_ref().len() > LONGEST_KEY {
            return refuse("the key with its prefix is over 1024 bytes");
        }
        match Path::parse(format!("{}/{relative}", self.prefix)) {
            Ok(path) => Ok(path),
            Err(_) => refuse("the store's prefix is malformed"),
        }
    }

    fn target(&self, key: &str) -> String {
        let key = crate::error::shorten(key);
        if key.is_empty() {
            return self.url.clone();
        }
        format!("{}{}{key}", self.url, if self.url.ends_with('/') { "" } else { "/" })
    }

    /// The key of a backend's path, or nothing for what does not lie under the prefix.
    fn key_of(&self, path: &Path) -> Option<String> {
        let prefix = self.prefix.as_ref();
        let key = if prefix.is_empty() {
            path.as_ref()
        } else {
            path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?
        };
        (!key.is_empty()).then(|| key.to_owned())
    }

    pub(crate) fn too_large(&self, what: &str, size: u64) -> Failure {
        Failure::too_large(what, size, "bytes", "with_max_object_bytes", self.options.max_object_bytes)
    }

    /// Waits for its turn among the concurrent requests.
    pub(crate) async fn permit(&self, limit: &Limit) -> Result<SemaphorePermit<'_>, Failure> {
        let permit = tokio::time::timeout_at(limit.deadline(), self.permits.acquire()).await;
        match permit {
            // A turn that comes with the deadline comes too late: nobody would wait for the answer.
            Ok(Ok(permit)) if Instant::now() < limit.deadline() => Ok(permit),
            _ => Err(Failure::unasked(
                policy::SILENT,
                format!("all {} concurrent requests are busy", self.options.concurrency),
            )),
        }
    }

    pub(crate) async fn attempt_put(
        &self,
        path: &Path,
        payload: PutPayload,
        mode: PutMode,
        limit: Limit,
    ) -> Result<(), Failure> {
        let bytes = payload.content_length() as u64;
        self.may_send(bytes, &limit).await;
        let _permit = self.permit(&limit).await?;
        let request = self.shared.meter.request(RequestKind::Put, bytes);
        let put = self.backend.put_opts(path, payload, mode.into());
        request.done(within(limit.until(self.options.allowance(bytes)), put).await)?;
        Ok(())
    }

    /// Reads an object or exactly a range of it.
    pub(crate) async fn attempt_get(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
        limit: Limit,
    ) -> Result<Bytes, Failure> {
        self.attempt_read(path, range, true, limit).await
    }

    /// Reads a range of an object, or what there is of it before the object ends.
    pub(crate) async fn attempt_get_up_to(
        &self,
        path: &Path,
        range: Range<u64>,
        limit: Limit,
    ) -> Result<Bytes, Failure> {
        self.attempt_read(path, Some(range), false, limit).await
    }

    async fn attempt_read(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
        exactly: bool,
        limit: Limit,
    ) -> Result<Bytes, Failure> {
        if let Some(range) = &range {
            self.may_receive(range.end - range.start, &limit).await;
        }
        let permit = self.permit(&limit).await?;
        let mut request = self.shared.meter.request(RequestKind::Get, 0);
        let options = GetOptions::new().with_range(range.clone());
        match within(limit.until(Duration::ZERO), self.answer(path, options, &mut request)).await {
            Ok(answer) => {
                request.answered();
                let taken = self.taken(answer, range, exactly, limit, request.kind()).await;
                request.ended(taken)
            }
            Err(failure) => {
                drop(permit);
                let failed = request.done::<Bytes>(Err(failure));
                match (failed, range) {
                    (Err(failure), Some(range)) => {
                        Err(self.explain_range(path, &range, failure, limit).await)
                    }
                    (failed, _) => failed,
                }
            }
        }
    }

    /// The bytes of an answer, if it is one to what was asked.
    async fn taken(
        &self,
        answer: GetResult,
        range: Option<Range<u64>>,
        exactly: bool,
        limit: Limit,
        kind: RequestKind,
    ) -> Result<Bytes, Failure> {
        let ranged = range.is_some();
        let length = answer.range.end.saturating_sub(answer.range.start);
        if let Some(range) = range {
            let is_whole = answer.range.end == range.end
                || (!exactly && answer.range.end == answer.meta.size.min(range.end));
            if answer.range.start != range.start || !is_whole {
                return Err(short_object(&range, answer.meta.size));
            }
        } else if length > self.options.max_object_bytes {
            return Err(self.too_large("an object", length));
        }
        let further = self.options.allowance(length);
        // The length of a range was known, and granted, when the call began.
        let limit = if ranged { limit } else { limit.extended(further) };
        let pace = (!ranged).then_some(&limit);
        self.body(answer, length, kind, limit.until(further), pace).await
    }

    /// A range beyond an object's end is refused by each backend in its own words; the size tells it apart from an
    /// outage.
    async fn explain_range(
        &self,
        path: &Path,
        range: &Range<u64>,
        failure: Failure,
        limit: Limit,
    ) -> Failure {
        use StoreErrorKind::{Other, Truncated, Unreachable};
        let open = matches!(failure.kind, Unreachable | Truncated | Other);
        // Who asks for rest knows the request, and is not asked more.
        if !open || failure.repeat == Repeat::Slower {
            return failure;
        }
        match self.attempt_head(path, limit).await {
            Ok(meta) if meta.size < range.end => short_object(range, meta.size),
            _ => failure,
        }
    }

    /// The first answer to a get; a second request is made if it is late. `request` becomes the one that it came to.
    async fn answer(
        &self,
        path: &Path,
        options: GetOptions,
        request: &mut Request,
    ) -> object_store::Result<GetResult> {
        let hedges = &self.shared.hedges;
        let begun = Instant::now();
        let patience = hedges.patience(&self.options);
        let mut first = self.backend.get_opts(path, options.clone());
        let answered = match patience {
            None => first.await,
            Some(patience) => match tokio::time::timeout(patience, &mut first).await {
                Ok(outcome) => outcome,
                Err(_) => self.hedged(path, options, first, request).await,
            },
        };
        if answered.is_ok() {
            hedges.note(begun.elapsed());
        }
        answered
    }

    /// Asks once more for what `first` asked, if the limits allow for it, and takes the first answer.
    async fn hedged(
        &self,
        path: &Path,
        options: GetOptions,
        first: impl Future<Output = object_store::Result<GetResult>> + Unpin,
        request: &mut Request,
    ) -> object_store::Result<GetResult> {
        // Where requests wait for their turn already, more of them make nothing faster.
        let Ok(_permit) = self.permits.try_acquire() else { return first.await };
        if !self.shared.hedges.pay() {
            return first.await;
        }
        tracing::debug!(%path, "the answer is late and is asked for once more");
        let hedge = self.shared.meter.request(RequestKind::Hedge, 0);
        let second = self.backend.get_opts(path, options);
        let by_second = match select(first, second).await {
            Either::Left((Ok(answer), _)) => return Ok(answer),
            Either::Right((Ok(answer), _)) => Ok(answer),
            // One that failed is no answer as long as the other may succeed; of two failures the first one counts.
            Either::Left((Err(failed), second)) => second.await.map_err(|_| failed),
            Either::Right((Err(failed), first)) => return first.await.map_err(|_| failed),
        };
        if by_second.is_ok() {
            *request = hedge;
        }
        by_second
    }

    /// The body of an answer, which is to be there at `until`. With a `pace` it waits for the bandwidth as it comes, and as
    /// much longer.
    async fn body(
        &self,
        answer: GetResult,
        length: u64,
        kind: RequestKind,
        mut until: Instant,
        pace: Option<&Limit>,
    ) -> Result<Bytes, Failure> {
        let short = |got: u64| Failure::new(policy::CUT_SHORT, format!("{got} of {length} bytes came"));
        let mut stream = match answer.payload {
            GetResultPayload::Stream(stream) => stream,
            // One read of a length that is known to be allowed.
            GetResultPayload::File(..) => {
                self.paced(length, pace, &mut until).await;
                let bytes = within(until, answer.bytes()).await?;
                self.shared.meter.bytes(kind, bytes.len() as u64);
                return if bytes.len() as u64 == length { Ok(bytes) } else { Err(short(bytes.len() as u64)) };
            }
        };
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        let mut got = 0_u64;
        while let Some(chunk) = within(until, stream.try_next()).await? {
            self.shared.meter.bytes(kind, chunk.len() as u64);
            self.paced(chunk.len() as u64, pace, &mut until).await;
            got = got.saturating_add(chunk.len() as u64);
            if got > length {
                let detail = format!("more than the {length} bytes announced came");
                return Err(Failure::new(policy::SENSELESS, detail));
            }
            if first.is_empty() {
                first = chunk;
                continue;
            }
            if rest.is_empty() {
                // Believes an announced length only so far: what follows must first arrive.
                rest.reserve(usize::try_from(length).unwrap_or(usize::MAX).min(64 << 20));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
        }
        match got {
            got if got < length => Err(short(got)),
            _ if rest.is_empty() => Ok(first),
            _ => Ok(rest.into()),
        }
    }

    /// Waits until `bytes` more of a body may come in, and puts its end off by as long.
    async fn paced(&self, bytes: u64, pace: Option<&Limit>, until: &mut Instant) {
        let Some(limit) = pace else { return };
        let begun = Instant::now();
        self.may_receive(bytes, limit).await;
        *until += begun.elapsed();
    }

    pub(crate) async fn attempt_head(&self, path: &Path, limit: Limit) -> Result<ObjectMeta, Failure> {
        let _permit = self.permit(&limit).await?;
        let request = self.shared.meter.request(RequestKind::Head, 0);
        request.done(within(limit.until(Duration::ZERO), self.backend.head(path)).await)
    }

    async fn attempt_list(
        &self,
        below: &Path,
        after: Option<&Path>,
        mut limit: Limit,
    ) -> Result<Vec<ObjectInfo>, Failure> {
        let _permit = self.permit(&limit).await?;
        let mut request = self.shared.meter.request(RequestKind::List, 0);
        let below = (!below.as_ref().is_empty()).then_some(below);
        let mut stream = match after {
            Some(after) => self.backend.list_with_offset(below, after),
            None => self.backend.list(below),
        };
        let mut listed = Vec::new();
        let mut received = 0_usize;
        loop {
            let next = within(limit.until(Duration::ZERO), async { stream.next().await.transpose() }).await;
            if received == 0 && next.is_ok() {
                request.answered();
            }
            let meta = match next {
                Ok(Some(meta)) => meta,
                Ok(None) => return request.ended(Ok(listed)),
                Err(failure) => return request.ended(Err(failure)),
            };
            if received > 0 && received.is_multiple_of(KEYS_PER_PAGE) {
                let page = std::mem::replace(&mut request, self.shared.meter.request(RequestKind::List, 0));
                page.ended(Ok(()))?;
                limit = limit.extended_by_one();
            }
            received += 1;
            self.shared.meter.bytes(RequestKind::List, meta.location.as_ref().len() as u64);
            if received > self.options.max_listed {
                return request.ended(Err(Failure::too_large(
                    "a listing of at least",
                    received as u64,
                    "objects",
                    "with_max_listed",
                    self.options.max_listed as u64,
                )));
            }
            // Some stores list in another order than by key and so understand the offset in another way.
            if after.is_some_and(|after| meta.location.as_ref() <= after.as_ref()) {
                continue;
            }
            if let Some(key) = self.key_of(&meta.location) {
                let last_modified_ms = meta.last_modified.timestamp_millis();
                let size = self.content_len(&key, meta.size);
                listed.push(ObjectInfo { key, size, last_modified_ms });
            }
        }
    }

    async fn attempt_delete(&self, path: &Path, limit: Limit) -> Result<(), Failure> {
        let _permit = self.permit(&limit).await?;
        let request = self.shared.meter.request(RequestKind::Delete, 0);
        match request.done(within(limit.until(Duration::ZERO), self.backend.delete(path)).await) {
            Err(failure) if failure.kind == StoreErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

fn short_object(range: &Range<u64>, size: u64) -> Failure {
    let detail = format!("bytes {}..{} of an object of {size} bytes", range.start, range.end);
    Failure::new(policy::PAST_THE_END, detail)
}

/// A request's outcome, or that there was none in time.
pub(crate) async fn within<T>(
    until: Instant,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(until, request).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Failure::timed_out()),
    }
}
