//! The `rfs` command.

mod args;
mod commands;
mod entry;
mod error;
mod exec;
mod mount;
mod namespace;
mod output;
mod progress;
mod signals;
mod state;
mod time;
mod volume;
mod walk;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Args, Command};
use crate::error::Failure;

/// What a command answers when it fails and there is no more to tell.
const FAILED: u8 = 1;
/// What `rfs` itself answers when it fails, so that it is not taken for an answer of a command that it ran.
const FAILED_TO_RUN: u8 = 125;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let (done, failed) = match args.command {
        Command::Mount(args) => (mount::mount(&args), FAILED_TO_RUN),
        Command::OpenAt(args) => (mount::open_at(&args), FAILED),
        Command::Unmount(args) => (mount::unmount(&args), FAILED_TO_RUN),
        Command::Exec(args) => (exec::exec(&args), FAILED_TO_RUN),
        command => (mount::run(run(command)), FAILED),
    };
    done.unwrap_or_else(|failure| {
        if !failure.is_silent() {
            eprintln!("rfs: {failure}");
        }
        ExitCode::from(failure.code.unwrap_or(failed))
    })
}

async fn run(command: Command) -> Outcome {
    let done = match command {
        Command::Create(create) => create.run().await,
        Command::Ls(ls) => ls.run().await,
        Command::Cat(cat) => cat.run().await,
        Command::Cp(cp) => cp.run().await,
        Command::Stat(stat) => stat.run().await,
        Command::Du(du) => du.run().await,
        Command::Log(log) => log.run().await,
        Command::Diff(diff) => diff.run().await,
        Command::Changes(changes) => changes.run().await,
        Command::Checkpoints(checkpoints) => checkpoints.run().await,
        Command::Checkpoint(checkpoint) => checkpoint.run().await,
        Command::Drop(drop) => drop.run().await,
        Command::Restore(restore) => restore.run().await,
        Command::Apply(apply) => apply.run().await,
        Command::Rewind(rewind) => rewind.run().await,
        Command::Fork(fork) => fork.run().await,
        Command::Detach(detach) => detach.run().await,
        Command::Pins(pins) => pins.run().await,
        Command::Pin(pin) => pin.run().await,
        Command::Unpin(unpin) => unpin.run().await,
        Command::Gc(gc) => gc.run().await,
        Command::Check(check) => check.run().await,
        Command::Repair(repair) => repair.run().await,
        Command::Drill(drill) => drill.run().await,
        Command::Inspect(inspect) => inspect.run().await,
        Command::Stats(stats) => stats.run().await,
        Command::Store(store) => store.run().await,
        Command::Completions(completions) => completions.run(),
        // They begin with what has to be done before there are threads.
        Command::Mount(_) | Command::OpenAt(_) | Command::Unmount(_) | Command::Exec(_) => Ok(()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

type Outcome = Result<ExitCode, Failure>;
