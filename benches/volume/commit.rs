//! A commit of one 4 KiB change, beside a raw create-only put of as many bytes to a store of the same kind.

use std::cell::{Cell, LazyCell};
use std::sync::Arc;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use rfs::{OpenOptions, Store, StoreOptions, Volume};
use tokio::runtime::Runtime;

use crate::setup::{disk_dir, fill, group, options, runtime, size, timed, volume};

const BLOCK: [u8; 4096] = [b'c'; 4096];

pub(crate) fn commit(criterion: &mut Criterion) {
    let bench = Bench { runtime: runtime(), bytes: Cell::new(None) };
    let mut group = group(criterion, "commit of a 4 KiB change", 2);
    group.throughput(Throughput::Elements(1));
    for files in [size(1_000, 10), size(100_000, 100)] {
        let id = format!("rfs, memory store, {files} files");
        bench.commits(&mut group, &id, files, || Store::from_url("memory://", StoreOptions::default()));
    }
    bench.puts(&mut group, "raw put, memory store", || (Arc::new(InMemory::new()), Path::default()));

    let dir = disk_dir();
    let files = size(1_000, 10);
    let url = format!("file://{}/volume", dir.path().display());
    bench.commits(&mut group, "rfs, file store", files, || Store::from_url(&url, StoreOptions::default()));
    bench.puts(&mut group, "raw put, file store", || {
        let store = LocalFileSystem::new_with_prefix(dir.path()).expect("the directory is there");
        (Arc::new(store.with_fsync(true)), Path::from("raw"))
    });

    if let Some((url, options)) = s3() {
        let open = || Store::from_url(&url, options.clone());
        bench.commits(&mut group, "rfs, S3 store", files, open);
        bench.puts(&mut group, "raw put, S3 store", || {
            let store = open().expect("the store is opened");
            (Arc::clone(store.inner()), store.prefix().clone().join("raw"))
        });
    }
    group.finish();
}

struct Bench {
    runtime: Runtime,
    /// The bytes of a commit object, once one was made.
    bytes: Cell<Option<u64>>,
}

impl Bench {
    fn commits<E: std::fmt::Debug>(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        id: &str,
        files: usize,
        store: impl Fn() -> Result<Store, E>,
    ) {
        let opened = LazyCell::new(|| {
            self.runtime.block_on(async {
                let options = options().with_store(store().expect("the store is opened"));
                let volume = Volume::create("", options).await.expect("a volume is made");
                fill(&volume, "/files", files).await;
                let file = OpenOptions::new().write(true).create(true).open(&volume.fs(), "/state").await;
                let file = file.expect("the file is opened");
                file.write_all_at(&BLOCK, 0).await.expect("the file takes it");
                volume.commit().await.expect("the store takes it");
                (volume, file)
            })
        });
        group.bench_function(id, |b| {
            b.iter_custom(|iters| {
                let (volume, file) = &*opened;
                timed(|| {
                    self.runtime.block_on(async {
                        for _ in 0..iters {
                            file.write_all_at(&BLOCK, 0).await.expect("the file takes it");
                            volume.commit().await.expect("the store takes it");
                        }
                    });
                })
            });
        });
    }

    fn puts(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        id: &str,
        store: impl Fn() -> (Arc<dyn ObjectStore>, Path),
    ) {
        let opened = LazyCell::new(|| (store(), Bytes::from(vec![b'c'; self.commit_bytes()])));
        let number = Cell::new(0_u64);
        group.bench_function(id, |b| {
            b.iter_custom(|iters| {
                let ((store, prefix), bytes) = &*opened;
                timed(|| {
                    self.runtime.block_on(async {
                        for _ in 0..iters {
                            let key = prefix.clone().join(format!("{:016x}", number.get()));
                            let put =
                                store.put_opts(&key, bytes.clone().into(), PutMode::Create.into()).await;
                            put.expect("the store takes it");
                            number.set(number.get() + 1);
                        }
                    });
                })
            });
        });
    }

    /// How many bytes a commit of one change takes in the store.
    fn commit_bytes(&self) -> usize {
        let bytes = self.bytes.get().unwrap_or_else(|| {
            self.runtime.block_on(async {
                let volume = volume(options()).await;
                volume.fs().write("/state", BLOCK).await.expect("the file takes it");
                volume.commit().await.expect("the store takes it");
                volume.fs().write("/state", BLOCK).await.expect("the file takes it");
                volume.commit().await.expect("the store takes it").bytes
            })
        });
        self.bytes.set(Some(bytes));
        bytes as usize
    }
}

/// The S3 server of the tests, as a URL of this process's own.
fn s3() -> Option<(String, StoreOptions)> {
    let Ok(endpoint) = std::env::var("RFS_TEST_S3_ENDPOINT") else {
        eprintln!("SKIPPED (RFS_TEST_S3_ENDPOINT is not set): commit and raw put on an S3 store");
        return None;
    };
    let var = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is to be set too"));
    let options = StoreOptions::default()
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_access_key_id(var("RFS_TEST_S3_ACCESS_KEY"))
        .with_secret_access_key(var("RFS_TEST_S3_SECRET_KEY"))
        .with_allow_http(true);
    Some((format!("s3://{}/bench-{}", var("RFS_TEST_S3_BUCKET"), std::process::id()), options))
}
