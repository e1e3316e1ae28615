//! `cargo xtask race`: rfs beside its peers and the physical limits, in turns on one machine.
//!
//! The contestants are in `benches/race`, a crate of its own: see there what each does. A round is one run of each, each
//! in a process of its own; what is compared is what was measured in the same round.

mod report;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::servers::{self, SEAWEEDFS};
use crate::{Outcome, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[WORKLOAD...] [--runs N] [--divisor N] [--no-peers] [--no-server] [--json FILE]";

/// The crates that are raced against, each a feature.
const PEERS: &str = "okaywal,raft-engine,slatedb";
/// Fewer runs say little about a machine that does other things, too.
const RUNS: usize = 7;

/// Races, prints a table and a verdict on each target, and keeps all as JSON.
pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let program = build(options.peers)?;
    let listed = process::capture(Command::new(&program).arg("list"))?;
    let listed = String::from_utf8_lossy(&listed);
    let mut workloads = Vec::new();
    for line in listed.lines() {
        let workload: Value = serde_json::from_str(line).map_err(|error| format!("{line:?}: {error}"))?;
        workloads.push(workload);
    }
    let known: Vec<&str> = workloads.iter().filter_map(|workload| workload["name"].as_str()).collect();
    if let Some(unknown) = options.names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no workload {unknown:?}; there are {}", known.join(", ")));
    }
    workloads.retain(|workload| {
        options.names.is_empty() || options.names.iter().any(|name| workload["name"] == name.as_str())
    });
    let directory = workspace::task_directory();
    let server = if options.server { Some(SEAWEEDFS.start(&directory, None)?) } else { None };
    let environment = server.as_ref().map(servers::Running::test_environment).unwrap_or_default();
    let place = directory.join("race");
    std::fs::create_dir_all(&place).map_err(|error| format!("cannot create {}: {error}", place.display()))?;

    let mut raced = Vec::new();
    for workload in workloads {
        let name = workload["name"].as_str().unwrap_or_default().to_owned();
        let contestants = workload["contestants"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> =
            contestants.iter().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect();
        let mut rounds: Vec<Vec<Value>> = Vec::new();
        for round in 0..options.runs {
            eprintln!("{name}, round {} of {}", round + 1, options.runs);
            let mut scores = vec![Value::Null; names.len()];
            // Each begins in turn: what the one before left behind in caches hits all alike.
            for turn in 0..names.len() {
                let one = (round + turn) % names.len();
                let mut command = Command::new(&program);
                command.args(["run", &name, &names[one], "--dir"]).arg(&place);
                command.args(["--divisor", &options.divisor.to_string()]);
                command.env_remove("AWS_CA_BUNDLE").envs(environment.iter().cloned());
                let said = process::capture(&mut command)?;
                let said = String::from_utf8_lossy(&said);
                scores[one] = serde_json::from_str(said.trim())
                    .map_err(|error| format!("{name}, {}: {said:?}: {error}", names[one]))?;
            }
            rounds.push(scores);
        }
        let result = report::Raced { workload, rounds };
        print!("{}", result.table());
        raced.push(result);
    }
    if let Some(server) = server {
        server.stop()?;
    }
    let machine = report::machine();
    println!("{machine}");
    let json = serde_json::json!({
        "machine": machine,
        "raced": raced.iter().map(report::Raced::json).collect::<Vec<_>>(),
    });
    let file = options.json.unwrap_or_else(|| place.join("race.json"));
    std::fs::write(&file, json.to_string())
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("all runs: {}", file.display());
    let missed: Vec<String> = raced.iter().flat_map(report::Raced::missed).collect();
    if missed.is_empty() {
        println!("all targets are met");
        Ok(())
    } else {
        Err(format!("targets that are not met:\n  {}", missed.join("\n  ")))
    }
}

struct Options {
    names: Vec<String>,
    runs: usize,
    divisor: usize,
    peers: bool,
    server: bool,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options =
            Self { names: Vec::new(), runs: RUNS, divisor: 1, peers: true, server: true, json: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} takes a value"));
            let number = |text: &String| match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{argument} takes a number from 1 on, not {text:?}")),
            };
            match argument.as_str() {
                "--runs" => options.runs = number(value()?)?,
                "--divisor" => options.divisor = number(value()?)?,
                "--json" => options.json = Some(PathBuf::from(value()?)),
                "--no-peers" => options.peers = false,
                "--no-server" => options.server = false,
                flag if flag.starts_with('-') => return Err(format!("takes {USAGE}, not {flag}")),
                name => options.names.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Builds the contestants; their crate has a target directory, and a lock file, of its own.
fn build(peers: bool) -> Result<PathBuf, String> {
    let target = workspace::task_directory().parent().map(|target| target.join("race"));
    let target = target.ok_or("the directory of the tasks has no parent")?;
    let mut build = workspace::cargo();
    build.current_dir(workspace::root().join("benches/race")).env("CARGO_TARGET_DIR", &target);
    build.args(["build", "--quiet", "--release", "--locked"]);
    if peers {
        build.args(["--features", PEERS]);
    }
    process::run(&mut build)?;
    Ok(target.join("release/rfs-race"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_wrong_are_refused() {
        let parse =
            |words: &[&str]| Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let options = parse(&["append", "--runs", "3", "--no-server", "rename"]).unwrap();
        assert_eq!((options.names.len(), options.runs, options.server), (2, 3, false));
        for wrong in [&["--runs"][..], &["--runs", "0"], &["--divisor", "x"], &["--what"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
