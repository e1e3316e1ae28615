//! From what a caller asks to what happens: paths are resolved, everything is validated, nothing is changed.
//!
//! The order of the checks is Linux's, since it decides which of several possible errors a caller gets.

mod attributes;
mod content;
mod create;
mod names;
mod open_state;
mod quotas;
mod xattrs;

use crate::fault::refused;
use crate::{
    Capabilities, Change, CommitId, Context, Errno, Fault, Ino, Inode, Kind, NAME_MAX, Op, Outcome,
    Permission, Precondition, Target, Tree,
};

/// What an Op comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens, in order, as one step: all of it, or nothing. It is to be applied to the very tree that the decision was taken on.
    pub changes: Vec<Change>,
    /// What the caller is told.
    pub outcome: Outcome,
}

/// Decides an Op. The tree is only read.
///
/// ```
/// use rfs_core::{At, Context, Errno, Op, Timestamp, Tree, decide};
/// let tree = Tree::new(Timestamp::from_nanos(0));
/// let context = Context::new(Timestamp::from_nanos(1));
/// assert_eq!(decide(&tree, &context, &Op::Rmdir { at: At::root("/") }), Err(Errno::Busy.into()));
/// ```
///
/// # Errors
/// What Linux's system call of the same name gives to this caller; or a page is missing.
pub fn decide(tree: &Tree, context: &Context<'_>, op: &Op) -> Result<Decision, Fault> {
    decide_with(tree, context, op, Copies::Part)
}

pub(crate) fn decide_with(
    tree: &Tree,
    context: &Context<'_>,
    op: &Op,
    copies: Copies,
) -> Result<Decision, Fault> {
    let decider = Decider { copies, tree, context };
    let decision = decider.decide(op)?;
    decider.within_quotas(decision)
}

fn done(change: Change) -> Decision {
    Decision { changes: vec![change], outcome: Outcome::Done }
}

fn nothing() -> Decision {
    Decision { changes: Vec::new(), outcome: Outcome::Done }
}

/// Whether a copy may stop early, as `copy_file_range(2)` may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// It tells how much it did.
    Part,
    /// It is refused then: nobody looks at what it tells.
    Whole,
}

struct Decider<'a> {
    copies: Copies,
    tree: &'a Tree,
    context: &'a Context<'a>,
}

impl<'a> Decider<'a> {
    fn decide(&self, op: &Op) -> Result<Decision, Fault> {
        match op {
            Op::Open { at, access, flags, mode } => self.open(at, *access, *flags, *mode),
            Op::Mkdir { at, mode } => self.mkdir(at, *mode),
            Op::Mknod { at, node, mode } => self.mknod(at, node, *mode),
            Op::OpenNameless { dir, access, linkable, mode } => {
                self.open_nameless(dir, *access, *linkable, *mode)
            }
            Op::Symlink { target, at } => self.symlink(target, at),
            Op::Link { from, to } => self.link(from, to),
            Op::Unlink { at } => self.unlink(at),
            Op::Rmdir { at } => self.rmdir(at),
            Op::Rename { from, to, mode } => self.rename(from, to, *mode),
            Op::Write { target, at, len } => self.write(target, *at, *len),
            Op::Truncate { target, size } => self.truncate(target, *size),
            Op::SetMode { target, mode } => self.set_mode(target, *mode),
            Op::SetOwner { target, uid, gid } => self.set_owner(target, *uid, *gid),
            Op::SetTimes { target, accessed, modified } => self.set_times(target, *accessed, *modified),
            Op::SetXattr { target, name, value, mode } => self.set_xattr(target, name, value, *mode),
            Op::RemoveXattr { target, name } => self.remove_xattr(target, name),
            Op::Allocate { target, mode, offset, len } => self.allocate(target, *mode, *offset, *len),
            Op::Copy { from, from_offset, to, to_offset, len } => {
                self.copy((from, *from_offset), (to, *to_offset), *len)
            }
            Op::Accessed { ino } => self.accessed(*ino),
            Op::LockFile { ino, owner, mode } => self.lock_file(*ino, *owner, *mode),
            Op::UnlockFile { ino, owner } => self.unlock_file(*ino, *owner),
            Op::LockRange { ino, owner, range, mode } => self.lock_range(*ino, *owner, *range, *mode),
            Op::UnlockRange { ino, owner, range } => self.unlock_range(*ino, *owner, *range),
            Op::Hold { ino } => self.hold(*ino),
            Op::Release { ino } => Ok(self.release(*ino)),
            Op::EndOwner { owner } => Ok(self.end_owner(*owner)),
            Op::NewSession { keep } => Ok(self.new_session(keep)),
            Op::SetQuota { subject, limits } => self.set_quota(*subject, *limits),
            Op::AddCheckpoint { name, commit } => self.add_checkpoint(name, *commit),
            Op::DropCheckpoint { name } => self.drop_checkpoint(name),
            Op::Require(condition) => self.require(condition),
        }
    }

    fn add_checkpoint(&self, name: &String, commit: CommitId) -> Result<Decision, Fault> {
        if name.is_empty() {
            return Err(Errno::Invalid.into());
        }
        if name.len() > NAME_MAX {
            return Err(Errno::NameTooLong.into());
        }
        if self.tree.checkpoints.contains_key(name) {
            return Err(Errno::Exists.into());
        }
        Ok(done(Change::AddCheckpoint { name: name.clone(), commit, time: self.context.now }))
    }

    fn drop_checkpoint(&self, name: &String) -> Result<Decision, Fault> {
        if !self.tree.checkpoints.contains_key(name) {
            return Err(Errno::NotFound.into());
        }
        Ok(done(Change::DropCheckpoint { name: name.clone() }))
    }

    fn require(&self, condition: &Precondition) -> Result<Decision, Fault> {
        let found = |target| refused(self.target(target).and_then(|ino| self.inode(ino)));
        let holds = match condition {
            Precondition::Exists(target) => found(target)?.is_ok(),
            // A path that cannot be resolved for another reason says nothing of what is there.
            Precondition::Missing(target) => {
                matches!(found(target)?, Err(Errno::NotFound | Errno::NotADirectory | Errno::Stale))
            }
            Precondition::Size(target, size) => {
                found(target)?.is_ok_and(|inode| inode.kind() == Kind::File && inode.size == *size)
            }
            Precondition::ChangedAt(target, time) => {
                found(target)?.is_ok_and(|inode| inode.times.changed == *time)
            }
        };
        if holds { Ok(nothing()) } else { Err(Errno::Canceled.into()) }
    }

    fn target(&self, target: &Target) -> Result<Ino, Fault> {
        self.tree.target(self.context.credential, target)
    }

    /// Whether the caller may do this with an inode that there is.
    fn permits(&self, ino: Ino, access: Permission) -> Result<(), Fault> {
        let credential = self.context.credential;
        // Without a look at the inode, since most callers are like this.
        if credential.has(Capabilities::DAC_OVERRIDE) && !access.contains(Permission::EXECUTE) {
            return Ok(());
        }
        self.tree.permits(credential, ino, access)
    }

    /// Whether the caller may change the entries of a directory.
    fn permits_entries(&self, dir: Ino) -> Result<(), Fault> {
        let credential = self.context.credential;
        if credential.has(Capabilities::DAC_OVERRIDE) {
            return Ok(());
        }
        self.tree.permits(credential, dir, Permission::WRITE | Permission::EXECUTE)
    }

    fn inode(&self, ino: Ino) -> Result<&'a Inode, Fault> {
        self.tree.existing(ino)
    }
}
