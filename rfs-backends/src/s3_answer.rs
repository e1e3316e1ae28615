//! What an S3 store answers when it refuses, kept in a form that can be told apart.
//!
//! `object_store` folds most refusals into text. [`Connector`] stands between it and the HTTP client and turns those
//! whose status decides what to do next into a [`Refusal`], found again among the causes of the error. It also bounds
//! what is read of an error's body: that text comes from outside.

use crate::{StoreErrorKind, classify::Repeat};
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

/// How much of an error's body is read, in bytes.
const LONGEST_BODY: usize = 16 << 10;

/// Answers that mean: there is a server, and it refuses.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {status} {code}")]
pub(crate) struct Refusal {
    status: u16,
    /// S3's code in the body, or nothing.
    code: String,
}

impl Refusal {
    pub(crate) fn class(&self) -> (StoreErrorKind, Repeat) {
        match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => (StoreErrorKind::NoBucket, Repeat::Never),
            (_, "NotImplemented") | (501, _) => (StoreErrorKind::Unsupported, Repeat::Never),
            (_, "InvalidBucketName") => (StoreErrorKind::BadUrl, Repeat::Never),
            (507, _) | (_, "XMinioStorageFull") => (StoreErrorKind::Full, Repeat::Never),
            (408 | 429 | 500.., _) | (_, "RequestTimeout" | "SlowDown") => {
                (StoreErrorKind::Unreachable, Repeat::UntilDeadline)
            }
            (416, _) => (StoreErrorKind::Truncated, Repeat::Never),
            _ => (StoreErrorKind::Other, Repeat::Never),
        }
    }
}

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
        let response = self.0.execute(request).await?;
        let status = response.status().as_u16();
        if status < 300 || status == 304 {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = beginning(body).await;
        let code = code_in(&body).unwrap_or_default();
        let known_to_object_store = matches!(status, 401 | 403 | 404 | 409 | 412);
        if known_to_object_store && code != "NoSuchBucket" {
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        // Of this kind nothing below is tried again: that is the caller's business, under the caller's deadline.
        Err(HttpError::new(HttpErrorKind::Unknown, Refusal { status, code }))
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

/// The text of the first `<Code>` element.
fn code_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
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
    fn classes() {
        let class = |status, code: &str| Refusal { status, code: code.to_owned() }.class();
        assert_eq!(class(404, "NoSuchBucket"), (StoreErrorKind::NoBucket, Repeat::Never));
        assert_eq!(class(501, ""), (StoreErrorKind::Unsupported, Repeat::Never));
        assert_eq!(class(503, "SlowDown"), (StoreErrorKind::Unreachable, Repeat::UntilDeadline));
        assert_eq!(class(400, "RequestTimeout"), (StoreErrorKind::Unreachable, Repeat::UntilDeadline));
        assert_eq!(class(400, "MalformedXML"), (StoreErrorKind::Other, Repeat::Never));
        assert_eq!(class(301, "PermanentRedirect"), (StoreErrorKind::Other, Repeat::Never));
    }
}
