//! The proxy does what it says, as often as it says, and the same for the same seed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rfs_testkit::{Weather, WeatherCounts, WeatherProxy};

/// A server that answers each connection's one request by 200, and counts.
fn server() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let executed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executed);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            // The proxy connects before it knows whether it passes anything on.
            if stream.read(&mut request).unwrap_or(0) > 0 {
                count.fetch_add(1, Ordering::SeqCst);
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    (address, executed)
}

/// The status of an answer; 0 for none.
fn ask(address: SocketAddr) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"PUT /a HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

fn run(seed: u64) -> (Vec<u16>, WeatherCounts, u64) {
    let (address, executed) = server();
    let weather = Weather { ttfb_ms: 0, fail_percent: 20, lost_percent: 10 };
    let proxy = WeatherProxy::start(address, weather, seed).unwrap();
    let answers = (0..500).map(|_| ask(proxy.address())).collect();
    (answers, proxy.counts(), executed.load(Ordering::SeqCst))
}

#[test]
fn fates_are_counted_and_fixed_by_the_seed() {
    let (answers, counts, executed) = run(7);
    let of = |status| answers.iter().filter(|answer| **answer == status).count() as u64;
    let WeatherCounts { requests, failed_before, failed_after, lost } = counts;
    assert_eq!(requests, 500);
    assert_eq!(of(503), failed_before + failed_after);
    assert_eq!(of(0), lost);
    assert_eq!(of(200) + of(503) + of(0), 500);
    assert_eq!(executed, 500 - failed_before, "what fails before is not executed, all else is");
    for (count, about) in [(failed_before, 50), (failed_after, 50), (lost, 50)] {
        assert!((about / 2..about * 2).contains(&count), "{counts:?}");
    }
    assert_eq!(run(7).0, answers);
    assert_ne!(run(8).0, answers);
}

#[test]
fn nonsense_is_refused() {
    for text in ["", "ttfb", "ttfb=x", "fail=101", "fail=60,lost=60", "rain=1", "ttfb=-1", "ttfb=60001"] {
        assert!(text.parse::<Weather>().is_err(), "{text:?}");
    }
}
