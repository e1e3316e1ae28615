//! Ops on attributes: mode, owner, times, and what a change of content takes away.

use super::{Decider, Decision, done, nothing};
use crate::acl::{ACCESS_ACL, Acl};
use crate::permission::{GROUP_EXECUTE, SET_GROUP_ID, SET_USER_ID};
use crate::xattr::CAPABILITY;
use crate::{
    Capabilities, Change, Errno, Fault, Ino, Inode, Kind, Outcome, Permission, SetTime, Target, Timestamp,
    XattrName, XattrValue,
};

impl Decider<'_> {
    pub(super) fn set_mode(&self, target: &Target, mode: u32) -> Result<Decision, Fault> {
        let ino = self.target(target)?;
        let inode = self.inode(ino)?;
        if inode.kind() == Kind::Symlink {
            return Err(Errno::NotSupported.into());
        }
        if !self.context.credential.owns(inode) {
            return Err(Errno::NotPermitted.into());
        }
        let mut mode = mode & 0o7777;
        if !self.context.credential.may_set_group_id(inode.gid) {
            mode &= !SET_GROUP_ID;
        }
        let set = Attributes { mode: Some(mode), ..Attributes::default() }.set(ino, self.context.now);
        let mut changes = vec![set];
        if let Some(held) = self.tree.find_xattr(ino, ACCESS_ACL)? {
            let mut acl = Acl::parse(held.as_bytes())?.ok_or(Errno::Invalid)?;
            acl.set_mode(mode);
            let (name, value) = (XattrName::new(ACCESS_ACL)?, XattrValue::new(&acl.to_bytes())?);
            changes.push(Change::SetXattr { ino, name, value, time: self.context.now });
        }
        Ok(Decision { changes, outcome: Outcome::Done })
    }

    pub(super) fn set_owner(
        &self,
        target: &Target,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<Decision, Fault> {
        let ino = self.target(target)?;
        let inode = self.inode(ino)?;
        // The number that stands for "no number" cannot be an owner.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::Invalid.into());
        }
        let credential = self.context.credential;
        if !credential.has(Capabilities::CHOWN) {
            let own = credential.uid == inode.uid;
            let group = |gid| gid == inode.gid || credential.is_in_group(gid);
            if uid.is_some_and(|uid| !own || uid != inode.uid) || gid.is_some_and(|gid| !own || !group(gid)) {
                return Err(Errno::NotPermitted.into());
            }
        }
        // A file that others own must not go on running with the rights of its old owner; as in Linux, this is
        // so for root too, and even when no new owner is given.
        let mut kept = inode.mode;
        let mut changes = Vec::new();
        if !inode.is_dir() {
            kept = self.without_set_id(inode);
            if kept != inode.mode {
                if !credential.owns(inode) {
                    return Err(Errno::NotPermitted.into());
                }
                if !credential.may_set_group_id(gid.unwrap_or(inode.gid)) {
                    kept &= !SET_GROUP_ID;
                }
            }
            changes.extend(self.without_capability(ino)?);
        }
        let mode = (kept != inode.mode).then_some(kept);
        changes.push(Attributes { mode, uid, gid, ..Attributes::default() }.set(ino, self.context.now));
        Ok(Decision { changes, outcome: Outcome::Done })
    }

    pub(super) fn set_times(
        &self,
        target: &Target,
        accessed: SetTime,
        modified: SetTime,
    ) -> Result<Decision, Fault> {
        // Linux does not even look at the path then.
        if accessed == SetTime::Keep && modified == SetTime::Keep {
            return Ok(nothing());
        }
        let ino = self.target(target)?;
        if !self.context.credential.owns(self.inode(ino)?) {
            // Who may write to a file may say that it was just written.
            if accessed != SetTime::Now || modified != SetTime::Now {
                return Err(Errno::NotPermitted.into());
            }
            self.permits(ino, Permission::WRITE)?;
        }
        let time = |set| match set {
            SetTime::Keep => None,
            SetTime::Now => Some(self.context.now),
            SetTime::At(time) => Some(time),
        };
        let times =
            Attributes { accessed: time(accessed), modified: time(modified), ..Attributes::default() };
        Ok(done(times.set(ino, self.context.now)))
    }

    /// What has to come before a change of a file's content by this caller: others do not run what it wrote with the
    /// rights that the file was given before.
    pub(super) fn write_privileges(&self, ino: Ino) -> Result<Vec<Change>, Fault> {
        let mut changes = Vec::new();
        let keeps_ids = self.context.credential.has(Capabilities::FSETID);
        if keeps_ids && self.tree.xattrs.is_empty() {
            return Ok(changes);
        }
        let inode = self.inode(ino)?;
        if inode.kind() != Kind::File {
            return Ok(changes);
        }
        changes.extend(self.without_capability(ino)?);
        if inode.mode & (SET_USER_ID | SET_GROUP_ID) != 0 && !keeps_ids {
            let kept = self.without_set_id(inode);
            if kept != inode.mode {
                let mode = Some(kept);
                changes.push(Attributes { mode, ..Attributes::default() }.set(ino, self.context.now));
            }
        }
        Ok(changes)
    }

    /// The mode without set-user-id, and without a set-group-id that lets the group run it or is not the caller's to
    /// leave.
    fn without_set_id(&self, inode: &Inode) -> u32 {
        let mut mode = inode.mode & !SET_USER_ID;
        if mode & GROUP_EXECUTE != 0 || !self.context.credential.may_set_group_id(inode.gid) {
            mode &= !SET_GROUP_ID;
        }
        mode
    }

    fn without_capability(&self, ino: Ino) -> Result<Option<Change>, Fault> {
        if self.tree.find_xattr(ino, CAPABILITY)?.is_none() {
            return Ok(None);
        }
        let name = XattrName::new(CAPABILITY)?;
        Ok(Some(Change::RemoveXattr { ino, name, time: self.context.now }))
    }
}

/// The attributes that a Change sets.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) accessed: Option<Timestamp>,
    pub(super) modified: Option<Timestamp>,
}

impl Attributes {
    pub(super) const fn set(self, ino: Ino, time: Timestamp) -> Change {
        let Self { mode, uid, gid, accessed, modified } = self;
        Change::SetAttr { ino, mode, uid, gid, accessed, modified, time }
    }
}
