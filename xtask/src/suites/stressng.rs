//! stress-ng: its file-system stressors, a few seconds each, with verification. A case is one stressor.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::bench::{self, Bench, Ending};
use super::cases::Verdict;
use super::ext4::{Ext4, judged_by};
use super::options::Options;
use super::sandbox;
use crate::Outcome;

const STRESSORS: &[&str] = &[
    "access",
    "acl",
    "aio",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dup",
    "eventfd",
    "fallocate",
    "fanotify",
    "fcntl",
    "fiemap",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fstat",
    "getdent",
    "hdd",
    "inode-flags",
    "inotify",
    "io",
    "iomix",
    "link",
    "lockf",
    "lockofd",
    "memfd",
    "metamix",
    "mmap",
    "mmapfile",
    "mmapmany",
    "msync",
    "open",
    "readahead",
    "rename",
    "revio",
    "seek",
    "sendfile",
    "splice",
    "symlink",
    "sync-file",
    "touch",
    "unlink",
    "utime",
    "xattr",
];

/// What the kernel passes on to no FUSE file system, whatever that can do. It is run all the same: what is not skipped is
/// judged.
const NOT_WITH_FUSE: &[(&str, &str)] = &[("fiemap", "FS_IOC_FIEMAP")];

const SECONDS: u64 = 3;
/// stress-ng ends a stressor itself; this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(SECONDS * 6 + 20);

/// Sizes that make seconds enough.
const SIZES: &[&str] = &[
    "--hdd-bytes",
    "16M",
    "--fallocate-bytes",
    "16M",
    "--iomix-bytes",
    "8M",
    "--copy-file-bytes",
    "128M",
    "--sync-file-bytes",
    "8M",
    "--readahead-bytes",
    "8M",
    "--dirdeep-inodes",
    "2000",
    "--mmap-file",
];

pub(super) fn limit(_: &Options) -> Duration {
    let stressors = u32::try_from(STRESSORS.len()).unwrap_or(u32::MAX);
    Duration::from_mins(3).saturating_add(LIMIT.saturating_mul(stressors))
}

/// Runs the stressors one after the other, two workers each; those that are skipped, on ext4 too.
pub(super) fn run(bench: &Bench) -> Outcome {
    let ground = bench.ground();
    let site = ground.enter()?;
    let directory = working_directory(site.directory())?;
    let mut skipped = Vec::new();
    for &stressor in STRESSORS.iter().filter(|stressor| bench.options.wants(stressor)) {
        match stress(bench, stressor, &directory, stressor)? {
            verdict @ Verdict::Skipped(_) => skipped.push((stressor, verdict)),
            verdict => bench.add(stressor, &verdict)?,
        }
    }
    let cleared =
        fs::remove_dir_all(&directory).map_err(|error| format!("removing what the stressors left: {error}"));
    bench.require("clearing up", cleared)?;
    let left = site.leave();
    bench.require("unmounting", left)?;
    if skipped.is_empty() { Ok(()) } else { compare_with_ext4(bench, skipped) }
}

fn compare_with_ext4(bench: &Bench, skipped: Vec<(&str, Verdict)>) -> Outcome {
    let ext4 = Ext4::mount(bench)?;
    let directory = working_directory(ext4.directory())?;
    for (stressor, verdict) in skipped {
        let on_ext4 = stress(bench, stressor, &directory, &format!("{stressor}.ext4"))?;
        bench.add(stressor, &judged(stressor, verdict, &on_ext4))?;
    }
    ext4.unmount()
}

fn judged(stressor: &str, verdict: Verdict, on_ext4: &Verdict) -> Verdict {
    let call = NOT_WITH_FUSE.iter().find(|(name, _)| *name == stressor).map(|(_, call)| *call);
    match (&verdict, call) {
        (Verdict::Skipped(said), Some(call)) if said.contains(call) => {
            Verdict::Skipped(format!("{said} (the kernel passes it on to no FUSE file system)"))
        }
        _ => judged_by(verdict, Some(on_ext4)),
    }
}

/// Some stressors run as a user without rights.
fn working_directory(parent: &Path) -> Result<PathBuf, String> {
    let directory = parent.join("stressng");
    fs::create_dir(&directory)
        .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)))
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    Ok(directory)
}

fn stress(bench: &Bench, stressor: &str, directory: &Path, log: &str) -> Result<Verdict, String> {
    let log = bench.log(&format!("{log}.log"));
    let mut command = Command::new("stress-ng");
    command.arg("--temp-path").arg(directory).args([&format!("--{stressor}"), "2", "--verify"]);
    command.args(["--timeout", &format!("{SECONDS}s")]).args(SIZES);
    let ending = bench::run_limited(&mut command, &log, LIMIT)?;
    let said = fs::read_to_string(&log).unwrap_or_default();
    Ok(verdict(&ending, &said, &sandbox::excerpt(&log)))
}

/// Reads the exit status as stress-ng's manual explains it, and the lines by which it says that a check has failed.
fn verdict(ending: &Ending, said: &str, excerpt: &str) -> Verdict {
    let first = |words: &[&str]| {
        said.lines()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(|line| line.trim().to_owned())
    };
    let complaint = first(&["stress-ng: fail", "stress-ng: error"]);
    let left_out =
        first(&["skipped stressor", "skipping stressor", "not implemented", "unrecognized option"]);
    match (ending, complaint, left_out) {
        (Ending::OutOfTime, ..) => {
            Verdict::Failed(format!("not done after {} s: {excerpt}", LIMIT.as_secs()))
        }
        (Ending::Signalled, ..) => Verdict::Failed(format!("ended by a signal: {excerpt}")),
        (Ending::Exited(0), None, None) => Verdict::Passed,
        (Ending::Exited(0 | 3 | 4), None, Some(line)) => Verdict::Skipped(line),
        (Ending::Exited(1), None, Some(line)) if line.contains("unrecognized option") => {
            Verdict::Skipped(line)
        }
        (Ending::Exited(_), Some(line), _) => Verdict::Failed(line),
        (Ending::Exited(code), ..) => Verdict::Failed(format!("ended with {code}: {excerpt}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuse_lacks_may_be_skipped_for_that_reason_only() {
        let skipped = |said: &str| Verdict::Skipped(said.to_owned());
        let of = |stressor, said| judged(stressor, skipped(said), &Verdict::Passed);
        assert!(matches!(of("fiemap", "FS_IOC_FIEMAP not supported"), Verdict::Skipped(_)));
        assert!(matches!(of("fiemap", "no memory"), Verdict::Failed(_)));
        assert!(matches!(of("xattr", "FS_IOC_FIEMAP not supported"), Verdict::Failed(_)));
    }

    #[test]
    fn verdicts() {
        let of = |code, said: &str| verdict(&Ending::Exited(code), said, "end");
        assert_eq!(of(0, "stress-ng: info:  [7] successful run completed\n"), Verdict::Passed);
        let fail = "stress-ng: fail:  [7] rename: rename failed\n";
        assert_eq!(of(0, fail), Verdict::Failed(fail.trim().to_owned()), "whatever the status says");
        assert!(matches!(of(4, "stress-ng: info: [7] x: not implemented\n"), Verdict::Skipped(_)));
        assert_eq!(of(3, ""), Verdict::Failed("ended with 3: end".to_owned()), "no reason, no excuse");
        assert!(matches!(verdict(&Ending::OutOfTime, "", "end"), Verdict::Failed(_)));
    }
}
