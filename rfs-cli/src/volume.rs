//! From arguments and environment to an open volume.

use std::time::Duration;

use rfs::{AtimePolicy, LocalLog, Options, StoreOptions};

use crate::args::{Atime, Level, Volume};
use crate::error::Failure;

/// Opens a volume to write it, and says on the standard error output what of an earlier process was found.
pub(crate) async fn open(url: &str, args: &Volume, create: bool) -> Result<rfs::Volume, Failure> {
    let options = options(url, args)?;
    let mut opened = rfs::Volume::open(url, options.clone()).await;
    if create && opened.as_ref().is_err_and(|error| error.kind() == rfs::ErrorKind::NoVolume) {
        opened = rfs::Volume::open_or_create(url, options).await;
        if let Ok(volume) = &opened {
            own_root(volume).await?;
        }
    }
    let volume = opened.map_err(|error| {
        let advice = match error.kind() {
            rfs::ErrorKind::NoVolume => " (--create makes one)",
            _ => "",
        };
        Failure::during(format!("open {url}{advice}"), &error)
    })?;
    if let Some(report) = volume.open_report() {
        match &report.local {
            LocalLog::Replayed(changes) => {
                eprintln!(
                    "rfs: went on with {changes} changes from the local directory that were not committed"
                );
            }
            LocalLog::Orphaned { files, .. } => eprintln!(
                "rfs: another writer took over before the local directory's last changes were committed; they are \
                 kept in its files {}",
                files.join(", ")
            ),
            _ => {}
        }
    }
    Ok(volume)
}

/// The root directory of a new volume is that of who made it: only root could write into root's own.
async fn own_root(volume: &rfs::Volume) -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        return Ok(());
    }
    let owned = volume.fs().chown("/", Some(uid.as_raw()), Some(gid.as_raw())).await;
    owned.map_err(|error| Failure::during("make the volume's root directory yours", &error))
}

fn options(url: &str, args: &Volume) -> Result<Options, Failure> {
    let level = match (args.level, &args.local_dir) {
        (Some(Level::Memory), _) => rfs::Level::Memory,
        (Some(Level::Local), None) => {
            return Err(Failure::new("--level local needs --local-dir DIR: it says where the local disk is"));
        }
        (Some(Level::Local) | None, Some(_)) => rfs::Level::Local,
        (Some(Level::Remote), _) | (None, None) => rfs::Level::Remote,
    };
    let atime = match args.atime {
        Atime::Never => AtimePolicy::Never,
        Atime::Relative => AtimePolicy::Relative,
        Atime::Always => AtimePolicy::Always,
    };
    let (keep_commits, keep_for) = retention(url, args.keep_for);
    let mut options = Options::new()
        .with_store_options(store_options())
        .with_level(level)
        .with_commit_interval(args.commit_interval.0)
        .with_atime(atime)
        .with_retention(keep_commits, keep_for)
        .with_auto_collect(true);
    if let Some(dir) = &args.local_dir {
        options = options.with_local_dir(dir);
    }
    Ok(options)
}

/// How many commits stay, and for how long after a newer one. A volume in memory has no other readers, and only so much
/// room.
fn retention(url: &str, keep_for: Option<Duration>) -> (usize, Duration) {
    let in_memory = url.starts_with("memory:");
    let default = if in_memory { Duration::ZERO } else { Duration::from_hours(1) };
    (if in_memory { 1 } else { 16 }, keep_for.unwrap_or(default))
}

/// What the environment says of the store.
fn store_options() -> StoreOptions {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut options = StoreOptions::default();
    if let Some(endpoint) = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")) {
        options = options.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(region) = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")) {
        options = options.with_region(region);
    }
    if let Some(id) = variable("AWS_ACCESS_KEY_ID") {
        options = options.with_access_key_id(id);
    }
    if let Some(secret) = variable("AWS_SECRET_ACCESS_KEY") {
        options = options.with_secret_access_key(secret);
    }
    if let Some(token) = variable("AWS_SESSION_TOKEN") {
        options = options.with_session_token(token);
    }
    options
}
