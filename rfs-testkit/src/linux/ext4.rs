//! Where ext4 alone is odd: it is made to do what tmpfs does, or what it means to do.

use std::os::fd::{AsFd, OwnedFd};

use rfs_core::{Capabilities, Credential, SetTime, Timestamp, XATTR_VALUE_MAX};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::Judge;
use super::session::{READ, Session, open_flags, timespec};
use crate::{Path, TestOp, What};

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const STAND_IN: &str = "stand-in";
const CAPABILITY: &str = "security.capability";

/// ext4 sees that it cannot move a range only after it has done what a write does to time, mode and capability: but
/// what is refused should change nothing.
pub(super) struct Unshifted {
    file: OwnedFd,
    stat: Stat,
    capability: Option<Vec<u8>>,
}

impl Unshifted {
    pub(super) fn restore(self) -> Result<(), Errno> {
        let Self { file, stat, capability } = self;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        if let Some(value) = capability {
            rustix::fs::fsetxattr(&file, CAPABILITY, &value, XattrFlags::empty())?;
        }
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let modified = SetTime::At(Timestamp::from_parts(stat.st_mtime, nanos));
        let times =
            Timestamps { last_access: timespec(SetTime::Keep), last_modification: timespec(modified) };
        rustix::fs::futimens(&file, &times)
    }
}

impl Session {
    /// A file as it is before ext4 is asked to move a range of it.
    pub(super) fn unshifted(&self, what: &What) -> Result<Unshifted, Errno> {
        let file = match what {
            What::Handle(slot) => rustix::io::fcntl_dupfd_cloexec(self.handle(*slot)?, 0)?,
            What::Path { path, follow } => {
                let mut flags = open_flags(READ);
                flags.set(OFlags::NOFOLLOW, !follow);
                rustix::fs::openat(self.base(path)?, &*path.bytes, flags, Mode::empty())?
            }
        };
        let stat = rustix::fs::fstat(&file)?;
        let mut value = vec![0; XATTR_VALUE_MAX];
        let capability = rustix::fs::fgetxattr(&file, CAPABILITY, &mut value).ok().map(|len| {
            value.truncate(len);
            value
        });
        Ok(Unshifted { file, stat, capability })
    }

    /// In a directory that was removed ext4 makes nothing, not even what has no name, and says `EPERM`: to Linux, and
    /// to tmpfs, that is no matter of names. A directory like it, out of reach, has what a new file inherits.
    pub(super) fn stand_in_for_removed(&self, path: &Path) -> Result<Option<OwnedFd>, Errno> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |base, path: &[u8]| rustix::fs::openat(base, path, directory, Mode::empty());
        let removed = open(self.base(path)?, &path.bytes)?;
        let stat = rustix::fs::fstat(&removed)?;
        if self.judge != Judge::Disk || stat.st_nlink > 0 {
            return Ok(None);
        }
        rustix::fs::mkdirat(&self.outer, STAND_IN, Mode::RWXU)?;
        let stand_in = open(self.outer.as_fd(), STAND_IN.as_bytes())?;
        rustix::fs::fchown(&stand_in, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        rustix::fs::fchmod(&stand_in, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for name in [ACCESS_ACL, DEFAULT_ACL] {
            let mut value = vec![0; XATTR_VALUE_MAX];
            if let Ok(len) = rustix::fs::fgetxattr(&removed, name, &mut value) {
                rustix::fs::fsetxattr(&stand_in, name, &value[..len], XattrFlags::empty())?;
            }
        }
        Ok(Some(stand_in))
    }

    pub(super) fn remove_stand_in(&self) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.outer, STAND_IN, AtFlags::REMOVEDIR)
    }

    /// What an operation removes the access ACL of, and the group of that, if ext4 does it.
    pub(super) fn group_of_acl<'a>(&self, op: &'a TestOp) -> Option<(&'a What, u32)> {
        let what = match op {
            TestOp::RemoveXattr { what, name } if name.0 == ACCESS_ACL => what,
            TestOp::SetXattr { what, name, value, .. } if name.0 == ACCESS_ACL && value.0.len() <= 4 => what,
            _ => return None,
        };
        let stat = if self.judge == Judge::Disk { self.stat(what).ok() } else { None };
        stat.map(|stat| (what, stat.st_gid))
    }

    /// Whoever may not give a file this group loses its set-group-ID by setting an ACL: on tmpfs also by removing
    /// it, which is the safer way, and rfs's.
    pub(super) fn clear_group_id(&mut self, what: &What, caller: &Credential, gid: u32) -> Result<(), Errno> {
        if caller.is_in_group(gid) || caller.has(Capabilities::FSETID) {
            return Ok(());
        }
        let mode = self.stat(what)?.st_mode & 0o5777;
        self.set_attributes(&TestOp::SetMode { what: what.clone(), mode })
    }
}
