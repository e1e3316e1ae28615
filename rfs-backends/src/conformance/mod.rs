//! Is a store fit for rfs? One suite for every implementation of [`ObjectStore`].
//!
//! rfs stands on few things: what was written is read, ranges are exact, listings are complete, and of several that
//! create one key exactly one wins. [`run`] tries each of them on a real store and reports which hold.
//!
//! ```
//! use rfs_backends::{conformance, object_store::memory::InMemory};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let report = conformance::run(Arc::new(InMemory::new()), 1).await;
//! assert!(report.is_safe(), "{report}");
//! # });
//! ```

mod checks;

use crate::Store;
use checks::Ground;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, prefix::PrefixStore};
use std::{fmt, sync::Arc, time::Duration};

/// How much the suite does.
#[derive(Debug, Clone)]
pub struct Plan {
    listed: usize,
    race_keys: usize,
    racers: usize,
    multipart_bytes: usize,
    check_limit: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            listed: 1100,
            race_keys: 20,
            racers: 16,
            multipart_bytes: 12 << 20,
            // Stores that lock among several machines take seconds for each race.
            check_limit: Duration::from_mins(10),
        }
    }
}

impl Plan {
    /// Objects in the long listing (1,100: more than one page of S3).
    #[must_use]
    pub fn with_listed(mut self, objects: usize) -> Self {
        self.listed = objects.max(1);
        self
    }

    /// Keys raced for, and creators that race for each (20 and 16).
    #[must_use]
    pub fn with_races(mut self, keys: usize, creators: usize) -> Self {
        (self.race_keys, self.racers) = (keys.max(1), creators.max(2));
        self
    }

    /// Size of the object that goes up in parts of 5 MiB, in bytes (12 MiB).
    #[must_use]
    pub fn with_multipart_bytes(mut self, bytes: usize) -> Self {
        self.multipart_bytes = bytes.max(1);
        self
    }

    /// How long one check may take before it counts as failed (10 minutes).
    #[must_use]
    pub fn with_check_limit(mut self, limit: Duration) -> Self {
        self.check_limit = limit;
        self
    }
}

/// One thing tried on a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What should hold.
    pub name: &'static str,
    /// Whether rfs is unsafe on a store where it does not hold.
    pub needed: bool,
    /// Why it does not hold, or nothing if it does.
    pub failure: Option<String>,
}

/// What [`run`] found. Printed, it is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether everything that rfs needs holds.
    pub fn is_safe(&self) -> bool {
        self.checks.iter().all(|check| !check.needed || check.failure.is_none())
    }

    /// The checks that failed, needed or not.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.failure.is_some())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, needed, failure } in &self.checks {
            let result = match failure {
                None => "holds",
                Some(_) if *needed => "FAILS",
                Some(_) => "fails, not needed",
            };
            write!(f, "{name:width$}  {result}")?;
            match failure {
                Some(why) => writeln!(f, ": {why}")?,
                None => writeln!(f)?,
            }
        }
        let held = self.checks.len() - self.failed().count();
        let verdict = if self.is_safe() { "safe for rfs" } else { "NOT safe for rfs" };
        write!(f, "{held} of {} hold: {verdict}", self.checks.len())
    }
}

/// Runs the whole suite on `store`. `seed` decides keys and contents; two runs on one store at once need two seeds.
///
/// Everything lies under `rfs-conformance-SEED/` and is deleted at the end.
pub async fn run(store: Arc<dyn ObjectStore>, seed: u64) -> Report {
    run_with(store, seed, &Plan::default()).await
}

/// [`run`] with other sizes.
pub async fn run_with(store: Arc<dyn ObjectStore>, seed: u64, plan: &Plan) -> Report {
    let ground = &Ground::new(store, seed);
    let suite: [(&'static str, bool, BoxFuture<'_, checks::Outcome>); 21] = [
        ("a put object is read back", true, checks::put_get(ground).boxed()),
        ("an object put in pieces is read back whole", true, checks::put_pieces(ground).boxed()),
        ("an empty object is read back", true, checks::empty(ground).boxed()),
        ("an overwrite is seen at once", true, checks::overwrite(ground).boxed()),
        ("ranges are exact", true, checks::ranges(ground).boxed()),
        ("a range past the end is not filled up", true, checks::range_past_end(ground).boxed()),
        ("a missing object is reported as missing", true, checks::missing(ground).boxed()),
        ("sizes are right", true, checks::sizes(ground).boxed()),
        ("keys as rfs makes them work", true, checks::keys(ground).boxed()),
        ("create-only refuses what exists", true, checks::create_refuses(ground).boxed()),
        ("create-only leaves the first bytes", true, checks::create_leaves(ground).boxed()),
        (
            "of racing creators exactly one wins",
            true,
            checks::race(ground, plan.race_keys, plan.racers).boxed(),
        ),
        ("a deleted object is gone", true, checks::delete(ground).boxed()),
        ("deleting a missing object does no harm", true, checks::delete_missing(ground).boxed()),
        ("a deleted object can be created again", true, checks::create_after_delete(ground).boxed()),
        ("listing a prefix is complete and no more", true, checks::list_prefix(ground).boxed()),
        ("listings are never stale", true, checks::list_fresh(ground).boxed()),
        (
            "long listings are complete, also after a key",
            true,
            checks::list_long(ground, plan.listed).boxed(),
        ),
        ("listings are sorted by key", false, checks::list_sorted(ground).boxed()),
        ("a large object goes up in parts", true, checks::multipart(ground, plan.multipart_bytes).boxed()),
        ("an aborted upload leaves no object", true, checks::multipart_abort(ground).boxed()),
    ];
    let mut checks = Vec::with_capacity(suite.len() + 1);
    for (name, needed, check) in suite {
        checks.push(Check { name, needed, failure: limited(plan.check_limit, check).await.err() });
    }
    let cleaned = limited(plan.check_limit, ground.clean().boxed()).await;
    checks.push(Check { name: "the suite cleans up after itself", needed: true, failure: cleaned.err() });
    Report { checks }
}

/// [`run`] on an opened [`Store`], below its prefix. What it does is neither metered nor tried again.
///
/// ```
/// use rfs_backends::{Store, StoreOptions, conformance};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = Store::from_url("memory://here/and/there", StoreOptions::default())?;
/// assert!(conformance::run_on(&store, 1).await.is_safe());
/// assert!(store.list("", None).await?.is_empty());
/// # Ok::<(), rfs_backends::StoreError>(())
/// # }).unwrap();
/// ```
pub async fn run_on(store: &Store, seed: u64) -> Report {
    let backend = PrefixStore::new(Arc::clone(store.inner()), store.prefix().clone());
    run(Arc::new(backend), seed).await
}

async fn limited(limit: Duration, check: BoxFuture<'_, checks::Outcome>) -> checks::Outcome {
    match tokio::time::timeout(limit, check).await {
        Ok(outcome) => outcome.map_err(|why| crate::error::shorten(&why)),
        Err(_) => Err(format!("not done within {limit:?}")),
    }
}
