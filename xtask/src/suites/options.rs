//! The arguments of `cargo xtask suites`.

use std::path::{Path, PathBuf};

/// The arguments as the list of commands shows them.
pub const USAGE: &str = "[NAME...] [--store memory|file] [--ops N] [--seeds \"1 2\"] [--case TEXT] [--on DIR] [--rfs PROGRAM] [--keep]";

/// Where the volume's objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Memory,
    File,
}

impl Store {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The suites; all when empty.
    pub(super) names: Vec<String>,
    /// The store; each that the suite knows when absent.
    pub(super) store: Option<Store>,
    /// Operations of each fsx run.
    pub(super) ops: u64,
    /// Seeds of the fsx runs.
    pub(super) seeds: Vec<u64>,
    /// Only cases whose name contains this.
    pub(super) case: Option<String>,
    /// A plain directory in place of a volume, to see what the suite says of another file system.
    pub(super) on: Option<PathBuf>,
    /// The command-line tool; built from this workspace when absent.
    pub(super) rfs: Option<PathBuf>,
    /// Leaves mount point, store and local directory behind.
    pub(super) keep: bool,
    /// Set when the task has started itself inside the sandbox: the directory of this run.
    pub(super) inside: Option<PathBuf>,
}

impl Options {
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            names: Vec::new(),
            store: None,
            ops: 5_000,
            seeds: vec![1, 2],
            case: None,
            on: None,
            rfs: None,
            keep: false,
            inside: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                options.names.push(argument.clone());
                continue;
            }
            if argument == "--keep" {
                options.keep = true;
                continue;
            }
            let takes = |what: &str| format!("{argument} takes {what}; usage: cargo xtask suites {USAGE}");
            let mut value = |what: &str| rest.next().cloned().ok_or_else(|| takes(what));
            match argument.as_str() {
                "--store" => {
                    let what = "memory or file";
                    options.store = match value(what)?.as_str() {
                        "memory" => Some(Store::Memory),
                        "file" => Some(Store::File),
                        _ => return Err(takes(what)),
                    };
                }
                "--ops" => {
                    let what = "a number from 1";
                    options.ops =
                        value(what)?.parse().ok().filter(|ops| *ops > 0).ok_or_else(|| takes(what))?;
                }
                "--seeds" => {
                    let what = "numbers with spaces between them";
                    let seeds: Result<Vec<u64>, _> =
                        value(what)?.split_whitespace().map(str::parse).collect();
                    options.seeds =
                        seeds.ok().filter(|seeds| !seeds.is_empty()).ok_or_else(|| takes(what))?;
                }
                "--case" => options.case = Some(value("a part of the names of cases")?),
                "--on" => options.on = Some(PathBuf::from(value("a directory")?)),
                "--rfs" => options.rfs = Some(PathBuf::from(value("a program")?)),
                "--inside" => options.inside = Some(PathBuf::from(value("a directory")?)),
                _ => {
                    return Err(format!(
                        "there is no option {argument:?}; usage: cargo xtask suites {USAGE}"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// Whether the case is to be run.
    pub(super) fn wants(&self, case: &str) -> bool {
        self.case.as_ref().is_none_or(|part| case.contains(part.as_str()))
    }

    /// These options for one suite on one store, as arguments of the task inside the sandbox.
    pub(super) fn for_inside(&self, name: &str, store: Store, directory: &Path) -> Vec<String> {
        let seeds: Vec<_> = self.seeds.iter().map(u64::to_string).collect();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec![name.to_owned()];
        let mut pair = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        pair("--store", store.name().to_owned());
        pair("--ops", self.ops.to_string());
        pair("--seeds", seeds.join(" "));
        if let Some(case) = &self.case {
            pair("--case", case.clone());
        }
        if let Some(on) = &self.on {
            pair("--on", text(on));
        }
        if let Some(rfs) = &self.rfs {
            pair("--rfs", text(rfs));
        }
        pair("--inside", text(directory));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_goes_inside_comes_out_again() {
        let outside = parse(&[
            "fsx", "--store", "file", "--ops", "7", "--seeds", "3 4", "--case", "big/3", "--rfs", "r",
        ])
        .unwrap();
        let inside = Options::parse(&outside.for_inside("fsx", Store::File, Path::new("/run"))).unwrap();
        assert_eq!(inside, Options { inside: Some(PathBuf::from("/run")), ..outside });
    }

    #[test]
    fn cases_are_chosen_by_a_part_of_their_name() {
        let some = parse(&["--case", "mmap"]).unwrap();
        assert!(some.wants("mmap/1") && !some.wants("basic/1"));
        assert!(parse(&[]).unwrap().wants("anything"));
    }

    #[test]
    fn wrong_arguments_say_what_is_right() {
        for (words, said) in [
            (&["--store", "tape"][..], "--store takes memory or file"),
            (&["--store"], "--store takes memory or file"),
            (&["--ops", "0"], "--ops takes a number from 1"),
            (&["--seeds", "one"], "--seeds takes numbers"),
            (&["--seeds", " "], "--seeds takes numbers"),
            (&["--exclude", "x"], "there is no option \"--exclude\""),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.starts_with(said), "{words:?}: {error}");
        }
    }
}
