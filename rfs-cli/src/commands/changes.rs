//! `rfs changes`: the journal between two states.

use rfs::At;

use super::Done;
use super::log::record;
use crate::error::Failure;
use crate::output::{Align, Format, Out, Table};
use crate::state;

/// So many lines are laid out at a time.
const BLOCK: usize = 1000;

/// Tell what was done between two states of a volume, in order, as it is in the journal.
///
/// Garbage collection deletes pieces of the journal that no kept state needs; then this says so, and `rfs diff` still tells
/// how the states differ.
///
/// JSON: one {position, change, time, arguments} a line.
#[derive(Debug, clap::Args)]
pub(crate) struct Changes {
    /// The volume.
    url: String,
    /// The older state: a checkpoint's name, a commit's number, a time, or `head`, as for --at of other commands.
    #[arg(value_parser = state::parse)]
    from: At,
    /// The later state.
    #[arg(default_value = "head", value_parser = state::parse)]
    to: At,
    #[command(flatten)]
    format: Format,
}

impl Changes {
    pub(crate) async fn run(&self) -> Done {
        let from = state::open(&self.url, self.from.clone()).await?;
        let to = state::open(&self.url, self.to.clone()).await?;
        let failed = |error: rfs::Error| Failure::of(format!("changes of {}", self.url), &error);
        let mut changes = to.changes(from.position(), to.position()).map_err(failed)?;
        let mut out = Out::new();
        let mut table = table();
        while let Some(change) = changes.next().await.map_err(failed)? {
            let line = record(&change);
            if self.format.json {
                out.json_line(&line)?;
                continue;
            }
            table.row(line.row());
            if table.len() >= BLOCK {
                table.print(&mut out)?;
                table = self::table();
            }
        }
        table.print(&mut out)?;
        out.end()
    }
}

const fn table() -> Table<4> {
    Table::headless([Align::Right, Align::Left, Align::Left, Align::Left])
}
