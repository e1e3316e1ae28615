//! The command line.

use std::path::PathBuf;

use rfs_testkit::Weather;

use crate::Result;

pub(crate) const HELP: &str = "\
Runs a job over 336,776 flights that keeps its files in rfs, kills it at random moments, and compares its result with
that of an undisturbed run.

  --store URL           where the two volumes go, as URL/run-... and URL/undisturbed-...; file:///directory or
                        s3://bucket/prefix, this with the AWS_* environment variables
                        (default: a directory under the cargo target directory, emptied first)
  --kills N             how often the worker is killed and its local directory deleted (default: 5)
  --seed S              chooses the moments (default: 1)
  --checkpoint-every N  flights between two checkpoints (default: 5000)
  --flights N           only the first N flights
  --weather W           bad weather between the workers and an s3:// store at an http:// endpoint, by a proxy:
                        ttfb=MS,fail=PERCENT,lost=PERCENT for how much later answers come, how many requests are
                        answered by 503, half of them after they were executed, and how many replies are lost
  --help                this text

It exits with 0 if the two results are identical.
";

/// What the process is asked to be.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Supervise(Args),
    Work(Work),
}

/// What the user asks.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) store: Option<String>,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    pub(crate) checkpoint_every: u64,
    pub(crate) flights: u64,
    pub(crate) weather: Option<Weather>,
}

/// What the supervisor asks of a worker.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) url: String,
    /// The worker's machine, as far as rfs cares.
    pub(crate) local_dir: PathBuf,
    pub(crate) checkpoint_every: u64,
    pub(crate) flights: u64,
}

impl Work {
    /// The command line that [`parse`] understands.
    pub(crate) fn command_line(&self) -> Vec<std::ffi::OsString> {
        vec![
            "--worker".into(),
            self.local_dir.clone().into(),
            "--store".into(),
            self.url.clone().into(),
            "--checkpoint-every".into(),
            self.checkpoint_every.to_string().into(),
            "--flights".into(),
            self.flights.to_string().into(),
        ]
    }
}

pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Command> {
    let mut args =
        Args { store: None, kills: 5, seed: 1, checkpoint_every: 5000, flights: u64::MAX, weather: None };
    let mut machine = None;
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} takes a value"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--store" => args.store = Some(value()?),
            "--kills" => args.kills = number(&flag, &value()?, 0, 10_000)?,
            "--seed" => args.seed = number(&flag, &value()?, 0, u64::MAX)?,
            "--checkpoint-every" => args.checkpoint_every = number(&flag, &value()?, 1, u64::MAX)?,
            "--flights" => args.flights = number(&flag, &value()?, 1, u64::MAX)?,
            "--weather" => {
                let weather = value()?.parse::<Weather>().map_err(|error| format!("--weather: {error}"))?;
                args.weather = Some(weather);
            }
            // From the supervisor only.
            "--worker" => machine = Some(PathBuf::from(value()?)),
            _ => return Err(format!("unknown argument {flag:?}").into()),
        }
    }
    let Some(local_dir) = machine else { return Ok(Command::Supervise(args)) };
    let url = args.store.ok_or("--worker needs --store")?;
    let (checkpoint_every, flights) = (args.checkpoint_every, args.flights);
    Ok(Command::Work(Work { url, local_dir, checkpoint_every, flights }))
}

fn number(flag: &str, value: &str, least: u64, most: u64) -> Result<u64> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ if most == u64::MAX => {
            Err(format!("{flag} takes a whole number from {least} on, not {value:?}").into())
        }
        _ => Err(format!("{flag} takes a whole number from {least} to {most}, not {value:?}").into()),
    }
}
