//! Where the workspace is and how its cargo is called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// The workspace's root directory.
pub fn root() -> PathBuf {
    // Cargo sets the variable for the program it runs; the compiled-in value serves a directly started binary.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The directory of everything the tasks install or leave behind.
pub fn task_directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root().join(target).join("xtask")
}

/// This task's program. Cargo may have built it anew meanwhile, in another place of the disk: it is what stands there now.
pub fn task() -> std::io::Result<PathBuf> {
    std::env::current_exe().map(|program| replaced(&program).unwrap_or(program))
}

/// What Linux says of a running program whose file is gone.
fn replaced(program: &Path) -> Option<PathBuf> {
    let name = program.file_name()?.to_str()?.strip_suffix(" (deleted)")?;
    Some(program.with_file_name(name))
}

/// The cargo that started this task, to be run in the workspace's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Puts figures into a document, in the place of those that `made_by` put there before.
///
/// # Errors
/// The document has no place for them, or cannot be written.
pub fn put_figures(document: &str, made_by: &str, figures: &str) -> Outcome {
    let path = root().join(document);
    let text =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = with_figures(&text, made_by, figures).map_err(|why| format!("{document} {why}"))?;
    fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn with_figures(text: &str, made_by: &str, figures: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- made by `{made_by}` -->\n"), "<!-- end -->\n");
    let place = || {
        let (before, rest) = text.split_once(&begin)?;
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}\n{figures}\n{end}{after}"))
    };
    place().ok_or_else(|| format!("has no place for the figures, between {begin:?} and {end:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_built_anew_is_found() {
        assert_eq!(replaced(Path::new("/t/debug/xtask (deleted)")), Some(PathBuf::from("/t/debug/xtask")));
        assert_eq!(replaced(Path::new("/t (deleted)/xtask")), None);
    }

    #[test]
    fn figures_are_put_in_the_place_of_the_old_ones() {
        let begin = "<!-- made by `it` -->\n";
        let old = format!("before\n{begin}\nold\n<!-- end -->\nafter\n");
        assert_eq!(
            with_figures(&old, "it", "new\n").unwrap(),
            format!("before\n{begin}\nnew\n\n<!-- end -->\nafter\n")
        );
        assert!(with_figures("nothing", "it", "new").is_err());
    }
}
