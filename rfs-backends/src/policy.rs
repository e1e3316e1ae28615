//! What is done about each kind of failure: one table, from which the rest of the crate takes its rows.
//!
//! `docs/stores.md` has it in words. What is not in it is final: the same request would fail the same way.

#![cfg_attr(
    not(feature = "http-client"),
    allow(dead_code, reason = "some rows are for stores that answer by HTTP")
)]

use crate::StoreErrorKind as Kind;
use std::time::Duration;

/// How often a failed attempt is worth repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The same request will fail the same way.
    Never,
    /// Once more: what was wrong may have been renewed meanwhile.
    Once,
    /// It may have been chance; if it happens three times it was not.
    Few,
    /// As long as the deadline allows.
    UntilDeadline,
    /// As long as the deadline allows, and never at once: the store asked for rest.
    Slower,
}

impl Repeat {
    /// How often an attempt may fail like this before the call does.
    pub(crate) fn most(self) -> u32 {
        match self {
            Self::Never => 1,
            Self::Once => 2,
            Self::Few => 3,
            Self::UntilDeadline | Self::Slower => u32::MAX,
        }
    }

    /// The shortest pause before the next attempt, where its backoff allows for `most`.
    pub(crate) fn least_pause(self, most: Duration) -> Duration {
        // A millisecond at least: a store that fails at once, and a jitter of nothing, must not spin.
        let least = Duration::from_millis(1);
        if self == Self::Slower { (most / 2).max(least) } else { least }
    }
}

/// What the caller can do about a failure in the end, and how often it is repeated before.
pub(crate) type Row = (Kind, Repeat);

/// 429 and 503: too many requests. Rests at least half the bound of its backoff, and as long as `Retry-After` says.
pub(crate) const THROTTLED: Row = (Kind::Unreachable, Repeat::Slower);
/// 408 and 5xx: the store fails, and may have executed the request.
pub(crate) const FAILING: Row = (Kind::Unreachable, Repeat::UntilDeadline);
/// A connection that was refused, reset or lost, or a failure of which nothing is known.
pub(crate) const BROKEN: Row = (Kind::Unreachable, Repeat::UntilDeadline);
/// No answer within the time of one attempt.
pub(crate) const SILENT: Row = (Kind::Deadline, Repeat::UntilDeadline);
/// 409 and 412: an object is, or is being, written there. Who asked looks whose it is.
pub(crate) const CONFLICT: Row = (Kind::Unreachable, Repeat::UntilDeadline);
/// A body that ended early, by an end that looked like one.
pub(crate) const CUT_SHORT: Row = (Kind::Truncated, Repeat::Few);
/// A range that the object does not have.
pub(crate) const PAST_THE_END: Row = (Kind::Truncated, Repeat::Never);
/// An answer that makes no sense: longer than announced, or another range than the one asked for.
pub(crate) const SENSELESS: Row = (Kind::Other, Repeat::Few);
/// The body that reached the store is not the one that was sent: its length or checksum is wrong.
pub(crate) const DAMAGED_ON_THE_WAY: Row = (Kind::Unreachable, Repeat::Few);
/// A temporary credential ran out. Its provider renews it, perhaps while this attempt was under way.
pub(crate) const EXPIRED: Row = (Kind::Denied, Repeat::Once);
/// The clocks of store and machine are too far apart for signatures.
pub(crate) const SKEWED: Row = (Kind::ClockSkew, Repeat::Never);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_bound_and_its_pause() {
        let bounds = [
            (THROTTLED, u32::MAX),
            (FAILING, u32::MAX),
            (BROKEN, u32::MAX),
            (SILENT, u32::MAX),
            (CONFLICT, u32::MAX),
            (CUT_SHORT, 3),
            (PAST_THE_END, 1),
            (SENSELESS, 3),
            (DAMAGED_ON_THE_WAY, 3),
            (EXPIRED, 2),
            (SKEWED, 1),
        ];
        for ((kind, repeat), most) in bounds {
            assert_eq!(repeat.most(), most, "{kind:?}");
            // What is repeated without a bound is what the caller may try again later.
            assert!(most < u32::MAX || kind.is_transient(), "{kind:?}");
        }
        let most = Duration::from_millis(800);
        assert_eq!(Repeat::Slower.least_pause(most), Duration::from_millis(400));
        assert_eq!(Repeat::UntilDeadline.least_pause(most), Duration::from_millis(1));
        assert_eq!(Repeat::Slower.least_pause(Duration::ZERO), Duration::from_millis(1));
    }
}
