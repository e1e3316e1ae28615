//! What a worker tells its supervisor: lines of a word and numbers, on its standard output.

use std::fmt;
use std::io::{self, Write};
use std::ops::AddAssign;

use rfs::backends::{Count, MeterSnapshot, RequestKind};

use crate::Result;

const KINDS: usize = RequestKind::ALL.len();

/// What just happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The volume is open; the job goes on after the report's flight.
    Open,
    /// The job came to the report's flight. Nothing says that this is safe.
    At,
    /// A commit was started.
    Committing,
    /// Everything up to the report's flight is durable in the store.
    Committed,
    /// The job is done, and all of it is durable.
    Done,
}

const STAGES: [(Stage, &str); 5] = [
    (Stage::Open, "open"),
    (Stage::At, "at"),
    (Stage::Committing, "committing"),
    (Stage::Committed, "committed"),
    (Stage::Done, "done"),
];

/// One line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) stage: Stage,
    pub(crate) flights: u64,
    /// What this worker cost so far.
    pub(crate) cost: Cost,
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Commits that are durable.
    pub(crate) commits: u64,
    /// Bytes of their commit objects.
    pub(crate) commit_bytes: u64,
    asked: [Count; KINDS],
}

impl Cost {
    pub(crate) fn new(commits: u64, commit_bytes: u64, metered: &MeterSnapshot) -> Self {
        Self { commits, commit_bytes, asked: RequestKind::ALL.map(|kind| metered.of(kind)) }
    }

    pub(crate) const fn of(&self, kind: RequestKind) -> Count {
        self.asked[kind as usize]
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.commits += other.commits;
        self.commit_bytes += other.commit_bytes;
        for (sum, count) in self.asked.iter_mut().zip(other.asked) {
            sum.requests += count.requests;
            sum.bytes += count.bytes;
        }
    }
}

impl Report {
    /// Writes the line. An error means that the supervisor is gone.
    pub(crate) fn send(&self) -> io::Result<()> {
        // One write: a line is there whole, or not.
        let line = format!("{self}\n");
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.flush()
    }

    pub(crate) fn parse(line: &str) -> Result<Self> {
        let wrong = || format!("a worker said {line:?}");
        let mut words = line.split(' ');
        let word = words.next().ok_or_else(wrong)?;
        let (stage, _) = STAGES.iter().find(|(_, name)| *name == word).ok_or_else(wrong)?;
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong);
        let (flights, commits, commit_bytes) = (number()?, number()?, number()?);
        let mut asked = [Count::default(); KINDS];
        for count in &mut asked {
            (count.requests, count.bytes) = (number()?, number()?);
        }
        Ok(Self { stage: *stage, flights, cost: Cost { commits, commit_bytes, asked } })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, word)) = STAGES.iter().find(|(stage, _)| *stage == self.stage) else {
            return Err(fmt::Error);
        };
        write!(f, "{word} {} {} {}", self.flights, self.cost.commits, self.cost.commit_bytes)?;
        for count in self.cost.asked {
            write!(f, " {} {}", count.requests, count.bytes)?;
        }
        Ok(())
    }
}
