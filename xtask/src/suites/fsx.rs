//! fsx: random I/O on one file, whose every read is compared with what was written.
//!
//! A case is one profile with one seed. Each profile adds a capability, so that what fails says what is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::bench::{self, Bench};
use super::ground::Ground;
use super::options::Options;
use super::tools;
use crate::Outcome;

struct Profile {
    name: &'static str,
    /// The longest the file gets, and the most that one operation touches.
    file_size: u64,
    operation_size: u64,
    /// How often each operation comes, beside [`WEIGHTS`].
    weights: &'static [(&'static str, u32)],
}

impl Profile {
    /// With operations that are much larger, a tenth as many: still more bytes than any other profile.
    fn ops(&self, bench: &Bench) -> u64 {
        let ops = bench.options.ops;
        if self.operation_size > SMALL.operation_size { ops.div_ceil(10) } else { ops }
    }
}

const WEIGHTS: &[(&str, u32)] = &[
    ("close_open", 1),
    ("read", 10),
    ("write", 10),
    ("mapread", 0),
    ("mapwrite", 0),
    ("truncate", 5),
    ("fsync", 1),
    ("fdatasync", 1),
];

const SMALL: Profile =
    Profile { name: "basic", file_size: 256 << 10, operation_size: 64 << 10, weights: &[] };

const PROFILES: &[Profile] = &[
    SMALL,
    Profile { name: "mmap", weights: &[("mapread", 10), ("mapwrite", 10), ("invalidate", 1)], ..SMALL },
    Profile { name: "alloc", weights: &[("posix_fallocate", 3), ("punch_hole", 3)], ..SMALL },
    Profile {
        name: "cfr",
        weights: &[("sendfile", 5), ("copy_file_range", 5), ("posix_fadvise", 1)],
        ..SMALL
    },
    Profile { name: "big", file_size: 16 << 20, operation_size: 1 << 20, ..SMALL },
];

/// How often the volume commits while [`run_with_commits`] is at work.
const COMMIT_INTERVAL: &str = "50ms";

/// After how many operations [`run_with_reopening`] opens the volume again.
const OPS_BETWEEN_REOPENING: u64 = 20_000;

/// The time for all cases, on a slow machine.
pub(super) fn limit(options: &Options) -> Duration {
    let cases = u32::try_from(PROFILES.len() * options.seeds.len()).unwrap_or(u32::MAX);
    Duration::from_mins(2).saturating_add(limit_of_a_case(options.ops).saturating_mul(cases))
}

fn limit_of_a_case(ops: u64) -> Duration {
    Duration::from_secs(30).saturating_add(Duration::from_millis(ops.saturating_mul(10)))
}

/// All cases on one mount.
pub(super) fn run(bench: &Bench) -> Outcome {
    run_on(bench, &bench.ground())
}

/// All cases while the volume commits all the time.
pub(super) fn run_with_commits(bench: &Bench) -> Outcome {
    run_on(bench, &bench.ground_with_commits_every(COMMIT_INTERVAL))
}

fn run_on(bench: &Bench, ground: &Ground) -> Outcome {
    let site = ground.enter()?;
    for (profile, seed, name) in cases(&bench.options) {
        let file = site.directory().join(format!("fsx.{}", profile.name));
        let ops = profile.ops(bench);
        let outcome = exercise(bench, profile, seed, &file, 1..=ops);
        bench.add_outcome(&name, outcome)?;
        // What a case leaves must not fail the next.
        let _ = fs::remove_file(&file);
    }
    let left = site.leave();
    bench.require("unmounting", left)
}

/// All cases, each in parts between which the volume is unmounted and opened again. A part begins by comparing the whole
/// file with what the part before has left, and goes on with it.
pub(super) fn run_with_reopening(bench: &Bench) -> Outcome {
    let ground = bench.ground();
    bench.require("a changed byte is seen", sees_a_changed_byte(bench))?;
    for (profile, seed, name) in cases(&bench.options) {
        let outcome = exercise_in_parts(bench, &ground, profile, seed);
        bench.add_outcome(&name, outcome)?;
    }
    Ok(())
}

/// The comparison at the beginning of a part is ours, so it is shown a file that is not what was left.
fn sees_a_changed_byte(bench: &Bench) -> Outcome {
    const SEED: u64 = 1;
    let file = bench.beside("fsx.changed");
    exercise(bench, &SMALL, SEED, &file, 1..=100)?;
    exercise(bench, &SMALL, SEED, &file, 101..=200)?;
    let mut bytes = fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).ok_or("the file is empty")? ^= 1;
    fs::write(&file, bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    match exercise(bench, &SMALL, SEED, &file, 201..=300) {
        Err(error) if error.contains("the file is not as operation 200 left it") => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err("fsx went on with another file".to_owned()),
    }
}

fn exercise_in_parts(bench: &Bench, ground: &Ground, profile: &Profile, seed: u64) -> Outcome {
    let ops = profile.ops(bench);
    // Few operations are divided as well: a run that opens nothing again would say nothing.
    let part = OPS_BETWEEN_REOPENING.min(ops.div_ceil(4));
    let mut done = 0;
    // The one operation more is there to look at what the last part has left.
    while done <= ops {
        let last = if done == ops { ops + 1 } else { ops.min(done + part) };
        let site = ground.enter()?;
        let file = site.directory().join(format!("fsx.{}", profile.name));
        let outcome = exercise(bench, profile, seed, &file, done + 1..=last);
        if last > ops {
            let _ = fs::remove_file(&file);
        }
        let left = site.leave();
        outcome.and(left).map_err(|error| format!("operations {} to {last}: {error}", done + 1))?;
        done = last;
    }
    Ok(())
}

fn cases(options: &Options) -> Vec<(&'static Profile, u64, String)> {
    let all = PROFILES.iter().flat_map(|profile| {
        options.seeds.iter().map(move |seed| (profile, *seed, format!("{}/{seed}", profile.name)))
    });
    all.filter(|(_, _, name)| options.wants(name)).collect()
}

fn exercise(
    bench: &Bench,
    profile: &Profile,
    seed: u64,
    file: &Path,
    operations: std::ops::RangeInclusive<u64>,
) -> Outcome {
    let name = format!("{}.{seed}", profile.name);
    let configuration = configuration(bench, profile)?;
    let artifacts = bench.log(&name);
    fs::create_dir_all(&artifacts)
        .map_err(|error| format!("cannot create {}: {error}", artifacts.display()))?;
    let mut command = Command::new(tools::edited_fsx());
    command.arg("-q").arg("-f").arg(configuration).arg("-P").arg(&artifacts);
    command.args(["-S", &seed.to_string(), "-b", &operations.start().to_string()]);
    command.args(["-N", &operations.end().to_string()]).arg(file);
    bench::run_to_success(
        &mut command,
        &bench.log(&format!("{name}.log")),
        limit_of_a_case(*operations.end()),
    )
}

fn configuration(bench: &Bench, profile: &Profile) -> Result<PathBuf, String> {
    let path = bench.beside(&format!("{}.toml", profile.name));
    fs::write(&path, configured(profile))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

fn configured(profile: &Profile) -> String {
    let overridden = |name: &str| profile.weights.iter().any(|(other, _)| *other == name);
    let weights = WEIGHTS.iter().filter(|(name, _)| !overridden(name)).chain(profile.weights);
    let weights: Vec<_> = weights.map(|(name, weight)| format!("{name} = {weight}\n")).collect();
    format!(
        // No operation of no bytes: fsx takes Linux' refusal to allocate nothing for a failure.
        "flen = {}\n\n[opsize]\nmax = {}\nmin = 1\nalign = 1\n\n[weights]\n{}",
        profile.file_size,
        profile.operation_size,
        weights.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_overrides_weights() {
        let mmap = configured(&PROFILES[1]);
        assert_eq!(mmap.matches("mapread").count(), 1, "a key that is there twice is refused");
        assert!(mmap.contains("mapread = 10\n") && mmap.contains("read = 10\n"), "{mmap}");
        assert!(configured(&SMALL).contains("mapread = 0\n"), "what is not said would be the default");
    }

    #[test]
    fn cases_are_profiles_with_seeds() {
        let options = Options::parse(&["--seeds", "3 9", "--case", "mmap"].map(str::to_owned)).unwrap();
        let names: Vec<_> = cases(&options).into_iter().map(|(_, _, name)| name).collect();
        assert_eq!(names, ["mmap/3", "mmap/9"]);
        assert!(limit(&options) > limit_of_a_case(options.ops) * 10);
    }
}
