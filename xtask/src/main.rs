//! `cargo xtask COMMAND`: finds the command in the table and runs it.

use std::process::ExitCode;

use xtask::{
    Outcome, ci, deps, documents, flights, fuzz, instructions, model, mutate, race, scale, serve, simulate,
    stores, suites, test,
};

struct Command {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "ci",
        arguments: "",
        summary: "everything that must pass: format, lints, docs, dependencies, documents, tests",
        run: ci::run,
    },
    Command {
        name: "test",
        arguments: test::USAGE,
        summary: "every test and doc test, on servers of S3, Azure and GCS, or those that start at once; ARGS go to the test runner, then without doc tests",
        run: test::run,
    },
    Command {
        name: "suites",
        arguments: suites::USAGE,
        summary: "foreign test suites and programs on a mounted volume; needs root and /dev/fuse",
        run: suites::run,
    },
    Command {
        name: "fuzz",
        arguments: fuzz::USAGE,
        summary: "fuzz every decoder and sequences of operations; findings are kept; needs g++",
        run: fuzz::run,
    },
    Command {
        name: "model",
        arguments: model::USAGE,
        summary: "check the commit protocol in every interleaving, within the tests' bounds or those given",
        run: model::run,
    },
    Command {
        name: "race",
        arguments: race::USAGE,
        summary: "rfs beside its peers and the physical limits, in turns, with a verdict on each target",
        run: race::run,
    },
    Command {
        name: "instructions",
        arguments: instructions::USAGE,
        summary: "the instructions that operations take, counted by callgrind, against their budgets",
        run: instructions::run,
    },
    Command {
        name: "scale",
        arguments: scale::USAGE,
        summary: "what volumes with many files cost to build, open and commit, side by side",
        run: scale::run,
    },
    Command {
        name: "flights",
        arguments: flights::USAGE,
        summary: "the example flights, 10 kills, on each store that starts here, and behind 30 ms, 2 % failed and 1 % lost replies",
        run: flights::run,
    },
    Command {
        name: "simulate",
        arguments: simulate::USAGE,
        summary: "several machines on one volume while everything fails that can, once for each seed",
        run: simulate::run,
    },
    Command {
        name: "mutate",
        arguments: mutate::USAGE,
        summary: "break rfs on purpose, and see that the simulator finds out",
        run: mutate::run,
    },
    Command {
        name: "serve",
        arguments: serve::USAGE,
        summary: "run one of the servers of the tests in the foreground, for use by hand",
        run: serve::run,
    },
    Command {
        name: "stores",
        arguments: stores::USAGE,
        summary: "run `rfs store check` on each store that starts here and write the table of docs/stores.md",
        run: stores::run,
    },
    Command {
        name: "deps",
        arguments: "",
        summary: "check licences, banned crates, doubled versions and who may know whom",
        run: deps::run,
    },
    Command {
        name: "documents",
        arguments: "",
        summary: "check that no tracked document names a path of the machine it was written on",
        run: documents::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("cargo xtask: there is no command {name:?}\n\n{}", usage());
        return ExitCode::from(2);
    };
    let rest: Vec<String> = arguments.collect();
    match (command.run)(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cargo xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let lines = COMMANDS.iter().map(|command| {
        let call = format!("{} {}", command.name, command.arguments);
        format!("  {call:<20} {}\n", command.summary)
    });
    ["Usage: cargo xtask COMMAND\n\n".to_owned()].into_iter().chain(lines).collect()
}
