//! `rfs checkpoints`: the commits that have a name.

use std::collections::BTreeMap;
use std::time::Duration;

use rfs::{At, Checkpoint, Total};
use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Size, Table};
use crate::state;
use crate::time::Rfc3339;

/// List the checkpoints of a volume, oldest first.
///
/// JSON: an array of {name, commit, time}; with --sizes also {objects, bytes}, which nothing else needs.
#[derive(Debug, clap::Args)]
pub(crate) struct Checkpoints {
    /// The volume.
    url: String,
    /// Tell how much dropping each of them would free, when nothing but the newest commit is kept beside them.
    #[arg(long)]
    sizes: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Line {
    name: String,
    commit: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Checkpoints {
    pub(crate) async fn run(&self) -> Done {
        // What keeps newer commits for a while is not counted: it passes.
        let options = state::options().with_retention(1, Duration::ZERO);
        let volume = state::open_with(&self.url, At::Head, options).await?;
        let mut all = volume.checkpoints();
        all.sort_by_key(|(_, checkpoint)| checkpoint.commit);
        let failed = |error: rfs::Error| Failure::of(format!("count what {} takes", self.url), &error);
        let frees: BTreeMap<String, Total> = if self.sizes {
            volume.usage().await.map_err(failed)?.checkpoints.into_iter().collect()
        } else {
            BTreeMap::new()
        };
        let mut out = Out::new();
        if self.format.json {
            let lines = all.into_iter().map(|(name, checkpoint)| Line {
                objects: frees.get(&name).map(|total| total.objects),
                bytes: frees.get(&name).map(|total| total.bytes),
                name,
                commit: checkpoint.commit.to_string(),
                time: format!("{:#}", Rfc3339(checkpoint.time)),
            });
            return out.json(&lines.collect::<Vec<_>>());
        }
        let row = |name: &str, checkpoint: &Checkpoint| {
            [
                Shown(name.as_bytes()).to_string(),
                checkpoint.commit.to_string(),
                Rfc3339(checkpoint.time).to_string(),
            ]
        };
        let columns = [("NAME", Align::Left), ("COMMIT", Align::Right), ("TIME", Align::Left)];
        if self.sizes {
            let [name, commit, time] = columns;
            let mut table = Table::new([name, commit, time, ("FREES", Align::Right)]);
            for (name, checkpoint) in &all {
                let [shown, commit, time] = row(name, checkpoint);
                let frees = frees.get(name).copied().unwrap_or_default();
                table.row([shown, commit, time, Size(frees.bytes).to_string()]);
            }
            table.print(&mut out)?;
            return out.end();
        }
        let mut table = Table::new(columns);
        for (name, checkpoint) in &all {
            table.row(row(name, checkpoint));
        }
        table.print(&mut out)?;
        out.end()
    }
}
