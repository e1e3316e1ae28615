//! What is Azure's, Google's and HTTP's own, by canned answers.

use crate::canned::{Answer, Canned, answer, object, options_at, refusal, stored};
use bytes::Bytes;
use rfs_backends::{PutNew, Store, StoreErrorKind, StoreOptions};

const OURS: Bytes = Bytes::from_static(b"ours");

fn azure(server: &Canned) -> StoreOptions {
    options_at(server.address()).with_access_key_id("account").with_secret_access_key("c2VjcmV0")
}

fn gcs(server: &Canned) -> StoreOptions {
    let account = r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}"#;
    options_at(server.address()).with_platform("service_account_key", account)
}

fn open(url: &str, options: StoreOptions) -> Store {
    Store::from_url(url, options).unwrap()
}

fn azure_refusal(status: u16, code: &str) -> Answer {
    answer(status, &format!("x-ms-error-code: {code}\r\n"), b"")
}

#[tokio::test]
async fn a_refused_create_is_read_back_on_each_platform() {
    let theirs = PutNew::Exists(Bytes::from_static(b"theirs"));
    let server = Canned::new([azure_refusal(409, "BlobAlreadyExists"), object(b"theirs")]).await;
    assert_eq!(open("az://c/volume", azure(&server)).put_new("a", OURS).await.unwrap(), theirs);
    let heads = server.heads();
    assert!(
        heads[0].starts_with("put /c/volume/a http") && heads[0].contains("if-none-match: *"),
        "{heads:?}"
    );
    let generation =
        "ETag: \"0\"\r\nx-goog-generation: 1\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    let server = Canned::new([refusal(412, "PreconditionFailed"), answer(200, generation, b"theirs")]).await;
    assert_eq!(open("gs://b/volume", gcs(&server)).put_new("a", OURS).await.unwrap(), theirs);
    let heads = server.heads();
    assert!(heads[0].contains("x-goog-if-generation-match: 0"), "{heads:?}");
}

#[tokio::test]
async fn refusals_are_told_apart_by_azures_header_too() {
    for (response, kind) in [
        (azure_refusal(404, "ContainerNotFound"), StoreErrorKind::NoBucket),
        (azure_refusal(409, "ContainerBeingDeleted"), StoreErrorKind::NoBucket),
        (azure_refusal(403, "AuthenticationFailed"), StoreErrorKind::Denied),
        (azure_refusal(400, "InvalidResourceName"), StoreErrorKind::BadUrl),
    ] {
        let server = Canned::new([response]).await;
        let store = open("az://container/volume", azure(&server));
        for error in [store.put("a", OURS).await.unwrap_err(), store.delete("a").await.unwrap_err()] {
            assert_eq!(error.kind(), kind, "{error}");
        }
        assert_eq!(server.methods(), ["PUT", "POST"], "none is tried again");
    }
    let server = Canned::new([azure_refusal(404, "ContainerNotFound")]).await;
    let error = open("az://container", azure(&server)).head("a").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoBucket, "{error}");
}

#[tokio::test]
async fn an_overloaded_platform_is_asked_again() {
    let created = answer(201, "ETag: \"0\"\r\n", b"");
    let server =
        Canned::new([azure_refusal(503, "ServerBusy"), azure_refusal(500, "OperationTimedOut"), created]);
    let server = server.await;
    open("az://container", azure(&server)).put("a", OURS).await.unwrap();
    assert_eq!(server.methods(), ["PUT"; 3]);
    // As when one object is written more than once a second.
    let server =
        Canned::new([refusal(429, "SlowDown"), answer(200, "ETag: \"0\"\r\nx-goog-generation: 1\r\n", b"")]);
    let server = server.await;
    open("gs://bucket", gcs(&server)).put("a", OURS).await.unwrap();
    assert_eq!(server.methods(), ["PUT"; 2]);
}

#[tokio::test]
async fn every_object_gets_its_class_and_tags() {
    let server = Canned::new([stored()]).await;
    let options = options_at(server.address()).with_region("r").with_access_key_id("k");
    let options =
        options.with_secret_access_key("s").with_storage_class("STANDARD_IA").with_tag("Team", "a b");
    let store = open("s3://bucket", options.with_platform("server_side_encryption", "AES256"));
    store.put_new("a", OURS).await.unwrap();
    let head = server.heads().remove(0);
    for line in [
        "x-amz-storage-class: standard_ia",
        "x-amz-tagging: team=a+b",
        "x-amz-server-side-encryption: aes256",
        "if-none-match: *",
    ] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    // Also those that go up in parts, of which only what failed is sent again.
    let begun = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
    let ended = b"<CompleteMultipartUploadResult><ETag>\"0\"</ETag></CompleteMultipartUploadResult>";
    let (begun, ended) = (answer(200, "", begun), answer(200, "", ended));
    let large = || vec![Bytes::from(vec![7; 12 << 20])];
    for url in ["s3://bucket", "gs://bucket"] {
        let answers = [begun.clone(), refusal(500, "InternalError"), stored(), stored(), ended.clone()];
        let server = Canned::new(answers).await;
        let options = match url {
            "gs://bucket" => gcs(&server),
            _ => options_at(server.address()).with_region("r").with_access_key_id("k"),
        };
        let options = if url == "s3://bucket" { options.with_secret_access_key("s") } else { options };
        let options = options.with_storage_class("COLD").with_multipart_threshold(8 << 20);
        open(url, options).put_large("a", large()).await.unwrap();
        assert_eq!(server.methods(), ["POST", "PUT", "PUT", "PUT", "POST"], "{url}");
        let head = server.heads().remove(0);
        assert!(head.contains("storage-class: cold"), "{head}");
    }
    let server = Canned::new([answer(201, "ETag: \"0\"\r\n", b"")]).await;
    let store = open("az://container", azure(&server).with_storage_class("Cool").with_tag("Team", "a"));
    store.put("a", OURS).await.unwrap();
    let head = server.heads().remove(0);
    assert!(head.contains("x-ms-access-tier: cool") && head.contains("x-ms-tags: team=a"), "{head}");
    let error = Store::from_url("gs://bucket", gcs(&server).with_tag("Team", "a")).unwrap_err();
    assert!(error.to_string().contains("no tags"), "{error}");
}

#[tokio::test]
async fn a_platform_is_reached_through_a_proxy() {
    let proxy = Canned::new([stored()]).await;
    let options = options_at("127.0.0.1:9".parse().unwrap()).with_endpoint("http://store.invalid");
    let options = options.with_region("r").with_access_key_id("k").with_secret_access_key("s");
    let store = open("s3://bucket", options.with_proxy_url(format!("http://{}", proxy.address())));
    store.put("a", OURS).await.unwrap();
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("put http://store.invalid/bucket/a "), "{head}");
}

#[test]
fn settings_of_each_platform_are_checked_when_opening() {
    let options = StoreOptions::default;
    let refused = |url: &str, options: StoreOptions| {
        let error = Store::from_url(url, options).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::BadUrl, "{error}");
        error.to_string()
    };
    let account = || options().with_access_key_id("account").with_secret_access_key("c2VjcmV0");
    assert!(refused("az://container", options().with_region("r")).contains("storage account is not said"));
    assert!(refused("az://container", account().with_platform("colour", "red")).contains("colour"));
    assert!(
        refused("az://container", account().with_platform("container_name", "x")).contains("the URL decides")
    );
    let plain = refused("az://container", account().with_endpoint("http://127.0.0.1:9"));
    assert!(plain.contains("AZURE_ALLOW_HTTP"), "{plain}");
    assert!(refused("gs://bucket", account()).contains("service_account"));
    assert!(
        refused("gs://bucket", options().with_endpoint("http://127.0.0.1:9")).contains("GOOGLE_ALLOW_HTTP")
    );
    let key = options().with_platform("service_account_key", "{}").with_platform("bucket", "other");
    assert!(refused("gs://bucket", key).contains("the URL decides"));
    assert!(refused("https://host/dir", options().with_platform("colour", "red")).contains("colour"));
    assert!(refused("https://host/dir", options().with_storage_class("X")).contains("storage class"));
    let file = options().with_access_key_id("k").with_secret_access_key("s").with_ca_file("no/such/file");
    assert!(refused("s3://bucket", file).contains("no/such/file"));
}

#[tokio::test]
async fn what_an_http_server_has_is_read_and_never_written() {
    let part =
        answer(206, "Content-Range: bytes 2-3/10\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", b"23");
    let listed = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/dir/log/1</D:href>\
                  <D:propstat><D:prop><D:resourcetype/><D:getcontentlength>10</D:getcontentlength>\
                  <D:getlastmodified>Mon, 01 Jan 2024 00:00:00 GMT</D:getlastmodified></D:prop>\
                  <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>";
    let server = Canned::new([
        object(b"0123456789"),
        part,
        answer(207, "", listed.as_bytes()),
        answer(404, "", b""),
        // As of a server without WebDAV.
        answer(405, "", b""),
    ])
    .await;
    let store = open(&format!("http://{}/dir", server.address()), StoreOptions::default());
    assert_eq!(store.get("a").await.unwrap(), "0123456789");
    assert_eq!(store.get_range("a", 2..4).await.unwrap(), "23");
    let keys: Vec<_> = store.list("log", None).await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["log/1"]);
    assert_eq!(store.get("b").await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.list("log", None).await.unwrap_err().kind(), StoreErrorKind::Unsupported);
    let asked = server.methods();
    assert_eq!(asked, ["GET", "GET", "PROPFIND", "GET", "PROPFIND"]);
    for error in [
        store.put("a", OURS).await.unwrap_err(),
        store.put_large("a", vec![Bytes::from(vec![0; 9 << 20])]).await.unwrap_err(),
        store.delete("a").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("for reading only"), "{error}");
    }
    let create = store.put_new("a", OURS).await.unwrap_err();
    assert_eq!(create.kind(), StoreErrorKind::NoPutIfAbsent, "{create}");
    assert_eq!(server.methods(), asked, "nothing is sent");
}
