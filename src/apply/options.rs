//! What is asked when a host directory is brought to another state, and what is answered.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::restore::Unrestored;

/// How a host directory is brought from one state to another.
#[derive(Clone, Default)]
#[must_use]
pub struct ApplyOptions {
    pub(super) trust_times: bool,
    pub(super) progress: Option<Arc<dyn Fn(ApplyProgress) + Send + Sync>>,
}

impl fmt::Debug for ApplyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyOptions").field("trust_times", &self.trust_times).finish_non_exhaustive()
    }
}

impl ApplyOptions {
    /// All that is touched is compared byte by byte before.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a file that has the size and the time of modification of the first state is taken to have its content,
    /// without reading either. Default: no.
    pub fn with_trust_times(mut self, trust_times: bool) -> Self {
        self.trust_times = trust_times;
        self
    }

    /// Is told of each step before it is done, and must not wait.
    pub fn with_progress(mut self, progress: impl Fn(ApplyProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyProgress {
    /// Inodes that were seen to be as in the first state. All are, before anything is changed.
    pub verified: u64,
    /// Steps that were done on the host.
    pub steps: u64,
    /// Bytes of content that were written.
    pub bytes: u64,
}

/// What was done to a host directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it says what the host refused"]
#[non_exhaustive]
pub struct Applied {
    /// Inodes that were made. All these numbers are of the difference, whichever of several runs did it.
    pub created: u64,
    /// Inodes that were removed.
    pub removed: u64,
    /// Inodes whose names, content or attributes were changed.
    pub changed: u64,
    /// Bytes of content that were written now.
    pub bytes: u64,
    /// Whether owner and group of what was touched are those of the volume. Who is not root cannot give files away.
    pub owners: bool,
    /// What the host refused and this caller cannot change: devices and attributes.
    pub refused: Vec<Unrestored>,
    /// How many of these are not listed, since there are too many.
    pub unlisted: u64,
}

/// Why a host directory was not brought to another state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It does not stand at the first state: the first hundred places where it does not. Nothing was changed.
    #[error("the directory is not as in the first state: {}", shown(.0))]
    NotThere(Vec<Misfit>),
    /// Something failed on the way. Once that is mended the same call goes on.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A place where a host directory is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The path in the volume.
    pub path: PathBuf,
    /// What is there instead.
    pub why: String,
}

fn shown(misfits: &[Misfit]) -> String {
    match misfits {
        [] => String::new(),
        [first] => format!("{} {}", first.path.display(), first.why),
        [first, rest @ ..] => {
            format!("{} {}, and {} more", first.path.display(), first.why, rest.len())
        }
    }
}
