//! `rfs rewind`: a volume, or a part of it, as it was.

use std::path::PathBuf;

use rfs::At;
use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Format, Out};
use crate::state;
use crate::volume::open_writer;

/// Take a volume back to an older state, or what is at one path of it.
///
/// This is a new commit: what is left behind stays a commit of its own, to which it can be taken back as well, for as long
/// as it is kept. Checkpoints stay. Without PATH it takes a few requests, however much differs.
///
/// This takes the volume over: a program that writes it, such as `rfs mount`, learns so at its next commit, and ends.
///
/// JSON: {state, path, commit, left}; {left} is the commit that was left behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Rewind {
    /// The volume.
    url: String,
    /// The state to go back to: a checkpoint's name, a commit's number, such as 3.12, or a time, as for --at elsewhere.
    #[arg(value_parser = state::parse)]
    state: At,
    /// What to take back: a file, or a directory with everything below it. Default: the whole volume.
    #[arg(default_value = "/")]
    path: PathBuf,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Rewound {
    state: String,
    path: String,
    commit: String,
    left: String,
}

impl Rewind {
    pub(crate) async fn run(&self) -> Done {
        let volume = open_writer(&self.url).await?;
        let failed = |error: rfs::Error| {
            let advice = match error.kind() {
                rfs::ErrorKind::NoSuchState => {
                    "`rfs checkpoints` and `rfs log` list the states that there are"
                }
                _ => "",
            };
            Failure::of(format!("rewind {}", self.url), &error).with_advice(advice)
        };
        let left = volume.commit().await.map_err(failed)?.commit;
        let receipt = volume.rewind_path(&self.path, &self.state).await.map_err(failed)?;
        volume.close().await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Rewound {
                state: self.state.to_string(),
                path: self.path.display().to_string(),
                commit: receipt.commit.to_string(),
                left: left.to_string(),
            });
        }
        let (path, commit) = (self.path.display(), receipt.commit);
        out.line(format_args!(
            "{path} is as at {}, by commit {commit}; commit {left} is as it was",
            self.state
        ))?;
        out.end()
    }
}
