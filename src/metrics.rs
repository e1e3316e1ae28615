//! What the program's `metrics` recorder is told of a volume; names and units are in `docs/metrics.md`. Nothing without the
//! feature `metrics`.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rfs_core::{Lsn, Timestamp};

use recorder::Told;

/// How far the commits are behind.
#[derive(Debug)]
pub(crate) struct Undurable {
    /// None for a volume that is open for reading only.
    told: Option<Told>,
    ages: Mutex<Ages>,
}

/// How far a volume is, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) end: Lsn,
    pub(crate) fixed: Lsn,
    pub(crate) committed: Lsn,
    /// Bytes of journal that no commit has.
    pub(crate) bytes: u64,
}

impl Undurable {
    /// Of a volume whose newest commit was made at `committed`. It has a label if it has a `name`.
    pub(crate) fn new(name: Option<&str>, committed: Option<Timestamp>) -> Self {
        let new = Self { told: Some(Told::new(name)), ages: Mutex::default() };
        committed.inspect(|time| new.committed(*time));
        new
    }

    /// Of a volume that nobody changes: nothing is told.
    pub(crate) fn never() -> Self {
        Self { told: None, ages: Mutex::default() }
    }

    /// Something was changed, committed, or tried. `before` is where the change began, if it is one. Neither argument is
    /// asked for when nobody is told.
    pub(crate) fn tell(
        &self,
        standing: impl FnOnce() -> Standing,
        before: Option<Lsn>,
        now: impl FnOnce() -> Timestamp,
    ) {
        let Some(told) = self.told.as_ref().filter(|_| Told::ANYBODY) else { return };
        // Locked before anybody looks: whoever tells last has seen the newest.
        let mut ages = self.ages.lock();
        let standing = standing();
        told.undurable(standing.bytes, seconds(ages.oldest(standing, before, now())));
    }

    pub(crate) fn committed(&self, time: Timestamp) {
        self.told.as_ref().inspect(|told| told.committed(seconds(time.as_nanos())));
    }

    pub(crate) fn commit_failed(&self) {
        self.told.as_ref().inspect(|told| told.commit_failed());
    }
}

impl Drop for Undurable {
    /// What a closed volume had would else be told for ever.
    fn drop(&mut self) {
        self.told.as_ref().inspect(|told| told.undurable(0, 0.0));
    }
}

/// When changes were made that no commit has: of each commit to come, where its first one began, and when. As many as there
/// are commits on their way.
#[derive(Debug, Default)]
struct Ages(VecDeque<(Lsn, Timestamp)>);

impl Ages {
    /// The age of the oldest change that no commit has, in nanoseconds.
    fn oldest(&mut self, standing: Standing, before: Option<Lsn>, now: Timestamp) -> i64 {
        if let Some(before) = before
            && self.0.back().is_none_or(|(newest, _)| *newest < standing.fixed)
        {
            self.0.push_back((before, now));
        }
        while !self.0.is_empty() {
            let covers = self.0.get(1).map_or(standing.end, |(next, _)| *next);
            if covers > standing.committed {
                break;
            }
            self.0.pop_front();
        }
        let oldest = self.0.front().map_or(now, |(_, time)| *time);
        now.as_nanos().saturating_sub(oldest.as_nanos()).max(0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of our time are kept")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(feature = "metrics")]
mod recorder {
    use metrics::{Counter, Gauge, Label};

    /// Made once for each volume: recording is then no search.
    pub(super) struct Told {
        bytes: Gauge,
        age: Gauge,
        commit_time: Gauge,
        failures: Counter,
    }

    impl Told {
        pub(super) const ANYBODY: bool = true;

        pub(super) fn new(name: Option<&str>) -> Self {
            let labels: Vec<_> = name.map(|name| Label::new("volume", name.to_owned())).into_iter().collect();
            Self {
                bytes: metrics::gauge!("rfs_volume_undurable_bytes", labels.clone()),
                age: metrics::gauge!("rfs_volume_undurable_age_seconds", labels.clone()),
                commit_time: metrics::gauge!("rfs_volume_commit_timestamp_seconds", labels.clone()),
                failures: metrics::counter!("rfs_volume_commit_failures_total", labels),
            }
        }

        #[expect(clippy::cast_precision_loss, reason = "nobody keeps 2^53 bytes in a journal")]
        pub(super) fn undurable(&self, bytes: u64, age_seconds: f64) {
            self.bytes.set(bytes as f64);
            self.age.set(age_seconds);
        }

        pub(super) fn committed(&self, time_seconds: f64) {
            self.commit_time.set(time_seconds);
        }

        pub(super) fn commit_failed(&self) {
            self.failures.increment(1);
        }
    }

    impl std::fmt::Debug for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Told")
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "it has the form of the one that tells somebody")]
mod recorder {
    #[derive(Debug)]
    pub(super) struct Told;

    impl Told {
        pub(super) const ANYBODY: bool = false;

        pub(super) fn new(_: Option<&str>) -> Self {
            Self
        }

        pub(super) fn undurable(&self, _: u64, _: f64) {}

        pub(super) fn committed(&self, _: f64) {}

        pub(super) fn commit_failed(&self) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_change_that_no_commit_has() {
        let mut ages = Ages::default();
        let mut oldest = |end, fixed, committed, before: Option<u64>, now| {
            let standing = Standing { end: Lsn(end), fixed: Lsn(fixed), committed: Lsn(committed), bytes: 0 };
            ages.oldest(standing, before.map(Lsn), Timestamp::from_nanos(now))
        };
        assert_eq!(oldest(0, 0, 0, None, 100), 0, "nothing was changed");
        assert_eq!(oldest(1, 0, 0, Some(0), 200), 0);
        assert_eq!(oldest(5, 0, 0, Some(1), 300), 100);
        // A commit of all that is fixed; what comes after belongs to the next.
        assert_eq!(oldest(6, 5, 0, Some(5), 400), 200);
        assert_eq!(oldest(7, 5, 0, Some(6), 500), 300);
        assert_eq!(oldest(7, 5, 5, None, 600), 200);
        assert_eq!(oldest(7, 7, 7, None, 700), 0);
        assert_eq!(oldest(8, 7, 7, Some(7), 650), 0, "a clock may go back");
        assert_eq!(oldest(8, 7, 7, None, 640), 0);
        assert_eq!(oldest(8, 7, 7, None, 750), 100);
    }
}
