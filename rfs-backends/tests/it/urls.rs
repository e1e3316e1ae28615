//! Opening stores by URL.

use bytes::Bytes;
use rfs_backends::{PutNew, Store, StoreErrorKind, StoreOptions};
use std::{fs, path::Path};

fn open(url: &str) -> Result<Store, rfs_backends::StoreError> {
    Store::from_url(url, StoreOptions::default())
}

fn file_url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

#[test]
fn what_is_not_understood_is_refused_with_what_is() {
    let long = format!("s3://bucket/{}", "p".repeat(5000));
    for url in [
        "",
        "x",
        "/tmp/dir",
        "memory:",
        "ftp://host/dir",
        "S3://bucket",
        "memory://a?b=c",
        "memory://a b",
        "memory:///x",
        "file://",
        "file:///",
        "file://host/dir",
        "file://relative",
        "file:///a/../b",
        "file:///a?x",
        "file:///a#b",
        "file:///a%zz",
        "s3://",
        "s3:///prefix",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket?x=y",
        "s3://user:secret@bucket/x",
        "s3://bucket/a\nb",
        "az://",
        "az://container/../x",
        "az://container@account/x",
        "gs:///prefix",
        "gs://bucket?x=y",
        "http://",
        "http:///path",
        "http://user:secret@host/x",
        "https://host/../x",
        "https://host/a%2Fb",
        "http://host:port/x",
        &long,
    ] {
        let error = open(url).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::BadUrl, "{url:?}: {error}");
        let text = error.to_string();
        assert!(
            text.contains("accepted are memory://[name], file:///dir, s3://bucket[/prefix], az://"),
            "{text}"
        );
        assert!(text.len() < 1000, "{}", text.len());
    }
}

#[tokio::test]
async fn a_named_memory_store_is_found_again_and_an_unnamed_is_not() {
    let one = Bytes::from_static(b"1");
    open("memory://urls-test").unwrap().put("a", one.clone()).await.unwrap();
    assert_eq!(open("memory://urls-test").unwrap().get("a").await.unwrap(), one);
    open("memory://urls-test/deeper").unwrap().put("b", one.clone()).await.unwrap();
    let keys = open("memory://urls-test").unwrap().list("deeper", None).await.unwrap();
    assert_eq!(keys[0].key, "deeper/b");
    open("memory://").unwrap().put("a", one).await.unwrap();
    assert_eq!(open("memory://").unwrap().get("a").await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_directory_is_made_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(&dir.path().join("some/new%20place"));
    let store = open(&url).unwrap();
    assert!(dir.path().join("some/new place").is_dir());
    assert!(format!("{:?}", store.inner()).contains("fsync: true"), "{:?}", store.inner());
    assert_eq!(store.put_new("log/1", Bytes::from_static(b"a")).await.unwrap(), PutNew::Created);
    assert_eq!(store.meter().snapshot().requests(), 1);
    drop(store);
    let store = open(&url).unwrap();
    assert_eq!(
        store.put_new("log/1", Bytes::from_static(b"b")).await.unwrap(),
        PutNew::Exists(Bytes::from_static(b"a"))
    );
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&file_url(dir.path())).unwrap();
    store.put("log/1", Bytes::from_static(b"whole")).await.unwrap();
    fs::write(dir.path().join("log/2#1"), "hal").unwrap();
    let keys = store.list("log", None).await.unwrap();
    assert_eq!(keys.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["log/1"]);
    // The key itself stays usable beside the remainder.
    assert_eq!(store.put_new("log/2", Bytes::from_static(b"new")).await.unwrap(), PutNew::Created);
    assert_eq!(store.get("log/2").await.unwrap(), "new");
}

#[tokio::test]
async fn large_objects_and_ranges_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&file_url(dir.path())).unwrap();
    let chunks: Vec<_> = (0..9_u8).map(|piece| Bytes::from(vec![piece; 1 << 20])).collect();
    store.put_large("segment", chunks.clone()).await.unwrap();
    assert_eq!(store.get("segment").await.unwrap(), chunks.concat());
    let range = store.get_range("segment", (3 << 20) - 1..(3 << 20) + 1).await.unwrap();
    assert_eq!(range[..], [2, 3]);
    for beyond in [(9 << 20) - 1..(9 << 20) + 1, (9 << 20)..(9 << 20) + 1] {
        let error = store.get_range("segment", beyond).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Truncated, "{error}");
    }
    store.delete("segment").await.unwrap();
    store.delete("segment").await.unwrap();
}

#[test]
fn a_file_is_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&file_url(&path)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::BadUrl, "{error}");
        assert!(error.to_string().contains("director"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
