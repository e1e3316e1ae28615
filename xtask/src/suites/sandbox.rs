//! A run has PID and mount namespaces of its own.
//!
//! Whatever it starts ends with its first process, and whatever it mounts goes with it: when it is done, when its time
//! is up, and when this task is interrupted or killed. Nothing it mounts is seen outside.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Outcome, process, time, workspace};

/// Mount point, store and local directory of a run, in its directory.
pub(super) const SCRATCH: &str = "scratch";

/// Why a run cannot be started on this machine, or nothing.
pub(crate) fn missing(with_mount: bool) -> Option<String> {
    if with_mount && !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse here, so nothing can be mounted".to_owned());
    }
    let effective = process::capture(Command::new("id").arg("-u")).unwrap_or_default();
    if effective.trim_ascii() != b"0" {
        return Some(
            "the suites act as several users, so they need root: sudo -E cargo xtask suites".to_owned(),
        );
    }
    None
}

/// Starts this task again in new namespaces and waits for its end, at most `limit`. What it says goes to `run.log`.
pub(super) fn run(arguments: &[String], limit: Duration, directory: &Path) -> Result<Outcome, String> {
    let log = directory.join("run.log");
    let output = File::create(&log).map_err(|error| format!("cannot create {}: {error}", log.display()))?;
    let errors = output.try_clone().map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let task = workspace::task().map_err(|error| format!("cannot find this task's program: {error}"))?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        // A shell is the first process: it reaps what the suites orphan.
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(task)
        .arg("suites")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let line = process::command_line(&command);
    let mut child = command.spawn().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let ended =
        time::poll(limit, || child.try_wait().map_err(|error| format!("waiting for `{line}`: {error}")))?;
    Ok(match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status}: {}", excerpt(&log))),
        None => {
            let stopped = child.kill().and_then(|()| child.wait());
            stopped.map_err(|error| format!("stopping `{line}`: {error}"))?;
            Err(format!("stopped after its limit of {} s: {}", limit.as_secs(), excerpt(&log)))
        }
    })
}

/// The beginning and the end of a log, for a message: some programs say the reason first, some last.
pub(super) fn excerpt(log: &Path) -> String {
    const LINES: usize = 4;
    const WIDTH: usize = 300;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let chosen: Vec<_> = match lines.len() {
        0..9 => lines,
        length => [&lines[..LINES], &["..."], &lines[length - LINES..]].concat(),
    };
    let cut = |line: &str| line.chars().take(WIDTH).collect::<String>();
    chosen.into_iter().map(cut).collect::<Vec<_>>().join(" | ")
}

/// The directory of one run: logs and verdicts, and [`SCRATCH`].
pub(super) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// The first of `NAME`, `NAME-2`, `NAME-3` that no other task uses, emptied.
    pub(super) fn take(parent: &Path, name: &str) -> Result<Self, String> {
        let cannot = |what: &str, path: &Path, error| format!("cannot {what} {}: {error}", path.display());
        fs::create_dir_all(parent).map_err(|error| cannot("create", parent, error))?;
        for number in 1.. {
            let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let lock_path = parent.join(format!("{name}.lock"));
            let lock = File::create(&lock_path).map_err(|error| cannot("create", &lock_path, error))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(cannot("lock", &lock_path, error)),
            }
            let path = parent.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| cannot("remove", &path, error))?;
            }
            fs::create_dir_all(&path).map_err(|error| cannot("create", &path, error))?;
            return Ok(Self { path, _lock: lock });
        }
        unreachable!("some number is free")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove_scratch(&self) -> Outcome {
        let scratch = self.path.join(SCRATCH);
        match fs::remove_dir_all(&scratch) {
            Err(error) if scratch.exists() => Err(format!("cannot remove {}: {error}", scratch.display())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_both_ends() {
        let log = std::env::temp_dir().join(format!("rfs-log-{}", std::process::id()));
        let lines: Vec<_> = (1..=20).map(|number| number.to_string()).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(excerpt(&log), "1 | 2 | 3 | 4 | ... | 17 | 18 | 19 | 20");
        fs::write(&log, "x".repeat(1000)).unwrap();
        assert_eq!(excerpt(&log).len(), 300);
        fs::remove_file(&log).unwrap();
        assert_eq!(excerpt(&log), "");
    }

    #[test]
    fn two_runs_never_share_a_directory() {
        let parent = std::env::temp_dir().join(format!("rfs-runs-{}", std::process::id()));
        let first = RunDirectory::take(&parent, "fsx").unwrap();
        let second = RunDirectory::take(&parent, "fsx").unwrap();
        assert_eq!((first.path(), second.path()), (&*parent.join("fsx"), &*parent.join("fsx-2")));
        fs::write(first.path().join("old"), "").unwrap();
        drop(first);
        let again = RunDirectory::take(&parent, "fsx").unwrap();
        assert_eq!(again.path(), parent.join("fsx"));
        assert!(!again.path().join("old").exists(), "a run starts empty");
        fs::remove_dir_all(&parent).unwrap();
    }
}
