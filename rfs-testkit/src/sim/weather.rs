//! What the network between machines and store does to requests.

use std::time::Duration;

use crate::{CallKind, Rng};

/// How often, in thousandths of the requests that it can happen to, something goes wrong.
///
/// All of it is what S3, GCS and Azure do today, but for [`Weather::stale_list`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The longest time on the way, there or back. Most requests take a small part of it.
    pub delay: Duration,
    /// It takes up to a minute.
    pub slow: u64,
    /// It is refused without an effect: 429 or 503.
    pub refused: u64,
    /// It never arrives; the sender sees a timeout or a broken connection.
    pub lost: u64,
    /// It is done, and the answer is lost.
    pub lost_reply: u64,
    /// Its sender is told that it failed, and it is done later all the same, after others that were sent later: within a
    /// minute, or within a day.
    pub late: u64,
    /// A create-only put is answered by 409 or 412 though nothing stands there, since another one was under way.
    pub conflict: u64,
    /// A create-only put is done, and then answered by 409 or 412: a proxy sent it twice.
    pub twice: u64,
    /// The body of an answer ends early.
    pub cut: u64,
    /// A listing breaks off after some of its pages.
    pub broken_list: u64,
    /// A listing lacks what was made within the last minute. No large platform does that any more, and rfs's promises
    /// do not hold where it happens: so it is never part of a weather that is made here.
    pub stale_list: u64,
}

/// What becomes of one request.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Served,
    Refused,
    Lost,
    LostReply,
    Late(Duration),
    Conflict,
    Twice,
    /// So many thousandths of the body, or of the listing, arrive.
    Cut(u64),
    Stale,
}

impl Weather {
    /// Nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self { delay: Duration::from_millis(40), ..Self::default() }
    }

    /// As on most days: a request in two hundred fails in some way.
    #[must_use]
    pub fn fair() -> Self {
        Self::of(Duration::from_millis(200), 2)
    }

    /// About one request in ten fails in some way.
    #[must_use]
    pub fn rough() -> Self {
        Self::of(Duration::from_secs(2), 20)
    }

    /// About one request in three fails in some way.
    #[must_use]
    pub fn storm() -> Self {
        Self::of(Duration::from_secs(5), 70)
    }

    /// One of these.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..3 => Self::calm(),
            3..6 => Self::fair(),
            6..9 => Self::rough(),
            _ => Self::storm(),
        }
    }

    fn of(delay: Duration, often: u64) -> Self {
        Self {
            delay,
            slow: often,
            refused: often,
            lost: often,
            lost_reply: often,
            late: often,
            conflict: often,
            twice: often,
            cut: often,
            broken_list: often,
            stale_list: 0,
        }
    }

    pub(super) fn fate(&self, kind: CallKind, create: bool, rng: &mut Rng) -> Fate {
        let most = u64::try_from(self.delay.as_micros()).unwrap_or(u64::MAX).max(1);
        // Squared: most are quick.
        let quick = |rng: &mut Rng| {
            let part = rng.below(1_000);
            Duration::from_micros(most * (part * part) / 1_000_000)
        };
        let (mut there, mut back) = (quick(rng), quick(rng));
        if rng.below(1_000) < self.slow {
            let slow = Duration::from_millis(rng.below(60_000));
            if rng.chance(50) { there += slow } else { back += slow }
        }
        let mut choice = rng.below(1_000);
        let mut hits = |often: u64| {
            let hit = choice < often;
            choice = if hit { u64::MAX } else { choice.saturating_sub(often) };
            hit
        };
        let outcome = if hits(self.refused) {
            Outcome::Refused
        } else if hits(self.lost) {
            Outcome::Lost
        } else if hits(self.lost_reply) {
            Outcome::LostReply
        } else if matches!(kind, CallKind::Put | CallKind::Delete) && hits(self.late) {
            let most = if rng.chance(20) { 86_400_000 } else { 60_000 };
            Outcome::Late(Duration::from_millis(rng.below(most)))
        } else if create && hits(self.conflict) {
            Outcome::Conflict
        } else if create && hits(self.twice) {
            Outcome::Twice
        } else if kind == CallKind::Get && hits(self.cut) || kind == CallKind::List && hits(self.broken_list)
        {
            Outcome::Cut(rng.below(1_000))
        } else if kind == CallKind::List && hits(self.stale_list) {
            Outcome::Stale
        } else {
            Outcome::Served
        };
        Fate { there, back, outcome }
    }
}
