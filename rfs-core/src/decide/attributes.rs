//! Ops on attributes.

use super::{Decider, Decision, done, nothing};
use crate::{Change, Errno, Ino, Kind, SetTime, Target, Timestamp};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

impl Decider<'_> {
    pub(super) fn set_mode(&self, target: &Target, mode: u32) -> Result<Decision, Errno> {
        let ino = self.target(target)?;
        if self.inode(ino)?.kind() == Kind::Symlink {
            return Err(Errno::NotSupported);
        }
        Ok(done(Attributes { mode: Some(mode & 0o7777), ..Attributes::default() }.set(ino, self.context.now)))
    }

    pub(super) fn set_owner(
        &self,
        target: &Target,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<Decision, Errno> {
        let ino = self.target(target)?;
        let inode = self.inode(ino)?;
        // A file that others own must not go on running with the rights of its old owner; as in Linux, this is
        // so for root too, and even when no new owner is given.
        let mut kept = inode.mode;
        if !inode.is_dir() {
            kept &= !SET_USER_ID;
            if kept & GROUP_EXECUTE != 0 {
                kept &= !SET_GROUP_ID;
            }
        }
        let mode = (kept != inode.mode).then_some(kept);
        Ok(done(Attributes { mode, uid, gid, ..Attributes::default() }.set(ino, self.context.now)))
    }

    pub(super) fn set_times(
        &self,
        target: &Target,
        accessed: SetTime,
        modified: SetTime,
    ) -> Result<Decision, Errno> {
        // Linux does not even look at the path then.
        if accessed == SetTime::Keep && modified == SetTime::Keep {
            return Ok(nothing());
        }
        let ino = self.target(target)?;
        let time = |set| match set {
            SetTime::Keep => None,
            SetTime::Now => Some(self.context.now),
            SetTime::At(time) => Some(time),
        };
        let times =
            Attributes { accessed: time(accessed), modified: time(modified), ..Attributes::default() };
        Ok(done(times.set(ino, self.context.now)))
    }
}

/// The attributes that a Change sets.
#[derive(Default)]
struct Attributes {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    accessed: Option<Timestamp>,
    modified: Option<Timestamp>,
}

impl Attributes {
    const fn set(self, ino: Ino, time: Timestamp) -> Change {
        let Self { mode, uid, gid, accessed, modified } = self;
        Change::SetAttr { ino, mode, uid, gid, accessed, modified, time }
    }
}
