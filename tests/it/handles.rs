//! Runs the testkit's operations on open files, and such as need one, through a volume's public API.

use std::collections::BTreeMap;

use rfs::{Errno, Error, File, LockMode, OpenOptions, Permissions, Volume};
use rfs_core::{Kind, NAME_MAX, Permission, WriteAt};
use rfs_testkit::{Slot, TestOp, Value, What};

use crate::target::{attr, follows, host, path, time};

/// Why there is no answer: an error of the volume, or one that a kernel gives before it asks.
pub(crate) enum Refusal {
    Volume(Error),
    Kernel(Errno),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Volume(error)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

type Answered<T> = Result<T, Refusal>;

/// The files that a program has open.
#[derive(Default)]
pub(crate) struct Handles {
    files: BTreeMap<Slot, File>,
}

impl Handles {
    /// Whether the public API says these operations so.
    pub(crate) fn expressible(op: &TestOp) -> bool {
        match op {
            TestOp::Open { access, flags, .. } => {
                let makes = flags.create || flags.truncate;
                (access.read || access.write) && !flags.directory && (access.write || !makes)
            }
            TestOp::OpenNameless { access, .. } => access.write,
            TestOp::Access { what, .. } => follows(what),
            TestOp::GetXattr { what, name } | TestOp::RemoveXattr { what, name } => {
                has_name(what) && is_xattr_name(&name.0)
            }
            TestOp::SetXattr { what, name, value, .. } => {
                has_name(what) && is_xattr_name(&name.0) && value.0.len() <= rfs_core::XATTR_VALUE_MAX
            }
            TestOp::ListXattr { what } => has_name(what),
            TestOp::Allocate { what, .. } | TestOp::SeekData { what, .. } | TestOp::SeekHole { what, .. } => {
                has_name(what)
            }
            TestOp::Copy { from, to, .. } => has_name(from) && has_name(to),
            _ => true,
        }
    }

    /// `None` when the operation needs no open file.
    pub(crate) async fn answer(&mut self, volume: &Volume, op: &TestOp) -> Option<Answered<Value>> {
        let is_path = |what: &What| matches!(what, What::Path { .. });
        match op {
            TestOp::Read { what, .. }
            | TestOp::Write { what, .. }
            | TestOp::Truncate { what, .. }
            | TestOp::Stat { what }
            | TestOp::SetMode { what, .. }
            | TestOp::SetOwner { what, .. }
            | TestOp::SetTimes { what, .. }
            | TestOp::Link { from: what, .. }
                if is_path(what) =>
            {
                None
            }
            TestOp::Open { .. } | TestOp::OpenNameless { .. } | TestOp::Close { .. } => {
                Some(self.open_or_close(volume, op).await)
            }
            TestOp::LockFile { .. }
            | TestOp::UnlockFile { .. }
            | TestOp::LockRange { .. }
            | TestOp::UnlockRange { .. }
            | TestOp::GetLock { .. } => Some(self.lock(op).await),
            TestOp::GetXattr { .. }
            | TestOp::SetXattr { .. }
            | TestOp::RemoveXattr { .. }
            | TestOp::ListXattr { .. } => Some(self.xattr(volume, op).await),
            TestOp::Read { .. }
            | TestOp::Write { .. }
            | TestOp::Truncate { .. }
            | TestOp::Allocate { .. }
            | TestOp::Copy { .. }
            | TestOp::SeekData { .. }
            | TestOp::SeekHole { .. } => Some(self.content(volume, op).await),
            TestOp::Stat { .. }
            | TestOp::SetMode { .. }
            | TestOp::SetOwner { .. }
            | TestOp::SetTimes { .. }
            | TestOp::Link { .. } => Some(self.inode(op).await),
            TestOp::Access { what, access } => {
                let access = Permission::from_bits(*access).expect("three bits");
                Some(
                    volume.fs().access(path(what), access).await.map(|()| Value::Unit).map_err(Refusal::from),
                )
            }
            TestOp::StatFs => Some(
                volume.fs().stat_fs().await.map(|_| Value::Number(NAME_MAX as u64)).map_err(Refusal::from),
            ),
            _ => None,
        }
    }

    async fn open_or_close(&mut self, volume: &Volume, op: &TestOp) -> Answered<Value> {
        let fs = volume.fs();
        let (slot, file) = match op {
            TestOp::Open { slot, path, access, flags, mode } => {
                let mut options = OpenOptions::new();
                options.read(access.read).write(access.write).mode(*mode).no_follow(flags.no_follow);
                options.create(flags.create).create_new(flags.create && flags.exclusive);
                (slot, options.truncate(flags.truncate).open(&fs, host(path)).await?)
            }
            TestOp::OpenNameless { slot, path, access, linkable, mode } => {
                let mut options = OpenOptions::new();
                options.read(access.read).write(true).create_new(!linkable).mode(*mode);
                (slot, fs.open_nameless(host(path), &options).await?)
            }
            TestOp::Close { slot } => {
                let closed = self.files.remove(slot);
                return closed.map(|_| Value::Unit).ok_or_else(not_open);
            }
            other => panic!("{other:?} neither opens nor closes"),
        };
        self.files.insert(*slot, file);
        Ok(Value::Unit)
    }

    async fn lock(&self, op: &TestOp) -> Answered<Value> {
        let unit = |()| Value::Unit;
        match op {
            TestOp::LockFile { slot, mode: LockMode::Shared } => {
                Ok(self.file(*slot)?.try_lock_shared().await.map(unit)?)
            }
            TestOp::LockFile { slot, .. } => Ok(self.file(*slot)?.try_lock().await.map(unit)?),
            TestOp::UnlockFile { slot } => Ok(self.file(*slot)?.unlock().await.map(unit)?),
            TestOp::LockRange { slot, range, mode } => {
                Ok(self.file(*slot)?.try_lock_range(*range, *mode).await.map(unit)?)
            }
            TestOp::UnlockRange { slot, range } => {
                Ok(self.file(*slot)?.unlock_range(*range).await.map(unit)?)
            }
            TestOp::GetLock { slot, range, mode } => {
                Ok(Value::Truth(self.file(*slot)?.test_lock_range(*range, *mode).await?.is_some()))
            }
            other => panic!("{other:?} locks nothing"),
        }
    }

    async fn xattr(&self, volume: &Volume, op: &TestOp) -> Answered<Value> {
        let fs = volume.fs();
        let names = |names: Vec<rfs::XattrName>| {
            let mut names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            names.sort();
            Value::Names(names)
        };
        match op {
            TestOp::GetXattr { what: What::Handle(slot), name } => {
                Ok(Value::Bytes(self.file(*slot)?.xattr(&name.0).await?))
            }
            TestOp::GetXattr { what, name } => Ok(Value::Bytes(fs.xattr(path(what), &name.0).await?)),
            TestOp::ListXattr { what: What::Handle(slot) } => {
                Ok(names(self.file(*slot)?.xattr_names().await?))
            }
            TestOp::ListXattr { what } => Ok(names(fs.xattr_names(path(what)).await?)),
            TestOp::SetXattr { what, name, value, mode } => {
                match what {
                    What::Handle(slot) => self.file(*slot)?.set_xattr(&name.0, &value.0, *mode).await,
                    What::Path { .. } => fs.set_xattr(path(what), &name.0, &value.0, *mode).await,
                }?;
                Ok(Value::Unit)
            }
            TestOp::RemoveXattr { what, name } => {
                match what {
                    What::Handle(slot) => self.file(*slot)?.remove_xattr(&name.0).await,
                    What::Path { .. } => fs.remove_xattr(path(what), &name.0).await,
                }?;
                Ok(Value::Unit)
            }
            other => panic!("{other:?} is about no attribute"),
        }
    }

    async fn content(&self, volume: &Volume, op: &TestOp) -> Answered<Value> {
        let unit = |()| Value::Unit;
        match op {
            TestOp::Read { what, offset, len } => {
                let file = self.opened(volume, what, OpenOptions::new().read(true)).await?;
                Ok(Value::Bytes(file.read_pieces(*offset, *len).await?.concat()))
            }
            TestOp::Write { what, at, data } => {
                let file = self.opened(volume, what, OpenOptions::new().write(true)).await?;
                let WriteAt::Offset(offset) = at else {
                    return Ok(Value::Number(file.append(&data.bytes()).await?));
                };
                // All of nothing takes no call, which would say whether the handle is for writing.
                file.write_at(&[], *offset).await?;
                file.write_all_at(&data.bytes(), *offset).await?;
                Ok(Value::Number(*offset))
            }
            TestOp::Truncate { what, size } => match self.held(what)?.set_len(*size).await {
                // What a kernel says of a handle that is not for writing is what it says of a directory.
                Err(error) if matches!(error.errno(), Some(Errno::BadHandle | Errno::IsADirectory)) => {
                    Err(Errno::Invalid.into())
                }
                cut => Ok(unit(cut?)),
            },
            TestOp::Allocate { what, mode, offset, len } => {
                let file = self.opened(volume, what, OpenOptions::new().write(true)).await?;
                match file.allocate(*mode, *offset, *len).await {
                    // A kernel looks at the range before it looks at what the handle is for.
                    Err(error) if *len == 0 && error.errno() == Some(Errno::BadHandle) => {
                        Err(Errno::Invalid.into())
                    }
                    allocated => Ok(unit(allocated?)),
                }
            }
            TestOp::Copy { from, from_offset, to, to_offset, len } => {
                let from = self.opened(volume, from, OpenOptions::new().read(true)).await?;
                let to = self.opened(volume, to, OpenOptions::new().write(true)).await?;
                // A kernel looks at what they are before it looks at what they are open for.
                for file in [&from, &to] {
                    if file.metadata().await?.is_dir() {
                        return Err(Errno::IsADirectory.into());
                    }
                }
                Ok(Value::Number(from.copy_range(*from_offset, &to, *to_offset, *len).await?))
            }
            TestOp::SeekData { what, offset } => {
                let file = self.opened(volume, what, OpenOptions::new().read(true)).await?;
                let size = sought(&file).await?;
                let at = match file.seek_data(*offset).await {
                    Err(error) if error.errno() == Some(Errno::NoSuchData) && *offset < size => {
                        return Ok(Value::Number(size));
                    }
                    at => at?,
                };
                let content = crate::target::content_of(&file, size).await?;
                Ok(Value::Number(content.first_nonzero(at).unwrap_or(size)))
            }
            TestOp::SeekHole { what, offset } => {
                let file = self.opened(volume, what, OpenOptions::new().read(true)).await?;
                let size = sought(&file).await?;
                let at = file.seek_hole(*offset).await?;
                let content = crate::target::content_of(&file, size).await?;
                Ok(Value::Truth(content.first_nonzero(at) != Some(at)))
            }
            other => panic!("{other:?} is about no content"),
        }
    }

    async fn inode(&self, op: &TestOp) -> Answered<Value> {
        let unit = |()| Value::Unit;
        match op {
            TestOp::Stat { what } => Ok(Value::Attr(attr(&self.held(what)?.metadata().await?))),
            TestOp::SetMode { what, mode } => {
                Ok(unit(self.held(what)?.set_permissions(Permissions::from_mode(*mode)).await?))
            }
            TestOp::SetOwner { what, uid, gid } => Ok(unit(self.held(what)?.chown(*uid, *gid).await?)),
            TestOp::SetTimes { what, accessed, modified } => {
                Ok(unit(self.held(what)?.set_times(time(*accessed), time(*modified)).await?))
            }
            TestOp::Link { from, to } => Ok(unit(self.held(from)?.link_to(host(to)).await?)),
            other => panic!("{other:?} is about no inode"),
        }
    }

    /// The file of a handle, or one that is opened at the path for this.
    async fn opened(&self, volume: &Volume, what: &What, options: &OpenOptions) -> Answered<File> {
        match what {
            What::Handle(slot) => Ok(self.file(*slot)?.try_clone()),
            What::Path { .. } => Ok(options.open(&volume.fs(), path(what)).await?),
        }
    }

    fn held(&self, what: &What) -> Answered<&File> {
        match what {
            What::Handle(slot) => self.file(*slot),
            What::Path { path, .. } => panic!("{path:?} is no handle"),
        }
    }

    fn file(&self, slot: Slot) -> Answered<&File> {
        self.files.get(&slot).ok_or_else(not_open)
    }
}

/// Looks for holes go for readable files only, as in all targets.
async fn sought(file: &File) -> Answered<u64> {
    let metadata = file.metadata().await?;
    match file.read_pieces(0, 0).await {
        Err(error) if metadata.attr().kind == Kind::File => Err(error.into()),
        _ if metadata.attr().kind == Kind::File => Ok(metadata.len()),
        _ => Err(Errno::Invalid.into()),
    }
}

fn not_open() -> Refusal {
    Errno::BadHandle.into()
}

fn has_name(what: &What) -> bool {
    matches!(what, What::Handle(_) | What::Path { follow: true, .. })
}

fn is_xattr_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= rfs_core::XATTR_NAME_MAX
}
