//! The store as a process reaches it: through a network with a weather.
//!
//! What a request does to the store happens in the world, not in its sender: who gives up, dies or sleeps does not stop it
//! any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

use super::machine::Process;
use super::weather::{Fate, Outcome};
use crate::crash::Verdict;
use crate::{CallKind, CrashSide, SimStore};

/// How long after it was made an object may be missing in a stale listing.
const STALE: Duration = Duration::from_secs(60);

/// A store behind a network, for one process.
#[derive(Clone, Debug)]
pub struct Network {
    process: Process,
}

/// What comes back of a request.
enum Answer<T> {
    Whole(T),
    /// Only so many thousandths of it.
    Cut(T, u64),
    Stale(T),
}

impl Network {
    pub(super) const fn new(process: Process) -> Self {
        Self { process }
    }

    fn inner(&self) -> &SimStore {
        self.process.world().store()
    }

    fn note(&self, what: &str, how: &str) {
        self.process.world().note(&format!("{}: {what}: {how}", self.process.name()));
    }

    /// Sends a request, unless the process is dead, and as soon as it is awake.
    async fn call<T: Send + 'static>(
        &self,
        kind: CallKind,
        create: bool,
        what: String,
        act: BoxFuture<'static, Result<T>>,
    ) -> Result<Answer<T>> {
        if !self.process.may_send(kind).await {
            return Err(dead());
        }
        let world = self.process.world().clone();
        match self.process.plan().enter(|| what.clone()) {
            Verdict::Dead => return Err(dead()),
            Verdict::Crash(side, mut rng) => {
                let arrives = side == CrashSide::After || side == CrashSide::Partly && rng.chance(50);
                self.note(&what, if arrives { "dies after sending it" } else { "dies before sending it" });
                world.count("crashes in a request");
                // It tells the trace.
                _ = self.process.is_dead();
                if arrives {
                    // The crash hides whether it went well.
                    _ = act.await;
                }
                return Err(dead());
            }
            Verdict::Run => {}
        }
        let Fate { there, back, outcome } = world.fate(kind, create);
        if there + back > Duration::from_secs(6) {
            world.count("requests that took seconds");
        }
        let (name, on_its_way) = (format!("{}: {what}", self.process.name()), world.clone());
        let travel = world.spawn(async move {
            let world = on_its_way;
            world.pause(there).await;
            let arrived = if world.is_bucket_gone() {
                world.count("requests without a bucket");
                Err(failure("503 the bucket is out of reach (simulated)"))
            } else {
                arrive(&world, &name, outcome, act).await
            };
            let how = match &arrived {
                Ok(_) => "done".to_owned(),
                Err(error) => error.to_string(),
            };
            world.note(&format!("{name}: {how}"));
            world.pause(back).await;
            arrived
        });
        let answer = travel.await;
        // An answer reaches nobody who sleeps, and no one who is dead.
        if self.process.awake().await { answer } else { Err(dead()) }
    }

    fn list_from(&self, what: String, listing: BoxStream<'static, Result<ObjectMeta>>) -> Listing {
        let network = self.clone();
        let fresh_from = self.process.world().clock().now_nanos() - STALE.as_nanos() as i64;
        let pages = async move {
            let all = listing.try_collect::<Vec<_>>().boxed();
            let answer = network.call(CallKind::List, false, what, all).await?;
            let (found, breaks) = match answer {
                Answer::Whole(found) => (found, false),
                Answer::Cut(found, thousandths) => {
                    let kept = found.len() * thousandths as usize / 1_000;
                    (found.into_iter().take(kept).collect(), true)
                }
                Answer::Stale(found) => {
                    let old =
                        |meta: &ObjectMeta| meta.last_modified.timestamp_millis() < fresh_from / 1_000_000;
                    (found.into_iter().filter(old).collect(), false)
                }
            };
            let end = breaks.then(|| Err(failure("connection reset in the middle of a listing (simulated)")));
            Ok::<_, Error>(stream::iter(found.into_iter().map(Ok).chain(end)))
        };
        pages.into_stream().try_flatten().boxed()
    }
}

/// What becomes of a request that has reached the store, or not.
async fn arrive<T: Send + 'static>(
    world: &super::World,
    name: &str,
    outcome: Outcome,
    act: BoxFuture<'static, Result<T>>,
) -> Result<Answer<T>> {
    match outcome {
        Outcome::Served => act.await.map(Answer::Whole),
        Outcome::Refused => {
            world.count("requests refused (429, 503)");
            Err(failure("503 slow down (simulated)"))
        }
        Outcome::Lost => {
            world.count("requests lost");
            Err(failure("connection reset before the request was done (simulated)"))
        }
        Outcome::LostReply => {
            world.count("replies lost");
            act.await?;
            Err(failure("connection reset after the request was done (simulated)"))
        }
        Outcome::Late(after) => {
            world.count("requests done late");
            let (late, name) = (world.clone(), name.to_owned());
            // Nobody hears of it.
            drop(world.spawn(async move {
                late.pause(after).await;
                let how = if act.await.is_ok() { "done late" } else { "refused late" };
                late.note(&format!("{name}: {how}"));
            }));
            Err(failure("timed out, and still under way (simulated)"))
        }
        Outcome::Conflict => {
            world.count("conflicts with nothing (409, 412)");
            Err(conflict())
        }
        Outcome::Twice => {
            world.count("conflicts with oneself (409, 412)");
            act.await?;
            Err(conflict())
        }
        Outcome::Cut(thousandths) => {
            world.count("answers cut off");
            act.await.map(|answer| Answer::Cut(answer, thousandths))
        }
        Outcome::Stale => {
            world.count("stale listings");
            act.await.map(Answer::Stale)
        }
    }
}

type Listing = BoxStream<'static, Result<ObjectMeta>>;

/// An answer of which no part can be missing.
fn whole<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Whole(answer) | Answer::Cut(answer, _) | Answer::Stale(answer) => answer,
    }
}

#[async_trait]
impl ObjectStore for Network {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = options.mode == PutMode::Create;
        let if_absent = if create { " if absent" } else { "" };
        let what = format!("put {path} ({} bytes){if_absent}", payload.content_length());
        let (store, path) = (self.inner().clone(), path.clone());
        let act = async move { store.put_opts(&path, payload, options).await }.boxed();
        self.call(CallKind::Put, create, what, act).await.map(whole)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let what = format!("begin multipart {path}");
        let (store, of) = (self.inner().clone(), path.clone());
        let act = async move { store.put_multipart_opts(&of, options).await }.boxed();
        let upload = self.call(CallKind::Multipart, false, what, act).await.map(whole)?;
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        Ok(Box::new(Upload { network: self.clone(), path: path.clone(), inner: upload, parts: 0 }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let what =
            if options.head { format!("head {path}") } else { format!("get {path} {:?}", options.range) };
        let head = options.head;
        let (store, path) = (self.inner().clone(), path.clone());
        let act = async move { store.get_opts(&path, options).await }.boxed();
        match self.call(CallKind::Get, false, what, act).await? {
            Answer::Cut(GetResult { payload, meta, range, attributes, extensions }, thousandths) if !head => {
                let whole = GetResult {
                    payload,
                    meta: meta.clone(),
                    range: range.clone(),
                    attributes: attributes.clone(),
                    extensions: extensions.clone(),
                };
                let bytes = whole.bytes().await?;
                let payload = GetResultPayload::Stream(cut_off(&bytes, thousandths));
                Ok(GetResult { payload, meta, range, attributes, extensions })
            }
            answer => Ok(whole(answer)),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let network = self.clone();
        let delete = move |path: Result<Path>| {
            let network = network.clone();
            async move {
                let path = path?;
                let (store, one) = (network.inner().clone(), path.clone());
                let act = async move {
                    let deleted = store.delete_stream(stream::iter([Ok(one)]).boxed());
                    deleted.try_collect::<Vec<_>>().await
                };
                network.call(CallKind::Delete, false, format!("delete {path}"), act.boxed()).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> Listing {
        let what = format!("list {}", prefix.map_or("/", AsRef::as_ref));
        self.list_from(what, self.inner().list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> Listing {
        let what = format!("list {} after {offset}", prefix.map_or("/", AsRef::as_ref));
        self.list_from(what, self.inner().list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let what = format!("list {} by delimiter", prefix.map_or("/", AsRef::as_ref));
        let (store, prefix) = (self.inner().clone(), prefix.cloned());
        let act = async move { store.list_with_delimiter(prefix.as_ref()).await }.boxed();
        self.call(CallKind::Any, false, what, act).await.map(whole)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = options.mode == CopyMode::Create;
        let what = format!("copy {from} to {to}");
        let (store, from, to) = (self.inner().clone(), from.clone(), to.clone());
        let act = async move { store.copy_opts(&from, &to, options).await }.boxed();
        self.call(CallKind::Copy, create, what, act).await.map(whole)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the simulated store as {} reaches it", self.process.name())
    }
}

#[derive(Debug)]
struct Upload {
    network: Network,
    path: Path,
    inner: Arc<tokio::sync::Mutex<Box<dyn MultipartUpload>>>,
    parts: usize,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        self.parts += 1;
        let what = format!("part {} of {} ({} bytes)", self.parts, self.path, payload.content_length());
        // The number of a part is given here, in order, and nobody else has the upload now.
        let part = match self.inner.try_lock() {
            Ok(mut upload) => upload.put_part(payload),
            Err(_) => return async { Err(failure("a part after the end of its upload")) }.boxed(),
        };
        let network = self.network.clone();
        async move { network.call(CallKind::Multipart, false, what, part).await.map(whole) }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let upload = self.inner.clone();
        let act = async move { upload.lock().await.complete().await }.boxed();
        let what = format!("complete upload of {}", self.path);
        self.network.call(CallKind::Multipart, false, what, act).await.map(whole)
    }

    async fn abort(&mut self) -> Result<()> {
        let upload = self.inner.clone();
        let act = async move { upload.lock().await.abort().await }.boxed();
        let what = format!("abort upload of {}", self.path);
        self.network.call(CallKind::Multipart, false, what, act).await.map(whole)
    }
}

/// A body that ends early: with an error, or as if that were all.
fn cut_off(bytes: &Bytes, thousandths: u64) -> BoxStream<'static, Result<Bytes>> {
    let kept = bytes.slice(..bytes.len() * thousandths as usize / 1_000);
    let end = thousandths.is_multiple_of(2);
    let end = end.then(|| Err(failure("connection reset in the middle of a body (simulated)")));
    stream::iter([Ok(kept)].into_iter().chain(end)).boxed()
}

fn failure(text: &'static str) -> Error {
    Error::Generic { store: "Network", source: text.into() }
}

fn conflict() -> Error {
    Error::AlreadyExists { path: String::new(), source: "409 conflict (simulated)".into() }
}

/// Who is dead does not try again.
fn dead() -> Error {
    Error::PermissionDenied { path: String::new(), source: "the simulated process is dead".into() }
}
