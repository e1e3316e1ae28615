//! On real servers, which `cargo xtask test` starts and names by `RFS_TEST_S3_ENDPOINT` and its companions.

use bytes::Bytes;
use rfs_backends::{PutNew, RequestKind, Store, StoreErrorKind, StoreOptions, conformance};
use std::{env, process, time::Duration};

/// With this account the client of GCS asks nobody for a token.
const GCS_ACCOUNT: &str = r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;

struct Server {
    scheme: &'static str,
    bucket: String,
    options: StoreOptions,
}

/// The server whose variables have this name.
fn server(name: &str) -> Server {
    let setting = |what: &str| {
        let name = format!("RFS_TEST_{}_{what}", name.to_ascii_uppercase());
        env::var(name).expect("`cargo xtask test` starts the server and says where it is")
    };
    let options = StoreOptions::default()
        .with_endpoint(setting("ENDPOINT"))
        .with_allow_http(true)
        .with_multipart_threshold(8 << 20)
        .with_jitter_seed(u64::from(process::id()));
    let keys = |options: StoreOptions| {
        options.with_access_key_id(setting("ACCESS_KEY")).with_secret_access_key(setting("SECRET_KEY"))
    };
    let (scheme, options) = match name {
        "azure" => ("az", keys(options)),
        "gcs" => ("gs", options.with_platform("service_account_key", GCS_ACCOUNT)),
        _ => ("s3", keys(options).with_region("us-east-1")),
    };
    Server { scheme, bucket: setting("BUCKET"), options }
}

impl Server {
    /// A store below a prefix of this test and process alone.
    fn store(&self, test: &str) -> Store {
        let url = format!("{}://{}/backends-{}/{test}", self.scheme, self.bucket, process::id());
        Store::from_url(&url, self.options.clone()).unwrap()
    }
}

async fn clear(store: &Store) {
    for object in store.list("", None).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    assert!(store.list("", None).await.unwrap().is_empty());
}

/// Makes a test of each function on each server.
macro_rules! on_each_server {
    ($($server:ident)* : $tests:tt) => { $( on_each_server! { @ $server $tests } )* };
    (@ $server:ident [$($test:ident)*]) => {
        mod $server { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a server: run `cargo xtask test`"]
            async fn $test() {
                super::$test(super::server(stringify!($server))).await;
            }
        )* }
    };
}

on_each_server! { s3 seaweedfs azure gcs: [
    it_is_safe
    it_creates_once_in_one_request
    large_objects_go_up_in_parts
    it_lists_below_the_prefix
    without_the_bucket_it_says_so
] }

async fn it_is_safe(server: Server) {
    let store = server.store("conformance");
    let report = conformance::run_on(&store, u64::from(process::id())).await;
    assert!(report.is_safe(), "{}\n{report}", store.url());
}

async fn it_creates_once_in_one_request(server: Server) {
    let store = server.store("create");
    let (ours, theirs) = (Bytes::from_static(b"ours"), Bytes::from_static(b"theirs"));
    assert_eq!(store.put_new("commit/1", theirs.clone()).await.unwrap(), PutNew::Created);
    assert_eq!(store.meter().snapshot().to_string(), "put 1 (6 B)");
    assert_eq!(store.put_new("commit/1", ours).await.unwrap(), PutNew::Exists(theirs.clone()));
    assert_eq!(store.put_new("commit/1", theirs).await.unwrap(), PutNew::Created);
    store.probe(u128::from(process::id())).await.unwrap();
    clear(&store).await;
}

async fn large_objects_go_up_in_parts(server: Server) {
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

async fn it_lists_below_the_prefix(server: Server) {
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

async fn without_the_bucket_it_says_so(server: Server) {
    let url = format!("{}://no-such-bucket-{}/volume", server.scheme, process::id());
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

/// Where signatures are checked.
mod denied {
    mod seaweedfs {
        #[tokio::test]
        #[ignore = "needs a server: run `cargo xtask test`"]
        async fn a_wrong_key_is_refused() {
            super::super::a_wrong_key_is_refused("seaweedfs").await;
        }
    }
    mod azure {
        #[tokio::test]
        #[ignore = "needs a server: run `cargo xtask test`"]
        async fn a_wrong_key_is_refused() {
            super::super::a_wrong_key_is_refused("azure").await;
        }
    }
}

async fn a_wrong_key_is_refused(name: &str) {
    let mut server = server(name);
    // In base 64, as Azure has its keys.
    server.options = server.options.with_secret_access_key("d3Jvbmc=");
    let store = server.store("denied");
    let bytes = Bytes::from_static(b"x");
    for error in [
        store.put_new("a", bytes.clone()).await.unwrap_err(),
        store.get("a").await.unwrap_err(),
        store.list("", None).await.unwrap_err(),
        store.delete("a").await.unwrap_err(),
        store.put_large("a", vec![Bytes::from(vec![0; 9 << 20])]).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    }
}
