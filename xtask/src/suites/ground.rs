//! Where a suite runs: a volume that `rfs mount` serves, or a plain directory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::options::Store;
use super::{sandbox, tools};
use crate::{Outcome, process, time, workspace};

const MOUNT_LIMIT: Duration = Duration::from_mins(1);
/// Unmounting commits what the suite has left.
const UNMOUNT_LIMIT: Duration = Duration::from_mins(3);

/// The address space that a mount may have: what has to be bounded is seen to be.
const MEMORY_KIB: u64 = 6 << 20;

/// Where the mount point is made: paths on it have to be short, since the address of a socket has 108 bytes. What is
/// mounted over such a directory is seen by this run only; one of them holds nothing that the run needs.
const SHORT: [&str; 3] = ["/mnt", "/media", "/srv"];

fn short() -> &'static str {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let task = workspace::task().ok();
    let needed = [Some(workspace::root()), Some(tools::target_directory()), home, task];
    let free = |short: &&&str| {
        Path::new(short).is_dir() && !needed.iter().flatten().any(|path| path.starts_with(short))
    };
    SHORT.iter().find(free).unwrap_or(&SHORT[0])
}

pub(super) enum Place {
    Volume { rfs: PathBuf, store: Store, commit_interval: &'static str },
    Directory(PathBuf),
}

/// A place to run in, not entered yet.
pub(super) struct Ground {
    place: Place,
    mount_point: PathBuf,
    objects: PathBuf,
    local: PathBuf,
    log: PathBuf,
}

impl Ground {
    pub(super) fn new(place: Place, scratch: &Path, logs: &Path) -> Self {
        let mount_point = match &place {
            Place::Volume { .. } => Path::new(short()).join("rfs"),
            Place::Directory(directory) => {
                let run = logs.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let own = directory.join(format!("rfs-suites-{run}"));
                let _ = fs::remove_dir_all(&own);
                own
            }
        };
        Self {
            place,
            mount_point,
            objects: scratch.join("store"),
            local: scratch.join("local"),
            log: logs.join("mount.log"),
        }
    }

    /// Mounts the volume; the first time it is a new one.
    pub(super) fn enter(&self) -> Result<Site<'_>, String> {
        if self.is_volume() && !self.mount_point.exists() {
            process::capture(Command::new("mount").args(["-t", "tmpfs", "rfs-suites", short()]))?;
        }
        fs::create_dir_all(&self.mount_point)
            .map_err(|error| format!("cannot create {}: {error}", self.mount_point.display()))?;
        let process = match &self.place {
            Place::Volume { rfs, store, commit_interval } => {
                Some(self.mount(rfs, *store, commit_interval)?)
            }
            Place::Directory(_) => None,
        };
        Ok(Site { ground: self, process })
    }

    /// Whether there is a mount that can be killed.
    pub(super) fn is_volume(&self) -> bool {
        matches!(self.place, Place::Volume { .. })
    }

    fn mount(&self, rfs: &Path, store: Store, commit_interval: &str) -> Result<Child, String> {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -v {MEMORY_KIB} && exec \"$@\"");
        command.args(["-c", &limited, "sh"]).arg(rfs);
        command.arg("mount").arg("--create").args(["--commit-interval", commit_interval]);
        match store {
            Store::Memory => command.args(["--level", "memory"]).arg("memory://"),
            Store::File => command
                // Suites that write for long would fill the disk.
                .args(["--keep-for", "5s", "--level", "local", "--local-dir"])
                .arg(&self.local)
                .arg(format!("file://{}", self.objects.display())),
        };
        command.arg(&self.mount_point);
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| format!("cannot open {}: {error}", self.log.display()))?;
        let errors =
            log.try_clone().map_err(|error| format!("cannot write {}: {error}", self.log.display()))?;
        let line = process::command_line(&command);
        let _ = writeln!(log, "# {line}");
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start `{line}`: {error}"))?;
        let Some(output) = process.stdout.take() else { return Err(format!("`{line}` has no output")) };
        let ready = says_mounted(output, log).recv_timeout(MOUNT_LIMIT);
        if ready.is_ok() {
            return Ok(process);
        }
        let status = process.try_wait().ok().flatten();
        let _ = process.kill().and_then(|()| process.wait());
        let how =
            status.map_or_else(|| "did not say that it is mounted".to_owned(), |status| status.to_string());
        Err(format!("`{line}`: {how}: {}", sandbox::excerpt(&self.log)))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.is_volume() {
            let _ = fs::remove_dir_all(&self.mount_point);
        }
    }
}

/// Passes the output on to the log, and tells when it has said that the volume is mounted.
fn says_mounted(output: ChildStdout, mut log: File) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = writeln!(log, "{line}");
            if line.starts_with("mounted ")
                && let Some(sender) = sender.take()
            {
                let _ = sender.send(());
            }
        }
    });
    receiver
}

/// An entered ground; when dropped, the mount is killed.
pub(super) struct Site<'g> {
    ground: &'g Ground,
    process: Option<Child>,
}

impl Site<'_> {
    pub(super) fn directory(&self) -> &Path {
        &self.ground.mount_point
    }

    /// Has the mount commit and end, and sees to it that it says so with its exit status. Who enters again is on another
    /// machine: the local directory is gone.
    pub(super) fn leave(mut self) -> Outcome {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let id = process.id().to_string();
        // A word of the shell: there is a `kill` wherever there is one.
        process::capture(Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &id]))?;
        let ended = time::poll(UNMOUNT_LIMIT, || {
            process.try_wait().map_err(|error| format!("waiting for the mount to end: {error}"))
        })?;
        let log = &self.ground.log;
        match ended {
            Some(status) if status.success() && !is_mount_point(self.directory())? => {
                match fs::remove_dir_all(&self.ground.local) {
                    Err(error) if self.ground.local.exists() => {
                        Err(format!("cannot remove {}: {error}", self.ground.local.display()))
                    }
                    _ => Ok(()),
                }
            }
            Some(status) if status.success() => {
                Err("the mount has ended, but its directory is still one".to_owned())
            }
            Some(status) => Err(format!("the mount ended with {status}: {}", sandbox::excerpt(log))),
            None => {
                self.process = Some(process);
                Err(format!(
                    "the mount did not end within {} s: {}",
                    UNMOUNT_LIMIT.as_secs(),
                    sandbox::excerpt(log)
                ))
            }
        }
    }

    /// Ends the mount with SIGKILL, as the machine's end would.
    pub(super) fn kill(mut self) -> Outcome {
        self.end()
    }

    fn end(&mut self) -> Outcome {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process
            .kill()
            .and_then(|()| process.wait())
            .map_err(|error| format!("cannot kill the mount: {error}"))?;
        if is_mount_point(self.directory())? {
            process::capture(Command::new("umount").arg("--lazy").arg(self.directory()))?;
        }
        Ok(())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

/// Asked of the kernel's table: a dead mount answers no other question.
fn is_mount_point(directory: &Path) -> Result<bool, String> {
    let table =
        fs::read_to_string("/proc/self/mounts").map_err(|error| format!("cannot list mounts: {error}"))?;
    let directory = directory.to_string_lossy();
    Ok(table.lines().any(|line| line.split(' ').nth(1) == Some(&*directory)))
}
