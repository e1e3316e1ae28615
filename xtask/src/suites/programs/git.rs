//! This repository, cloned and worked with on the mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Job;
use crate::{Outcome, process, workspace};

pub(super) fn run(job: &Job<'_>) -> Outcome {
    // A home of its own: the user's settings stay out, and a repository of another user is taken as it is.
    let settings = "[safe]\n\tdirectory = *\n[user]\n\tname = suites\n\temail = suites@example.invalid\n";
    let home = &job.beside;
    fs::write(home.join(".gitconfig"), settings)
        .map_err(|error| format!("cannot write git's settings: {error}"))?;
    let clone = job.on_volume.join("rfs");
    let git = |directory: &Path| {
        let mut command = Command::new("git");
        command.env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").arg("-C").arg(directory);
        command
    };

    let source = workspace::root();
    job.step("clone", git(&job.on_volume).args(["clone", "--no-local", "--quiet"]).arg(&source).arg(&clone))?;
    sound(job, &git, &clone, "fresh")?;
    let head = process::capture(git(&source).args(["rev-parse", "HEAD"]))?;
    if process::capture(git(&clone).args(["rev-parse", "HEAD"]))? != head {
        return Err("the clone has another HEAD".to_owned());
    }

    fs::write(clone.join("new file"), "new\n").map_err(|error| format!("writing a file: {error}"))?;
    job.step("add", git(&clone).args(["add", "--all"]))?;
    job.step("commit", git(&clone).args(["commit", "--quiet", "-m", "A new file"]))?;
    job.step("branch", git(&clone).args(["switch", "--quiet", "--create", "other", "HEAD~1"]))?;
    job.step("back", git(&clone).args(["switch", "--quiet", "-"]))?;
    job.step("gc", git(&clone).args(["gc", "--quiet", "--aggressive", "--prune=now"]))?;
    sound(job, &git, &clone, "collected")
}

fn sound(job: &Job<'_>, git: &dyn Fn(&Path) -> Command, clone: &Path, when: &str) -> Outcome {
    job.step(&format!("fsck {when}"), git(clone).args(["fsck", "--full", "--strict"]))?;
    let status = process::capture(git(clone).args(["status", "--porcelain"]))?;
    if status.is_empty() {
        Ok(())
    } else {
        Err(format!("{when}: changes: {}", String::from_utf8_lossy(&status)))
    }
}
