//! What is done about each kind of failure: the rows of the table in `docs/stores.md`, by an S3 server's answers.

use crate::canned::{Answer, Canned, answer, object, refusal, store_at, stored};
use bytes::Bytes;
use rfs_backends::StoreErrorKind as Kind;
use std::time::Duration;

const OURS: Bytes = Bytes::from_static(b"ours");

/// A put that meets `answers` and then success; its outcome, and how often the server was asked.
async fn put_through(answers: impl IntoIterator<Item = Answer>) -> (Result<(), Kind>, usize) {
    let server = Canned::new(answers.into_iter().chain([stored()])).await;
    let outcome = server.store().put("a", OURS).await.map_err(|error| error.kind());
    (outcome, server.methods().len())
}

#[tokio::test]
async fn what_passes_is_repeated_until_it_has_passed() {
    for passing in [
        refusal(429, ""),
        refusal(503, "SlowDown"),
        refusal(503, ""),
        refusal(500, "InternalError"),
        refusal(502, ""),
        refusal(504, ""),
        refusal(408, ""),
        refusal(400, "RequestTimeout"),
        // The connection closes without an answer.
        vec![],
    ] {
        let text = String::from_utf8_lossy(&passing).into_owned();
        let five = std::iter::repeat_n(passing, 5);
        assert_eq!(put_through(five).await, (Ok(()), 6), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_was_damaged_on_the_way_is_sent_three_times() {
    for code in ["BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"] {
        let times = |n| std::iter::repeat_n(refusal(400, code), n);
        assert_eq!(put_through(times(2)).await, (Ok(()), 3), "{code}");
        assert_eq!(put_through(times(3)).await, (Err(Kind::Unreachable), 3), "{code}");
    }
}

#[tokio::test]
async fn an_expired_credential_is_tried_once_more() {
    for status in [400, 401, 403] {
        let times = |n| std::iter::repeat_n(refusal(status, "ExpiredToken"), n);
        assert_eq!(put_through(times(1)).await, (Ok(()), 2), "{status}");
        assert_eq!(put_through(times(2)).await, (Err(Kind::Denied), 2), "{status}");
    }
    assert_eq!(put_through([refusal(403, "InvalidAccessKeyId")]).await, (Err(Kind::Denied), 1));
}

#[tokio::test]
async fn a_wrong_clock_is_told_with_its_remedy() {
    let server = Canned::new([refusal(403, "RequestTimeTooSkewed")]).await;
    let error = server.store().get("a").await.unwrap_err();
    assert_eq!((error.kind(), server.methods().len()), (Kind::ClockSkew, 1));
    let text = error.to_string();
    assert!(text.contains("RequestTimeTooSkewed") && text.contains("set this machine's clock"), "{text}");
    assert!(!error.kind().is_transient());
}

#[tokio::test]
async fn bodies_of_a_wrong_length_are_never_data() {
    let whole = object(b"0123456789");
    let mut cut = whole.clone();
    cut.truncate(cut.len() - 4);
    let server = Canned::new([cut.clone(), cut.clone(), whole]).await;
    assert_eq!(server.store().get("a").await.unwrap(), "0123456789");
    assert_eq!(server.methods().len(), 3);
    // The whole object where a range was asked for, or another range.
    for senseless in [object(b"0123456789"), ranged("5-6/10", b"56")] {
        let server = Canned::new([senseless]).await;
        let error = server.store().get_range("a", 2..4).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Other | Kind::Truncated), "{error}");
        // After each the size is asked for: a range past the end is answered without sense by some.
        let gets = server.methods().iter().filter(|method| *method == "GET").count();
        assert!(gets <= 3 && server.methods().len() <= 6, "{:?}", server.methods());
    }
    let server = Canned::new([ranged("2-3/10", b"23")]).await;
    assert_eq!(server.store().get_range("a", 2..4).await.unwrap(), "23");
}

#[tokio::test]
async fn a_store_that_asks_for_rest_beyond_the_deadline_is_left_alone() {
    let rest = answer(503, "Retry-After: 3600\r\n", b"<Error><Code>SlowDown</Code></Error>");
    let server = Canned::new([rest]).await;
    let error = server.store().put("a", OURS).await.unwrap_err();
    assert_eq!((error.kind(), server.methods().len()), (Kind::Unreachable, 1), "{error}");
    assert!(error.to_string().contains("asked again in 3600 s"), "{error}");
    let store = store_at(server.address(), Duration::from_millis(200));
    let error = store.get_range("a", 0..4).await.unwrap_err();
    assert_eq!((error.kind(), server.methods().len()), (Kind::Unreachable, 2), "no HEAD either: {error}");
}

#[tokio::test]
async fn a_wish_for_rest_may_be_a_time_by_the_servers_clock() {
    let asked = |wish: &str| {
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        answer(503, &format!("{date}Retry-After: {wish}\r\n"), b"")
    };
    let server = Canned::new([asked("Sun, 06 Nov 1994 09:49:37 GMT")]).await;
    let error = server.store().put("a", OURS).await.unwrap_err();
    assert_eq!((error.kind(), server.methods().len()), (Kind::Unreachable, 1), "{error}");
    assert!(error.to_string().contains("asked again in 3600 s"), "{error}");
    let never = asked("Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(put_through([never]).await, (Err(Kind::Unreachable), 1));
    // One that is past, and one of which nobody knows how far off it is, are no reason to wait or to fail.
    let past = asked("Sun, 06 Nov 1994 08:49:36 GMT");
    let undated = answer(503, "Retry-After: Sun, 06 Nov 1994 09:49:37 GMT\r\n", b"");
    assert_eq!(put_through([past, undated]).await, (Ok(()), 3));
}

#[tokio::test]
async fn a_wish_for_rest_is_bounded_by_nothing_that_the_server_says() {
    for wish in ["18446744073709551615", "99999999999999999999", "-5", "soon"] {
        let rest = answer(503, &format!("Retry-After: {wish}\r\n"), b"");
        let (outcome, asked) = put_through([rest]).await;
        match wish {
            "18446744073709551615" => assert_eq!((outcome, asked), (Err(Kind::Unreachable), 1)),
            _ => assert_eq!(
                (outcome, asked),
                (Ok(()), 2),
                "{wish} is not understood, and is no reason to fail"
            ),
        }
    }
}

/// A successful get of a range.
fn ranged(range: &str, bytes: &[u8]) -> Answer {
    let headers = format!(
        "ETag: \"0\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Range: bytes {range}\r\n"
    );
    answer(206, &headers, bytes)
}
