//! `rfs exec`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use crate::common::{ENDING, Place, has_fuse, rfs, rfs_with_signals};

#[test]
fn the_exit_status_is_the_program_s() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        assert_eq!(place.exec(&[], script).status.code(), Some(status), "{script}");
    }
    let run = |program: &str| rfs().args(["exec", &place.url(), "--", program]).output().unwrap();
    let missing = run("no-such-program");
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-program"));
    assert_eq!(run("/etc/passwd").status.code(), Some(126));
    let refused = rfs().args(["exec", "ftp://x", "--", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125));
}

#[test]
fn the_working_directory_outlives_the_program() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let first = place.exec(&["--checkpoint", "first"], "echo one > log; mkdir dir; pwd -P");
    assert!(first.status.success(), "{first:?}");
    // What a program leaves is kept when it fails, too.
    assert_eq!(place.exec(&[], "cat log; echo two >> log; exit 3").stdout, b"one\n");
    assert_eq!(
        place.exec(&["--writeback"], "cat log; test -d dir && test \"$PWD\" = \"$(pwd -P)\"").stdout,
        b"one\ntwo\n"
    );
    let dir = String::from_utf8(first.stdout).unwrap();
    assert!(!std::path::Path::new(dir.trim()).exists(), "{dir} is left behind");
}

#[test]
fn a_checkpoint_that_exists_is_refused_before_the_program_runs() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let ran = place.root.path().join("ran");
    let script = format!("echo \"$$\" >> file; echo > {}", ran.display());
    let named = |name: &str| place.exec(&["--commit-interval", "never", "--checkpoint", name], &script);
    assert!(named("one").status.success());
    fs::remove_file(&ran).unwrap();
    for wrong in ["one", "", &"n".repeat(256)] {
        let refused = named(wrong);
        assert!(!refused.status.success(), "{wrong:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--checkpoint"), "{refused:?}");
        assert!(!ran.exists(), "{wrong:?}");
    }
    assert_eq!(named("one").status.code(), Some(125));
    // The volume is as it was, and goes on.
    assert!(named("two").status.success());
    assert_eq!(place.exec(&[], "wc -l < file").stdout, b"2\n");
}

#[test]
fn a_last_commit_that_fails_is_told() {
    if !has_fuse() {
        return;
    }
    for more in [&[] as &[&str], &["--checkpoint", "name"]] {
        let place = Place::new();
        let options = [&["--commit-interval", "never"], more].concat();
        let done = place.exec(&options, &format!("echo x > file; {}; exit 3", place.break_store()));
        assert_eq!(done.status.code(), Some(125), "not the program's: {done:?}");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(told.contains("rfs: the last commit: ") && told.contains("Not a directory"), "{told}");
    }
}

#[test]
fn how_long_commits_stay_is_asked_for() {
    if !has_fuse() {
        return;
    }
    let commits = |keep: &str| {
        let place = Place::new();
        let script = "
import os
file = os.open('file', os.O_CREAT | os.O_WRONLY)
for _ in range(600):
    os.pwrite(file, b'x', 0)
    os.fsync(file)
";
        let args =
            ["exec", &place.url(), "--level", "remote", "--keep-for", keep, "--", "python3", "-c", script];
        let done = rfs().args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let store = place.root.path().join("store");
        let found = Command::new("find").arg(store).args(["-type", "f", "-path", "*/commits/*"]).output();
        String::from_utf8(found.unwrap().stdout).unwrap().lines().count()
    };
    assert!(commits("0s") < 400, "those that image 256 is for are gone");
    assert!(commits("forever") >= 600);
}

#[test]
fn nobody_else_sees_the_mount() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let at = place.mnt();
    let shared = place.root.path().join("seen");
    let script = format!(
        "echo inside > file; ls {at} > {seen}; ls {out}",
        at = at.display(),
        seen = shared.display(),
        out = place.root.path().display()
    );
    let done = place.exec(&["--at", at.to_str().unwrap()], &script);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read_to_string(&shared).unwrap(), "file\n", "at the directory that was asked for");
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "outside");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(at.to_str().unwrap()));
}

/// Waits for a signal, and says that it has come.
const ASKED: &str = "
import signal, sys
awaited = {int(sys.argv[1])}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print('ready', flush=True)
signal.sigwait(awaited)
open('asked', 'w').write('asked')
sys.exit(9)
";

#[test]
fn signals_go_to_the_program_and_its_work_is_committed() {
    if !has_fuse() {
        return;
    }
    for signal in ENDING {
        let place = Place::new();
        let mut child = rfs_with_signals()
            .args(["exec", &place.url(), "--commit-interval", "never"])
            .args(["--", "python3", "-c", ASKED, &signal.as_raw().to_string()])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = Pid::from_raw(child.id().try_into().unwrap()).expect("it is not 0");
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(9), "{signal:?}");
        assert_eq!(place.exec(&[], "cat asked").stdout, b"asked", "{signal:?}");
    }
}

/// Runs its arguments in a terminal of their own, with another standard input. When the program there is ready it types
/// a key, and sends SIGTERM when that has come.
const TERMINAL: &str = "
import os, pty, signal, sys
process, terminal = pty.fork()
if process == 0:
    os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
    os.execvp(sys.argv[2], sys.argv[2:])
screen = b''
def until(word):
    global screen
    while word not in screen:
        screen += os.read(terminal, 1000)
until(b'ready')
os.write(terminal, bytes([int(sys.argv[1])]))
until(b'interrupted')
os.kill(process, signal.SIGTERM)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
";

/// Says how often it was interrupted until SIGTERM. Of those that are pending it takes the lowest number first.
const COUNTER: &str = "
import signal
awaited = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print('ready', flush=True)
count = 0
while signal.sigwait(awaited) != signal.SIGTERM:
    count += 1
    print('interrupted', flush=True)
open('count', 'w').write(str(count))
";

const CTRL_C: &str = "3";
const CTRL_BACKSLASH: &str = "28";

#[test]
fn what_is_typed_reaches_the_program_once() {
    if !has_fuse() {
        return;
    }
    for key in [CTRL_C, CTRL_BACKSLASH] {
        let place = Place::new();
        let rfs = rfs_with_signals();
        let done = Command::new("python3")
            .args(["-c", TERMINAL, key])
            .arg(rfs.get_program())
            .args(rfs.get_args())
            .args(["exec", &place.url(), "--", "python3", "-c", COUNTER])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(place.exec(&[], "cat count").stdout, b"1", "key {key}");
    }
}

#[test]
fn a_killed_rfs_leaves_no_mount() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let at = place.mnt();
    let script = "echo x > file; sync; echo ready; read -r line; cat file 2>&1; echo ended";
    let mut child = rfs()
        .args(["exec", &place.url(), "--at", at.to_str().unwrap(), "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let input = child.stdin.take();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(input);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert!(rest.contains("ended") && !rest.contains('x'), "the program lost its directory: {rest}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(at.to_str().unwrap()));
    // And the next one takes the volume over.
    assert!(place.exec(&[], "true").status.success());
}
