//! The `rfs` command.

mod args;
mod error;
mod exec;
mod mount;
mod namespace;
mod volume;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::error::Failure;

/// What `rfs` itself answers when it fails, so that it is not taken for an answer of a command that it ran.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::Mount(args) => mount::mount(&args),
        Command::Unmount(args) => mount::unmount(&args),
        Command::Exec(args) => exec::exec(&args),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("rfs: {failure}");
        ExitCode::from(failure.code.unwrap_or(FAILED))
    })
}

type Outcome = Result<ExitCode, Failure>;
