//! `rfs restore`: a state of a volume becomes a directory of the host.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs::{RestoreOptions, Restored, Unrestored, Volume};
use serde::Serialize;

use super::Done;
use crate::entry;
use crate::error::{DAMAGED, Failure};
use crate::output::{self, Count, Format, Out, Shown, Size};
use crate::progress::Progress;
use crate::state::{self, State};

/// Restore a volume, or a part of it, to a directory of this machine, with all that it holds.
///
/// All content is verified. The directory is made if it is missing; it has to be empty for a whole directory. When it is
/// interrupted, the same command goes on where it stood. Owners and devices need root; {owners} tells whether all have
/// theirs. What could not be restored is listed, and the exit code is 4 if it is damaged, else 1.
///
/// JSON: {directories, entries, kept, bytes, owners, missing, refused, unlisted}: {kept} are those of an interrupted
/// restore; {missing} is what is not there, {refused} what the host did not take, arrays of {path, why, damaged}.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The volume.
    url: String,
    /// The directory.
    dir: PathBuf,
    /// Only what this path in the volume names: of a directory what is in it, anything else itself.
    #[arg(default_value = "/")]
    path: OsString,
    #[command(flatten)]
    state: State,
    /// Let a single file take the place of one with its name.
    #[arg(long)]
    replace: bool,
    /// How many files at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    directories: u64,
    entries: u64,
    kept: u64,
    bytes: u64,
    owners: bool,
    missing: Vec<Line>,
    refused: Vec<Line>,
    unlisted: u64,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    path: entry::Path,
    why: String,
    damaged: bool,
}

impl Restore {
    pub(crate) async fn run(&self) -> Done {
        let volume = state::open(&self.url, self.state.at.clone()).await?;
        let options = RestoreOptions::new()
            .with_path(Path::new(&self.path))
            .with_replace(self.replace)
            .with_parallel(self.parallel.into());
        let restored = restore(&volume, &self.dir, options).await?;
        let printed = self.print(&restored);
        // Whoever reads it no more is told by the exit code all the same.
        complete(&restored, &self.dir)?;
        printed
    }

    fn print(&self, restored: &Restored) -> Done {
        let mut out = Out::new();
        if self.format.json {
            let lines = |list: &[Unrestored]| {
                let line = |unrestored: &Unrestored| Line {
                    path: entry::Path::new(unrestored.path.as_os_str().as_bytes()),
                    why: unrestored.why.clone(),
                    damaged: unrestored.damaged,
                };
                list.iter().map(line).collect()
            };
            return out.json(&Report {
                directories: restored.directories,
                entries: restored.entries,
                kept: restored.kept,
                bytes: restored.bytes,
                owners: restored.owners,
                missing: lines(&restored.missing),
                refused: lines(&restored.refused),
                unlisted: restored.unlisted,
            });
        }
        let Restored { directories, entries, kept, bytes, .. } = restored;
        let restored = output::entries(*entries, *directories);
        out.line(format_args!("restored {restored}, {}", Size(*bytes)))?;
        if *kept > 0 {
            out.line(format_args!("of these from before: {}", Count(*kept, "file", "files")))?;
        }
        out.end()
    }
}

pub(super) async fn restore(
    volume: &Volume,
    dir: &Path,
    options: RestoreOptions,
) -> Result<Restored, Failure> {
    let progress = Arc::new(Progress::new());
    let show = Arc::clone(&progress);
    let options = options.with_progress(move |at| {
        show.show(|| {
            let (bytes, total) = (Size(at.bytes), Size(at.total_bytes));
            format!("{} of {} files, {bytes} of {total}", at.entries, at.total_entries)
        });
    });
    let restored = volume.restore(dir, options).await;
    drop(progress);
    restored.map_err(|error| Failure::of("restore", &error))
}

/// Says on the standard error output what is not as it was in the volume, and fails if something is not there.
pub(super) fn complete(restored: &Restored, dir: &Path) -> Done {
    let path = |unrestored: &Unrestored| Shown(unrestored.path.as_os_str().as_bytes()).to_string();
    for refused in &restored.refused {
        eprintln!("rfs: {}: not restored: {}", path(refused), refused.why);
    }
    if !restored.owners {
        eprintln!(
            "rfs: what belongs to others in the volume is yours in {}: only root can give it away",
            dir.display()
        );
    }
    for missing in &restored.missing {
        eprintln!("rfs: {}: missing: {}", path(missing), missing.why);
    }
    if restored.unlisted > 0 {
        eprintln!("rfs: and {} more", restored.unlisted);
    }
    let Some(first) = restored.missing.first() else { return Ok(()) };
    let failure = Failure::new(format!(
        "{} is not complete: {} is missing; restore again to go on when its cause is mended",
        dir.display(),
        path(first)
    ));
    let is_damaged = restored.missing.iter().any(|missing| missing.damaged);
    Err(if is_damaged { failure.with_code(DAMAGED) } else { failure })
}
