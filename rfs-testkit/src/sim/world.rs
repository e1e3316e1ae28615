//! The world: time, randomness, the store, and what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::machine::Machine;
use super::trace::Trace;
use super::weather::{Fate, Weather};
use crate::{CallKind, CrashPlan, ManualClock, Rng, SimStore};

/// What a simulation may take in simulated time, after which it counts as one that hangs.
const LONGEST: Duration = Duration::from_hours(24 * 3_650);
/// When it is in the world at first: 2020-01-01 UTC.
const BEGIN_NANOS: i64 = 1_577_836_800_000_000_000;

/// A simulated world; clones are the same one. See [the module](super).
#[derive(Clone, Debug)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seed: u64,
    begin: Instant,
    clock: ManualClock,
    store: SimStore,
    rng: Mutex<Rng>,
    weather: Mutex<Weather>,
    /// The bucket is out of reach until then.
    gone_until: Mutex<Instant>,
    trace: Mutex<Trace>,
}

/// What a simulation that did not fail can tell of itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// How often each kind of event came.
    pub counts: BTreeMap<&'static str, u64>,
    /// A hash over all events: the same for each run of a seed.
    pub fingerprint: u64,
    /// How much simulated time passed.
    pub elapsed: Duration,
    /// The last events, each with its time in seconds.
    pub trace: Vec<String>,
}

/// A simulation that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// Why: what the panic said.
    pub why: String,
    /// The last events before, each with its time in seconds.
    pub trace: Vec<String>,
}

impl World {
    /// Runs a simulation in the world of a seed.
    ///
    /// # Panics
    /// When the simulation does; the message has the seed and the last events.
    pub fn run<T, F: Future<Output = T>>(seed: u64, simulation: impl FnOnce(Self) -> F) -> T {
        match Self::attempt(seed, simulation) {
            Ok((done, _)) => done,
            Err(failed) => panic!("{failed}"),
        }
    }

    /// Runs a simulation, and reports on it.
    ///
    /// # Errors
    /// When the simulation panics, or would never end.
    ///
    /// # Panics
    /// When the system gives no runtime.
    pub fn attempt<T, F: Future<Output = T>>(
        seed: u64,
        simulation: impl FnOnce(Self) -> F,
    ) -> Result<(T, Report), Box<Failed>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O asks nothing of the system");
        let world = {
            let _in_its_time = runtime.enter();
            Self::new(seed)
        };
        let run = AssertUnwindSafe(|| {
            runtime.block_on(async {
                let done = tokio::time::timeout(LONGEST, simulation(world.clone())).await;
                let done = done.expect("the simulation ends: nobody waits for what never comes");
                (done, world.report())
            })
        });
        catch_unwind(run).map_err(|panic| {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let why = why.unwrap_or_else(|| "it panicked without a message".to_owned());
            Box::new(Failed { seed, why, trace: world.0.trace.lock().events() })
        })
    }

    fn new(seed: u64) -> Self {
        let clock = ManualClock::with_tokio(BEGIN_NANOS);
        let begin = Instant::now();
        Self(Arc::new(Inner {
            seed,
            begin,
            store: SimStore::with_clock(CrashPlan::never(), clock.clone()),
            clock,
            rng: Mutex::new(Rng::new(seed ^ 0x5EED_0F0A_u64)),
            weather: Mutex::new(Weather::calm()),
            gone_until: Mutex::new(begin),
            trace: Mutex::default(),
        }))
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// A generator of random numbers for a part of the simulation.
    #[must_use]
    pub fn rng(&self) -> Rng {
        self.0.rng.lock().fork()
    }

    /// The clock of this world.
    #[must_use]
    pub fn clock(&self) -> ManualClock {
        self.0.clock.clone()
    }

    /// How much time has passed since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Instant::now() - self.0.begin
    }

    /// Lets time pass for the caller, while others go on.
    #[expect(
        clippy::disallowed_methods,
        reason = "simulated time, which passes at once when everybody waits"
    )]
    pub async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Begins something that goes on by itself. What it panics with, the returned future panics with; let none be dropped
    /// whose failure counts.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let task = tokio::spawn(task);
        Box::pin(async move {
            match task.await {
                Ok(done) => done,
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                Err(error) => panic!("a task of the simulation was ended: {error}"),
            }
        })
    }

    /// A new machine with an empty disk.
    #[must_use]
    pub fn machine(&self, name: &str) -> Machine {
        Machine::new(self.clone(), name)
    }

    /// The store itself, without a network: for looking what is there, and for damage.
    #[must_use]
    pub fn store(&self) -> &SimStore {
        &self.0.store
    }

    /// From now on it is like that. Requests that are under way keep their fate.
    pub fn set_weather(&self, weather: Weather) {
        self.note(&format!("weather {weather:?}"));
        *self.0.weather.lock() = weather;
    }

    /// For so long the bucket is out of reach for everybody.
    pub fn lose_bucket(&self, time: Duration) {
        self.note(&format!("the bucket is gone for {time:?}"));
        self.count("bucket lost for minutes");
        *self.0.gone_until.lock() = Instant::now() + time;
    }

    /// The bucket is within reach again.
    pub fn find_bucket(&self) {
        *self.0.gone_until.lock() = Instant::now();
    }

    /// Adds an event to the trace.
    pub fn note(&self, event: &str) {
        let at = self.elapsed();
        self.0.trace.lock().note(at, event);
    }

    /// Counts an event of a kind.
    pub fn count(&self, what: &'static str) {
        self.0.trace.lock().count(what);
    }

    /// The last events, each with its time in seconds.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.0.trace.lock().events()
    }

    fn report(&self) -> Report {
        let trace = self.0.trace.lock();
        Report {
            counts: trace.counts(),
            fingerprint: trace.fingerprint(),
            elapsed: self.elapsed(),
            trace: trace.events(),
        }
    }

    pub(super) fn fate(&self, kind: CallKind, create: bool) -> Fate {
        let weather = *self.0.weather.lock();
        weather.fate(kind, create, &mut self.0.rng.lock())
    }

    pub(super) fn is_bucket_gone(&self) -> bool {
        Instant::now() < *self.0.gone_until.lock()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.trace {
            writeln!(f, "{event}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.why)
    }
}

impl std::error::Error for Failed {}
