//! `cargo xtask instructions`: how many instructions an operation takes, counted by callgrind, against a budget.
//!
//! An operation is done so many times, and twice as many times, each in a process of its own: what the second one takes more is
//! the operation's, without what came before it. All threads count. Other than times, counts are the same on a busy machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::suites::tools;
use crate::{Outcome, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[OPERATION...]";

/// How often an operation is done in the shorter run.
const COUNT: u64 = 2_000;
/// A count that is so much above its budget, in percent, is too much: by that much it may differ between compilers' moods.
const ABOVE: u64 = 10;

/// The operations of `benches/instructions.rs`, with the instructions that each may take.
const BUDGETS: &[(&str, u64)] = &[
    ("append", 331),
    ("overwrite", 19_800),
    ("create", 21_900),
    ("rename", 18_400),
    ("metadata", 4_580),
    ("read", 3_570),
];

/// Counts, and prints a table; fails if a budget is exceeded, or if it is so large that it would find nothing.
pub fn run(arguments: &[String]) -> Outcome {
    if let Some(unknown) = arguments.iter().find(|name| BUDGETS.iter().all(|(known, _)| known != name)) {
        return Err(format!("takes {USAGE}, not {unknown}"));
    }
    tools::install(&[tools::system(&[("valgrind", "valgrind")])])?;
    let program = build()?;
    let mut wrong = Vec::new();
    for (name, budget) in BUDGETS {
        if !arguments.is_empty() && arguments.iter().all(|chosen| chosen != name) {
            continue;
        }
        let (once, twice) = (count(&program, name, COUNT)?, count(&program, name, 2 * COUNT)?);
        let found = twice.saturating_sub(once) / COUNT;
        println!("{name:<10} {found:>8} instructions of {budget}");
        wrong.extend(verdict(name, found, *budget));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn verdict(name: &str, found: u64, budget: u64) -> Option<String> {
    let (most, least) = (budget + budget * ABOVE / 100, budget / 2);
    let why = match found {
        found if found > most => format!("more than {ABOVE} % above its budget of {budget}"),
        found if found < least => format!("less than half of its budget of {budget}: lower it"),
        _ => return None,
    };
    Some(format!("{name} takes {found} instructions, {why}"))
}

/// Builds the program as users build theirs.
fn build() -> Result<PathBuf, String> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--locked", "--package", "rfs", "--bench", "instructions"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let said = process::capture(&mut build)?;
    let said = String::from_utf8_lossy(&said);
    let mut programs = said.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "instructions";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    programs.next_back().ok_or_else(|| "cargo did not say where the program is".to_owned())
}

/// All instructions of a run.
fn count(program: &Path, operation: &str, count: u64) -> Result<u64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-fd=1"]);
    valgrind.arg(program).args([operation, &count.to_string()]);
    let said = process::capture(&mut valgrind)?;
    collected(&String::from_utf8_lossy(&said))
        .ok_or_else(|| format!("callgrind did not say what it counted: {}", String::from_utf8_lossy(&said)))
}

/// The number in callgrind's last word: `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().rev().find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_says_is_understood() {
        let said = "==12== Events    : Ir\n==12== Collected : 7248\n==12==\n==12== I   refs:      7,248\n";
        assert_eq!(collected(said), Some(7248));
        assert_eq!(collected("==12== nothing"), None);
    }

    #[test]
    fn a_budget_is_exceeded_or_too_large() {
        assert_eq!(verdict("append", 1_100, 1_000), None);
        assert_eq!(verdict("append", 500, 1_000), None);
        assert!(verdict("append", 1_101, 1_000).is_some_and(|why| why.contains("above")));
        assert!(verdict("append", 499, 1_000).is_some_and(|why| why.contains("lower it")));
    }
}
