//! `cargo xtask scale`: what volumes of different sizes cost, side by side.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Outcome, process, workspace};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[--files N[,N...]] [--memory MIB]";

/// What is shown of each volume: the step that says it, its name there, and how it is called.
const ROWS: &[(&str, &str, &str)] = &[
    ("build", "seconds", "build, s"),
    ("build", "peak_rss_mib", "build: peak memory, MiB"),
    ("build", "put_mib", "build: put, MiB"),
    ("change", "open_lists", "open, stat, read 4 KiB: lists"),
    ("change", "open_gets", "open, stat, read 4 KiB: gets"),
    ("change", "open_kib", "open, stat, read 4 KiB: KiB"),
    ("change", "open_to_stat_ms", "open to first stat, ms"),
    ("change", "open_to_read_ms", "open to first 4 KiB, ms"),
    ("change", "commit_requests", "commit of 10 changed files: requests"),
    ("change", "commit_bytes", "commit of 10 changed files: bytes"),
    ("change", "commit_ms", "commit of 10 changed files, ms"),
    ("change", "peak_rss_mib", "open, change, commit: peak memory, MiB"),
    ("load", "bytes_per_file", "whole tree in memory: bytes per file"),
    ("load", "inodes", "  of it in inodes"),
    ("load", "entries", "  in entries: by directory and name"),
    ("load", "listings", "  in listings: by directory and cookie"),
    ("load", "links", "  in links: the names of an inode"),
    ("load", "extents", "  in extents"),
    ("back", "fork_requests", "fork: requests"),
    ("back", "fork_ms", "fork (memory store), ms"),
    ("back", "fork_open_ms", "fork: open to first stat, ms"),
    ("back", "rewind_requests", "rewind by 10,000 changed files: requests"),
    ("back", "rewind_ms", "rewind (memory store), ms"),
];

/// Builds the volumes, one after the other, and prints a table and a line of JSON.
pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let directory = workspace::task_directory().join("scale");
    let mut columns: Vec<Vec<Value>> = Vec::new();
    for files in &options.files {
        let place = directory.join(files.to_string());
        clear(&place)?;
        let steps = ["build", "change", "load", "back"].map(|step| measure(step, *files, &options, &place));
        clear(&place)?;
        columns.push(steps.into_iter().collect::<Result<_, _>>()?);
    }
    println!("{}", table(&options.files, &columns));
    println!("{}", Value::from(columns.concat()));
    Ok(())
}

struct Options {
    files: Vec<u64>,
    /// What `Options::with_tree_memory` of the volumes is set to, in MiB.
    memory: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { files: vec![10_000, 1_000_000, 10_000_000], memory: 96 };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{argument} takes a value"))?;
            let number = |text: &str| match text.replace('_', "").parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{argument} takes numbers from 1 on, not {text:?}")),
            };
            match argument.as_str() {
                "--files" => options.files = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--memory" => options.memory = number(value)?,
                _ => return Err(format!("takes {USAGE}, not {argument}")),
            }
        }
        Ok(options)
    }
}

fn clear(place: &Path) -> Outcome {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("clearing {}: {error}", place.display()))
        }
        _ => Ok(()),
    }
}

fn measure(step: &str, files: u64, options: &Options, place: &Path) -> Result<Value, String> {
    let (url, tree_bytes) = (format!("file://{}", place.display()), options.memory << 20);
    eprintln!("{step}, {files} files");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace::root()).args(["bench", "--quiet", "-p", "rfs", "--bench", "scale", "--"]);
    let said = process::capture(command.args([step, &url, &files.to_string(), &tree_bytes.to_string()]))?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("{step}: {error} in {said:?}"))
}

fn table(files: &[u64], columns: &[Vec<Value>]) -> String {
    let width = ROWS.iter().map(|(.., label)| label.len()).max().unwrap_or_default();
    let line = |label: &str, cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| format!(" {cell:>12}")).collect();
        format!("{label:<width$}{}\n", cells.concat())
    };
    let mut table = line("files", files.iter().map(u64::to_string).collect());
    for (step, field, label) in ROWS {
        let cell = |steps: &Vec<Value>| {
            let value =
                steps.iter().find(|value| value["step"] == *step).and_then(|value| value[field].as_f64());
            value.map_or_else(|| "?".to_owned(), shown)
        };
        table += &line(label, columns.iter().map(cell).collect());
    }
    table
}

fn shown(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_volume() {
        let build: Value = serde_json::from_str(r#"{"step":"build","files":10,"seconds":1.25}"#).unwrap();
        let change: Value = serde_json::from_str(r#"{"step":"change","files":10,"open_gets":7.0}"#).unwrap();
        let table = table(&[10, 20], &[vec![build, change.clone()], vec![change]]);
        let row = |label| table.lines().find(|line| line.starts_with(label)).unwrap().split_whitespace();
        assert_eq!(row("files").collect::<Vec<_>>(), ["files", "10", "20"]);
        assert_eq!(row("build, s").skip(2).collect::<Vec<_>>(), ["1.2", "?"]);
        assert_eq!(row("open, stat, read 4 KiB: gets").skip(6).collect::<Vec<_>>(), ["7", "7"]);
    }

    #[test]
    fn arguments_that_are_wrong_are_refused() {
        let parse =
            |words: &[&str]| Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(parse(&["--files", "1_000,5"]).unwrap().files, [1000, 5]);
        assert_eq!(parse(&["--memory", "7"]).unwrap().memory, 7);
        for wrong in [&["--files"][..], &["--files", "0"], &["--files", "1,x"], &["--what", "1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
