//! What happened in a world, and how often.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many events are remembered, for the message of a failure.
const EVENTS_MAX: usize = 3_000;

/// The events of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<String>,
    counts: BTreeMap<&'static str, u64>,
    /// FNV-1a over all events, so that two runs can be compared however long they are.
    fingerprint: u64,
}

impl Trace {
    pub(super) fn note(&mut self, at: Duration, event: &str) {
        let line = format!("{:>14.6} {event}", at.as_secs_f64());
        for byte in line.bytes() {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.events.iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }

    pub(super) const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
