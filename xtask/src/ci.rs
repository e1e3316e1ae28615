//! `cargo xtask ci`: all that must pass before a change goes in, cheapest first.

use crate::{
    Outcome, deps, documents, fuzz, instructions, model, process, simulate, suites, test, time, workspace,
};

struct Step {
    heading: &'static str,
    run: fn() -> Outcome,
}

const STEPS: &[Step] = &[
    Step {
        heading: "format",
        run: || {
            ["", "fuzz", "rfs-model", "benches/race"].iter().try_for_each(|directory| {
                let directory = workspace::root().join(directory);
                process::run(workspace::cargo().current_dir(directory).args(["fmt", "--all", "--check"]))
            })
        },
    },
    Step {
        heading: "clippy",
        run: || {
            let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
            process::run(workspace::cargo().args(arguments))
        },
    },
    Step {
        heading: "docs",
        run: || {
            let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
            process::run(workspace::cargo().args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    Step { heading: "deps", run: || deps::run(&[]) },
    Step { heading: "documents", run: || documents::run(&[]) },
    Step { heading: "model of the commit protocol", run: model::run_python },
    Step { heading: "test", run: || test::run(&[]) },
    Step { heading: "instructions of operations", run: || instructions::run(&[]) },
    Step { heading: "simulator, 500 seeds", run: simulate::run_few },
    Step { heading: "foreign suites, the quick ones", run: suites::run_quick },
    Step { heading: "fuzzing, 10 seconds a target", run: fuzz::run_few },
];

/// Runs the steps and stops at the first that fails.
pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("takes no arguments, not {arguments:?}"));
    }
    let start = time::now();
    for (index, step) in STEPS.iter().enumerate() {
        println!("==> {}/{} {}", index + 1, STEPS.len(), step.heading);
        let step_start = time::now();
        let outcome = (step.run)();
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("<== {} {verdict} after {:.1} s", step.heading, step_start.elapsed().as_secs_f64());
        outcome.map_err(|error| format!("{}: {error}", step.heading))?;
    }
    println!("all {} steps passed in {:.1} s", STEPS.len(), start.elapsed().as_secs_f64());
    Ok(())
}
