//! What is in a tree, as text: attributes of every entry, contents as hashes.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, process};

/// Names, types, permissions, owners, times and links, then the hash of each file. The sizes and link counts of
/// directories are left out, since every file system has its own.
pub(super) fn of(directory: &Path) -> Result<String, String> {
    let script = "cd \"$1\" && \
        find . \\( -type d -printf '%P\\t%y %m %U:%G %T@\\n' \\) -o -printf '%P\\t%y %m %U:%G %T@ %s %n %l\\n' \
        | LC_ALL=C sort && \
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    let text =
        process::capture(Command::new("bash").args(["-o", "pipefail", "-c", script, "bash"]).arg(directory))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first differences, as an error.
pub(super) fn compare(expected: &str, found: &str) -> Outcome {
    if expected.is_empty() {
        return Err("there is nothing to compare".to_owned());
    }
    let missing: Vec<_> = lines_not_in(expected, found);
    let surplus: Vec<_> = lines_not_in(found, expected);
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    let some = |lines: &[&str]| lines.iter().take(3).copied().collect::<Vec<_>>().join(" | ");
    Err(format!(
        "{} lines differ; expected: {}; found: {}",
        missing.len().max(surplus.len()),
        some(&missing),
        some(&surplus)
    ))
}

fn lines_not_in<'t>(one: &'t str, other: &str) -> Vec<&'t str> {
    let other: std::collections::HashSet<_> = other.lines().collect();
    one.lines().filter(|line| !other.contains(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_seen() {
        let directory = std::env::temp_dir().join(format!("rfs-manifest-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("a name");
        std::fs::write(&file, "one").unwrap();
        let before = of(&directory).unwrap();
        assert_eq!(compare(&before, &of(&directory).unwrap()), Ok(()));
        // Same length, and the time put back: the hash alone tells.
        let time = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::write(&file, "two").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let error = compare(&before, &of(&directory).unwrap()).unwrap_err();
        assert!(error.starts_with("1 lines differ; expected: "), "{error}");
        std::fs::remove_file(&file).unwrap();
        assert!(compare(&before, &of(&directory).unwrap()).is_err());
        std::fs::remove_dir(&directory).unwrap();
        assert!(compare("", "").is_err(), "nothing is no proof");
        assert!(of(&directory).is_err());
    }
}
