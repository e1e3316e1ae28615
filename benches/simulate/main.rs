//! The simulator: many seeds, each a world in which several machines use one volume at once while everything fails that
//! can. `cargo xtask simulate` runs it; `docs/testing.md` says what is checked.
//!
//! ```text
//! simulate [--seeds N] [--from S] [--jobs J] [--twice]
//! ```

#![allow(clippy::unwrap_used, reason = "a simulation fails by panicking")]

#[path = "../../tests/it/handles.rs"]
mod handles;
#[path = "../../tests/it/target.rs"]
#[allow(dead_code, reason = "the tests of the volume use the rest of it")]
mod target;

mod arguments;
mod forks;
mod history;
mod reader;
mod scenario;
mod session;
mod setting;
mod writer;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rfs_testkit::sim::{Report, World};

use crate::arguments::Arguments;

#[derive(Default)]
struct Outcome {
    counts: BTreeMap<&'static str, u64>,
    /// In how many runs each kind of event came.
    runs: BTreeMap<&'static str, u64>,
    simulated_hours: f64,
    /// Of all events of all seeds, whatever order these came in.
    fingerprint: u64,
    done: u64,
    failure: Option<String>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("simulate: {why}");
            return ExitCode::from(2);
        }
    };
    let (next, stop, outcome) =
        (AtomicU64::new(arguments.from), AtomicBool::new(false), Mutex::new(Outcome::default()));
    let end = arguments.from.saturating_add(arguments.seeds);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match simulate(seed, arguments.twice) {
                        Ok(report) => outcome.lock().add(&report, &arguments),
                        Err(failure) => {
                            stop.store(true, Ordering::Relaxed);
                            outcome.lock().failure.get_or_insert(failure);
                        }
                    }
                }
            });
        }
    });
    let outcome = outcome.into_inner();
    outcome.print();
    match &outcome.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(seed: u64, twice: bool) -> Result<Report, String> {
    let run = || World::attempt(seed, scenario::run).map(|((), report)| report);
    let replay = format!("replay it: cargo xtask simulate --seeds 1 --from {seed}");
    let report = run().map_err(|failed| format!("{failed}\n{replay}"))?;
    if twice {
        let again = run().map_err(|failed| format!("{failed}\nonly when it is run again; {replay}"))?;
        if again.fingerprint != report.fingerprint {
            let differ = first_difference(&report.trace, &again.trace);
            return Err(format!("seed {seed}: two runs differ, {differ}; {replay} --twice"));
        }
    }
    Ok(report)
}

/// Where two traces part, as far as they are remembered.
fn first_difference(one: &[String], other: &[String]) -> String {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    let at = at.unwrap_or(one.len().min(other.len()));
    let of = |trace: &[String]| trace.get(at).map_or_else(|| "(end)".to_owned(), Clone::clone);
    let before = at.checked_sub(1).and_then(|before| one.get(before)).map_or("(begin)", String::as_str);
    format!("after\n{before}\nthere is\n{}\nand\n{}\n", of(one), of(other))
}

impl Outcome {
    fn add(&mut self, report: &Report, arguments: &Arguments) {
        for (what, count) in &report.counts {
            *self.counts.entry(what).or_default() += count;
            *self.runs.entry(what).or_default() += 1;
        }
        self.simulated_hours += report.elapsed.as_secs_f64() / 3_600.0;
        self.fingerprint ^= report.fingerprint;
        self.done += 1;
        if self.done.is_multiple_of((arguments.seeds / 20).max(1)) {
            eprintln!("{} of {} seeds passed", self.done, arguments.seeds);
        }
    }

    fn print(&self) {
        println!("{:<44} {:>10} {:>10}", "what was met", "times", "in seeds");
        for (what, count) in &self.counts {
            println!("{what:<44} {count:>10} {:>10}", self.runs[what]);
        }
        println!(
            "{} seeds passed, {:.0} simulated hours, fingerprint {:016x}",
            self.done, self.simulated_hours, self.fingerprint
        );
    }
}
