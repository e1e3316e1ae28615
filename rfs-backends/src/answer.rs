//! What a store behind HTTP answers when it refuses, kept in a form that can be told apart.
//!
//! `object_store` folds most refusals into text. [`Connector`] stands between it and the HTTP client and turns those
//! whose status decides what to do next into a [`Refusal`], found again among the causes of the error. It also bounds
//! what is read of an error's body: that text comes from outside.

use crate::{
    StoreErrorKind,
    http_date::seconds_since_1970,
    policy::{self, Repeat, Row},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService, ReqwestConnector,
    },
};
use std::time::Duration;

/// How much of an error's body is read, in bytes.
const LONGEST_BODY: usize = 16 << 10;

/// The codes of S3, GCS and Azure for a bucket, or container, that is not there, or no longer.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"];

/// The header in which Azure has its code, also where there is no body.
const CODE_HEADER: &str = "x-ms-error-code";

/// Answers that mean: there is a server, and it refuses.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {status} {code}")]
pub(crate) struct Refusal {
    status: u16,
    /// The platform's code for it, or nothing.
    code: String,
    /// How long the server asks to be left alone.
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn class(&self) -> Row {
        match (self.status, self.code.as_str()) {
            (_, code) if NO_BUCKET.contains(&code) => (StoreErrorKind::NoBucket, Repeat::Never),
            (_, "NotImplemented") | (405 | 501, _) => (StoreErrorKind::Unsupported, Repeat::Never),
            (_, "InvalidBucketName" | "InvalidResourceName" | "OutOfRangeInput") => {
                (StoreErrorKind::BadUrl, Repeat::Never)
            }
            (507, _) | (_, "XMinioStorageFull") => (StoreErrorKind::Full, Repeat::Never),
            (_, code) if EXPIRED.contains(&code) => policy::EXPIRED,
            (_, code) if SKEWED.contains(&code) => policy::SKEWED,
            (_, code) if DAMAGED.contains(&code) => policy::DAMAGED_ON_THE_WAY,
            (401 | 403, _) => (StoreErrorKind::Denied, Repeat::Never),
            (429 | 503, _) | (_, "SlowDown" | "Throttling" | "ThrottlingException" | "ServerBusy") => {
                policy::THROTTLED
            }
            (408 | 500.., _) | (_, "RequestTimeout" | "OperationTimedOut") => policy::FAILING,
            (416, _) => policy::PAST_THE_END,
            _ => (StoreErrorKind::Other, Repeat::Never),
        }
    }

    /// How long the server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// A temporary credential ran out.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

/// The signature's time is not the server's.
const SKEWED: [&str; 2] = ["RequestTimeTooSkewed", "RequestExpired"];

/// The body came in otherwise than it was sent.
const DAMAGED: [&str; 5] = [
    "BadDigest",
    "IncompleteBody",
    "InvalidDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
];

/// The HTTP client of `object_store`, with refusals made out.
#[derive(Debug)]
pub(crate) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Whether a batch is refused is said of it as a whole, which `object_store` does not tell apart.
        let batch = request.uri().query().is_some_and(|query| query.contains("comp=batch"));
        let response = self.0.execute(request).await?;
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).map(object_store::HeaderValue::as_bytes);
        let retry_after = header("retry-after").and_then(|wish| rest(wish, header("date")));
        if status < 300 || status == 304 {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = beginning(body).await;
        let header = parts.headers.get(CODE_HEADER).and_then(|value| plain_code(value.to_str().ok()?));
        let code = header.or_else(|| code_in(&body)).unwrap_or_default();
        let known_to_object_store = !batch && matches!(status, 404 | 409 | 412);
        if known_to_object_store && !NO_BUCKET.contains(&code.as_str()) {
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        // Of this kind nothing below is tried again: that is the caller's business, under the caller's deadline.
        Err(HttpError::new(HttpErrorKind::Unknown, Refusal { status, code, retry_after }))
    }
}

/// The first bytes of a body, as far as they come. A lost rest is no reason to lose the status.
async fn beginning(body: HttpResponseBody) -> Bytes {
    let mut stream = body.bytes_stream();
    let mut begun = Vec::new();
    while let Ok(Some(chunk)) = stream.try_next().await {
        let room = LONGEST_BODY - begun.len();
        begun.extend_from_slice(&chunk[..room.min(chunk.len())]);
        if begun.len() == LONGEST_BODY {
            break;
        }
    }
    // `object_store` gives up on error bodies that are not UTF-8.
    String::from_utf8_lossy(&begun).into_owned().into()
}

/// How long `Retry-After` asks to wait: a number of seconds, or a time. What that is from now on the server tells, by the time
/// of its answer; our clock may be another.
fn rest(wish: &[u8], date: Option<&[u8]>) -> Option<Duration> {
    if let Ok(seconds) = std::str::from_utf8(wish).ok()?.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (seconds_since_1970(wish)?, seconds_since_1970(date?)?);
    until.checked_sub(now).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// The text of the first `<Code>` element.
fn code_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    plain_code(code)
}

/// A code that may stand in a message.
fn plain_code(code: &str) -> Option<String> {
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_and_bounded() {
        let body = b"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>m</Message></Error>";
        assert_eq!(code_in(body).as_deref(), Some("NoSuchBucket"));
        assert_eq!(code_in(b"<Code>NoSuch"), None);
        assert_eq!(code_in(b"\xff<Code>X</Code>"), None);
        assert_eq!(code_in(format!("<Code>{}</Code>", "x".repeat(65)).as_bytes()), None);
    }

    #[test]
    fn seconds_and_times_are_waited_for() {
        let (earlier, later) = (&b"Wed, 21 Oct 2015 07:28:00 GMT"[..], &b"Thu, 22 Oct 2015 00:00:01 GMT"[..]);
        for date in [None, Some(earlier), Some(&b"no date"[..])] {
            assert_eq!(rest(b" 7 ", date), Some(Duration::from_secs(7)));
            for other in [&b"-1"[..], b"1.5", b"", b"\xff", b"soon"] {
                assert_eq!(rest(other, date), None, "{other:?}");
            }
        }
        assert_eq!(rest(later, Some(earlier)), Some(Duration::from_secs(59_521)));
        for (wish, date) in [(earlier, Some(later)), (later, Some(later)), (later, None), (later, Some(b"x"))]
        {
            assert_eq!(rest(wish, date), None, "it is past, or nobody knows when it is");
        }
    }

    #[test]
    fn classes() {
        let class = |status, code: &str| Refusal { status, code: code.to_owned(), retry_after: None }.class();
        assert_eq!(class(404, "NoSuchBucket"), (StoreErrorKind::NoBucket, Repeat::Never));
        assert_eq!(class(409, "ContainerBeingDeleted"), (StoreErrorKind::NoBucket, Repeat::Never));
        assert_eq!(class(403, "AuthenticationFailed"), (StoreErrorKind::Denied, Repeat::Never));
        assert_eq!(class(405, ""), (StoreErrorKind::Unsupported, Repeat::Never));
        assert_eq!(class(501, ""), (StoreErrorKind::Unsupported, Repeat::Never));
        assert_eq!(class(503, "SlowDown"), policy::THROTTLED);
        assert_eq!(class(429, ""), policy::THROTTLED);
        assert_eq!(class(500, "InternalError"), policy::FAILING);
        assert_eq!(class(400, "RequestTimeout"), policy::FAILING);
        assert_eq!(class(400, "ExpiredToken"), policy::EXPIRED);
        assert_eq!(class(403, "RequestTimeTooSkewed"), policy::SKEWED);
        assert_eq!(class(400, "BadDigest"), policy::DAMAGED_ON_THE_WAY);
        assert_eq!(class(400, "MalformedXML"), (StoreErrorKind::Other, Repeat::Never));
        assert_eq!(class(301, "PermanentRedirect"), (StoreErrorKind::Other, Repeat::Never));
    }
}
