//! What a check found.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use rfs_core::{CommitId, Lsn};
use rfs_journal::JournalError;

use crate::RecoveryError;

/// How a volume is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CheckOptions {
    pub(crate) deep: bool,
    pub(crate) findings: usize,
    pub(crate) paths: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { deep: false, findings: 1000, paths: 16 }
    }
}

impl CheckOptions {
    /// What says where the rest is: the commit log, images, footers. Content is not read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every byte of every object that is needed, content too.
    pub fn with_deep(mut self, deep: bool) -> Self {
        self.deep = deep;
        self
    }

    /// Of so many findings all is said (1000); further ones are counted.
    pub fn with_findings(mut self, most: usize) -> Self {
        self.findings = most;
        self
    }

    /// So many paths are named for each finding (16); further ones are counted.
    pub fn with_paths(mut self, most: usize) -> Self {
        self.paths = most;
        self
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// The volume.
    pub volume: u128,
    /// Whether content was read too.
    pub deep: bool,
    /// Commits and ends of epochs in the log.
    pub entries: u64,
    /// The states that were checked: the newest one and each checkpoint.
    pub states: Vec<CheckedState>,
    /// Objects that these states, or the protocol, need.
    pub objects: u64,
    /// Segments whose footers, or every byte, were verified.
    pub segments: u64,
    /// What was read from the store, in bytes.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more_findings: u64,
    /// Objects that neither the newest state nor a checkpoint needs, with their bytes. Garbage collection removes what
    /// is not kept for another reason.
    pub unreferenced: Vec<(String, u64)>,
}

/// A state that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedState {
    /// Which it is, in words, as findings name it.
    pub name: String,
    /// The checkpoint; none is the newest state, or one that is pinned for a fork.
    pub checkpoint: Option<String>,
    /// The commit.
    pub commit: CommitId,
    /// Its position.
    pub position: Lsn,
    /// Inodes of its tree.
    pub inodes: u64,
    /// Bytes that its files refer to.
    pub bytes: u64,
    /// Whether its tree is whole, so that only content can be wrong.
    pub opens: bool,
    /// Whether nothing is wrong with it.
    pub sound: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The object.
    pub key: String,
    /// What kind of thing it is.
    pub problem: Problem,
    /// What is wrong with it.
    pub what: String,
    /// The states that suffer; none if no state that is kept needs it.
    pub states: Vec<String>,
    /// Some of the paths that suffer.
    pub paths: Vec<Suffering>,
    /// How many more paths suffer, at least.
    pub more_paths: u64,
    /// What can be done.
    pub remedy: &'static str,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// The object is not there.
    Missing,
    /// It is not what was written.
    Damaged,
    /// A later version of rfs wrote it.
    UnknownFormat,
    /// It is what was written, and what it says does not fit the rest.
    Unsound,
}

/// A path that suffers from what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suffering {
    /// The path, in the first of the states that suffer.
    pub path: PathBuf,
    /// Which of the file's bytes cannot be read; empty if it is not about content.
    pub ranges: Vec<Range<u64>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::UnknownFormat => "of a later format",
            Self::Unsound => "unsound",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.key, self.problem, self.what)?;
        if !self.states.is_empty() {
            write!(f, "; of {}", self.states.join(", "))?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Gathers findings: one for each thing that is wrong, however many states it is met in.
#[derive(Debug)]
pub(crate) struct Findings {
    options: CheckOptions,
    list: Vec<Finding>,
    known: HashMap<(String, String), usize>,
    more: u64,
}

/// A finding that was gathered; none when there were too many.
pub(crate) type Found = Option<usize>;

impl Findings {
    pub(crate) fn new(options: CheckOptions) -> Self {
        Self { options, list: Vec::new(), known: HashMap::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, key: &str, problem: Problem, what: &str, state: Option<&str>) -> Found {
        let known = (key.to_owned(), what.to_owned());
        let at = match self.known.get(&known) {
            Some(at) => *at,
            None if self.list.len() >= self.options.findings => {
                self.more += 1;
                return None;
            }
            None => {
                self.list.push(Finding {
                    key: key.to_owned(),
                    problem,
                    what: what.to_owned(),
                    states: Vec::new(),
                    paths: Vec::new(),
                    more_paths: 0,
                    remedy: remedy(problem),
                });
                self.known.insert(known, self.list.len() - 1);
                self.list.len() - 1
            }
        };
        let finding = &mut self.list[at];
        if let Some(state) = state
            && !finding.states.iter().any(|other| other == state)
        {
            finding.states.push(state.to_owned());
        }
        Some(at)
    }

    /// Adds what an error says; gives back one that is not about what is stored.
    pub(crate) fn error(
        &mut self,
        error: RecoveryError,
        fallback: &str,
        state: Option<&str>,
    ) -> Result<Found, RecoveryError> {
        let (key, problem, what) = told(error, fallback)?;
        Ok(self.add(&key, problem, &what, state))
    }

    /// Names a path that suffers; if there is no room for it, it is counted.
    pub(crate) fn suffers(&mut self, found: Found, path: PathBuf, ranges: Vec<Range<u64>>) {
        let Some(finding) = found.and_then(|at| self.list.get_mut(at)) else { return };
        if finding.paths.iter().any(|other| other.path == path) {
            return;
        }
        if finding.paths.len() < self.options.paths {
            finding.paths.push(Suffering { path, ranges });
        } else {
            finding.more_paths += 1;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len() + self.more as usize
    }

    pub(crate) fn concern(&self, state: &str) -> bool {
        self.list.iter().any(|finding| finding.states.iter().any(|other| other == state))
    }

    pub(crate) fn into_list(self) -> (Vec<Finding>, u64) {
        (self.list, self.more)
    }
}

/// What an error says of what is stored: which object, and what is wrong. Any other error is given back.
pub(crate) fn told(error: RecoveryError, fallback: &str) -> Result<(String, Problem, String), RecoveryError> {
    Ok(match error {
        RecoveryError::Missing { key, .. } => (key, Problem::Missing, "it is not there".to_owned()),
        RecoveryError::Damaged { key, what, .. } => (key, Problem::Damaged, what),
        RecoveryError::UnknownFormat { key, version, newest }
        | RecoveryError::Journal(JournalError::UnknownFormat { artefact: key, version, newest }) => {
            let what = format!("it has format version {version}, this rfs reads up to {newest}");
            (key, Problem::UnknownFormat, what)
        }
        RecoveryError::Journal(JournalError::Damaged { artefact, offset, what }) => {
            (artefact, Problem::Damaged, format!("at byte {offset}: {what}"))
        }
        RecoveryError::Diverged { what, .. } => (fallback.to_owned(), Problem::Unsound, what),
        RecoveryError::NoSuchState { what, .. } => (fallback.to_owned(), Problem::Missing, what),
        RecoveryError::Store(error)
            if matches!(
                error.kind(),
                rfs_backends::StoreErrorKind::Truncated | rfs_backends::StoreErrorKind::Damaged
            ) =>
        {
            (fallback.to_owned(), Problem::Damaged, "it is cut".to_owned())
        }
        error => return Err(error),
    })
}

const fn remedy(problem: Problem) -> &'static str {
    match problem {
        Problem::Missing | Problem::Damaged => {
            "restore the object from a copy, or run `rfs repair`, which restores what the journal holds"
        }
        Problem::UnknownFormat => "use a newer rfs",
        Problem::Unsound => "run `rfs repair`, which rebuilds it from the journal, and report it",
    }
}
