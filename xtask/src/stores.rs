//! `cargo xtask stores`: what `rfs store check` says of each store that starts here, as a table of `docs/stores.md`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::servers::{self, AZURITE, GCS, MINISTACK, MOTO, RCLONE, SEAWEEDFS, Server};
use crate::{Outcome, generated, process, workspace};

/// What the command takes.
pub const USAGE: &str = "[--print]";

const SERVERS: [&Server; 6] = [&MINISTACK, &SEAWEEDFS, &MOTO, &RCLONE, &AZURITE, &GCS];

/// Checks each store and writes the table, or prints it.
pub fn run(arguments: &[String]) -> Outcome {
    let print = match arguments {
        [] => false,
        [word] if word == "--print" => true,
        _ => return Err(format!("takes {USAGE}, not {arguments:?}")),
    };
    let rfs = build()?;
    let directory = workspace::task_directory();
    let scratch = directory.join(format!("stores-{}", std::process::id()));
    let mut rows = vec![
        row("`memory://`", "this process", &check(&rfs, "memory://check", &[])?),
        row("`file://`", "a directory", &check(&rfs, &format!("file://{}", scratch.display()), &[])?),
    ];
    fs::remove_dir_all(&scratch).map_err(|error| format!("cannot remove {}: {error}", scratch.display()))?;
    let started = servers::start_all(&SERVERS, &directory)?;
    for running in started {
        let server = running.server;
        let verdict = check(&rfs, &format!("{}/check", running.url()), &running.platform_environment())?;
        rows.push(row(&server.title(), server.what, &verdict));
        running.stop()?;
    }
    let table = table(&rows);
    if print {
        print!("{table}");
        return Ok(());
    }
    generated::put_figures("docs/stores.md", "cargo xtask stores", &table)
}

fn build() -> Result<PathBuf, String> {
    process::run(workspace::cargo().args(["build", "--package", "rfs-cli"]))?;
    let target = workspace::task_directory();
    let target = target.parent().ok_or("the directory of the tasks has no parent")?;
    Ok(target.join("debug/rfs"))
}

/// What the command says of the store. It fails when that is not safe, and says why all the same.
fn check(rfs: &Path, url: &str, environment: &[(&'static str, String)]) -> Result<Value, String> {
    eprintln!("checking {url}");
    let mut command = Command::new(rfs);
    command.args(["store", "check", "--json", url]).envs(environment.iter().cloned()).stdin(Stdio::null());
    for name in ["NO_PROXY", "no_proxy"] {
        command.env(name, "127.0.0.1,localhost");
    }
    let line = process::command_line(&command);
    let output = command.output().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}

fn row(name: &str, what: &str, report: &Value) -> String {
    let checks = report["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let held = checks.iter().filter(|check| check["holds"] == true).count();
    let verdict = if report["safe"] == true { "yes" } else { "**no**" };
    let mut failed = String::new();
    for check in checks.iter().filter(|check| check["holds"] == false) {
        let name = check["check"].as_str().unwrap_or_default();
        let not_needed = if check["needed"] == true { "" } else { " (not needed)" };
        let separator = if failed.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(failed, "{separator}{name}{not_needed}");
    }
    format!("| {name} | {what} | {held} / {} | {verdict} | {failed} |\n", checks.len())
}

fn table(rows: &[String]) -> String {
    let head =
        "| store | is | checks that hold | safe for rfs | what does not hold |\n|---|---|---|---|---|\n";
    format!("{head}{}", rows.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_fails() {
        let checks = r#"[{"check": "a holds", "needed": true, "holds": true, "why": null},
                         {"check": "b holds", "needed": true, "holds": false, "why": "x"},
                         {"check": "c holds", "needed": false, "holds": false, "why": "y"}]"#;
        let report = format!(r#"{{"url": "u", "safe": false, "checks": {checks}}}"#);
        assert_eq!(
            row("n", "w", &serde_json::from_str(&report).unwrap()),
            "| n | w | 1 / 3 | **no** | b holds; c holds (not needed) |\n"
        );
    }
}
