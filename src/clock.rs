//! Time and randomness come in from outside, so that one seed replays one run.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rfs_core::Timestamp;

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Not `SystemTime`, of which seconds and nanoseconds are got by way of a `Duration` only: each change asks for it.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::from_nanos(now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec))
    }
}

/// Where a volume takes the identities of itself and of its writers from.
#[derive(Clone, Debug, Default)]
pub enum Entropy {
    /// The operating system.
    #[default]
    System,
    /// A fixed sequence, for tests: two writers must never share one.
    Seeded(Arc<AtomicU64>),
}

impl Entropy {
    /// The sequence that `seed` starts.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    pub(crate) fn identity(&self) -> Result<u128, getrandom::Error> {
        match self {
            Self::System => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                Ok(u128::from_le_bytes(bytes))
            }
            Self::Seeded(state) => {
                let half =
                    || u128::from(split_mix(state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)));
                Ok(half() << 64 | half())
            }
        }
    }
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014).
const fn split_mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Waits on tokio's clock, which tests pause and move.
#[expect(clippy::disallowed_methods, reason = "this is the place that owns the timer")]
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
