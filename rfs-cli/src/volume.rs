//! From arguments and environment to an open volume.

use std::time::Duration;

use rfs::{AtimePolicy, LocalLog, Options, StoreOptions};

use crate::args::{Atime, Interval, Level, Volume};
use crate::error::Failure;
use crate::signals::Signals;

/// Opens a volume to write it, and says on the standard error output what of an earlier process was found. A signal
/// ends that: there is nothing to commit yet.
pub(crate) async fn open(
    url: &str,
    args: &Volume,
    create: bool,
    signals: &mut Signals,
) -> Result<rfs::Volume, Failure> {
    tokio::select! {
        opened = open_to_the_end(url, args, create) => opened,
        signal = signals.next() => {
            let number = signal.as_raw();
            let said = format!("signal {number} came while {url} was being opened; no file of it has changed");
            Err(Failure::new(said).with_code(u8::try_from(128 + number).unwrap_or(255)))
        }
    }
}

/// Opens a volume for one change of a command: nothing is committed but at its end.
pub(crate) async fn open_writer(url: &str) -> Result<rfs::Volume, Failure> {
    open_writer_with(url, writer_options()).await
}

pub(crate) async fn open_writer_with(url: &str, options: Options) -> Result<rfs::Volume, Failure> {
    rfs::Volume::open(url, options).await.map_err(|error| {
        let advice = match error.kind() {
            rfs::ErrorKind::NoVolume => "`rfs create` makes one",
            _ => "",
        };
        Failure::of(format!("open {url}"), &error).with_advice(advice)
    })
}

pub(crate) fn writer_options() -> Options {
    Options::new()
        .with_store_options(store_options())
        .with_level(rfs::Level::Remote)
        .with_commit_interval(None)
}

async fn open_to_the_end(url: &str, args: &Volume, create: bool) -> Result<rfs::Volume, Failure> {
    let options = options(url, args)?;
    let mut opened = rfs::Volume::open(url, options.clone()).await;
    if create && opened.as_ref().is_err_and(|error| error.kind() == rfs::ErrorKind::NoVolume) {
        opened = rfs::Volume::open_or_create(url, options).await;
    }
    let volume = opened.map_err(|error| {
        let advice = match error.kind() {
            rfs::ErrorKind::NoVolume => " (--create makes one)",
            _ => "",
        };
        Failure::during(format!("open {url}{advice}"), &error)
    })?;
    if let Some(report) = volume.open_report() {
        if create && report.commit.is_none() && report.position.0 == 0 {
            own_root(&volume).await?;
        }
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

/// The root directory of a new volume is that of who made it: only root could write into root's own. It is committed at
/// once, as the volume itself is there at once; one without any commit was left by a process that was killed in between.
pub(crate) async fn own_root(volume: &rfs::Volume) -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        return Ok(());
    }
    let own = async {
        volume.fs().chown("/", Some(uid.as_raw()), Some(gid.as_raw())).await?;
        volume.commit().await
    };
    own.await.map(drop).map_err(|error| Failure::during("make the volume's root directory yours", &error))
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
    let retention = retention(url, args.keep_for);
    let mut options = Options::new()
        .with_store_options(store_options())
        .with_level(level)
        .with_commit_interval(args.commit_interval.0)
        .with_atime(atime)
        .with_auto_collect(retention.is_some());
    if let Some((commits, time)) = retention {
        options = options.with_retention(commits, time);
    }
    if let Some(dir) = &args.local_dir {
        options = options.with_local_dir(dir);
    }
    Ok(options)
}

/// How many commits stay, and for how long after a newer one; none when all stay. A volume in memory has no other
/// readers, and only so much room.
fn retention(url: &str, keep_for: Option<Interval>) -> Option<(usize, Duration)> {
    let in_memory = url.starts_with("memory:");
    let default = if in_memory { Duration::ZERO } else { Duration::from_hours(1) };
    let Interval(time) = keep_for.unwrap_or(Interval(Some(default)));
    time.map(|time| (if in_memory { 1 } else { 16 }, time))
}

/// What the environment says of the store. The platforms' variables are read where the store is opened; here it is only
/// said that an endpoint without TLS may be used, since somebody wrote it there.
pub(crate) fn store_options() -> StoreOptions {
    const ENDPOINTS: [&str; 6] = [
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT",
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_ENDPOINT",
        "GOOGLE_BASE_URL",
    ];
    let plain = |name: &&str| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://"));
    let options = StoreOptions::default();
    if ENDPOINTS.iter().any(plain) { options.with_allow_http(true) } else { options }
}
