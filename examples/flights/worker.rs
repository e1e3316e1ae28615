//! The worker: one process on one machine, which does the job from the last checkpoint on, and may die at any moment.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rfs::{Commit, CommitId, ErrorKind, Options, Receipt, Volume};
use tokio::task::JoinHandle;

use crate::Result;
use crate::args::Work;
use crate::input::Flights;
use crate::job::Job;
use crate::progress::{Cost, Report, Stage};

/// Flights between two reports of progress.
const REPORT_EVERY: u64 = 256;
/// Named checkpoints that stay, the newest among them.
const CHECKPOINTS_KEPT: usize = 3;

/// Runs the worker to its end.
pub(crate) fn main(work: &Work) -> Result<()> {
    // More than one thread, so that a commit goes on while the job does.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(work))
}

async fn run(work: &Work) -> Result<()> {
    let worker = Worker::new(Volume::open_or_create(&work.url, options(work)).await?);
    let mut job = Job::restore(worker.volume.fs()).await?;
    worker.report(Stage::Open, job.flights())?;

    let mut flights = Flights::open()?;
    flights.skip(job.flights())?;
    let mut started = None;
    let mut checkpointed = job.flights();
    let mut month_ended = false;
    while job.flights() < work.flights
        && let Some(flight) = flights.next()?
    {
        month_ended |= job.take(&flight).await?;
        if job.flights().is_multiple_of(REPORT_EVERY) {
            worker.report(Stage::At, job.flights())?;
        }
        if job.flights() - checkpointed == work.checkpoint_every {
            // One checkpoint is on its way while the job does the flights of the next.
            settle(&mut started).await?;
            if std::mem::take(&mut month_ended) {
                worker.volume.collect_garbage().await?;
            }
            started = Some(worker.start_checkpoint(&job).await?);
            checkpointed = job.flights();
        }
    }

    settle(&mut started).await?;
    let done = job.flights();
    if done > checkpointed {
        worker.start_checkpoint(&job).await?.await??;
    }
    job.finish().await?;
    let receipt = worker.volume.commit().await?;
    worker.count(&receipt);
    worker.report(Stage::Done, done)?;
    Ok(worker.volume.close().await?)
}

fn options(work: &Work) -> Options {
    Options::new()
        .with_local_dir(&work.local_dir)
        // Only a checkpoint is a state from which the job can go on: see `job`.
        .with_commit_interval(None)
        .with_commit_bytes(u64::MAX)
        .with_image_every(8 << 20, 64)
        // Nobody reads old states while the job runs: nothing needs to wait for readers to finish.
        .with_retention(2, Duration::ZERO)
}

/// What the worker and the task that awaits a commit share.
#[derive(Clone)]
struct Worker {
    volume: Volume,
    books: Arc<Mutex<Books>>,
}

/// The commits of this worker.
struct Books {
    /// The newest one that was counted, or found.
    last: Option<CommitId>,
    commits: u64,
    bytes: u64,
}

/// A commit that is on its way. It is reported as soon as it is durable.
type Started = JoinHandle<Result<()>>;

impl Worker {
    fn new(volume: Volume) -> Self {
        let last = volume.open_report().and_then(|report| report.commit);
        Self { volume, books: Arc::new(Mutex::new(Books { last, commits: 0, bytes: 0 })) }
    }

    /// Starts a checkpoint. The job goes on while it is on its way.
    async fn start_checkpoint(&self, job: &Job) -> Result<Started> {
        let flights = job.flights();
        job.save_position().await?;
        // Their names sort by age.
        let names: Vec<String> = self.volume.checkpoints().into_iter().map(|(name, _)| name).collect();
        for name in names.iter().rev().skip(CHECKPOINTS_KEPT - 1) {
            self.volume.drop_checkpoint(name).await?;
        }
        let commit = self.volume.checkpoint(&format!("flights-{flights:09}")).await?;
        self.report(Stage::Committing, flights)?;
        let worker = self.clone();
        Ok(tokio::spawn(async move { worker.see_through(flights, commit).await }))
    }

    /// Waits until a commit is durable; only then are its flights reported as safe.
    async fn see_through(&self, flights: u64, mut commit: Commit) -> Result<()> {
        let receipt = loop {
            match commit.wait().await {
                // The commit goes on by itself until the store is back; the supervisor's patience is the limit.
                Err(error) if error.kind() == ErrorKind::Outage => {}
                waited => break waited?,
            }
        };
        self.count(&receipt);
        self.report(Stage::Committed, flights)
    }

    fn count(&self, receipt: &Receipt) {
        let mut books = self.books.lock();
        if books.last.replace(receipt.commit) != Some(receipt.commit) {
            books.commits += 1;
            books.bytes += receipt.bytes;
        }
    }

    fn report(&self, stage: Stage, flights: u64) -> Result<()> {
        // Locked until the line is out, so that a later line never has smaller numbers.
        let books = self.books.lock();
        let cost = Cost::new(books.commits, books.bytes, &self.volume.metered());
        let sent = Report { stage, flights, cost }.send();
        sent.map_err(|error| format!("report to the supervisor: {error}").into())
    }
}

/// Waits for the commit that is on its way, if there is one.
async fn settle(started: &mut Option<Started>) -> Result<()> {
    match started.take() {
        Some(started) => started.await?,
        None => Ok(()),
    }
}
