//! `cargo xtask model`: the models of the commit protocol.

use std::process::Command;

use crate::{Outcome, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[BOUND=N...] [without=SAFEGUARD]";

/// Runs the models as the tests do, or one size of `rfs-model` that the arguments give.
pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return process::run(cargo().args(["run", "--quiet", "--locked", "--"]).args(arguments));
    }
    run_python()?;
    process::run(cargo().args(["clippy", "--quiet", "--locked", "--all-targets", "--", "-D", "warnings"]))?;
    // One at a time: each takes as much memory as it has states.
    process::run(cargo().args(["test", "--quiet", "--locked", "--", "--test-threads=1"]))
}

/// The small model, which needs nothing to be built: CI runs it.
pub fn run_python() -> Outcome {
    process::run(Command::new("python3").arg(workspace::root().join("docs/model/fence.py")))
}

/// Cargo in the crate of the model, with a target directory apart from everybody else's, whose packages are others.
fn cargo() -> Command {
    let mut cargo = workspace::cargo();
    let task = workspace::task_directory();
    cargo.current_dir(workspace::root().join("rfs-model"));
    cargo.env("CARGO_TARGET_DIR", task.parent().unwrap_or(&task).join("model"));
    cargo
}
