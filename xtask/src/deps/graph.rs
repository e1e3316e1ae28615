//! The dependency graph, parsed from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

/// What an edge is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The crate itself.
    Normal,
    /// Its build script.
    Build,
    /// Its tests, examples and benches.
    Dev,
}

/// One package in one version.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name in the registry or in the workspace.
    pub name: String,
    /// Its version, as written.
    pub version: String,
    /// Its licence, as written.
    pub licence: Option<String>,
    /// Whether it belongs to the workspace.
    pub member: bool,
    /// Whether it may be published.
    pub published: bool,
}

/// All packages that are built, and which needs which.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    packages: Vec<Package>,
    /// By package: its dependencies and what each is needed for.
    edges: Vec<BTreeMap<usize, BTreeSet<Kind>>>,
}

impl Graph {
    /// Reads the output of `cargo metadata`. Dependencies that only a weak feature (`name?/feature`) names are
    /// left out, with everything below them: cargo lists them, but does not build them.
    pub fn from_metadata(metadata: &Value) -> Result<Self, String> {
        let members: BTreeSet<&str> = strings(&metadata["workspace_members"]);
        let manifests = array(&metadata["packages"], "packages")?;
        let nodes = array(&metadata["resolve"]["nodes"], "resolve.nodes")?;
        let mut ids = BTreeMap::new();
        let mut all = Self::default();
        for manifest in manifests {
            let id = string(&manifest["id"], "package id")?;
            let index = all.add(Package {
                name: string(&manifest["name"], id)?.to_owned(),
                version: string(&manifest["version"], id)?.to_owned(),
                licence: manifest["license"].as_str().map(str::to_owned),
                member: members.contains(id),
                published: manifest["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            });
            ids.insert(id, (index, manifest));
        }
        for node in nodes {
            let (from, manifest) = find(&ids, &node["id"])?;
            for dependency in array(&node["deps"], "deps")? {
                let (to, target) = find(&ids, &dependency["pkg"])?;
                for kind in array(&dependency["dep_kinds"], "dep_kinds")? {
                    if is_active(manifest, node, &target["name"], &kind["kind"]) {
                        all.link(from, to, parse_kind(&kind["kind"])?);
                    }
                }
            }
        }
        Ok(all.reachable())
    }

    /// Adds a package and returns its index.
    pub fn add(&mut self, package: Package) -> usize {
        self.packages.push(package);
        self.edges.push(BTreeMap::new());
        self.packages.len() - 1
    }

    /// Adds an edge between two packages, given by index.
    pub fn link(&mut self, from: usize, to: usize, kind: Kind) {
        self.edges[from].entry(to).or_default().insert(kind);
    }

    /// How many packages there are.
    pub fn len(&self) -> usize {
        self.packages.len()
    }

    /// Whether there is no package.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// All packages.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter()
    }

    /// The packages of the workspace, with their indexes.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Package)> {
        self.packages.iter().enumerate().filter(|(_, package)| package.member)
    }

    /// What a package depends on directly, and for what.
    pub fn dependencies(&self, from: usize) -> impl Iterator<Item = (&Package, Kind)> {
        self.edges[from]
            .iter()
            .flat_map(move |(&to, kinds)| kinds.iter().map(move |&kind| (&self.packages[to], kind)))
    }

    /// The shortest chain of normal and build dependencies from a package to the one of that name.
    pub fn chain(&self, from: usize, name: &str) -> Option<Vec<&str>> {
        let mut came_from = BTreeMap::from([(from, from)]);
        let mut queue = VecDeque::from([from]);
        while let Some(index) = queue.pop_front() {
            if self.packages[index].name == name && index != from {
                let mut chain = vec![index];
                while let Some(&before) = came_from.get(&chain[chain.len() - 1])
                    && before != chain[chain.len() - 1]
                {
                    chain.push(before);
                }
                return Some(chain.iter().rev().map(|&step| self.packages[step].name.as_str()).collect());
            }
            for (&to, kinds) in &self.edges[index] {
                let built_in = kinds.contains(&Kind::Normal) || kinds.contains(&Kind::Build);
                if built_in && !came_from.contains_key(&to) {
                    came_from.insert(to, index);
                    queue.push_back(to);
                }
            }
        }
        None
    }

    /// The part of the graph that the members need.
    fn reachable(&self) -> Self {
        let mut queue: VecDeque<usize> = self.members().map(|(index, _)| index).collect();
        let mut seen: BTreeSet<usize> = queue.iter().copied().collect();
        while let Some(index) = queue.pop_front() {
            queue.extend(self.edges[index].keys().filter(|&&to| seen.insert(to)));
        }
        let mut part = Self::default();
        let renumbered: BTreeMap<usize, usize> =
            seen.iter().map(|&old| (old, part.add(self.packages[old].clone()))).collect();
        for old in &seen {
            for (to, kinds) in &self.edges[*old] {
                part.edges[renumbered[old]].insert(renumbered[to], kinds.clone());
            }
        }
        part
    }
}

/// Whether one of the declarations of this dependency is switched on by the features that are.
fn is_active(manifest: &Value, node: &Value, name: &Value, kind: &Value) -> bool {
    let enabled = strings(&node["features"]);
    let features = &manifest["features"];
    manifest["dependencies"].as_array().is_some_and(|declarations| {
        declarations.iter().filter(|it| it["name"] == *name && it["kind"] == *kind).any(|it| {
            let key = it["rename"].as_str().or(it["name"].as_str()).unwrap_or_default();
            it["optional"] != Value::Bool(true)
                || enabled
                    .iter()
                    .flat_map(|feature| strings(&features[*feature]))
                    .any(|value| turns_on(value, key))
        })
    })
}

/// Whether an entry of a feature switches an optional dependency on: `dep:key` or `key/feature`.
fn turns_on(value: &str, key: &str) -> bool {
    value.strip_prefix("dep:") == Some(key)
        || value.split_once('/').is_some_and(|(dependency, _)| dependency == key)
}

fn find<'a>(ids: &BTreeMap<&str, (usize, &'a Value)>, id: &Value) -> Result<(usize, &'a Value), String> {
    let id = string(id, "a package id of the graph")?;
    ids.get(id).copied().ok_or_else(|| format!("cargo metadata: {id} is in the graph, but not a package"))
}

fn parse_kind(kind: &Value) -> Result<Kind, String> {
    match kind.as_str() {
        None => Ok(Kind::Normal),
        Some("build") => Ok(Kind::Build),
        Some("dev") => Ok(Kind::Dev),
        Some(other) => Err(format!("cargo metadata: unknown kind of dependency {other:?}")),
    }
}

fn array<'a>(value: &'a Value, what: &str) -> Result<&'a Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("cargo metadata: {what} is no list"))
}

fn string<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("cargo metadata: a text is missing at {what}"))
}

fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A graph of packages `name` or `name version`, members first where the name begins with `rfs` or is
    /// `xtask`, and edges `from -> to`, `from -build> to`, `from -dev> to` between the names.
    pub(crate) fn graph(packages: &[&str], edges: &[&str]) -> Graph {
        let mut graph = Graph::default();
        let mut indexes = BTreeMap::new();
        for text in packages {
            let (name, version) = text.split_once(' ').unwrap_or((text, "1.0.0"));
            let member = name.starts_with("rfs") || name == "xtask";
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
                licence: Some("MIT OR Apache-2.0".to_owned()),
                member,
                published: !matches!(name, "rfs-testkit" | "xtask"),
            };
            indexes.insert(name, graph.add(package));
        }
        for text in edges {
            let [from, arrow, to] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
            let kind = match arrow {
                "->" => Kind::Normal,
                "-build>" => Kind::Build,
                "-dev>" => Kind::Dev,
                _ => panic!("{text}"),
            };
            graph.link(indexes[from], indexes[to], kind);
        }
        graph
    }

    #[test]
    fn metadata_without_what_weak_features_name() {
        let metadata = serde_json::json!({
            "workspace_members": ["a"],
            "packages": [
                { "id": "a", "name": "a", "version": "0.1.0", "license": null, "publish": [],
                  "features": { "default": ["dep:b", "c?/std"], "off": ["c/std"] },
                  "dependencies": [
                    { "name": "b-real", "rename": "b", "kind": null, "optional": true },
                    { "name": "c", "rename": null, "kind": null, "optional": true },
                    { "name": "d", "rename": null, "kind": "dev", "optional": false },
                    { "name": "d", "rename": null, "kind": null, "optional": true },
                  ] },
                { "id": "b", "name": "b-real", "version": "2.0.0", "license": "MIT", "publish": null,
                  "features": {}, "dependencies": [] },
                { "id": "c", "name": "c", "version": "3.0.0", "features": {}, "dependencies": [] },
                { "id": "d", "name": "d", "version": "4.0.0", "features": {}, "dependencies": [] },
            ],
            "resolve": { "nodes": [
                { "id": "a", "features": ["default"], "deps": [
                    { "pkg": "b", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "c", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "d", "dep_kinds": [{ "kind": null }, { "kind": "dev" }] },
                ] },
                { "id": "b", "features": [], "deps": [] },
                { "id": "c", "features": [], "deps": [] },
                { "id": "d", "features": [], "deps": [] },
            ] },
        });
        let graph = Graph::from_metadata(&metadata).unwrap();
        let names: Vec<&str> = graph.packages().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b-real", "d"]);
        let (root, member) = graph.members().next().unwrap();
        assert!(!member.published);
        let needed: Vec<_> =
            graph.dependencies(root).map(|(package, kind)| (package.name.as_str(), kind)).collect();
        assert_eq!(needed, [("b-real", Kind::Normal), ("d", Kind::Dev)]);
    }

    #[test]
    fn odd_metadata_is_an_error() {
        for text in [
            "{}",
            "[]",
            r#"{"packages": [{}], "resolve": {"nodes": []}}"#,
            r#"{"packages": [], "resolve": {"nodes": [{"id": "x"}]}}"#,
        ] {
            assert!(Graph::from_metadata(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn chains_are_the_shortest_and_skip_tests() {
        let packages = ["a", "b", "c", "d"];
        let long = graph(&packages, &["a -> b", "b -build> c", "c -> d", "a -dev> d"]);
        assert_eq!(long.chain(0, "d"), Some(vec!["a", "b", "c", "d"]));
        assert_eq!(graph(&packages, &["a -> b", "b -dev> d"]).chain(0, "d"), None);
        let circle = graph(&packages, &["a -> b", "b -> a"]);
        assert_eq!(circle.chain(0, "d"), None);
    }
}
