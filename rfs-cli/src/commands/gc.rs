//! `rfs gc`: deletes what no retained state needs.

use std::time::Duration;

use serde::Serialize;

use super::Done;
use crate::args::parse_time;
use crate::error::Failure;
use crate::output::{Count, Format, Out, Size};
use crate::volume::{open_writer_with, writer_options};

/// Delete the objects of a volume that no state which is kept needs.
///
/// Kept are the checkpoints, the newest commits, and every commit that was the newest one not long ago. This takes the
/// volume over, as `rfs checkpoint` does.
///
/// JSON: {objects, bytes}, which were deleted.
#[derive(Debug, clap::Args)]
pub(crate) struct Gc {
    /// The volume.
    url: String,
    /// How many of the newest commits stay.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = parse_commits)]
    keep_commits: usize,
    /// How long a commit stays after a newer one, for readers that opened it: such as 30s, 10m, 1h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    keep_for: Duration,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Deleted {
    objects: u64,
    bytes: u64,
}

impl Gc {
    pub(crate) async fn run(&self) -> Done {
        let options = writer_options().with_retention(self.keep_commits, self.keep_for);
        let volume = open_writer_with(&self.url, options).await?;
        let failed = |error: rfs::Error| Failure::of(format!("collect in {}", self.url), &error);
        let collected = volume.collect_garbage().await.map_err(failed)?;
        volume.close().await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Deleted { objects: collected.objects, bytes: collected.bytes });
        }
        let objects = Count(collected.objects, "object", "objects");
        out.line(format_args!("deleted {objects}, {}", Size(collected.bytes)))?;
        out.end()
    }
}

fn parse_commits(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|commits| *commits > 0).ok_or_else(|| "give a number, 1 or more".to_owned())
}
