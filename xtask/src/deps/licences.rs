//! Every package has a licence that the workspace may link.

use super::Graph;

/// Licences that ask for no more than their text.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// Brackets nested more deeply are no licence.
const DEPTH_LIMIT: usize = 16;

/// The packages whose licence does not let them in.
pub(super) fn licences(graph: &Graph) -> Vec<String> {
    let mut violations = Vec::new();
    let allowed = |id: &str| ALLOWED.contains(&id);
    for package in graph.packages() {
        let complaint = match &package.licence {
            None => Some("names no licence".to_owned()),
            Some(text) => match satisfied(text, &allowed) {
                Ok(true) => None,
                Ok(false) => Some(format!("has the licence {text:?}, which is not in the allow-list")),
                Err(error) => Some(format!("has the licence {text:?}, which does not parse: {error}")),
            },
        };
        violations
            .extend(complaint.map(|complaint| format!("{} {} {complaint}", package.name, package.version)));
    }
    violations
}

/// Whether an SPDX expression (or the older `A/B` for `A OR B`) can be met with allowed licences alone.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut parser = Parser { words: spaced.split_whitespace().peekable(), allowed };
    let verdict = parser.any_of(0)?;
    match parser.words.next() {
        None => Ok(verdict),
        Some(word) => Err(format!("{word:?} is one too many")),
    }
}

struct Parser<'a, Words: Iterator<Item = &'a str>> {
    words: std::iter::Peekable<Words>,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a, Words: Iterator<Item = &'a str>> Parser<'a, Words> {
    fn any_of(&mut self, depth: usize) -> Result<bool, String> {
        let mut verdict = self.all_of(depth)?;
        while self.words.next_if_eq(&"OR").is_some() {
            verdict |= self.all_of(depth)?;
        }
        Ok(verdict)
    }

    fn all_of(&mut self, depth: usize) -> Result<bool, String> {
        let mut verdict = self.one(depth)?;
        while self.words.next_if_eq(&"AND").is_some() {
            verdict &= self.one(depth)?;
        }
        Ok(verdict)
    }

    fn one(&mut self, depth: usize) -> Result<bool, String> {
        match self.words.next() {
            None => Err("it ends too early".to_owned()),
            Some("(") if depth < DEPTH_LIMIT => {
                let verdict = self.any_of(depth + 1)?;
                if self.words.next() == Some(")") {
                    Ok(verdict)
                } else {
                    Err("a bracket stays open".to_owned())
                }
            }
            Some(word @ ("(" | ")" | "OR" | "AND" | "WITH")) => {
                Err(format!("a licence is missing before {word:?}"))
            }
            Some(id) if self.words.next_if_eq(&"WITH").is_some() => match self.words.next() {
                Some(exception) => Ok((self.allowed)(&format!("{id} WITH {exception}"))),
                None => Err("it ends after WITH".to_owned()),
            },
            Some(id) => Ok((self.allowed)(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::super::{Graph, Package};
    use super::*;

    #[test]
    fn expressions() {
        let allowed = |id: &str| matches!(id, "MIT" | "ISC" | "Apache-2.0 WITH LLVM-exception");
        for text in [
            "MIT",
            "GPL-3.0 OR MIT",
            "GPL-3.0/MIT",
            "ISC AND (GPL-3.0 OR MIT)",
            "GPL-3.0 AND BSD OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0",
        ] {
            assert_eq!(satisfied(text, &allowed), Ok(true), "{text}");
        }
        for text in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH exception", "mit"] {
            assert_eq!(satisfied(text, &allowed), Ok(false), "{text}");
        }
        let deep = format!("{}MIT{}", "(".repeat(100), ")".repeat(100));
        for text in ["", "MIT OR", "MIT ISC", "(MIT", "MIT)", "AND MIT", "MIT WITH", &deep] {
            assert!(satisfied(text, &allowed).is_err(), "{text}");
        }
    }

    #[test]
    fn packages_without_an_allowed_licence_are_refused() {
        let package = |name: &str, licence: Option<&str>| Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
            member: false,
            published: true,
        };
        let mut graph: Graph = graph(&["rfs"], &[]);
        graph.add(package("listed", Some("MIT OR GPL-3.0")));
        assert_eq!(licences(&graph), Vec::<String>::new());
        graph.add(package("other", Some("MPL-2.0+")));
        graph.add(package("viral", Some("MIT AND AGPL-3.0")));
        graph.add(package("silent", None));
        graph.add(package("odd", Some("MIT OR")));
        let found = licences(&graph);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[2].contains("silent 1.0.0 names no licence"), "{found:?}");
    }
}
