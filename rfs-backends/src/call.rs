//! One call on a store: attempts under one deadline, with pauses between them.

use crate::{
    StoreError, StoreErrorKind, StoreOptions,
    classify::{Failure, Repeat},
};
use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Failures that may be chance are tried this often.
const FEW: u32 = 3;

/// A call longer than this is none.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// How long the requests of one attempt may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    deadline: Instant,
    each: Duration,
}

impl Limit {
    /// When the call ends, whatever is under way.
    pub(crate) fn deadline(self) -> Instant {
        self.deadline
    }

    /// When a request that starts now is given up. Its body is granted `further` time.
    pub(crate) fn until(self, further: Duration) -> Instant {
        later(Instant::now(), self.each.saturating_add(further)).min(self.deadline)
    }

    /// The limit of a call that turns out to be larger than was known when it began.
    pub(crate) fn extended(self, further: Duration) -> Self {
        Self { deadline: later(self.deadline, further), ..self }
    }

    /// [`extended`](Self::extended) by the time of one request.
    pub(crate) fn extended_by_one(self) -> Self {
        self.extended(self.each)
    }

    /// For what has to be tidied up even where the deadline has passed.
    pub(crate) fn for_tidying(self) -> Self {
        Self { deadline: later(Instant::now(), self.each), ..self }
    }
}

fn later(moment: Instant, by: Duration) -> Instant {
    moment + by.min(LONGEST)
}

/// Random pauses from a seed (splitmix64). Threads that share it take turns in its one sequence.
#[derive(Debug)]
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Between zero and `most`, in steps of a microsecond.
    fn pause(&self, most: Duration) -> Duration {
        let mut z = self.0.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let span = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_micros(z % span)
    }
}

/// The attempts of one call.
pub(crate) struct Call<'a> {
    options: &'a StoreOptions,
    jitter: &'a Jitter,
    doing: &'static str,
    target: String,
    body: u64,
    deadline: Instant,
    attempt: u32,
    by_chance: u32,
    pauses: u32,
    /// What ended the attempt before this one.
    before: Option<Failure>,
}

impl<'a> Call<'a> {
    /// `body` is the number of bytes that the call is known to move; they extend its deadline.
    pub(crate) fn new(
        options: &'a StoreOptions,
        jitter: &'a Jitter,
        doing: &'static str,
        target: String,
        body: u64,
    ) -> Self {
        let granted = options.deadline.saturating_add(options.allowance(body));
        Self {
            options,
            jitter,
            doing,
            target,
            body,
            deadline: later(Instant::now(), granted),
            attempt: 0,
            by_chance: 0,
            pauses: 0,
            before: None,
        }
    }

    /// Attempts until one succeeds, fails for good, or the deadline passes.
    pub(crate) async fn run<T, F, Fut>(&mut self, mut attempt: F) -> Result<T, StoreError>
    where
        F: FnMut(Limit) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        loop {
            match self.once(&mut attempt).await {
                Ok(done) => return Ok(done),
                Err(failure) => self.pause(failure).await?,
            }
        }
    }

    /// One attempt.
    pub(crate) async fn once<T, F, Fut>(&mut self, attempt: F) -> Result<T, Failure>
    where
        F: FnOnce(Limit) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        self.attempt = self.attempt.saturating_add(1);
        let outcome = attempt(Limit { deadline: self.deadline, each: self.options.attempt_timeout }).await;
        match &outcome {
            Ok(_) => tracing::debug!(
                doing = self.doing,
                target = %self.target,
                attempt = self.attempt,
                body_bytes = self.body,
                "done"
            ),
            Err(failure) => tracing::debug!(
                doing = self.doing,
                target = %self.target,
                attempt = self.attempt,
                body_bytes = self.body,
                kind = ?failure.kind,
                conflict = failure.conflict,
                detail = %failure.detail,
                "attempt failed"
            ),
        }
        outcome
    }

    /// Waits before the next attempt, or ends the call with `failure` if there is to be none.
    #[expect(clippy::disallowed_methods, reason = "the call owns the pause between its attempts")]
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<(), StoreError> {
        match failure.repeat {
            Repeat::Never => return Err(self.fail(failure)),
            Repeat::Few => {
                self.by_chance += 1;
                if self.by_chance >= FEW {
                    return Err(self.fail(failure));
                }
            }
            Repeat::UntilDeadline => {}
        }
        let growth = 2_u32.saturating_pow(self.pauses.min(31));
        let most = self.options.backoff_initial.saturating_mul(growth).min(self.options.backoff_max);
        self.pauses = self.pauses.saturating_add(1);
        // A millisecond at least: a store that fails at once, and a jitter of nothing, must not spin.
        let pause = self.jitter.pause(most).max(Duration::from_millis(1));
        if Instant::now() + pause >= self.deadline {
            return Err(self.fail(failure));
        }
        self.before = Some(failure);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Ends the call with `failure`.
    pub(crate) fn fail(&mut self, mut failure: Failure) -> StoreError {
        // An attempt that the deadline cut short says nothing; the one before may say why none succeeded.
        if failure.kind == StoreErrorKind::Deadline
            && let Some(before) = self.before.take_if(|before| before.kind == StoreErrorKind::Unreachable)
            && !before.conflict
        {
            failure = before;
        }
        if failure.conflict {
            // A conflict never ends a call by itself; that time ran out does.
            failure.kind = StoreErrorKind::Deadline;
        }
        if self.attempt > 1 {
            failure.detail = format!("{} attempts, the last one: {}", self.attempt, failure.detail);
        }
        failure.into_error(self.doing, self.target.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_within_bounds() {
        let most = Duration::from_millis(250);
        let draw = |seed| {
            let jitter = Jitter::new(seed);
            (0..100).map(|_| jitter.pause(most)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|pause| *pause <= most));
        assert!(
            draw(7).iter().any(|pause| *pause > most / 2) && draw(7).iter().any(|pause| *pause < most / 2)
        );
        assert_eq!(Jitter::new(1).pause(Duration::ZERO), Duration::ZERO);
    }
}
