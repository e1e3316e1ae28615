//! Several operations as one.

use std::path::Path;
use std::sync::Arc;

use rfs_core::{
    Access, Allocate, At, Context, Credential, Errno, Fault, Node, Op, OpenFlags, Outcome, Precondition,
    RenameMode, SetTime, Target, Timestamp, WriteAt, XattrMode,
};

use crate::engine::each_step;
use crate::error::Result;
use crate::fs::{path_bytes, target};
use crate::metadata::Permissions;
use crate::volume::Handle;

/// Several operations that happen together or not at all: for every reader, after every crash, in every commit.
///
/// An operation sees what those before it in the batch did. When one is refused the error says which, and nothing
/// was done.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
/// let fs = volume.fs();
/// fs.batch().require_missing("/done").write("/result", b"42").write("/done", b"").apply().await?;
/// let again = fs.batch().require_missing("/done").remove_file("/result").apply().await;
/// assert_eq!(again.unwrap_err().errno(), Some(rfs::Errno::Canceled));
/// assert_eq!(fs.read("/result").await?, b"42");
/// # volume.close().await }
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing until it is applied"]
pub struct Batch {
    handle: Arc<Handle>,
    credential: Arc<Credential>,
    steps: Vec<Step>,
    payloads: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Step {
    Op(Op),
    /// Opens a file to write, and writes so many bytes into what was opened: that is not looked for, or checked, again.
    Fill(Op, u64),
}

impl Batch {
    pub(crate) const fn new(handle: Arc<Handle>, credential: Arc<Credential>) -> Self {
        Self { handle, credential, steps: Vec::new(), payloads: Vec::new() }
    }

    /// Makes a file with this content, or replaces the content of the one that is there.
    pub fn write(mut self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Self {
        let flags = OpenFlags { create: true, truncate: true, ..OpenFlags::default() };
        let at = At::root(path_bytes(path.as_ref()));
        let open = Op::Open { at, access: Access { read: false, write: true }, flags, mode: 0o666 };
        let content = content.as_ref();
        self.steps.push(Step::Fill(open, content.len() as u64));
        self.payloads.push(content.to_vec());
        self
    }

    /// Writes into a file that is there.
    pub fn write_at(self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>, offset: u64) -> Self {
        self.write_bytes(path.as_ref(), WriteAt::Offset(offset), bytes.as_ref())
    }

    /// Appends to a file that is there.
    pub fn append(self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Self {
        self.write_bytes(path.as_ref(), WriteAt::End, bytes.as_ref())
    }

    /// Sets the size of a file.
    pub fn truncate(self, path: impl AsRef<Path>, size: u64) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::Truncate { target, size })
    }

    /// Makes a directory.
    pub fn create_dir(self, path: impl AsRef<Path>) -> Self {
        self.push(Op::Mkdir { at: At::root(path_bytes(path.as_ref())), mode: 0o777 })
    }

    /// Removes an empty directory.
    pub fn remove_dir(self, path: impl AsRef<Path>) -> Self {
        self.push(Op::Rmdir { at: At::root(path_bytes(path.as_ref())) })
    }

    /// Removes a file or symlink.
    pub fn remove_file(self, path: impl AsRef<Path>) -> Self {
        self.push(Op::Unlink { at: At::root(path_bytes(path.as_ref())) })
    }

    /// Renames, replacing what has the new name.
    pub fn rename(self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Self {
        self.rename_with(from, to, RenameMode::Replace)
    }

    /// Renames; what becomes of that which has the new name, `mode` says.
    pub fn rename_with(self, from: impl AsRef<Path>, to: impl AsRef<Path>, mode: RenameMode) -> Self {
        let (from, to) = (At::root(path_bytes(from.as_ref())), At::root(path_bytes(to.as_ref())));
        self.push(Op::Rename { from, to, mode })
    }

    /// Gives a file another name.
    pub fn hard_link(self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> Self {
        self.push(Op::Link {
            from: target(original.as_ref(), false),
            to: At::root(path_bytes(link.as_ref())),
        })
    }

    /// Makes a symbolic link.
    pub fn symlink(self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> Self {
        let at = At::root(path_bytes(link.as_ref()));
        self.push(Op::Symlink { target: path_bytes(original.as_ref()), at })
    }

    /// Makes a regular file, a fifo, a socket or a device.
    pub fn mknod(self, path: impl AsRef<Path>, node: Node, mode: u32) -> Self {
        self.push(Op::Mknod { at: At::root(path_bytes(path.as_ref())), node, mode })
    }

    /// Sets permission bits.
    pub fn set_permissions(self, path: impl AsRef<Path>, permissions: Permissions) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::SetMode { target, mode: permissions.mode() })
    }

    /// Sets owner and group, where given.
    pub fn chown(self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::SetOwner { target, uid, gid })
    }

    /// Sets the times of last access and last modification.
    pub fn set_times(self, path: impl AsRef<Path>, accessed: SetTime, modified: SetTime) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::SetTimes { target, accessed, modified })
    }

    /// Sets an extended attribute.
    pub fn set_xattr(
        self,
        path: impl AsRef<Path>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        mode: XattrMode,
    ) -> Self {
        let (name, value) = (name.as_ref().to_vec(), value.as_ref().to_vec());
        let target = target(path.as_ref(), true);
        self.push(Op::SetXattr { target, name, value, mode })
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(self, path: impl AsRef<Path>, name: impl AsRef<[u8]>) -> Self {
        let (target, name) = (target(path.as_ref(), true), name.as_ref().to_vec());
        self.push(Op::RemoveXattr { target, name })
    }

    /// Does to a range of a file what `fallocate(2)` does.
    pub fn allocate(self, path: impl AsRef<Path>, mode: Allocate, offset: u64, len: u64) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::Allocate { target, mode, offset, len })
    }

    /// Has a file that is there share up to `len` bytes of another, or of itself where they do not overlap.
    pub fn copy_range(
        self,
        from: impl AsRef<Path>,
        from_offset: u64,
        to: impl AsRef<Path>,
        to_offset: u64,
        len: u64,
    ) -> Self {
        let (from, to) = (target(from.as_ref(), true), target(to.as_ref(), true));
        self.push(Op::Copy { from, from_offset, to, to_offset, len })
    }

    /// The whole batch is refused with `ECANCELED` unless the path leads to something.
    pub fn require_exists(self, path: impl AsRef<Path>) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::Require(Precondition::Exists(target)))
    }

    /// The whole batch is refused with `ECANCELED` if the path leads to something.
    pub fn require_missing(self, path: impl AsRef<Path>) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::Require(Precondition::Missing(target)))
    }

    /// The whole batch is refused with `ECANCELED` unless the file has this size.
    pub fn require_size(self, path: impl AsRef<Path>, size: u64) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::Require(Precondition::Size(target, size)))
    }

    /// The whole batch is refused with `ECANCELED` unless the inode was last changed at this time
    /// ([`Metadata::changed`](crate::Metadata::changed), as a [`Timestamp`]): nobody changed it since the caller looked.
    pub fn require_changed_at(self, path: impl AsRef<Path>, time: Timestamp) -> Self {
        let target = target(path.as_ref(), true);
        self.push(Op::Require(Precondition::ChangedAt(target, time)))
    }

    /// Does all of it.
    ///
    /// # Errors
    /// POSIX's, naming the operation by its number from 0; `EFBIG` over 64 MiB of content.
    pub async fn apply(self) -> Result<()> {
        let doing = || format!("batch of {} operations", self.steps.len());
        let shared = &self.handle.shared;
        shared.admit(doing).await?;
        let payloads: Vec<&[u8]> = self.payloads.iter().map(Vec::as_slice).collect();
        let caller = shared.caller(&self.credential);
        let done = shared.change(|live| {
            live.run_steps(caller, &payloads, |batch, context| {
                each_step(&self.steps, |step| step.decide(batch, context))
            })
        });
        done.await.map(drop).map_err(|refused| refused.doing(doing))
    }

    fn write_bytes(mut self, path: &Path, at: WriteAt, bytes: &[u8]) -> Self {
        self.payloads.push(bytes.to_vec());
        self.push(Op::Write { target: target(path, true), at, len: bytes.len() as u64 })
    }

    fn push(mut self, op: Op) -> Self {
        self.steps.push(Step::Op(op));
        self
    }
}

impl Step {
    fn decide(&self, batch: &mut rfs_core::Batch, context: &Context<'_>) -> std::result::Result<(), Fault> {
        match self {
            Self::Op(op) => batch.decide(context, op).map(drop),
            Self::Fill(open, len) => {
                let Outcome::Opened { ino, .. } = batch.decide(context, open)? else {
                    return Err(Errno::Invalid.into());
                };
                let (target, at) = (Target::Ino(ino), WriteAt::Offset(0));
                batch.decide(context, &Op::Write { target, at, len: *len }).map(drop)
            }
        }
    }
}
