//! `rfs repair`: rebuilds from the journal what can be, and says what is lost.

use rfs::{RepairOptions, RepairReport};
use serde::Serialize;

use super::Done;
use super::check::{Wrong, findings, wrong};
use crate::error::{DAMAGED, Failure};
use crate::output::{Format, Out, Shown};
use crate::state::options;

/// Rebuild what is missing or damaged from the journal, as far as that is kept.
///
/// This takes the volume over, as `rfs checkpoint` does; do it when no program uses the volume. What it does becomes a
/// commit. Nothing is deleted: what cannot be read is moved below `aside`. What is lost is told, and stays an error when
/// it is read, unless --drop-lost gives it up; as long as something is, the exit code is 4.
///
/// JSON: {dry_run, commit, done, lost, left, more_left}.
#[derive(Debug, clap::Args)]
pub(crate) struct Repair {
    /// The volume.
    url: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Cut files before their first byte that is lost, and drop the names of checkpoints that cannot be restored.
    #[arg(long)]
    drop_lost: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    commit: Option<String>,
    done: Vec<Mended>,
    lost: Vec<String>,
    left: Vec<Wrong>,
    more_left: u64,
}

#[derive(Serialize)]
struct Mended {
    key: String,
    what: String,
}

impl Repair {
    pub(crate) async fn run(&self) -> Done {
        let repair = RepairOptions::new().with_dry_run(self.dry_run).with_drop_lost(self.drop_lost);
        let report = rfs::repair(&self.url, options(), repair).await;
        let report = report.map_err(|error| Failure::of(format!("repair {}", self.url), &error))?;
        let printed = if self.format.json { Out::new().json(&json(&report)) } else { print(&report) };
        if report.left.is_empty() {
            printed
        } else {
            Err(Failure::new(format!("{} is not whole", self.url)).with_code(DAMAGED))
        }
    }
}

fn print(report: &RepairReport) -> Done {
    let mut out = Out::new();
    let shown = |text: &str| Shown(text.as_bytes()).to_string();
    for done in &report.done {
        out.line(format_args!("{}: {}", shown(&done.key), shown(&done.what)))?;
    }
    for lost in &report.lost {
        out.line(format_args!("lost: {}", shown(lost)))?;
    }
    match (&report.commit, report.dry_run && !report.done.is_empty()) {
        (Some(commit), _) => out.line(format_args!("repaired with commit {commit}"))?,
        (None, true) => out.line("nothing was done")?,
        (None, false) => out.line("nothing to be done")?,
    }
    if !report.left.is_empty() {
        out.line("still wrong:")?;
        findings(&mut out, &report.left, report.more_left)?;
    }
    out.end()
}

fn json(report: &RepairReport) -> Report {
    let done = report.done.iter().map(|done| Mended { key: done.key.clone(), what: done.what.clone() });
    Report {
        dry_run: report.dry_run,
        commit: report.commit.map(|commit| commit.to_string()),
        done: done.collect(),
        lost: report.lost.clone(),
        left: report.left.iter().map(wrong).collect(),
        more_left: report.more_left,
    }
}
