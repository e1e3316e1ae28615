//! `cargo xtask deps`: what the workspace may depend on, and which of its crates may know which.
//!
//! Every rule is a pure function from the parsed [`Graph`] to its violations. The graph holds what is built
//! for x86-64 Linux, of every workspace crate with every kind of dependency.

use std::path::Path;

use crate::{Outcome, process, workspace};

mod banned;
mod doubles;
mod edges;
mod graph;
mod licences;
mod sources;

pub use edges::edges;
pub use graph::{Graph, Kind, Package};
pub use sources::scan_core;

/// The platform whose dependencies are checked.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Crates outside of the workspace, of which nothing but the packages is checked.
const APART: &[&str] = &["fuzz", "rfs-model"];

/// Checks everything; the error lists every violation.
pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("takes no arguments, not {arguments:?}"));
    }
    let graph = load()?;
    let mut violations = licences::licences(&graph);
    violations.extend(banned::banned(&graph));
    violations.extend(doubles::doubles(&graph, doubles::TOLERATED));
    violations.extend(edges(&graph));
    violations.extend(scan_core()?);
    for apart in APART {
        let graph = load_in(&workspace::root().join(apart))?;
        let found = licences::licences(&graph).into_iter().chain(banned::banned(&graph));
        violations.extend(found.map(|violation| format!("{apart}: {violation}")));
    }
    if violations.is_empty() {
        println!("{} packages: licences, banned crates, doubled versions and edges are fine", graph.len());
        return Ok(());
    }
    Err(format!("{} violations\n  {}", violations.len(), violations.join("\n  ")))
}

/// The dependency graph of the workspace, from the lock file and without the network; only where sources are
/// missing they are fetched first.
pub fn load() -> Result<Graph, String> {
    load_in(&workspace::root())
}

fn load_in(directory: &Path) -> Result<Graph, String> {
    let metadata = metadata(directory).or_else(|offline_error| {
        let mut fetch = workspace::cargo();
        fetch.current_dir(directory).args(["fetch", "--quiet", "--locked", "--target", PLATFORM]);
        process::capture(&mut fetch).map_err(|error| format!("{offline_error}\n{error}"))?;
        metadata(directory)
    })?;
    let metadata = serde_json::from_slice(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    Graph::from_metadata(&metadata)
}

fn metadata(directory: &Path) -> Result<Vec<u8>, String> {
    let mut command = workspace::cargo();
    command.current_dir(directory).args([
        "metadata",
        "--offline",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        PLATFORM,
    ]);
    process::capture(&mut command)
}
