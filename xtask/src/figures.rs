//! What the tests of each kind of store came to: each leaves a line when it has passed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The file of the lines.
#[derive(Debug)]
pub struct Figures(PathBuf);

/// One store's.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    requests: u64,
    bytes: u64,
    millis: u64,
}

impl Figures {
    /// An empty file in the directory.
    pub fn new(directory: &Path) -> Result<Self, String> {
        let file = directory.join(format!("figures-{}.txt", std::process::id()));
        fs::write(&file, "").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        Ok(Self(file))
    }

    /// The variable by which the tests find the file.
    pub fn variable(&self) -> (String, String) {
        ("RFS_TEST_FIGURES".to_owned(), self.0.to_string_lossy().into_owned())
    }

    /// A line for each store; nothing when no test of any passed.
    pub fn table(&self) -> Result<String, String> {
        let lines = fs::read_to_string(&self.0)
            .map_err(|error| format!("cannot read {}: {error}", self.0.display()))?;
        table(&lines)
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn table(lines: &str) -> Result<String, String> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for line in lines.lines() {
        let malformed = || format!("a test left the figures {line:?}, which are none");
        let words: Vec<&str> = line.split(' ').collect();
        let [store, _test, numbers @ ..] = &words[..] else { return Err(malformed()) };
        let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
        let [requests, bytes, millis] = numbers[..] else { return Err(malformed()) };
        let sum = sums.entry(store).or_default();
        sum.passed += 1;
        sum.requests += requests;
        sum.bytes += bytes;
        sum.millis += millis;
    }
    let mut table = String::new();
    for (store, Sum { passed, requests, bytes, millis }) in sums {
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "{store:<10} {passed:>4} tests passed  {requests:>7} requests  {:>7} MB  {:>6} s",
            tenths(bytes, 1_000_000),
            tenths(millis, 1000)
        );
    }
    Ok(table)
}

fn tenths(number: u64, unit: u64) -> String {
    format!("{}.{}", number / unit, number % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_store() {
        let table = table("s3 one 10 1000000 1500\nfile one 3 5 20\ns3 two 5 500000 500\n").unwrap();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..5], ["file", "1", "tests", "passed", "3"]);
        assert_eq!(lines[1], ["s3", "2", "tests", "passed", "15", "requests", "1.5", "MB", "2.0", "s"]);
        assert_eq!(super::table(""), Ok(String::new()));
        assert!(super::table("s3 one 1 2").is_err());
    }
}
