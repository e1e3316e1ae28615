//! `rfs mount` and `rfs unmount`.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rfs_mount::{Mount, MountOptions};
use rustix::event::{PollFd, PollFlags};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags};

use crate::error::Failure;
use crate::signals::Signals;
use crate::{Outcome, args, state, volume};

pub(crate) fn mount(args: &args::Mount) -> Outcome {
    run(async {
        // Before the volume is open, so that no signal ends the process without a commit.
        let mut signals = Signals::listen()?;
        let volume = volume::open(&args.url, &args.volume, args.create, &mut signals).await?;
        // Others are for root to let in; another user would need leave from /etc/fuse.conf.
        let allow_other = !args.private && rustix::process::geteuid().is_root();
        let options =
            options(&args.url, &args.kernel).with_allow_other(allow_other).with_server(std::process::id());
        serve_until_told(volume, &args.url, &args.dir, options, &mut signals).await
    })
}

/// Serves a state that is open for reading.
pub(crate) fn open_at(args: &args::OpenAt) -> Outcome {
    run(async {
        let mut signals = Signals::listen()?;
        let volume = state::open(&args.url, args.state.clone()).await?;
        let options = MountOptions::new()
            .with_source(&args.url)
            .with_read_only(true)
            .with_exclusive(true)
            .with_allow_other(rustix::process::geteuid().is_root())
            .with_server(std::process::id());
        serve_until_told(volume, &args.url, &args.dir, options, &mut signals).await
    })
}

/// Serves a volume on a directory until a signal says to stop, or somebody unmounts it.
async fn serve_until_told(
    volume: rfs::Volume,
    url: &str,
    dir: &Path,
    options: MountOptions,
    signals: &mut Signals,
) -> Outcome {
    let mount = serve(volume, dir, options)?;
    announce(url, dir)?;
    tokio::select! {
        _ = signals.next() => {}
        () = mount.wait() => {}
    }
    finish(mount, None).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn unmount(args: &args::Unmount) -> Outcome {
    let dir = args.dir.as_path();
    let is_ours = fs_type(dir)?.is_some_and(|kind| kind == rfs_mount::FS_TYPE);
    if !is_ours {
        return Err(Failure::new(format!("unmount {}: no volume is mounted on it", dir.display())));
    }
    let server = server(dir);
    match rustix::mount::unmount(dir, UnmountFlags::empty()) {
        Ok(()) => {}
        Err(rustix::io::Errno::PERM) => unmount_as_user(dir)?,
        Err(errno) => {
            let advice = if errno == rustix::io::Errno::BUSY { " (a program uses it)" } else { "" };
            let doing = format!("unmount {}{advice}", dir.display());
            return Err(Failure::during(doing, &io::Error::from(errno)));
        }
    }
    match server {
        Some(Server::Process(process)) => {
            wait_for(&process).map_err(|error| Failure::during("wait for the last commit", &error))?;
        }
        Some(Server::Elsewhere) => eprintln!(
            "rfs: {} is unmounted; its last commit is not waited for, since it is made by a process of another PID \
             namespace",
            dir.display()
        ),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What ends when the mount does, after its last commit.
enum Server {
    Process(OwnedFd),
    /// It is in another PID namespace, where its number means nothing here.
    Elsewhere,
}

/// Who serves the mount. A program that mounts by the library need not tell, and then nobody waits for it.
fn server(dir: &Path) -> Option<Server> {
    let mut told = [0_u8; 64];
    let len = rustix::fs::getxattr(dir, "system.rfs.server", &mut told[..]).ok()?;
    let (pid, namespace) = std::str::from_utf8(told.get(..len)?).ok()?.split_once(' ')?;
    let own = std::fs::metadata("/proc/self/ns/pid").ok()?.ino();
    if namespace.parse() != Ok(own) {
        return Some(Server::Elsewhere);
    }
    let pid = Pid::from_raw(pid.parse().ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok().map(Server::Process)
}

fn wait_for(process: &OwnedFd) -> io::Result<()> {
    let mut ends = [PollFd::new(process, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut ends, None) {
            Err(rustix::io::Errno::INTR) => {}
            ended => return ended.map(drop).map_err(io::Error::from),
        }
    }
}

/// Users other than root unmount through the helper by which they mounted.
fn unmount_as_user(dir: &Path) -> Result<(), Failure> {
    let doing = || format!("unmount {} with fusermount3 (package fuse3)", dir.display());
    let output = Command::new("fusermount3").args(["-u", "--"]).arg(dir).output();
    let output = output.map_err(|error| Failure::during(doing(), &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim())))
}

pub(crate) fn options(url: &str, kernel: &args::Kernel) -> MountOptions {
    let mut options = MountOptions::new()
        .with_source(url)
        .with_writeback(kernel.writeback)
        .with_exclusive(true)
        .with_set_id(!kernel.nosuid)
        .with_devices(!kernel.nodev);
    if let Some(threads) = kernel.threads {
        options = options.with_threads(threads.into());
    }
    options
}

/// Serves a volume on a directory.
pub(crate) fn serve(volume: rfs::Volume, dir: &Path, options: MountOptions) -> Result<Mount, Failure> {
    Mount::new(volume, dir, options).map_err(|error| Failure::during("mount", &error))
}

/// Ends a mount: the volume gets its last commit, with a name if one is given. Whatever else fails, what was done is
/// committed.
pub(crate) async fn finish(mount: Mount, checkpoint: Option<&str>) -> Result<(), Failure> {
    let (volume, unmounted) = match tokio::task::block_in_place(|| mount.unmount()) {
        Ok(volume) => (volume, Ok(())),
        Err(error) => {
            let failure = Failure::during("end the mount", &error);
            (error.into_mount().into_volume(), Err(failure))
        }
    };
    let named = match checkpoint {
        Some(name) => self::checkpoint(&volume, name).await,
        None => Ok(()),
    };
    let closed = volume.close().await.map_err(|error| Failure::during("the last commit", &error));
    closed.and(named).and(unmounted)
}

async fn checkpoint(volume: &rfs::Volume, name: &str) -> Result<(), Failure> {
    let failed = |error: rfs::Error| Failure::during(format!("checkpoint {name:?}"), &error);
    volume.checkpoint(name).await.map_err(failed)?.wait().await.map(drop).map_err(failed)
}

/// Runs a command to its end. What it has begun and given up, as looking up a name, is not waited for.
pub(crate) fn run(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::during("start", &error))?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}

/// One line that a script can wait for.
fn announce(url: &str, dir: &Path) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let said = writeln!(out, "mounted {url} at {}", dir.display()).and_then(|()| out.flush());
    match said {
        // Nobody listens: not a reason to stop.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::during("say that it is mounted", &error))
        }
        _ => Ok(()),
    }
}

/// The type of the file system that is mounted on exactly this directory, if any is.
fn fs_type(dir: &Path) -> Result<Option<String>, Failure> {
    let doing = |error: &io::Error| Failure::during(format!("look at {}", dir.display()), error);
    let absolute = std::path::absolute(dir).map_err(|error| doing(&error))?;
    let parent = absolute.parent().unwrap_or(&absolute);
    // Not the directory itself: it may belong to a mount whose process is gone, and not answer.
    let parent = parent.canonicalize().map_err(|error| doing(&error))?;
    let full = absolute.file_name().map_or_else(|| parent.clone(), |name| parent.join(name));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| doing(&error))?;
    let newest = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let place = fields.nth(4)?;
        let kind = fields.skip_while(|field| *field != "-").nth(1)?;
        (Path::new(&unescape(place)) == full).then(|| kind.to_owned())
    });
    Ok(newest)
}

/// A path of `/proc/self/mountinfo`: spaces and the like stand there as a backslash and three octal digits.
fn unescape(field: &str) -> std::ffi::OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.first_chunk::<3>().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn paths_of_mountinfo_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\x"), r"/plain\x");
        assert_eq!(unescape(r"/end\04"), r"/end\04");
    }
}
