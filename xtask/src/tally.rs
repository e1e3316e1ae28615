//! Runs a test runner, passes its output on as it comes, and reads the figures of its own summary lines.

use std::io::{self, Read, Write};
use std::ops::Add;
use std::process::{Command, ExitStatus, Stdio};

use crate::process;

/// The figures of one or more runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, ran out of time or could not be started.
    pub failed: u64,
    /// Tests that were left out.
    pub skipped: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// Which runner's summary lines to look for.
#[derive(Clone, Copy, Debug)]
pub enum Runner {
    /// `cargo nextest run`: one line, on the standard error.
    Nextest,
    /// `cargo test`: a line for each test binary, on the standard output.
    Libtest,
}

/// Longer lines are no summaries; the rest of them is passed on without being kept.
const LINE_LIMIT: usize = 4096;

/// Runs the command and passes its output on to this task's own. The tally is `None` unless there are
/// summaries, they account for all that was run, and they agree with the exit status.
pub fn run(command: &mut Command, runner: Runner) -> Result<(ExitStatus, Option<Tally>), String> {
    match runner {
        Runner::Nextest => run_into(command, runner, io::stderr()),
        Runner::Libtest => run_into(command, runner, io::stdout()),
    }
}

fn run_into(
    command: &mut Command,
    runner: Runner,
    output: impl Write,
) -> Result<(ExitStatus, Option<Tally>), String> {
    let line = process::command_line(command);
    match runner {
        Runner::Nextest => command.stderr(Stdio::piped()),
        Runner::Libtest => command.stdout(Stdio::piped()),
    };
    let mut child = command.spawn().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let mut sum = None;
    let mut on_line = |text: &[u8]| {
        let text = plain(text);
        let found = match runner {
            Runner::Nextest => nextest_summary(&text),
            Runner::Libtest => libtest_summary(&text),
        };
        if let Some(found) = found {
            sum = Some(sum.unwrap_or_default() + found);
        }
    };
    let passed_on = if let Some(stream) = child.stderr.take() {
        pass_on(stream, output, &mut on_line)
    } else if let Some(stream) = child.stdout.take() {
        pass_on(stream, output, &mut on_line)
    } else {
        Ok(())
    };
    let status = child.wait().map_err(|error| format!("waiting for `{line}`: {error}"))?;
    passed_on.map_err(|error| format!("passing on the output of `{line}`: {error}"))?;
    Ok((status, sum.filter(|tally: &Tally| (tally.failed == 0) == status.success())))
}

/// Copies the stream and calls `on_line` with each line, without its end.
fn pass_on(mut from: impl Read, mut to: impl Write, on_line: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut chunk = [0; 8192];
    let mut line = Vec::new();
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&chunk[..length])?;
        to.flush()?;
        for &byte in &chunk[..length] {
            if byte == b'\n' {
                on_line(&line);
                line.clear();
            } else if line.len() < LINE_LIMIT {
                line.push(byte);
            }
        }
    }
    on_line(&line);
    Ok(())
}

/// The text without the escape sequences of colours.
fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|letter: char| letter.is_ascii_alphabetic()).map_or(piece.len(), |at| at + 1);
        plain.push_str(&piece[end..]);
    }
    plain
}

/// `Summary [   0.014s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
fn nextest_summary(line: &str) -> Option<Tally> {
    let (_, rest) = line.trim().strip_prefix("Summary [")?.split_once(']')?;
    let (head, counts) = rest.split_once(" run:")?;
    let planned_or_run = head.split_whitespace().next()?;
    let run: u64 = planned_or_run.split('/').next()?.parse().ok()?;
    let mut tally = Tally::default();
    for count in without_parentheses(counts).split(',') {
        let (number, what) = count.trim().split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match what.trim() {
            "passed" => tally.passed += number,
            "failed" | "timed out" | "exec failed" => tally.failed += number,
            "skipped" => tally.skipped += number,
            _ => return None,
        }
    }
    (tally.passed + tally.failed == run).then_some(tally)
}

fn without_parentheses(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .filter(|&letter| {
            let kept = !inside && letter != '(';
            inside = (inside || letter == '(') && letter != ')';
            kept
        })
        .collect()
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s`
fn libtest_summary(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for count in counts.split("; ") {
        match count.split_once(' ')? {
            (number, "passed") => tally.passed = number.parse().ok()?,
            (number, "failed") => tally.failed = number.parse().ok()?,
            (number, "ignored" | "filtered out") => tally.skipped += number.parse::<u64>().ok()?,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn summaries_of_nextest() {
        let read = |line: &str| nextest_summary(&plain(line.as_bytes()));
        let simple = "     Summary [   0.014s] 3 tests run: 3 passed, 0 skipped";
        assert_eq!(read(simple), Some(tally(3, 0, 0)));
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   1.0s] \u{1b}[1m1\u{1b}[0m test run: \
                        \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m4\u{1b}[0m skipped";
        assert_eq!(read(coloured), Some(tally(1, 0, 4)));
        let full = "Summary [ 9s] 6/9 tests run: 3 passed (1 slow, 1 leaky), 1 failed, 1 timed out, \
                    1 exec failed, 2 skipped";
        assert_eq!(read(full), Some(tally(3, 3, 2)));
        let unknown = "Summary [ 9s] 2 tests run: 1 passed, 1 vanished, 0 skipped";
        assert_eq!(read(unknown), None);
        let short = "Summary [ 9s] 3 tests run: 2 passed, 0 skipped";
        assert_eq!(read(short), None);
        assert_eq!(read("PASS [ 0.1s] rfs summary"), None);
    }

    #[test]
    fn summaries_of_libtest() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s";
        assert_eq!(libtest_summary(line), Some(tally(12, 2, 4)));
        assert_eq!(libtest_summary("test result ... ok"), None);
    }

    #[test]
    fn output_is_passed_on_unchanged() {
        let long = [b'x'; 3 * LINE_LIMIT];
        let text = [b"one\n\ntwo\n".as_slice(), &long, b"\nlast"].concat();
        let (mut copy, mut lines) = (Vec::new(), Vec::new());
        pass_on(text.as_slice(), &mut copy, &mut |line: &[u8]| lines.push(line.to_vec())).unwrap();
        assert_eq!(copy, text);
        assert_eq!(lines, [b"one".as_slice(), b"", b"two", &long[..LINE_LIMIT], b"last"]);
    }

    #[test]
    fn a_tally_that_contradicts_the_status_is_dropped() {
        // The output goes nowhere: an outer run would count these lines.
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            let (status, found) =
                run_into(command.args(["-c", script]), Runner::Libtest, io::sink()).unwrap();
            (status.success(), found)
        };
        assert_eq!(shell("echo 'test result: ok. 1 passed; 0 failed'"), (true, Some(tally(1, 0, 0))));
        assert_eq!(shell("echo 'test result: ok. 1 passed; 0 failed'; exit 1"), (false, None));
        assert_eq!(shell("true"), (true, None));
    }
}
