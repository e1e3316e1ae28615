//! File systems that are mounted for one run, each by its own program.
//!
//! `cargo xtask race` installs the programs, says by `RFS_RACE_*` where they are, and runs this one in PID and mount namespaces
//! of its own: nothing that was started or mounted outlives it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::contest::{Course, S3};

/// How long a program has to mount, and to end.
const LIMIT: Duration = Duration::from_secs(30);

/// Who serves a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounter {
    /// rfs on S3: what was synced is in the store.
    Remote,
    /// rfs on S3: what was synced is on the local disk.
    Local,
    /// rfs on S3: what was synced is in memory.
    Memory,
    /// A directory of the disk, passed through.
    Bindfs,
    S3fs,
    Rclone,
    JuiceFs,
    SeaweedFs,
}

/// A directory that somebody serves, until this is dropped.
pub(crate) struct Site {
    pub(crate) mounter: Mounter,
    /// Empty at first.
    pub(crate) dir: PathBuf,
    /// On the machine's own disk.
    pub(crate) beside: PathBuf,
    mount_point: PathBuf,
    server: Child,
}

impl Mounter {
    pub(crate) const fn is_rfs(self) -> bool {
        matches!(self, Self::Remote | Self::Local | Self::Memory)
    }

    /// Mounts; or why it can't.
    pub(crate) fn mount(self, course: &Course) -> Result<Site, String> {
        let mount_point = course.disk.join("mount");
        fs::create_dir_all(&mount_point).map_err(|error| error.to_string())?;
        let mut command = self.command(course, &mount_point)?;
        let log = fs::File::create(course.disk.join("mount.log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let server = command.spawn();
        let server =
            server.map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?;
        let mut site = Site {
            mounter: self,
            dir: mount_point.clone(),
            beside: course.disk.clone(),
            mount_point,
            server,
        };
        let start = Instant::now();
        while !is_mounted(&site.mount_point) {
            let ended = site.server.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || start.elapsed() > LIMIT {
                let said = fs::read_to_string(course.disk.join("mount.log")).unwrap_or_default();
                let end: Vec<&str> = said.lines().rev().take(3).collect();
                return Err(format!("it did not mount ({ended:?}): {}", end.join(" | ")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Two of them serve the whole bucket.
        let own = course.disk.file_name().ok_or("the directory has no name")?;
        site.dir = site.mount_point.join(own);
        fs::create_dir(&site.dir).map_err(|error| format!("it makes no directory: {error}"))?;
        Ok(site)
    }

    fn command(self, course: &Course, at: &Path) -> Result<Command, String> {
        let beside = |name: &str| -> Result<PathBuf, String> {
            let path = course.disk.join(name);
            fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
            Ok(path)
        };
        let s3 = || course.s3.as_ref().ok_or("it needs the S3 server".to_owned());
        Ok(match self {
            Self::Remote | Self::Local | Self::Memory => {
                let s3 = s3()?;
                let mut command = program("RFS", "rfs")?;
                // One volume for all runs: SeaweedFS takes seconds to show that it is safe, when one is made.
                let url = format!("s3://{}/mounted", s3.bucket());
                command.args(["mount", "--create", "--keep-for", "10s", &url]).arg(at);
                match self {
                    Self::Local => command.args(["--level", "local", "--local-dir"]).arg(beside("local")?),
                    Self::Memory => command.args(["--level", "memory"]),
                    _ => command.args(["--level", "remote"]),
                };
                command.env("AWS_ENDPOINT_URL", &s3.endpoint).env("AWS_ALLOW_HTTP", "true");
                command.env("AWS_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", &s3.access_key);
                command.env("AWS_SECRET_ACCESS_KEY", &s3.secret_key);
                command
            }
            Self::Bindfs => {
                let mut command = program("BINDFS", "bindfs")?;
                command.arg("-f").arg(beside("passed-through")?).arg(at);
                command
            }
            Self::S3fs => s3fs(s3()?, &beside("s3fs")?, at)?,
            Self::Rclone => {
                let s3 = s3()?;
                let cache = beside("rclone")?;
                let mut command = program("RCLONE", "rclone")?;
                command.arg("mount").arg(format!(":s3:{}", s3.bucket_and_prefix())).arg(at);
                command.args(["--vfs-cache-mode", "writes", "--cache-dir"]).arg(&cache);
                command.env("RCLONE_S3_PROVIDER", "Other").env("RCLONE_S3_ENDPOINT", &s3.endpoint);
                command.env("RCLONE_S3_ACCESS_KEY_ID", &s3.access_key);
                command.env("RCLONE_S3_SECRET_ACCESS_KEY", &s3.secret_key);
                command.env("RCLONE_CONFIG", cache.join("none.conf"));
                command
            }
            Self::JuiceFs => juicefs(s3()?, &beside("juicefs")?, at)?,
            Self::SeaweedFs => {
                let filer =
                    env::var("RFS_RACE_FILER").map_err(|_| "it needs the filer of SeaweedFS".to_owned())?;
                let mut command = program("WEED", "weed")?;
                command.arg("mount").arg(format!("-filer={filer}")).arg(format!("-dir={}", at.display()));
                command.arg(format!("-filer.path=/buckets/{}", s3()?.bucket_and_prefix()));
                command.arg(format!("-cacheDir={}", beside("weed")?.display()));
                command
            }
        })
    }
}

fn s3fs(s3: &S3, own: &Path, at: &Path) -> Result<Command, String> {
    let password = own.join("password");
    fs::write(&password, format!("{}:{}", s3.access_key, s3.secret_key))
        .map_err(|error| error.to_string())?;
    // It takes no file that others may read.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&password, private).map_err(|error| error.to_string())?;
    let mut command = program("S3FS", "s3fs")?;
    command.arg(s3.bucket()).arg(at).arg("-f");
    let options = [
        format!("url={}", s3.endpoint),
        format!("passwd_file={}", password.display()),
        "endpoint=us-east-1".to_owned(),
        "use_path_request_style".to_owned(),
        "sigv4".to_owned(),
    ];
    command.args(options.iter().flat_map(|option| ["-o", option]));
    Ok(command)
}

fn juicefs(s3: &S3, own: &Path, at: &Path) -> Result<Command, String> {
    let metadata = format!("sqlite3://{}", own.join("metadata.db").display());
    let mut format = program("JUICEFS", "juicefs")?;
    format.args(["format", "--storage", "s3", "--trash-days", "0"]);
    format.arg("--bucket").arg(format!("{}/{}", s3.endpoint, s3.bucket()));
    format.args(["--access-key", &s3.access_key, "--secret-key", &s3.secret_key]);
    let name = s3.url.rsplit('/').next().unwrap_or_default();
    let formatted = format.arg(&metadata).arg(name).output().map_err(|error| error.to_string())?;
    if !formatted.status.success() {
        return Err(format!("juicefs format: {}", String::from_utf8_lossy(&formatted.stderr)));
    }
    let mut command = program("JUICEFS", "juicefs")?;
    command
        .arg("mount")
        .arg(metadata)
        .arg(at)
        .args(["--no-usage-report", "--cache-dir"])
        .arg(own.join("cache"));
    Ok(command)
}

/// A program that was installed for the race, or that of the system.
fn program(variable: &str, name: &str) -> Result<Command, String> {
    if let Ok(path) = env::var(format!("RFS_RACE_{variable}")) {
        return Ok(Command::new(path));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.map(Command::new).ok_or_else(|| format!("{name} is not installed"))
}

/// Asked of the kernel's table: one that does not answer answers nothing else either.
fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir.to_string_lossy();
    table.lines().any(|line| line.split(' ').nth(1) == Some(&*dir))
}

impl Drop for Site {
    /// All was measured: nobody is waited for.
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.server.kill();
        _ = self.server.wait();
        // What it left ends with the namespaces, if this does not.
        _ = Command::new("umount").arg("--lazy").arg(&self.mount_point).status();
    }
}
