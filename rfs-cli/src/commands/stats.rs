//! `rfs stats`: what a volume holds, and what it costs.

use std::collections::{BTreeMap, HashSet};

use rfs::backends::{MeterSnapshot, RequestKind};
use rfs::{At, Kind};
use serde::Serialize;

use super::Done;
use super::inspect::{self, role};
use crate::error::Failure;
use crate::output::{Align, Format, Out, Size, Table};
use crate::state::Source;
use crate::walk::{Step, Walk};

/// Count what a state of a volume holds, what the volume takes in the store, and what it took to open and count it.
///
/// JSON: {volume, position, files, directories, symlinks, others, size, allocated, checkpoints, objects, usage,
/// opening, counting}; {usage}, of the newest state only, has {live, dead, borrowed, collectable} in bytes, {objects} has {objects, bytes} for each role, {opening} and {counting} have {requests, bytes}
/// for each kind of request.
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: Format,
}

#[derive(Default, Serialize)]
struct Counted {
    volume: String,
    position: u64,
    files: u64,
    directories: u64,
    symlinks: u64,
    others: u64,
    size: u64,
    allocated: u64,
    checkpoints: u64,
    objects: BTreeMap<&'static str, Stored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<InUse>,
    opening: BTreeMap<&'static str, Requests>,
    counting: BTreeMap<&'static str, Requests>,
}

/// Bytes in the store.
#[derive(Serialize)]
struct InUse {
    live: u64,
    dead: u64,
    borrowed: u64,
    collectable: u64,
}

#[derive(Default, Serialize)]
struct Stored {
    objects: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Requests {
    requests: u64,
    bytes: u64,
}

impl Stats {
    pub(crate) async fn run(&self) -> Done {
        let volume = self.source.open().await?;
        let opening = volume.metered();
        let mut counted = Counted {
            volume: format!("{:032x}", volume.id()),
            position: volume.position().0,
            checkpoints: volume.checkpoints().len() as u64,
            opening: requests(opening),
            ..Counted::default()
        };
        let mut walk = Walk::new(&volume, b"/").await?;
        let mut linked = HashSet::new();
        while let Some(step) = walk.next().await? {
            let Step::Entry(_, attr) = step else { continue };
            if attr.nlink > 1 && attr.kind != Kind::Directory && !linked.insert(attr.ino) {
                continue;
            }
            *match attr.kind {
                Kind::File => &mut counted.files,
                Kind::Directory => &mut counted.directories,
                Kind::Symlink => &mut counted.symlinks,
                _ => &mut counted.others,
            } += 1;
            if attr.kind == Kind::File {
                counted.size = counted.size.saturating_add(attr.size);
                counted.allocated = counted.allocated.saturating_add(attr.allocated);
            }
        }
        counted.counting = requests(volume.metered() - opening);
        let listed = inspect::open(&self.source.url).await?.list().await;
        for object in listed.map_err(|error| Failure::of(format!("look at {}", self.source.url), &error))? {
            let stored = counted.objects.entry(role(object.role)).or_default();
            stored.objects += 1;
            stored.bytes = stored.bytes.saturating_add(object.bytes);
        }
        if matches!(self.source.state.at, At::Head) {
            let usage = volume.usage().await;
            let usage = usage.map_err(|error| Failure::of(format!("look at {}", self.source.url), &error))?;
            counted.usage = Some(InUse {
                live: usage.live_bytes,
                dead: usage.dead_bytes,
                borrowed: usage.borrowed_bytes,
                collectable: usage.collectable.bytes,
            });
        }
        if self.format.json { Out::new().json(&counted) } else { counted.print() }
    }
}

impl Counted {
    fn print(&self) -> Done {
        let mut out = Out::new();
        let mut table = Table::headless([Align::Left, Align::Left]);
        for (label, value) in [
            ("volume", self.volume.clone()),
            ("position", self.position.to_string()),
            ("files", self.files.to_string()),
            ("directories", self.directories.to_string()),
            ("symlinks", self.symlinks.to_string()),
            ("others", self.others.to_string()),
            ("size", Size(self.size).to_string()),
            ("allocated", Size(self.allocated).to_string()),
            ("checkpoints", self.checkpoints.to_string()),
        ] {
            table.row([label.to_owned(), value]);
        }
        table.print(&mut out)?;
        out.line("")?;
        let mut table =
            Table::new([("IN THE STORE", Align::Left), ("OBJECTS", Align::Right), ("BYTES", Align::Right)]);
        for (role, stored) in &self.objects {
            table.row([(*role).to_owned(), stored.objects.to_string(), Size(stored.bytes).to_string()]);
        }
        table.print(&mut out)?;
        out.line("")?;
        if let Some(InUse { live, dead, borrowed, collectable }) = self.usage {
            let mut table = Table::new([("OF THAT", Align::Left), ("BYTES", Align::Right)]);
            let rows = [
                ("the newest state", live),
                ("all else", dead),
                ("to be collected", collectable),
                ("borrowed from other volumes", borrowed),
            ];
            for (what, bytes) in rows {
                table.row([what.to_owned(), Size(bytes).to_string()]);
            }
            table.print(&mut out)?;
            out.line("")?;
        }
        let mut table =
            Table::new([("ASKED FOR", Align::Left), ("REQUESTS", Align::Right), ("BYTES", Align::Right)]);
        for (when, asked) in [("opening", &self.opening), ("counting", &self.counting)] {
            for (kind, asked) in asked {
                let (requests, bytes) = (asked.requests.to_string(), Size(asked.bytes).to_string());
                table.row([format!("{when}: {kind}"), requests, bytes]);
            }
        }
        table.print(&mut out)?;
        out.end()
    }
}

fn requests(metered: MeterSnapshot) -> BTreeMap<&'static str, Requests> {
    let kinds = RequestKind::ALL.into_iter().map(|kind| (kind.name(), metered.of(kind)));
    let asked = kinds.filter(|(_, count)| count.requests > 0);
    asked.map(|(kind, count)| (kind, Requests { requests: count.requests, bytes: count.bytes })).collect()
}
