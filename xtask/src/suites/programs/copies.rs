//! Trees brought to the mount, and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Job, manifest, script};
use crate::{Outcome, process};

/// A crate's sources, unpacked on the mount and beside it.
pub(super) fn untar(job: &Job<'_>) -> Outcome {
    let archive = largest_crate()?;
    for directory in [&job.on_volume, &job.beside] {
        job.step("tar", Command::new("tar").args(["-x", "-z", "-f"]).arg(&archive).arg("-C").arg(directory))?;
        // Archives of crates have no directories, so theirs is the time of unpacking.
        let touched = ["-type", "d", "-exec", "touch", "--date", "@1000000000.5", "{}", "+"];
        job.step("touch", Command::new("find").arg(directory).args(touched))?;
    }
    manifest::compare(&manifest::of(&job.beside)?, &manifest::of(&job.on_volume)?)
}

/// The largest archive in cargo's cache of crates: what this workspace was built from is there.
fn largest_crate() -> Result<PathBuf, String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let cache = home.ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/cache");
    let listed =
        process::capture(Command::new("find").arg(&cache).args(["-name", "*.crate", "-printf", "%s %p\n"]))?;
    let text = String::from_utf8_lossy(&listed);
    let sized = text.lines().filter_map(|line| {
        let (size, path) = line.split_once(' ')?;
        Some((size.parse::<u64>().ok()?, path))
    });
    sized.max().map(|(_, path)| PathBuf::from(path)).ok_or_else(|| format!("no crate in {}", cache.display()))
}

/// A tree with everything that a copy can lose, to the mount and back again.
pub(super) fn rsync(job: &Job<'_>) -> Outcome {
    let source = job.beside.join("source");
    let back = job.beside.join("back");
    job.step("tree", Command::new("sh").arg(script("odd-tree.sh")).arg(&source))?;
    copy(job, "there", &source, &job.on_volume)?;
    copy(job, "back", &job.on_volume, &back)?;
    same(&source, &job.on_volume)?;
    same(&source, &back)?;
    let sparse = process::capture(Command::new("stat").args(["-c", "%b"]).arg(job.on_volume.join("sparse")))?;
    let blocks: u64 = String::from_utf8_lossy(&sparse).trim().parse().map_err(|_| "stat gave no number")?;
    if blocks > 256 {
        return Err(format!("the sparse file takes {blocks} blocks, so its hole was filled"));
    }
    manifest::compare(&manifest::of(&source)?, &manifest::of(&job.on_volume)?)
}

/// rsync calls times the same when they are in the same second, unless told otherwise.
const NANOSECONDS: &str = "--modify-window=-1";

fn copy(job: &Job<'_>, step: &str, from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to).map_err(|error| format!("cannot create {}: {error}", to.display()))?;
    let mut command = Command::new("rsync");
    command.args(["-aHAX", "--sparse", "--numeric-ids", NANOSECONDS]);
    job.step(step, command.args(of(from, to)))
}

/// rsync, asked what it would still have to change, says nothing.
fn same(one: &Path, other: &Path) -> Outcome {
    let mut command = Command::new("rsync");
    command.args(["-aHAXnc", "--delete", "--itemize-changes", "--numeric-ids", NANOSECONDS]);
    let changes = process::capture(command.args(of(one, other)))?;
    if changes.is_empty() {
        return Ok(());
    }
    Err(format!("{} differs: {}", other.display(), String::from_utf8_lossy(&changes)))
}

/// With a slash at its end, rsync takes the contents of a directory.
fn of(from: &Path, to: &Path) -> [String; 2] {
    [from, to].map(|path| format!("{}/", path.display()))
}
