//! `rfs diff`: how two states of a volume differ.

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rfs::{At, Attr, Difference, DifferenceKind, Timestamp};
use serde::Serialize;

use super::Done;
use crate::entry;
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Size, Table};
use crate::state;
use crate::time::Rfc3339;

/// So many lines are laid out at a time: a difference may be larger than memory.
const BLOCK: usize = 1000;

/// Tell how two states of a volume differ: what was created, removed, renamed, linked, and changed in what.
///
/// It takes time in proportion to what differs, and reads no content: `content` are the parts of a file that lie
/// elsewhere in the journal, which may be the same bytes written again. `+` is created, `-` removed, `M` changed, and `R`
/// renamed, which may be changed too. Of a directory whose entries changed the times differ.
///
/// JSON: one {ino, kind, path, before, after, renamed, unlinked, linked, content, xattrs} a line: {before} and {after} have
/// {kind, mode, uid, gid, nlink, size, device, accessed, modified, changed}; {content} is an array of [start, end].
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The volume.
    url: String,
    /// The first state: a checkpoint's name, a commit's number, a time, or `head`, as for --at of other commands.
    #[arg(value_parser = state::parse)]
    from: At,
    /// The second state.
    #[arg(value_parser = state::parse)]
    to: At,
    /// Only what is at this path, or below it, in one of the states.
    path: Option<std::ffi::OsString>,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Line {
    ino: u64,
    kind: &'static str,
    #[serde(flatten)]
    path: entry::Path,
    before: Option<Attributes>,
    after: Option<Attributes>,
    renamed: Vec<Renamed>,
    unlinked: Vec<entry::Path>,
    linked: Vec<entry::Path>,
    content: Vec<(u64, u64)>,
    xattrs: Vec<String>,
}

#[derive(Serialize)]
struct Renamed {
    from: entry::Path,
    to: entry::Path,
}

#[derive(Serialize)]
struct Attributes {
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    nlink: u32,
    size: u64,
    device: u64,
    accessed: String,
    modified: String,
    changed: String,
}

impl Diff {
    pub(crate) async fn run(&self) -> Done {
        let from = state::open(&self.url, self.from.clone()).await?;
        let to = state::open(&self.url, self.to.clone()).await?;
        let failed = |error: rfs::Error| Failure::of(format!("diff of {}", self.url), &error);
        let mut diff = from.diff(&to).map_err(failed)?;
        let mut out = Out::new();
        let mut table = Self::table();
        while let Some(difference) = diff.next().await.map_err(failed)? {
            if !self.is_wanted(&difference) {
                continue;
            }
            if self.format.json {
                out.json_line(&line(&difference))?;
                continue;
            }
            rows(&difference, &mut table);
            if table.len() >= BLOCK {
                table.print(&mut out)?;
                table = Self::table();
            }
        }
        table.print(&mut out)?;
        out.end()
    }

    fn table() -> Table<3> {
        Table::headless([Align::Left; 3])
    }

    fn is_wanted(&self, difference: &Difference) -> bool {
        let Some(path) = &self.path else { return true };
        let within = Path::new("/").join(path);
        let renamed = difference.renamed.iter().flat_map(|(from, to)| [from, to]);
        let names = renamed.chain(&difference.unlinked).chain(&difference.linked);
        names.chain([&difference.path]).any(|path| path.starts_with(&within))
    }
}

fn rows(difference: &Difference, table: &mut Table<3>) {
    let shown = |path: &Path| Shown(path.as_os_str().as_bytes()).to_string();
    let mut row = |sign: &str, path: String, what: String| table.row([sign.to_owned(), path, what]);
    let what = said(difference);
    match difference.kind {
        DifferenceKind::Created => {
            for path in &difference.linked {
                row("+", shown(path), what.clone());
            }
        }
        DifferenceKind::Removed => {
            for path in &difference.unlinked {
                row("-", shown(path), what.clone());
            }
        }
        _ => {
            for (from, to) in &difference.renamed {
                row("R", format!("{} -> {}", shown(from), shown(to)), what.clone());
            }
            for path in &difference.unlinked {
                row("-", shown(path), format!("a name of {}", shown(&difference.path)));
            }
            for path in &difference.linked {
                row("+", shown(path), format!("a name of inode {}", difference.ino));
            }
            if difference.renamed.is_empty() && !what.is_empty() {
                row("M", shown(&difference.path), what);
            }
        }
    }
}

/// What differs, but for names.
fn said(difference: &Difference) -> String {
    let (before, after) = (&difference.before, &difference.after);
    let (Some(before), Some(after)) = (before, after) else {
        let kind = before.as_ref().or(after.as_ref()).map_or("", |attr| entry::kind(attr.kind));
        return kind.to_owned();
    };
    let mut said = Vec::new();
    if !difference.content.is_empty() {
        said.push(format!("content {}", ranges(&difference.content)));
    }
    if before.size != after.size {
        said.push(format!("size {} -> {}", before.size, after.size));
    }
    if before.mode != after.mode {
        said.push(format!("mode {:04o} -> {:04o}", before.mode, after.mode));
    }
    if (before.uid, before.gid) != (after.uid, after.gid) {
        said.push(format!("owner {}:{} -> {}:{}", before.uid, before.gid, after.uid, after.gid));
    }
    if !difference.xattrs.is_empty() {
        let names = difference.xattrs.iter().map(|name| Shown(name.as_bytes()).to_string());
        said.push(format!("attributes {}", names.collect::<Vec<_>>().join(" ")));
    }
    // What else changes the times is told already.
    let has_other_names =
        !(difference.renamed.is_empty() && difference.linked.is_empty() && difference.unlinked.is_empty());
    if said.is_empty() && !has_other_names && before.times != after.times {
        said.push("times".to_owned());
    }
    said.join(", ")
}

fn ranges(ranges: &[Range<u64>]) -> String {
    let bytes = ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.end - range.start));
    match ranges {
        [one] => format!("{}..{}", one.start, one.end),
        many => format!("{} in {} places", Size(bytes), many.len()),
    }
}

fn line(difference: &Difference) -> Line {
    let path = |path: &Path| entry::Path::new(path.as_os_str().as_bytes());
    Line {
        ino: difference.ino.0,
        kind: match difference.kind {
            DifferenceKind::Created => "created",
            DifferenceKind::Removed => "removed",
            _ => "changed",
        },
        path: path(&difference.path),
        before: difference.before.as_ref().map(attributes),
        after: difference.after.as_ref().map(attributes),
        renamed: difference
            .renamed
            .iter()
            .map(|(from, to)| Renamed { from: path(from), to: path(to) })
            .collect(),
        unlinked: difference.unlinked.iter().map(|name| path(name)).collect(),
        linked: difference.linked.iter().map(|name| path(name)).collect(),
        content: difference.content.iter().map(|range| (range.start, range.end)).collect(),
        xattrs: difference.xattrs.iter().map(|name| Shown(name.as_bytes()).to_string()).collect(),
    }
}

fn attributes(attr: &Attr) -> Attributes {
    let time = |time: Timestamp| format!("{:#}", Rfc3339(time));
    Attributes {
        kind: entry::kind(attr.kind),
        mode: format!("{:04o}", attr.mode),
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        size: attr.size,
        device: attr.device,
        accessed: time(attr.times.accessed),
        modified: time(attr.times.modified),
        changed: time(attr.times.changed),
    }
}
