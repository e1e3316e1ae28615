//! `rfs check`: whether all is as it was written.

use std::os::unix::ffi::OsStrExt;

use rfs::{CheckOptions, CheckReport, CheckedState, Finding};
use serde::Serialize;

use super::Done;
use crate::error::{DAMAGED, Failure};
use crate::output::{Align, Count, Format, Out, Shown, Size, Table};
use crate::state::options;

/// So many objects that nothing needs are listed for people.
const LISTED: usize = 10;

/// Verify a volume: that all that its newest state and its checkpoints need is there, and is what was written.
///
/// Superblock, commit log, images and footers of segments are read, the trees are rebuilt and their invariants and state
/// hashes verified. With --deep also every byte of content. It goes on after what is wrong, lists it with the states and
/// paths that suffer, and the exit code is 4. Nothing is changed, and a writer is not disturbed.
///
/// JSON: {ok, deep, entries, objects, segments, bytes, states, findings, more_findings, unreferenced}.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The volume.
    url: String,
    /// Read every byte of content too.
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    deep: bool,
    entries: u64,
    objects: u64,
    segments: u64,
    bytes: u64,
    states: Vec<State>,
    findings: Vec<Wrong>,
    more_findings: u64,
    unreferenced: Vec<Unreferenced>,
}

#[derive(Serialize)]
struct State {
    checkpoint: Option<String>,
    commit: String,
    position: u64,
    inodes: u64,
    bytes: u64,
    sound: bool,
}

/// A finding, for programs.
#[derive(Serialize)]
pub(crate) struct Wrong {
    key: String,
    problem: String,
    what: String,
    states: Vec<String>,
    paths: Vec<Suffering>,
    more_paths: u64,
    remedy: &'static str,
}

#[derive(Serialize)]
struct Suffering {
    path: String,
    ranges: Vec<[u64; 2]>,
}

#[derive(Serialize)]
struct Unreferenced {
    key: String,
    bytes: u64,
}

impl Check {
    pub(crate) async fn run(&self) -> Done {
        let check = CheckOptions::new().with_deep(self.deep);
        let report = rfs::check(&self.url, options(), check).await;
        let report = report.map_err(|error| {
            let advice = match error.kind() {
                rfs::ErrorKind::NoVolume => "`rfs create` makes one",
                _ => "",
            };
            Failure::of(format!("check {}", self.url), &error).with_advice(advice)
        })?;
        let printed = if self.format.json { Out::new().json(&json(&report)) } else { print(&report) };
        // Whoever reads it no more is told by the exit code all the same.
        if report.is_sound() {
            printed
        } else {
            Err(Failure::new(format!("{} is damaged", self.url)).with_code(DAMAGED))
        }
    }
}

fn print(report: &CheckReport) -> Done {
    let mut out = Out::new();
    let mut table = Table::new([
        ("STATE", Align::Left),
        ("COMMIT", Align::Right),
        ("INODES", Align::Right),
        ("BYTES", Align::Right),
        ("", Align::Left),
    ]);
    for state in &report.states {
        let sound = if state.sound { "sound" } else { "damaged" };
        let name = state.checkpoint.as_deref().map_or_else(|| "newest".to_owned(), shown);
        let CheckedState { commit, inodes, bytes, .. } = state;
        table.row([name, commit.to_string(), inodes.to_string(), Size(*bytes).to_string(), sound.to_owned()]);
    }
    table.print(&mut out)?;
    let (objects, segments) =
        (Count(report.objects, "object", "objects"), Count(report.segments, "segment", "segments"));
    out.line(format_args!("verified {objects} and {segments}, reading {}", Size(report.bytes)))?;
    findings(&mut out, &report.findings, report.more_findings)?;
    if !report.unreferenced.is_empty() {
        let bytes = report.unreferenced.iter().map(|(_, bytes)| *bytes).sum();
        let count = Count(report.unreferenced.len() as u64, "object", "objects");
        out.line(format_args!(
            "{count}, {}, that neither the newest state nor a checkpoint needs:",
            Size(bytes)
        ))?;
        for (key, _) in report.unreferenced.iter().take(LISTED) {
            out.line(format_args!("  {}", shown(key)))?;
        }
        if report.unreferenced.len() > LISTED {
            out.line(format_args!("  and {} more", report.unreferenced.len() - LISTED))?;
        }
    }
    out.end()
}

/// What is wrong, for people.
pub(crate) fn findings(out: &mut Out, findings: &[Finding], more: u64) -> Done {
    if findings.is_empty() {
        return out.line("no problems found");
    }
    for finding in findings {
        let Finding { key, problem, what, .. } = finding;
        out.line(format_args!("{} is {problem}: {}", shown(key), shown(what)))?;
        if !finding.states.is_empty() {
            out.line(format_args!("  states: {}", shown(&finding.states.join(", "))))?;
        }
        for suffering in &finding.paths {
            let ranges: Vec<String> =
                suffering.ranges.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
            let bytes =
                if ranges.is_empty() { String::new() } else { format!(" bytes {}", ranges.join(", ")) };
            out.line(format_args!("  path: {}{bytes}", Shown(suffering.path.as_os_str().as_bytes())))?;
        }
        if finding.more_paths > 0 {
            out.line(format_args!("  and {} more", Count(finding.more_paths, "path", "paths")))?;
        }
        out.line(format_args!("  what to do: {}", finding.remedy))?;
    }
    if more > 0 {
        out.line(format_args!("and {} more", Count(more, "problem", "problems")))?;
    }
    Ok(())
}

fn shown(text: &str) -> String {
    Shown(text.as_bytes()).to_string()
}

/// A finding, for programs.
pub(crate) fn wrong(finding: &Finding) -> Wrong {
    let suffering = |suffering: &rfs::Suffering| Suffering {
        path: Shown(suffering.path.as_os_str().as_bytes()).to_string(),
        ranges: suffering.ranges.iter().map(|range| [range.start, range.end]).collect(),
    };
    Wrong {
        key: finding.key.clone(),
        problem: finding.problem.to_string(),
        what: finding.what.clone(),
        states: finding.states.clone(),
        paths: finding.paths.iter().map(suffering).collect(),
        more_paths: finding.more_paths,
        remedy: finding.remedy,
    }
}

fn json(report: &CheckReport) -> Report {
    let states = report.states.iter().map(|state| State {
        checkpoint: state.checkpoint.clone(),
        commit: state.commit.to_string(),
        position: state.position.0,
        inodes: state.inodes,
        bytes: state.bytes,
        sound: state.sound,
    });
    let unreferenced = report.unreferenced.iter();
    let unreferenced = unreferenced.map(|(key, bytes)| Unreferenced { key: key.clone(), bytes: *bytes });
    Report {
        ok: report.is_sound(),
        deep: report.deep,
        entries: report.entries,
        objects: report.objects,
        segments: report.segments,
        bytes: report.bytes,
        states: states.collect(),
        findings: report.findings.iter().map(wrong).collect(),
        more_findings: report.more_findings,
        unreferenced: unreferenced.collect(),
    }
}
