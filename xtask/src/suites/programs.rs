//! Everyday programs on the mount, each judged by its own means.

mod build;
mod copies;
mod git;
mod manifest;
mod sqlite;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::bench::{self, Bench};
use super::cases::Verdict;
use super::ground::Ground;
use super::tools::{self, Need};
use crate::{Outcome, workspace};

pub(super) const NEEDS: &[Need] = &[tools::system(&[
    ("git", "git"),
    ("tar", "tar"),
    ("rsync", "rsync"),
    ("setfacl", "acl"),
    ("setfattr", "attr"),
    ("python3", "python3"),
])];

const LIMIT: Duration = Duration::from_mins(5);

/// What a program is given: a directory of the volume, and one of the machine.
struct Job<'b> {
    bench: &'b Bench,
    name: &'static str,
    on_volume: PathBuf,
    beside: PathBuf,
}

impl Job<'_> {
    /// Runs a step; it has to succeed. Its output goes to the log `NAME.STEP.log`.
    fn step(&self, step: &str, command: &mut Command) -> Outcome {
        let log = self.log(step);
        bench::run_to_success(command, &log, LIMIT).map_err(|error| format!("{step}: {error}"))
    }

    fn log(&self, step: &str) -> PathBuf {
        self.bench.log(&format!("{}.{}.log", self.name, step.replace(' ', "-")))
    }
}

/// A program's name, and how to run it.
type Program = (&'static str, fn(&Job<'_>) -> Outcome);

const PROGRAMS: &[Program] =
    &[("git", git::run), ("untar", copies::untar), ("rsync", copies::rsync), ("cargo-build", build::run)];

/// Runs each program in a directory of its own, then sees that the volume has all of it after it was opened again.
pub(super) fn run(bench: &Bench) -> Outcome {
    let ground = bench.ground();
    let mut site = ground.enter()?;
    for (name, run) in PROGRAMS.iter().filter(|(name, _)| bench.options.wants(name)) {
        let outcome = job(bench, name, site.directory()).and_then(|job| run(&job));
        bench.add_outcome(name, outcome)?;
    }
    if bench.ground_lasts() {
        let before = manifest::of(site.directory());
        let left = site.leave();
        bench.require("unmounting", left)?;
        site = ground.enter()?;
        let after = manifest::of(site.directory());
        let same = before.and_then(|before| manifest::compare(&before, &after?));
        bench.add_outcome("all of it after reopening", same)?;
    }
    let left = site.leave();
    bench.require("unmounting at the end", left)?;
    run_sqlite(bench, &ground)
}

fn run_sqlite(bench: &Bench, ground: &Ground) -> Outcome {
    for mode in sqlite::MODES {
        let name = format!("sqlite-{}", mode.name);
        if !bench.options.wants(&name) {
            continue;
        }
        if ground.is_volume() && bench.ground_lasts() {
            let outcome = sqlite::run(bench, ground, mode);
            bench.add_outcome(&name, outcome)?;
        } else {
            let reason = "takes a mount that can be killed, and a store that outlives it";
            bench.add(&name, &Verdict::Skipped(reason.to_owned()))?;
        }
    }
    Ok(())
}

fn job<'b>(bench: &'b Bench, name: &'static str, volume: &Path) -> Result<Job<'b>, String> {
    let job = Job { bench, name, on_volume: volume.join(name), beside: bench.beside(name) };
    for directory in [&job.on_volume, &job.beside] {
        std::fs::create_dir(directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    }
    Ok(job)
}

/// A script of the project.
fn script(name: &str) -> PathBuf {
    workspace::root().join("suites").join(name)
}
