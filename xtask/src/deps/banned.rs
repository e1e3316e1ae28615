//! Crates that must not be built, whoever asks for them.

use super::Graph;

struct Ban {
    name: &'static str,
    /// The first version that is fine; without one, none is.
    fixed_in: Option<[u64; 3]>,
    reason: &'static str,
}

const BANS: &[Ban] = &[
    ban("atomic-polyfill", "unmaintained"),
    ban("backoff", "unmaintained"),
    ban("bincode", "unmaintained"),
    ban("fxhash", "unmaintained"),
    fixed("heapless", [0, 8, 0], "builds atomic-polyfill, which is unmaintained"),
    ban("im", "unsound and unmaintained"),
    ban("instant", "unmaintained"),
    fixed("lru", [0, 18, 2], "unsound"),
    fixed("lz4_flex", [0, 12, 1], "leaks memory of the process into its output"),
    fixed("memmap2", [0, 9, 11], "unsound"),
    ban("native-tls", "links the system's OpenSSL; TLS is rustls"),
    ban("openssl-sys", "links the system's OpenSSL; TLS is rustls"),
    ban("paste", "unmaintained"),
    ban("proc-macro-error", "unmaintained"),
    ban("ring", "rustls panics where two providers are built in; the provider is aws-lc-rs"),
    ban("rkyv", "unsafe with bytes from outside"),
];

const fn ban(name: &'static str, reason: &'static str) -> Ban {
    Ban { name, fixed_in: None, reason }
}

const fn fixed(name: &'static str, fixed_in: [u64; 3], reason: &'static str) -> Ban {
    Ban { name, fixed_in: Some(fixed_in), reason }
}

/// The banned packages that are built, with whoever needs them.
pub(super) fn banned(graph: &Graph) -> Vec<String> {
    let mut violations = Vec::new();
    for package in graph.packages() {
        let Some(ban) = BANS.iter().find(|ban| ban.name == package.name) else {
            continue;
        };
        let below = ban.fixed_in.map(|[major, minor, patch]| format!(" below {major}.{minor}.{patch}"));
        if ban.fixed_in.is_none_or(|fixed_in| is_below(&package.version, fixed_in)) {
            violations.push(format!(
                "{} {} is banned{}: {}; `cargo tree --workspace --invert {}` shows who needs it",
                package.name,
                package.version,
                below.unwrap_or_default(),
                ban.reason,
                package.name
            ));
        }
    }
    violations
}

/// Whether a version is older than a release. What is no version is older than everything.
fn is_below(version: &str, release: [u64; 3]) -> bool {
    let without_build = version.split('+').next().unwrap_or_default();
    let (numbers, early) = match without_build.split_once('-') {
        Some((numbers, _)) => (numbers, true),
        None => (without_build, false),
    };
    let numbers: Option<Vec<u64>> = numbers.split('.').map(|number| number.parse().ok()).collect();
    let numbers = numbers.unwrap_or_default();
    numbers.as_slice() < release.as_slice() || (early && numbers == release)
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn versions() {
        for version in ["0.9.10", "0.8.99", "0.9.11-rc.1", "0.9.0+x", "odd"] {
            assert!(is_below(version, [0, 9, 11]), "{version}");
        }
        for version in ["0.9.11", "0.9.12", "0.10.0", "1.0.0", "0.9.11+build", "0.9.12-rc.1"] {
            assert!(!is_below(version, [0, 9, 11]), "{version}");
        }
    }

    #[test]
    fn banned_packages_are_refused() {
        assert_eq!(banned(&graph(&["rfs", "bytes", "lru 0.18.2", "image"], &[])), Vec::<String>::new());
        let found = banned(&graph(&["rfs", "ring 0.17.14", "lru 0.18.1"], &[]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("lru 0.18.1 is banned below 0.18.2"), "{found:?}");
    }
}
