//! What is asked of a restore, and what it answers.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How a tree is restored.
#[derive(Clone)]
#[must_use]
pub struct RestoreOptions {
    pub(super) path: PathBuf,
    pub(super) name: Option<OsString>,
    pub(super) replace: bool,
    pub(super) parallel: usize,
    pub(super) progress: Option<Arc<dyn Fn(RestoreProgress) + Send + Sync>>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { path: PathBuf::from("/"), name: None, replace: false, parallel: 8, progress: None }
    }
}

impl fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreOptions")
            .field("path", &self.path)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

impl RestoreOptions {
    /// The whole tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only what this path names; a symlink at its end is not followed. The content of a directory goes into the host
    /// directory, anything else becomes one entry of it.
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// What that one entry is called. Default: as in the volume.
    pub fn with_name(mut self, name: impl Into<OsString>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether that one entry takes the place of one with its name. Default: no, it is refused.
    pub fn with_replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// How many files are restored at a time; each takes some 8 MiB. Default: 8.
    pub fn with_parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel.clamp(1, 256);
        self
    }

    /// Is told of each step, and must not wait. What there is to do altogether is counted before.
    pub fn with_progress(mut self, progress: impl Fn(RestoreProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Entries that are in their place: all but directories.
    pub entries: u64,
    /// How many there will be.
    pub total_entries: u64,
    /// Bytes of content, without holes, that are on the host.
    pub bytes: u64,
    /// How many there will be.
    pub total_bytes: u64,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it says what was not restored"]
#[non_exhaustive]
pub struct Restored {
    /// Directories.
    pub directories: u64,
    /// Names of all else.
    pub entries: u64,
    /// Of these, the ones that an earlier, unfinished restore had finished.
    pub kept: u64,
    /// Bytes of content that were read and written now.
    pub bytes: u64,
    /// Whether owner and group are those of the volume. Who is not root cannot give files away: then all is the caller's.
    pub owners: bool,
    /// What is not there. When its cause is mended the same restore goes on.
    pub missing: Vec<Unrestored>,
    /// What the host refused and this caller cannot change: devices and attributes.
    pub refused: Vec<Unrestored>,
    /// How many of both are not listed, since there are too many.
    pub unlisted: u64,
}

/// Something that was not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrestored {
    /// Its path in the volume.
    pub path: PathBuf,
    /// What, and why.
    pub why: String,
    /// Whether it is damaged in the store.
    pub damaged: bool,
}
