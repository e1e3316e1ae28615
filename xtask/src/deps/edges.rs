//! Which crate of the workspace may know which.

use super::{Graph, Kind};

struct Rule {
    name: &'static str,
    /// The crates of the workspace that it may be built on. Its tests may use the test kit besides.
    knows: &'static [&'static str],
    /// Packages that nothing it is built on may bring in.
    free_of: &'static [&'static str],
    published: bool,
}

const TEST_KIT: &str = "rfs-testkit";
const NO_IO: &[&str] = &["tokio", "object_store"];
const ALL_FOUR: &[&str] = &["rfs-core", "rfs-journal", "rfs-backends", "rfs-recovery"];

const RULES: &[Rule] = &[
    Rule { name: "rfs-core", knows: &[], free_of: NO_IO, published: true },
    Rule { name: "rfs-journal", knows: &["rfs-core"], free_of: NO_IO, published: true },
    Rule { name: "rfs-backends", knows: &[], free_of: &[], published: true },
    Rule {
        name: "rfs-recovery",
        knows: &["rfs-core", "rfs-journal", "rfs-backends"],
        free_of: &[],
        published: true,
    },
    Rule { name: "rfs", knows: ALL_FOUR, free_of: &[], published: true },
    Rule { name: "rfs-mount", knows: &["rfs"], free_of: &[], published: true },
    Rule { name: "rfs-cli", knows: &["rfs", "rfs-mount"], free_of: &[], published: true },
    Rule { name: TEST_KIT, knows: ALL_FOUR, free_of: &[], published: false },
    Rule { name: "xtask", knows: &[], free_of: NO_IO, published: false },
];

/// The edges between crates of the workspace that are not allowed, and crates without a rule.
pub fn edges(graph: &Graph) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, package) in graph.members() {
        let name = package.name.as_str();
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            violations.push(format!("{name} has no rule: say in the rules of the edges what it may know"));
            continue;
        };
        for (dependency, kind) in graph.dependencies(index).filter(|(dependency, _)| dependency.member) {
            let other = dependency.name.as_str();
            let for_tests = kind == Kind::Dev && (other == TEST_KIT || other == name);
            if !for_tests && !rule.knows.contains(&other) {
                violations.push(format!("{name} must not know {other} ({kind:?} dependency)"));
            }
        }
        for foreign in rule.free_of {
            if let Some(chain) = graph.chain(index, foreign) {
                violations.push(format!("{name} must be free of {foreign}: {}", chain.join(" -> ")));
            }
        }
        if package.published != rule.published {
            let must = if rule.published { "must be" } else { "must not be" };
            violations.push(format!("{name} {must} publishable"));
        }
    }
    for rule in RULES {
        if !graph.members().any(|(_, package)| package.name == rule.name) {
            violations.push(format!("there is a rule for {}, but no such crate", rule.name));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    const PACKAGES: &[&str] = &[
        "rfs",
        "rfs-core",
        "rfs-journal",
        "rfs-backends",
        "rfs-recovery",
        "rfs-mount",
        "rfs-cli",
        "rfs-testkit",
        "xtask",
        "tokio",
        "object_store",
        "bytes",
    ];

    const ALLOWED: &[&str] = &[
        "rfs -> rfs-core",
        "rfs -> rfs-recovery",
        "rfs -dev> rfs-testkit",
        "rfs -dev> rfs",
        "rfs-core -dev> rfs-testkit",
        "rfs-journal -> rfs-core",
        "rfs-journal -dev> tokio",
        "rfs-backends -> object_store",
        "object_store -> tokio",
        "rfs-recovery -> rfs-backends",
        "rfs-recovery -dev> rfs-testkit",
        "rfs-testkit -> rfs-recovery",
        "rfs-mount -> rfs",
        "rfs-cli -> rfs",
        "rfs-cli -> rfs-mount",
    ];

    fn with(edge: &str) -> Vec<String> {
        edges(&graph(PACKAGES, &[ALLOWED, &["bytes -> tokio", edge]].concat()))
    }

    #[test]
    fn the_allowed_graph_passes() {
        assert_eq!(edges(&graph(PACKAGES, ALLOWED)), Vec::<String>::new());
    }

    #[test]
    fn every_forbidden_edge_is_refused() {
        let forbidden = [
            ("rfs-core -> rfs-journal", "rfs-core must not know rfs-journal (Normal dependency)"),
            ("rfs-core -build> rfs-backends", "rfs-core must not know rfs-backends (Build dependency)"),
            ("rfs-core -dev> rfs-recovery", "rfs-core must not know rfs-recovery (Dev dependency)"),
            ("rfs-core -> tokio", "rfs-core must be free of tokio: rfs-core -> tokio"),
            ("rfs-core -> bytes", "rfs-core must be free of tokio: rfs-core -> bytes -> tokio"),
            ("rfs-journal -> rfs-backends", "rfs-journal must not know rfs-backends (Normal dependency)"),
            (
                "rfs-journal -> object_store",
                "rfs-journal must be free of object_store: rfs-journal -> object_store",
            ),
            ("rfs-backends -> rfs-core", "rfs-backends must not know rfs-core (Normal dependency)"),
            ("rfs-backends -> rfs-journal", "rfs-backends must not know rfs-journal (Normal dependency)"),
            ("rfs-recovery -> rfs", "rfs-recovery must not know rfs (Normal dependency)"),
            ("rfs -> rfs-testkit", "rfs must not know rfs-testkit (Normal dependency)"),
            ("rfs-testkit -> rfs", "rfs-testkit must not know rfs (Normal dependency)"),
            ("rfs -> rfs-mount", "rfs must not know rfs-mount (Normal dependency)"),
            ("rfs-mount -> rfs-core", "rfs-mount must not know rfs-core (Normal dependency)"),
            ("rfs-mount -> rfs-cli", "rfs-mount must not know rfs-cli (Normal dependency)"),
            ("rfs-cli -> rfs-backends", "rfs-cli must not know rfs-backends (Normal dependency)"),
            ("xtask -> rfs-core", "xtask must not know rfs-core (Normal dependency)"),
        ];
        for (edge, expected) in forbidden {
            let found = with(edge);
            assert!(found.iter().any(|violation| violation == expected), "{edge}: {found:?}");
        }
    }

    #[test]
    fn crates_without_a_rule_and_rules_without_a_crate_are_refused() {
        assert_eq!(
            edges(&graph(&[PACKAGES, &["rfs-new"]].concat(), ALLOWED)),
            ["rfs-new has no rule: say in the rules of the edges what it may know"]
        );
        assert_eq!(edges(&graph(&["rfs-core"], &[])).len(), RULES.len() - 1);
    }

    #[test]
    fn a_publishable_test_kit_is_refused() {
        let mut published = graph(&[], &[]);
        for (_, package) in graph(PACKAGES, &[]).members() {
            let mut package = package.clone();
            package.published = true;
            published.add(package);
        }
        assert_eq!(
            edges(&published),
            ["rfs-testkit must not be publishable", "xtask must not be publishable"]
        );
    }
}
