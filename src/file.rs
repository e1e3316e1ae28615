//! Open files.

use std::fmt;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rfs_core::{Access, At, Errno, Ino, LockMode, Op, OpenFlags, Outcome, OwnerId, Target, WriteAt};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Fs, Pieces, UMASK, path_bytes};
use crate::metadata::{Metadata, Permissions};
use crate::options::Level;
use crate::volume::Handle;

/// One write that is larger becomes several: content is read and verified by the frame.
const WRITE_BYTES: usize = 256 << 10;
/// How far one read of [`AsyncRead`] looks.
const READ_BYTES: u64 = 1 << 20;

/// How a file is opened, as `std::fs::OpenOptions` says it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent flags, as in std::fs::OpenOptions")]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    no_follow: bool,
    mode: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Nothing is allowed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            no_follow: false,
            mode: 0o666 & !UMASK,
        }
    }

    /// Reading is allowed.
    pub const fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// Writing is allowed.
    pub const fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// Every write goes to the end of the file, as it is then.
    pub const fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// The file is emptied.
    pub const fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// The file is made when it is missing.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// The file is made, and must be missing.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// A symlink at the end of the path is refused.
    pub const fn no_follow(&mut self, no_follow: bool) -> &mut Self {
        self.no_follow = no_follow;
        self
    }

    /// Permission bits of a file that is made. Default: `0o644`.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Opens the file at a path.
    ///
    /// # Errors
    /// POSIX's; `EINVAL` for flags that contradict each other, as in `std::fs`.
    pub async fn open(&self, fs: &Fs, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let doing = || format!("open {}", path.display());
        let write = self.write || self.append;
        let truncates = self.truncate && !self.create_new;
        let contradicts = (truncates && (self.append || !self.write))
            || ((self.create || self.create_new) && !write)
            || !(self.read || write);
        if contradicts {
            return Err(Error::posix(Errno::Invalid, doing()));
        }
        let access = Access { read: self.read, write };
        let flags = OpenFlags {
            create: self.create || self.create_new,
            exclusive: self.create_new,
            truncate: truncates,
            directory: false,
            no_follow: self.no_follow,
        };
        let shared = &fs.handle().shared;
        if flags.create || flags.truncate {
            shared.admit(doing).await?;
        }
        let op = Op::Open { at: At::root(path_bytes(path)), access, flags, mode: self.mode };
        let (ino, owner) = shared
            .change(|live, caller| {
                let Outcome::Opened { ino, .. } = live.run(caller, &op, &[])? else {
                    return Err(Errno::Invalid.into());
                };
                live.hold(ino);
                Ok((ino, live.new_owner()))
            })
            .map_err(|refused| refused.doing(doing))?;
        let held = Held { handle: Arc::clone(fs.handle()), ino, owner, path: path.to_path_buf() };
        Ok(File {
            held: Arc::new(held),
            access,
            append: self.append,
            cursor: 0,
            state: Mutex::new(State::Idle),
        })
    }
}

/// An open file.
///
/// `read_at` and `write_at` do not use the cursor, and can be called from many tasks at once. [`AsyncRead`],
/// [`AsyncWrite`] and [`AsyncSeek`] use it. A write is applied when it returns; [`File::sync_all`] makes it survive
/// what the volume's level says.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
/// use tokio::io::AsyncWriteExt;
/// let mut log = rfs::OpenOptions::new().append(true).create(true).open(&volume.fs(), "/log").await?;
/// log.write_all(b"one line\n").await.expect("the volume takes it");
/// assert_eq!(log.metadata()?.len(), 9);
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
    ino: Ino,
    owner: OwnerId,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        let released = shared.change(|live, caller| {
            let holds = live.holds_lock(self.ino, self.owner);
            if holds {
                // On a volume that failed, the next writer releases it.
                let _ = live.run(caller, &Op::Unlock { ino: self.ino, owner: self.owner }, &[]);
            }
            live.let_go(caller, self.ino);
            Ok(holds)
        });
        if matches!(released, Ok(true)) {
            shared.locks_changed.notify_waiters();
        }
    }
}

/// What the asynchronous traits wait for.
enum State {
    Idle,
    Reading(BoxFuture<'static, Result<Pieces>>),
    Admitting(BoxFuture<'static, Result<()>>),
    Seeking(u64),
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
        if !self.access.read {
            return Err(self.error(Errno::BadHandle, "read"));
        }
        self.held.read(offset, len).await
    }

    /// Writes `bytes` at `offset`, or at the end of a file that was opened to append; returns how many.
    ///
    /// # Errors
    /// `EBADF` when it was not opened for writing, `EFBIG`; [`ErrorKind::Outage`] when the outage budget is used up,
    /// [`ErrorKind::Fenced`], [`ErrorKind::LocalDisk`].
    pub async fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        self.writable()?;
        let piece = &bytes[..bytes.len().min(WRITE_BYTES)];
        let at = if self.append { WriteAt::End } else { WriteAt::Offset(offset) };
        self.held.admit().await?;
        self.held.write(piece, at)?;
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
        self.writable()?;
        self.held.admit().await?;
        self.held.write(bytes, WriteAt::End)
    }

    /// Sets the size: cuts the file, or lengthens it with a hole.
    ///
    /// # Errors
    /// `EBADF`, `EFBIG`.
    pub async fn set_len(&self, size: u64) -> Result<()> {
        self.writable()?;
        self.held.admit().await?;
        self.held.run(&Op::Truncate { target: Target::Ino(self.held.ino), size }, "set length of").map(drop)
    }

    /// The attributes.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], and others for which the volume stopped.
    pub fn metadata(&self) -> Result<Metadata> {
        let live = self.held.handle.shared.live.read();
        live.usable().map_err(|refused| refused.doing(|| self.held.doing("metadata of")))?;
        live.tree.attr(self.held.ino).map(Metadata::new).map_err(|errno| self.error(errno, "metadata of"))
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        self.held.admit().await?;
        let op = Op::SetMode { target: Target::Ino(self.held.ino), mode: permissions.mode() };
        self.held.run(&op, "set permissions of").map(drop)
    }

    /// Waits until everything that was done on the volume so far is at the volume's level.
    ///
    /// # Errors
    /// [`ErrorKind::LocalDisk`], [`ErrorKind::Fenced`], [`ErrorKind::Outage`].
    pub async fn sync_all(&self) -> Result<()> {
        let shared = &self.held.handle.shared;
        if shared.driver.is_none() {
            return Ok(());
        }
        let position = shared.live.read().lsn(rfs_core::Lsn(0));
        match shared.options.level {
            Level::Memory => Ok(()),
            Level::Local if shared.has_disk() => shared.wait(position, Level::Local).await,
            _ => crate::engine::commit_now(shared).await.map(drop),
        }
        .map_err(|error| error.during(self.held.doing("sync")))
    }

    /// As [`File::sync_all`].
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub async fn sync_data(&self) -> Result<()> {
        self.sync_all().await
    }

    /// Waits until nobody else holds a lock on the file, and takes it. The lock is advisory, goes with the last clone
    /// of this handle, and is released when the volume is opened again. A share that this handle holds is given up
    /// while it waits.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], and others for which the volume stopped.
    pub async fn lock(&self) -> Result<()> {
        self.wait_for_lock(LockMode::Exclusive).await
    }

    /// As [`File::lock`], together with others that share it.
    ///
    /// # Errors
    /// As [`File::lock`].
    pub async fn lock_shared(&self) -> Result<()> {
        self.wait_for_lock(LockMode::Shared).await
    }

    /// Takes the lock if nobody else holds one.
    ///
    /// # Errors
    /// `EAGAIN` when somebody does.
    pub fn try_lock(&self) -> Result<()> {
        self.take_lock(LockMode::Exclusive)
    }

    /// Takes a share of the lock if nobody else holds it alone.
    ///
    /// # Errors
    /// `EAGAIN` when somebody does.
    pub fn try_lock_shared(&self) -> Result<()> {
        self.take_lock(LockMode::Shared)
    }

    /// Releases the lock, if this handle holds one.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], and others for which the volume stopped.
    pub fn unlock(&self) -> Result<()> {
        self.held.run(&Op::Unlock { ino: self.held.ino, owner: self.held.owner }, "unlock")?;
        self.held.handle.shared.locks_changed.notify_waiters();
        Ok(())
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

    async fn wait_for_lock(&self, mode: LockMode) -> Result<()> {
        let shared = &self.held.handle.shared;
        loop {
            let changed = shared.locks_changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before the try, so that no release falls between the two.
            changed.as_mut().enable();
            match self.take_lock(mode) {
                Err(error) if error.errno() == Some(Errno::WouldBlock) => {
                    // Two who both hold a share and wait to hold it alone would wait for ever.
                    if self.held.holds_lock() {
                        self.unlock()?;
                    }
                    changed.await;
                }
                taken => return taken,
            }
        }
    }

    fn take_lock(&self, mode: LockMode) -> Result<()> {
        let taken =
            self.held.run(&Op::Lock { ino: self.held.ino, owner: self.held.owner, mode }, "lock").map(drop);
        if mode == LockMode::Shared && taken.is_ok() {
            // An exclusive lock may just have become a shared one.
            self.held.handle.shared.locks_changed.notify_waiters();
        }
        taken
    }

    fn writable(&self) -> Result<()> {
        if self.access.write { Ok(()) } else { Err(self.error(Errno::BadHandle, "write")) }
    }

    fn error(&self, errno: Errno, doing: &str) -> Error {
        Error::posix(errno, self.held.doing(doing))
    }
}

impl Held {
    async fn read(&self, offset: u64, len: u64) -> Result<Pieces> {
        let read = self.handle.shared.read(self.ino, offset, len).await;
        read.map_err(|error| error.doing(|| self.doing("read")))
    }

    fn holds_lock(&self) -> bool {
        self.handle.shared.live.read().holds_lock(self.ino, self.owner)
    }

    async fn admit(&self) -> Result<()> {
        self.handle.shared.admit(|| self.doing("write")).await
    }

    fn write(&self, bytes: &[u8], at: WriteAt) -> Result<u64> {
        let op = Op::Write { target: Target::Ino(self.ino), at, len: bytes.len() as u64 };
        match self.handle.shared.run(&op, bytes, || self.doing("write"))? {
            Outcome::Written { offset } => Ok(offset),
            other => Err(Error::new(ErrorKind::Bug, format!("{}: it gave {other:?}", self.doing("write")))),
        }
    }

    fn run(&self, op: &Op, doing: &str) -> Result<Outcome> {
        self.handle.shared.run(op, &[], || self.doing(doing))
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} {}", self.path.display())
    }
}

impl AsyncRead for File {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !self.access.read {
            return Poll::Ready(Err(self.error(Errno::BadHandle, "read").into()));
        }
        if !matches!(self.state.get_mut(), State::Reading(_)) {
            let (held, at) = (Arc::clone(&self.held), self.cursor);
            let len = READ_BYTES.min(buffer.remaining() as u64);
            *self.state.get_mut() = State::Reading(Box::pin(async move { held.read(at, len).await }));
        }
        let State::Reading(reading) = self.state.get_mut() else { unreachable!("it was just set") };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return Poll::Pending };
        *self.state.get_mut() = State::Idle;
        for piece in read? {
            // A read that was begun for a larger buffer gives the rest when it is asked again.
            let taken = &piece[..piece.len().min(buffer.remaining())];
            buffer.put_slice(taken);
            self.cursor += taken.len() as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for File {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writable()?;
        if !matches!(self.state.get_mut(), State::Admitting(_)) {
            let held = Arc::clone(&self.held);
            *self.state.get_mut() = State::Admitting(Box::pin(async move { held.admit().await }));
        }
        let State::Admitting(admitting) = self.state.get_mut() else { unreachable!("it was just set") };
        let Poll::Ready(admitted) = admitting.as_mut().poll(cx) else { return Poll::Pending };
        *self.state.get_mut() = State::Idle;
        admitted?;
        // Only waiting for room outlives a call: what is written is what this call was given.
        let piece = &bytes[..bytes.len().min(WRITE_BYTES)];
        let at = if self.append { WriteAt::End } else { WriteAt::Offset(self.cursor) };
        self.cursor = self.held.write(piece, at)? + piece.len() as u64;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for File {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let (from, by) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => (self.cursor, by),
            SeekFrom::End(by) => (self.metadata()?.len(), by),
        };
        let to = from.checked_add_signed(by).filter(|to| *to <= rfs_core::FILE_SIZE_MAX);
        *self.state.get_mut() = State::Seeking(to.ok_or(Errno::Invalid)?);
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        if let State::Seeking(to) = *self.state.get_mut() {
            self.cursor = to;
            *self.state.get_mut() = State::Idle;
        }
        Poll::Ready(Ok(self.cursor))
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
