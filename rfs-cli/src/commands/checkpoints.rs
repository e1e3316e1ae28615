//! `rfs checkpoints`: the commits that have a name.

use rfs::At;
use serde::Serialize;

use super::Done;
use crate::output::{Align, Format, Out, Shown, Table};
use crate::state;
use crate::time::Rfc3339;

/// List the checkpoints of a volume, oldest first.
///
/// JSON: an array of {name, commit, time}.
#[derive(Debug, clap::Args)]
pub(crate) struct Checkpoints {
    /// The volume.
    url: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Line {
    name: String,
    commit: String,
    time: String,
}

impl Checkpoints {
    pub(crate) async fn run(&self) -> Done {
        let volume = state::open(&self.url, At::Head).await?;
        let mut all = volume.checkpoints();
        all.sort_by_key(|(_, checkpoint)| checkpoint.commit);
        let mut out = Out::new();
        if self.format.json {
            let lines = all.into_iter().map(|(name, checkpoint)| Line {
                name,
                commit: checkpoint.commit.to_string(),
                time: format!("{:#}", Rfc3339(checkpoint.time)),
            });
            return out.json(&lines.collect::<Vec<_>>());
        }
        let mut table = Table::new([("NAME", Align::Left), ("COMMIT", Align::Right), ("TIME", Align::Left)]);
        for (name, checkpoint) in all {
            table.row([
                Shown(name.as_bytes()).to_string(),
                checkpoint.commit.to_string(),
                Rfc3339(checkpoint.time).to_string(),
            ]);
        }
        table.print(&mut out)?;
        out.end()
    }
}
