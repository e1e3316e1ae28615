//! `cargo xtask suites`: test suites and programs of others on a mounted volume.
//!
//! Each suite runs once for each store, in PID and mount namespaces of its own (see `sandbox`), on a fresh volume.
//! What it finds is a list of cases, each with a verdict; logs stay below `target/suites/`.

mod bench;
mod cases;
mod ext4;
mod fsx;
mod ground;
mod options;
mod pjdfstest;
mod programs;
pub(crate) mod sandbox;
mod stressng;
pub(crate) mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tally::Tally;
use crate::{Outcome, time};
use bench::Bench;
use cases::{Case, Verdict};
use options::{Options, Store};

pub use options::USAGE;

struct Suite {
    name: &'static str,
    stores: &'static [Store],
    needs: &'static [tools::Need],
    limit: fn(&Options) -> Duration,
    run: fn(&Bench) -> Outcome,
}

const BOTH: &[Store] = &[Store::Memory, Store::File];

const SUITES: &[Suite] = &[
    Suite {
        name: "pjdfstest",
        stores: BOTH,
        needs: &[tools::PJDFSTEST, tools::PATHCONF],
        limit: |_| Duration::from_mins(10),
        run: pjdfstest::run,
    },
    Suite { name: "fsx", stores: BOTH, needs: &[tools::FSX], limit: fsx::limit, run: fsx::run },
    Suite {
        name: "fsx-commit",
        stores: BOTH,
        needs: &[tools::FSX],
        limit: fsx::limit,
        run: fsx::run_with_commits,
    },
    Suite {
        name: "fsx-reopen",
        // A memory store ends with its process.
        stores: &[Store::File],
        needs: &[tools::FSX],
        limit: |options| fsx::limit(options) * 2,
        run: fsx::run_with_reopening,
    },
    Suite {
        name: "stressng",
        stores: BOTH,
        needs: &[tools::STRESS_NG],
        limit: stressng::limit,
        run: stressng::run,
    },
    Suite {
        name: "programs",
        stores: BOTH,
        needs: programs::NEEDS,
        limit: |_| Duration::from_mins(20),
        run: programs::run,
    },
];

/// Runs the suites that the arguments name, or all, and says what passed.
pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let suites = named(&options.names)?;
    if let Some(directory) = &options.inside {
        return run_inside(&options, &suites, directory);
    }
    if let Some(reason) = sandbox::missing(options.on.is_none()) {
        return Err(reason);
    }
    let needs: Vec<_> = suites.iter().flat_map(|suite| suite.needs).copied().collect();
    tools::install(&needs)?;
    if options.on.is_none() && options.rfs.is_none() {
        tools::build_rfs()?;
    }
    let mut total = Tally::default();
    for suite in &suites {
        for store in stores(suite, &options) {
            total = total + run_in_sandbox(suite, store, &options)?;
        }
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    match total {
        Tally { failed: 0, passed: 1.., .. } => Ok(()),
        Tally { failed: 0, .. } => Err("no case was run".to_owned()),
        _ => Err(format!("{} cases failed; see {}", total.failed, directory_of_logs().display())),
    }
}

/// Runs what takes a few minutes, for CI; where nothing can be mounted it says so, and nothing has failed.
pub fn run_quick() -> Outcome {
    if let Some(reason) = sandbox::missing(true) {
        println!("skipped: {reason}");
        return Ok(());
    }
    // A release build would take longer than the suites do.
    let rfs = tools::build_checked_rfs()?.to_string_lossy().into_owned();
    let mut arguments = QUICK.map(str::to_owned).to_vec();
    arguments.extend(["--rfs".to_owned(), rfs]);
    run(&arguments)
}

const QUICK: [&str; 7] = ["pjdfstest", "fsx", "programs", "--ops", "2000", "--seeds", "1"];

fn named(names: &[String]) -> Result<Vec<&'static Suite>, String> {
    if names.is_empty() {
        return Ok(SUITES.iter().collect());
    }
    let find = |name: &String| {
        SUITES.iter().find(|suite| suite.name == name).ok_or_else(|| {
            let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            format!("there is no suite {name:?}; there are {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

fn stores(suite: &Suite, options: &Options) -> Vec<Store> {
    let wanted = |store: &Store| options.store.is_none_or(|only| only == *store);
    let stores: Vec<_> = suite.stores.iter().copied().filter(wanted).collect();
    // On a plain directory there is no store to choose.
    if options.on.is_some() { stores.into_iter().take(1).collect() } else { stores }
}

fn directory_of_logs() -> PathBuf {
    tools::target_directory().join("suites")
}

/// Runs one suite in its sandbox and prints its figures.
fn run_in_sandbox(suite: &Suite, store: Store, options: &Options) -> Result<Tally, String> {
    let place = options.on.as_ref().map_or(store.name(), |_| "directory");
    let directory = sandbox::RunDirectory::take(&directory_of_logs(), &format!("{}-{place}", suite.name))?;
    let start = time::now();
    let limit = (suite.limit)(options);
    let ending =
        sandbox::run(&options.for_inside(suite.name, store, directory.path()), limit, directory.path())?;
    let mut cases = cases::read(&directory.path().join(cases::FILE))?;
    let ending = match ending {
        Ok(()) if cases.is_empty() => Err("no case was run".to_owned()),
        ending => ending,
    };
    if let Err(reason) = ending {
        cases.push(Case { name: "the run itself".to_owned(), verdict: Verdict::Failed(reason) });
    }
    if !options.keep {
        directory.remove_scratch()?;
    }
    let tally = cases::tally(&cases);
    for Case { name, verdict } in &cases {
        match verdict {
            Verdict::Passed => {}
            Verdict::Skipped(reason) => println!("  skipped {name}: {reason}"),
            Verdict::Failed(reason) => println!("  FAILED {name}: {reason}"),
        }
    }
    println!(
        "{} ({place}): {} passed, {} failed, {} skipped, {:.1} s; logs in {}",
        suite.name,
        tally.passed,
        tally.failed,
        tally.skipped,
        start.elapsed().as_secs_f64(),
        directory.path().display()
    );
    Ok(tally)
}

/// The same task again, inside the sandbox: runs the one suite.
fn run_inside(options: &Options, suites: &[&Suite], directory: &Path) -> Outcome {
    let ([suite], Some(store)) = (suites, options.store) else {
        return Err("inside the sandbox there is one suite and one store".to_owned());
    };
    let scratch = directory.join(sandbox::SCRATCH);
    fs::create_dir_all(&scratch).map_err(|error| format!("cannot create {}: {error}", scratch.display()))?;
    (suite.run)(&Bench::new(options, store, directory, &scratch)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn names_choose_suites() {
        let names =
            |line| named(&options(line).names).unwrap().iter().map(|suite| suite.name).collect::<Vec<_>>();
        assert_eq!(names("").len(), SUITES.len());
        assert_eq!(names("programs fsx --ops 5"), ["programs", "fsx"]);
        assert_eq!(names("pjdfstest fsx programs --ops 2000 --seeds 1"), ["pjdfstest", "fsx", "programs"]);
        let error = named(&["fxs".to_owned()]).map(|_| ()).unwrap_err();
        assert!(error.starts_with("there is no suite \"fxs\"; there are pjdfstest, fsx, "), "{error}");
    }

    #[test]
    fn stores_are_those_of_the_suite_and_of_the_options() {
        let of = |name: &str, line| stores(named(&[name.to_owned()]).unwrap()[0], &options(line));
        assert_eq!(of("fsx", ""), [Store::Memory, Store::File]);
        assert_eq!(of("fsx", "--store file"), [Store::File]);
        assert_eq!(of("fsx-reopen", "--store memory"), []);
        assert_eq!(of("fsx", "--on /var/tmp"), [Store::Memory]);
    }
}
