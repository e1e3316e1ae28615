//! Bad input and failures: each is an error of its own kind, that names what it met and says what to do, and nothing
//! is half applied.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path as HostPath;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rfs::{At, Errno, Error, ErrorKind, Level, Options, Permissions, Store, StoreOptions, Volume};
use rfs_testkit::{CrashPlan, Rng, SimDisk, SimStore};

use crate::common::{listing, memory_url, options};
use crate::damage::{objects, on};

/// The error is of this kind, and its text has all of `parts`.
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn sim() -> SimStore {
    SimStore::new(CrashPlan::never())
}

fn with(sim: &SimStore, seed: u64) -> Options {
    options(seed).with_store(on(sim))
}

/// A volume with one committed file.
async fn made(sim: &SimStore) -> Volume {
    let volume = Volume::create("sim://", with(sim, 1)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.commit().await.unwrap();
    volume
}

/// Every way to open.
async fn openings(url: &str, options: impl Fn(u64) -> Options) -> [rfs::Result<Volume>; 4] {
    [
        Volume::create(url, options(11)).await,
        Volume::open(url, options(12)).await,
        Volume::open_or_create(url, options(13)).await,
        Volume::open_read_only(url, options(14), At::Head).await,
    ]
}

// The store.

#[tokio::test(start_paused = true)]
async fn an_unreachable_store() {
    let sim = sim();
    for existing in [false, true] {
        if existing {
            drop(made(&sim).await);
        }
        let before = objects(&sim);
        let offline = |seed| {
            let client = sim.client(CrashPlan::never());
            client.set_offline(true);
            let quick = StoreOptions::default().with_deadline(Duration::from_secs(5));
            options(seed).with_store(Store::new(Arc::new(client), "sim://far/away", Path::from("v"), quick))
        };
        let patience = Duration::from_secs(60);
        let opened = tokio::time::timeout(patience, openings("sim://far/away", offline)).await.unwrap();
        for opened in opened {
            says(
                &opened.unwrap_err(),
                ErrorKind::Outage,
                &["sim://far/away", "check endpoint and network", "try again"],
            );
        }
        assert_eq!(objects(&sim), before);
    }
}

/// Options of an S3 client for a server on loopback: static credentials, an explicit endpoint, and little patience.
fn s3(seed: u64, server: SocketAddr) -> Options {
    let store = StoreOptions::default()
        .with_endpoint(format!("http://{server}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("wrong")
        .with_secret_access_key("wrong too")
        .with_deadline(Duration::from_millis(300))
        .with_backoff(Duration::from_millis(1), Duration::from_millis(20));
    options(seed).with_store_options(store)
}

#[tokio::test]
async fn an_s3_endpoint_where_nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    for opened in openings("s3://bucket/job", |seed| s3(seed, nobody)).await {
        says(&opened.unwrap_err(), ErrorKind::Outage, &["s3://bucket/job", "check endpoint and network"]);
    }
}

/// Gives every request the same answer, as long as the process lives.
fn server(status: &'static str, code: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that hung up is no concern of the server.
            let _ = stream.and_then(|stream| answer(stream, status, code));
        }
    });
    address
}

fn answer(mut stream: TcpStream, status: &str, code: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let missing = |request: &[u8]| {
        let head = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        (request.len() >= head + length.unwrap_or(0_usize)).then_some(())
    };
    while missing(&request).is_none() {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn wrong_credentials() {
    for code in ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"] {
        let refuses = server("403 Forbidden", code);
        for opened in openings("s3://bucket/job", |seed| s3(seed, refuses)).await {
            let error = opened.unwrap_err();
            says(&error, ErrorKind::Denied, &["s3://bucket/job", "check credentials and permissions"]);
            assert!(!error.to_string().contains("wrong too"));
        }
    }
}

#[tokio::test]
async fn a_missing_bucket() {
    let empty = server("404 Not Found", "NoSuchBucket");
    for opened in openings("s3://bucket/job", |seed| s3(seed, empty)).await {
        says(&opened.unwrap_err(), ErrorKind::NoBucket, &["s3://bucket/job", "create the bucket"]);
    }
}

/// A store that takes a create-only put for any put.
#[derive(Debug)]
struct Careless(SimStore);

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("careless store")
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> object_store::Result<PutResult> {
        options.mode = PutMode::Overwrite;
        self.0.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

fn careless(sim: &SimStore, seed: u64, store_options: StoreOptions) -> Options {
    let store = Arc::new(Careless(sim.client(CrashPlan::never())));
    options(seed).with_store(Store::new(store, "careless://", Path::from("v"), store_options))
}

#[tokio::test]
async fn a_store_without_put_if_absent() {
    let sim = sim();
    let refused = Volume::create("careless://", careless(&sim, 1, StoreOptions::default())).await;
    says(
        &refused.unwrap_err(),
        ErrorKind::UnsafeStore,
        &["careless://", "use a store with put-if-absent", "with_assume_put_if_absent"],
    );
    assert!(objects(&sim).is_empty(), "neither a volume nor a probe's leavings");

    drop(made(&sim).await);
    let commits = |sim: &SimStore| {
        let mut objects = objects(sim);
        objects.retain(|path, _| !path.as_ref().ends_with("superblock"));
        objects
    };
    let before = commits(&sim);
    let refused = Volume::open("careless://", careless(&sim, 2, StoreOptions::default())).await;
    says(&refused.unwrap_err(), ErrorKind::UnsafeStore, &["careless://", "use another store"]);
    assert_eq!(commits(&sim), before, "no epoch was taken");
    let volume = Volume::open("sim://", with(&sim, 3)).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), b"1");
}

#[tokio::test]
async fn opting_out_of_put_if_absent_by_name() {
    let sim = sim();
    let assumed = |seed| careless(&sim, seed, StoreOptions::default().with_assume_put_if_absent(true));
    let volume = Volume::create("careless://", assumed(1)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    volume.close().await.unwrap();
    let volume = Volume::open("careless://", assumed(2)).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), b"1");
}

#[tokio::test]
async fn a_second_writer() {
    let sim = sim();
    let first = made(&sim).await;
    first.fs().write("/late", b"2").await.unwrap();
    let second = Volume::open("sim://", with(&sim, 2)).await.unwrap();
    let before = objects(&sim);
    for _ in 0..2 {
        let error = first.commit().await.unwrap_err();
        says(&error, ErrorKind::Fenced, &["another writer", "with epoch 2", "open it again to take it back"]);
        let error = first.fs().write("/more", b"3").await.unwrap_err();
        says(&error, ErrorKind::Fenced, &["/more", "another writer", "open it again to take it back"]);
    }
    assert_eq!(objects(&sim), before);
    assert_eq!(listing(&second).await.len(), 1);
}

#[tokio::test]
async fn a_volume_where_there_is_one() {
    let sim = sim();
    let volume = made(&sim).await;
    let before = objects(&sim);
    let error = Volume::create("sim://", with(&sim, 2)).await.unwrap_err();
    says(
        &error,
        ErrorKind::Invalid,
        &["create sim://", "a volume already", "open it, or choose another URL"],
    );
    assert_eq!(objects(&sim), before);
    volume.fs().write("/b", b"2").await.unwrap();
    volume.commit().await.unwrap();
}

#[tokio::test]
async fn no_volume_where_one_is_opened() {
    let sim = sim();
    for opened in [
        Volume::open("sim://", with(&sim, 1)).await,
        Volume::open_read_only("sim://", with(&sim, 1), At::Head).await,
        Volume::open_read_only("sim://", with(&sim, 1), At::Checkpoint("c".into())).await,
    ] {
        says(&opened.unwrap_err(), ErrorKind::NoVolume, &["sim://", "check the URL, or create one there"]);
    }
    assert!(objects(&sim).is_empty());
}

#[tokio::test]
async fn a_state_that_is_not_there() {
    let sim = sim();
    let volume = made(&sim).await;
    let none = rfs::CommitId { epoch: 7, number: 7 };
    for (at, name) in [(At::Commit(none), "commit 7.7"), (At::Checkpoint("tuesday".into()), "\"tuesday\"")] {
        let error = Volume::open_read_only("sim://", with(&sim, 2), at).await.unwrap_err();
        says(&error, ErrorKind::NoSuchState, &["sim://", name, "Volume::checkpoints"]);
    }
    volume.commit().await.unwrap();
}

#[tokio::test]
async fn urls_that_cannot_be() {
    for url in [
        "",
        "nowhere",
        "ftp://host/dir",
        "s3://",
        "s3:///prefix",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://user:pass@bucket/x",
        "s3://bucket?region=x",
        "s3://bucket/a%2fb",
        "file://relative",
        "file:///",
        "file:///a/../b",
        "memory://a/../b",
        "memory://a b",
        "memory://line\nbreak",
    ] {
        for opened in openings(url, options).await {
            let start = url.split(char::is_control).next().unwrap();
            says(&opened.unwrap_err(), ErrorKind::Invalid, &[start, "accepted are memory://"]);
        }
    }
    let long = format!("memory://{}", "x".repeat(10_000));
    for opened in openings(&long, options).await {
        let error = opened.unwrap_err();
        says(&error, ErrorKind::Invalid, &["memory://xxx", "at most 2048"]);
    }
    let error = Volume::open(
        "s3://bucket",
        s3(1, "127.0.0.1:9".parse().unwrap()).with_store_options(
            StoreOptions::default()
                .with_endpoint("http://127.0.0.1:9")
                .with_access_key_id("a")
                .with_secret_access_key("b"),
        ),
    );
    says(&error.await.unwrap_err(), ErrorKind::Invalid, &["s3://bucket", "with_allow_http"]);
}

// What was written by a later version.

/// An object of format version 5 with an empty body: header and checksum are right.
fn of_version_6() -> Vec<u8> {
    const CHECKSUM: &str = "efebeda8f721422b8ab79e78cbab8d120746b05b1fc5a5ba6dd2c576b356f9ce";
    let mut object = b"RFS-OBJ\0\x06\0\x01\0\0\0\0\0".to_vec();
    let digits = |at: usize| u8::from_str_radix(&CHECKSUM[at..at + 2], 16).unwrap();
    object.extend((0..CHECKSUM.len()).step_by(2).map(digits));
    object
}

/// Gives a header of the journal another version, and the checksum that goes with it.
fn set_version(header: &mut [u8], at: usize) {
    header[at..at + 2].copy_from_slice(&4_u16.to_le_bytes());
    let (body, checksum) = header.split_at_mut(header.len() - 4);
    checksum.copy_from_slice(&crc32c(body).to_le_bytes());
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

const SEGMENT_HEADER: usize = 128;

#[tokio::test]
async fn objects_of_a_later_version() {
    let sim = sim();
    let small = |seed| with(&sim, seed).with_inline_bytes(1000).with_image_every(u64::MAX, 1);
    let volume = Volume::create("sim://", small(1)).await.unwrap();
    for round in 0..3 {
        volume.fs().write("/a", vec![round; 3000]).await.unwrap();
        volume.commit().await.unwrap();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    drop(volume);
    let before = objects(&sim);
    let newest = |part: &str| before.keys().rfind(|path| path.as_ref().contains(part)).unwrap().clone();
    let mut segment = before[&newest("/segments/")].to_vec();
    set_version(&mut segment[..SEGMENT_HEADER], 8);
    let later = [
        (newest("superblock"), of_version_6(), "version 6"),
        (newest("/commits/"), of_version_6(), "version 6"),
        (newest("/segments/"), segment, "version 4"),
    ];
    for (path, object, version) in later {
        sim.set_object(&path, object);
        for opened in [
            Volume::open("sim://", small(2)).await,
            Volume::open_read_only("sim://", small(3), At::Head).await,
        ] {
            let key = path.as_ref().strip_prefix("v/").unwrap();
            let error = opened.expect_err("it is of another version");
            says(&error, ErrorKind::UnknownFormat, &[key, version, "open it with a newer rfs"]);
        }
        sim.set_object(&path, before[&path].clone());
    }
    for (path, object) in &before {
        assert_eq!(sim.object(path).as_ref(), Some(object), "{path} is as it was");
    }
    let volume = Volume::open("sim://", small(4)).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), vec![2; 3000]);
}

#[tokio::test]
async fn a_local_log_of_a_later_version() {
    let (sim, disk, log) = with_local_log().await;
    let content = disk.content(&log).unwrap();
    // The segment's header, and the first frame's.
    for (start, len, version_at) in [(0, SEGMENT_HEADER, 8), (SEGMENT_HEADER, 88, 4)] {
        let mut later = content.clone();
        set_version(&mut later[start..start + len], version_at);
        let disk = disk.after_kill(CrashPlan::never());
        disk.set_content(&log, &later);
        let error = Volume::open("sim://", local(&sim, &disk, 5)).await.unwrap_err();
        says(&error, ErrorKind::UnknownFormat, &[&log, "version 4", "open it with a newer rfs"]);
        assert_eq!(disk.content(&log).unwrap(), later, "the log is as it was");
    }
    let volume = Volume::open("sim://", local(&sim, &disk, 6)).await.unwrap();
    assert_eq!(listing(&volume).await.len(), LOCAL_FILES);
}

// The local disk.

const LOCAL_FILES: usize = 12;

fn local(sim: &SimStore, disk: &SimDisk, seed: u64) -> Options {
    with(sim, seed).with_disk(Arc::new(disk.clone()))
}

/// A volume whose files are all in the local log only, each synced by itself, and the name of the log's file.
async fn with_local_log() -> (SimStore, SimDisk, String) {
    let (sim, disk) = (sim(), SimDisk::new(CrashPlan::never()));
    let volume = Volume::create("sim://", local(&sim, &disk, 50)).await.unwrap();
    for number in 0..LOCAL_FILES {
        volume.fs().write(format!("/f{number}"), vec![number as u8; 100]).await.unwrap();
        volume.wait(volume.position(), Level::Local).await.unwrap();
    }
    drop(volume);
    let log = disk.names().into_iter().find(|name| name.starts_with("log-")).unwrap();
    (sim, disk, log)
}

#[tokio::test]
async fn a_full_local_disk() {
    let (sim, disk) = (sim(), SimDisk::new(CrashPlan::never()));
    let volume = Volume::create("sim://", local(&sim, &disk, 1)).await.unwrap();
    disk.set_capacity(Some(3 << 20));
    let mut acknowledged = Vec::new();
    let error = loop {
        let number = acknowledged.len();
        let write = async {
            volume.fs().write(format!("/f{number:03}"), vec![number as u8; 50_000]).await?;
            volume.wait(volume.position(), Level::Local).await
        };
        match write.await {
            Ok(()) => acknowledged.push(volume.state_hash().await.unwrap()),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 100, "the disk holds more than it can");
    };
    says(&error, ErrorKind::LocalDisk, &["log-", "open the volume again"]);
    assert!(acknowledged.len() > 10);
    let before = objects(&sim);
    for error in [
        volume.fs().write("/more", b"x").await.unwrap_err(),
        volume.fs().read("/f000").await.unwrap_err(),
        volume.commit().await.unwrap_err(),
        volume.checkpoint("c").await.unwrap_err(),
    ] {
        says(&error, ErrorKind::LocalDisk, &["open the volume again"]);
    }
    assert_eq!(objects(&sim), before, "nothing that is in doubt was committed");
    drop(volume);

    disk.set_capacity(None);
    for (seed, disk) in
        [(1, disk.after_kill(CrashPlan::never())), (2, disk.after_power_loss(2, CrashPlan::never()))]
    {
        let volume = Volume::open("sim://", local(&sim, &disk, 10 + seed)).await.unwrap();
        for number in 0..acknowledged.len() {
            let content = volume.fs().read(format!("/f{number:03}")).await.unwrap();
            assert_eq!(content, vec![number as u8; 50_000]);
        }
        volume.check().await.unwrap();
        volume.fs().write("/again", b"x").await.unwrap();
        volume.wait(volume.position(), Level::Local).await.unwrap();
    }
}

#[tokio::test]
async fn a_local_disk_that_fails_a_sync() {
    for skip in 0..4 {
        let (sim, disk) = (sim(), SimDisk::new(CrashPlan::never()));
        let volume = Volume::create("sim://", local(&sim, &disk, 1)).await.unwrap();
        disk.fail_sync(skip);
        let mut acknowledged = 0_u8;
        let error = loop {
            volume.fs().write(format!("/f{acknowledged}"), [acknowledged; 2000]).await.unwrap();
            match volume.fs().open(format!("/f{acknowledged}")).await.unwrap().sync_all().await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        says(&error, ErrorKind::LocalDisk, &["local log", "injected sync error", "open the volume again"]);
        let again = volume.wait(volume.position(), Level::Local).await.unwrap_err();
        says(&again, ErrorKind::LocalDisk, &["open the volume again"]);
        drop(volume);
        let disk = disk.after_power_loss(skip, CrashPlan::never());
        let volume = Volume::open("sim://", local(&sim, &disk, 2)).await.unwrap();
        for number in 0..acknowledged {
            assert_eq!(volume.fs().read(format!("/f{number}")).await.unwrap(), [number; 2000]);
        }
        volume.check().await.unwrap();
        volume.fs().write("/again", b"x").await.unwrap();
        volume.wait(volume.position(), Level::Local).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_local_log() {
    let (sim, disk, log) = with_local_log().await;
    let whole = disk.content(&log).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let mut rng = Rng::new(1);
    let (mut damaged, mut read) = (0, 0);
    for byte in (0..used).step_by(29) {
        let disk = disk.after_kill(CrashPlan::never());
        disk.flip_bit(&log, byte * 8 + rng.below(8));
        let flipped = disk.content(&log).unwrap();
        match Volume::open("sim://", local(&sim, &disk, 100 + byte)).await {
            Err(error) => {
                says(&error, ErrorKind::Damaged, &[&log, "at byte", "restore it from a copy"]);
                assert_eq!(disk.content(&log).unwrap(), flipped, "a damaged log is left as it is");
                damaged += 1;
            }
            // A flip behind the last frame that others vouch for looks like a torn end.
            Ok(volume) => {
                let names = listing(&volume).await;
                assert!(names.len() >= LOCAL_FILES - 1, "bit of byte {byte}: {names:?}");
                volume.check().await.unwrap();
                read += 1;
            }
        }
    }
    assert!(damaged > 10 * read, "{damaged} of {} flips were found", damaged + read);
    let volume = Volume::open("sim://", local(&sim, &disk, 3)).await.unwrap();
    assert_eq!(listing(&volume).await.len(), LOCAL_FILES);
}

#[tokio::test]
async fn a_local_directory_of_another_volume() {
    let (other, disk, log) = with_local_log().await;
    let sim = sim();
    let running = made(&sim).await;
    let (before, content) = (objects(&sim), disk.content(&log).unwrap());
    let error = Volume::open("sim://", local(&sim, &disk, 2)).await.unwrap_err();
    says(&error, ErrorKind::ForeignVolume, &["belongs to volume", "use another local directory"]);
    assert_eq!((objects(&sim), disk.content(&log).unwrap()), (before, content));
    running.fs().write("/b", b"2").await.unwrap();
    running.commit().await.expect("the writer that runs was not disturbed");
    let owner = Volume::open("sim://", local(&other, &disk, 3)).await.unwrap();
    assert_eq!(listing(&owner).await.len(), LOCAL_FILES);
}

#[tokio::test]
async fn a_local_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().to_str().unwrap();
    let user = Volume::create(&memory_url("in_use"), options(1).with_local_dir(dir.path())).await.unwrap();
    let sim = sim();
    let running = made(&sim).await;
    let before = objects(&sim);
    let error = Volume::open("sim://", with(&sim, 2).with_local_dir(dir.path())).await.unwrap_err();
    says(&error, ErrorKind::LocalDirectoryInUse, &[name, "another volume uses it", "choose another"]);
    assert_eq!(objects(&sim), before);
    running.fs().write("/b", b"2").await.unwrap();
    running.commit().await.unwrap();
    user.close().await.unwrap();
}

#[tokio::test]
async fn a_local_directory_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let below = file.join("below");
    for place in [&file, &below] {
        let error =
            Volume::create(&memory_url("cannot"), options(1).with_local_dir(place)).await.unwrap_err();
        says(&error, ErrorKind::LocalDisk, &[place.to_str().unwrap()]);
    }
}

// Paths, names and sizes.

/// What must not change when an operation is refused.
async fn unchanged<T: fmt::Debug>(volume: &Volume, refused: impl Future<Output = rfs::Result<T>>) -> Error {
    let before = (volume.state_hash().await.unwrap(), volume.position());
    let error = refused.await.unwrap_err();
    assert_eq!((volume.state_hash().await.unwrap(), volume.position()), before, "{error}");
    error
}

#[tokio::test]
async fn names_too_long_and_paths_through_files() {
    let volume = Volume::create(&memory_url("paths"), options(1)).await.unwrap();
    let fs = volume.fs();
    fs.write("/file", b"content").await.unwrap();
    fs.create_dir("/dir").await.unwrap();
    let long_name = format!("/dir/{}", "n".repeat(256));
    let long_path = "/dir/..".repeat(600);
    let nul = HostPath::new(std::ffi::OsStr::from_bytes(b"/dir/a\0b")).to_str().unwrap();
    for (path, errno) in [
        (long_name.as_str(), Errno::NameTooLong),
        (long_path.as_str(), Errno::NameTooLong),
        ("/file/below", Errno::NotADirectory),
        ("/file/below/deeper", Errno::NotADirectory),
        (nul, Errno::Invalid),
    ] {
        for error in [
            unchanged(&volume, fs.write(path, b"x")).await,
            unchanged(&volume, fs.create(path)).await,
            unchanged(&volume, fs.open(path)).await,
            unchanged(&volume, fs.create_dir(path)).await,
            unchanged(&volume, fs.rename("/file", path)).await,
            unchanged(&volume, fs.hard_link("/file", path)).await,
            unchanged(&volume, fs.symlink("target", path)).await,
            unchanged(&volume, fs.remove_file(path)).await,
            unchanged(&volume, fs.remove_dir(path)).await,
            unchanged(&volume, fs.truncate(path, 3)).await,
            unchanged(&volume, fs.set_permissions(path, Permissions::from_mode(0o600))).await,
            unchanged(&volume, fs.metadata(path)).await,
            unchanged(&volume, fs.read_dir(path)).await,
            unchanged(&volume, fs.copy("/file", path)).await,
            unchanged(&volume, volume.history(path)).await,
        ] {
            says(&error, ErrorKind::Posix(errno), &[path]);
            assert_eq!(std::io::Error::from(error).raw_os_error(), Some(errno.raw()));
        }
        let batch = fs.batch().write("/new", b"x").create_dir(path);
        let error = unchanged(&volume, batch.apply()).await;
        says(&error, ErrorKind::Posix(errno), &["batch of 2 operations", "operation 1"]);
    }
    assert_eq!(listing(&volume).await.len(), 2);
}

#[tokio::test]
async fn a_batch_too_large() {
    let volume = Volume::create(&memory_url("large_batch"), options(1)).await.unwrap();
    let fs = volume.fs();
    let content = vec![7; (64 << 20) + 1];
    let error = unchanged(&volume, fs.batch().create_dir("/d").write("/d/f", &content).apply()).await;
    says(&error, ErrorKind::Posix(Errno::TooBig), &["batch of 2 operations", "past its limit"]);
    let target = "t".repeat(4095);
    let many = (0..8_500).fold(fs.batch(), |batch, number| batch.symlink(&target, format!("/l{number}")));
    let error = unchanged(&volume, many.apply()).await;
    says(&error, ErrorKind::Posix(Errno::TooBig), &["batch of 8500 operations", "past its limit"]);
    assert_eq!(listing(&volume).await.len(), 0);
    fs.batch().create_dir("/d").write("/d/f", &content[..1 << 20]).apply().await.unwrap();
}

#[tokio::test]
async fn checkpoints_that_cannot_be() {
    let sim = sim();
    let volume = made(&sim).await;
    volume.checkpoint("taken").await.unwrap().wait().await.unwrap();
    let before = objects(&sim);
    let long = "c".repeat(256);
    for (name, errno) in [("", Errno::Invalid), (&long, Errno::NameTooLong), ("taken", Errno::Exists)] {
        let error = unchanged(&volume, volume.checkpoint(name)).await;
        says(&error, ErrorKind::Posix(errno), &["checkpoint", name]);
    }
    let metadata = vec![0; (64 << 10) + 1];
    let error = unchanged(&volume, volume.checkpoint_with("big", metadata)).await;
    says(&error, ErrorKind::Posix(Errno::TooBig), &["checkpoint \"big\""]);
    let error = unchanged(&volume, volume.drop_checkpoint("never")).await;
    says(&error, ErrorKind::Posix(Errno::NotFound), &["checkpoint \"never\""]);
    assert_eq!(objects(&sim), before);
    let names: Vec<String> = volume.checkpoints().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["taken"]);
    volume.checkpoint_with(&"c".repeat(255), vec![0; 64 << 10]).await.unwrap().wait().await.unwrap();
}

// Volumes that take no changes.

#[tokio::test]
async fn a_volume_that_is_open_for_reading() {
    let sim = sim();
    made(&sim).await.checkpoint("c").await.unwrap().wait().await.unwrap();
    let before = objects(&sim);
    let volume = Volume::open_read_only("sim://", with(&sim, 2), At::Head).await.unwrap();
    let fs = volume.fs();
    let file = rfs::OpenOptions::new().read(true).write(true).open(&fs, "/a").await.unwrap();
    for error in [
        unchanged(&volume, fs.write("/new", b"x")).await,
        unchanged(&volume, fs.create_dir("/new")).await,
        unchanged(&volume, fs.rename("/a", "/new")).await,
        unchanged(&volume, fs.hard_link("/a", "/new")).await,
        unchanged(&volume, fs.symlink("target", "/new")).await,
        unchanged(&volume, fs.remove_file("/a")).await,
        unchanged(&volume, fs.truncate("/a", 0)).await,
        unchanged(&volume, fs.set_permissions("/a", Permissions::from_mode(0o600))).await,
        unchanged(&volume, fs.chown("/a", Some(1), None)).await,
        unchanged(&volume, fs.batch().append("/a", b"x").apply()).await,
        unchanged(&volume, file.write_at(b"x", 0)).await,
        unchanged(&volume, file.append(b"x")).await,
        unchanged(&volume, file.set_len(0)).await,
        unchanged(&volume, async { file.try_lock().await }).await,
        unchanged(&volume, volume.commit()).await,
        unchanged(&volume, volume.checkpoint("d")).await,
        unchanged(&volume, volume.drop_checkpoint("c")).await,
        unchanged(&volume, volume.collect_garbage()).await,
    ] {
        says(&error, ErrorKind::Posix(Errno::ReadOnly), &["open read-only"]);
    }
    file.sync_all().await.unwrap();
    volume.wait(volume.position(), Level::Remote).await.unwrap();
    drop((file, fs));
    volume.close().await.unwrap();
    assert_eq!(objects(&sim), before);
}

#[tokio::test]
async fn a_volume_that_was_closed() {
    let sim = sim();
    let volume = made(&sim).await;
    let (other, fs) = (volume.clone(), volume.fs());
    let file = rfs::OpenOptions::new().read(true).write(true).open(&fs, "/a").await.unwrap();
    volume.close().await.unwrap();
    let before = objects(&sim);
    for (error, what) in [
        (fs.write("/new", b"x").await.unwrap_err(), "/new"),
        (fs.read("/a").await.unwrap_err(), "/a"),
        (fs.metadata("/a").await.unwrap_err(), "/a"),
        (fs.read_dir("/").await.unwrap_err(), "/"),
        (fs.batch().append("/a", b"x").apply().await.unwrap_err(), "batch"),
        (file.write_at(b"x", 0).await.unwrap_err(), "/a"),
        (file.read_at(&mut [0], 0).await.unwrap_err(), "/a"),
        (file.append(b"x").await.unwrap_err(), "/a"),
        (file.try_lock().await.unwrap_err(), "/a"),
        (other.commit().await.unwrap_err(), "commit"),
        (other.checkpoint("c").await.unwrap_err(), "checkpoint"),
        (other.drop_checkpoint("c").await.unwrap_err(), "checkpoint \"c\""),
        (other.collect_garbage().await.unwrap_err(), "collect garbage"),
        (other.wait(rfs::Lsn(u64::MAX), Level::Remote).await.unwrap_err(), "wait"),
    ] {
        says(&error, ErrorKind::Closed, &[what, "closed"]);
    }
    other.close().await.unwrap();
    assert_eq!(objects(&sim), before);
    let volume = Volume::open("sim://", with(&sim, 2)).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), b"1");
}
