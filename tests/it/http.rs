//! A volume that was copied to a web server, and is read from there.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rfs::{At, ErrorKind, Volume};

use crate::common::{Place, listing, options};

const WRITTEN: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

/// Serves a directory below `/copy`, as a web server with WebDAV that allows for anything.
struct Server {
    address: SocketAddr,
    /// The methods that it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Until the process ends.
    fn of(dir: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (dir, heard) = (dir.clone(), Arc::clone(&heard));
                // The other side may go away at any time.
                std::thread::spawn(move || connection.is_ok_and(|it| answer(&it, &dir, &heard).is_ok()));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}/copy", self.address)
    }
}

/// Answers one request.
fn answer(connection: &TcpStream, dir: &Path, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    for line in BufReader::new(connection).lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let mut words = head.first().map_or("", String::as_str).split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    asked.lock().unwrap().push(method.to_owned());
    let range = head.iter().find_map(|line| {
        let line = line.to_ascii_lowercase();
        let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
    });
    let path = target.strip_prefix("/copy").map(|below| dir.join(below.trim_start_matches('/')));
    let found = path.as_ref().and_then(|path| path.metadata().ok().zip(Some(path)));
    let (status, headers, body) = match (method, found) {
        (_, None) => (404, String::new(), Vec::new()),
        ("GET" | "HEAD", Some((metadata, path))) if metadata.is_file() => {
            let end = range.map_or(metadata.len(), |(_, last)| metadata.len().min(last + 1));
            let begin = range.map_or(0, |(first, _)| first);
            if begin >= end && range.is_some() {
                (416, String::new(), Vec::new())
            } else {
                let mut file = std::fs::File::open(path)?;
                file.seek(SeekFrom::Start(begin))?;
                let mut body = vec![0; (end - begin) as usize];
                file.read_exact(&mut body)?;
                let range =
                    range.map(|_| format!("Content-Range: bytes {begin}-{}/{}\r\n", end - 1, metadata.len()));
                (range.as_ref().map_or(200, |_| 206), range.unwrap_or_default(), body)
            }
        }
        ("PROPFIND", Some((_, path))) => {
            let mut listed = String::new();
            list(path, target.trim_end_matches('/'), &mut listed)?;
            let body = format!("<D:multistatus xmlns:D=\"DAV:\">{listed}</D:multistatus>");
            (207, String::new(), body.into_bytes())
        }
        _ => (405, String::new(), Vec::new()),
    };
    let length = body.len();
    let mut out = connection;
    write!(out, "HTTP/1.1 {status} Told\r\nConnection: close\r\nLast-Modified: {WRITTEN}\r\n")?;
    write!(out, "Content-Length: {length}\r\n{headers}\r\n")?;
    if method == "HEAD" { Ok(()) } else { out.write_all(&body) }
}

/// What `PROPFIND` with an infinite depth says of `path`, which is found at `href`.
fn list(path: &Path, href: &str, listed: &mut String) -> std::io::Result<()> {
    let metadata = path.metadata()?;
    let (kind, slash) = if metadata.is_dir() { ("<D:collection/>", "/") } else { ("", "") };
    *listed += &[
        "<D:response><D:href>",
        href,
        slash,
        "</D:href><D:propstat><D:prop><D:resourcetype>",
        kind,
        "</D:resourcetype><D:getcontentlength>",
        &metadata.len().to_string(),
        "</D:getcontentlength><D:getlastmodified>",
        WRITTEN,
        "</D:getlastmodified></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>",
    ]
    .concat();
    if metadata.is_dir() {
        for entry in path.read_dir()? {
            let entry = entry?;
            list(&entry.path(), &format!("{href}/{}", entry.file_name().to_string_lossy()), listed)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_volume_on_a_web_server_is_read_as_it_was_written() {
    let original = Place::file("http");
    let volume = Volume::create(&original.url, original.on(1)).await.unwrap();
    let fs = volume.fs();
    fs.create_dir_all("/a/b c/ü").await.unwrap();
    fs.symlink("../x", "/a/link").await.unwrap();
    for i in 0..50 {
        fs.write(format!("/a/b c/ü/{i}"), vec![i; 100 * usize::from(i)]).await.unwrap();
    }
    fs.write("/large", (0..3_000_000_u32).map(|i| (i / 7) as u8).collect::<Vec<_>>()).await.unwrap();
    volume.checkpoint("first").await.unwrap().wait().await.unwrap();
    let first = listing(&volume).await;
    fs.remove_file("/a/b c/ü/7").await.unwrap();
    fs.write("/later", b"later").await.unwrap();
    let written = listing(&volume).await;
    let state = volume.state_hash().await.unwrap();
    volume.close().await.unwrap();

    let dir = PathBuf::from(original.url.strip_prefix("file://").unwrap());
    let server = Server::of(dir);
    let copy = Volume::open_read_only(&server.url(), options(2), At::Head).await.unwrap();
    assert_eq!(listing(&copy).await, written);
    assert_eq!(copy.state_hash().await.unwrap(), state);
    copy.check().await.unwrap();
    let older = Volume::open_read_only(&server.url(), options(3), At::Checkpoint("first".into())).await;
    assert_eq!(listing(&older.unwrap()).await, first);

    // Whatever writes is refused, and told why, before the server hears of it.
    let refused = copy.fs().write("/new", b"").await.unwrap_err();
    assert_eq!(refused.errno(), Some(rfs::Errno::ReadOnly), "{refused}");
    for refused in [
        Volume::open(&server.url(), options(4)).await.unwrap_err(),
        Volume::create(&format!("{}-new", server.url()), options(5)).await.unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::UnsafeStore, "{refused}");
        assert!(refused.to_string().contains("open the volume read-only"), "{refused}");
    }
    copy.close().await.unwrap();
    let asked = server.asked.lock().unwrap();
    assert!(asked.iter().all(|method| ["GET", "HEAD", "PROPFIND"].contains(&method.as_str())), "{asked:?}");
}
