//! `cargo xtask race`: rfs beside its peers and the physical limits, in turns on one machine.
//!
//! The contestants are in `benches/race`, a crate of its own: see there what each does. A round is one run of each, each
//! in a process of its own; what is compared is what was measured in the same round.

mod mounts;
mod report;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use self::report::Raced;
use crate::servers::{self, SEAWEEDFS};
use crate::{Outcome, generated, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[WORKLOAD...] [--runs N] [--divisor N] [--no-peers] [--no-server] [--json FILE] \
                         [--again] [--document]";

/// The crates that are raced against, each a feature.
const PEERS: &str = "okaywal,raft-engine,slatedb,walrus,fjall,redb,sqlite";
/// Fewer runs say little about a machine that does other things, too.
const RUNS: usize = 7;

/// Races, prints a table and a verdict on each target, and keeps all as JSON.
pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let file = options.json.clone().unwrap_or_else(|| workspace::task_directory().join("race/race.json"));
    let cannot =
        |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} {}: {error}", file.display());
    let json: Value = if options.figures == Figures::AsBefore {
        let text = std::fs::read_to_string(&file).map_err(|error| cannot("read", &error))?;
        serde_json::from_str(&text).map_err(|error| cannot("read", &error))?
    } else {
        let mut before = std::fs::read_to_string(&file).ok().filter(|_| !options.names.is_empty());
        // Each workload is kept as soon as it was raced: what comes later may take long, or fail.
        race(&options, |raced| {
            let json = with_others(&raced, before.take());
            std::fs::write(&file, &json).map_err(|error| cannot("write", &error))?;
            before = Some(json);
            Ok(())
        })?;
        serde_json::from_str(&before.unwrap_or_default()).map_err(|error| cannot("read", &error))?
    };
    let raced: Vec<Raced> = json["raced"].as_array().into_iter().flatten().map(Raced::from_json).collect();
    if options.figures == Figures::AsBefore {
        for raced in &raced {
            print!("{}", raced.table());
        }
    }
    let machine = json["machine"].as_str().unwrap_or_default();
    println!("{machine}\nall runs: {}", file.display());
    if options.document {
        let figures = report::figures(machine, &raced);
        generated::put_figures("docs/performance.md", "cargo xtask race --document", &figures)?;
    }
    let missed: Vec<String> = raced.iter().flat_map(Raced::missed).collect();
    if missed.is_empty() {
        println!("all targets are met");
        Ok(())
    } else {
        Err(format!("targets that are not met:\n  {}", missed.join("\n  ")))
    }
}

/// Races the workloads that are asked for, and has each kept.
fn race(options: &Options, mut keep: impl FnMut(Value) -> Outcome) -> Outcome {
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
    let place = directory.join("race");
    std::fs::create_dir_all(&place).map_err(|error| format!("cannot create {}: {error}", place.display()))?;
    let server = if options.server { Some(SEAWEEDFS.start(&directory, None)?) } else { None };
    let mut environment =
        server.as_ref().map(|running| running.environment("RFS_RACE_S3")).unwrap_or_default();
    let mounts = |workload: &Value| workload["mounts"] == true;
    if workloads.iter().any(mounts) {
        match mounts::missing() {
            Some(why) => {
                eprintln!("nothing is raced that needs a mount: {why}");
                workloads.retain(|workload| !mounts(workload));
            }
            None => environment.extend(mounts::prepare(options.peers, server.as_ref())?),
        }
    }
    for workload in workloads {
        let mut rounds = Vec::new();
        for round in 0..options.runs {
            eprintln!("{}, round {} of {}", workload["name"], round + 1, options.runs);
            let of = workload.clone();
            let run = |workload: &str, contestant: &str| {
                let apart = mounts(&of);
                let mut command = if apart { mounts::apart(&program) } else { Command::new(&program) };
                command.args(["run", workload, contestant, "--dir"]).arg(&place);
                command.args(["--divisor", &options.divisor.to_string()]);
                command.env_remove("AWS_CA_BUNDLE").envs(environment.iter().cloned());
                // It tells all it does, where the score is to stand.
                command.env("WALRUS_QUIET", "1");
                // Nobody pays for what another one left to be written.
                process::run(&mut Command::new("sync"))?;
                let said = match process::capture(&mut command) {
                    // What hangs or breaks in a mount of others is theirs.
                    Err(error) if apart && !contestant.starts_with("rfs") => {
                        eprintln!("{error}");
                        return Ok(serde_json::json!({ "missing": "it did not get to its end" }));
                    }
                    said => said?,
                };
                let said = String::from_utf8_lossy(&said);
                serde_json::from_str(said.trim())
                    .map_err(|error| format!("{workload}, {contestant}: {said:?}: {error}"))
            };
            rounds.push(scores(&workload, round, run)?);
        }
        let result = Raced { workload, rounds };
        print!("{}", result.table());
        keep(result.json())?;
    }
    server.map_or(Ok(()), servers::Running::stop)
}

/// A file of what was raced, with this workload in the place of what it had of the same one.
fn with_others(raced: &Value, file: Option<String>) -> String {
    let before = file.and_then(|file| serde_json::from_str::<Value>(&file).ok());
    let mut all = before.map_or_else(Vec::new, |mut before| match before["raced"].take() {
        Value::Array(all) => all,
        _ => Vec::new(),
    });
    match all.iter_mut().find(|other| other["workload"]["name"] == raced["workload"]["name"]) {
        Some(other) => *other = raced.clone(),
        None => all.push(raced.clone()),
    }
    serde_json::json!({ "machine": report::machine(), "raced": all }).to_string()
}

/// One run of each contestant. Each is the first one in turn: what the one before left behind in caches hits all alike.
fn scores(
    workload: &Value,
    round: usize,
    run: impl Fn(&str, &str) -> Result<Value, String>,
) -> Result<Vec<Value>, String> {
    let name = workload["name"].as_str().unwrap_or_default();
    let contestants = workload["contestants"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut scores = vec![Value::Null; contestants.len()];
    for turn in 0..contestants.len() {
        let one = (round + turn) % contestants.len();
        scores[one] = run(name, contestants[one]["name"].as_str().unwrap_or_default())?;
    }
    Ok(scores)
}

/// Which figures are told.
#[derive(PartialEq, Eq)]
enum Figures {
    /// Those of a race now.
    New,
    /// Those that were found before.
    AsBefore,
}

struct Options {
    names: Vec<String>,
    runs: usize,
    divisor: usize,
    peers: bool,
    server: bool,
    json: Option<PathBuf>,
    figures: Figures,
    /// Put the figures into the document.
    document: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            names: Vec::new(),
            runs: RUNS,
            divisor: 1,
            peers: true,
            server: true,
            json: None,
            figures: Figures::New,
            document: false,
        };
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
                "--again" => options.figures = Figures::AsBefore,
                "--document" => options.document = true,
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

    #[test]
    fn what_is_raced_again_is_put_in_its_place() {
        let raced =
            |name: &str, rounds: u64| serde_json::json!({"workload": {"name": name}, "rounds": rounds});
        let mut file = None;
        for (name, rounds) in [("a", 1), ("b", 1), ("a", 2)] {
            file = Some(with_others(&raced(name, rounds), file));
        }
        let file: Value = serde_json::from_str(&file.unwrap()).unwrap();
        assert_eq!(file["raced"], serde_json::json!([raced("a", 2), raced("b", 1)]));
        let again = with_others(&raced("a", 1), Some("no JSON".to_owned()));
        assert_eq!(
            serde_json::from_str::<Value>(&again).unwrap()["raced"],
            serde_json::json!([raced("a", 1)])
        );
    }
}
