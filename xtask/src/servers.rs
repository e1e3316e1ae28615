//! The servers that the tests need: installed below `target/`, bound to loopback, gone with the task.
//!
//! A server runs under `servers/supervise.py`, which stops it and removes its run directory as soon as the
//! pipe from this task closes. So nothing is left over, whether the tests pass, fail, or the task is killed.

pub mod gcs;
mod install;
mod known;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Outcome, process, time, workspace};
use install::cannot;

pub(crate) use install::Package;
pub(crate) use known::JUICEFS;
pub use known::{AZURITE, GCS, MINISTACK, MOTO, RCLONE, SEAWEEDFS};

/// The bucket that is there before a server counts as started.
pub const BUCKET: &str = "rfs-test";
/// The access key that the tests sign with; on Azure the account's name.
pub const ACCESS_KEY: &str = "rfsaccesskey";
/// The secret key that the tests sign with; Azure has it in base 64.
pub const SECRET_KEY: &str = "rfssecretkey1234567890";
/// The region that the servers say they are in.
pub const REGION: &str = "us-east-1";

const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// An object-store server.
#[derive(Debug)]
pub struct Server {
    /// What it is called in messages.
    pub name: &'static str,
    /// One sentence's worth of what it is, for tables.
    pub what: &'static str,
    /// How it is spoken to.
    pub platform: Platform,
    /// What stands in the names of the variables by which tests find it: `S3` for `RFS_TEST_S3_ENDPOINT`.
    variable: &'static str,
    /// Where it comes from, or nothing for the one that is a part of this task.
    package: Option<Package>,
    /// How many ports it needs beside the one that it is spoken to at.
    further_ports: usize,
    /// What it is told.
    launch: fn(&Ground<'_>) -> Result<Launch, String>,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// The protocol of S3.
    S3,
    /// That of Azure Blob Storage.
    Azure,
    /// The XML API of Google Cloud Storage.
    Gcs,
}

/// What a server has for itself.
struct Ground<'a> {
    port: u16,
    further_ports: &'a [u16],
    /// For its data; it goes with the server.
    directory: &'a Path,
}

/// What a server's program is told.
#[derive(Default)]
struct Launch {
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Server {
    /// Its name with its version, for tables.
    pub fn title(&self) -> String {
        match &self.package {
            Some(package) => format!("{} {}", self.name, package.version()),
            None => self.name.to_owned(),
        }
    }

    /// Where it comes from.
    ///
    /// # Panics
    /// When it is a part of this task.
    pub(crate) const fn package(&self) -> &Package {
        self.package.as_ref().expect("it comes from a registry")
    }

    /// Installs it below `directory` unless it is there.
    pub fn install(&self, directory: &Path) -> Outcome {
        self.package.as_ref().map_or(Ok(()), |package| package.install(directory).map(drop))
    }

    /// Starts it as [`start_all`] does, on `port` or on a free one.
    pub fn start(&'static self, directory: &Path, port: Option<u16>) -> Result<Running, String> {
        let mut running = self.spawn(directory, port)?;
        running.wait_until_ready()?;
        Ok(running)
    }

    /// Installs the server below `directory` unless it is there, and starts it.
    fn spawn(&'static self, directory: &Path, port: Option<u16>) -> Result<Running, String> {
        let home = match &self.package {
            Some(package) => package.install(directory)?,
            None => PathBuf::new(),
        };
        // All are held until all are found, so that they differ.
        let listeners = (0..=self.further_ports)
            .map(|index| listener(if index == 0 { port } else { None }))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = listeners
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.port()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("cannot find a free loopback port: {error}"))?;
        drop(listeners);
        let port = ports[0];
        let further_ports = ports[1..].to_vec();
        let mut running =
            Running { server: self, port, further_ports, log: PathBuf::new(), part: None, supervisor: None };
        let Some(package) = &self.package else {
            let double = gcs::Double::start(port, BUCKET)
                .map_err(|error| format!("cannot start {} on port {port}: {error}", self.name))?;
            running.part = Some(double);
            return Ok(running);
        };
        let run_directory = directory.join(format!("run-{}-{}", std::process::id(), self.name));
        fs::create_dir_all(&run_directory).map_err(|error| cannot("create", &run_directory, &error))?;
        running.log = run_directory.join(format!("{}.log", self.name));
        let ground = Ground { port, further_ports: &ports[1..], directory: &run_directory };
        let launch = (self.launch)(&ground)?;
        let mut command = Command::new("python3");
        command
            .arg(workspace::root().join("xtask/servers/supervise.py"))
            .args([&running.log, &run_directory])
            .arg(package.program(&home))
            .args(launch.arguments)
            .envs(launch.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let supervisor = command.spawn().map_err(|error| {
            let line = process::command_line(&command);
            let _ = fs::remove_dir_all(&run_directory);
            format!("cannot start `{line}`: {error}; delete {} to install it anew", home.display())
        })?;
        running.supervisor = Some(supervisor);
        Ok(running)
    }
}

/// Installs the servers below `directory` unless they are there, starts them at once, and waits until each has
/// [`BUCKET`].
pub fn start_all(servers: &[&'static Server], directory: &Path) -> Result<Vec<Running>, String> {
    let mut started = Vec::new();
    for server in servers {
        started.push(server.spawn(directory, None)?);
    }
    for running in &mut started {
        running.wait_until_ready()?;
    }
    Ok(started)
}

/// A started server; it stops when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Which one it is.
    pub server: &'static Server,
    port: u16,
    further_ports: Vec<u16>,
    log: PathBuf,
    part: Option<gcs::Double>,
    supervisor: Option<Child>,
}

impl Running {
    /// Where the server answers: the URL that a client is given.
    pub fn endpoint(&self) -> String {
        let root = format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port);
        match self.server.platform {
            Platform::Azure => format!("{root}/{ACCESS_KEY}"),
            Platform::S3 | Platform::Gcs => root,
        }
    }

    /// Where the filer of SeaweedFS answers, as its clients want it told.
    pub fn filer(&self) -> String {
        let port = |name| {
            known::SEAWEEDFS_PORTS.iter().position(|known| *known == name).map(|at| self.further_ports[at])
        };
        let [Some(http), Some(grpc)] = ["filer.port", "filer.port.grpc"].map(port) else {
            return String::new();
        };
        format!("{}:{http}.{grpc}", Ipv4Addr::LOCALHOST)
    }

    /// The variables by which the tests find the server.
    pub fn test_environment(&self) -> Vec<(String, String)> {
        self.environment(&format!("RFS_TEST_{}", self.server.variable))
    }

    /// The same, for a program that looks for variables that begin with `prefix`.
    pub fn environment(&self, prefix: &str) -> Vec<(String, String)> {
        let name = |what: &str| format!("{prefix}_{what}");
        let secret = match self.server.platform {
            Platform::Azure => base64(SECRET_KEY.as_bytes()),
            Platform::S3 | Platform::Gcs => SECRET_KEY.to_owned(),
        };
        vec![
            (name("ENDPOINT"), self.endpoint()),
            (name("BUCKET"), BUCKET.to_owned()),
            (name("ACCESS_KEY"), ACCESS_KEY.to_owned()),
            (name("SECRET_KEY"), secret),
        ]
    }

    /// The variables by which any program of the platform finds the server.
    pub fn platform_environment(&self) -> Vec<(&'static str, String)> {
        let endpoint = self.endpoint();
        match self.server.platform {
            Platform::S3 => vec![
                ("AWS_ENDPOINT_URL", endpoint),
                ("AWS_ALLOW_HTTP", "true".to_owned()),
                ("AWS_REGION", REGION.to_owned()),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ],
            Platform::Azure => vec![
                ("AZURE_STORAGE_ENDPOINT", endpoint),
                ("AZURE_ALLOW_HTTP", "true".to_owned()),
                ("AZURE_STORAGE_ACCOUNT_NAME", ACCESS_KEY.to_owned()),
                ("AZURE_STORAGE_ACCOUNT_KEY", base64(SECRET_KEY.as_bytes())),
            ],
            Platform::Gcs => vec![
                ("GOOGLE_BASE_URL", endpoint),
                ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
                ("GOOGLE_SERVICE_ACCOUNT_KEY", known::GCS_ACCOUNT.to_owned()),
            ],
        }
    }

    /// What the URLs of volumes on it begin with, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = match self.server.platform {
            Platform::S3 => "s3",
            Platform::Azure => "az",
            Platform::Gcs => "gs",
        };
        format!("{scheme}://{BUCKET}")
    }

    /// Stops the server and removes its data; an error says what is left behind.
    pub fn stop(mut self) -> Outcome {
        self.end()
    }

    fn wait_until_ready(&mut self) -> Outcome {
        let name = self.server.name;
        let endpoint = self.endpoint();
        // That which is a part of this task has its bucket from the beginning.
        let Some(supervisor) = self.supervisor.as_mut() else { return Ok(()) };
        let mut last_answer = String::from("nothing");
        let ready = time::poll(START_LIMIT, || {
            if let Some(status) =
                supervisor.try_wait().map_err(|error| format!("waiting for {name}: {error}"))?
            {
                return Err(format!(
                    "{name} ended before it was ready ({status}); what it said stands above"
                ));
            }
            match process::capture(&mut make_bucket(self.server.platform, &endpoint)) {
                Ok(_) => Ok(Some(())),
                Err(error) => {
                    last_answer = error;
                    Ok(None)
                }
            }
        })?;
        if ready.is_some() {
            return Ok(());
        }
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!(
            "{name} did not make the bucket {BUCKET} at {endpoint} within {} s; the last try: {last_answer}; its \
             log:\n{said}",
            START_LIMIT.as_secs()
        ))
    }

    fn end(&mut self) -> Outcome {
        self.part = None;
        let Some(mut supervisor) = self.supervisor.take() else {
            return Ok(());
        };
        drop(supervisor.stdin.take());
        let name = self.server.name;
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

/// Makes the bucket unless it is there, signed as the platform asks: no client of rfs makes buckets.
fn make_bucket(platform: Platform, endpoint: &str) -> Command {
    let (platform, secret) = match platform {
        Platform::Azure => ("azure", base64(SECRET_KEY.as_bytes())),
        Platform::S3 | Platform::Gcs => ("s3", SECRET_KEY.to_owned()),
    };
    let mut command = Command::new("python3");
    command.arg(workspace::root().join("xtask/servers/make_bucket.py"));
    command.args([platform, endpoint, BUCKET, ACCESS_KEY, &secret, REGION]);
    command
}

/// A listener on the port asked for, or on any free one. A taken one is refused here, since whoever has it might answer
/// in the server's place.
fn listener(asked: Option<u16>) -> Result<TcpListener, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, asked.unwrap_or(0))).map_err(|error| match asked {
        Some(port) => format!("cannot use port {port}: {error}; choose another"),
        None => format!("cannot find a free loopback port: {error}"),
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = (number >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        let error = listener(Some(taken)).unwrap_err();
        assert!(error.starts_with(&format!("cannot use port {taken}: ")), "{error}");
        assert_ne!(listener(None).unwrap().local_addr().unwrap().port(), taken);
    }

    #[test]
    fn base_64() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn the_double_of_gcs_starts_without_a_package() {
        let running = GCS.start(Path::new("nowhere"), None).unwrap();
        assert_eq!(running.url(), "gs://rfs-test");
        let variables = running.test_environment();
        assert_eq!(variables[0], ("RFS_TEST_GCS_ENDPOINT".to_owned(), running.endpoint()));
        running.stop().unwrap();
    }
}
