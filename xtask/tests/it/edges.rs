//! The edges between the crates of the workspace are the allowed ones.

use xtask::deps::{Kind, edges, load, scan_core};

#[test]
fn the_crates_know_only_whom_they_may() {
    let graph = load().expect("the workspace's metadata");
    assert!(graph.members().count() >= 7, "the graph holds the crates of the workspace");
    assert_eq!(edges(&graph), Vec::<String>::new());
}

#[test]
fn an_edge_added_to_the_workspace_is_refused() {
    let mut graph = load().expect("the workspace's metadata");
    let index = |name: &str| {
        graph.members().find(|(_, package)| package.name == name).map(|(index, _)| index).expect(name)
    };
    let (core, journal) = (index("rfs-core"), index("rfs-journal"));
    graph.link(core, journal, Kind::Normal);
    assert_eq!(edges(&graph), ["rfs-core must not know rfs-journal (Normal dependency)"]);
}

#[test]
fn rfs_core_reaches_nothing_outside() {
    assert_eq!(scan_core().expect("the sources of rfs-core"), Vec::<String>::new());
}
