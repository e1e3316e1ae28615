//! The moment at which the machine dies, shared by everything that the machine talks to.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Rng;

/// On which side of the call's effect the crash comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashSide {
    /// The call has no effect.
    Before,
    /// The call has its effect, but nobody learns it.
    After,
    /// Some of the effect is there: of a write or a sync some of the sectors, of what can't be divided all or
    /// nothing.
    Partly,
}

/// Counts the calls that change a disk or a store, and makes one of them, and every call after it, fail.
///
/// Clones share the count, so that a [`crate::SimDisk`] and a [`crate::SimStore`] die together.
///
/// ```
/// use rfs_testkit::{CrashPlan, CrashSide, SimDisk};
/// use rfs_journal::Disk;
/// let plan = CrashPlan::at_call(1, CrashSide::Before, 7);
/// let disk = SimDisk::new(plan.clone());
/// let file = disk.open("log", true)?;
/// assert!(file.write_all_at(b"never there", 0).is_err());
/// assert!(plan.crashed() && disk.list().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrashPlan(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    calls: u64,
    crash_at: Option<(u64, CrashSide)>,
    crashed: bool,
    rng: Rng,
    trace: VecDeque<String>,
}

/// How many calls [`CrashPlan::trace`] remembers.
const TRACE_LEN: usize = 64;

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Run,
    /// The machine dies in this call; the generator says what `Partly` means here.
    Crash(CrashSide, Rng),
    /// It died before.
    Dead,
}

impl CrashPlan {
    /// Never crashes; only counts.
    #[must_use]
    pub fn never() -> Self {
        Self::new(None, 0)
    }

    /// Crashes in the call with this number, counted from 0; the seed says what [`CrashSide::Partly`] leaves.
    #[must_use]
    pub fn at_call(call: u64, side: CrashSide, seed: u64) -> Self {
        Self::new(Some((call, side)), seed)
    }

    /// How many calls there were: what `at_call` may count to.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Whether the crash has come.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// Crashes now, between two calls.
    pub fn crash(&self) {
        self.0.lock().crashed = true;
    }

    /// The last calls with their numbers, for failure messages.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.0.lock().trace.iter().cloned().collect()
    }

    /// Every call that changes something passes here first.
    pub(crate) fn enter(&self, what: impl FnOnce() -> String) -> Verdict {
        let mut state = self.0.lock();
        if state.crashed {
            return Verdict::Dead;
        }
        let call = state.calls;
        state.calls += 1;
        if state.trace.len() == TRACE_LEN {
            state.trace.pop_front();
        }
        state.trace.push_back(format!("{call}: {}", what()));
        match state.crash_at {
            Some((at, side)) if at == call => {
                state.crashed = true;
                Verdict::Crash(side, state.rng.fork())
            }
            _ => Verdict::Run,
        }
    }

    fn new(crash_at: Option<(u64, CrashSide)>, seed: u64) -> Self {
        let trace = VecDeque::new();
        Self(Arc::new(Mutex::new(State { calls: 0, crash_at, crashed: false, rng: Rng::new(seed), trace })))
    }
}

impl Default for CrashPlan {
    fn default() -> Self {
        Self::never()
    }
}
