//! `cargo xtask mutate`: breaks rfs on purpose, and sees that the simulator finds out.
//!
//! Each mutation is a patch in `xtask/mutations`. The tracked files are copied below `target`, the patch is applied there,
//! and the simulator is built and run until a seed fails. One that no seed catches is an error, and so is a patch that does
//! not apply any more: it has to follow the code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, process, simulate, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[--seeds N] [--from S] [NAME...]";

/// What each mutation came to.
struct Verdict {
    name: String,
    /// What the simulator said: the seed, and why.
    caught: Option<(u64, String)>,
}

/// Runs the mutations that are named, or all of them, and prints a table.
pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let patches = patches(&options.names)?;
    let copy = workspace::task_directory().join("mutant");
    let mut verdicts = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        eprintln!("{name}");
        copy_tracked(&copy)?;
        let mut apply = Command::new("git");
        apply.current_dir(&copy).args(["apply", "--whitespace=nowarn"]).arg(patch);
        // Below the project's own directory git would take itself to be in it, and apply nothing.
        apply.env("GIT_CEILING_DIRECTORIES", copy.parent().unwrap_or(&copy));
        process::capture(&mut apply)?;
        verdicts.push(Verdict { caught: judge(&copy, &options)?, name });
    }
    copy_tracked(&copy)?;
    println!("{}", table(&verdicts));
    let missed = verdicts.iter().filter(|verdict| verdict.caught.is_none());
    let missed: Vec<&str> = missed.map(|verdict| verdict.name.as_str()).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught: {}", missed.join(", "))) }
}

struct Options {
    seeds: u64,
    from: u64,
    names: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { seeds: 1_000, from: 0, names: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let field = match argument.as_str() {
                "--seeds" => &mut options.seeds,
                "--from" => &mut options.from,
                flag if flag.starts_with('-') => return Err(format!("takes {USAGE}, not {flag}")),
                name => {
                    options.names.push(name.to_owned());
                    continue;
                }
            };
            let value = rest.next().ok_or_else(|| format!("{argument} takes a number"))?;
            *field = value.parse().map_err(|_| format!("{argument} takes a number, not {value:?}"))?;
        }
        Ok(options)
    }
}

/// The patches of these names, or all of them, in order.
fn patches(names: &[String]) -> Result<Vec<PathBuf>, String> {
    let directory = workspace::root().join("xtask/mutations");
    if !names.is_empty() {
        let paths = names.iter().map(|name| directory.join(format!("{name}.patch")));
        return paths
            .map(
                |path| if path.is_file() { Ok(path) } else { Err(format!("there is no {}", path.display())) },
            )
            .collect();
    }
    let failed = |error| format!("reading {}: {error}", directory.display());
    let entries = fs::read_dir(&directory).map_err(failed)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() { Err(format!("there is no patch in {}", directory.display())) } else { Ok(paths) }
}

/// Makes the copy hold what is tracked, as it is in the working tree. What is the same already is left alone, so that
/// only what a mutation touches is built anew.
fn copy_tracked(copy: &Path) -> Outcome {
    let root = workspace::root();
    let listed = process::capture(Command::new("git").current_dir(&root).args(["ls-files", "-z"]))?;
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let (from, to) = (root.join(&name), copy.join(&name));
        let failed = |error| format!("copying {name} to {}: {error}", copy.display());
        // Deleted, and not yet committed as such.
        let Ok(content) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&to, content).map_err(failed)?;
    }
    Ok(())
}

/// Builds the mutant, which must work, and simulates until a seed fails.
fn judge(copy: &Path, options: &Options) -> Result<Option<(u64, String)>, String> {
    // Not the workspace's: cargo would take crates of the mutant for those of the same name there.
    let target = workspace::task_directory().join("mutant-target");
    let simulator = || {
        let mut simulator = simulate::simulator(copy);
        simulator.env("CARGO_TARGET_DIR", &target);
        simulator
    };
    // None at all: what fails here does not build.
    process::capture(simulator().args(["--seeds", "0"]))?;
    let (seeds, from) = (options.seeds.to_string(), options.from.to_string());
    let mut command = simulator();
    command.args(["--seeds", &seeds, "--from", &from, "--jobs", "1"]).stdin(Stdio::null());
    let line = process::command_line(&command);
    let output = command.output().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match verdict(&said) {
        Some(verdict) => Ok(Some(verdict)),
        None => Err(format!("`{line}` failed, and names no seed: {said}")),
    }
}

/// What the simulator says of the seed that failed.
fn verdict(said: &str) -> Option<(u64, String)> {
    said.lines().rev().find_map(|line| {
        let (seed, why) = line.strip_prefix("seed ")?.split_once(": ")?;
        Some((seed.parse().ok()?, why.to_owned()))
    })
}

fn table(verdicts: &[Verdict]) -> String {
    const MOST: usize = 110;
    let width = verdicts.iter().map(|verdict| verdict.name.len()).max().unwrap_or_default();
    let line = |verdict: &Verdict| match &verdict.caught {
        Some((seed, why)) => {
            let why: String = why.chars().take(MOST).collect();
            format!("{:<width$}  caught by seed {seed:>4}  {why}\n", verdict.name)
        }
        None => format!("{:<width$}  NOT CAUGHT\n", verdict.name),
    };
    verdicts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_applies() {
        let applies = |patch: &PathBuf| {
            let mut apply = Command::new("git");
            apply.current_dir(workspace::root()).args(["apply", "--check", "--whitespace=nowarn"]).arg(patch);
            process::capture(&mut apply).is_ok()
        };
        let stale: Vec<PathBuf> = patches(&[]).unwrap().into_iter().filter(|patch| !applies(patch)).collect();
        assert!(stale.is_empty(), "they have to follow the code: {stale:?}");
    }

    #[test]
    fn the_seed_is_found_in_what_the_simulator_says() {
        let said = "thread panicked\n  1.0 a put\nseed 17: it is lost\nfound: nothing\nreplay it: ...\n";
        assert_eq!(verdict(said), Some((17, "it is lost".to_owned())));
        assert_eq!(verdict("error: it does not build"), None);
    }

    #[test]
    fn every_mutation_is_said_to_be_caught_or_not() {
        let caught = Verdict { name: "one".to_owned(), caught: Some((3, "lost".to_owned())) };
        let missed = Verdict { name: "another".to_owned(), caught: None };
        assert_eq!(table(&[caught, missed]), "one      caught by seed    3  lost\nanother  NOT CAUGHT\n");
    }
}
