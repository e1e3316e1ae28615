//! `rfs apply`: a directory of the host goes from one state of a volume to another.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs::{Applied, ApplyError, ApplyOptions, At};
use serde::Serialize;

use super::Done;
use crate::entry;
use crate::error::Failure;
use crate::output::{Count, Format, Out, Shown, Size};
use crate::progress::Progress;
use crate::state;

/// Bring a directory of this machine, which stands at one state of a volume, to another state; only what differs is touched.
///
/// First it is verified that the directory stands at the first state, as far as the difference touches it. If it does not,
/// nothing is changed, what is otherwise is listed, and the exit code is 2. When it is interrupted, the same command goes
/// on. Owners and devices need root.
///
/// JSON: {created, removed, changed, bytes, owners, refused, unlisted}: {refused} is what the host did not take, an array of
/// {path, why}.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// The volume.
    url: String,
    /// The directory.
    dir: PathBuf,
    /// The state that it stands at: a checkpoint's name, a commit's number, a time, or `head`, as for --at of other commands.
    #[arg(value_parser = state::parse)]
    from: At,
    /// The state that it goes to.
    #[arg(value_parser = state::parse)]
    to: At,
    /// Take a file of the right size and time of modification to have the right content, without reading it.
    #[arg(long)]
    trust_times: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    created: u64,
    removed: u64,
    changed: u64,
    bytes: u64,
    owners: bool,
    refused: Vec<Line>,
    unlisted: u64,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    path: entry::Path,
    why: String,
}

impl Apply {
    pub(crate) async fn run(&self) -> Done {
        let from = state::open(&self.url, self.from.clone()).await?;
        let to = state::open(&self.url, self.to.clone()).await?;
        let progress = Arc::new(Progress::new());
        let show = Arc::clone(&progress);
        let options = ApplyOptions::new().with_trust_times(self.trust_times).with_progress(move |at| {
            show.show(|| format!("{} verified, {} steps, {}", at.verified, at.steps, Size(at.bytes)));
        });
        let applied = from.apply_to(&self.dir, &to, options).await;
        drop(progress);
        let applied = match applied {
            Ok(applied) => applied,
            Err(ApplyError::NotThere(misfits)) => {
                for misfit in &misfits {
                    eprintln!("rfs: {} {}", shown(&misfit.path), misfit.why);
                }
                let what = format!("{} is not at the first state; nothing was changed", self.dir.display());
                return Err(Failure::usage(what));
            }
            Err(ApplyError::Failed(error)) => return Err(Failure::of("apply", &error)),
            Err(error) => return Err(Failure::new(error.to_string())),
        };
        self.print(&applied)
    }

    fn print(&self, applied: &Applied) -> Done {
        let mut out = Out::new();
        for refused in &applied.refused {
            eprintln!("rfs: {}: {}", shown(&refused.path), refused.why);
        }
        if !applied.owners {
            let dir = self.dir.display();
            eprintln!(
                "rfs: what belongs to others in the volume is yours in {dir}: only root can give it away"
            );
        }
        if self.format.json {
            let refused = applied.refused.iter().map(|refused| Line {
                path: entry::Path::new(refused.path.as_os_str().as_bytes()),
                why: refused.why.clone(),
            });
            return out.json(&Report {
                created: applied.created,
                removed: applied.removed,
                changed: applied.changed,
                bytes: applied.bytes,
                owners: applied.owners,
                refused: refused.collect(),
                unlisted: applied.unlisted,
            });
        }
        let entries = Count(applied.created, "entry", "entries");
        let (removed, changed) = (applied.removed, applied.changed);
        out.line(format_args!(
            "created {entries}, removed {removed}, changed {changed}; wrote {}",
            Size(applied.bytes)
        ))?;
        out.end()
    }
}

fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_bytes()).to_string()
}
