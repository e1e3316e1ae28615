//! Ops on extended attributes, and on the POSIX ACLs among them.

use super::attributes::Attributes;
use super::{Decider, Decision, done, nothing};
use crate::acl::{Acl, DEFAULT_ACL};
use crate::permission::{SET_GROUP_ID, STICKY};
use crate::xattr::{CAPABILITY, Namespace, has_user_xattrs, is_capability};
use crate::{
    Capabilities, Change, Errno, Fault, Ino, Inode, Kind, Outcome, Permission, Target, XATTR_BYTES_MAX,
    XATTR_LIST_MAX, XattrMode, XattrName, XattrValue,
};

impl Decider<'_> {
    pub(super) fn set_xattr(
        &self,
        target: &Target,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<Decision, Fault> {
        let (name, value) = (XattrName::new(name)?, XattrValue::new(value)?);
        let ino = self.target(target)?;
        let inode = self.inode(ino)?;
        if Namespace::of(name.as_bytes()) == Namespace::Acl {
            return self.set_acl(ino, inode, name, Acl::parse(value.as_bytes())?);
        }
        if name.as_bytes() == CAPABILITY && !is_capability(value.as_bytes()) {
            return Err(Errno::Invalid.into());
        }
        self.may_set_xattr(ino, inode, name.as_bytes())?;
        match (self.tree.find_xattr(ino, name.as_bytes())?, mode) {
            (Some(_), XattrMode::Create) => return Err(Errno::Exists.into()),
            (None, XattrMode::Replace) => return Err(Errno::NoAttribute.into()),
            (Some(held), _) if *held == value => return Ok(nothing()),
            _ => self.may_add(ino, &name, &value)?,
        }
        Ok(done(Change::SetXattr { ino, name, value, time: self.context.now }))
    }

    /// Whether an inode's attributes stay within their limits with this one.
    fn may_add(&self, ino: Ino, name: &XattrName, value: &XattrValue) -> Result<(), Fault> {
        let (mut listed, mut bytes) = (0, 0);
        let held =
            self.tree.xattrs_of(ino).filter(|pair| pair.as_ref().map_or(true, |(held, _)| *held != name));
        for pair in held.chain([Ok((name, value))]) {
            let (name, value) = pair?;
            listed += name.as_bytes().len() + 1;
            bytes += name.as_bytes().len() + value.as_bytes().len();
        }
        if listed > XATTR_LIST_MAX || bytes > XATTR_BYTES_MAX { Err(Errno::NoSpace.into()) } else { Ok(()) }
    }

    pub(super) fn remove_xattr(&self, target: &Target, name: &[u8]) -> Result<Decision, Fault> {
        let name = XattrName::new(name)?;
        let ino = self.target(target)?;
        let inode = self.inode(ino)?;
        if Namespace::of(name.as_bytes()) == Namespace::Acl {
            return self.set_acl(ino, inode, name, None);
        }
        self.may_set_xattr(ino, inode, name.as_bytes())?;
        if self.tree.find_xattr(ino, name.as_bytes())?.is_none() {
            return Err(Errno::NoAttribute.into());
        }
        Ok(done(Change::RemoveXattr { ino, name, time: self.context.now }))
    }

    /// Whether the caller may set, or remove, an attribute of this name on an inode.
    fn may_set_xattr(&self, ino: Ino, inode: &Inode, name: &[u8]) -> Result<(), Fault> {
        let credential = self.context.credential;
        let namespace = Namespace::of(name);
        let needed = match namespace {
            Namespace::Security if name == CAPABILITY => Capabilities::SETFCAP,
            Namespace::Security | Namespace::Trusted => Capabilities::SYS_ADMIN,
            _ => Capabilities::NONE,
        };
        if !credential.has(needed) {
            return Err(Errno::NotPermitted.into());
        }
        if namespace == Namespace::User {
            let sticky = inode.is_dir() && inode.mode & STICKY != 0;
            if !has_user_xattrs(inode) || sticky && !credential.owns(inode) {
                return Err(Errno::NotPermitted.into());
            }
        }
        if matches!(namespace, Namespace::User | Namespace::Unknown) {
            self.permits(ino, Permission::WRITE)?;
        }
        Ok(namespace.check(name)?)
    }

    /// Sets one of the two ACLs, or removes it.
    fn set_acl(&self, ino: Ino, inode: &Inode, name: XattrName, acl: Option<Acl>) -> Result<Decision, Fault> {
        let default = name.as_bytes() == DEFAULT_ACL;
        if inode.kind() == Kind::Symlink {
            return Err(Errno::NotSupported.into());
        }
        if default && !inode.is_dir() {
            return if acl.is_some() { Err(Errno::AccessDenied.into()) } else { Ok(nothing()) };
        }
        let credential = self.context.credential;
        if !credential.owns(inode) {
            return Err(Errno::NotPermitted.into());
        }
        if let Some(acl) = &acl {
            acl.validate()?;
        }
        let time = self.context.now;
        let mut changes = Vec::new();
        if !default {
            let bits = acl.as_ref().map_or(inode.mode & 0o777, Acl::mode);
            let mut mode = inode.mode & !0o777 | bits;
            if !credential.may_set_group_id(inode.gid) {
                mode &= !SET_GROUP_ID;
            }
            if mode != inode.mode {
                changes.push(Attributes { mode: Some(mode), ..Attributes::default() }.set(ino, time));
            }
        }
        let held = self.tree.find_xattr(ino, name.as_bytes())?;
        match acl.filter(|acl| default || !acl.is_minimal()) {
            Some(acl) => {
                let value = XattrValue::new(&acl.to_bytes())?;
                if held != Some(&value) {
                    self.may_add(ino, &name, &value)?;
                    changes.push(Change::SetXattr { ino, name, value, time });
                }
            }
            None if held.is_some() => changes.push(Change::RemoveXattr { ino, name, time }),
            None => {}
        }
        Ok(Decision { changes, outcome: Outcome::Done })
    }
}
