//! When the worker is killed: chosen by the seed, in terms of the worker's progress, so that every part of the job and
//! every step of a commit or an open can be hit.
//!
//! What a kill meets still varies from run to run: the last stretch is a time, and the machine is not alone.

use std::time::Duration;

use crate::progress::{Report, Stage};

/// One kill.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) moment: Moment,
    /// How long after that moment.
    pub(crate) delay: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum Moment {
    /// The worker was started: it dies while it opens the volume, or soon after.
    Start,
    /// It went past this flight.
    Flight(u64),
    /// It started a commit at or past this flight.
    Commit(u64),
}

impl Kill {
    /// Whether this report is the moment.
    pub(crate) fn is_met_by(&self, report: &Report) -> bool {
        match self.moment {
            Moment::Start => false,
            Moment::Flight(flight) => report.flights >= flight,
            Moment::Commit(flight) => report.stage == Stage::Committing && report.flights >= flight,
        }
    }
}

/// The kills of a run over `flights` flights, first to last.
pub(crate) fn plan(seed: u64, kills: u64, flights: u64, checkpoint_every: u64) -> Vec<Kill> {
    const REACH_MAX_US: u64 = 4_000;
    const COMMIT_MAX_US: u64 = 10_000;
    // A short job must not be done before it is killed.
    let open_max_us = (flights / 5).clamp(2_000, 60_000);
    let mut random = Random(seed);
    // Not in the last stretch, where the worker could finish before the kill arrives.
    let span = (flights - checkpoint_every.min(flights / 2)).max(1);
    let mut places: Vec<u64> = (0..kills).map(|_| random.below(span)).collect();
    places.sort_unstable();
    let kill = |flight| {
        let (moment, max_us) = match random.below(6) {
            0 => (Moment::Start, open_max_us),
            1 | 2 => (Moment::Commit(flight), COMMIT_MAX_US),
            _ => (Moment::Flight(flight), REACH_MAX_US),
        };
        Kill { moment, delay: Duration::from_micros(random.below(max_us)) }
    };
    places.into_iter().map(kill).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
