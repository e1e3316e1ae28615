//! On a real S3 server, named by `RFS_TEST_S3_ENDPOINT` and its companions.

use bytes::Bytes;
use rfs_backends::{PutNew, RequestKind, Store, StoreErrorKind, StoreOptions, conformance};
use std::{env, process, sync::Arc, time::Duration};

struct Server {
    endpoint: String,
    bucket: String,
    options: StoreOptions,
}

/// The server that `cargo xtask test` started.
fn server() -> Server {
    let setting =
        |name: &str| env::var(name).expect("`cargo xtask test` starts the server and says where it is");
    let endpoint = setting("RFS_TEST_S3_ENDPOINT");
    let options = StoreOptions::default()
        .with_endpoint(&endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(setting("RFS_TEST_S3_ACCESS_KEY"))
        .with_secret_access_key(setting("RFS_TEST_S3_SECRET_KEY"))
        .with_jitter_seed(u64::from(process::id()));
    Server { endpoint, bucket: setting("RFS_TEST_S3_BUCKET"), options }
}

impl Server {
    /// A store below a prefix of this test and process alone.
    fn store(&self, test: &str) -> Store {
        let url = format!("s3://{}/backends-{}/{test}", self.bucket, process::id());
        Store::from_url(&url, self.options.clone()).unwrap()
    }
}

async fn clear(store: &Store) {
    for object in store.list("", None).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    assert!(store.list("", None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: run `cargo xtask test`"]
async fn s3_is_safe() {
    let server = server();
    let seed = u64::from(process::id());
    let report = conformance::run(Arc::clone(server.store("conformance").inner()), seed).await;
    assert!(report.is_safe(), "{}\n{report}", server.endpoint);
}

#[tokio::test]
#[ignore = "needs an S3 server: run `cargo xtask test`"]
async fn s3_creates_once_in_one_request() {
    let server = server();
    let store = server.store("create");
    let (ours, theirs) = (Bytes::from_static(b"ours"), Bytes::from_static(b"theirs"));
    assert_eq!(store.put_new("commit/1", theirs.clone()).await.unwrap(), PutNew::Created);
    assert_eq!(store.meter().snapshot().to_string(), "put 1 (6 B)");
    assert_eq!(store.put_new("commit/1", ours).await.unwrap(), PutNew::Exists(theirs.clone()));
    assert_eq!(store.put_new("commit/1", theirs).await.unwrap(), PutNew::Created);
    store.probe(u128::from(process::id())).await.unwrap();
    clear(&store).await;
}

#[tokio::test]
#[ignore = "needs an S3 server: run `cargo xtask test`"]
async fn s3_takes_large_objects_in_parts() {
    let server = server();
    let store = server.store("large");
    let chunks: Vec<_> = (0..19_u8).map(|piece| Bytes::from(vec![piece; 1 << 20])).collect();
    store.put_large("segment", chunks.clone()).await.unwrap();
    // A start, parts of 8, 8 and 3 MiB, a completion.
    assert_eq!(store.meter().snapshot().of(RequestKind::Multipart).requests, 5);
    assert_eq!(store.get("segment").await.unwrap(), chunks.concat());
    let end = 19 << 20;
    assert_eq!(store.get_range("segment", end - 2..end).await.unwrap()[..], [18, 18]);
    for beyond in [end - 1..end + 1, end..end + 1] {
        let error = store.get_range("segment", beyond).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Truncated, "{error}");
    }
    clear(&store).await;
}

#[tokio::test]
#[ignore = "needs an S3 server: run `cargo xtask test`"]
async fn s3_lists_below_the_prefix() {
    let server = server();
    let store = server.store("list");
    for key in ["log/2", "log/1", "logs/1", "log/3"] {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let listed = store.list("log", Some("log/1")).await.unwrap();
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["log/2", "log/3"]);
    assert!(listed.iter().all(|object| object.size == 1 && object.last_modified_ms > 0));
    assert_eq!(store.get("log/9").await.unwrap_err().kind(), StoreErrorKind::NotFound);
    clear(&store).await;
}

#[tokio::test]
#[ignore = "needs an S3 server: run `cargo xtask test`"]
async fn s3_without_the_bucket_says_so() {
    let server = server();
    let url = format!("s3://no-such-bucket-{}/volume", process::id());
    let options = server.options.clone().with_deadline(Duration::from_secs(10));
    let store = Store::from_url(&url, options).unwrap();
    let bytes = Bytes::from_static(b"x");
    for error in [
        store.put_new("a", bytes.clone()).await.unwrap_err(),
        store.put("a", bytes).await.unwrap_err(),
        store.get("a").await.unwrap_err(),
        store.list("", None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::NoBucket, "{error}");
    }
}
