//! `cargo xtask test`: every test of the workspace, with the servers that some of them need.

use std::io::IsTerminal;
use std::process::{Command, ExitStatus, Stdio};

use crate::figures;
use crate::servers::{self, AZURITE, GCS, MINISTACK, SEAWEEDFS, Server};
use crate::tally::{self, Runner, Tally};
use crate::{Outcome, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[--few-servers] [-- ARGS]";

/// The modules of tests on servers beside the first one, which are left out when that server is.
const FURTHER: [(&str, &Server); 3] = [("seaweedfs", &SEAWEEDFS), ("azure", &AZURITE), ("gcs", &GCS)];

/// Starts the servers, runs the tests, stops the servers.
pub fn run(arguments: &[String]) -> Outcome {
    let (few, rest) = match arguments {
        [first, rest @ ..] if first == "--few-servers" => (true, rest),
        rest => (false, rest),
    };
    let chosen = match rest {
        [] => rest,
        [separator, rest @ ..] if separator == "--" => rest,
        _ => return Err(format!("takes {USAGE}, not {arguments:?}")),
    };
    let directory = workspace::task_directory();
    let mut servers = vec![&MINISTACK];
    let mut without = Vec::new();
    for (module, server) in FURTHER {
        // The double of GCS is a part of this task.
        let chosen = if few && module != "gcs" { Err(String::new()) } else { server.install(&directory) };
        match chosen {
            Ok(()) => servers.push(server),
            Err(why) => {
                without.push(module);
                if !few {
                    eprintln!("NOT TESTED on {}: {why}", server.name);
                }
            }
        }
    }
    let started = servers::start_all(&servers, &directory)?;
    for running in &started {
        eprintln!("{} answers at {}", running.server.name, running.endpoint());
    }
    let figures = figures::Figures::new(&directory)?;
    let mut environment: Vec<_> = started.iter().flat_map(servers::Running::test_environment).collect();
    environment.push(figures.variable());
    let outcome = run_all(chosen, &without, &environment);
    for running in started {
        running.stop()?;
    }
    let total = outcome?;
    print!("{}", figures.table()?);
    if let Some(Tally { passed, failed, skipped }) = total.tally {
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        println!("{passed} passed, {failed} failed{skipped}");
    }
    if total.failures.is_empty() { Ok(()) } else { Err(total.failures.join("; ")) }
}

/// What all the runs came to.
struct Total {
    /// `None` as soon as one run does not say.
    tally: Option<Tally>,
    failures: Vec<String>,
}

impl Total {
    /// Runs the command and adds what comes of it.
    fn run(&mut self, mut command: Command, runner: Runner) -> Outcome {
        let (status, tally) = tally::run(&mut command, runner)?;
        self.add(&process::command_line(&command), status, tally);
        Ok(())
    }

    fn add(&mut self, line: &str, status: ExitStatus, tally: Option<Tally>) {
        if !status.success() {
            self.failures.push(format!("`{line}` failed: {status}"));
        }
        self.tally = self.tally.zip(tally).map(|(sum, more)| sum + more);
    }
}

fn run_all(chosen: &[String], without: &[&str], environment: &[(String, String)]) -> Result<Total, String> {
    let mut total = Total { tally: Some(Tally::default()), failures: Vec::new() };
    let nextest = has_nextest();
    let mut command = if nextest {
        // What is ignored otherwise waits for the servers, which are there now.
        cargo(&["nextest", "run", "--no-fail-fast", "--run-ignored", "all"], environment)
    } else {
        eprintln!("cargo-nextest is not installed: running the tests with cargo test");
        // All kinds but the doc tests, which have a run of their own.
        cargo(&["test", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"], environment)
    };
    if !picks_packages(chosen) {
        command.arg("--workspace");
    }
    command.args(chosen);
    // Several filters of nextest add up: who gives one chooses all by it.
    let filtered = chosen.iter().any(|word| word.starts_with("-E") || word.starts_with("--filter"));
    if nextest && !without.is_empty() && !filtered {
        command.arg("-E").arg(format!("not test(/::({})::[^:]+$/)", without.join("|")));
    }
    if !nextest {
        if !chosen.iter().any(|word| word == "--") {
            command.arg("--");
        }
        command.arg("--include-ignored");
        command.args(without.iter().flat_map(|server| ["--skip".to_owned(), format!("::{server}::")]));
    }
    let runner = if nextest { Runner::Nextest } else { Runner::Libtest };
    total.run(command, runner)?;
    // Whoever picks tests picks no doc tests; and what does not build for tests has none to run.
    let built = total.tally.is_some() || total.failures.is_empty();
    if chosen.is_empty() && built {
        let command = cargo(&["test", "--workspace", "--doc", "--no-fail-fast"], environment);
        total.run(command, Runner::Libtest)?;
    }
    Ok(total)
}

/// Whether the arguments name packages, which `--workspace` would overrule.
fn picks_packages(chosen: &[String]) -> bool {
    chosen
        .iter()
        .take_while(|word| *word != "--")
        .any(|word| word.starts_with("-p") || word.starts_with("--package"))
}

fn has_nextest() -> bool {
    let mut command = workspace::cargo();
    command.args(["nextest", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A cargo whose tests see the servers and nothing of the machine's own cloud accounts and proxies.
pub(crate) fn cargo(arguments: &[&str], environment: &[(String, String)]) -> Command {
    let mut command = workspace::cargo();
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_cloud_account) {
            command.env_remove(name);
        }
    }
    for name in ["NO_PROXY", "no_proxy"] {
        let others = std::env::var(name).map(|list| format!(",{list}")).unwrap_or_default();
        command.env(name, format!("127.0.0.1,localhost{others}"));
    }
    // The runner sees a pipe instead of the terminal.
    if std::io::stderr().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Whether a variable tells a client about an account, an endpoint or a region. Those of the TLS library
/// are for its build only and removing them would build it anew; a bundle of certificates is harmless.
fn is_cloud_account(name: &str) -> bool {
    let of_s3 = name.starts_with("AWS_") && !name.starts_with("AWS_LC_") && name != "AWS_CA_BUNDLE";
    of_s3 || name.starts_with("AZURE_") || name.starts_with("GOOGLE_") || name == "IDENTITY_ENDPOINT"
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn tests_see_no_cloud_account() {
        for name in
            ["AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AZURE_CLIENT_ID", "GOOGLE_APPLICATION_CREDENTIALS"]
        {
            assert!(is_cloud_account(name), "{name}");
        }
        for name in ["AWS_CA_BUNDLE", "AWS_LC_SYS_NO_ASM", "PATH"] {
            assert!(!is_cloud_account(name), "{name}");
        }
    }

    #[test]
    fn packages_are_picked_before_the_second_separator() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in ["-p rfs-core", "-prfs-core", "--package=rfs-core", "name --package rfs-core"] {
            assert!(picks_packages(&words(line)), "{line}");
        }
        for line in ["name", "name -- -p"] {
            assert!(!picks_packages(&words(line)), "{line}");
        }
    }

    #[test]
    fn a_failed_or_silent_run_hides_the_total() {
        let mut total = Total { tally: Some(Tally::default()), failures: Vec::new() };
        let (success, failure) = (ExitStatus::default(), ExitStatus::from_raw(7 << 8));
        total.add("cargo test", success, Some(Tally { passed: 2, failed: 0, skipped: 0 }));
        total.add("cargo test", success, Some(Tally { passed: 1, failed: 0, skipped: 0 }));
        assert_eq!(total.tally.map(|tally| tally.passed), Some(3));
        assert!(total.failures.is_empty());
        total.add("cargo doc", failure, None);
        assert_eq!(total.tally, None);
        assert_eq!(total.failures, ["`cargo doc` failed: exit status: 7"]);
    }
}
