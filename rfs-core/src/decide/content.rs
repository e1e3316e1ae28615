//! Ops on the content of files.

use super::{Decider, Decision, done};
use crate::{Change, Errno, FILE_SIZE_MAX, Outcome, Target, WriteAt};

impl Decider<'_> {
    pub(super) fn write(&self, target: &Target, at: WriteAt, len: u64) -> Result<Decision, Errno> {
        let (ino, inode) = self.file(target)?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => inode.size,
        };
        let outcome = Outcome::Written { offset };
        if len == 0 {
            return Ok(Decision { changes: Vec::new(), outcome });
        }
        if offset.checked_add(len).is_none_or(|end| end > FILE_SIZE_MAX) {
            return Err(Errno::TooBig);
        }
        let change = Change::Write { ino, offset, len, time: self.context.now };
        Ok(Decision { changes: vec![change], outcome })
    }

    pub(super) fn truncate(&self, target: &Target, size: u64) -> Result<Decision, Errno> {
        let (ino, _) = self.file(target)?;
        if size > FILE_SIZE_MAX {
            return Err(Errno::TooBig);
        }
        Ok(done(Change::Truncate { ino, size, time: self.context.now }))
    }
}
