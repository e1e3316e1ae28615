//! The local disk, as the journal needs it: a flat directory of files.
//!
//! A trait, so that a simulator can stand in and lose what was not synced. [`RealDisk`] is the one for use.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

/// A directory of files. Names may have one `/`, for a subdirectory that is made when it is missing.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file for reading and writing, making it when `create` and it is missing.
    ///
    /// # Errors
    /// As the file system's, e.g. `NotFound`.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// The names of the files, in no order, those of subdirectories not among them.
    ///
    /// # Errors
    /// As the file system's.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Renames a file. It is certain only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As the file system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. It is certain only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As the file system's.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes every file made, renamed or removed so far certain.
    ///
    /// # Errors
    /// As the file system's.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A file of a [`Disk`].
#[expect(clippy::len_without_is_empty, reason = "a length is asked of the system, and may fail")]
pub trait DiskFile: Debug + Send + Sync {
    /// Reads from `offset` until the buffer is full or the file ends; says how many bytes it read.
    ///
    /// # Errors
    /// As the file system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file when needed.
    ///
    /// # Errors
    /// As the file system's, e.g. `StorageFull`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written so far, and the file's length, survive a loss of power.
    ///
    /// # Errors
    /// As the file system's.
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    ///
    /// # Errors
    /// As the file system's.
    fn len(&self) -> io::Result<u64>;
}

/// A directory of the host's file system, held by an exclusive lock so that one process uses it at a time.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

impl RealDisk {
    /// Opens `dir`, making it when it is missing, and locks it.
    ///
    /// # Errors
    /// `WouldBlock` when another volume, in this process or another, uses the directory; otherwise as the file
    /// system's.
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        let dir = dir.as_ref().to_path_buf();
        let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).count();
        std::fs::create_dir_all(&dir)?;
        // Each directory that was made is an entry of the one above it.
        for made in dir.ancestors().take(missing) {
            let above = made.parent().filter(|above| !above.as_os_str().is_empty());
            File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        let options = OpenOptions::new().create(true).truncate(false).write(true).clone();
        let lock = options.open(dir.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { dir, _lock: lock })
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let options = OpenOptions::new().read(true).write(true).create(create).truncate(false).clone();
        Ok(Arc::new(RealFile(options.open(self.dir.join(name))?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.dir.join(to);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::rename(self.dir.join(from), &to)?;
        match to.parent() {
            Some(parent) if parent != self.dir => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_serves_one_volume_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path().join("a/b")).unwrap();
        let second = RealDisk::open(dir.path().join("a/b")).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::WouldBlock);
        drop(disk);
        RealDisk::open(dir.path().join("a/b")).unwrap();
    }

    #[test]
    fn files_are_written_read_moved_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let file = disk.open("x", true).unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        file.sync_data().unwrap();
        let mut buffer = [9; 10];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer[..8], b"\0\0\0hello");
        disk.rename("x", "aside/y").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), ["lock"]);
        assert_eq!(disk.open("x", false).unwrap_err().kind(), ErrorKind::NotFound);
        disk.remove("aside/y").unwrap();
    }
}
