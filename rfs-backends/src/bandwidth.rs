//! How many bytes may go out and come in, of all requests on one backend together.

use crate::{call::Limit, metrics, store::Inner};
use std::{num::NonZeroU64, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// What is not used is saved up for so long.
const SAVED: Duration = Duration::from_secs(1);

/// So many turns there are in a second, unless that would make them smaller than [`SMALLEST`].
const TURNS: u64 = 32;

/// The fewest bytes that are granted in one turn.
const SMALLEST: u64 = 4 << 10;

/// Bodies in one direction. Many that want some take turns in the order in which they came, a part of a body each, so that
/// a small one does not wait for all of the large ones.
#[derive(Default)]
pub(crate) struct Bandwidth(
    /// When all that was granted has passed. Who waits for that has the lock, which is fair, and holds it.
    Mutex<Option<Instant>>,
);

impl Bandwidth {
    /// Waits until `bytes` may pass, at `rate` bytes per second. Who gives up has used what it was granted so far.
    async fn take(&self, bytes: u64, rate: NonZeroU64) {
        let most = (rate.get() / TURNS).max(SMALLEST);
        let mut left = bytes;
        while left > 0 {
            let granted = left.min(most);
            left -= granted;
            let mut passed = self.0.lock().await;
            // A body may be larger than all that can be saved up. So it is enough that nothing is owed, and then it owes.
            if let Some(at) = *passed {
                sleep_until(at).await;
            }
            let now = Instant::now();
            let earliest = now.checked_sub(SAVED).unwrap_or(now);
            // Not from now on: a timer that rings late would make the rate smaller.
            let begins = passed.map_or(earliest, |at| at.max(earliest));
            *passed = Some(begins + time_of(granted, rate));
        }
    }
}

fn time_of(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Inner {
    /// Waits until a body of `bytes` may be sent. To be asked before the request's turn among the concurrent ones: what
    /// waits here is not under way.
    pub(crate) async fn may_send(&self, bytes: u64, limit: &Limit) {
        granted(&self.shared.up, self.options.up_bytes_per_second, "up", bytes, limit).await;
    }

    /// Waits until `bytes` of a body may come in.
    pub(crate) async fn may_receive(&self, bytes: u64, limit: &Limit) {
        granted(&self.shared.down, self.options.down_bytes_per_second, "down", bytes, limit).await;
    }
}

async fn granted(
    bandwidth: &Bandwidth,
    rate: Option<NonZeroU64>,
    direction: &'static str,
    bytes: u64,
    limit: &Limit,
) {
    let Some(rate) = rate.filter(|_| bytes > 0) else { return };
    let waited = limit.uncounted(bandwidth.take(bytes, rate)).await;
    metrics::waited(direction, waited);
    if !waited.is_zero() {
        tracing::trace!(direction, bytes, waited_ms = waited.as_millis() as u64, "waited for bandwidth");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).expect("more than none")
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_little_is_saved_up() {
        for rate in [1, 1 << 10, 1 << 20, 1 << 40].map(rate) {
            let bandwidth = Bandwidth::default();
            let begun = Instant::now();
            for _ in 0..100 {
                bandwidth.take(rate.get(), rate).await;
            }
            bandwidth.take(1, rate).await;
            // The first second's worth was saved up.
            let took = begun.elapsed().as_secs_f64();
            assert!((98.9..=99.1).contains(&took), "{took} s at {rate}");
            tokio::time::advance(Duration::from_hours(1)).await;
            let begun = Instant::now();
            bandwidth.take(rate.get(), rate).await;
            assert!(begun.elapsed() <= Duration::from_millis(2), "{:?} at {rate}", begun.elapsed());
            bandwidth.take(rate.get(), rate).await;
            bandwidth.take(1, rate).await;
            let took = begun.elapsed().as_secs_f64();
            assert!((0.9..=1.1).contains(&took), "{took} s at {rate}: no more than a second was saved up");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_get_the_same_and_small_ones_are_not_last() {
        let (bandwidth, rate) = (Bandwidth::default(), rate(1 << 20));
        bandwidth.take(rate.get(), rate).await;
        let begun = Instant::now();
        let large = |bytes: u64| {
            let bandwidth = &bandwidth;
            async move {
                bandwidth.take(bytes, rate).await;
                begun.elapsed().as_secs_f64()
            }
        };
        let took = join_all([8 << 20, 8 << 20, 8 << 20, 1000].map(large)).await;
        assert!(took[..3].iter().all(|took| (23.5..=24.1).contains(took)), "{took:?}");
        assert!(took[3] < 0.2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_owes_nothing_more() {
        let (bandwidth, rate) = (Bandwidth::default(), rate(1 << 20));
        bandwidth.take(2 << 20, rate).await;
        let begun = Instant::now();
        let most = Duration::from_secs(1);
        tokio::time::timeout(most, bandwidth.take(1 << 30, rate)).await.expect_err("it takes long");
        bandwidth.take(1, rate).await;
        assert!(begun.elapsed() < Duration::from_millis(1200), "{:?}", begun.elapsed());
    }
}
