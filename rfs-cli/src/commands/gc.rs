//! `rfs gc`: deletes what no retained state needs.

use std::num::NonZeroU32;
use std::time::Duration;

use rfs::At;
use serde::Serialize;

use super::Done;
use crate::args::parse_time;
use crate::error::Failure;
use crate::output::{Count, Format, Out, Size};
use crate::state::{open_with, options as reader_options};
use crate::volume::{open_writer_with, writer_options};

/// Delete the objects of a volume that no state which is kept needs.
///
/// Kept are the checkpoints, the newest commits, and every commit that was the newest one not long ago. This takes the
/// volume over, as `rfs checkpoint` does; with --dry-run it does not, and nothing is deleted.
///
/// JSON: {objects, bytes}, which were deleted, or would be; with --compact also {content_bytes, page_bytes}, which were
/// stored again.
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
    /// Say what would be deleted, and delete nothing.
    #[arg(long, conflicts_with = "compact")]
    dry_run: bool,
    /// Before that, store again what is in use of objects that are mostly not, so that they can go.
    #[arg(long)]
    compact: bool,
    /// Delete, or look at, so many objects a second at most.
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Deleted {
    objects: u64,
    bytes: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    compacted: Option<Again>,
}

#[derive(Serialize)]
struct Again {
    content_bytes: u64,
    page_bytes: u64,
}

impl Gc {
    pub(crate) async fn run(&self) -> Done {
        let failed = |error: rfs::Error| Failure::of(format!("collect in {}", self.url), &error);
        if self.dry_run {
            let options = reader_options().with_retention(self.keep_commits, self.keep_for);
            let volume = open_with(&self.url, At::Head, options.with_collect_rate(self.rate)).await?;
            let would = volume.usage().await.map_err(failed)?.collectable;
            return self.tell("would delete", would.objects, would.bytes, None);
        }
        let options = writer_options().with_retention(self.keep_commits, self.keep_for);
        let volume = open_writer_with(&self.url, options.with_collect_rate(self.rate)).await?;
        let mut again = self.compact.then_some(Again { content_bytes: 0, page_bytes: 0 });
        while let Some(again) = &mut again {
            let compacted = volume.compact().await.map_err(failed)?;
            again.content_bytes += compacted.content_bytes;
            again.page_bytes += compacted.page_bytes;
            if !compacted.more {
                break;
            }
        }
        let collected = volume.collect_garbage().await.map_err(failed)?;
        volume.close().await.map_err(failed)?;
        self.tell("deleted", collected.objects, collected.bytes, again)
    }

    fn tell(&self, what: &str, objects: u64, bytes: u64, compacted: Option<Again>) -> Done {
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Deleted { objects, bytes, compacted });
        }
        if let Some(Again { content_bytes, page_bytes }) = compacted {
            let (content, pages) = (Size(content_bytes), Size(page_bytes));
            out.line(format_args!("stored {content} of content and {pages} of pages again"))?;
        }
        out.line(format_args!("{what} {}, {}", Count(objects, "object", "objects"), Size(bytes)))?;
        out.end()
    }
}

fn parse_commits(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|commits| *commits > 0).ok_or_else(|| "give a number, 1 or more".to_owned())
}
