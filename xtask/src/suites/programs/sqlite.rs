//! SQLite while the mount is killed: what it has called committed is there, and the file is sound.
//!
//! A program commits numbered transactions to a database on the mount and says each number when its commit has returned.
//! After some of them the mount is killed, while that program and another one are writing. The volume is mounted again
//! and the database looked at; then it goes on with the next round.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::bench::{self, Bench};
use super::super::ground::Ground;
use super::script;
use crate::{Outcome, time};

pub(super) struct Mode {
    pub(super) name: &'static str,
    journal: &'static str,
    synchronous: &'static str,
}

pub(super) const MODES: &[Mode] = &[
    // The commit is that the journal is deleted. Only EXTRA makes SQLite sync the directory after that; with FULL, the
    // journal may be there again after a crash, and SQLite rolls back what it has called committed.
    Mode { name: "rollback", journal: "DELETE", synchronous: "EXTRA" },
    Mode { name: "wal", journal: "WAL", synchronous: "FULL" },
];

/// After how many commits the mount is killed, a round each.
const KILLS: &[usize] = &[1, 40, 7, 113, 23, 2, 64, 250];

const END_LIMIT: Duration = Duration::from_mins(1);

pub(super) fn run(bench: &Bench, ground: &Ground, mode: &Mode) -> Outcome {
    let mut last = 0;
    for (round, &commits) in KILLS.iter().enumerate() {
        let said =
            killed_round(ground, mode, commits, last).map_err(|error| format!("round {round}: {error}"))?;
        last =
            looked_at(bench, ground, mode, said).map_err(|error| format!("after round {round}: {error}"))?;
    }
    // The check has to be one that can fail.
    match looked_at(bench, ground, mode, last + 1) {
        Err(_) => Ok(()),
        Ok(_) => Err("transactions that were never made are taken as found".to_owned()),
    }
}

/// Kills the mount after so many commits more than `last`, and returns the last number that was said.
fn killed_round(ground: &Ground, mode: &Mode, commits: usize, last: u64) -> Result<u64, String> {
    let site = ground.enter()?;
    let mut churn = Command::new("sh");
    churn.arg(script("churn.sh")).arg(site.directory().join("churn"));
    let mut churn = quiet(&mut churn).spawn().map_err(|error| format!("cannot start the load: {error}"))?;
    let mut writer = sqlite("write", site.directory(), mode);
    let mut writer = quiet(&mut writer)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the writer: {error}"))?;
    let said = writer.stdout.take().ok_or("the writer has no output")?;

    let mut last = last;
    let mut site = Some(site);
    for (count, line) in BufReader::new(said).lines().map_while(Result::ok).enumerate() {
        let number = line.parse().map_err(|_| format!("the writer says {line:?}"))?;
        if number != last + 1 {
            return Err(format!("the writer has committed {number} after {last}"));
        }
        last = number;
        // What comes after is what the writer had said by then.
        if count + 1 == commits
            && let Some(site) = site.take()
        {
            site.kill()?;
        }
    }
    if site.is_some() {
        return Err(format!("the writer ended before the mount was killed, after {last}"));
    }
    ended(&mut writer, "writer")?;
    ended(&mut churn, "load")?;
    Ok(last)
}

/// The last transaction that is found, once all that were said are: it is one more than those when the writer was killed
/// between its commit and saying so.
fn looked_at(bench: &Bench, ground: &Ground, mode: &Mode, said: u64) -> Result<u64, String> {
    let site = ground.enter()?;
    let mut check = sqlite("check", site.directory(), mode);
    let log = bench.log(&format!("sqlite-{}.check.log", mode.name));
    bench::run_to_success(check.arg(said.to_string()), &log, END_LIMIT)?;
    site.leave()?;
    let report =
        fs::read_to_string(&log).map_err(|error| format!("cannot read {}: {error}", log.display()))?;
    let found = report.split_whitespace().next().and_then(|number| number.parse().ok());
    found.ok_or_else(|| format!("the check reports {report:?}"))
}

fn sqlite(what: &str, directory: &Path, mode: &Mode) -> Command {
    let mut command = Command::new("python3");
    command.arg(script("sqlite.py")).arg(what).arg(directory.join(format!("{}.db", mode.name)));
    command.args([mode.journal, mode.synchronous]);
    command
}

/// That these fail when the mount goes is what they are for.
fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// A program whose files are gone ends by itself.
fn ended(child: &mut Child, what: &str) -> Outcome {
    let ended = time::poll(END_LIMIT, || {
        child.try_wait().map_err(|error| format!("waiting for the {what}: {error}"))
    })?;
    if ended.is_none() {
        child.kill().and_then(|()| child.wait()).map_err(|error| format!("stopping the {what}: {error}"))?;
        return Err(format!("the {what} hangs after the mount is gone"));
    }
    Ok(())
}
