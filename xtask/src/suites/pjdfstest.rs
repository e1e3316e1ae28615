//! pjdfstest: what POSIX says of names, attributes and errors, one verdict for each test.
//!
//! No test is left out. What a file system does not do, the suite skips; ext4 on this machine is the yardstick, and a
//! test that is skipped here and not there has failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::bench::{self, Bench, Ending};
use super::cases::Verdict;
use super::ext4::{Ext4, judged_by};
use super::{sandbox, tools};
use crate::{Outcome, process, workspace};

const LIMIT: Duration = Duration::from_mins(4);

/// Everything the suite knows and Linux has.
const FEATURES: &[&str] = &["posix_fallocate", "rename_ctime", "stat_st_birthtime", "utime_now", "utimensat"];

/// Runs every test on the ground and on ext4.
pub(super) fn run(bench: &Bench) -> Outcome {
    let yardstick = on_ext4(bench)?;
    let ground = bench.ground();
    let site = ground.enter()?;
    let found = every_test(bench, site.directory(), "tests");
    let left = site.leave();
    let found = found?;
    for name in yardstick.keys().filter(|name| !found.contains_key(*name)) {
        if bench.options.wants(name) {
            bench.add(name, &Verdict::Failed("it was not run".to_owned()))?;
        }
    }
    for (name, verdict) in &found {
        if !bench.options.wants(name) {
            continue;
        }
        let verdict = judged_by(verdict.clone(), yardstick.get(name));
        bench.add(name, &verdict)?;
    }
    bench.require("unmounting", left)
}

fn on_ext4(bench: &Bench) -> Result<Verdicts, String> {
    let ext4 = Ext4::mount(bench)?;
    let found = every_test(bench, ext4.directory(), "ext4");
    ext4.unmount()?;
    found
}

type Verdicts = BTreeMap<String, Verdict>;

/// Two runs of the suite: some of its tests leave files open, after which the file system cannot be made read-only, so
/// those that do that have a run of their own.
fn every_test(bench: &Bench, directory: &Path, log: &str) -> Result<Verdicts, String> {
    let mut verdicts = one_run(bench, directory, log, None)?;
    if bench.options.on.is_none() {
        let read_only = one_run(bench, directory, &format!("{log}-read-only"), Some("erofs"))?;
        verdicts.extend(read_only);
    }
    Ok(verdicts)
}

fn one_run(bench: &Bench, directory: &Path, log: &str, remounting: Option<&str>) -> Result<Verdicts, String> {
    let configuration = bench.beside(&format!("{log}.toml"));
    fs::write(&configuration, configured(remounting.is_some(), &nobodys_group()?))
        .map_err(|error| format!("cannot write {}: {error}", configuration.display()))?;
    let log = bench.log(&format!("{log}.log"));
    let other = other_file_system(bench)?;
    let mut command = Command::new(tools::installed("pjdfstest"));
    command.arg("-c").arg(&configuration).arg("-p").arg(directory).arg("-s").arg(&other);
    command.args(remounting).env("PATH", path_with_own_mount()?).env("LD_PRELOAD", tools::pathconf());
    let ending = bench::run_limited(&mut command, &log, LIMIT)?;
    let bytes = fs::read(&log).map_err(|error| format!("cannot read {}: {error}", log.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    match parse(&text) {
        Some(verdicts) if matches!(ending, Ending::Exited(_)) => Ok(verdicts),
        _ => Err(format!("pjdfstest did not come to its summary: {}", sandbox::excerpt(&log))),
    }
}

fn configured(may_remount: bool, nobodys_group: &str) -> String {
    let features: Vec<_> = FEATURES.iter().map(|feature| format!("{feature} = {{}}\n")).collect();
    format!(
        "[features]\n{}\n\
         [settings]\nnaptime = 0.02\nallow_remount = {may_remount}\nexpected_failures = []\n\n\
         [dummy_auth]\nentries = [[\"nobody\", \"{nobodys_group}\"], [\"daemon\", \"daemon\"]]\n",
        features.concat()
    )
}

/// Debian says `nogroup`, others `nobody`.
fn nobodys_group() -> Result<String, String> {
    let said = process::capture(Command::new("id").args(["-gn", "nobody"]))?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

/// A tmpfs, for tests that cross from one file system to another.
fn other_file_system(bench: &Bench) -> Result<PathBuf, String> {
    let other = bench.beside("other");
    if !other.exists() {
        fs::create_dir_all(&other).map_err(|error| format!("cannot create {}: {error}", other.display()))?;
        process::capture(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "other"]).arg(&other))?;
    }
    Ok(other)
}

/// The suite calls `mount` to make the file system read-only; ours is found first.
fn path_with_own_mount() -> Result<std::ffi::OsString, String> {
    let mut directories = vec![workspace::root().join("suites/bin")];
    directories.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(directories).map_err(|error| format!("cannot set PATH: {error}"))
}

/// The verdicts of a run, or `None` unless its summary agrees with them.
fn parse(log: &str) -> Option<Verdicts> {
    let mut verdicts = Verdicts::new();
    let mut summary = None;
    let mut last: Option<String> = None;
    for line in log.lines() {
        let line = without_colours(line);
        if let Some(counts) = line.strip_prefix("Summary: ") {
            summary = Some(counts.to_owned());
        } else if let Some((name, verdict)) = verdict(&line) {
            verdicts.insert(name.clone(), verdict);
            last = Some(name);
        } else if let (Some(name), Some(said)) = (&last, line.strip_prefix('\t')) {
            match verdicts.get_mut(name) {
                Some(Verdict::Failed(reason) | Verdict::Skipped(reason)) if reason.len() < 400 => {
                    if !reason.is_empty() {
                        reason.push_str("; ");
                    }
                    reason.push_str(said.trim());
                }
                _ => {}
            }
        }
    }
    let counted = |word: &str| -> Option<usize> {
        let count = summary.as_ref()?.split(", ").find_map(|part| part.strip_suffix(word))?;
        count.trim().parse().ok()
    };
    let number = |wanted: fn(&Verdict) -> bool| verdicts.values().filter(|verdict| wanted(verdict)).count();
    let agrees = counted(" failed") == Some(number(|verdict| matches!(verdict, Verdict::Failed(_))))
        && counted(" skipped") == Some(number(|verdict| matches!(verdict, Verdict::Skipped(_))))
        && counted(" passed") == Some(number(|verdict| matches!(verdict, Verdict::Passed)))
        && counted(" total") == Some(verdicts.len());
    agrees.then_some(verdicts)
}

/// `chmod::eloop        ok`
fn verdict(line: &str) -> Option<(String, Verdict)> {
    let (name, word) = line.trim_end().split_once(' ')?;
    if !name.contains("::") {
        return None;
    }
    let verdict = match word.trim() {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed(String::new()),
        "skipped" => Verdict::Skipped(String::new()),
        _ => return None,
    };
    Some((name.to_owned(), verdict))
}

fn without_colours(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or("", |(_, text)| text));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\u{1b}[34mchmod::eloop\u{1b}[0m                  \u{1b}[32mok\u{1b}[0m\n\
                       \tReturns ELOOP\n\
                       unlink::erofs_named       skipped\n\
                       \tRemounts are not allowed\n\
                       open::eacces              FAILED\n\
                       \tassertion failed\n\
                       \x20  1: std::panicking::panic_with_hook\n\
                       \n\
                       Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";

    #[test]
    fn verdicts_have_their_reasons() {
        let verdicts = parse(LOG).unwrap();
        assert_eq!(verdicts["chmod::eloop"], Verdict::Passed);
        assert_eq!(verdicts["unlink::erofs_named"], Verdict::Skipped("Remounts are not allowed".to_owned()));
        assert_eq!(verdicts["open::eacces"], Verdict::Failed("assertion failed".to_owned()));
    }

    #[test]
    fn a_summary_that_disagrees_is_no_summary() {
        assert_eq!(parse(&LOG.replace("3 total", "4 total")), None);
        assert_eq!(parse(&LOG.replace("open::eacces              FAILED\n", "")), None);
        assert_eq!(parse(LOG.split("Summary").next().unwrap()), None);
    }
}
