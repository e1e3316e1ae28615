//! What the tests share.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rfs::{Clock, Compression, Encryption, Entropy, Fs, Options, Store, StoreOptions, Timestamp, Volume};
use rfs_testkit::{CrashPlan, ManualClock, SimStore};

/// Options under which one seed replays one run, and nothing is committed unless asked for.
pub(crate) fn options(seed: u64) -> Options {
    let options =
        Options::new().with_entropy(Entropy::seeded(seed)).with_commit_interval(None).with_one_thread();
    // Every other volume keeps no page that it did not need just now.
    if seed.is_multiple_of(2) { options.with_tree_memory(0) } else { options }
}

/// The testkit's clock, for volumes.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) ManualClock);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.now_nanos())
    }
}

/// A simulated store without faults, and the same as a store of volumes.
pub(crate) fn sim() -> (SimStore, Store) {
    let sim = SimStore::new(CrashPlan::never());
    (sim.clone(), store_on(&sim))
}

pub(crate) fn store_on(sim: &SimStore) -> Store {
    store_over(Arc::new(sim.clone()))
}

pub(crate) fn store_over(inner: Arc<dyn object_store::ObjectStore>) -> Store {
    let quick = StoreOptions::default().with_deadline(Duration::from_secs(5));
    Store::new(inner, "sim://", object_store::path::Path::from("v"), quick)
}

/// A name that no other test of this process uses.
pub(crate) fn memory_url(test: &str) -> String {
    format!("memory://{}", test.replace("::", "-"))
}

/// Everything in a volume, as text: path, kind and content.
pub(crate) async fn listing(volume: &Volume) -> Vec<String> {
    let fs = volume.fs();
    let mut lines = Vec::new();
    let mut dirs = vec![Path::new("/").to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let mut entries = fs.read_dir(&dir).await.unwrap();
        while let Some(entry) = entries.next_entry().await.unwrap() {
            lines.push(line(&fs, &entry).await);
            if entry.file_type().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    lines.sort();
    lines
}

async fn line(fs: &Fs, entry: &rfs::DirEntry) -> String {
    let path = entry.path();
    let metadata = entry.metadata().await.unwrap();
    let what = if metadata.is_dir() {
        "dir".to_owned()
    } else if metadata.is_symlink() {
        format!("-> {}", fs.read_link(&path).await.unwrap().display())
    } else {
        let content = fs.read(&path).await.unwrap();
        assert_eq!(content.len() as u64, metadata.len());
        format!("{} bytes {:x?}", content.len(), &content[..content.len().min(16)])
    };
    format!("{} {:o} {}:{} {what}", path.display(), metadata.mode(), metadata.uid(), metadata.gid())
}

/// With this account the client of GCS asks nobody for a token.
const GCS_ACCOUNT: &str = r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;

/// A URL on one kind of store, fresh for one test.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) options: StoreOptions,
    kind: &'static str,
    /// All clients that were made of it.
    clients: Arc<Mutex<Vec<Store>>>,
    /// Keeps a directory as long as the test needs it.
    _dir: Option<Arc<tempfile::TempDir>>,
}

impl Place {
    pub(crate) fn memory(test: &str) -> Self {
        Self::new("memory", memory_url(test), StoreOptions::default())
    }

    /// In memory, and encrypted.
    pub(crate) fn encrypted(test: &str) -> Self {
        let options = StoreOptions::default().with_encryption(Encryption::by_key([7; 32]));
        Self::new("encrypted", memory_url(test), options)
    }

    /// In memory; segments are compressed, and none is too small for that.
    pub(crate) fn compressed(test: &str) -> Self {
        Self::new("compressed", memory_url(test), StoreOptions::default())
    }

    pub(crate) fn file(_: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place =
            Self::new("file", format!("file://{}/store", dir.path().display()), StoreOptions::default());
        Self { _dir: Some(Arc::new(dir)), ..place }
    }

    /// On a server of `cargo xtask test`: a prefix of this test alone. `kind` is what stands in the names of its variables.
    pub(crate) fn server(kind: &'static str, test: &str) -> Self {
        let var = |what: &str| {
            let name = format!("RFS_TEST_{}_{what}", kind.to_ascii_uppercase());
            std::env::var(name).expect("`cargo xtask test` starts the server and says where it is")
        };
        let options = StoreOptions::default().with_endpoint(var("ENDPOINT")).with_allow_http(true);
        let keys = |options: StoreOptions| {
            options.with_access_key_id(var("ACCESS_KEY")).with_secret_access_key(var("SECRET_KEY"))
        };
        let (scheme, options) = match kind {
            "azure" => ("az", keys(options)),
            "gcs" => ("gs", options.with_platform("service_account_key", GCS_ACCOUNT)),
            _ => ("s3", keys(options).with_region("us-east-1")),
        };
        let url = format!("{scheme}://{}/rfs-{}/{test}", var("BUCKET"), std::process::id());
        Self::new(kind, url, options)
    }

    fn new(kind: &'static str, url: String, options: StoreOptions) -> Self {
        Self { url, options, kind, clients: Arc::default(), _dir: None }
    }

    /// Another place in the same store.
    pub(crate) fn at(&self, url: impl Into<String>) -> Self {
        Self { url: url.into(), ..self.clone() }
    }

    /// A client of its own, as on another machine.
    pub(crate) fn store(&self) -> Store {
        let store = Store::from_url(&self.url, self.options.clone()).unwrap();
        self.clients.lock().unwrap().push(store.clone());
        store
    }

    /// [`options`] of a volume here, by a client of its own.
    pub(crate) fn on(&self, seed: u64) -> Options {
        let options = options(seed).with_store(self.store());
        if self.kind == "compressed" {
            options.with_compression(Compression::Zstd).with_inline_bytes(0)
        } else {
            options
        }
    }

    /// Leaves what the test cost where `cargo xtask test` finds it.
    pub(crate) fn report(&self, test: &str, began: Instant) {
        let Some(file) = std::env::var_os("RFS_TEST_FIGURES") else { return };
        let (mut requests, mut bytes) = (0, 0);
        for client in self.clients.lock().unwrap().iter() {
            let metered = client.meter().snapshot();
            requests += metered.requests();
            bytes += metered.bytes();
        }
        let line = format!("{} {test} {requests} {bytes} {}\n", self.kind, began.elapsed().as_millis());
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        // In one piece: other tests write there too.
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test took is told, and decides nothing")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Makes a test of each function on each kind of store.
macro_rules! on_each_store {
    ($($test:ident)*) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let place = crate::common::Place::memory(concat!(module_path!(), "-", stringify!($test)));
                let began = crate::common::now();
                super::$test(place.clone()).await;
                place.report(stringify!($test), began);
            }
        )* }
        mod file { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let place = crate::common::Place::file(stringify!($test));
                let began = crate::common::now();
                super::$test(place.clone()).await;
                place.report(stringify!($test), began);
            }
        )* }
        mod encrypted { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let name = concat!(module_path!(), "-", stringify!($test));
                let place = crate::common::Place::encrypted(name);
                let began = crate::common::now();
                super::$test(place.clone()).await;
                place.report(stringify!($test), began);
            }
        )* }
        mod compressed { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let name = concat!(module_path!(), "-", stringify!($test));
                let place = crate::common::Place::compressed(name);
                let began = crate::common::now();
                super::$test(place.clone()).await;
                place.report(stringify!($test), began);
            }
        )* }
        crate::common::on_server! { s3 $($test)* }
        crate::common::on_server! { seaweedfs $($test)* }
        crate::common::on_server! { azure $($test)* }
        crate::common::on_server! { gcs $($test)* }
    };
}
pub(crate) use on_each_store;

/// Makes a test of each function on one of the servers.
macro_rules! on_server {
    ($server:ident $($test:ident)*) => {
        mod $server { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a server: run `cargo xtask test`"]
            async fn $test() {
                let place = crate::common::Place::server(stringify!($server), stringify!($test));
                let began = crate::common::now();
                super::$test(place.clone()).await;
                place.report(stringify!($test), began);
            }
        )* }
    };
}
pub(crate) use on_server;
