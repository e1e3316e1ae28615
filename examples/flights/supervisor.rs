//! The parent: starts workers, kills them, takes their machines away, and keeps the books.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tempfile::TempDir;

use crate::Result;
use crate::args::Work;
use crate::kills::{Kill, Moment};
use crate::place::Place;
use crate::progress::{Cost, Report, Stage};

/// A worker that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_mins(3);
/// So many workers of one run may die by themselves, but not one before any of them opened the volume.
const DEATHS_MAX: u64 = 3;
/// Of what a dead worker wrote to its standard error, so many bytes are shown.
const LAST_WORDS_BYTES: i64 = 8 << 10;

/// Runs the job to its end, whatever happens to its workers.
pub(crate) struct Supervisor<'a> {
    pub(crate) url: &'a str,
    pub(crate) place: &'a Place,
    pub(crate) flights: u64,
    /// Flights between two checkpoints.
    pub(crate) every: u64,
}

/// The books of one run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) workers: u64,
    pub(crate) kills: u64,
    /// Of the kills, those of workers that had not yet said that the volume was open.
    pub(crate) kills_opening: u64,
    /// Of the kills, those of workers that had a commit on its way, as far as they had said.
    pub(crate) kills_committing: u64,
    /// Workers that ended, and neither were killed nor were done.
    pub(crate) died: u64,
    /// Flights that were done, reported, and done once more by a later worker.
    pub(crate) flights_again: u64,
    pub(crate) cost: Cost,
    pub(crate) elapsed: Duration,
    /// Whether any worker opened the volume.
    opened: bool,
    /// Up to which flight the newest worker that reported came.
    reached: u64,
    /// Up to which flight some worker said that all is durable.
    safe: u64,
}

/// How a worker ended.
enum End {
    Done,
    Killed(Doing),
    Died(ExitStatus),
}

impl Supervisor<'_> {
    /// Starts a worker, and another one whenever it ends before the job does.
    pub(crate) fn run(&self, kills: &[Kill], bar: &ProgressBar) -> Result<Run> {
        let began = now();
        let mut run = Run::default();
        let mut kills = kills.iter().peekable();
        loop {
            let machine = tempfile::Builder::new().prefix("machine-").tempdir_in(&self.place.machines);
            let machine = machine.map_err(|error| format!("make a worker's local directory: {error}"))?;
            let mut worker = Worker::start(&self.work(&machine), self.place)?;
            run.workers += 1;
            let end = worker.watch(kills.peek().copied(), &mut run, bar)?;
            // The machine is gone, with all that was on it.
            machine.close().map_err(|error| format!("delete a worker's local directory: {error}"))?;
            match end {
                End::Done => break,
                End::Killed(doing) => {
                    run.kills += 1;
                    run.kills_opening += u64::from(doing == Doing::Opening);
                    run.kills_committing += u64::from(doing == Doing::Committing);
                    kills.next();
                    bar.set_message(format!("{} kills", run.kills));
                }
                End::Died(status) => {
                    run.died += 1;
                    let died = format!("a worker died by itself, {status}: {}", worker.last_words());
                    if !run.opened || run.died > DEATHS_MAX {
                        return Err(died.into());
                    }
                    bar.suspend(|| eprintln!("{died}"));
                }
            }
        }
        if run.safe != self.flights {
            return Err(format!("a worker ended well after {} of {} flights", run.safe, self.flights).into());
        }
        run.elapsed = began.elapsed();
        Ok(run)
    }

    fn work(&self, machine: &TempDir) -> Work {
        Work {
            url: self.url.to_owned(),
            local_dir: machine.path().join("rfs"),
            checkpoint_every: self.every,
            flights: self.flights,
        }
    }
}

impl Run {
    /// Enters what a worker says.
    fn note(&mut self, report: &Report) -> Result<()> {
        self.opened = true;
        match report.stage {
            Stage::Open if report.flights < self.safe => {
                let (safe, found) = (self.safe, report.flights);
                let what =
                    format!("flights up to {safe} were reported as safe, and the next worker found {found}");
                return Err(what.into());
            }
            Stage::Open => {
                self.flights_again += self.reached.saturating_sub(report.flights);
                self.reached = report.flights;
                // A commit may be durable although its worker died before it could say so.
                self.safe = report.flights;
            }
            Stage::At | Stage::Committing => self.reached = report.flights,
            Stage::Committed => self.safe = report.flights,
            Stage::Done => (self.reached, self.safe) = (report.flights, report.flights),
        }
        Ok(())
    }
}

/// What a worker was doing, by what it said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Opening,
    Flights,
    /// Flights, while a commit was on its way.
    Committing,
}

impl Doing {
    const fn after(self, stage: Stage) -> Self {
        match stage {
            Stage::At => self,
            Stage::Committing => Self::Committing,
            Stage::Open | Stage::Committed | Stage::Done => Self::Flights,
        }
    }
}

/// A worker's process.
struct Worker {
    child: Child,
    reports: Receiver<Result<Report>>,
    errors: File,
}

impl Worker {
    fn start(work: &Work, place: &Place) -> Result<Self> {
        let failed = |error: std::io::Error| format!("start a worker: {error}");
        let errors = tempfile::tempfile().map_err(failed)?;
        let program = env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(work.command_line()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(errors.try_clone().map_err(failed)?);
        if let Some(proxy) = &place.proxy {
            command.env("AWS_ENDPOINT_URL", format!("http://{}", proxy.address()));
        }
        let mut child = command.spawn().map_err(failed)?;
        let out = child.stdout.take().ok_or("start a worker: it has no standard output")?;
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n') {
                let line = line.map_err(Into::into);
                let report = line.and_then(|line| Report::parse(&String::from_utf8_lossy(&line)));
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, reports, errors })
    }

    /// Follows the worker until it ends, and kills it when its time has come.
    fn watch(&mut self, kill: Option<&Kill>, run: &mut Run, bar: &ProgressBar) -> Result<End> {
        let (mut cost, mut doing) = (Cost::default(), Doing::Opening);
        let mut note = |report: &Report, run: &mut Run| {
            (cost, doing) = (report.cost, doing.after(report.stage));
            bar.set_position(report.flights);
            run.note(report)
        };
        let mut due = kill.filter(|kill| matches!(kill.moment, Moment::Start)).map(|kill| now() + kill.delay);
        let killed = loop {
            let patience = due.map_or(PATIENCE, |due| due.saturating_duration_since(now()));
            match self.reports.recv_timeout(patience) {
                Ok(report) => {
                    let report = report?;
                    note(&report, run)?;
                    if due.is_none() {
                        due = kill.filter(|kill| kill.is_met_by(&report)).map(|kill| now() + kill.delay);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => {
                    // SIGKILL.
                    self.child.kill().map_err(|error| format!("kill a worker: {error}"))?;
                    if due.is_none() {
                        return Err(
                            format!("a worker said nothing for {PATIENCE:?}: {}", self.last_words()).into()
                        );
                    }
                    break true;
                }
            }
        };
        let status = self.child.wait().map_err(|error| format!("wait for a worker: {error}"))?;
        // What it said before it died counts.
        for report in &self.reports {
            note(&report?, run)?;
        }
        run.cost += cost;
        Ok(match status.code() {
            // Too late: it was done.
            Some(0) => End::Done,
            None if killed => End::Killed(doing),
            _ => End::Died(status),
        })
    }

    /// The end of what the worker wrote to its standard error.
    fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        let from_end = self.errors.seek(SeekFrom::End(-LAST_WORDS_BYTES));
        let sought = from_end.or_else(|_| self.errors.rewind().map(|()| 0));
        match sought.and_then(|_| self.errors.read_to_end(&mut words)) {
            Ok(_) => String::from_utf8_lossy(&words).trim().to_owned(),
            Err(error) => format!("(its standard error cannot be read: {error})"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // No worker outlives an error of the supervisor. Most have ended, and then this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "kills happen in real time, and the table shows it")]
fn now() -> Instant {
    Instant::now()
}
