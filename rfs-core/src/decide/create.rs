//! Ops that find or make inodes: what a new one gets from its maker and its directory.

use std::sync::Arc;

use super::{Decider, Decision};
use crate::acl::{ACCESS_ACL, Acl, DEFAULT_ACL};
use crate::apply::is_symlink_target;
use crate::permission::{GROUP_EXECUTE, SET_GROUP_ID, STICKY};
use crate::resolve::{Last, Walk};
use crate::{
    Access, At, Capabilities, Change, Errno, Fault, Ino, Inode, Kind, LINK_MAX, Name, Node, OpenFlags,
    Outcome, PATH_MAX, Permission, Target, XattrName, XattrValue,
};

/// What a new inode is made with.
struct Birth {
    ino: Ino,
    mode: u32,
    gid: u32,
    /// The ACLs that follow its Change.
    acls: Vec<Change>,
}

impl Decider<'_> {
    pub(super) fn open(
        &self,
        at: &At,
        access: Access,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Decision, Fault> {
        if flags.create && flags.directory || !access.read && !access.write {
            return Err(Errno::Invalid.into());
        }
        let exclusive = flags.create && flags.exclusive;
        let mut follow = !flags.no_follow && !exclusive;
        let mut directory = flags.directory;
        let (mut walk, mut path) = Walk::start(self.tree, self.context.credential, at)?;
        let (ino, kind) = loop {
            walk.reach_last(path)?;
            let Last::Normal(name) = walk.last else {
                break (walk.dots()?, Kind::Directory);
            };
            if walk.trailing_slash {
                if flags.create {
                    return Err(Errno::IsADirectory.into());
                }
                follow = true;
                directory = true;
            }
            match self.tree.child(walk.ino, name)? {
                None if flags.create => return self.create_file(walk.ino, name, mode),
                None => return Err(Errno::NotFound.into()),
                Some((_, entry)) if entry.kind == Kind::Symlink && follow => {
                    path = walk.follow(entry.ino)?;
                    if path.is_empty() {
                        break (walk.ino, Kind::Directory);
                    }
                }
                Some((_, entry)) => break (entry.ino, entry.kind),
            }
        };
        let writes = access.write || flags.truncate;
        match kind {
            _ if exclusive => return Err(Errno::Exists.into()),
            Kind::Directory if flags.create || writes => return Err(Errno::IsADirectory.into()),
            _ if flags.create && self.is_planted(walk.ino, ino)? => return Err(Errno::AccessDenied.into()),
            _ if kind != Kind::Directory && directory => return Err(Errno::NotADirectory.into()),
            Kind::Symlink => return Err(Errno::TooManySymlinks.into()),
            _ => {}
        }
        let read = if access.read { Permission::READ } else { Permission::NONE };
        let write = if writes { Permission::WRITE } else { Permission::NONE };
        self.permits(ino, read | write)?;
        if !matches!(kind, Kind::File | Kind::Directory) {
            return Err(Errno::NoSuchData.into());
        }
        let mut changes = Vec::new();
        if flags.truncate {
            changes = self.write_privileges(ino)?;
            changes.push(Change::Truncate { ino, size: 0, time: self.context.now });
        }
        Ok(Decision { changes, outcome: Outcome::Opened { ino, kind, created: false } })
    }

    /// Whether somebody may have put this into a directory that everybody writes to for others to open it, as Linux
    /// guards it. Files and named pipes are not meant: `fs.protected_regular` and `fs.protected_fifos` are 0.
    fn is_planted(&self, dir: Ino, ino: Ino) -> Result<bool, Fault> {
        const SHARED: u32 = STICKY | 0o002;
        let (dir, inode) = (self.inode(dir)?, self.inode(ino)?);
        let guarded = !matches!(inode.kind(), Kind::File | Kind::Fifo | Kind::Directory);
        let own = inode.uid == dir.uid || inode.uid == self.context.credential.uid;
        Ok(guarded && !own && dir.mode & SHARED == SHARED)
    }

    fn create_file(&self, parent: Ino, name: &[u8], mode: u32) -> Result<Decision, Fault> {
        let changes = self.create(parent, name, Node::File, mode & 0o7777)?;
        let outcome = Outcome::Opened { ino: self.tree.next_ino, kind: Kind::File, created: true };
        Ok(Decision { changes, outcome })
    }

    pub(super) fn open_nameless(
        &self,
        dir: &Target,
        access: Access,
        linkable: bool,
        mode: u32,
    ) -> Result<Decision, Fault> {
        if !access.write {
            return Err(Errno::Invalid.into());
        }
        let dir = self.target(dir)?;
        let dir_inode = self.inode(dir)?;
        if !dir_inode.is_dir() {
            return Err(Errno::NotADirectory.into());
        }
        self.permits_entries(dir)?;
        let Birth { ino, mode, gid, acls } = self.birth(dir, dir_inode, Kind::File, mode & 0o7777)?;
        let (owner, uid, time) = (self.context.owner, self.context.credential.uid, self.context.now);
        let mut changes = vec![Change::CreateNameless { ino, owner, linkable, mode, uid, gid, time }];
        changes.extend(acls);
        Ok(Decision { changes, outcome: Outcome::Opened { ino, kind: Kind::File, created: true } })
    }

    pub(super) fn mkdir(&self, at: &At, mode: u32) -> Result<Decision, Fault> {
        let (parent, name) = self.new_name(at, true)?;
        // As in Linux: neither set-user-id nor set-group-id can be asked for here.
        self.make(parent, name, Node::Directory, mode & 0o1777)
    }

    pub(super) fn mknod(&self, at: &At, node: &Node, mode: u32) -> Result<Decision, Fault> {
        let device = match node {
            Node::Directory => return Err(Errno::NotPermitted.into()),
            Node::Symlink(_) => return Err(Errno::Invalid.into()),
            // Number 0 is no device: it stands for a name that is hidden, and anybody may make it.
            Node::CharDevice(0) | Node::File | Node::Fifo | Node::Socket => false,
            Node::CharDevice(_) | Node::BlockDevice(_) => true,
        };
        let (parent, name) = self.new_name(at, false)?;
        let decision = self.make(parent, name, node.clone(), mode & 0o7777)?;
        if device && !self.context.credential.has(Capabilities::MKNOD) {
            return Err(Errno::NotPermitted.into());
        }
        Ok(decision)
    }

    pub(super) fn symlink(&self, target: &[u8], at: &At) -> Result<Decision, Fault> {
        if target.is_empty() {
            return Err(Errno::NotFound.into());
        }
        if target.len() >= PATH_MAX {
            return Err(Errno::NameTooLong.into());
        }
        if !is_symlink_target(target) {
            return Err(Errno::Invalid.into());
        }
        let (parent, name) = self.new_name(at, false)?;
        self.make(parent, name, Node::Symlink(Arc::from(target)), 0o777)
    }

    fn make(&self, parent: Ino, name: &[u8], node: Node, mode: u32) -> Result<Decision, Fault> {
        let changes = self.create(parent, name, node, mode)?;
        Ok(Decision { changes, outcome: Outcome::Made { ino: self.tree.next_ino } })
    }

    /// A new inode with a name that is known to be free.
    fn create(&self, parent: Ino, name: &[u8], node: Node, mode: u32) -> Result<Vec<Change>, Fault> {
        let dir = self.room(parent)?;
        if node == Node::Directory && dir.nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks.into());
        }
        let Birth { ino, mode, gid, acls } = self.birth(parent, dir, node.kind(), mode)?;
        let (name, uid, time) = (Name::new(name)?, self.context.credential.uid, self.context.now);
        let mut changes = vec![Change::Create { parent, name, ino, node, mode, uid, gid, time }];
        changes.extend(acls);
        Ok(changes)
    }

    fn birth(&self, dir: Ino, dir_inode: &Inode, kind: Kind, mode: u32) -> Result<Birth, Fault> {
        const GROUP_RUNS: u32 = SET_GROUP_ID | GROUP_EXECUTE;
        let credential = self.context.credential;
        let ino = self.tree.next_ino;
        if ino.0 == u64::MAX {
            return Err(Errno::NoSpace.into());
        }
        let (mut mode, mut gid) = (mode, credential.gid);
        if dir_inode.mode & SET_GROUP_ID != 0 {
            gid = dir_inode.gid;
            // Nobody gets a program that runs for a group by making it in a directory of that group.
            if kind != Kind::Directory && mode & GROUP_RUNS == GROUP_RUNS && !credential.may_set_group_id(gid)
            {
                mode &= !SET_GROUP_ID;
            }
        }
        let mut acls = Vec::new();
        if kind != Kind::Symlink {
            if let Some(default) = self.tree.find_xattr(dir, DEFAULT_ACL)? {
                mode = self.inherit_acl(ino, default, kind, mode, &mut acls)?;
            } else {
                mode &= !(credential.umask & 0o777);
            }
        }
        if kind == Kind::Directory {
            mode |= dir_inode.mode & SET_GROUP_ID;
        }
        Ok(Birth { ino, mode, gid, acls })
    }

    /// The permission bits that a directory's default ACL leaves, and the ACLs that the new inode gets from it.
    fn inherit_acl(
        &self,
        ino: Ino,
        default: &XattrValue,
        kind: Kind,
        mode: u32,
        acls: &mut Vec<Change>,
    ) -> Result<u32, Fault> {
        let mut acl = Acl::parse(default.as_bytes())?.ok_or(Errno::Invalid)?;
        let mode = acl.inherit(mode);
        let mut set = |name, value| {
            XattrName::new(name)
                .map(|name| acls.push(Change::SetXattr { ino, name, value, time: self.context.now }))
        };
        if !acl.is_minimal() {
            set(ACCESS_ACL, XattrValue::new(&acl.to_bytes())?)?;
        }
        if kind == Kind::Directory {
            set(DEFAULT_ACL, default.clone())?;
        }
        Ok(mode)
    }
}
