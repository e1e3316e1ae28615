//! How volumes are opened in a world, and what of it varies from seed to seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use object_store::path::Path;
use parking_lot::Mutex;
use rfs::backends::{StoreError, StoreErrorKind};
use rfs::{Clock, Compression, Entropy, Error, ErrorKind, Options, Store, StoreOptions, Timestamp};
use rfs_recovery::RecoveryError;
use rfs_testkit::sim::{Process, World};
use rfs_testkit::{ManualClock, Profile, Rng, TestOp, Workload};

use crate::history::History;
use crate::target::expressible;

/// The volume that everybody uses.
pub(crate) const URL: &str = "sim://v";

/// What everybody in a world shares.
pub(crate) struct Setting {
    pub(crate) world: World,
    pub(crate) history: History,
    pub(crate) forks: Mutex<Vec<crate::forks::Fork>>,
    ops: Mutex<Box<dyn Iterator<Item = TestOp> + Send>>,
    /// Each opening has an entropy of its own.
    openings: AtomicU64,
    names: AtomicU64,
    /// The machines are done.
    pub(crate) over: AtomicBool,
    pub(crate) grace: Duration,
    keep: usize,
    image_commits: u64,
    inline_bytes: u64,
}

impl Setting {
    pub(crate) fn new(world: World) -> Self {
        let mut rng = world.rng();
        let profile = Profile { batches: true, max_nodes: 20, max_write_bytes: 2_500, ..Profile::paths() };
        let ops = Workload::new(rng.next(), profile).filter_map(expressible);
        Self {
            world,
            history: History::default(),
            forks: Mutex::default(),
            ops: Mutex::new(Box::new(ops)),
            openings: AtomicU64::new(0),
            names: AtomicU64::new(0),
            over: AtomicBool::new(false),
            grace: *rng.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_secs(1_200)]),
            keep: 1 + rng.index(3),
            image_commits: 1 + rng.below(5),
            inline_bytes: *rng.pick(&[0, 4_000, 1 << 20]),
        }
    }

    pub(crate) fn next_op(&self) -> TestOp {
        self.ops.lock().next().expect("there is no end of them")
    }

    /// A name that nobody else has.
    pub(crate) fn fresh_name(&self, of: &str) -> String {
        format!("{of}{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// How a process opens a volume. A patient one waits for the store for days.
    pub(crate) fn options(&self, process: &Process, url: &str, patient: bool, rng: &mut Rng) -> Options {
        let number = self.openings.fetch_add(1, Ordering::Relaxed);
        let hours = |hours| Duration::from_hours(hours);
        let (deadline, attempt) = if patient {
            (hours(24 * 40), hours(24 * 20))
        } else {
            (Duration::from_secs(10 + rng.below(50)), Duration::from_millis(2_000 + rng.below(10_000)))
        };
        let store_options = StoreOptions::default()
            .with_deadline(deadline)
            .with_attempt_timeout(attempt)
            .with_multipart_threshold(6_000)
            .with_part_bytes(3_000)
            .with_jitter_seed(rng.next());
        let prefix = Path::from(url.strip_prefix("sim://").expect("they are all called so"));
        let skew_seconds = i64::try_from(rng.below(240)).expect("it is small") - 120;
        let clock = WorldClock { clock: self.world.clock(), skew_nanos: skew_seconds * 1_000_000_000 };
        let mut options = Options::new()
            .with_store(Store::new(process.store(), url, prefix, store_options))
            .with_clock(Arc::new(clock))
            .with_entropy(Entropy::seeded(self.world.seed().wrapping_mul(100_003).wrapping_add(number)))
            .with_commit_interval(rng.chance(50).then(|| Duration::from_millis(500 + rng.below(20_000))))
            .with_one_thread()
            .with_cut(1_500, 6_000)
            .with_inline_bytes(self.inline_bytes)
            .with_image_every(30_000, self.image_commits)
            .with_retention(self.keep, self.grace)
            .with_auto_collect(rng.chance(40))
            .with_local_file_bytes(20_000)
            .with_cache(50_000, 40_000)
            .with_compaction(0, 1 << 20);
        if rng.chance(30) {
            options = options.with_tree_memory(0);
        }
        if rng.chance(30) {
            options = options.with_compression(Compression::Zstd);
        }
        options
    }

    /// Whether an error is one that the weather, or a crash of the process, explains.
    pub(crate) fn is_explained(process: &Process, error: &Error) -> bool {
        process.is_dead() || error.kind() == ErrorKind::Outage || is_cut_off(error)
    }
}

/// Whether it comes from answers that ended early, again and again.
fn is_cut_off(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let found = error.downcast_ref::<StoreError>().or_else(|| match error.downcast_ref() {
            Some(RecoveryError::Store(error)) => Some(error),
            _ => None,
        });
        if found.is_some_and(|error| error.kind() == StoreErrorKind::Truncated) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[derive(Debug)]
struct WorldClock {
    clock: ManualClock,
    skew_nanos: i64,
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock.now_nanos() + self.skew_nanos)
    }
}

/// Mostly moments, sometimes as long as `most`.
pub(crate) fn some_time(rng: &mut Rng, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).expect("no simulation takes that long").max(2);
    let magnitude = rng.below(u64::from(64 - most.leading_zeros()));
    Duration::from_micros(rng.below(1 << magnitude) + (1 << magnitude)).min(Duration::from_micros(most))
}
