//! A small crate, built on the mount with incremental compilation, run, and built again.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Job;
use crate::{Outcome, process, workspace};

const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n"),
    (
        "build.rs",
        "fn main() {\n    let out = std::path::PathBuf::from(std::env::var(\"OUT_DIR\").unwrap());\n    \
         std::fs::write(out.join(\"answer.rs\"), \"41\").unwrap();\n    \
         println!(\"cargo::rerun-if-changed=build.rs\");\n}\n",
    ),
    (
        "src/lib.rs",
        "pub fn answer() -> u32 {\n    include!(concat!(env!(\"OUT_DIR\"), \"/answer.rs\")) + 1\n}\n",
    ),
    ("src/main.rs", "fn main() {\n    println!(\"{}\", small::answer());\n}\n"),
];

pub(super) fn run(job: &Job<'_>) -> Outcome {
    let directory = &job.on_volume;
    fs::create_dir(directory.join("src")).map_err(|error| format!("cannot create a directory: {error}"))?;
    for (name, text) in FILES {
        fs::write(directory.join(name), text).map_err(|error| format!("cannot write {name}: {error}"))?;
    }
    job.step("build", &mut cargo(directory))?;
    let said = process::capture(&mut Command::new(directory.join("target/debug/small")))?;
    if said != b"42\n" {
        return Err(format!("the built program says {:?}", String::from_utf8_lossy(&said)));
    }
    // Cargo goes by times: nothing has changed, so nothing is built.
    job.step("build again", &mut cargo(directory))?;
    let log = fs::read_to_string(job.log("build again"))
        .map_err(|error| format!("cannot read the log: {error}"))?;
    if log.contains("Compiling") {
        return Err(format!("it is built again though nothing has changed: {log}"));
    }
    Ok(())
}

fn cargo(directory: &Path) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(directory).args(["build", "--offline"]);
    // What cargo tells the task that it runs is not for another workspace.
    for variable in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "CARGO_BUILD_TARGET_DIR", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
}
