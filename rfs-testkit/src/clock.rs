//! A clock that stands until it is told to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

/// A clock for tests. Clones show the same time.
///
/// ```
/// use rfs_testkit::ManualClock;
/// let clock = ManualClock::new(1_000);
/// clock.advance(5);
/// assert_eq!(clock.now_nanos(), 1_005);
/// let ticking = ManualClock::ticking(0);
/// assert!(ticking.now_nanos() < ticking.now_nanos());
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    nanos: Arc<AtomicI64>,
    tick_nanos: i64,
    /// It goes with tokio's clock since then.
    since: Option<Instant>,
}

impl ManualClock {
    /// A clock that shows `nanos` nanoseconds after 1970-01-01 UTC.
    #[must_use]
    pub fn new(nanos: i64) -> Self {
        Self { nanos: Arc::new(AtomicI64::new(nanos)), tick_nanos: 0, since: None }
    }

    /// A clock that goes on by a microsecond with every look at it, so that no two looks show the same time.
    #[must_use]
    pub fn ticking(nanos: i64) -> Self {
        Self { tick_nanos: 1_000, ..Self::new(nanos) }
    }

    /// The same; beside that it goes with tokio's clock, which a test may pause.
    #[must_use]
    pub fn with_tokio(nanos: i64) -> Self {
        Self { since: Some(Instant::now()), ..Self::ticking(nanos) }
    }

    /// The time, in nanoseconds after 1970-01-01 UTC.
    #[must_use]
    pub fn now_nanos(&self) -> i64 {
        let passed = self.since.map_or(0, |since| since.elapsed().as_nanos());
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.nanos.fetch_add(self.tick_nanos, Ordering::SeqCst).saturating_add(passed)
    }

    /// Lets the clock go on.
    pub fn advance(&self, nanos: i64) {
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// A ticking clock that starts at 2020-01-01 UTC.
    fn default() -> Self {
        Self::ticking(1_577_836_800_000_000_000)
    }
}
