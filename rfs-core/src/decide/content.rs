//! Ops on the content of files.

use super::attributes::Attributes;
use super::{Copies, Decider, Decision, nothing};
use crate::{
    Allocate, AtimePolicy, Change, Errno, FILE_SIZE_MAX, Fault, Ino, Inode, Kind, Outcome, Permission,
    SHIFT_RUNS_MAX, Target, Times, Timestamp, WriteAt,
};

/// How old a time of last access may be before `relatime` sets it anew.
const DAY_NANOS: i64 = 24 * 60 * 60 * 1_000_000_000;

impl Decider<'_> {
    pub(super) fn write(&self, target: &Target, at: WriteAt, len: u64) -> Result<Decision, Fault> {
        let (ino, inode) = self.opened(target, Permission::WRITE)?;
        check_file(inode)?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => inode.size,
        };
        let outcome = Outcome::Written { offset };
        if len == 0 {
            return Ok(Decision { changes: Vec::new(), outcome });
        }
        range_end(offset, len)?;
        self.can_store(len)?;
        self.modified(ino, Change::Write { ino, offset, len, time: self.context.now }, outcome)
    }

    pub(super) fn truncate(&self, target: &Target, size: u64) -> Result<Decision, Fault> {
        let ino = self.target(target)?;
        check_file(self.inode(ino)?)?;
        if matches!(target, Target::Path { .. }) {
            self.permits(ino, Permission::WRITE)?;
        }
        if size > FILE_SIZE_MAX {
            return Err(Errno::TooBig.into());
        }
        self.modified(ino, Change::Truncate { ino, size, time: self.context.now }, Outcome::Done)
    }

    pub(super) fn allocate(
        &self,
        target: &Target,
        mode: Allocate,
        offset: u64,
        len: u64,
    ) -> Result<Decision, Fault> {
        let (ino, inode) = self.opened(target, Permission::WRITE)?;
        if len == 0 {
            return Err(Errno::Invalid.into());
        }
        match inode.kind() {
            Kind::File => {}
            Kind::Fifo => return Err(Errno::IllegalSeek.into()),
            Kind::Directory => return Err(Errno::IsADirectory.into()),
            _ => return Err(Errno::NoDevice.into()),
        }
        let end = range_end(offset, len)?;
        let time = self.context.now;
        let grow = (end > inode.size).then_some(Change::Truncate { ino, size: end, time });
        let touch = Attributes { modified: Some(time), ..Attributes::default() }.set(ino, time);
        let punch = (offset < inode.size).then_some(Change::Punch { ino, offset, len, time });
        let mut changes = self.write_privileges(ino)?;
        // Whatever it comes to, ext4 counts it as a change of the content.
        match mode {
            Allocate::Extend => changes.push(grow.unwrap_or(touch)),
            Allocate::KeepSize => changes.push(touch),
            Allocate::PunchHole | Allocate::ZeroRange { keep_size: true } => {
                changes.push(punch.unwrap_or(touch));
            }
            Allocate::ZeroRange { keep_size: false } => changes.extend(punch.into_iter().chain(grow)),
            Allocate::Collapse if end >= inode.size => return Err(Errno::Invalid.into()),
            Allocate::Insert if offset >= inode.size => return Err(Errno::Invalid.into()),
            Allocate::Collapse | Allocate::Insert
                if self.tree.has_more_runs(ino, offset, SHIFT_RUNS_MAX)? =>
            {
                return Err(Errno::TooBig.into());
            }
            Allocate::Collapse => changes.push(Change::Collapse { ino, offset, len, time }),
            Allocate::Insert if len > FILE_SIZE_MAX - inode.size => return Err(Errno::TooBig.into()),
            Allocate::Insert => changes.push(Change::Insert { ino, offset, len, time }),
        }
        Ok(Decision { changes, outcome: Outcome::Done })
    }

    pub(super) fn copy(
        &self,
        (from, from_offset): (&Target, u64),
        (to, to_offset): (&Target, u64),
        len: u64,
    ) -> Result<Decision, Fault> {
        let (from, source) = self.opened(from, Permission::READ)?;
        let (to, destination) = self.opened(to, Permission::WRITE)?;
        for inode in [source, destination] {
            if inode.is_dir() {
                return Err(Errno::IsADirectory.into());
            }
        }
        check_file(source)?;
        check_file(destination)?;
        if from_offset > FILE_SIZE_MAX || to_offset > FILE_SIZE_MAX {
            return Err(Errno::Invalid.into());
        }
        if from_offset.checked_add(len).is_none() || to_offset.checked_add(len).is_none() {
            return Err(Errno::Overflow.into());
        }
        let len = len.min(source.size.saturating_sub(from_offset));
        if to_offset == FILE_SIZE_MAX {
            return Err(Errno::TooBig.into());
        }
        let len = len.min(FILE_SIZE_MAX - to_offset);
        if from == to && from_offset < to_offset + len && to_offset < from_offset + len {
            return Err(Errno::Invalid.into());
        }
        let whole = len;
        let len = self.tree.copy_len(from, from_offset, whole)?;
        if len < whole && self.copies == Copies::Whole {
            return Err(Errno::TooBig.into());
        }
        let outcome = Outcome::Copied { len };
        if len == 0 {
            return Ok(Decision { changes: Vec::new(), outcome });
        }
        self.can_store(len)?;
        let time = self.context.now;
        self.modified(to, Change::Share { from, from_offset, to, to_offset, len, time }, outcome)
    }

    pub(super) fn accessed(&self, ino: Ino) -> Result<Decision, Fault> {
        let times = self.inode(ino)?.times;
        let now = self.context.now;
        let due = match self.context.atime {
            AtimePolicy::Never => false,
            AtimePolicy::Always => times.accessed != now,
            AtimePolicy::Relative => times.accessed != now && is_out_of_date(times, now),
        };
        Ok(if due { super::done(Change::Access { ino, time: now }) } else { nothing() })
    }

    /// The inode that an Op on content is about. One that is given by its path is opened for it, so to say.
    fn opened(&self, target: &Target, access: Permission) -> Result<(Ino, &Inode), Fault> {
        let ino = self.target(target)?;
        let inode = self.inode(ino)?;
        if matches!(target, Target::Path { .. }) {
            match inode.kind() {
                Kind::Symlink => return Err(Errno::TooManySymlinks.into()),
                Kind::Directory if access.contains(Permission::WRITE) => {
                    return Err(Errno::IsADirectory.into());
                }
                _ => self.permits(ino, access)?,
            }
            if !matches!(inode.kind(), Kind::File | Kind::Directory) {
                return Err(Errno::NoSuchData.into());
            }
        }
        Ok((ino, inode))
    }

    /// A change of content, with what it takes away from a file that this caller writes to.
    fn modified(&self, ino: Ino, change: Change, outcome: Outcome) -> Result<Decision, Fault> {
        let mut changes = self.write_privileges(ino)?;
        // One alone mostly, of which a growing vector would have room for four.
        changes.reserve_exact(1);
        changes.push(change);
        Ok(Decision { changes, outcome })
    }

    /// What is stored has to be countable, whether or not it is limited.
    fn can_store(&self, len: u64) -> Result<(), Fault> {
        if self.tree.can_store(len) { Ok(()) } else { Err(Errno::TooBig.into()) }
    }
}

fn check_file(inode: &Inode) -> Result<(), Fault> {
    match inode.kind() {
        Kind::File => Ok(()),
        Kind::Directory => Err(Errno::IsADirectory.into()),
        _ => Err(Errno::Invalid.into()),
    }
}

/// The end of a range of a file, which is within the greatest size.
fn range_end(offset: u64, len: u64) -> Result<u64, Fault> {
    Ok(offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX).ok_or(Errno::TooBig)?)
}

/// Whether `relatime` sets the time of last access: it has to tell whether the file was read since it was changed,
/// and roughly when.
fn is_out_of_date(times: Times, now: Timestamp) -> bool {
    let Times { accessed, modified, changed, .. } = times;
    accessed <= modified
        || accessed <= changed
        || now.as_nanos().saturating_sub(accessed.as_nanos()) >= DAY_NANOS
}
