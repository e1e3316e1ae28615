//! Bad weather between a client and an object store that speaks HTTP: a proxy on loopback that delays answers, fails
//! requests, and loses replies.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::Rng;

/// What is read at a time.
const CHUNK: usize = 64 << 10;

const BUSY: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 38\r\n\
    Connection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>\r\n";

/// How bad it is.
///
/// ```
/// use rfs_testkit::Weather;
/// let weather: Weather = "ttfb=30,fail=2,lost=1".parse().unwrap();
/// assert_eq!((weather.ttfb_ms, weather.fail_percent, weather.lost_percent), (30, 2, 1));
/// assert_eq!(weather.to_string(), "ttfb=30,fail=2,lost=1");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// How much later the first byte of an answer comes, in milliseconds: half of it at least, one and a half at most.
    pub ttfb_ms: u64,
    /// Of 100 requests, how many are answered by 503, one half of them after they were executed.
    pub fail_percent: u64,
    /// Of 100 requests, how many are executed, and then the connection closes instead of an answer.
    pub lost_percent: u64,
}

impl FromStr for Weather {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weather = Self::default();
        for word in text.split(',') {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not NAME=NUMBER"))?;
            let (place, most) = match name {
                "ttfb" => (&mut weather.ttfb_ms, 60_000),
                "fail" => (&mut weather.fail_percent, 100),
                "lost" => (&mut weather.lost_percent, 100),
                _ => return Err(format!("{name:?} is none of ttfb, fail, lost")),
            };
            *place = value
                .parse()
                .ok()
                .filter(|number| *number <= most)
                .ok_or_else(|| format!("{name} takes a number from 0 to {most}, not {value:?}"))?;
        }
        if weather.fail_percent + weather.lost_percent > 100 {
            return Err("fail and lost are over 100 percent together".to_owned());
        }
        Ok(weather)
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ttfb_ms, fail_percent, lost_percent } = self;
        write!(f, "ttfb={ttfb_ms},fail={fail_percent},lost={lost_percent}")
    }
}

/// What became of the requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeatherCounts {
    /// All of them.
    pub requests: u64,
    /// Answered by 503, and not executed.
    pub failed_before: u64,
    /// Executed, and answered by 503.
    pub failed_after: u64,
    /// Executed, and not answered.
    pub lost: u64,
}

/// A proxy that runs, on a thread of its own, until it is dropped.
///
/// The fates of requests are a sequence fixed by the seed; which request meets which depends on their order of arrival.
#[derive(Debug)]
pub struct WeatherProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    weather: Weather,
    rng: Mutex<Rng>,
    counts: Mutex<WeatherCounts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Serve,
    FailBefore,
    FailAfter,
    Lose,
}

impl WeatherProxy {
    /// Begins to pass on to `upstream` what comes in at [`address`](Self::address).
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start(upstream: SocketAddr, weather: Weather, seed: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let rng = Mutex::new(Rng::new(seed));
        let shared = Arc::new(Shared { upstream, weather, rng, counts: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("weather".to_owned()).spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = accept(listener, shared) => {}
                        // Also when the proxy was dropped.
                        _ = stopped => {}
                    }
                });
            })?
        };
        Ok(Self { address, shared, stop: Some(stop), serving: Some(serving) })
    }

    /// Where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the requests so far.
    #[must_use]
    pub fn counts(&self) -> WeatherCounts {
        *self.shared.counts.lock()
    }
}

impl Drop for WeatherProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            // Had it panicked, its clients would have noticed.
            _ = serving.join();
        }
    }
}

impl Shared {
    /// What becomes of the next request, and how long its answer takes.
    fn draw(&self) -> (Fate, Duration) {
        let mut rng = self.rng.lock();
        let mut counts = self.counts.lock();
        counts.requests += 1;
        let Weather { ttfb_ms, fail_percent, lost_percent } = self.weather;
        let late = Duration::from_micros(ttfb_ms * 500 + rng.below(ttfb_ms * 1000 + 1));
        let (drawn, before) = (rng.below(100), rng.chance(50));
        let (fate, count) = if drawn < lost_percent {
            (Fate::Lose, &mut counts.lost)
        } else if drawn >= lost_percent + fail_percent {
            return (Fate::Serve, late);
        } else if before {
            (Fate::FailBefore, &mut counts.failed_before)
        } else {
            (Fate::FailAfter, &mut counts.failed_after)
        };
        *count += 1;
        (fate, late)
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // What fails here is the client's connection, not the listener.
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A connection that breaks is what this is for.
            _ = serve(client, &shared).await;
        });
    }
}

/// Passes one connection on. A request begins with the first bytes after an answer began.
async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut from_server) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut under_way = None;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let (fate, late) = *under_way.get_or_insert_with(|| shared.draw());
                if fate == Fate::FailBefore {
                    pause(late).await;
                    return refuse(client, from_client).await;
                }
                server.write_all(&from_client[..read]).await?;
            }
            read = server.read(&mut from_server) => {
                let read = read?;
                if read == 0 {
                    return client.shutdown().await;
                }
                if let Some((fate, late)) = under_way.take() {
                    pause(late).await;
                    match fate {
                        Fate::Serve => {}
                        Fate::Lose => return Ok(()),
                        Fate::FailBefore | Fate::FailAfter => return refuse(client, from_client).await,
                    }
                }
                client.write_all(&from_server[..read]).await?;
            }
        }
    }
}

/// Answers by 503. What the client still sends is read, since an answer beside unread bytes is lost with the connection.
async fn refuse(mut client: TcpStream, mut rest: Vec<u8>) -> io::Result<()> {
    client.write_all(BUSY).await?;
    client.shutdown().await?;
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the proxy is the delay")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
