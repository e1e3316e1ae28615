//! The sources of `rfs-core` name nothing of the standard library that reaches outside.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace;

/// What would make a replay differ from the run: files, network, clocks, threads, the process.
const FORBIDDEN: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
];

/// The finds in the sources of `rfs-core`.
pub fn scan_core() -> Result<Vec<String>, String> {
    let root = workspace::root();
    let mut violations = Vec::new();
    let mut directories = vec![root.join("rfs-core/src")];
    while let Some(directory) = directories.pop() {
        for path in entries(&directory)? {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
                violations.extend(
                    scan(&text).iter().map(|find| format!("{name} uses {find}: rfs-core does no I/O")),
                );
            }
        }
    }
    Ok(violations)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error| format!("cannot read {}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        paths.push(entry.map_err(cannot)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The forbidden paths that a source file names, outside comments.
fn scan(text: &str) -> Vec<&'static str> {
    let tokens: Vec<&str> = text.lines().flat_map(tokens).collect();
    let mut named = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at] == "std" {
            expand(&tokens, at, "", &mut named);
        }
    }
    FORBIDDEN.iter().copied().filter(|forbidden| named.iter().any(|path| reaches(path, forbidden))).collect()
}

/// The names and marks of a line before its comment; `::` is one mark.
fn tokens(line: &str) -> Vec<&str> {
    let mut rest = line.split("//").next().unwrap_or_default().trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = if is_name_letter(first) {
            rest.find(|letter| !is_name_letter(letter)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// Adds every path of the tree that begins at a token (`a::b`, `a::{b, c::d}`, `a::*`), below `prefix`, and
/// returns the position behind the tree.
fn expand(tokens: &[&str], mut at: usize, prefix: &str, named: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(&token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|&token| token != "}") {
                // A mark that begins no path is passed over, so that every turn comes further.
                at = expand(tokens, at, &path, named).max(at + 1);
                if tokens.get(at) == Some(&",") {
                    at += 1;
                }
            }
            return at + 1;
        }
        if !is_name(token) {
            break;
        }
        at += 1;
        if token != "self" {
            path = if path.is_empty() { token.to_owned() } else { format!("{path}::{token}") };
        }
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    named.push(path);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(is_name_letter)
}

fn is_name_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether a path is the forbidden one, is below it, or brings it in (`use std::time;`, `use std::*;`).
fn reaches(path: &str, forbidden: &str) -> bool {
    let is_below =
        |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.starts_with("::"));
    path == forbidden || is_below(path, forbidden) || is_below(forbidden, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_path_is_found() {
        for (code, expected) in [
            ("let x = std::fs::read(path);", "std::fs"),
            ("use ::std::net::TcpStream;", "std::net"),
            ("use std::{collections::BTreeMap, thread};", "std::thread"),
            ("use std::{time::{Duration, Instant}, fmt};", "std::time::Instant"),
            ("use std::time::{\n  Duration,\n  SystemTime,\n};", "std::time::SystemTime"),
            ("use std::{io::{self}, fs as files};", "std::fs"),
        ] {
            assert_eq!(scan(code), [expected], "{code}");
        }
        assert_eq!(scan("use std::time;").len(), 3);
        assert_eq!(scan("use std::*;"), FORBIDDEN);
    }

    #[test]
    fn other_paths_and_comments_are_fine() {
        for code in [
            "use std::{collections::BTreeMap, io, time::Duration};",
            "// std::fs is not used",
            "let x = 1; // std::thread",
            "use alloc::fs; let my_std = 1; std::fmt::Debug",
        ] {
            assert_eq!(scan(code), Vec::<&str>::new(), "{code}");
        }
    }
}
