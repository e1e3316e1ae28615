//! The servers that the tests need: installed below `target/`, bound to loopback, gone with the task.
//!
//! A server runs under `servers/supervise.py`, which stops it and removes its run directory as soon as the
//! pipe from this task closes. So nothing is left over, whether the tests pass, fail, or the task is killed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Outcome, process, time, workspace};

/// The bucket made before a server counts as started.
pub const BUCKET: &str = "rfs-test";
/// The access key that the tests sign with.
pub const ACCESS_KEY: &str = "rfsaccesskey";
/// The secret key that the tests sign with.
pub const SECRET_KEY: &str = "rfssecretkey1234567890";
/// The region that the server says it is in.
pub const REGION: &str = "us-east-1";

const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// An object-store server that comes as a Python package.
pub struct Server {
    name: &'static str,
    version: &'static str,
    /// Everything the server is told, given its port and the directory of its data.
    environment: fn(u16, &Path) -> Vec<(&'static str, String)>,
    /// What the tests are told, given the endpoint.
    test_environment: fn(&str) -> Vec<(&'static str, String)>,
}

/// The S3 server of the tests.
pub const MINISTACK: Server = Server {
    name: "ministack",
    version: "1.5.33",
    environment: |port, directory| {
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        vec![
            ("BIND_HOST", Ipv4Addr::LOCALHOST.to_string()),
            ("GATEWAY_PORT", port.to_string()),
            ("MINISTACK_HOST", Ipv4Addr::LOCALHOST.to_string()),
            ("SERVICES", "s3".to_owned()),
            ("S3_PERSIST", "1".to_owned()),
            ("S3_DATA_DIR", path("s3")),
            ("PERSIST_STATE", "1".to_owned()),
            ("STATE_DIR", path("state")),
        ]
    },
    test_environment: |endpoint| {
        vec![
            ("RFS_TEST_S3_ENDPOINT", endpoint.to_owned()),
            ("RFS_TEST_S3_BUCKET", BUCKET.to_owned()),
            ("RFS_TEST_S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
            ("RFS_TEST_S3_SECRET_KEY", SECRET_KEY.to_owned()),
        ]
    },
};

impl Server {
    /// Installs the server below `directory` unless it is there, starts it on `port` or on a free one, and
    /// waits until it has made [`BUCKET`].
    pub fn start(&self, directory: &Path, port: Option<u16>) -> Result<Running, String> {
        let port = free_port(port)?;
        let python_environment = self.install(directory)?;
        let run_directory = directory.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&run_directory).map_err(|error| cannot("create", &run_directory, &error))?;
        let log = run_directory.join(format!("{}.log", self.name));

        let mut command = Command::new(python_environment.join("bin/python"));
        command
            .arg(workspace::root().join("xtask/servers/supervise.py"))
            .args([&log, &run_directory])
            .arg(python_environment.join("bin").join(self.name))
            .envs((self.environment)(port, &run_directory))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let supervisor = command.spawn().map_err(|error| {
            let line = process::command_line(&command);
            let _ = fs::remove_dir_all(&run_directory);
            format!(
                "cannot start `{line}`: {error}; delete {} to install it anew",
                python_environment.display()
            )
        })?;

        let mut running = Running {
            name: self.name,
            endpoint: format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
            test_environment: self.test_environment,
            supervisor: Some(supervisor),
        };
        running.wait_until_ready(port, &log)?;
        Ok(running)
    }

    /// Makes a Python environment with the package and returns its directory.
    fn install(&self, directory: &Path) -> Result<PathBuf, String> {
        fs::create_dir_all(directory).map_err(|error| cannot("create", directory, &error))?;
        // Two tasks in one checkout must not install into the same place at once.
        let lock_path = directory.join("install.lock");
        let lock = File::create(&lock_path).map_err(|error| cannot("create", &lock_path, &error))?;
        lock.lock().map_err(|error| cannot("lock", &lock_path, &error))?;

        let home = directory.join(format!("{}-{}", self.name, self.version));
        let complete = home.join("complete");
        if complete.exists() {
            return Ok(home);
        }
        if home.exists() {
            fs::remove_dir_all(&home).map_err(|error| cannot("remove", &home, &error))?;
        }
        let package = format!("{}=={}", self.name, self.version);
        eprintln!("installing {package} into {}", home.display());
        process::capture(Command::new("python3").args(["-m", "venv"]).arg(&home)).map_err(|error| {
            format!(
                "the S3 server of the tests needs Python 3.10 or later with its venv module; install python3 \
                 and python3-venv (or what your system calls them)\n{error}"
            )
        })?;
        let mut pip = Command::new(home.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package]);
        process::capture(&mut pip).map_err(|error| {
            format!("cannot install {package}; check that pip reaches a package index that has it\n{error}")
        })?;
        // Written last: an interrupted installation is never taken for a whole one.
        fs::write(&complete, "").map_err(|error| cannot("write", &complete, &error))?;
        Ok(home)
    }
}

/// A started server; it stops when this is dropped.
pub struct Running {
    name: &'static str,
    endpoint: String,
    test_environment: fn(&str) -> Vec<(&'static str, String)>,
    supervisor: Option<Child>,
}

impl Running {
    /// Where the server answers, as a URL without a path.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The variables by which the tests find the server.
    pub fn test_environment(&self) -> Vec<(&'static str, String)> {
        (self.test_environment)(&self.endpoint)
    }

    /// Stops the server and removes its data; an error says what is left behind.
    pub fn stop(mut self) -> Outcome {
        self.end()
    }

    fn wait_until_ready(&mut self, port: u16, log: &Path) -> Outcome {
        let name = self.name;
        let Some(supervisor) = self.supervisor.as_mut() else {
            return Err(format!("{name} is not running"));
        };
        let mut last_answer = String::from("nothing");
        let ready = time::poll(START_LIMIT, || {
            if let Some(status) =
                supervisor.try_wait().map_err(|error| format!("waiting for {name}: {error}"))?
            {
                return Err(format!(
                    "{name} ended before it was ready ({status}); what it said stands above"
                ));
            }
            match create_bucket(port) {
                Ok(200 | 409) => Ok(Some(())),
                Ok(status) => {
                    last_answer = format!("HTTP status {status}");
                    Ok(None)
                }
                Err(error) => {
                    last_answer = error.to_string();
                    Ok(None)
                }
            }
        })?;
        if ready.is_some() {
            return Ok(());
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(format!(
            "{name} did not make the bucket {BUCKET} on port {port} within {} s; its last answer: {last_answer}; \
             its log:\n{said}",
            START_LIMIT.as_secs()
        ))
    }

    fn end(&mut self) -> Outcome {
        let Some(mut supervisor) = self.supervisor.take() else {
            return Ok(());
        };
        drop(supervisor.stdin.take());
        let name = self.name;
        let ended = time::poll(STOP_LIMIT, || {
            supervisor.try_wait().map_err(|error| format!("waiting for {name} to stop: {error}"))
        })?;
        if ended.is_some() {
            return Ok(());
        }
        let id = supervisor.id();
        let killed = supervisor.kill().and_then(|()| supervisor.wait());
        Err(format!("{name} did not stop within {STOP_LIMIT:?}; killed its supervisor {id}: {killed:?}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// The port asked for, or any, that was free a moment ago. A taken one is refused here, since whoever has it
/// might answer in the server's place.
fn free_port(asked: Option<u16>) -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, asked.unwrap_or(0)))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| match asked {
            Some(port) => format!("cannot use port {port}: {error}; choose another"),
            None => format!("cannot find a free loopback port: {error}"),
        })
}

/// Asks for [`BUCKET`] and returns the HTTP status. Unsigned: the server of the tests takes any credentials.
fn create_bucket(port: u16) -> io::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    status_of(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\nLocation: /\r\n\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.1 409 \r\n"), Some(409));
        for wrong in [&b""[..], b"SSH-2.0-x 200\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 \xff\r\n"] {
            assert_eq!(status_of(wrong), None);
        }
    }

    #[test]
    fn a_taken_port_is_refused() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        let error = free_port(Some(taken)).unwrap_err();
        assert!(error.starts_with(&format!("cannot use port {taken}: ")), "{error}");
        assert_ne!(free_port(None), Ok(taken));
    }

    #[test]
    fn a_bucket_is_asked_for_over_loopback() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(create_bucket(port).unwrap(), 503);
        assert!(server.join().unwrap().starts_with("PUT /rfs-test HTTP/1.1\r\n"));
    }
}
