//! Where the workspace is and how its cargo is called.

use std::path::{Path, PathBuf};
use std::process::Command;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_built_anew_is_found() {
        assert_eq!(replaced(Path::new("/t/debug/xtask (deleted)")), Some(PathBuf::from("/t/debug/xtask")));
        assert_eq!(replaced(Path::new("/t (deleted)/xtask")), None);
    }
}
