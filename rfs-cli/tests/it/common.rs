//! A store, a local directory, a mount point, and the command.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Whether there is FUSE here. Where it is missing there is nothing to test, and the test says so.
pub(crate) fn has_fuse() -> bool {
    let there = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    if !there {
        eprintln!("not tested: mounting needs /dev/fuse and root");
    }
    there
}

/// Whether the helper is here by which users other than root mount.
pub(crate) fn has_helper() -> bool {
    let there = Command::new("fusermount3").arg("--version").output().is_ok();
    if !there {
        eprintln!("not tested: users mount by fusermount3 (package fuse3)");
    }
    there
}

/// A user that is not root, as `setpriv` and `nsenter` take it.
const USER: [&str; 7] = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--"];

pub(crate) fn rfs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rfs"))
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    rfs().args(arguments).output().unwrap()
}

/// What a command that succeeds prints.
pub(crate) fn said(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&said(&[arguments, &["--json"]].concat())).unwrap()
}

/// The exit code and the message of a command that fails.
pub(crate) fn failure(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The command as it is begun from a terminal: with no signal ignored, whatever runs the tests ignores.
pub(crate) fn rfs_with_signals() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_rfs")]);
    command
}

/// All signals that end a process by default, but those that cannot be caught, and those that the kernel sends for
/// mistakes of the process.
pub(crate) const ENDING: [Signal; 13] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::STKFLT,
    Signal::XCPU,
];

/// Directories of one test.
pub(crate) struct Place {
    pub(crate) root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["store", "mnt"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.root.path().join("store").display())
    }

    /// A shell command after which nothing can be written to the store, not even by root.
    pub(crate) fn break_store(&self) -> String {
        let store = self.root.path().join("store");
        format!("rm -rf {store} && echo > {store}", store = store.display())
    }

    pub(crate) fn mnt(&self) -> PathBuf {
        self.root.path().join("mnt")
    }

    /// Runs a shell command by `rfs exec`, with more options of `rfs exec` before it.
    pub(crate) fn exec(&self, options: &[&str], script: &str) -> Output {
        rfs().args(["exec", &self.url()]).args(options).args(["--", "sh", "-c", script]).output().unwrap()
    }

    /// Mounts, and comes back when the mount can be used.
    pub(crate) fn mount(&self, options: &[&str]) -> Server {
        self.mount_by(rfs(), options)
    }

    pub(crate) fn mount_by(&self, mut rfs: Command, options: &[&str]) -> Server {
        self.serve(rfs.args(["mount", &self.url()]).arg(self.mnt()).arg("--create").args(options))
    }

    /// Gives the directories to a user that is not root.
    pub(crate) fn give_to_user(&self) {
        let given = Command::new("chown").args(["-R", "1000:1000"]).arg(self.root.path()).status();
        assert!(given.unwrap().success());
    }

    /// The command as that user, in a mount namespace of its own with a `/dev/fuse` for all; `prepare` is a shell command
    /// that root runs there before.
    pub(crate) fn rfs_as_user(&self, prepare: &str) -> Command {
        let mut command = Command::new("unshare");
        // The binary may be where only root gets to.
        let script = format!(
            "set -e; mkdir {dev}; mount -t tmpfs tmpfs {dev}; mknod -m 666 {dev}/fuse c 10 229
            mount --bind {dev}/fuse /dev/fuse; {prepare}
            exec {user} /proc/self/fd/9 \"$@\" 9< {rfs}",
            dev = self.root.path().join("dev").display(),
            user = USER.join(" "),
            rfs = env!("CARGO_BIN_EXE_rfs"),
        );
        command.args(["--mount", "sh", "-c", &script, "rfs"]);
        command
    }

    pub(crate) fn serve(&self, command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).unwrap();
        let ready = format!("mounted {} at {}\n", self.url(), self.mnt().display());
        assert_eq!(line, ready);
        Server { child: Some(child), dir: self.mnt() }
    }
}

/// A process that serves a mount. It does not outlive the test, and neither does the mount.
pub(crate) struct Server {
    child: Option<Child>,
    dir: PathBuf,
}

impl Server {
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(child.id().try_into().unwrap()).expect("it is not 0");
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// A shell script as the user whose mount it is, at the directory in the mount namespace of the process.
    pub(crate) fn as_user(&self, script: &str) -> Command {
        let child = self.child.as_ref().expect("it runs");
        let mut command = Command::new("nsenter");
        command.args(["--target", &child.id().to_string(), "--mount", "--"]).args(USER);
        command.args(["sh", "-c", &format!("cd {} && {script}", self.dir.display())]);
        command
    }

    /// What the kernel says of the process.
    pub(crate) fn proc_status(&self) -> String {
        let child = self.child.as_ref().expect("it runs");
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap()
    }

    /// Waits for it to end by itself.
    pub(crate) fn status(&mut self) -> Option<i32> {
        self.child.take().expect("it runs").wait().unwrap().code()
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
        self.take_off();
    }

    fn take_off(&self) {
        let done = Command::new("umount").arg("-l").arg(&self.dir).stderr(Stdio::null()).status();
        assert!(done.is_ok());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
            self.take_off();
        }
    }
}
