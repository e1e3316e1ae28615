//! An object store in memory that fails in every way that real ones do, when it is told to.
//!
//! The objects are shared by all [clients](SimStore::client) of a store. Crash plan, faults, counts and the network
//! are each client's own: so two clients are two machines that talk to one store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

use crate::crash::Verdict;
use crate::faults::{Faults, Hold, Waiting};
use crate::{CallKind, CrashPlan, CrashSide, Fault, ManualClock};

/// A store for tests. Clones are the same client.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use object_store::{ObjectStoreExt, PutMode, path::Path};
/// use rfs_testkit::{CallKind, CrashPlan, Fault, SimStore};
///
/// let store = SimStore::new(CrashPlan::never());
/// let path = Path::from("commits/1");
/// store.inject(CallKind::Put, 0, Fault::LostReply);
/// assert!(store.put(&path, "one".into()).await.is_err());
/// assert_eq!(store.object(&path).unwrap(), "one");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct SimStore(Arc<Client>);

#[derive(Debug)]
struct Client {
    plan: CrashPlan,
    clock: ManualClock,
    objects: Arc<Mutex<Objects>>,
    faults: Mutex<Faults>,
    late: Mutex<VecDeque<LatePut>>,
    counts: Mutex<StoreCounts>,
    calls: Mutex<Vec<String>>,
    next_upload: AtomicU64,
}

/// How often a store was asked by one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Puts of whole objects.
    pub puts: u64,
    /// Parts and completions of multipart uploads.
    pub multipart: u64,
    /// Gets and heads.
    pub gets: u64,
    /// Lists.
    pub lists: u64,
    /// Deletes.
    pub deletes: u64,
    /// Copies.
    pub copies: u64,
    /// Bytes in puts and parts.
    pub bytes_put: u64,
    /// Bytes in answers to gets.
    pub bytes_got: u64,
}

impl StoreCounts {
    /// All requests together.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.puts + self.multipart + self.gets + self.lists + self.deletes + self.copies
    }
}

#[derive(Debug, Default)]
struct Objects {
    map: BTreeMap<Path, Object>,
    last_etag: u64,
}

#[derive(Clone, Debug)]
struct Object {
    content: Bytes,
    attributes: Attributes,
    etag: u64,
    modified_nanos: i64,
}

#[derive(Debug)]
struct LatePut {
    path: Path,
    content: Bytes,
    options: PutOptions,
}

impl SimStore {
    /// An empty store and its first client.
    #[must_use]
    pub fn new(plan: CrashPlan) -> Self {
        Self::with_clock(plan, ManualClock::default())
    }

    /// The same; objects get their times of modification from `clock`.
    #[must_use]
    pub fn with_clock(plan: CrashPlan, clock: ManualClock) -> Self {
        Self::connect(plan, clock, Arc::default())
    }

    /// Another client of the same store: after a crash, the next machine; before, a second one.
    #[must_use]
    pub fn client(&self, plan: CrashPlan) -> Self {
        Self::connect(plan, self.0.clock.clone(), self.0.objects.clone())
    }

    /// The call of this kind after `skip` more ones meets a fault.
    pub fn inject(&self, kind: CallKind, skip: u64, fault: Fault) {
        self.0.faults.lock().inject(kind, skip, fault);
    }

    /// While offline, every call of this client fails and has no effect.
    pub fn set_offline(&self, offline: bool) {
        self.0.faults.lock().offline = offline;
    }

    /// Deleting what is not there is an error (as on GCS, Azure and a local disk) or not (as on S3; the default).
    pub fn set_delete_missing_fails(&self, fails: bool) {
        self.0.faults.lock().delete_missing_fails = fails;
    }

    /// Stops this client's next put before it has any effect, until the [`Hold`] lets it go: a machine that falls
    /// asleep just before its put.
    pub fn hold_next_put(&self) -> Hold {
        self.0.faults.lock().hold_next_put()
    }

    /// Performs the puts that met [`Fault::Late`], in order: requests that were under way when their sender gave
    /// up. Yields what the store would have answered.
    pub fn deliver_late_puts(&self) -> Vec<Result<PutResult>> {
        let late: Vec<_> = self.0.late.lock().drain(..).collect();
        late.into_iter().map(|put| self.apply_put(&put.path, &put.content, put.options)).collect()
    }

    /// How often this client asked.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        *self.0.counts.lock()
    }

    /// Every call of this client, as text.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.0.calls.lock().clone()
    }

    /// The paths of all objects, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        self.0.objects.lock().map.keys().cloned().collect()
    }

    /// The content of an object.
    #[must_use]
    pub fn object(&self, path: &Path) -> Option<Bytes> {
        self.0.objects.lock().map.get(path).map(|object| object.content.clone())
    }

    /// Puts an object behind everyone's back.
    pub fn set_object(&self, path: &Path, content: impl Into<Bytes>) {
        self.insert(path, content.into(), Attributes::default());
    }

    /// Deletes an object behind everyone's back; says whether it was there.
    pub fn remove_object(&self, path: &Path) -> bool {
        self.0.objects.lock().map.remove(path).is_some()
    }

    /// Flips one bit of an object. Bit 0 is the lowest of the first byte.
    ///
    /// # Panics
    /// When there is no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) {
        self.damage(path, |content| content[(bit / 8) as usize] ^= 1 << (bit % 8));
    }

    /// Cuts an object off.
    ///
    /// # Panics
    /// When there is no such object.
    pub fn truncate(&self, path: &Path, len: usize) {
        self.damage(path, |content| content.truncate(len));
    }

    fn connect(plan: CrashPlan, clock: ManualClock, objects: Arc<Mutex<Objects>>) -> Self {
        Self(Arc::new(Client {
            plan,
            clock,
            objects,
            faults: Mutex::default(),
            late: Mutex::default(),
            counts: Mutex::default(),
            calls: Mutex::default(),
            next_upload: AtomicU64::new(0),
        }))
    }

    fn damage(&self, path: &Path, damage: impl Fn(&mut Vec<u8>)) {
        let mut objects = self.0.objects.lock();
        let object = objects.map.get_mut(path).unwrap_or_else(|| panic!("no object {path}"));
        let mut content = object.content.to_vec();
        damage(&mut content);
        object.content = content.into();
    }

    /// Every call passes here before its effect: the network, the faults, then the crash.
    async fn call<T>(
        &self,
        kind: CallKind,
        what: String,
        act: impl FnOnce(Option<&Fault>) -> Result<T>,
    ) -> Result<T> {
        self.note(&what);
        if self.0.plan.crashed() {
            return Err(dead());
        }
        let Waiting { hold, fault, offline } = self.0.faults.lock().meet(kind);
        if offline {
            return Err(failure("the network is down"));
        }
        if let Some(hold) = hold {
            hold.wait().await;
        }
        if let Some(Fault::Delay(duration)) = fault {
            pause(duration).await;
        }
        let verdict = match kind {
            CallKind::Get | CallKind::List if self.0.plan.crashed() => Verdict::Dead,
            CallKind::Get | CallKind::List => Verdict::Run,
            _ => self.0.plan.enter(|| what.clone()),
        };
        match verdict {
            Verdict::Dead => return Err(dead()),
            Verdict::Crash(side, mut rng) => {
                if side == CrashSide::After || side == CrashSide::Partly && rng.chance(50) {
                    // The crash hides whether it went well.
                    _ = act(None);
                }
                return Err(dead());
            }
            Verdict::Run => {}
        }
        match fault {
            None | Some(Fault::Delay(_)) => act(None),
            Some(Fault::Refused) => Err(failure("503 slow down (injected)")),
            Some(Fault::LostReply) => {
                act(None)?;
                Err(failure("connection reset after the request was done (injected)"))
            }
            Some(fault @ (Fault::AlreadyExists | Fault::Late)) => act(Some(&fault)),
        }
    }

    fn note(&self, what: &str) {
        self.0.calls.lock().push(what.to_owned());
    }

    fn count(&self, count: impl FnOnce(&mut StoreCounts)) {
        count(&mut self.0.counts.lock());
    }

    fn apply_put(&self, path: &Path, content: &Bytes, options: PutOptions) -> Result<PutResult> {
        let etag = self.0.objects.lock().map.get(path).map(|object| object.etag);
        match (options.mode, etag) {
            (PutMode::Create, Some(_)) => return Err(exists(path)),
            (PutMode::Update(wanted), etag) if etag.is_none() || wanted.e_tag != etag.map(etag_text) => {
                let source = "the object is not the one that was to be replaced".into();
                return Err(Error::Precondition { path: path.to_string(), source });
            }
            _ => {}
        }
        Ok(self.insert(path, content.clone(), options.attributes))
    }

    fn insert(&self, path: &Path, content: Bytes, attributes: Attributes) -> PutResult {
        let modified_nanos = self.0.clock.now_nanos();
        let mut objects = self.0.objects.lock();
        objects.last_etag += 1;
        let etag = objects.last_etag;
        objects.map.insert(path.clone(), Object { content, attributes, etag, modified_nanos });
        PutResult { e_tag: Some(etag_text(etag)), version: None, extensions: Extensions::default() }
    }

    /// What lies below `prefix`, in the order of the keys' bytes.
    fn below(&self, prefix: Option<&Path>) -> Vec<ObjectMeta> {
        let root = Path::default();
        let prefix = prefix.unwrap_or(&root);
        let objects = self.0.objects.lock();
        let below = objects
            .map
            .iter()
            .filter(|(path, _)| path.prefix_match(prefix).is_some_and(|mut parts| parts.next().is_some()));
        below.map(|(path, object)| object.meta(path)).collect()
    }

    fn list_stream(&self, what: String, prefix: Option<Path>, after: Option<Path>) -> Listing {
        let store = self.clone();
        let listing = async move {
            store.count(|counts| counts.lists += 1);
            let list = |_: Option<&Fault>| Ok(store.below(prefix.as_ref()));
            let found = store.call(CallKind::List, what, list).await?;
            let wanted = found
                .into_iter()
                .filter(move |meta| after.as_ref().is_none_or(|after| meta.location > *after));
            Ok::<_, Error>(stream::iter(wanted.map(Ok)))
        };
        listing.into_stream().try_flatten().boxed()
    }

    async fn delete_one(&self, path: Path) -> Result<Path> {
        self.count(|counts| counts.deletes += 1);
        let strict = self.0.faults.lock().delete_missing_fails;
        let delete = |_: Option<&Fault>| {
            if !self.remove_object(&path) && strict { Err(not_found(&path)) } else { Ok(()) }
        };
        self.call(CallKind::Delete, format!("delete {path}"), delete).await?;
        Ok(path)
    }
}

type Listing = BoxStream<'static, Result<ObjectMeta>>;

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let content = Bytes::from(payload);
        self.count(|counts| {
            counts.puts += 1;
            counts.bytes_put += content.len() as u64;
        });
        let create = if options.mode == PutMode::Create { " if absent" } else { "" };
        let what = format!("put {path} ({} bytes){create}", content.len());
        let put = |fault: Option<&Fault>| match fault {
            Some(Fault::Late) => {
                self.0.late.lock().push_back(LatePut { path: path.clone(), content, options });
                Err(failure("timed out (injected; the request is still under way)"))
            }
            Some(Fault::AlreadyExists) => {
                self.apply_put(path, &content, options)?;
                Err(exists(path))
            }
            _ => self.apply_put(path, &content, options),
        };
        self.call(CallKind::Put, what, put).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count(|counts| counts.multipart += 1);
        self.call(CallKind::Multipart, format!("begin multipart {path}"), |_| Ok(())).await?;
        let number = self.0.next_upload.fetch_add(1, Ordering::Relaxed);
        let parts = Arc::default();
        let attributes = options.attributes;
        Ok(Box::new(Upload {
            store: self.clone(),
            path: path.clone(),
            attributes,
            number,
            parts,
            next_part: 0,
        }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.count(|counts| counts.gets += 1);
        let what =
            if options.head { format!("head {path}") } else { format!("get {path} {:?}", options.range) };
        let get = |_: Option<&Fault>| {
            let object = self.0.objects.lock().map.get(path).cloned().ok_or_else(|| not_found(path))?;
            let meta = object.meta(path);
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                None => 0..meta.size,
                Some(range) => bounded(range, meta.size)?,
            };
            let content = if options.head {
                Bytes::new()
            } else {
                object.content.slice(range.start as usize..range.end as usize)
            };
            self.count(|counts| counts.bytes_got += content.len() as u64);
            let payload = GetResultPayload::Stream(stream::iter([Ok(content)]).boxed());
            let attributes = object.attributes;
            Ok(GetResult { payload, meta, range, attributes, extensions: Extensions::default() })
        };
        self.call(CallKind::Get, what, get).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        paths
            .then(move |path| {
                let store = store.clone();
                async move { store.delete_one(path?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> Listing {
        self.list_stream(format!("list {}", show(prefix)), prefix.cloned(), None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> Listing {
        let what = format!("list {} after {offset}", show(prefix));
        self.list_stream(what, prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let root = Path::default();
        let base = prefix.unwrap_or(&root);
        let what = format!("list {} by delimiter", show(prefix));
        self.count(|counts| counts.lists += 1);
        let found = self.call(CallKind::List, what, |_| Ok(self.below(prefix))).await?;
        let mut common = BTreeSet::new();
        let mut objects = Vec::new();
        for meta in found {
            let mut parts = meta.location.prefix_match(base).into_iter().flatten();
            if let (Some(first), Some(_)) = (parts.next(), parts.next()) {
                common.insert(base.clone().join(first));
            } else {
                drop(parts);
                objects.push(meta);
            }
        }
        let common_prefixes = common.into_iter().collect();
        Ok(ListResult { common_prefixes, objects, extensions: Extensions::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count(|counts| counts.copies += 1);
        let copy = |_: Option<&Fault>| {
            let object = self.0.objects.lock().map.get(from).cloned().ok_or_else(|| not_found(from))?;
            let mode = match options.mode {
                CopyMode::Overwrite => PutMode::Overwrite,
                CopyMode::Create => PutMode::Create,
            };
            let options = PutOptions { mode, attributes: object.attributes, ..PutOptions::default() };
            self.apply_put(to, &object.content, options).map(|_| ())
        };
        self.call(CallKind::Copy, format!("copy {from} to {to}"), copy).await
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[derive(Debug)]
struct Upload {
    store: SimStore,
    path: Path,
    attributes: Attributes,
    number: u64,
    parts: Arc<Mutex<BTreeMap<usize, Bytes>>>,
    next_part: usize,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (store, parts, part) = (self.store.clone(), self.parts.clone(), self.next_part);
        self.next_part += 1;
        let content = Bytes::from(payload);
        let what = format!("part {part} of upload {} {} ({} bytes)", self.number, self.path, content.len());
        async move {
            store.count(|counts| {
                counts.multipart += 1;
                counts.bytes_put += content.len() as u64;
            });
            let put = |_: Option<&Fault>| {
                parts.lock().insert(part, content);
                Ok(())
            };
            store.call(CallKind::Multipart, what, put).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.count(|counts| counts.multipart += 1);
        let what = format!("complete upload {} {}", self.number, self.path);
        let complete = |_: Option<&Fault>| {
            let parts = self.parts.lock();
            if parts.len() != self.next_part {
                return Err(failure("a part of the multipart upload is missing"));
            }
            let content: Vec<u8> = parts.values().flatten().copied().collect();
            Ok(self.store.insert(&self.path, content.into(), self.attributes.clone()))
        };
        self.store.call(CallKind::Multipart, what, complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.count(|counts| counts.multipart += 1);
        let what = format!("abort upload {} {}", self.number, self.path);
        let abort = |_: Option<&Fault>| {
            self.parts.lock().clear();
            Ok(())
        };
        self.store.call(CallKind::Multipart, what, abort).await
    }
}

impl Object {
    fn meta(&self, path: &Path) -> ObjectMeta {
        #[expect(clippy::default_trait_access, reason = "the type is of a crate that is no dependency here")]
        let mut meta = ObjectMeta {
            location: path.clone(),
            last_modified: Default::default(),
            size: self.content.len() as u64,
            e_tag: Some(etag_text(self.etag)),
            version: None,
        };
        // The default is 1970-01-01, where the clock counts from.
        meta.last_modified += Duration::from_nanos(self.modified_nanos.max(0).unsigned_abs());
        meta
    }
}

fn bounded(range: &GetRange, len: u64) -> Result<Range<u64>> {
    let range = match range {
        GetRange::Bounded(range) if range.start < range.end => range.start..range.end.min(len),
        GetRange::Bounded(_) => len..len,
        GetRange::Offset(start) => *start..len,
        GetRange::Suffix(suffix) => len.saturating_sub(*suffix)..len,
    };
    if range.start < range.end || matches!(range, Range { start: 0, end: 0 }) && len == 0 {
        return Ok(range);
    }
    Err(failure("416 the range lies outside of the object"))
}

#[expect(clippy::disallowed_methods, reason = "a simulated delay, which passes at once where time is paused")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn show(prefix: Option<&Path>) -> &str {
    prefix.map_or("/", AsRef::as_ref)
}

fn etag_text(etag: u64) -> String {
    format!("\"{etag}\"")
}

fn failure(text: &'static str) -> Error {
    Error::Generic { store: "SimStore", source: text.into() }
}

fn dead() -> Error {
    failure("the simulated machine has crashed")
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "409 the object exists".into() }
}

fn not_found(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "404 no such object".into() }
}
