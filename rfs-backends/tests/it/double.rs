//! A store in memory that misbehaves as told.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use rfs_backends::{Store, StoreOptions, object_store};
use std::{
    collections::VecDeque,
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What happens to one request. Requests for which nothing is scripted are served.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Serve,
    /// Executed, then the connection breaks.
    LoseReply,
    /// Executed, then nothing is ever heard.
    LoseReplySilently,
    /// Executed, and answered after so long.
    Delay(Duration),
    /// Not executed; the connection breaks.
    Fail,
    /// Not executed; refused for good.
    Deny,
    /// Not executed; refused as if the object, or a put of it, were there.
    Conflict,
    /// Another writes these bytes just before. Of a part: the store forgets the upload.
    Overtake(Bytes),
    Unimplemented,
}

/// How the store always behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    Good,
    IgnoresCreate,
    /// Checks and then writes, in two steps.
    RacesCreate,
    /// Ranges come back a byte short, with a header that says they are whole.
    TruncatesRanges,
    /// Every seventh key is left out of listings.
    HidesKeys,
}

#[derive(Debug)]
pub(crate) struct Double {
    memory: Arc<InMemory>,
    habit: Habit,
    puts: Mutex<VecDeque<Fault>>,
    gets: Mutex<VecDeque<Fault>>,
    /// Faults of all puts after the scripted ones.
    then: Mutex<Fault>,
    parts: Arc<Mutex<VecDeque<Fault>>>,
    completions: Mutex<VecDeque<Fault>>,
    abortions: Mutex<VecDeque<Fault>>,
    requests: AtomicU64,
    aborts: Arc<AtomicU64>,
    /// Uploads that hold parts.
    open: Arc<AtomicU64>,
    /// The numbers of the parts that arrived.
    arrived: Mutex<Vec<usize>>,
}

impl Double {
    pub(crate) fn new(habit: Habit) -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::default(),
            habit,
            puts: Mutex::default(),
            gets: Mutex::default(),
            then: Mutex::new(Fault::Serve),
            parts: Arc::default(),
            completions: Mutex::default(),
            abortions: Mutex::default(),
            requests: AtomicU64::new(0),
            aborts: Arc::default(),
            open: Arc::default(),
            arrived: Mutex::default(),
        })
    }

    pub(crate) fn scripted(puts: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        let double = Self::new(Habit::Good);
        double.script_puts(puts);
        double
    }

    pub(crate) fn script_puts(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.puts.lock().unwrap() = faults.into_iter().collect();
    }

    pub(crate) fn script_gets(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.gets.lock().unwrap() = faults.into_iter().collect();
    }

    pub(crate) fn script_parts(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.parts.lock().unwrap() = faults.into_iter().collect();
    }

    pub(crate) fn script_completions(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.completions.lock().unwrap() = faults.into_iter().collect();
    }

    pub(crate) fn script_abortions(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.abortions.lock().unwrap() = faults.into_iter().collect();
    }

    /// What happens to puts once the script is through.
    pub(crate) fn then(&self, fault: Fault) {
        *self.then.lock().unwrap() = fault;
    }

    pub(crate) fn store(self: &Arc<Self>, options: StoreOptions) -> Store {
        Store::new(Arc::<Self>::clone(self), "double://", Path::from("volume"), options)
    }

    /// The same store, where parts can be sent again.
    pub(crate) fn resumable(self: &Arc<Self>, options: StoreOptions) -> Store {
        self.store(options).with_multipart(Arc::<Self>::clone(self))
    }

    /// Requests that arrived, parts of uploads excepted.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn aborts(&self) -> u64 {
        self.aborts.load(Ordering::Relaxed)
    }

    /// Uploads that were begun, and neither completed nor aborted.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The numbers of the parts that a resumable upload sent, in the order of their arrival.
    pub(crate) fn parts(&self) -> Vec<usize> {
        self.arrived.lock().unwrap().clone()
    }

    /// What stands at a key of the store that [`store`](Self::store) made.
    pub(crate) async fn stands(&self, key: &str) -> Option<Bytes> {
        let found = self.memory.get(&Path::from(format!("volume/{key}"))).await.ok()?;
        Some(found.bytes().await.unwrap())
    }

    pub(crate) async fn objects(&self) -> usize {
        self.memory.list(None).count().await
    }

    fn arrived(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

fn broken() -> Error {
    Error::Generic { store: "double", source: "the connection broke".into() }
}

/// The error that a fault makes of a request that is not executed.
fn refusal(fault: &Fault, path: &Path) -> Option<Error> {
    let path = path.to_string();
    match fault {
        Fault::Fail => Some(broken()),
        Fault::Deny => Some(Error::PermissionDenied { path, source: "403".into() }),
        Fault::Conflict => Some(Error::AlreadyExists { path, source: "409".into() }),
        Fault::Unimplemented => {
            Some(Error::NotImplemented { operation: "this".into(), implementer: "double".into() })
        }
        Fault::Serve | Fault::LoseReply | Fault::LoseReplySilently | Fault::Delay(_) | Fault::Overtake(_) => {
            None
        }
    }
}

async fn reply<T>(fault: &Fault, outcome: Result<T>) -> Result<T> {
    match fault {
        Fault::LoseReply => Err(broken()),
        Fault::LoseReplySilently => pending().await,
        Fault::Delay(time) => {
            pause(*time).await;
            outcome
        }
        _ => outcome,
    }
}

#[expect(clippy::disallowed_methods, reason = "a delay that passes at once where time is paused")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Double({:?})", self.habit)
    }
}

#[async_trait]
impl ObjectStore for Double {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.arrived();
        let fault = self.puts.lock().unwrap().pop_front();
        let fault = fault.unwrap_or_else(|| self.then.lock().unwrap().clone());
        if let Some(error) = refusal(&fault, path) {
            return Err(error);
        }
        if let Fault::Overtake(bytes) = &fault {
            self.memory.put(path, bytes.clone().into()).await?;
        }
        let create = options.mode == PutMode::Create;
        match self.habit {
            Habit::IgnoresCreate => options.mode = PutMode::Overwrite,
            Habit::RacesCreate if create => {
                if self.memory.head(path).await.is_ok() {
                    return Err(Error::AlreadyExists { path: path.to_string(), source: "412".into() });
                }
                tokio::task::yield_now().await;
                options.mode = PutMode::Overwrite;
            }
            _ => {}
        }
        reply(&fault, self.memory.put_opts(path, payload, options).await).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.arrived();
        let upload = self.memory.put_multipart_opts(path, options).await?;
        self.open.fetch_add(1, Ordering::Relaxed);
        let (faults, aborts) = (Arc::clone(&self.parts), Arc::clone(&self.aborts));
        Ok(Box::new(Upload { sink: upload, faults, aborts, open: Arc::clone(&self.open) }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.arrived();
        let fault = self.gets.lock().unwrap().pop_front().unwrap_or(Fault::Serve);
        if let Some(error) = refusal(&fault, path) {
            return Err(error);
        }
        let ranged = options.range.is_some();
        let mut found = self.memory.get_opts(path, options).await?;
        if ranged && self.habit == Habit::TruncatesRanges {
            let GetResultPayload::Stream(stream) = found.payload else { unreachable!("memory streams") };
            let cut = |bytes: Bytes| bytes.slice(..bytes.len().saturating_sub(1));
            found.payload = GetResultPayload::Stream(stream.map_ok(cut).boxed());
        }
        reply(&fault, Ok(found)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.arrived();
        self.memory.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.arrived();
        let hides = self.habit == Habit::HidesKeys;
        let mut number = 0_u64;
        let seen = self.memory.list(prefix).try_filter(move |_| {
            number += 1;
            std::future::ready(!(hides && number.is_multiple_of(7)))
        });
        seen.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.arrived();
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.arrived();
        self.memory.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    sink: Box<dyn MultipartUpload>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    aborts: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::Serve);
        if let Some(error) = refusal(&fault, &Path::from("part")) {
            return Box::pin(async move { Err(error) });
        }
        let sent = self.sink.put_part(payload);
        Box::pin(async move { reply(&fault, sent.await).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.sink.complete().await?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.aborts.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.sink.abort().await
    }
}

#[async_trait]
impl MultipartStore for Double {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.memory.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        number: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.arrived.lock().unwrap().push(number);
        let fault = self.parts.lock().unwrap().pop_front().unwrap_or(Fault::Serve);
        if let Some(error) = refusal(&fault, path) {
            return Err(error);
        }
        // As if the store had forgotten the upload.
        if let Fault::Overtake(_) = fault {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.memory.abort_multipart(path, id).await?;
            return Err(Error::NotFound { path: path.to_string(), source: "NoSuchUpload".into() });
        }
        reply(&fault, self.memory.put_part(path, id, number, data).await).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let fault = self.completions.lock().unwrap().pop_front().unwrap_or(Fault::Serve);
        if let Some(error) = refusal(&fault, path) {
            return Err(error);
        }
        let gone = |_| Error::NotFound { path: path.to_string(), source: "NoSuchUpload".into() };
        let completed = self.memory.complete_multipart(path, id, parts).await.map_err(gone)?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        reply(&fault, Ok(completed)).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.aborts.fetch_add(1, Ordering::Relaxed);
        let fault = self.abortions.lock().unwrap().pop_front().unwrap_or(Fault::Serve);
        if let Some(error) = refusal(&fault, path) {
            return Err(error);
        }
        let gone = |_| Error::NotFound { path: path.to_string(), source: "NoSuchUpload".into() };
        self.memory.abort_multipart(path, id).await.map_err(gone)?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}
