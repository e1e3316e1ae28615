//! `rfs checkpoint`: a name for the newest state.

use serde::Serialize;

use super::Done;
use crate::args::parse_checkpoint;
use crate::error::Failure;
use crate::output::{Format, Out};
use crate::time::Rfc3339;
use crate::volume::open_writer;

/// Give the newest state of a volume a name, which keeps it until `rfs drop`.
///
/// This takes the volume over: a program that writes it, such as `rfs mount`, learns so at its next commit, and ends.
///
/// JSON: {name, commit, position, state, time}.
#[derive(Debug, clap::Args)]
pub(crate) struct Checkpoint {
    /// The volume.
    url: String,
    /// The name, 1 to 255 bytes.
    #[arg(value_parser = parse_checkpoint)]
    name: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    commit: String,
    position: u64,
    state: String,
    time: String,
}

impl Checkpoint {
    pub(crate) async fn run(&self) -> Done {
        let volume = open_writer(&self.url).await?;
        let failed = |error: rfs::Error| {
            let advice = match error.errno() {
                Some(rfs::Errno::Exists) => "choose another name, or `rfs drop` this one",
                _ => "",
            };
            Failure::of(format!("checkpoint {:?} of {}", self.name, self.url), &error).with_advice(advice)
        };
        let mut commit = volume.checkpoint(&self.name).await.map_err(failed)?;
        let receipt = commit.wait().await.map_err(failed)?;
        drop(commit);
        volume.close().await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Made {
                name: &self.name,
                commit: receipt.commit.to_string(),
                position: receipt.position.0,
                state: receipt.state.to_string(),
                time: format!("{:#}", Rfc3339(receipt.time)),
            });
        }
        out.line(format_args!("checkpoint {} is commit {}", self.name, receipt.commit))?;
        out.end()
    }
}
