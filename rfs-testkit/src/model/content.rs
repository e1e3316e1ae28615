//! What the model does with the content of files.

use rfs_core::{Access, Allocate, Errno, FILE_SIZE_MAX, Kind, WriteAt};

use super::{ModelFs, Outcome};
use crate::{Value, What};

const READ: Access = Access { read: true, write: false };
const WRITE: Access = Access { read: false, write: true };

impl ModelFs {
    pub(super) fn read(&mut self, what: &What, offset: u64, len: u64) -> Outcome {
        let node = self.file(what, READ)?;
        if self.node(node).kind == Kind::Directory {
            return Err(Errno::IsADirectory);
        }
        Ok(Value::Bytes(self.node(node).content.read(offset, len)))
    }

    pub(super) fn write(&mut self, what: &What, at: WriteAt, bytes: &[u8]) -> Outcome {
        let node = self.file(what, WRITE)?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => self.node(node).content.len(),
        };
        if bytes.is_empty() {
            return Ok(Value::Number(offset));
        }
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > FILE_SIZE_MAX) {
            return Err(Errno::TooBig);
        }
        self.change_content(node, |content| content.write(offset, bytes));
        Ok(Value::Number(offset))
    }

    pub(super) fn truncate(&mut self, what: &What, size: u64) -> Outcome {
        let node = match what {
            What::Path { path, follow } => {
                let node = self.follow(path, *follow)?;
                match self.node(node).kind {
                    Kind::File => node,
                    Kind::Directory => return Err(Errno::IsADirectory),
                    _ => return Err(Errno::Invalid),
                }
            }
            What::Handle(slot) => {
                let handle = *self.handle(*slot)?;
                if !handle.access.write || self.node(handle.node).kind != Kind::File {
                    return Err(Errno::Invalid);
                }
                handle.node
            }
        };
        if size > FILE_SIZE_MAX {
            return Err(Errno::TooBig);
        }
        self.change_content(node, |content| content.set_len(size));
        Ok(Value::Unit)
    }

    pub(super) fn allocate(&mut self, what: &What, mode: Allocate, offset: u64, len: u64) -> Outcome {
        let node = match what {
            What::Path { .. } => self.file(what, WRITE)?,
            What::Handle(slot) => self.handle(*slot)?.node,
        };
        if len == 0 {
            return Err(Errno::Invalid);
        }
        if matches!(what, What::Handle(slot) if !self.handle(*slot)?.access.write) {
            return Err(Errno::BadHandle);
        }
        let size = self.node(node).content.len();
        let end = offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX).ok_or(Errno::TooBig)?;
        match mode {
            Allocate::Collapse if end >= size => return Err(Errno::Invalid),
            Allocate::Insert if size > FILE_SIZE_MAX - len => return Err(Errno::TooBig),
            Allocate::Insert if offset >= size => return Err(Errno::Invalid),
            _ => {}
        }
        self.change_content(node, |content| match mode {
            Allocate::Extend => content.set_len(size.max(end)),
            Allocate::KeepSize => {}
            Allocate::PunchHole | Allocate::ZeroRange { keep_size: true } => content.zero(offset, len),
            Allocate::ZeroRange { keep_size: false } => {
                content.zero(offset, len);
                content.set_len(size.max(end));
            }
            Allocate::Collapse => content.collapse(offset, len),
            Allocate::Insert => content.insert(offset, len),
        });
        Ok(Value::Unit)
    }

    pub(super) fn copy(
        &mut self,
        (from, from_offset): (&What, u64),
        (to, to_offset): (&What, u64),
        len: u64,
    ) -> Outcome {
        let mut ends = Vec::new();
        for (what, access) in [(from, READ), (to, WRITE)] {
            ends.push(match what {
                What::Path { .. } => (self.file(what, access)?, true),
                What::Handle(slot) => {
                    let handle = self.handle(*slot)?;
                    let open = handle.access;
                    (handle.node, open.read >= access.read && open.write >= access.write)
                }
            });
        }
        if ends.iter().any(|(node, _)| self.node(*node).kind == Kind::Directory) {
            return Err(Errno::IsADirectory);
        }
        if ends.iter().any(|(_, allowed)| !allowed) {
            return Err(Errno::BadHandle);
        }
        let (from, to) = (ends[0].0, ends[1].0);
        let len = len.min(self.node(from).content.len().saturating_sub(from_offset));
        if len > 0 && to_offset >= FILE_SIZE_MAX {
            return Err(Errno::TooBig);
        }
        if from == to && from_offset < to_offset + len && to_offset < from_offset + len {
            return Err(Errno::Invalid);
        }
        if len > 0 {
            let bytes = self.node(from).content.read(from_offset, len);
            self.change_content(to, |content| content.write(to_offset, &bytes));
        }
        Ok(Value::Number(len))
    }

    pub(super) fn seek(&mut self, what: &What, offset: u64, data: bool) -> Outcome {
        let node = self.file(what, READ)?;
        let node = self.node(node);
        if node.kind != Kind::File {
            return Err(Errno::Invalid);
        }
        let size = node.content.len();
        if offset >= size {
            return Err(Errno::NoSuchData);
        }
        let first = node.content.first_nonzero(offset).unwrap_or(size);
        // There is always a hole: the end, if no other.
        Ok(if data { Value::Number(first) } else { Value::Truth(true) })
    }
}
