//! What the tests share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rfs::{Entropy, Fs, Options, Store, StoreOptions, Volume};
use rfs_testkit::{CrashPlan, SimStore};

/// Options under which one seed replays one run, and nothing is committed unless asked for.
pub(crate) fn options(seed: u64) -> Options {
    let options =
        Options::new().with_entropy(Entropy::seeded(seed)).with_commit_interval(None).with_one_thread();
    // Every other volume keeps no page that it did not need just now.
    if seed.is_multiple_of(2) { options.with_tree_memory(0) } else { options }
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

/// The S3 server of `cargo xtask test`, as a URL below which this test has its own prefix, with the store's options.
pub(crate) fn s3(test: &str) -> (String, rfs::StoreOptions) {
    let var =
        |name: &str| std::env::var(name).expect("`cargo xtask test` starts the server and says where it is");
    let options = rfs::StoreOptions::default()
        .with_endpoint(var("RFS_TEST_S3_ENDPOINT"))
        .with_region("us-east-1")
        .with_access_key_id(var("RFS_TEST_S3_ACCESS_KEY"))
        .with_secret_access_key(var("RFS_TEST_S3_SECRET_KEY"))
        .with_allow_http(true);
    (format!("s3://{}/rfs-{}/{test}", var("RFS_TEST_S3_BUCKET"), std::process::id()), options)
}

/// A URL on one kind of store, fresh for one test.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) options: rfs::StoreOptions,
    /// Keeps a directory as long as the test needs it.
    pub(crate) _dir: Option<std::sync::Arc<tempfile::TempDir>>,
}

impl Place {
    pub(crate) fn memory(test: &str) -> Self {
        Self { url: memory_url(test), options: rfs::StoreOptions::default(), _dir: None }
    }

    pub(crate) fn file(_: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}/store", dir.path().display());
        Self { url, options: rfs::StoreOptions::default(), _dir: Some(std::sync::Arc::new(dir)) }
    }
}

/// Makes a test of each function on each kind of store.
macro_rules! on_each_store {
    ($($test:ident)*) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::common::Place::memory(concat!(module_path!(), "-", stringify!($test)))).await;
            }
        )* }
        mod file { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::common::Place::file(stringify!($test))).await;
            }
        )* }
        mod s3 { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs an S3 server: run `cargo xtask test`"]
            async fn $test() {
                let (url, options) = crate::common::s3(stringify!($test));
                super::$test(crate::common::Place { url, options, _dir: None }).await;
            }
        )* }
    };
}
pub(crate) use on_each_store;
