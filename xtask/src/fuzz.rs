//! `cargo xtask fuzz`: builds the fuzz targets, runs each for a while, and prints how far it came.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, process, time, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[TARGET...] [--seconds N] [--quick] [--replay FILE] [--seed-corpus]";

/// The platform is named so that build scripts and macros, which run here, are built without the flags.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// What makes the stable compiler instrument for libFuzzer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// One input that takes longer is a finding.
const INPUT_SECONDS: u32 = 20;
/// A target that takes more memory has found something.
const MEMORY_MIB: u32 = 2048;

/// Runs the targets, or, with `--replay`, one input of one target.
pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let known = targets()?;
    if let Some(name) = options.names.iter().find(|name| !known.contains(name)) {
        return Err(format!("there is no target {name:?}; there are {}", known.join(", ")));
    }
    if options.seed_corpus {
        build(&["seeds".to_owned()], false)?;
        return process::run(&mut Command::new(program("seeds")));
    }
    let names = if options.names.is_empty() { known } else { options.names };
    build(&names, options.quick)?;
    if let Some(input) = options.replay {
        let [name] = names.as_slice() else { return Err("--replay takes the name of one target".to_owned()) };
        return process::run(Command::new(program(name)).arg(input));
    }
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = Vec::new();
    for names in names.chunks(at_once) {
        println!("fuzzing {} for {} s", names.join(", "), options.seconds);
        let fuzzed = std::thread::scope(|scope| {
            let runs: Vec<_> = names.iter().map(|name| scope.spawn(|| fuzz(name, options.seconds))).collect();
            let ended = runs.into_iter().map(|run| run.join().map_err(|_| "a run panicked".to_owned())?);
            ended.collect::<Result<Vec<Row>, String>>()
        });
        rows.extend(fuzzed?);
    }
    print!("{}", table(&rows));
    let found: Vec<String> = rows.iter().flat_map(Row::complaints).collect();
    if found.is_empty() { Ok(()) } else { Err(format!("{} findings\n  {}", found.len(), found.join("\n  "))) }
}

/// Runs each target for a moment, for continuous integration.
pub fn run_few() -> Outcome {
    run(&["--quick", "--seconds", "10"].map(str::to_owned))
}

struct Options {
    names: Vec<String>,
    seconds: u64,
    replay: Option<PathBuf>,
    seed_corpus: bool,
    quick: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options =
            Self { names: Vec::new(), seconds: 60, replay: None, seed_corpus: false, quick: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} takes a value"));
            match argument.as_str() {
                "--seconds" => {
                    let text = value()?;
                    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
                    options.seconds =
                        seconds.ok_or_else(|| format!("--seconds takes a number from 1 on, not {text:?}"))?;
                }
                "--replay" => {
                    let input = std::path::absolute(value()?);
                    options.replay = Some(input.map_err(|error| format!("--replay: {error}"))?);
                }
                "--seed-corpus" => options.seed_corpus = true,
                "--quick" => options.quick = true,
                option if option.starts_with('-') => return Err(format!("takes {USAGE}, not {option}")),
                name => options.names.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

fn directory() -> PathBuf {
    workspace::root().join("fuzz")
}

/// The names of all targets: those of their programs.
fn targets() -> Result<Vec<String>, String> {
    let place = directory().join("targets");
    let entries =
        fs::read_dir(&place).map_err(|error| format!("cannot list {}: {error}", place.display()))?;
    let names = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        Some(name.to_str()?.strip_suffix(".rs")?.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Builds them; `quick` takes less long, and what is built is slower.
fn build(programs: &[String], quick: bool) -> Outcome {
    let mut build = workspace::cargo();
    build.current_dir(directory()).env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", target_directory());
    build.args(["build", "--release", "--locked", "--target", PLATFORM]);
    if quick {
        build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    }
    for program in programs {
        build.args(["--bin", program]);
    }
    process::run(&mut build).map_err(|error| format!("{error}; libFuzzer is C++ and needs g++"))
}

/// Apart from everybody else's, whose flags are others.
fn target_directory() -> PathBuf {
    let task = workspace::task_directory();
    task.parent().unwrap_or(&task).join("fuzz")
}

fn program(name: &str) -> PathBuf {
    target_directory().join(PLATFORM).join("release").join(name)
}

/// How a run of a target went.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    name: String,
    executions: u64,
    per_second: u64,
    coverage: u64,
    features: u64,
    /// Inputs that ended the run, or that were left by an earlier one.
    artifacts: Vec<PathBuf>,
    /// Why the run ended, when it was not the time.
    failed: Option<String>,
}

impl Row {
    fn complaints(&self) -> Vec<String> {
        let Self { name, artifacts, failed, .. } = self;
        let mut all: Vec<String> = artifacts
            .iter()
            .map(|input| format!("{name}: cargo xtask fuzz {name} --replay {}", input.display()))
            .collect();
        if let (true, Some(failed)) = (all.is_empty(), failed) {
            all.push(format!("{name}: {failed}"));
        }
        all
    }
}

/// Runs one target. What it learns goes on from what earlier runs learnt.
fn fuzz(name: &str, seconds: u64) -> Result<Row, String> {
    let place = workspace::task_directory().join("fuzz").join(name);
    let (corpus, artifacts, log) = (place.join("corpus"), place.join("artifacts"), place.join("log"));
    for made in [&corpus, &artifacts] {
        fs::create_dir_all(made).map_err(|error| format!("cannot make {}: {error}", made.display()))?;
    }
    let file = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let output = file.try_clone().map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let mut run = Command::new(program(name));
    run.arg(&corpus);
    let seeds = directory().join("corpus").join(name);
    if seeds.is_dir() {
        run.arg(seeds);
    }
    run.arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .stdout(output)
        .stderr(file);
    let start = time::now();
    let status = run.status().map_err(|error| format!("cannot start the target {name}: {error}"))?;
    let said = fs::read(&log).map_err(|error| format!("cannot read {}: {error}", log.display()))?;
    let mut row = read_log(name, &String::from_utf8_lossy(&said));
    if row.per_second == 0 {
        row.per_second = row.executions / start.elapsed().as_secs().max(1);
    }
    row.artifacts = listed(&artifacts)?;
    row.failed = (!status.success()).then(|| format!("{status}, see {}", log.display()));
    Ok(row)
}

fn listed(place: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(place).map_err(|error| format!("cannot list {}: {error}", place.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    Ok(paths)
}

/// What libFuzzer's log says of a run.
fn read_log(name: &str, log: &str) -> Row {
    let mut row = Row { name: name.to_owned(), ..Row::default() };
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|found| *found == word)?;
            words.get(at + 1)?.parse().ok()
        };
        row.executions = after("stat::number_of_executed_units:").unwrap_or(row.executions);
        row.per_second = after("stat::average_exec_per_sec:").unwrap_or(row.per_second);
        if line.starts_with('#') {
            row.coverage = after("cov:").unwrap_or(row.coverage);
            row.features = after("ft:").unwrap_or(row.features);
        }
    }
    row
}

fn table(rows: &[Row]) -> String {
    let heading = ["target", "executions", "a second", "cov", "features", "findings"].map(str::to_owned);
    let lines = rows.iter().map(|row| {
        let Row { name, executions, per_second, coverage, features, .. } = row;
        let numbers = [*executions, *per_second, *coverage, *features, row.complaints().len() as u64];
        let [executions, per_second, coverage, features, findings] = numbers.map(|number| number.to_string());
        [name.clone(), executions, per_second, coverage, features, findings]
    });
    let print = |[name, executions, per_second, coverage, features, findings]: [String; 6]| {
        format!("{name:<14} {executions:>12} {per_second:>10} {coverage:>8} {features:>9} {findings:>8}\n")
    };
    std::iter::once(heading).chain(lines).map(print).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_run_is_read() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 11 ft: 12 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            #500\tNEW    cov: 40 ft: 90 corp: 9/1Kb lim: 4096 exec/s: 250 rss: 31Mb L: 1/2\n\
            #900\tDONE   cov: 41 ft: 91 corp: 9/1Kb lim: 4096 exec/s: 300 rss: 31Mb\n\
            stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     300\n";
        let row = read_log("key", log);
        assert_eq!((row.executions, row.per_second, row.coverage, row.features), (900, 300, 41, 91));
        assert_eq!(row.complaints(), Vec::<String>::new());
    }

    #[test]
    fn a_run_that_failed_is_a_finding_also_without_an_input() {
        let failed =
            Row { name: "key".to_owned(), failed: Some("exit status: 77".to_owned()), ..Row::default() };
        assert_eq!(failed.complaints(), ["key: exit status: 77"]);
        let crashed = Row { artifacts: vec!["a/crash-1".into()], ..failed };
        assert_eq!(crashed.complaints(), ["key: cargo xtask fuzz key --replay a/crash-1"]);
    }

    #[test]
    fn arguments() {
        let parse =
            |words: &[&str]| Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let options = parse(&["key", "--seconds", "7", "url"]).unwrap();
        assert_eq!((options.names, options.seconds), (vec!["key".to_owned(), "url".to_owned()], 7));
        for wrong in [&["--seconds", "0"][..], &["--seconds"], &["--for", "7"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
