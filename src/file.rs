//! Open files.

mod cursor;
mod locks;
mod open_options;
mod ranges;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rfs_core::{
    Access, At, Credential, Errno, Fault, Ino, LockOwner, Missing, Op, Outcome, SetTime, Target, Timestamp,
    WriteAt, XattrMode, XattrName,
};

pub use self::open_options::OpenOptions;
use crate::engine::{Live, Refused};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Pieces, path_bytes};
use crate::metadata::{Metadata, Permissions};
use crate::volume::Handle;

/// One write that is larger becomes several: content is read and verified by the frame.
const WRITE_BYTES: usize = 256 << 10;

/// An open file.
///
/// `read_at` and `write_at` do not use the cursor, and can be called from many tasks at once.
/// [`AsyncRead`](tokio::io::AsyncRead), [`AsyncWrite`](tokio::io::AsyncWrite) and [`AsyncSeek`](tokio::io::AsyncSeek)
/// use it. A write is applied when it returns; [`File::sync_all`] makes it survive
/// what the volume's level says.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
/// use tokio::io::AsyncWriteExt;
/// let mut log = rfs::OpenOptions::new().append(true).create(true).open(&volume.fs(), "/log").await?;
/// log.write_all(b"one line\n").await.expect("the volume takes it");
/// assert_eq!(log.metadata().await?.len(), 9);
/// # volume.close().await }
/// ```
pub struct File {
    held: Arc<Held>,
    access: Access,
    append: bool,
    cursor: u64,
    // Never locked, since it is used through `&mut`: it makes the file shareable between threads.
    state: Mutex<State>,
}

/// What keeps an inode open. The locks of its owner go with it.
#[derive(Debug)]
struct Held {
    handle: Arc<Handle>,
    credential: Arc<Credential>,
    ino: Ino,
    locks: LockOwner,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        shared.let_go(shared.itself(), self.ino, Some(self.locks));
    }
}

/// What the asynchronous traits wait for.
enum State {
    Idle,
    Reading(BoxFuture<'static, Result<Pieces>>),
    Admitting(BoxFuture<'static, Result<()>>),
    Seeking(u64),
    SeekingFromEnd(BoxFuture<'static, Result<u64>>, i64),
}

impl File {
    /// Reads up to `buffer.len()` bytes from `offset` on; returns how many there were.
    ///
    /// # Errors
    /// `EBADF` when it was not opened for reading, `EISDIR`; [`ErrorKind::Damaged`], [`ErrorKind::Outage`].
    pub async fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        for piece in self.read_pieces(offset, buffer.len() as u64).await? {
            buffer[done..done + piece.len()].copy_from_slice(&piece);
            done += piece.len();
        }
        Ok(done)
    }

    /// Up to `len` bytes from `offset` on, as they lie in the journal: without a copy where possible.
    ///
    /// # Errors
    /// As [`File::read_at`].
    pub async fn read_pieces(&self, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        self.readable("read")?;
        self.held.read(offset, len).await
    }

    /// Writes `bytes` at `offset`, or at the end of a file that was opened to append; returns how many.
    ///
    /// # Errors
    /// `EBADF` when it was not opened for writing, `EFBIG`; [`ErrorKind::Outage`] when the outage budget is used up,
    /// [`ErrorKind::Fenced`], [`ErrorKind::LocalDisk`].
    pub async fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        self.writable("write")?;
        let piece = &bytes[..bytes.len().min(WRITE_BYTES)];
        let at = if self.append { WriteAt::End } else { WriteAt::Offset(offset) };
        self.held.write(piece, at).await?;
        Ok(piece.len())
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub async fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            done += self.write_at(&bytes[done..], offset.saturating_add(done as u64)).await?;
        }
        Ok(())
    }

    /// Appends all of `bytes` in one piece, and returns the offset where they are: appends of many tasks never mix.
    ///
    /// # Errors
    /// As [`File::write_at`]; `EFBIG` over 64 MiB.
    pub async fn append(&self, bytes: &[u8]) -> Result<u64> {
        self.writable("write")?;
        self.held.write(bytes, WriteAt::End).await
    }

    /// Sets the size: cuts the file, or lengthens it with a hole.
    ///
    /// # Errors
    /// `EBADF`, `EFBIG`.
    pub async fn set_len(&self, size: u64) -> Result<()> {
        self.writable("set length of")?;
        self.change(Op::Truncate { target: self.target(), size }, "set length of").await
    }

    /// The attributes.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], and others for which the volume stopped.
    pub async fn metadata(&self) -> Result<Metadata> {
        self.look("metadata of", |live, ino| live.tree.attr(ino).map(Metadata::new)).await
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        let op = Op::SetMode { target: self.target(), mode: permissions.mode() };
        self.change(op, "set permissions of").await
    }

    /// Sets owner and group, where given.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.change(Op::SetOwner { target: self.target(), uid, gid }, "set owner of").await
    }

    /// Sets the times of last access and last modification, where given.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn set_times(&self, accessed: Option<Timestamp>, modified: Option<Timestamp>) -> Result<()> {
        let time = |time: Option<Timestamp>| time.map_or(SetTime::Keep, SetTime::At);
        let (accessed, modified) = (time(accessed), time(modified));
        self.change(Op::SetTimes { target: self.target(), accessed, modified }, "set times of").await
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// As [`Fs::xattr`](crate::Fs::xattr).
    pub async fn xattr(&self, name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let name = name.as_ref().to_vec();
        let value = |live: &Live, ino| {
            let value = live.tree.xattr(&self.held.credential, ino, &name)?;
            Ok(value.as_bytes().to_vec())
        };
        self.look("get an attribute of", value).await
    }

    /// The names of the extended attributes that the caller may see.
    ///
    /// # Errors
    /// As [`Fs::xattr_names`](crate::Fs::xattr_names).
    pub async fn xattr_names(&self) -> Result<Vec<XattrName>> {
        self.look("list attributes of", |live, ino| live.tree.xattr_names(&self.held.credential, ino)).await
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// As [`Fs::set_xattr`](crate::Fs::set_xattr).
    pub async fn set_xattr(
        &self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        mode: XattrMode,
    ) -> Result<()> {
        let (name, value) = (name.as_ref().to_vec(), value.as_ref().to_vec());
        self.change(Op::SetXattr { target: self.target(), name, value, mode }, "set an attribute of").await
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// As [`Fs::remove_xattr`](crate::Fs::remove_xattr).
    pub async fn remove_xattr(&self, name: impl AsRef<[u8]>) -> Result<()> {
        let op = Op::RemoveXattr { target: self.target(), name: name.as_ref().to_vec() };
        self.change(op, "remove an attribute of").await
    }

    /// Gives the file a name: one that was opened by [`Fs::open_nameless`](crate::Fs::open_nameless) its first.
    ///
    /// # Errors
    /// POSIX's: `EEXIST`; `ENOENT` for a file that lost its last name, or was opened to never have one.
    pub async fn link_to(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let to = At::root(path_bytes(path.as_ref()));
        self.change(Op::Link { from: self.target(), to }, "link").await
    }

    /// The inode number: what [`Fs::open_held`](crate::Fs::open_held) opens the file by.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.held.ino
    }

    /// Waits until everything that was done on the volume so far is at the volume's level.
    ///
    /// # Errors
    /// [`ErrorKind::LocalDisk`], [`ErrorKind::Fenced`], [`ErrorKind::Outage`].
    pub async fn sync_all(&self) -> Result<()> {
        self.held.handle.shared.sync().await.map_err(|error| error.during(self.held.doing("sync")))
    }

    /// As [`File::sync_all`].
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub async fn sync_data(&self) -> Result<()> {
        self.sync_all().await
    }

    /// Another handle with a cursor of its own, that shares the lock.
    #[must_use]
    pub fn try_clone(&self) -> Self {
        Self {
            held: Arc::clone(&self.held),
            access: self.access,
            append: self.append,
            cursor: self.cursor,
            state: Mutex::new(State::Idle),
        }
    }

    fn target(&self) -> Target {
        Target::Ino(self.held.ino)
    }

    async fn change(&self, op: Op, doing: &str) -> Result<()> {
        self.held.admit().await?;
        self.held.run(&op, doing).await.map(drop)
    }

    async fn look<T>(
        &self,
        doing: &str,
        mut look: impl FnMut(&Live, Ino) -> std::result::Result<T, Fault> + Send,
    ) -> Result<T> {
        let look = |live: &Live| look(live, self.held.ino);
        self.held.handle.shared.look(look, || self.held.doing(doing)).await
    }

    fn readable(&self, doing: &str) -> Result<()> {
        if self.access.read { Ok(()) } else { Err(self.error(Errno::BadHandle, doing)) }
    }

    fn writable(&self, doing: &str) -> Result<()> {
        if self.access.write { Ok(()) } else { Err(self.error(Errno::BadHandle, doing)) }
    }

    fn error(&self, errno: Errno, doing: &str) -> Error {
        Error::posix(errno, self.held.doing(doing))
    }
}

impl Held {
    async fn read(&self, offset: u64, len: u64) -> Result<Pieces> {
        let shared = &self.handle.shared;
        let read = shared.read(shared.caller(&self.credential), self.ino, offset, len).await;
        read.map_err(|error| error.doing(|| self.doing("read")))
    }

    async fn admit(&self) -> Result<()> {
        self.handle.shared.admit(|| self.doing("write")).await
    }

    /// Whether nothing has to be waited for.
    fn admit_now(&self) -> Result<bool> {
        Ok(self.handle.shared.admit_now(|| self.doing("write"))?.is_none())
    }

    /// Writes, when there is room.
    async fn write(&self, bytes: &[u8], at: WriteAt) -> Result<u64> {
        if let Some(offset) = self.go_on(bytes, at) {
            return Ok(offset);
        }
        self.admit().await?;
        let shared = &self.handle.shared;
        let written = shared.change(|live| shared.write(live, &self.credential, self.ino, at, bytes)).await;
        self.written(written.map_err(|refused| refused.doing(|| self.doing("write")))?)
    }

    /// Appends, if that only goes on what was appended last. There is room for it.
    fn go_on(&self, bytes: &[u8], at: WriteAt) -> Option<u64> {
        self.handle.shared.go_on(self.ino, at, bytes)
    }

    /// Writes, unless a page is missing.
    fn write_now(&self, bytes: &[u8], at: WriteAt) -> Result<std::result::Result<u64, Missing>> {
        let shared = &self.handle.shared;
        match shared.change_now(|live| shared.write(live, &self.credential, self.ino, at, bytes)) {
            Ok(outcome) => Ok(Ok(self.written(outcome)?)),
            Err(Refused::Missing(missing)) => Ok(Err(missing)),
            Err(refused) => Err(refused.doing(|| self.doing("write"))),
        }
    }

    fn written(&self, outcome: Outcome) -> Result<u64> {
        match outcome {
            Outcome::Written { offset } => Ok(offset),
            other => Err(Error::new(ErrorKind::Bug, format!("{}: it gave {other:?}", self.doing("write")))),
        }
    }

    async fn size(&self) -> Result<u64> {
        let size = |live: &Live| Ok(live.tree.attr(self.ino)?.size);
        self.handle.shared.look(size, || self.doing("seek in")).await
    }

    async fn run(&self, op: &Op, doing: &str) -> Result<Outcome> {
        let shared = &self.handle.shared;
        shared.run(shared.caller(&self.credential), op, &[], || self.doing(doing)).await
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} {}", self.path.display())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.held.path)
            .field("ino", &self.held.ino)
            .finish_non_exhaustive()
    }
}
