//! Where the volumes and the machines of a run are.

use std::env;
use std::fmt::Write;
use std::fs::{self, File, TryLockError};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use rfs::{Clock, SystemClock};
use rfs_testkit::{Weather, WeatherProxy};

use crate::Result;

/// The places of one run.
#[derive(Debug)]
pub(crate) struct Place {
    /// URL of the volume whose workers are killed.
    pub(crate) killed: String,
    /// URL of the volume whose worker is left alone.
    pub(crate) undisturbed: String,
    /// Each worker gets a directory of its own in here.
    pub(crate) machines: PathBuf,
    /// What the workers reach the store through.
    pub(crate) proxy: Option<WeatherProxy>,
    /// Held as long as the default directory is used.
    _lock: Option<File>,
}

impl Place {
    /// New places below `store`, or, by default, in an emptied directory under the cargo target directory.
    pub(crate) fn prepare(store: Option<&str>, weather: Option<Weather>, seed: u64) -> Result<Self> {
        let mut place = match store {
            Some(store) => Self::below(store)?,
            None => Self::default_directory()?,
        };
        if let Some(weather) = weather {
            if !place.killed.starts_with("s3://") {
                return Err(
                    "--weather: there is none between a worker and its disk; use --store s3://".into()
                );
            }
            let started = WeatherProxy::start(upstream()?, weather, seed);
            place.proxy = Some(started.map_err(|error| format!("start the proxy for --weather: {error}"))?);
        }
        Ok(place)
    }

    /// Fresh URLs: what is in the store already is left alone.
    fn below(store: &str) -> Result<Self> {
        if store.starts_with("memory://") {
            return Err(
                "--store: memory:// lives in one process, and this job in several; use file:// or s3://"
                    .into(),
            );
        }
        // Without a credential the clients would ask the network for one.
        for (scheme, variable) in [
            ("s3://", "AWS_ACCESS_KEY_ID"),
            ("az://", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("gs://", "GOOGLE_SERVICE_ACCOUNT_KEY"),
        ] {
            if store.starts_with(scheme) && env::var_os(variable).is_none() {
                let what = format!(
                    "--store: {scheme} takes {variable} and the platform's other variables from the environment"
                );
                return Err(what.into());
            }
        }
        let store = store.trim_end_matches('/');
        let unique = format!("{:x}-{:x}", SystemClock.now().as_nanos(), std::process::id());
        Ok(Self {
            killed: format!("{store}/run-{unique}"),
            undisturbed: format!("{store}/undisturbed-{unique}"),
            machines: env::temp_dir(),
            proxy: None,
            _lock: None,
        })
    }

    fn default_directory() -> Result<Self> {
        let root = target_directory()?.join("flights");
        let failed = |error: std::io::Error| format!("prepare {}: {error}", root.display());
        fs::create_dir_all(&root).map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another run uses {}: give this one a --store", root.display()).into());
            }
            Err(TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        // All that is in here was made by an earlier run.
        let run = root.join("run");
        match fs::remove_dir_all(&run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error).into()),
            _ => {}
        }
        let machines = run.join("machines");
        fs::create_dir_all(&machines).map_err(failed)?;
        Ok(Self {
            killed: file_url(&run.join("killed"))?,
            undisturbed: file_url(&run.join("undisturbed"))?,
            machines,
            proxy: None,
            _lock: Some(lock),
        })
    }
}

/// The address of the store's server.
fn upstream() -> Result<SocketAddr> {
    let endpoint = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter().find_map(|name| env::var(name).ok());
    let endpoint = endpoint.ok_or("--weather: set AWS_ENDPOINT_URL to the server's http:// address")?;
    let address = endpoint.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let address = address.ok_or_else(|| format!("--weather: {endpoint} is not http://HOST:PORT"))?;
    let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| format!("--weather: {endpoint} is not http://HOST:PORT").into())
}

fn target_directory() -> Result<PathBuf> {
    let directory = match env::var_os("CARGO_TARGET_DIR") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
    };
    std::path::absolute(&directory).map_err(|error| format!("find {}: {error}", directory.display()).into())
}

fn file_url(path: &Path) -> Result<String> {
    let path = path.to_str().ok_or_else(|| format!("{} is not UTF-8: give a --store", path.display()))?;
    let mut url = "file://".to_owned();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => url.push(char::from(byte)),
            _ => write!(url, "%{byte:02x}")?,
        }
    }
    Ok(url)
}
