//! One call on a store: attempts under one deadline, with pauses between them.

use crate::{
    StoreError, StoreErrorKind, StoreOptions,
    circuit::{Circuit, Turned},
    classify::Failure,
    policy::Repeat,
};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A call longer than this is none.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// When a call ends. All its attempts, and those of its parts, have the same.
#[derive(Debug, Clone)]
struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    fn new(at: Instant) -> Self {
        Self(Arc::new(Mutex::new(at)))
    }

    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not before `at`.
    fn put_off(&self, at: Instant) {
        let mut deadline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = at.max(*deadline);
    }
}

/// How long the requests of one attempt may take.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    deadline: Deadline,
    /// What this attempt may take beyond the deadline.
    further: Duration,
    each: Duration,
}

impl Limit {
    /// When the attempt ends, whatever is under way.
    pub(crate) fn deadline(&self) -> Instant {
        later(self.deadline.at(), self.further)
    }

    /// When a request that starts now is given up. Its body is granted `further` time.
    pub(crate) fn until(&self, further: Duration) -> Instant {
        later(Instant::now(), self.each.saturating_add(further)).min(self.deadline())
    }

    /// The limit of a call that turns out to be larger than was known when it began.
    pub(crate) fn extended(self, further: Duration) -> Self {
        Self { further: self.further.saturating_add(further), ..self }
    }

    /// Waits for what is no fault of the store: the call's deadline is put off by as long. Gives how long that was.
    pub(crate) async fn uncounted(&self, waiting: impl Future<Output = ()>) -> Duration {
        let (begun, deadline) = (Instant::now(), self.deadline.at());
        waiting.await;
        let waited = begun.elapsed();
        // From what it was: parts of a call that wait at the same time put it off once.
        self.deadline.put_off(later(deadline, waited));
        waited
    }

    /// [`extended`](Self::extended) by the time of one request.
    pub(crate) fn extended_by_one(self) -> Self {
        let each = self.each;
        self.extended(each)
    }

    /// For one request beside those of a call, also where the call's deadline has passed.
    pub(crate) fn of_one(options: &StoreOptions) -> Self {
        let each = options.attempt_timeout;
        Self { deadline: Deadline::new(later(Instant::now(), each)), further: Duration::ZERO, each }
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
    pub(crate) fn pause(&self, most: Duration) -> Duration {
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
    circuit: &'a Circuit,
    doing: &'static str,
    target: String,
    body: u64,
    deadline: Deadline,
    attempt: u32,
    /// Failures so far of those that have a bound.
    bounded: u32,
    pauses: u32,
    /// What ended the attempt before this one.
    before: Option<Failure>,
}

impl<'a> Call<'a> {
    /// `body` is the number of bytes that the call is known to move; they extend its deadline.
    pub(crate) fn new(
        options: &'a StoreOptions,
        jitter: &'a Jitter,
        circuit: &'a Circuit,
        doing: &'static str,
        target: String,
        body: u64,
    ) -> Self {
        let granted = options.deadline.saturating_add(options.allowance(body));
        Self {
            options,
            jitter,
            circuit,
            doing,
            target,
            body,
            deadline: Deadline::new(later(Instant::now(), granted)),
            attempt: 0,
            bounded: 0,
            pauses: 0,
            before: None,
        }
    }

    /// The same call as a part of a larger one, which has this limit.
    pub(crate) fn within(self, limit: &Limit) -> Self {
        Self { deadline: limit.deadline.clone(), ..self }
    }

    /// Attempts until one succeeds, fails for good, or the deadline passes.
    pub(crate) async fn run<T, F, Fut>(&mut self, attempt: F) -> Result<T, StoreError>
    where
        F: FnMut(Limit) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        self.attempts(attempt).await.map_err(|failure| self.fail(failure))
    }

    /// [`run`](Self::run), for a part of a larger call.
    pub(crate) async fn attempts<T, F, Fut>(&mut self, mut attempt: F) -> Result<T, Failure>
    where
        F: FnMut(Limit) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        loop {
            match self.once(&mut attempt).await {
                Ok(done) => return Ok(done),
                Err(failure) => self.rest(failure).await?,
            }
        }
    }

    /// One attempt.
    pub(crate) async fn once<T, F, Fut>(&mut self, attempt: F) -> Result<T, Failure>
    where
        F: FnOnce(Limit) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let turn = match self.circuit.enter() {
            Ok(turn) => turn,
            Err(left) => {
                let detail = format!(
                    "it gave no answer for long, and is not asked for another {} ms",
                    left.as_millis()
                );
                return Err(Failure::unasked((StoreErrorKind::Unreachable, Repeat::Never), detail));
            }
        };
        self.attempt = self.attempt.saturating_add(1);
        let (deadline, each) = (self.deadline.clone(), self.options.attempt_timeout);
        let limit = Limit { deadline, further: Duration::ZERO, each };
        // Boxed, since it is a part of the future of everything that asks a store.
        let mut outcome = Box::pin(attempt(limit)).await;
        let silence = outcome.as_ref().err().map_or(Some(false), |failure| {
            // What was not asked says neither.
            failure.asked.then(|| failure.is_silence())
        });
        match silence {
            Some(false) => self.tell(turn.answered()),
            Some(true) => {
                if turn.is_probe()
                    && let Err(failure) = &mut outcome
                {
                    failure.repeat = Repeat::Never;
                }
                self.tell(turn.failed(self.options, self.jitter));
            }
            None => drop(turn),
        }
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
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<(), StoreError> {
        self.rest(failure).await.map_err(|failure| self.fail(failure))
    }

    /// [`pause`](Self::pause), for a part of a larger call.
    #[expect(clippy::disallowed_methods, reason = "the call owns the pause between its attempts")]
    pub(crate) async fn rest(&mut self, failure: Failure) -> Result<(), Failure> {
        if !matches!(failure.repeat, Repeat::UntilDeadline | Repeat::Slower) {
            self.bounded += 1;
        }
        if self.bounded >= failure.repeat.most() {
            return Err(self.conclude(failure));
        }
        let growth = 2_u32.saturating_pow(self.pauses.min(31));
        let most = self.options.backoff_initial.saturating_mul(growth).min(self.options.backoff_max);
        self.pauses = self.pauses.saturating_add(1);
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST);
        let pause = self.jitter.pause(most).max(failure.repeat.least_pause(most)).max(asked);
        if Instant::now() + pause >= self.deadline.at() {
            return Err(self.conclude(failure));
        }
        crate::metrics::retried(&failure);
        tracing::debug!(
            doing = self.doing,
            target = %self.target,
            pause_ms = pause.as_millis() as u64,
            "tried again after a pause"
        );
        self.before = Some(failure);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Ends the call with `failure`.
    pub(crate) fn fail(&mut self, failure: Failure) -> StoreError {
        if failure.is_silence() {
            self.tell(self.circuit.call_failed(self.options, self.jitter));
        }
        self.conclude(failure).into_error(self.doing, self.target.clone())
    }

    fn tell(&self, turned: Option<Turned>) {
        match turned {
            Some(Turned::Away(pause)) => tracing::warn!(
                target = %self.target,
                pause_ms = pause.as_millis() as u64,
                "the store gives no answer and is left alone for a while"
            ),
            Some(Turned::Back) => tracing::info!(target = %self.target, "the store answers again"),
            None => {}
        }
    }

    /// What all attempts together say, where `failure` ended the last one. Doing it twice changes nothing.
    fn conclude(&mut self, mut failure: Failure) -> Failure {
        // An attempt that the deadline cut short says nothing; the one before may say why none succeeded.
        if failure.kind == StoreErrorKind::Deadline
            && let Some(before) = self.before.take_if(|before| before.kind == StoreErrorKind::Unreachable)
            && !before.conflict
        {
            failure = before;
        }
        if let Some(rest) = failure.retry_after.take() {
            failure.detail = format!("{}, to be asked again in {} s", failure.detail, rest.as_secs());
        }
        if std::mem::take(&mut failure.conflict) {
            // A conflict never ends a call by itself; that time ran out does.
            failure.kind = StoreErrorKind::Deadline;
            // Nor is it silence.
            failure.asked = false;
        }
        let attempts = std::mem::take(&mut self.attempt);
        if attempts > 1 {
            failure.detail = format!("{attempts} attempts, the last one: {}", failure.detail);
        }
        failure
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

    async fn pauses_of(failures: impl IntoIterator<Item = Failure>) -> Vec<u64> {
        let options = StoreOptions::default().with_backoff(Duration::from_secs(1), Duration::from_secs(4));
        let (jitter, circuit) = (Jitter::new(3), Circuit::default());
        let mut call = Call::new(&options, &jitter, &circuit, "testing", "a".to_owned(), 0);
        let mut pauses = Vec::new();
        for failure in failures {
            let begun = Instant::now();
            call.pause(failure).await.expect("there is time for one more");
            pauses.push(begun.elapsed().as_millis() as u64);
        }
        pauses
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_for_rest_is_respected_and_a_throttled_call_never_hurries() {
        let throttled = || Failure::new(crate::policy::THROTTLED, "503");
        let asked = |seconds| Failure { retry_after: Some(Duration::from_secs(seconds)), ..throttled() };
        assert_eq!(pauses_of([asked(9), asked(20)]).await, [9_000, 20_000]);
        for (pause, most) in pauses_of((0..5).map(|_| throttled())).await.into_iter().zip([1, 2, 4, 4, 4]) {
            assert!((most * 500..=most * 1000 + 1).contains(&pause), "{pause} ms of {most} s");
        }
    }
}
