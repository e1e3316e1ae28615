//! Listings of directories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs_core::{At, Cookie, Ino, Permission};

use super::{Fs, path_bytes};
use crate::error::Result;
use crate::metadata::DirEntry;
use crate::volume::Handle;

/// Entries that one look at a directory takes.
const LISTED: usize = 128;

impl Fs {
    /// Lists a directory. An entry that is there all the time is seen exactly once, whatever comes and goes meanwhile.
    ///
    /// # Errors
    /// POSIX's.
    pub async fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        let path = path.as_ref();
        let doing = || format!("list {}", path.display());
        let at = At::root(path_bytes(path));
        let opened = self.shared().change(|live| {
            live.usable()?;
            let ino = live.tree.lookup(&self.credential, &at, self.follow)?;
            live.tree.read_dir(ino, Cookie(0), 0)?;
            live.tree.permits(&self.credential, ino, Permission::READ)?;
            live.hold(ino);
            Ok(ino)
        });
        let ino = opened.await.map_err(|refused| refused.doing(doing))?;
        let handle = Arc::clone(&self.handle);
        Ok(ReadDir { handle, path: path.to_path_buf(), ino, after: Cookie(0), page: Vec::new().into_iter() })
    }
}

/// A listing of a directory, from [`Fs::read_dir`].
#[derive(Debug)]
pub struct ReadDir {
    handle: Arc<Handle>,
    path: PathBuf,
    ino: Ino,
    after: Cookie,
    page: std::vec::IntoIter<rfs_core::DirEntry>,
}

impl ReadDir {
    /// The next entry, in no order; `.` and `..` are not among them.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub async fn next_entry(&mut self) -> Result<Option<DirEntry>> {
        if self.page.as_slice().is_empty() {
            let doing = || format!("list {}", self.path.display());
            let shared = &self.handle.shared;
            let page = shared.look(|live| live.tree.read_dir(self.ino, self.after, LISTED), doing).await?;
            self.page = page.into_iter();
            shared.note_access(shared.itself(), self.ino).await;
        }
        let Some(entry) = self.page.next() else { return Ok(None) };
        self.after = entry.cookie;
        Ok(Some(DirEntry::new(&self.handle, &self.path, entry)))
    }

    /// A position in the listing that stays valid: [`ReadDir::seek`] goes back to it.
    #[must_use]
    pub const fn cookie(&self) -> Cookie {
        self.after
    }

    /// Goes on after `cookie`; 0 is the start.
    pub fn seek(&mut self, cookie: Cookie) {
        self.after = cookie;
        self.page = Vec::new().into_iter();
    }
}

impl Drop for ReadDir {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        shared.let_go(shared.itself(), self.ino, None);
    }
}
