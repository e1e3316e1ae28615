//! A store that has been dead for a while is left alone: calls fail at once, and only one at a time tries again.

use crate::{StoreOptions, call::Jitter, metrics::LeftAlone};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The first pause. Each probe that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a store's health, from all calls on it.
#[derive(Default)]
pub(crate) struct Circuit(Mutex<State>);

#[derive(Default)]
struct State {
    /// Calls that ended without an answer, since there was one.
    failed: u32,
    resting: Option<Resting>,
}

struct Resting {
    pause: Duration,
    until: Instant,
    /// Somebody is trying.
    probing: bool,
    _told: LeftAlone,
}

/// A change that is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// The store is left alone for so long.
    Away(Duration),
    /// It answers again.
    Back,
}

/// Leave to make one attempt.
pub(crate) struct Turn<'a> {
    circuit: &'a Circuit,
    probe: bool,
}

impl Circuit {
    /// Leave to ask the store, or how long nobody is to.
    pub(crate) fn enter(&self) -> Result<Turn<'_>, Duration> {
        self.with(|state| {
            let Some(resting) = &mut state.resting else { return Ok(Turn { circuit: self, probe: false }) };
            let left = resting.until.saturating_duration_since(Instant::now());
            if resting.probing || !left.is_zero() {
                return Err(left);
            }
            resting.probing = true;
            Ok(Turn { circuit: self, probe: true })
        })
    }

    /// How long the store is left alone, if it is.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.with(|state| {
            let resting = state.resting.as_ref()?;
            Some(resting.until.saturating_duration_since(Instant::now()))
        })
    }

    /// A call gave up, with all its attempts, because no answer came.
    pub(crate) fn call_failed(&self, options: &StoreOptions, jitter: &Jitter) -> Option<Turned> {
        self.with(|state| {
            state.failed = state.failed.saturating_add(1);
            let due = options.circuit_calls > 0 && state.failed >= options.circuit_calls;
            if !due || state.resting.is_some() {
                return None;
            }
            let resting = Resting::new(options, jitter);
            let left = resting.until.saturating_duration_since(Instant::now());
            state.resting = Some(resting);
            Some(Turned::Away(left))
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Resting {
    fn new(options: &StoreOptions, jitter: &Jitter) -> Self {
        let mut new =
            Self { pause: FIRST_PAUSE, until: Instant::now(), probing: false, _told: LeftAlone::new() };
        new.begin(FIRST_PAUSE, options, jitter);
        new
    }

    /// From now on nobody tries, for about `pause`.
    fn begin(&mut self, pause: Duration, options: &StoreOptions, jitter: &Jitter) {
        self.pause = pause.min(options.circuit_pause);
        // Half of it is random, so that many that lost a store together do not return together.
        self.until = Instant::now() + self.pause / 2 + jitter.pause(self.pause / 2);
        self.probing = false;
    }
}

impl Turn<'_> {
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// The store answered, whatever it said.
    pub(crate) fn answered(self) -> Option<Turned> {
        self.circuit.with(|state| {
            state.failed = 0;
            state.resting.take().map(|_| Turned::Back)
        })
    }

    /// No answer came.
    pub(crate) fn failed(mut self, options: &StoreOptions, jitter: &Jitter) -> Option<Turned> {
        if !std::mem::take(&mut self.probe) {
            return None;
        }
        self.circuit.with(|state| {
            let resting = state.resting.as_mut()?;
            resting.begin(resting.pause.saturating_mul(2), options, jitter);
            Some(Turned::Away(resting.until.saturating_duration_since(Instant::now())))
        })
    }
}

impl Drop for Turn<'_> {
    /// A probe that came to no end lets another try.
    fn drop(&mut self) {
        if self.probe {
            self.circuit.with(|state| {
                if let Some(resting) = &mut state.resting {
                    resting.probing = false;
                }
            });
        }
    }
}
