//! A read whose answer is late is asked for once more, and the first answer wins.

use crate::StoreOptions;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// So many answers are remembered.
const SAMPLE: usize = 128;

/// With fewer answers nobody knows what is late.
const ENOUGH: usize = 16;

/// Nothing is late before this: a second request would not be faster.
const SOONEST: Duration = Duration::from_millis(50);

/// What one second request costs, in hundredths of a first.
const PRICE: u64 = 100;

/// So many second requests can be saved up.
const SAVED: u64 = 10;

/// How long answers took, and how many second requests may be made.
#[derive(Default)]
pub(crate) struct Hedges(Mutex<State>);

#[derive(Default)]
struct State {
    recent: VecDeque<Duration>,
    /// In hundredths of a request.
    credit: u64,
}

impl Hedges {
    /// A first request is made: how long to wait before a second one, if one may be made at all.
    pub(crate) fn patience(&self, options: &StoreOptions) -> Option<Duration> {
        self.with(|state| {
            let extra = u64::from(options.hedge_extra_percent);
            if extra == 0 {
                return None;
            }
            state.credit = state.credit.saturating_add(extra).min(SAVED * PRICE);
            if state.recent.len() < ENOUGH {
                return None;
            }
            let mut sorted: Vec<Duration> = state.recent.iter().copied().collect();
            let place = (sorted.len() - 1) * usize::from(options.hedge_percentile.min(100)) / 100;
            let (_, late, _) = sorted.select_nth_unstable(place);
            Some((*late).max(SOONEST))
        })
    }

    /// Pays for a second request, if there is enough.
    pub(crate) fn pay(&self) -> bool {
        self.with(|state| match state.credit.checked_sub(PRICE) {
            Some(left) => {
                state.credit = left;
                true
            }
            None => false,
        })
    }

    /// An answer took so long.
    pub(crate) fn note(&self, latency: Duration) {
        self.with(|state| {
            if state.recent.len() == SAMPLE {
                state.recent.pop_front();
            }
            state.recent.push_back(latency);
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(latencies: impl IntoIterator<Item = u64>) -> Hedges {
        let hedges = Hedges::default();
        latencies.into_iter().for_each(|ms| hedges.note(Duration::from_millis(ms)));
        hedges
    }

    #[test]
    fn late_is_what_few_of_the_recent_answers_were() {
        let options = StoreOptions::default().with_hedging(95, 5);
        let patience = |hedges: &Hedges| hedges.patience(&options).map(|patience| patience.as_millis());
        assert_eq!(patience(&noted(0..15)), None, "too few to know");
        assert_eq!(patience(&noted(0..16)), Some(50), "nothing is late so early");
        assert_eq!(patience(&noted(1..=100)), Some(95));
        assert_eq!(
            patience(&noted((0..1000).map(|_| 900).chain((0..128).map(|_| 70)))),
            Some(70),
            "the recent"
        );
        assert_eq!(noted(1..=100).patience(&options.with_hedging(95, 0)), None);
    }

    #[test]
    fn second_requests_are_paid_for_by_first_ones() {
        let options = StoreOptions::default().with_hedging(90, 5);
        let hedges = noted(1..=100);
        let mut paid = 0;
        for _ in 0..1000 {
            hedges.patience(&options);
            paid += u32::from(hedges.pay());
        }
        assert_eq!(paid, 50);
        for _ in 0..10_000 {
            hedges.patience(&options);
        }
        assert_eq!((0..100).filter(|_| hedges.pay()).count(), 10, "little can be saved up");
    }
}
