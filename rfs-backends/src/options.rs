//! Deadlines, limits and platform settings of a store.

use crate::Encryption;
use std::{collections::BTreeMap, fmt, num::NonZeroU64, time::Duration};

/// The smallest part that S3 takes, the last one excepted.
pub(crate) const SMALLEST_PART: u64 = 5 << 20;

/// With less bandwidth nothing would ever come to an end, in bytes per second.
const LEAST_BANDWIDTH: NonZeroU64 = NonZeroU64::new(1 << 10).expect("more than none");

/// How a [`Store`](crate::Store) treats its backend. Built by chaining.
///
/// ```
/// use rfs_backends::StoreOptions;
/// use std::time::Duration;
///
/// let options = StoreOptions::default()
///     .with_deadline(Duration::from_secs(10))
///     .with_endpoint("http://127.0.0.1:9000")
///     .with_allow_http(true)
///     .with_access_key_id("key")
///     .with_secret_access_key("secret");
/// assert!(!format!("{options:?}").contains("secret\""));
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) jitter_seed: u64,
    pub(crate) min_bytes_per_second: u64,
    pub(crate) multipart_threshold: u64,
    pub(crate) part_bytes: u64,
    pub(crate) concurrency: usize,
    pub(crate) up_bytes_per_second: Option<NonZeroU64>,
    pub(crate) down_bytes_per_second: Option<NonZeroU64>,
    pub(crate) hedge_percentile: u8,
    pub(crate) hedge_extra_percent: u8,
    pub(crate) circuit_calls: u32,
    pub(crate) circuit_pause: Duration,
    pub(crate) max_object_bytes: u64,
    pub(crate) max_listed: usize,
    pub(crate) assume_put_if_absent: bool,
    pub(crate) platform: BTreeMap<String, String>,
    pub(crate) encryption: Option<Encryption>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(1),
            attempt_timeout: Duration::from_secs(20),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            jitter_seed: 0,
            min_bytes_per_second: 1 << 20,
            multipart_threshold: 32 << 20,
            part_bytes: 8 << 20,
            concurrency: 64,
            up_bytes_per_second: None,
            down_bytes_per_second: None,
            hedge_percentile: 95,
            hedge_extra_percent: 5,
            circuit_calls: 3,
            circuit_pause: Duration::from_secs(30),
            max_object_bytes: 1 << 30,
            max_listed: 4_000_000,
            assume_put_if_absent: false,
            platform: BTreeMap::new(),
            encryption: None,
        }
    }
}

impl StoreOptions {
    /// Objects are sealed before they are put, by a key that the volume has of its own and that is wrapped by the caller's
    /// (none: they are put as they are). See [`Encryption`].
    #[must_use]
    pub fn with_encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// How long one call may take with all its retries, in the absence of large bodies (60 s).
    /// See [`with_min_bytes_per_second`](Self::with_min_bytes_per_second) for what bodies add.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one attempt may take before it is given up and tried again (20 s).
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// The pause before retry n is random between nothing and `initial * 2^n`, at most `max` (100 ms, 5 s).
    #[must_use]
    pub fn with_backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff_initial = initial;
        self.backoff_max = max;
        self
    }

    /// Seeds the pauses between retries, so that a run can be repeated (0). Give each process its own, so that many
    /// that fail together do not return together.
    #[must_use]
    pub fn with_jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = seed;
        self
    }

    /// The slowest link that is not yet an outage: attempts and calls that move a body are granted this much more
    /// time, one second for each so many bytes (1 MiB). At least 1.
    #[must_use]
    pub fn with_min_bytes_per_second(mut self, bytes: u64) -> Self {
        self.min_bytes_per_second = bytes.max(1);
        self
    }

    /// From how many bytes on [`put_large`](crate::Store::put_large) uploads in parts (32 MiB). At least 5 MiB.
    /// Parts of what is smaller would cost requests, and save little time.
    #[must_use]
    pub fn with_multipart_threshold(mut self, bytes: u64) -> Self {
        self.multipart_threshold = bytes.max(SMALLEST_PART);
        self
    }

    /// The size of a part of a multipart upload, in bytes (8 MiB). At least 5 MiB, which is S3's smallest.
    #[must_use]
    pub fn with_part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes.max(SMALLEST_PART);
        self
    }

    /// How many requests may be under way at once (64). At least 1.
    #[must_use]
    pub fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.clamp(1, 1 << 16);
        self
    }

    /// How many bytes of bodies may go `up` to the store and come `down` from it each second (none, none: as many as the
    /// network takes). At least 1 KiB each.
    ///
    /// It is the rate of all clones and prefixes of a store in this process together, on the average: what is not used is
    /// saved up for a second, and one body goes as fast as the network takes it, once its time has come. Bodies wait
    /// before they are sent, reads of ranges before they are asked for, whole objects as they come in. Those that wait
    /// take turns, so that a small body is not held up by large ones. Retries and second requests cost bandwidth as the
    /// first do; listings, and requests without a body, cost and wait for none.
    ///
    /// What waits for bandwidth uses up none of [`with_deadline`](Self::with_deadline) and
    /// [`with_attempt_timeout`](Self::with_attempt_timeout): these are for the store. So a call may take as much longer
    /// as its share of the bandwidth makes it.
    ///
    /// ```
    /// use rfs_backends::StoreOptions;
    /// use std::num::NonZeroU64;
    ///
    /// let options = StoreOptions::default().with_bandwidth(NonZeroU64::new(2 << 20), None);
    /// ```
    #[must_use]
    pub fn with_bandwidth(mut self, up: Option<NonZeroU64>, down: Option<NonZeroU64>) -> Self {
        self.up_bytes_per_second = up.map(|up| up.max(LEAST_BANDWIDTH));
        self.down_bytes_per_second = down.map(|down| down.max(LEAST_BANDWIDTH));
        self
    }

    /// When a read is asked for a second time: when its answer has not begun after the time in which `percentile` of
    /// the recent ones had (95), and not before 50 ms. The first answer wins. Second requests are at most
    /// `extra_percent` of the first ones (5); with 0 there are none, nor on `memory://` and `file://`.
    #[must_use]
    pub fn with_hedging(mut self, percentile: u8, extra_percent: u8) -> Self {
        self.hedge_percentile = percentile.min(100);
        self.hedge_extra_percent = extra_percent.min(100);
        self
    }

    /// When a dead store is left alone: after so many calls in a row that ended, with all their attempts, without an
    /// answer (3; with 0 never). Calls then fail at once as [`Unreachable`](crate::StoreErrorKind::Unreachable). After a
    /// pause one of them may try; if it gets no answer either, the pause doubles, up to `longest_pause` (30 s). The
    /// first answer, also a refusal, ends it.
    #[must_use]
    pub fn with_circuit(mut self, calls: u32, longest_pause: Duration) -> Self {
        self.circuit_calls = calls;
        self.circuit_pause = longest_pause.min(Duration::from_hours(24));
        self
    }

    /// The largest object or range that is read into memory, in bytes (1 GiB).
    #[must_use]
    pub fn with_max_object_bytes(mut self, bytes: u64) -> Self {
        self.max_object_bytes = bytes;
        self
    }

    /// The longest listing that is read into memory, in objects (4,000,000).
    #[must_use]
    pub fn with_max_listed(mut self, objects: usize) -> Self {
        self.max_listed = objects;
        self
    }

    /// Opts out of [`probe`](crate::Store::probe): it then succeeds without asking (false).
    ///
    /// On a store without put-if-absent, two writers can both believe that they own a volume, and one loses its
    /// commits. Set this only where something else makes sure that there is never more than one writer.
    #[must_use]
    pub fn with_assume_put_if_absent(mut self, assume: bool) -> Self {
        self.assume_put_if_absent = assume;
        self
    }

    /// Where the platform's service answers, for example `http://127.0.0.1:9000`.
    #[must_use]
    pub fn with_endpoint(self, endpoint: impl Into<String>) -> Self {
        self.with_platform("endpoint", endpoint)
    }

    /// The platform's region, for example `us-east-1`.
    #[must_use]
    pub fn with_region(self, region: impl Into<String>) -> Self {
        self.with_platform("region", region)
    }

    /// The public half of a static credential. On Azure: the name of the storage account.
    #[must_use]
    pub fn with_access_key_id(self, id: impl Into<String>) -> Self {
        self.with_platform("access_key_id", id)
    }

    /// The secret half of a static credential. On Azure: the account's key. Never printed.
    #[must_use]
    pub fn with_secret_access_key(self, secret: impl Into<String>) -> Self {
        self.with_platform("secret_access_key", secret)
    }

    /// The session token of a temporary credential. Never printed.
    #[must_use]
    pub fn with_session_token(self, token: impl Into<String>) -> Self {
        self.with_platform("session_token", token)
    }

    /// Whether an endpoint without TLS may be used (false).
    #[must_use]
    pub fn with_allow_http(self, allow: bool) -> Self {
        self.with_platform("allow_http", allow.to_string())
    }

    /// The storage class, or access tier, that every object is written with, by the platform's own name, for example
    /// `STANDARD_IA` or `Cool`. One from which objects can't be read at once makes a volume that can't be opened.
    #[must_use]
    pub fn with_storage_class(self, class: impl Into<String>) -> Self {
        self.with_platform("storage_class", class)
    }

    /// A tag that every object is written with. S3 and Azure have tags.
    #[must_use]
    pub fn with_tag(self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        self.with_platform(format!("tag:{}", name.as_ref()), value)
    }

    /// A file of certificates (PEM) that are trusted besides the system's.
    #[must_use]
    pub fn with_ca_file(self, path: impl Into<String>) -> Self {
        self.with_platform("ca_file", path)
    }

    /// The proxy through which the platform is reached, for example `http://127.0.0.1:3128`. Without it
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are heeded.
    #[must_use]
    pub fn with_proxy_url(self, url: impl Into<String>) -> Self {
        self.with_platform("proxy_url", url)
    }

    /// How long a connection may take to be made (5 s).
    #[must_use]
    pub fn with_connect_timeout(self, timeout: Duration) -> Self {
        self.with_platform("connect_timeout", format!("{}ms", timeout.as_millis().max(1)))
    }

    /// Any other setting of the platform, by the name that the platform's builder in [`object_store`] knows, for
    /// example `virtual_hosted_style_request`. An unknown name is an error when the store is opened.
    #[must_use]
    pub fn with_platform(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.platform.insert(name.into(), value.into());
        self
    }

    /// The further time that moving `bytes` is granted.
    pub(crate) fn allowance(&self, bytes: u64) -> Duration {
        Duration::from_millis(bytes.saturating_mul(1000) / self.min_bytes_per_second.max(1))
    }
}

impl fmt::Debug for StoreOptions {
    /// Names the platform settings without their values, some of which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("deadline", &self.deadline)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("backoff_initial", &self.backoff_initial)
            .field("backoff_max", &self.backoff_max)
            .field("jitter_seed", &self.jitter_seed)
            .field("min_bytes_per_second", &self.min_bytes_per_second)
            .field("multipart_threshold", &self.multipart_threshold)
            .field("part_bytes", &self.part_bytes)
            .field("concurrency", &self.concurrency)
            .field("up_bytes_per_second", &self.up_bytes_per_second)
            .field("down_bytes_per_second", &self.down_bytes_per_second)
            .field("hedge_percentile", &self.hedge_percentile)
            .field("hedge_extra_percent", &self.hedge_extra_percent)
            .field("circuit_calls", &self.circuit_calls)
            .field("circuit_pause", &self.circuit_pause)
            .field("max_object_bytes", &self.max_object_bytes)
            .field("max_listed", &self.max_listed)
            .field("assume_put_if_absent", &self.assume_put_if_absent)
            .field("platform", &self.platform.keys())
            .field("encryption", &self.encryption)
            .finish()
    }
}
