//! A mount namespace of one's own: what is mounted in it is seen by this process and its children alone, and is gone
//! with the last of them.

use std::fs;
use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::error::Failure;

/// Moves the process into a mount namespace of its own, with a user namespace around it where that is needed. The
/// process must not have a second thread yet.
pub(crate) fn enter() -> Result<(), Failure> {
    let needs_user = !rustix::process::geteuid().is_root();
    let entered = if needs_user { enter_as_user() } else { unshare(UnshareFlags::NEWNS) };
    entered.map_err(|error| {
        let advice = if needs_user {
            "this system lets users make no namespaces: run it as root, or use `rfs mount`"
        } else {
            "the process needs the right to make mounts (CAP_SYS_ADMIN); or use `rfs mount`"
        };
        Failure::during(format!("make a private mount namespace ({advice})"), &error)
    })?;
    // Nothing goes out; but what is unmounted outside must not live on in here.
    let private = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", private)
        .map_err(|error| Failure::during("keep mounts private to this process", &io::Error::from(error)))
}

/// The user keeps its own number inside, and gets the right to mount.
fn enter_as_user() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    // Without it the kernel does not let an ordinary user map its group.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

#[expect(deprecated, reason = "these flags touch no descriptor table, which is what makes others unsafe")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    rustix::thread::unshare(flags).map_err(io::Error::from)
}
