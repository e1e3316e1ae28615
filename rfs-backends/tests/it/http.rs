//! What an S3 server's answers mean, down to the connection.

use crate::canned::{Canned, answer, object, refusal, store_at, stored};
use bytes::Bytes;
use rfs_backends::{PutNew, Store, StoreErrorKind, StoreOptions};
use std::time::Duration;
use tokio::net::TcpSocket;

const OURS: Bytes = Bytes::from_static(b"ours");

#[tokio::test]
async fn an_overloaded_server_is_asked_again() {
    let server =
        Canned::new([refusal(503, "SlowDown"), refusal(500, "InternalError"), refusal(429, ""), stored()])
            .await;
    let store = server.store();
    store.put("a", OURS).await.unwrap();
    assert_eq!(server.methods(), ["PUT"; 4]);
    assert_eq!(store.meter().snapshot().requests(), 4, "the client below retries nothing");
}

#[tokio::test]
async fn refusals_for_good_are_told_apart_at_once() {
    for (response, kind) in [
        (refusal(403, "SignatureDoesNotMatch"), StoreErrorKind::Denied),
        (refusal(401, "AccessDenied"), StoreErrorKind::Denied),
        (refusal(404, "NoSuchBucket"), StoreErrorKind::NoBucket),
        (refusal(501, "NotImplemented"), StoreErrorKind::NoPutIfAbsent),
        (refusal(400, "MalformedXML"), StoreErrorKind::Other),
        (refusal(301, "PermanentRedirect"), StoreErrorKind::Other),
        (refusal(507, ""), StoreErrorKind::Full),
    ] {
        let server = Canned::new([response]).await;
        let error = server.store().put_new("a", OURS).await.unwrap_err();
        assert_eq!((error.kind(), server.methods().len()), (kind, 1), "{error}");
        assert!(error.to_string().starts_with("creating s3://bucket/volume/a: "), "{error}");
    }
}

#[tokio::test]
async fn a_missing_object_is_not_a_missing_bucket() {
    let server = Canned::new([refusal(404, "NoSuchKey"), refusal(404, "NoSuchBucket")]).await;
    let store = server.store();
    assert_eq!(store.get("a").await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.get("a").await.unwrap_err().kind(), StoreErrorKind::NoBucket);
    assert_eq!(store.delete("a").await.unwrap_err().kind(), StoreErrorKind::NoBucket);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_put_is_resolved() {
    let server = Canned::new([vec![], refusal(412, "PreconditionFailed"), object(&OURS)]).await;
    assert_eq!(server.store().put_new("a", OURS).await.unwrap(), PutNew::Created);
    assert_eq!(server.methods(), ["PUT", "PUT", "GET"]);
    let server = Canned::new([vec![], refusal(412, "PreconditionFailed"), object(b"theirs")]).await;
    let other = PutNew::Exists(Bytes::from_static(b"theirs"));
    assert_eq!(server.store().put_new("a", OURS).await.unwrap(), other);
}

#[tokio::test]
async fn a_409_is_open_until_read() {
    let conflict = || refusal(409, "ConditionalRequestConflict");
    let server = Canned::new([conflict(), refusal(404, "NoSuchKey"), stored()]).await;
    assert_eq!(server.store().put_new("a", OURS).await.unwrap(), PutNew::Created);
    assert_eq!(server.methods(), ["PUT", "GET", "PUT"]);
    let server = Canned::new([conflict(), object(b"theirs")]).await;
    let other = PutNew::Exists(Bytes::from_static(b"theirs"));
    assert_eq!(server.store().put_new("a", OURS).await.unwrap(), other);
}

#[tokio::test]
async fn a_range_past_the_end_is_no_outage() {
    let server = Canned::new([
        refusal(416, "InvalidRange"),
        answer(200, "ETag: \"0\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", b""),
    ])
    .await;
    let error = server.store().get_range("a", 5..9).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Truncated, "{error}");
    assert_eq!(server.methods(), ["GET", "HEAD"]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_data() {
    let mut short = object(b"0123456789");
    short.truncate(short.len() - 4);
    let server = Canned::new([short, object(b"0123456789")]).await;
    assert_eq!(server.store().get("a").await.unwrap(), "0123456789");
    assert_eq!(server.methods(), ["GET", "GET"]);
}

#[tokio::test]
async fn an_answer_without_sense_is_not_taken_for_an_outage() {
    // The whole object where a range was asked for.
    let server = Canned::new([object(b"0123456789")]).await;
    let error = server.store().get_range("a", 2..4).await.unwrap_err();
    assert_eq!((error.kind(), server.methods().len()), (StoreErrorKind::Other, 6), "{error}");
}

#[tokio::test]
async fn a_flood_of_an_error_is_cut() {
    let flood = vec![b'x'; 8 << 20];
    for status in [400, 403] {
        let server = Canned::new([answer(status, "", &flood)]).await;
        let error = server.store().put("a", OURS).await.unwrap_err();
        assert!(error.to_string().len() < 1000, "{}", error.to_string().len());
        assert!(format!("{error:?}").len() < 100_000);
    }
}

#[tokio::test]
async fn nobody_at_the_port_is_unreachable() {
    // Bound and not listening: the port is ours, so that no server of another test can get it, and refuses.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = store_at(socket.local_addr().unwrap(), Duration::from_millis(500))
        .put_new("a", OURS)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn settings_are_checked_when_opening() {
    let open = |options| Store::from_url("s3://bucket", options).unwrap_err();
    let options = || {
        StoreOptions::default()
            .with_endpoint("http://127.0.0.1:9")
            .with_access_key_id("key")
            .with_secret_access_key("very-secret")
            .with_allow_http(true)
    };
    let plain = open(options().with_allow_http(false));
    assert!(
        plain.kind() == StoreErrorKind::BadUrl && plain.to_string().contains("AWS_ALLOW_HTTP"),
        "{plain}"
    );
    let unknown = open(options().with_platform("colour", "red"));
    assert!(unknown.kind() == StoreErrorKind::BadUrl && unknown.to_string().contains("colour"), "{unknown}");
    assert_eq!(open(options().with_platform("allow_http", "maybe")).kind(), StoreErrorKind::BadUrl);
    assert!(!format!("{:?}", options()).contains("very-secret"));
}
