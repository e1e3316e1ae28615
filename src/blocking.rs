//! The blocking face: the same volume for programs without an async runtime. Names are those of `std::fs`.
//!
//! A [`Volume`] here owns a small runtime (one worker thread), which commits in the background. Do not use it from
//! inside an async task: there the async face belongs.
//!
//! ```
//! use rfs::{Options, blocking::Volume};
//! let volume = Volume::open_or_create("memory://", Options::new())?;
//! let fs = volume.fs();
//! fs.write("/greeting", b"hello")?;
//! assert_eq!(fs.read("/greeting")?, b"hello");
//! volume.checkpoint("first")?.wait()?;
//! volume.close()?;
//! # Ok::<(), rfs::Error>(())
//! ```

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::engine::Receipt;
use crate::error::{Error, ErrorKind, Result};
use crate::{
    Allocate, Applied, ApplyError, ApplyOptions, At, CheckError, Collected, CommitId, Compacted, Cookie,
    Credential, Detached, FileType, Forked, HeldRange, History, Ino, Level, Limits, LockMode, LockRange, Lsn,
    Metadata, Node, OpenOptions, Options, Permission, Permissions, Pin, Quota, QuotaSubject, RenameMode,
    RestoreOptions, Restored, StatFs, StateHash, StoreUsage, Timestamp, XattrMode, XattrName,
};

/// Waits for what a future gives. Most operations are done at once, and nothing has to be set up for waiting then.
fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    let mut future = pin!(future);
    // Inside of another runtime it is refused, as it were if it had to wait.
    if Handle::try_current().is_err() {
        let _entered = runtime.enter();
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
    runtime.block_on(future)
}

/// A volume, as [`crate::Volume`].
#[derive(Clone, Debug)]
pub struct Volume {
    // Dropped before the runtime, which then runs its last task out.
    volume: crate::Volume,
    runtime: Arc<Runtime>,
}

impl Volume {
    /// As [`crate::Volume::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(url: &str, options: Options) -> Result<Self> {
        Self::start(crate::Volume::create(url, options))
    }

    /// As [`crate::Volume::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(url: &str, options: Options) -> Result<Self> {
        Self::start(crate::Volume::open(url, options))
    }

    /// As [`crate::Volume::open_or_create`].
    ///
    /// # Errors
    /// As there.
    pub fn open_or_create(url: &str, options: Options) -> Result<Self> {
        Self::start(crate::Volume::open_or_create(url, options))
    }

    /// As [`crate::Volume::open_read_only`].
    ///
    /// # Errors
    /// As there.
    pub fn open_read_only(url: &str, options: Options, at: At) -> Result<Self> {
        Self::start(crate::Volume::open_read_only(url, options, at))
    }

    fn start(open: impl Future<Output = Result<crate::Volume>>) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("rfs").enable_all().build();
        let runtime = runtime.map_err(|error| Error::caused(ErrorKind::Bug, "starting a runtime", error))?;
        let volume = block_on(&runtime, open)?;
        Ok(Self { volume, runtime: Arc::new(runtime) })
    }

    /// The files of the volume.
    #[must_use]
    pub fn fs(&self) -> Fs {
        Fs { fs: self.volume.fs(), runtime: Arc::clone(&self.runtime) }
    }

    /// The volume's async face: what does not wait is called there.
    #[must_use]
    pub const fn as_async(&self) -> &crate::Volume {
        &self.volume
    }

    /// As [`crate::Volume::position`].
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.volume.position()
    }

    /// As [`crate::Volume::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, position: Lsn, level: Level) -> Result<()> {
        block_on(&self.runtime, self.volume.wait(position, level))
    }

    /// As [`crate::Volume::commit`].
    ///
    /// # Errors
    /// As there.
    pub fn commit(&self) -> Result<Receipt> {
        block_on(&self.runtime, self.volume.commit())
    }

    /// As [`crate::Volume::checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn checkpoint(&self, name: &str) -> Result<Commit> {
        self.checkpoint_with(name, Vec::new())
    }

    /// As [`crate::Volume::checkpoint_with`].
    ///
    /// # Errors
    /// As there.
    pub fn checkpoint_with(&self, name: &str, metadata: Vec<u8>) -> Result<Commit> {
        let commit = block_on(&self.runtime, self.volume.checkpoint_with(name, metadata))?;
        Ok(Commit { commit, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Volume::drop_checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn drop_checkpoint(&self, name: &str) -> Result<()> {
        block_on(&self.runtime, self.volume.drop_checkpoint(name))
    }

    /// As [`crate::Volume::metadata_of`].
    ///
    /// # Errors
    /// As there.
    pub fn metadata_of(&self, commit: CommitId) -> Result<Vec<u8>> {
        block_on(&self.runtime, self.volume.metadata_of(commit))
    }

    /// As [`crate::Volume::history`].
    ///
    /// # Errors
    /// As there.
    pub fn history(&self, path: impl AsRef<Path>) -> Result<History> {
        block_on(&self.runtime, self.volume.history(path))
    }

    /// As [`crate::Volume::collect_garbage`].
    ///
    /// # Errors
    /// As there.
    pub fn collect_garbage(&self) -> Result<Collected> {
        block_on(&self.runtime, self.volume.collect_garbage())
    }

    /// As [`crate::Volume::compact`].
    ///
    /// # Errors
    /// As there.
    pub fn compact(&self) -> Result<Compacted> {
        block_on(&self.runtime, self.volume.compact())
    }

    /// As [`crate::Volume::usage`].
    ///
    /// # Errors
    /// As there.
    pub fn usage(&self) -> Result<StoreUsage> {
        block_on(&self.runtime, self.volume.usage())
    }

    /// As [`crate::Volume::restore`].
    ///
    /// # Errors
    /// As there.
    pub fn restore(&self, dir: impl AsRef<Path>, options: RestoreOptions) -> Result<Restored> {
        block_on(&self.runtime, self.volume.restore(dir, options))
    }

    /// As [`crate::Volume::apply_to`].
    ///
    /// # Errors
    /// As there.
    pub fn apply_to(
        &self,
        dir: impl AsRef<Path>,
        to: &Self,
        options: ApplyOptions,
    ) -> std::result::Result<Applied, ApplyError> {
        block_on(&self.runtime, self.volume.apply_to(dir, &to.volume, options))
    }

    /// As [`crate::Volume::rewind`].
    ///
    /// # Errors
    /// As there.
    pub fn rewind(&self, at: &At) -> Result<Receipt> {
        block_on(&self.runtime, self.volume.rewind(at))
    }

    /// As [`crate::Volume::rewind_path`].
    ///
    /// # Errors
    /// As there.
    pub fn rewind_path(&self, path: impl AsRef<Path>, at: &At) -> Result<Receipt> {
        block_on(&self.runtime, self.volume.rewind_path(path, at))
    }

    /// As [`crate::Volume::fork`].
    ///
    /// # Errors
    /// As there.
    pub fn fork(&self, url: &str, at: &At) -> Result<Forked> {
        block_on(&self.runtime, self.volume.fork(url, at))
    }

    /// As [`crate::Volume::detach`].
    ///
    /// # Errors
    /// As there.
    pub fn detach(&self) -> Result<Detached> {
        block_on(&self.runtime, self.volume.detach())
    }

    /// As [`crate::Volume::pin`].
    ///
    /// # Errors
    /// As there.
    pub fn pin(&self, at: &At, owner: &str, expires: Option<Timestamp>) -> Result<Pin> {
        block_on(&self.runtime, self.volume.pin(at, owner, expires))
    }

    /// As [`crate::Volume::unpin`].
    ///
    /// # Errors
    /// As there.
    pub fn unpin(&self, id: u128) -> Result<()> {
        block_on(&self.runtime, self.volume.unpin(id))
    }

    /// As [`crate::Volume::pins`].
    ///
    /// # Errors
    /// As there.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        block_on(&self.runtime, self.volume.pins())
    }

    /// As [`crate::Volume::state_hash`].
    ///
    /// # Errors
    /// As there.
    pub fn state_hash(&self) -> Result<StateHash> {
        block_on(&self.runtime, self.volume.state_hash())
    }

    /// As [`crate::Volume::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> std::result::Result<(), CheckError> {
        block_on(&self.runtime, self.volume.check())
    }

    /// As [`crate::Volume::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<()> {
        block_on(&self.runtime, self.volume.close())
    }
}

/// A commit on its way, as [`crate::Commit`].
#[derive(Debug)]
#[must_use]
pub struct Commit {
    commit: crate::Commit,
    runtime: Arc<Runtime>,
}

impl Commit {
    /// As [`crate::Commit::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self) -> Result<Receipt> {
        block_on(&self.runtime, self.commit.wait())
    }
}

/// The files of a volume, as [`crate::Fs`].
#[derive(Clone, Debug)]
pub struct Fs {
    fs: crate::Fs,
    runtime: Arc<Runtime>,
}

macro_rules! blocking {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        impl Fs {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As there.
                pub fn $name(&self, $($arg: $type),*) -> Result<$output> {
                    block_on(&self.runtime, self.fs.$name($($arg),*))
                }
            )*
        }
    };
}

blocking! {
    /// As [`crate::Fs::read`].
    read(path: impl AsRef<Path>) -> Vec<u8>;
    /// As [`crate::Fs::read_to_string`].
    read_to_string(path: impl AsRef<Path>) -> String;
    /// As [`crate::Fs::write`].
    write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> ();
    /// As [`crate::Fs::copy`].
    copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> u64;
    /// As [`crate::Fs::create_dir`].
    create_dir(path: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::create_dir_all`].
    create_dir_all(path: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::remove_dir`].
    remove_dir(path: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::remove_dir_all`].
    remove_dir_all(path: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::remove_file`].
    remove_file(path: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::rename`].
    rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::rename_with`].
    rename_with(from: impl AsRef<Path>, to: impl AsRef<Path>, mode: RenameMode) -> ();
    /// As [`crate::Fs::mknod`].
    mknod(path: impl AsRef<Path>, node: Node, mode: u32) -> ();
    /// As [`crate::Fs::clone_file`].
    clone_file(from: impl AsRef<Path>, to: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::access`].
    access(path: impl AsRef<Path>, access: Permission) -> ();
    /// As [`crate::Fs::xattr`].
    xattr(path: impl AsRef<Path>, name: impl AsRef<[u8]>) -> Vec<u8>;
    /// As [`crate::Fs::xattr_names`].
    xattr_names(path: impl AsRef<Path>) -> Vec<XattrName>;
    /// As [`crate::Fs::set_xattr`].
    set_xattr(path: impl AsRef<Path>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>, mode: XattrMode) -> ();
    /// As [`crate::Fs::remove_xattr`].
    remove_xattr(path: impl AsRef<Path>, name: impl AsRef<[u8]>) -> ();
    /// As [`crate::Fs::stat_fs`].
    stat_fs() -> StatFs;
    /// As [`crate::Fs::quotas`].
    quotas() -> Vec<(QuotaSubject, Quota)>;
    /// As [`crate::Fs::set_quota`].
    set_quota(subject: QuotaSubject, limits: Limits) -> ();
    /// As [`crate::Fs::hard_link`].
    hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::symlink`].
    symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> ();
    /// As [`crate::Fs::read_link`].
    read_link(path: impl AsRef<Path>) -> PathBuf;
    /// As [`crate::Fs::metadata`].
    metadata(path: impl AsRef<Path>) -> Metadata;
    /// As [`crate::Fs::symlink_metadata`].
    symlink_metadata(path: impl AsRef<Path>) -> Metadata;
    /// As [`crate::Fs::try_exists`].
    try_exists(path: impl AsRef<Path>) -> bool;
    /// As [`crate::Fs::set_permissions`].
    set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> ();
    /// As [`crate::Fs::chown`].
    chown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> ();
    /// As [`crate::Fs::set_times`].
    set_times(path: impl AsRef<Path>, accessed: Option<Timestamp>, modified: Option<Timestamp>) -> ();
    /// As [`crate::Fs::truncate`].
    truncate(path: impl AsRef<Path>, size: u64) -> ();
}

impl Fs {
    /// As [`crate::Fs::as_user`].
    #[must_use]
    pub fn as_user(&self, credential: Credential) -> Self {
        Self { fs: self.fs.as_user(credential), runtime: Arc::clone(&self.runtime) }
    }

    /// As [`crate::Fs::no_follow`].
    #[must_use]
    pub fn no_follow(&self) -> Self {
        Self { fs: self.fs.no_follow(), runtime: Arc::clone(&self.runtime) }
    }

    /// As [`crate::Fs::open_held`].
    ///
    /// # Errors
    /// As there.
    pub fn open_held(&self, ino: Ino, options: &OpenOptions) -> Result<File> {
        let file = block_on(&self.runtime, self.fs.open_held(ino, options))?;
        Ok(File { file, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Fs::open_nameless`].
    ///
    /// # Errors
    /// As there.
    pub fn open_nameless(&self, dir: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let file = block_on(&self.runtime, self.fs.open_nameless(dir, options))?;
        Ok(File { file, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Fs::read_dir`].
    ///
    /// # Errors
    /// As there.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        let list = block_on(&self.runtime, self.fs.read_dir(path))?;
        Ok(ReadDir { list, failed: false, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Fs::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// As [`crate::Fs::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OpenOptions::new().write(true).create(true).truncate(true))
    }

    /// As [`crate::OpenOptions::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open_with(&self, path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let file = block_on(&self.runtime, options.open(&self.fs, path))?;
        Ok(File { file, runtime: Arc::clone(&self.runtime) })
    }

    /// Applies a batch that [`crate::Fs::batch`] started.
    ///
    /// # Errors
    /// As [`crate::Batch::apply`].
    pub fn apply(&self, batch: impl FnOnce(crate::Batch) -> crate::Batch) -> Result<()> {
        block_on(&self.runtime, batch(self.fs.batch()).apply())
    }
}

/// A listing of a directory, as [`crate::ReadDir`]. As an iterator it gives what [`ReadDir::next_entry`] does, and ends
/// after an error.
#[derive(Debug)]
pub struct ReadDir {
    list: crate::ReadDir,
    // An error that stays must not keep a loop over the entries going.
    failed: bool,
    runtime: Arc<Runtime>,
}

impl ReadDir {
    /// As [`crate::ReadDir::next_entry`].
    ///
    /// # Errors
    /// As there.
    pub fn next_entry(&mut self) -> Result<Option<DirEntry>> {
        let entry = block_on(&self.runtime, self.list.next_entry())?;
        Ok(entry.map(|entry| DirEntry { entry, runtime: Arc::clone(&self.runtime) }))
    }

    /// As [`crate::ReadDir::cookie`].
    #[must_use]
    pub const fn cookie(&self) -> Cookie {
        self.list.cookie()
    }

    /// As [`crate::ReadDir::seek`].
    pub fn seek(&mut self, cookie: Cookie) {
        self.list.seek(cookie);
        self.failed = false;
    }
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.next_entry();
        self.failed = entry.is_err();
        entry.transpose()
    }
}

/// One entry of a directory, as [`crate::DirEntry`].
#[derive(Clone, Debug)]
pub struct DirEntry {
    entry: crate::DirEntry,
    runtime: Arc<Runtime>,
}

impl DirEntry {
    /// As [`crate::DirEntry::file_name`].
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }

    /// As [`crate::DirEntry::path`].
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// As [`crate::DirEntry::file_type`].
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        self.entry.file_type()
    }

    /// As [`crate::DirEntry::ino`].
    #[must_use]
    pub const fn ino(&self) -> u64 {
        self.entry.ino()
    }

    /// As [`crate::DirEntry::metadata`].
    ///
    /// # Errors
    /// As there.
    pub fn metadata(&self) -> Result<Metadata> {
        block_on(&self.runtime, self.entry.metadata())
    }
}

/// An open file, as [`crate::File`].
#[derive(Debug)]
pub struct File {
    file: crate::File,
    runtime: Arc<Runtime>,
}

macro_rules! blocking_file {
    (
        $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*
    ) => {
        impl File {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// As there.
                pub fn $name(&self, $($arg: $type),*) -> Result<$output> {
                    block_on(&self.runtime, self.file.$name($($arg),*))
                }
            )*
        }
    };
}

blocking_file! {
    /// As [`crate::File::read_at`].
    read_at(buffer: &mut [u8], offset: u64) -> usize;
    /// As [`crate::File::write_at`].
    write_at(bytes: &[u8], offset: u64) -> usize;
    /// As [`crate::File::write_all_at`].
    write_all_at(bytes: &[u8], offset: u64) -> ();
    /// As [`crate::File::append`].
    append(bytes: &[u8]) -> u64;
    /// As [`crate::File::set_len`].
    set_len(size: u64) -> ();
    /// As [`crate::File::allocate`].
    allocate(mode: Allocate, offset: u64, len: u64) -> ();
    /// As [`crate::File::punch_hole`].
    punch_hole(offset: u64, len: u64) -> ();
    /// As [`crate::File::zero_range`].
    zero_range(offset: u64, len: u64) -> ();
    /// As [`crate::File::collapse_range`].
    collapse_range(offset: u64, len: u64) -> ();
    /// As [`crate::File::insert_range`].
    insert_range(offset: u64, len: u64) -> ();
    /// As [`crate::File::set_permissions`].
    set_permissions(permissions: Permissions) -> ();
    /// As [`crate::File::chown`].
    chown(uid: Option<u32>, gid: Option<u32>) -> ();
    /// As [`crate::File::set_times`].
    set_times(accessed: Option<Timestamp>, modified: Option<Timestamp>) -> ();
    /// As [`crate::File::set_xattr`].
    set_xattr(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>, mode: XattrMode) -> ();
    /// As [`crate::File::remove_xattr`].
    remove_xattr(name: impl AsRef<[u8]>) -> ();
    /// As [`crate::File::link_to`].
    link_to(path: impl AsRef<Path>) -> ();
    /// As [`crate::File::sync_all`].
    sync_all() -> ();
    /// As [`crate::File::sync_data`].
    sync_data() -> ();
    /// As [`crate::File::lock`].
    lock() -> ();
    /// As [`crate::File::lock_shared`].
    lock_shared() -> ();
    /// As [`crate::File::lock_range`].
    lock_range(range: LockRange, mode: LockMode) -> ();
    /// As [`crate::File::metadata`].
    metadata() -> Metadata;
    /// As [`crate::File::xattr`].
    xattr(name: impl AsRef<[u8]>) -> Vec<u8>;
    /// As [`crate::File::xattr_names`].
    xattr_names() -> Vec<XattrName>;
    /// As [`crate::File::seek_data`].
    seek_data(offset: u64) -> u64;
    /// As [`crate::File::seek_hole`].
    seek_hole(offset: u64) -> u64;
    /// As [`crate::File::try_lock`].
    try_lock() -> ();
    /// As [`crate::File::try_lock_shared`].
    try_lock_shared() -> ();
    /// As [`crate::File::unlock`].
    unlock() -> ();
    /// As [`crate::File::try_lock_range`].
    try_lock_range(range: LockRange, mode: LockMode) -> ();
    /// As [`crate::File::unlock_range`].
    unlock_range(range: LockRange) -> ();
    /// As [`crate::File::test_lock_range`].
    test_lock_range(range: LockRange, mode: LockMode) -> Option<HeldRange>;
}

impl File {
    /// As [`crate::File::copy_range`].
    ///
    /// # Errors
    /// As there.
    pub fn copy_range(&self, offset: u64, to: &Self, to_offset: u64, len: u64) -> Result<u64> {
        block_on(&self.runtime, self.file.copy_range(offset, &to.file, to_offset, len))
    }

    /// As [`crate::File::ino`].
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.file.ino()
    }

    /// As [`crate::File::lock_key`].
    #[must_use]
    pub fn lock_key(&self) -> u64 {
        self.file.lock_key()
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        block_on(&self.runtime, self.file.read(buffer))
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(done) = self.file.write_on(bytes) {
            return Ok(done);
        }
        block_on(&self.runtime, self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        block_on(&self.runtime, self.file.seek(to))
    }
}
