//! The judge: a real directory of the Linux that the tests run on.
//!
//! A thread of its own makes a fresh file system, or a fresh directory, its root in a mount namespace of its own: so
//! every form of a path means there what it means in a volume (`/x`, `..` above the root, absolute symlinks), none can
//! lead out of it, and nothing is left mounted. That takes the rights of root; without them [`LinuxDir::new`] fails
//! and the test is skipped.

mod caller;
mod dump;
mod ext4;
mod probe;
mod session;

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rfs_core::AtimePolicy;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use self::session::Session;
use crate::{Abilities, Answer, Dump, Target, TestOp};

/// Which of Linux's file systems judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// A tmpfs of its own.
    Memory,
    /// What the directory for temporary files is on: mostly ext4.
    Disk,
}

/// A fresh directory that runs operations by system calls. It goes when dropped.
#[derive(Debug)]
pub struct LinuxDir {
    dir: PathBuf,
    abilities: Abilities,
    requests: Option<SyncSender<Request>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Run(TestOp),
    Dump,
    Clear,
}

enum Reply {
    Ready(io::Result<Abilities>),
    Answer(Answer),
    Dump(io::Result<Dump>),
    Cleared(io::Result<()>),
}

static NEXT_DIR: AtomicU64 = AtomicU64::new(0);

/// What each judge can do, since it takes time to find out.
static ABILITIES: [OnceLock<Abilities>; 2] = [const { OnceLock::new() }; 2];

impl LinuxDir {
    /// Makes the directory and enters it.
    ///
    /// # Errors
    /// `PermissionDenied` when the process may not mount and change a thread's root directory; otherwise as the file
    /// system's.
    pub fn new(judge: Judge, atime: AtimePolicy) -> io::Result<Self> {
        let name = format!("rfs-testkit-{}-{}", std::process::id(), NEXT_DIR.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir)?;
        let (requests, inbox) = sync_channel(1);
        let (outbox, replies) = sync_channel(1);
        let root = dir.clone();
        let mut linux =
            Self { dir, abilities: Abilities::NONE, requests: Some(requests), replies, thread: None };
        let serve = move || serve(&root, judge, atime, &inbox, &outbox);
        linux.thread = Some(std::thread::Builder::new().spawn(serve)?);
        match linux.replies.recv() {
            Ok(Reply::Ready(result)) => {
                linux.abilities = result?;
                Ok(linux)
            }
            _ => Err(io::Error::other("the thread of the directory ended")),
        }
    }

    /// Which operations this file system has.
    #[must_use]
    pub const fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Closes all handles and begins anew with an empty directory, which takes less than another [`LinuxDir`].
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(&mut self) -> io::Result<()> {
        match self.ask(Request::Clear) {
            Reply::Cleared(result) => result,
            _ => unreachable!("clearing is answered by its result"),
        }
    }

    fn ask(&mut self, request: Request) -> Reply {
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        let reply = if sent { self.replies.recv().ok() } else { None };
        reply.expect("the thread of the directory answers until the directory is dropped")
    }
}

impl Target for LinuxDir {
    fn run(&mut self, op: &TestOp) -> Answer {
        match self.ask(Request::Run(op.clone())) {
            Reply::Answer(answer) => answer,
            _ => unreachable!("an operation is answered by an answer"),
        }
    }

    fn dump(&mut self) -> Dump {
        match self.ask(Request::Dump) {
            Reply::Dump(dump) => dump.expect("the test's own directory can be read"),
            _ => unreachable!("a dump is answered by a dump"),
        }
    }
}

impl Drop for LinuxDir {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread already failed the test that asked.
            _ = thread.join();
        }
        _ = fs::remove_dir_all(&self.dir);
    }
}

fn serve(
    root: &std::path::Path,
    judge: Judge,
    atime: AtimePolicy,
    inbox: &Receiver<Request>,
    outbox: &SyncSender<Reply>,
) {
    let entered = enter(root, judge, atime).and_then(|descriptors| {
        let known = &ABILITIES[judge as usize];
        let abilities = match known.get() {
            Some(abilities) => *abilities,
            None => *known.get_or_init({
                let found = probe::abilities(&descriptors)?;
                move || found
            }),
        };
        Ok((Session::new(descriptors, judge)?, abilities))
    });
    let (mut session, abilities) = match entered {
        Ok(entered) => entered,
        Err(errno) => {
            // Whoever asked has the error, or is gone.
            _ = outbox.send(Reply::Ready(Err(io::Error::from(errno))));
            return;
        }
    };
    let mut reply = Reply::Ready(Ok(abilities));
    loop {
        if outbox.send(reply).is_err() {
            return;
        }
        let Ok(request) = inbox.recv() else { return };
        reply = match request {
            Request::Run(op) => Reply::Answer(session.run(&op).map_err(Errno::raw_os_error)),
            Request::Dump => Reply::Dump(session.dump().map_err(io::Error::from)),
            Request::Clear => Reply::Cleared(session.clear().map_err(io::Error::from)),
        };
    }
}

/// Makes `root`, with the judge's file system, the root directory of this thread alone. Yields the directory of the
/// process's open descriptors, which is out of reach afterwards.
#[expect(deprecated, reason = "these flags touch no descriptor table, which is what makes others unsafe")]
fn enter(root: &std::path::Path, judge: Judge, atime: AtimePolicy) -> rustix::io::Result<OwnedFd> {
    const TMPFS_OPTIONS: &CStr = c"mode=755,size=1g";
    rustix::thread::unshare(UnshareFlags::FS | UnshareFlags::NEWNS)?;
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", alone)?;
    let flags = match atime {
        AtimePolicy::Never => MountFlags::NOATIME,
        AtimePolicy::Relative => MountFlags::RELATIME,
        AtimePolicy::Always => MountFlags::STRICTATIME,
    };
    match judge {
        Judge::Memory => rustix::mount::mount("tmpfs", root, "tmpfs", flags, TMPFS_OPTIONS)?,
        Judge::Disk => {
            rustix::mount::mount_bind(root, root)?;
            rustix::mount::mount_remount(root, MountFlags::BIND | flags, c"")?;
        }
    }
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptors = rustix::fs::open("/proc/self/fd", directory, Mode::empty())?;
    rustix::process::chroot(root)?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::empty());
    rustix::fs::chmod("/", Mode::from_raw_mode(0o755))?;
    Ok(descriptors)
}
