//! `rfs du`: what directories take.

use std::collections::HashSet;

use rfs::{Attr, Kind};
use serde::Serialize;

use super::Done;
use crate::entry::Path;
use crate::output::{Align, Format, Out, Shown, Size, Table};
use crate::state::Source;
use crate::walk::{Step, Walk};

/// Tell how many bytes of content, and how many files, are in each directory and below it.
///
/// Holes take nothing. A file with several names counts where it is met first; what files share counts for each.
///
/// JSON: an array of {path, allocated, size, files}, where {size} counts holes too, in the same order.
#[derive(Debug, clap::Args)]
pub(crate) struct Du {
    #[command(flatten)]
    source: Source,
    /// The path in the volume.
    #[arg(default_value = "/")]
    path: std::ffi::OsString,
    /// Only the sum.
    #[arg(short, long)]
    summarize: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Total {
    allocated: u64,
    size: u64,
    files: u64,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    path: Path,
    #[serde(flatten)]
    total: Total,
}

impl Du {
    pub(crate) async fn run(&self) -> Done {
        let volume = self.source.open().await?;
        let mut walk = Walk::new(&volume, self.path.as_encoded_bytes()).await?;
        let mut totals = vec![Total::default()];
        let mut linked = HashSet::new();
        let mut lines = Vec::new();
        let mut done = |path: Vec<u8>, total: Total, is_last: bool| {
            if is_last || !self.summarize {
                lines.push((path, total));
            }
        };
        while let Some(step) = walk.next().await? {
            match step {
                Step::Entry(_, attr) if attr.kind == Kind::Directory => totals.push(Total::default()),
                Step::Entry(path, attr) => {
                    let is_new = attr.nlink < 2 || linked.insert(attr.ino);
                    let total = if is_new { of(&attr) } else { Total::default() };
                    if let [only] = totals.as_mut_slice() {
                        only.add(total);
                        done(path, total, true);
                    } else if let Some(inside) = totals.last_mut() {
                        inside.add(total);
                    }
                }
                Step::Leave(path) => {
                    let total = totals.pop().unwrap_or_default();
                    if let Some(outside) = totals.last_mut() {
                        outside.add(total);
                    }
                    done(path, total, totals.len() == 1);
                }
            }
        }
        let mut out = Out::new();
        if self.format.json {
            let lines: Vec<Line> =
                lines.into_iter().map(|(path, total)| Line { path: Path::new(&path), total }).collect();
            return out.json(&lines);
        }
        let mut table =
            Table::new([("ALLOCATED", Align::Right), ("FILES", Align::Right), ("PATH", Align::Left)]);
        for (path, total) in lines {
            table.row([Size(total.allocated).to_string(), total.files.to_string(), Shown(&path).to_string()]);
        }
        table.print(&mut out)?;
        out.end()
    }
}

fn of(attr: &Attr) -> Total {
    Total { allocated: attr.allocated, size: attr.size, files: 1 }
}

impl Total {
    fn add(&mut self, more: Self) {
        self.allocated = self.allocated.saturating_add(more.allocated);
        self.size = self.size.saturating_add(more.size);
        self.files += more.files;
    }
}
