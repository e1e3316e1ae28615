//! `rfs cp`: between this machine and a volume.

mod inward;
mod outward;
mod side;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::side::Side;
use super::Done;
use crate::error::Failure;
use crate::output::{Format, Out, Size, entries};
use crate::state::State;

/// Copy files and directories into a volume, or out of it, with all attributes.
///
/// The volume's side is written as URL:/path, such as s3://bucket/prefix:/dir/file or file:///store:/dir. Where DST is a
/// directory, SRC is copied into it under its own name; of SRC/. only what is in it. Permissions, owners, times, extended attributes, holes and, within
/// a directory, hard links are copied too; symlinks are copied as they are. A file that is there is overwritten; a directory
/// of this machine that is there is not. What is copied in is committed at the end, and, of much, on the way; this takes
/// the volume over, as `rfs checkpoint` does.
///
/// JSON: {files, directories, bytes}, where {files} are all but directories.
#[derive(Debug, clap::Args)]
pub(crate) struct Cp {
    /// Copy directories, and what is below.
    #[arg(short, long)]
    recursive: bool,
    /// What, and at last where to.
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    paths: Vec<OsString>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    format: Format,
}

#[derive(Default, Serialize)]
struct Copied {
    files: u64,
    directories: u64,
    bytes: u64,
}

impl Cp {
    pub(crate) async fn run(&self) -> Done {
        let Some((last, first)) = self.paths.split_last() else { return Ok(()) };
        let sources: Vec<Side> = first.iter().map(|path| Side::parse(path)).collect::<Result<_, _>>()?;
        let copied = match Side::parse(last)? {
            Side::Volume { url, path } => {
                if !matches!(self.state.at, rfs::At::Head) {
                    return Err(Failure::usage("--at says what to copy out of a volume, not where to"));
                }
                inward::copy(self, &sources, &url, &path).await
            }
            Side::Host(dir) => outward::copy(self, &sources, &dir).await,
        }?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&copied);
        }
        let Copied { files, directories, bytes } = copied;
        out.line(format_args!("copied {}, {}", entries(files, directories), Size(bytes)))?;
        out.end()
    }
}

/// Where a source goes: into a directory by its own name, or to exactly that path. The root has no name, and neither has
/// `dir/.`: what is in it is copied.
fn target(source: &Path, into: bool, to: &Path) -> PathBuf {
    let bytes = source.as_os_str().as_bytes();
    let nameless = bytes == b"." || bytes.ends_with(b"/.");
    match source.file_name() {
        Some(name) if into && !nameless => to.join(name),
        _ => to.to_path_buf(),
    }
}

/// Both sides are this machine, or both a volume.
fn one_side() -> Failure {
    Failure::usage("one side has to be this machine, the other a volume, written as URL:/path")
}

fn not_recursive(path: &str) -> Failure {
    Failure::usage(format!("{path} is a directory: -r copies it"))
}

fn not_a_directory(path: &str) -> Failure {
    Failure::usage(format!("{path} is no directory, and there is more than one thing to copy to it"))
}
