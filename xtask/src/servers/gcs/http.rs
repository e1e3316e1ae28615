//! As much of HTTP/1.1 as one client on loopback needs.

use std::fmt::Write;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// No head is longer, in bytes.
const LONGEST_HEAD: u64 = 64 << 10;
/// No body is longer, in bytes.
const LONGEST_BODY: u64 = 1 << 30;

/// What a client asks.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query, as it was sent.
    pub(super) path: String,
    query: Vec<(String, String)>,
    /// With names in small letters.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The next request, or none when the client closed the connection before it.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = from.by_ref().take(LONGEST_HEAD);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(malformed("the request line"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty());
        let query = query.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
        });
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.collect());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Err(malformed("the head"));
            }
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, query, headers, body: Vec::new() };
        let length = match request.header("content-length") {
            Some(length) => length.parse().map_err(|_| malformed("the length"))?,
            None => 0,
        };
        if length > LONGEST_BODY || request.header("transfer-encoding").is_some() {
            return Err(malformed("the length of the body"));
        }
        if from.take(length).read_to_end(&mut request.body)? as u64 != length {
            return Err(malformed("the body"));
        }
        Ok(Some(request))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is malformed"))
}

/// Text with its `%XX` undone; what is no such escape stays.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape =
            after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a client is answered.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    headers: String,
    body: Arc<Vec<u8>>,
    part: std::ops::Range<usize>,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = Arc::new(body.into());
        let part = 0..body.len();
        Self { status, headers: String::new(), body, part }
    }

    /// A part of bytes that are kept elsewhere.
    pub(super) fn of(status: u16, body: Arc<Vec<u8>>, part: std::ops::Range<usize>) -> Self {
        Self { status, headers: String::new(), body, part }
    }

    /// A refusal, as the API words it.
    pub(super) fn refusal(status: u16, code: &str) -> Self {
        Self::new(status, format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>"))
    }

    pub(super) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        // Writing to a string does not fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    /// All of it as it is sent; without the body, but for its length, to a `HEAD`.
    pub(super) fn bytes(&self, head: bool) -> Vec<u8> {
        let body = &self.body[self.part.clone()];
        // These have no body, and say no length.
        let length = match self.status {
            204 | 304 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let mut bytes = format!("HTTP/1.1 {} -\r\n{}{length}\r\n", self.status, self.headers).into_bytes();
        if !head {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(decoded("a%20b%2fc"), "a b/c");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn what_is_malformed_or_too_long_ends_the_connection() {
        let read = |text: &str| Request::read(&mut text.as_bytes());
        assert!(read("").unwrap().is_none());
        let request =
            read("PUT /b/k?a=1&b HTTP/1.1\r\nX-A: v\r\nContent-Length: 2\r\n\r\nxy").unwrap().unwrap();
        assert_eq!((request.path.as_str(), request.body.as_slice()), ("/b/k", &b"xy"[..]));
        assert_eq!(
            (request.query("a"), request.query("b"), request.header("x-a")),
            (Some("1"), Some(""), Some("v"))
        );
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD as usize));
        for text in [
            "GET\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y",
            "PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nxy",
            "PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long,
        ] {
            assert!(read(text).is_err(), "{}", &text[..40.min(text.len())]);
        }
    }
}
