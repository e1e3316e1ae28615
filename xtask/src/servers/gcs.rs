//! A double of Google Cloud Storage: the part of its XML API that the client of rfs speaks, with generations and
//! `x-goog-if-generation-match`. Objects are in memory, and go with the double.
//!
//! It stands in since no emulator that can be installed speaks this part of the API. It is no more than that: it asks
//! for no credentials, and keeps one generation of each object.

mod bucket;
mod http;

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bucket::Bucket;
use http::Request;

/// A server on loopback; it takes no more connections when this is dropped.
#[derive(Debug)]
pub struct Double {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Double {
    /// Serves one bucket of this name on the port.
    pub fn start(port: u16, bucket: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let bucket = Arc::new(Mutex::new(Bucket::new(bucket)));
        let told = Arc::clone(&ended);
        let listening = thread::Builder::new().name("gcs-double".to_owned()).spawn(move || {
            for connection in listener.incoming() {
                if told.load(Ordering::Acquire) {
                    break;
                }
                let bucket = Arc::clone(&bucket);
                // Without a thread the connection is dropped, and the client tries again.
                let _ = connection.and_then(|connection| {
                    let serving = move || drop(serve(&connection, &bucket));
                    thread::Builder::new().name("gcs-connection".to_owned()).spawn(serving)
                });
            }
        })?;
        Ok(Self { address, ended, listening: Some(listening) })
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // It waits for a connection: this one it does not serve.
        if TcpStream::connect(self.address).is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _ = listening.join();
        }
    }
}

/// Answers the requests of one connection until the client closes it.
fn serve(connection: &TcpStream, bucket: &Mutex<Bucket>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    while let Some(request) = Request::read(&mut reader)? {
        let head = request.method == "HEAD";
        let answer = bucket.lock().unwrap_or_else(PoisonError::into_inner).answer(request);
        let mut writer = connection;
        writer.write_all(&answer.bytes(head))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Sends one request on a connection of its own, and returns the status and all that follows the head.
    fn ask(double: &Double, request: &str) -> (String, String) {
        let mut connection = TcpStream::connect(double.address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }

    #[test]
    fn one_creator_wins_and_ranges_are_exact() {
        let double = Double::start(0, "b").unwrap();
        let create = |body: &str| {
            let head = "PUT /b/a%20b/c HTTP/1.1\r\nx-goog-if-generation-match: 0\r\nContent-Length";
            ask(&double, &format!("{head}: {}\r\n\r\n{body}", body.len())).0
        };
        assert_eq!((create("first").as_str(), create("second").as_str()), ("200", "412"));
        let get = |range| ask(&double, &format!("GET /b/a%20b/c HTTP/1.1\r\nRange: bytes={range}\r\n\r\n"));
        assert_eq!(get("1-2"), ("206".to_owned(), "ir".to_owned()));
        assert_eq!(get("3-90"), ("206".to_owned(), "st".to_owned()));
        assert_eq!(get("5-6").0, "416");
        let (_, list) = ask(&double, "GET /b?prefix=a%20b/&list-type=2 HTTP/1.1\r\n\r\n");
        assert!(list.contains("<Key>a b/c</Key>") && list.contains("<Size>5</Size>"), "{list}");
        assert_eq!(ask(&double, "GET /other/x HTTP/1.1\r\n\r\n").0, "404");
        assert_eq!(ask(&double, "DELETE /b/a%20b/c HTTP/1.1\r\n\r\n").0, "204");
        assert_eq!(ask(&double, "HEAD /b/a%20b/c HTTP/1.1\r\n\r\n").0, "404");
    }

    #[test]
    fn long_listings_have_pages() {
        let double = Double::start(0, "b").unwrap();
        for key in ["k/1", "k/2", "k/3", "l"] {
            let put = format!("PUT /b/{key} HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(ask(&double, &put).0, "200");
        }
        let list =
            |more: &str| ask(&double, &format!("GET /b?prefix=k/&max-keys=2{more} HTTP/1.1\r\n\r\n")).1;
        let first = list("");
        assert!(first.contains("<Key>k/2</Key>") && !first.contains("<Key>k/3</Key>"), "{first}");
        let token = first.split("<NextContinuationToken>").nth(1).unwrap().split('<').next().unwrap();
        let second = list(&format!("&continuation-token={token}"));
        assert!(second.contains("<Key>k/3</Key>") && !second.contains("<Key>k/2</Key>"), "{second}");
        assert!(
            second.contains("<IsTruncated>false</IsTruncated>") && !second.contains("<Key>l"),
            "{second}"
        );
    }
}
