//! No crate is built in two versions, save those that are not ours to unite.

use std::collections::{BTreeMap, BTreeSet};

use super::Graph;

/// The doubled crates, and who holds which version.
pub(super) const TOLERATED: &[(&str, &str)] = &[
    ("crypto-common", "object_store's S3 client: md-5 takes 0.2, crc-fast 0.1"),
    ("digest", "object_store's S3 client: md-5 takes 0.11, crc-fast 0.10"),
    ("itertools", "criterion takes 0.13 in benches, object_store 0.15"),
    ("syn", "tracing-attributes and zerocopy-derive take 2, the other macros 3"),
];

/// The crates in more than one version, and the tolerated ones that no longer are.
pub(super) fn doubles(graph: &Graph, tolerated: &[(&str, &str)]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in graph.packages() {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let is_tolerated = |name: &str| tolerated.iter().any(|(tolerated, _)| *tolerated == name);
    let new = versions.iter().filter(|(name, _)| !is_tolerated(name)).map(|(name, versions)| {
        let versions = versions.iter().copied().collect::<Vec<_>>().join(" and ");
        format!("{name} is built in the versions {versions}; unite them, or tolerate it with a reason")
    });
    let stale = tolerated.iter().filter(|(name, _)| !versions.contains_key(name)).map(|(name, reason)| {
        format!("{name} is no longer doubled: take it from the tolerated list ({reason})")
    });
    new.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn doubled_versions_are_refused_and_so_are_stale_reasons() {
        let doubled = graph(&["rfs", "syn 2.0.0", "syn 3.0.0", "bytes 1.0.0"], &[]);
        assert_eq!(doubles(&doubled, &[("syn", "why")]), Vec::<String>::new());
        let found = doubles(&doubled, &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("syn is built in the versions 2.0.0 and 3.0.0"), "{found:?}");
        let found = doubles(&doubled, &[("syn", "why"), ("bytes", "long ago")]);
        assert_eq!(found, ["bytes is no longer doubled: take it from the tolerated list (long ago)"]);
    }
}
