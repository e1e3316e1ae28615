//! What is known of a file beside its content.

use rfs_core::{Attr, Kind, Name, Timestamp};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::Live;
use crate::error::Result;
use crate::volume::Handle;

/// What kind of thing a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileType(Kind);

impl FileType {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.0 == Kind::Directory
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.0 == Kind::File
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.0 == Kind::Symlink
    }

    /// Whether it is a named pipe.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.0 == Kind::Fifo
    }

    /// Whether it is a name of a local socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.0 == Kind::Socket
    }

    /// Whether it is a character device.
    #[must_use]
    pub fn is_char_device(&self) -> bool {
        self.0 == Kind::CharDevice
    }

    /// Whether it is a block device.
    #[must_use]
    pub fn is_block_device(&self) -> bool {
        self.0 == Kind::BlockDevice
    }
}

/// Permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permissions(u32);

impl Permissions {
    /// These permission bits, `0o7777` at most.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Self {
        Self(mode)
    }

    /// The permission bits.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        self.0
    }

    /// Whether nobody may write.
    #[must_use]
    pub const fn readonly(&self) -> bool {
        self.0 & 0o222 == 0
    }
}

/// The attributes of a file, directory or symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata(Attr);

impl Metadata {
    pub(crate) const fn new(attr: Attr) -> Self {
        Self(attr)
    }

    /// What it is.
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        FileType(self.0.kind)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "named as in std::fs")]
    pub const fn len(&self) -> u64 {
        self.0.size
    }

    /// Permission bits.
    #[must_use]
    pub const fn permissions(&self) -> Permissions {
        Permissions(self.0.mode)
    }

    /// Permission bits, as a number.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        self.0.mode
    }

    /// Inode number.
    #[must_use]
    pub const fn ino(&self) -> u64 {
        self.0.ino.0
    }

    /// Number of hard links.
    #[must_use]
    pub const fn nlink(&self) -> u64 {
        self.0.nlink as u64
    }

    /// Owner.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Group.
    #[must_use]
    pub const fn gid(&self) -> u32 {
        self.0.gid
    }

    /// Bytes of content that are stored: holes are not, and what files share counts for each of them.
    #[must_use]
    pub const fn allocated(&self) -> u64 {
        self.0.allocated
    }

    /// What is stored, in blocks of 512 bytes, as `st_blocks`.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.0.allocated.div_ceil(512)
    }

    /// Which device it is, as `st_rdev`; 0 for what is none.
    #[must_use]
    pub const fn rdev(&self) -> u64 {
        self.0.device
    }

    /// Last access, as it was set, or as the volume's [`AtimePolicy`](crate::AtimePolicy) has reading change it.
    #[must_use]
    pub fn accessed(&self) -> SystemTime {
        system_time(self.0.times.accessed)
    }

    /// Last change of the content.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        system_time(self.0.times.modified)
    }

    /// Last change of content or attributes.
    #[must_use]
    pub fn changed(&self) -> SystemTime {
        system_time(self.0.times.changed)
    }

    /// When it was made.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        system_time(self.0.times.born)
    }

    /// All attributes, with times in nanoseconds.
    #[must_use]
    pub const fn attr(&self) -> &Attr {
        &self.0
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(time.as_nanos().unsigned_abs());
    if time.as_nanos() < 0 { SystemTime::UNIX_EPOCH - nanos } else { SystemTime::UNIX_EPOCH + nanos }
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    handle: Arc<Handle>,
    dir: PathBuf,
    name: Name,
    ino: rfs_core::Ino,
    kind: Kind,
}

impl DirEntry {
    pub(crate) fn new(handle: &Arc<Handle>, dir: &Path, entry: rfs_core::DirEntry) -> Self {
        let rfs_core::DirEntry { name, ino, kind, .. } = entry;
        Self { handle: Arc::clone(handle), dir: dir.to_path_buf(), name, ino, kind }
    }

    /// Its name in the directory.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        OsStr::from_bytes(self.name.as_bytes()).to_owned()
    }

    /// The directory's path, as it was given, with the name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(OsStr::from_bytes(self.name.as_bytes()))
    }

    /// What it is.
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        FileType(self.kind)
    }

    /// Inode number.
    #[must_use]
    pub const fn ino(&self) -> u64 {
        self.ino.0
    }

    /// Its attributes as they are now; a symlink is not followed.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub async fn metadata(&self) -> Result<Metadata> {
        let look = |live: &Live| live.tree.attr(self.ino).map(Metadata);
        self.handle.shared.look(look, || format!("metadata of {}", self.path().display())).await
    }
}
