//! Verdicts: written by the run inside the sandbox as they are reached, read by the task outside.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::tally::Tally;

/// The file of a run's verdicts, in its directory.
pub(super) const FILE: &str = "cases.tsv";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) verdict: Verdict,
}

/// Writes each verdict at once, so that a run that is stopped keeps what it found.
pub(super) struct Cases(File);

impl Cases {
    pub(super) fn create(path: &Path) -> Result<Self, String> {
        File::create(path).map(Self).map_err(|error| format!("cannot create {}: {error}", path.display()))
    }

    pub(super) fn add(&self, name: &str, verdict: &Verdict) -> Result<(), String> {
        let (word, reason) = match verdict {
            Verdict::Passed => ("passed", ""),
            Verdict::Failed(reason) => ("failed", reason.as_str()),
            Verdict::Skipped(reason) => ("skipped", reason.as_str()),
        };
        let line = format!("{word}\t{}\t{}\n", on_one_line(name), on_one_line(reason));
        (&self.0).write_all(line.as_bytes()).map_err(|error| format!("cannot write a verdict: {error}"))
    }
}

/// The verdicts of a run; none when it did not come to the first.
pub(super) fn read(path: &Path) -> Result<Vec<Case>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("{}: not a verdict: {line:?}", path.display())))
        .collect()
}

pub(super) fn tally(cases: &[Case]) -> Tally {
    let one = |case: &Case| match case.verdict {
        Verdict::Passed => Tally { passed: 1, ..Tally::default() },
        Verdict::Failed(_) => Tally { failed: 1, ..Tally::default() },
        Verdict::Skipped(_) => Tally { skipped: 1, ..Tally::default() },
    };
    cases.iter().map(one).fold(Tally::default(), |sum, tally| sum + tally)
}

fn parse(line: &str) -> Option<Case> {
    let mut fields = line.split('\t');
    let (word, name, reason) = (fields.next()?, fields.next()?, fields.next()?);
    let verdict = match word {
        "passed" => Verdict::Passed,
        "failed" => Verdict::Failed(reason.to_owned()),
        "skipped" => Verdict::Skipped(reason.to_owned()),
        _ => return None,
    };
    Some(Case { name: name.to_owned(), verdict })
}

fn on_one_line(text: &str) -> String {
    text.split(char::is_whitespace).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_as_written() {
        let path = std::env::temp_dir().join(format!("rfs-cases-{}.tsv", std::process::id()));
        let cases = Cases::create(&path).unwrap();
        cases.add("a", &Verdict::Passed).unwrap();
        cases.add("b/1", &Verdict::Failed("two\n\tlines".to_owned())).unwrap();
        cases.add("c", &Verdict::Skipped("why".to_owned())).unwrap();
        let found = read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(tally(&found), Tally { passed: 1, failed: 1, skipped: 1 });
        assert_eq!(
            found[1],
            Case { name: "b/1".to_owned(), verdict: Verdict::Failed("two lines".to_owned()) }
        );
        assert_eq!(read(&path), Ok(Vec::new()), "no file, no verdicts");
    }

    #[test]
    fn a_line_that_is_no_verdict_is_not_taken_for_one() {
        for line in ["", "passed", "passed\tx", "maybe\tx\t"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
