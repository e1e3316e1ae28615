//! What is raced: workloads, who takes part in them, and what a run says.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Something that all contestants of it do.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What is done, for people.
    pub(crate) what: &'static str,
    /// What is counted.
    pub(crate) unit: &'static str,
    pub(crate) contestants: &'static [Contestant],
    pub(crate) targets: &'static [Target],
    /// It starts other programs, and mounts: so it runs in namespaces of its own.
    pub(crate) mounts: bool,
}

/// Who does it. The first one of a workload is rfs.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// Where what is acknowledged is, then.
    pub(crate) level: &'static str,
    pub(crate) run: fn(&Course) -> Score,
}

/// What a contestant has to reach.
#[derive(Serialize)]
pub(crate) struct Target {
    /// Whose figure it is; the first one's if nobody is named.
    pub(crate) who: Option<&'static str>,
    /// The other contestant; none for a figure of its own.
    pub(crate) against: Option<&'static str>,
    pub(crate) figure: Figure,
    pub(crate) bound: Bound,
}

/// What is compared.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Units in a second.
    Rate,
    /// Seconds.
    Time,
    /// What was asked of the store.
    Requests,
    /// Bytes put into the store.
    Bytes,
    /// The score's own value.
    Value,
}

/// In which direction, and how far: of the ratio of the first contestant's figure to the other's, or of the figure.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Where a run takes place.
pub(crate) struct Course {
    /// An empty directory on the disk, which goes afterwards.
    pub(crate) disk: PathBuf,
    /// An empty directory in memory.
    pub(crate) memory: PathBuf,
    /// Divides how much is done, to see quickly that all works.
    pub(crate) divisor: usize,
    /// An S3 server's, if there is one.
    pub(crate) s3: Option<S3>,
}

#[derive(Clone)]
pub(crate) struct S3 {
    pub(crate) url: String,
    pub(crate) endpoint: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl S3 {
    /// The bucket, and what the names of all objects of this run begin with.
    pub(crate) fn bucket_and_prefix(&self) -> &str {
        self.url.strip_prefix("s3://").unwrap_or(&self.url)
    }

    pub(crate) fn bucket(&self) -> &str {
        self.bucket_and_prefix().split('/').next().unwrap_or_default()
    }
}

impl Course {
    /// So much, or less when it is to be quick.
    pub(crate) fn size(&self, full: usize) -> usize {
        (full / self.divisor).max(10)
    }
}

/// What a run says.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Score {
    pub(crate) seconds: f64,
    pub(crate) units: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// A figure that is none of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// The 99th percentile of the time of a unit, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    /// Why it did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

impl Score {
    pub(crate) fn of(units: usize, took: Duration) -> Self {
        Self { seconds: took.as_secs_f64(), units: units as u64, ..Self::default() }
    }

    pub(crate) fn missing(why: impl Into<String>) -> Self {
        Self { missing: Some(why.into()), ..Self::default() }
    }

    pub(crate) fn asking(self, requests: u64, bytes: u64) -> Self {
        Self { requests: Some(requests), bytes: Some(bytes), ..self }
    }

    /// With the times that the units took.
    pub(crate) fn with_times(self, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).map(|time| time.as_secs_f64() * 1e6);
        Self { p99_us: p99, ..self }
    }
}

/// How long `work` takes; what it made is dropped afterwards.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let made = work();
    let took = start.elapsed();
    drop(made);
    took
}
