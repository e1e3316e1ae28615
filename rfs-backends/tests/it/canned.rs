//! An HTTP server on loopback that gives the answers it was told, one for each request.

use rfs_backends::{Store, StoreOptions};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Heads of requests, in the order of arrival.
type Heard = Arc<Mutex<Vec<String>>>;

/// An answer: the whole response as sent. The empty one closes the connection.
pub(crate) type Answer = Vec<u8>;

pub(crate) struct Canned {
    address: SocketAddr,
    heard: Heard,
    serving: JoinHandle<()>,
}

impl Canned {
    /// Serves `answers` in order; further requests get the last one again.
    pub(crate) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Heard::default();
        let serving = tokio::spawn(serve(listener, answers.into_iter().collect(), Arc::clone(&heard)));
        Self { address, heard, serving }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the requests so far, in small letters.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|head| head.to_ascii_lowercase()).collect()
    }

    pub(crate) fn store(&self) -> Store {
        // None of these tests is meant to come to its deadline.
        store_at(self.address, Duration::from_secs(30))
    }

    /// The methods of the requests so far.
    pub(crate) fn methods(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Options of a store at an address on loopback, with short waits.
pub(crate) fn options_at(address: SocketAddr) -> StoreOptions {
    StoreOptions::default()
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_backoff(Duration::from_millis(1), Duration::from_millis(5))
        .with_deadline(Duration::from_secs(30))
}

/// An S3 store there.
pub(crate) fn store_at(address: SocketAddr, deadline: Duration) -> Store {
    let options = options_at(address)
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_deadline(deadline);
    Store::from_url("s3://bucket/volume", options).unwrap()
}

/// `answer(200, "", b"")` and the like.
pub(crate) fn answer(status: u16, headers: &str, body: &[u8]) -> Answer {
    let mut response = format!(
        "HTTP/1.1 {status} Canned\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    response
}

/// S3's form of a refusal.
pub(crate) fn refusal(status: u16, code: &str) -> Answer {
    answer(status, "", format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>").as_bytes())
}

/// A successful put.
pub(crate) fn stored() -> Answer {
    answer(200, "ETag: \"0\"\r\n", b"")
}

/// A successful get.
pub(crate) fn object(bytes: &[u8]) -> Answer {
    answer(200, "ETag: \"0\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", bytes)
}

async fn serve(listener: TcpListener, mut answers: VecDeque<Answer>, heard: Heard) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { return };
        let mut connection = BufReader::new(connection);
        let Some(line) = request(&mut connection).await else { continue };
        heard.lock().unwrap().push(line);
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        // The other side may have gone away by now, as in tests of answers that are too long.
        let _ = connection.write_all(&answer.unwrap_or_default()).await;
        let _ = connection.shutdown().await;
    }
}

/// Reads one request and returns its head.
async fn request(connection: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    connection.read_line(&mut head).await.ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        head.push_str(&line);
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    Some(head)
}
