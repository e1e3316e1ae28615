//! The `rfs` command.

mod args;
mod error;
mod exec;
mod mount;
mod namespace;
mod signals;
mod volume;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Args, Command};
use crate::error::Failure;

/// What `rfs` itself answers when it fails, so that it is not taken for an answer of a command that it ran.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
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
