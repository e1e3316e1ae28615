//! What a suite has at hand inside the sandbox: where to run, where to log, where to put its verdicts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::cases::{self, Cases, Verdict};
use super::ground::{Ground, Place};
use super::options::{Options, Store};
use super::{sandbox, tools};
use crate::{Outcome, process, time};

/// How often a volume commits by itself when the suite does not ask for anything else.
const COMMIT_INTERVAL: &str = "10s";

pub(super) struct Bench {
    pub(super) options: Options,
    store: Store,
    directory: PathBuf,
    scratch: PathBuf,
    cases: Cases,
}

impl Bench {
    pub(super) fn new(
        options: &Options,
        store: Store,
        directory: &Path,
        scratch: &Path,
    ) -> Result<Self, String> {
        let cases = Cases::create(&directory.join(cases::FILE))?;
        Ok(Self {
            options: options.clone(),
            store,
            directory: directory.to_owned(),
            scratch: scratch.to_owned(),
            cases,
        })
    }

    /// A fresh volume, or the plain directory that was asked for.
    pub(super) fn ground(&self) -> Ground {
        self.ground_with_commits_every(COMMIT_INTERVAL)
    }

    /// As [`Bench::ground`]; the volume commits at this interval.
    pub(super) fn ground_with_commits_every(&self, commit_interval: &'static str) -> Ground {
        let place = match &self.options.on {
            Some(directory) => Place::Directory(directory.clone()),
            None => {
                let rfs = self.options.rfs.clone().unwrap_or_else(tools::built_rfs);
                Place::Volume { rfs, store: self.store, commit_interval }
            }
        };
        Ground::new(place, &self.scratch, &self.directory)
    }

    /// Whether the ground is there, with what is in it, after it was left and entered again.
    pub(super) fn ground_lasts(&self) -> bool {
        self.options.on.is_some() || self.store == Store::File
    }

    /// A path for files beside the ground, on the machine's own file system.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn add(&self, name: &str, verdict: &Verdict) -> Outcome {
        println!("{name}: {verdict:?}");
        self.cases.add(name, verdict)
    }

    /// Adds a case that passed, or failed with the reason.
    pub(super) fn add_outcome(&self, name: &str, outcome: Outcome) -> Outcome {
        self.add(name, &outcome.map_or_else(Verdict::Failed, |()| Verdict::Passed))
    }

    /// Adds a case if it failed: what is no case of the suite, and has to succeed all the same.
    pub(super) fn require(&self, name: &str, outcome: Outcome) -> Outcome {
        outcome.or_else(|reason| self.add(name, &Verdict::Failed(reason)))
    }
}

/// How a program that was run with a limit ended.
pub(super) enum Ending {
    Exited(i32),
    Signalled,
    OutOfTime,
}

/// Runs a program with its output in `log`; its time is limited, and it is killed when that is over.
pub(super) fn run_limited(command: &mut Command, log: &Path, limit: Duration) -> Result<Ending, String> {
    let line = process::command_line(command);
    let open = || File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
    let (output, errors) = open().map_err(|error| format!("cannot create {}: {error}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let ended =
        time::poll(limit, || child.try_wait().map_err(|error| format!("waiting for `{line}`: {error}")))?;
    Ok(match ended {
        Some(status) => status.code().map_or(Ending::Signalled, Ending::Exited),
        None => {
            child
                .kill()
                .and_then(|()| child.wait())
                .map_err(|error| format!("stopping `{line}`: {error}"))?;
            Ending::OutOfTime
        }
    })
}

/// As [`run_limited`]; anything but success is an error with the end of the log.
pub(super) fn run_to_success(command: &mut Command, log: &Path, limit: Duration) -> Outcome {
    let line = process::command_line(command);
    match run_limited(command, log, limit)? {
        Ending::Exited(0) => Ok(()),
        Ending::Exited(code) => Err(format!("`{line}` ended with {code}: {}", sandbox::excerpt(log))),
        Ending::Signalled => Err(format!("`{line}` was ended by a signal: {}", sandbox::excerpt(log))),
        Ending::OutOfTime => {
            Err(format!("`{line}` was not done after {} s: {}", limit.as_secs(), sandbox::excerpt(log)))
        }
    }
}
