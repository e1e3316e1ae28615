//! `rfs exec`: a program with a volume as its working directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::error::Failure;
use crate::mount::{finish, options, run, serve};
use crate::signals::Signals;
use crate::{Outcome, args, namespace, volume};

/// What a shell answers when there is no such program, or when it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

pub(crate) fn exec(args: &args::Exec) -> Outcome {
    // The runtime's threads would not come along.
    namespace::enter()?;
    let temporary;
    let dir = if let Some(dir) = &args.at {
        dir.as_path()
    } else {
        temporary = tempfile::Builder::new()
            .prefix("rfs-exec-")
            .tempdir()
            .map_err(|error| Failure::during("make a directory to mount the volume on", &error))?;
        temporary.path()
    };
    run(exec_at(args, dir))
}

async fn exec_at(args: &args::Exec, dir: &Path) -> Outcome {
    let dir =
        dir.canonicalize().map_err(|error| Failure::during(format!("use {}", dir.display()), &error))?;
    let mut signals = Signals::listen()?;
    let volume = volume::open(&args.url, &args.volume, true, &mut signals).await?;
    if let Some(name) = &args.checkpoint
        && volume.checkpoints().iter().any(|(there, _)| there == name)
    {
        // The volume is as it was: it need not be closed.
        return Err(Failure::new(format!(
            "--checkpoint {name:?}: the volume has a checkpoint with this name"
        )));
    }
    let mount = serve(volume, &dir, options(&args.url, &args.kernel))?;
    let ended = match spawn(&args.command, &dir) {
        Ok(child) => wait(child, &mut signals).await,
        Err(failure) => Err(failure),
    };
    // Also when the program failed: what it left is what the next run begins with.
    let finished = finish(mount, args.checkpoint.as_deref()).await;
    match (ended, finished) {
        (Ok(status), Ok(())) => Ok(exit_code(status)),
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => Err(failure),
        (Err(failure), Err(unfinished)) => {
            eprintln!("rfs: {unfinished}");
            Err(failure)
        }
    }
}

fn spawn(command: &[std::ffi::OsString], dir: &Path) -> Result<Child, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new("there is no command to run"));
    };
    Command::new(program)
        .args(arguments)
        .current_dir(dir)
        // Programs that trust it over the directory that they are in would look elsewhere.
        .env("PWD", dir)
        .env("RFS_DIR", dir)
        .spawn()
        .map_err(|error| not_run(program, &error))
}

fn not_run(program: &OsStr, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Failure::during(format!("run {}", program.display()), error).with_code(code)
}

/// Waits for the program to end, and hands on the signals that are meant for it.
async fn wait(mut child: Child, signals: &mut Signals) -> Result<ExitStatus, Failure> {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    loop {
        tokio::select! {
            ended = child.wait() => {
                return ended.map_err(|error| Failure::during("wait for the command", &error));
            }
            signal = signals.next() => {
                if let Some(pid) = pid.filter(|pid| !has_it_from_terminal(*pid, signal)) {
                    // It may have ended meanwhile; then there is nobody to tell.
                    _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// Whether the terminal has sent a signal to the program too. It sends what is typed to all processes of its foreground
/// group, whatever their standard input is. Who has sent a signal cannot be asked for here, so that one which somebody
/// sends to `rfs` alone, in the foreground, is taken for the terminal's.
fn has_it_from_terminal(program: Pid, signal: Signal) -> bool {
    if !matches!(signal, Signal::INT | Signal::QUIT) {
        return false;
    }
    let own = rustix::process::getpgrp();
    let terminal =
        rustix::fs::open("/dev/tty", OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    terminal.and_then(rustix::termios::tcgetpgrp) == Ok(own)
        && rustix::process::getpgid(Some(program)) == Ok(own)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
