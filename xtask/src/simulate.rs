//! `cargo xtask simulate`: many seeds of the simulator, in the profile in which the tests are built.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[--seeds N] [--from S] [--jobs J] [--twice]";

/// How many seeds continuous integration simulates.
const OF_CI: &[&str] = &["--seeds", "500"];

/// Those it runs twice: the same seed has to be the same run, or no failure can be replayed.
const TWICE_OF_CI: &[&str] = &["--seeds", "40", "--from", "1000", "--twice"];

/// Simulates, prints what was met, and for the first seed that fails what happened and how to replay it.
pub fn run(arguments: &[String]) -> Outcome {
    process::run(simulator(&workspace::root()).args(arguments))
}

/// The seeds of continuous integration.
pub fn run_few() -> Outcome {
    process::run(simulator(&workspace::root()).args(OF_CI))?;
    process::run(simulator(&workspace::root()).args(TWICE_OF_CI))
}

/// The simulator of the workspace at `root`, built there; arguments are the simulator's.
pub(crate) fn simulator(root: &Path) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(root);
    // Optimised it takes longer to build than most runs take.
    command.args([
        "bench",
        "--quiet",
        "--locked",
        "--profile",
        "dev",
        "-p",
        "rfs",
        "--bench",
        "simulate",
        "--",
    ]);
    command
}
