//! `cargo xtask documents`: no tracked document speaks of a directory of the machine it was written on.

use std::process::Command;

use crate::{Outcome, process, workspace};

/// Top-level directories that only a machine has. Volumes may well have them, so sources are not searched.
const MACHINE_DIRECTORIES: &[&str] = &["work", "root", "home"];

/// Searches the tracked documents and manifests; the error lists every find.
pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("takes no arguments, not {arguments:?}"));
    }
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--", "*.md", "*.txt", "*.toml", "*.yml", "*.yaml", ".ci", "LICENSE*"]);
    let names = process::capture(list.current_dir(workspace::root()))?;
    let mut finds = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name);
        let path = workspace::root().join(&*name);
        // A tracked file may be deleted in the working tree.
        if !path.exists() {
            continue;
        }
        let text =
            std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        finds.extend(machine_paths(&String::from_utf8_lossy(&text)).map(|find| format!("{name}:{find}")));
    }
    if finds.is_empty() {
        Ok(())
    } else {
        Err(format!("documents name machine paths:\n  {}", finds.join("\n  ")))
    }
}

/// The lines that name a machine path, as `number: line`.
fn machine_paths(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| names_machine_path(line))
        .map(|(index, line)| format!("{}: {}", index + 1, line.trim()))
}

fn names_machine_path(line: &str) -> bool {
    MACHINE_DIRECTORIES.iter().any(|directory| {
        let path = format!("/{directory}/");
        line.match_indices(&path).any(|(at, _)| {
            // Inside a longer path or a URL's path it is somebody else's directory; after `//` of a URL
            // without a host it is the machine's.
            let before = &line[..at];
            before.ends_with("//")
                || !before.ends_with(|letter: char| letter.is_alphanumeric() || "._-~}".contains(letter))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_are_found_in_any_surroundings() {
        for line in ["see /work/x", "`/root/.cargo`", "(/home/me)", "file:///work/store", "/home/me"] {
            assert!(names_machine_path(line), "{line}");
        }
        for line in
            ["https://example.invalid/home/page", "../work/x", "target/work/x", "/workspace/x", "work/"]
        {
            assert!(!names_machine_path(line), "{line}");
        }
        assert_eq!(machine_paths("a\n /work/b \nc").collect::<Vec<_>>(), ["2: /work/b"]);
    }
}
