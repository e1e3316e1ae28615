//! A job that outlives its machine.
//!
//! `cargo run --release --example flights` runs over all flights that left New York City in 2013 (`input`) and keeps
//! everything it knows in an rfs volume (`job`). The job runs in a child process (`worker`), which commits a
//! checkpoint every so many flights. The parent (`supervisor`) kills it with SIGKILL at random moments (`kills`),
//! deletes its local directory, which is all that a lost machine takes with it, and starts another worker on the same
//! store, until the job is done. Then it runs the job once more, undisturbed, into a second volume, and compares the
//! two byte by byte (`compare`). Last, it brings directories of this machine from each state that is kept to each other
//! (`states`).
//!
//! With `--store s3://bucket/prefix` the settings come from `AWS_ENDPOINT_URL` (or `AWS_ENDPOINT`), `AWS_REGION`,
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and, for plain HTTP, `AWS_ALLOW_HTTP=true`.
//!
//! With `--weather` the workers reach that store through a proxy that delays, fails and loses what they ask.

mod args;
mod compare;
mod input;
mod job;
mod kills;
mod place;
mod progress;
mod states;
mod summary;
mod supervisor;
mod worker;

use std::error::Error;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use rfs_testkit::WeatherCounts;

use args::{Args, Command};
use place::Place;
use summary::Table;
use supervisor::{Run, Supervisor};

/// Nothing here is repaired by its caller: an error ends the process with its message.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let done = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", args::HELP);
            Ok(true)
        }
        Ok(Command::Work(work)) => worker::main(&work).map(|()| true),
        Ok(Command::Supervise(args)) => supervise(&args),
        Err(error) => Err(format!("{error}; --help explains").into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flights: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Both runs, the comparison and the table. Returns whether all was as it should be.
fn supervise(args: &Args) -> Result<bool> {
    let place = Place::prepare(args.store.as_deref(), args.weather, args.seed)?;
    let flights = input::count(args.flights)?;
    let kills = kills::plan(args.seed, args.kills, flights, args.checkpoint_every);
    println!("{flights} flights, a checkpoint every {}, seed {}", args.checkpoint_every, args.seed);
    if let Some(weather) = args.weather {
        println!("weather: {weather}");
    }
    println!("killed run:      {}", place.killed);
    println!("undisturbed run: {}", place.undisturbed);

    let run = |url: &str, title: &'static str, kills: &[kills::Kill]| -> Result<Run> {
        let bar = bar(flights, title)?;
        let supervisor = Supervisor { url, place: &place, flights, every: args.checkpoint_every };
        let run = supervisor.run(kills, &bar);
        bar.finish_and_clear();
        run
    };
    let killed = run(&place.killed, "killed", &kills)?;
    let undisturbed = run(&place.undisturbed, "undisturbed", &[])?;
    let comparison = compare::compare(&place.killed, &place.undisturbed)?;
    let applied = states::every_pair(&place.killed, &place.machines)?;

    println!("\n{}", Table { kills_planned: args.kills, killed: &killed, undisturbed: &undisturbed });
    if let Some(proxy) = &place.proxy {
        let WeatherCounts { requests, failed_before, failed_after, lost } = proxy.counts();
        println!(
            "Of {requests} requests through the weather {failed_before} failed before they were executed, \
             {failed_after} after, and {lost} replies were lost"
        );
    }
    println!("{comparison}");
    println!("{applied}");
    let died = killed.died + undisturbed.died;
    if died > 0 {
        println!("{died} workers died by themselves: see the messages above");
    }
    Ok(comparison.is_identical() && applied.is_exact() && died == 0)
}

fn bar(flights: u64, title: &'static str) -> Result<ProgressBar> {
    let style = "{prefix:>11} [{bar:40}] {human_pos}/{human_len} flights, {elapsed} {msg}";
    let style = ProgressStyle::with_template(style)?.progress_chars("=> ");
    Ok(ProgressBar::new(flights).with_style(style).with_prefix(title))
}
