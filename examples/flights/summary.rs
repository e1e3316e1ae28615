//! The table at the end.

use std::fmt;

use rfs::backends::RequestKind;

use crate::supervisor::Run;

/// The two runs side by side.
pub(crate) struct Table<'a> {
    pub(crate) kills_planned: u64,
    pub(crate) killed: &'a Run,
    pub(crate) undisturbed: &'a Run,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28}{:>16}{:>16}", "", "killed", "undisturbed")?;
        self.row(f, "kills", |run| run.kills.to_string())?;
        self.row(f, "  while opening", |run| run.kills_opening.to_string())?;
        self.row(f, "  with a commit on its way", |run| run.kills_committing.to_string())?;
        self.row(f, "workers", |run| run.workers.to_string())?;
        self.row(f, "flights done again", |run| run.flights_again.to_string())?;
        self.row(f, "commits", |run| run.cost.commits.to_string())?;
        self.row(f, "  bytes of each", |run| per_commit(run, run.cost.commit_bytes))?;
        for kind in RequestKind::ALL {
            self.rows_of(f, kind)?;
        }
        self.row(f, "seconds", |run| format!("{:.2}", run.elapsed.as_secs_f64()))?;
        if self.killed.kills < self.kills_planned {
            let late = self.kills_planned - self.killed.kills;
            writeln!(f, "{late} of {} kills came too late: the job was done", self.kills_planned)?;
        }
        f.write_str(
            "Commits are those that a worker reported as durable. Requests are all that the workers made, as last\n\
             reported before their end: for commits, openings, images, garbage collection and reading.",
        )
    }
}

impl Table<'_> {
    fn row(&self, f: &mut fmt::Formatter<'_>, title: &str, cell: impl Fn(&Run) -> String) -> fmt::Result {
        writeln!(f, "{title:<28}{:>16}{:>16}", cell(self.killed), cell(self.undisturbed))
    }

    fn rows_of(&self, f: &mut fmt::Formatter<'_>, kind: RequestKind) -> fmt::Result {
        if self.killed.cost.of(kind).requests + self.undisturbed.cost.of(kind).requests == 0 {
            return Ok(());
        }
        let title = format!("{} requests", kind.name().to_uppercase());
        self.row(f, &title, |run| run.cost.of(kind).requests.to_string())?;
        self.row(f, "  per commit", |run| per_commit(run, run.cost.of(kind).requests))?;
        if matches!(kind, RequestKind::Put | RequestKind::Get | RequestKind::Multipart) {
            self.row(f, "  bytes per commit", |run| per_commit(run, run.cost.of(kind).bytes))?;
        }
        Ok(())
    }
}

fn per_commit(run: &Run, sum: u64) -> String {
    let commits = u128::from(run.cost.commits);
    let Some(tenths) = (u128::from(sum) * 10 + commits / 2).checked_div(commits) else {
        return "-".to_owned();
    };
    format!("{}.{}", tenths / 10, tenths % 10)
}
