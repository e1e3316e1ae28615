//! How a volume is opened.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rfs_backends::{Store, StoreOptions};
use rfs_core::{AtimePolicy, Credential, OwnerId};
use rfs_journal::{Cut, Disk};

use crate::clock::{Clock, Entropy, SystemClock};

/// What an acknowledged change survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// It is applied. It survives nothing, and is seen by every later operation.
    Memory,
    /// It is on the local disk: it survives the end of the process and the loss of power. On a volume without a
    /// local directory this level is only reached together with [`Level::Remote`].
    Local,
    /// It is committed to the object store: it survives the loss of the machine.
    Remote,
}

/// How what is stored is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By [Zstandard](https://www.rfc-editor.org/rfc/rfc8878) at its fastest level, in blocks of 64 KiB of content, of which
    /// each is stored as it is unless that wins a sixteenth. The first read of a segment that is not on this machine asks for
    /// the table of its blocks first, in one more request, or two if it has over 30 MiB.
    Zstd,
}

/// Options of a volume. The defaults suit a job that checkpoints on its own.
///
/// ```
/// use std::time::Duration;
/// let options = rfs::Options::new()
///     .with_local_dir("/var/lib/job/rfs")
///     .with_commit_interval(Some(Duration::from_secs(30)));
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
#[must_use]
#[expect(clippy::struct_field_names, reason = "they are named as the methods that set them")]
pub struct Options {
    pub(crate) store_options: StoreOptions,
    pub(crate) store: Option<Store>,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) disk: Option<Arc<dyn Disk>>,
    pub(crate) level: Level,
    pub(crate) commit_interval: Option<Duration>,
    pub(crate) commit_bytes: u64,
    pub(crate) inline_bytes: u64,
    pub(crate) compression: Compression,
    pub(crate) segment_bytes: u64,
    pub(crate) frame_bytes: usize,
    pub(crate) image_bytes: u64,
    pub(crate) image_commits: u64,
    pub(crate) outage_bytes: u64,
    pub(crate) outage_time: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) tree_bytes: u64,
    pub(crate) local_bytes: u64,
    pub(crate) disk_cache_bytes: u64,
    pub(crate) local_file_bytes: u64,
    pub(crate) keep_commits: usize,
    pub(crate) collect_grace: Duration,
    pub(crate) auto_collect: bool,
    pub(crate) collect_rate: Option<NonZeroU32>,
    pub(crate) compact_percent: u8,
    pub(crate) compact_bytes: u64,
    pub(crate) compact_rate: Option<NonZeroU64>,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) credential: Arc<Credential>,
    pub(crate) atime: AtimePolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) one_thread: bool,
    pub(crate) metrics_name: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store_options: StoreOptions::default(),
            store: None,
            local_dir: None,
            disk: None,
            level: Level::Local,
            commit_interval: Some(Duration::from_secs(10)),
            commit_bytes: 64 << 20,
            inline_bytes: 1 << 20,
            compression: Compression::None,
            segment_bytes: 16 << 20,
            frame_bytes: 256 << 10,
            image_bytes: 8 << 20,
            image_commits: 64,
            outage_bytes: 1 << 30,
            outage_time: Duration::from_hours(1),
            memory_bytes: 256 << 20,
            tree_bytes: 256 << 20,
            local_bytes: 512 << 20,
            disk_cache_bytes: 1 << 30,
            local_file_bytes: 64 << 20,
            keep_commits: 16,
            collect_grace: Duration::from_hours(1),
            auto_collect: false,
            collect_rate: None,
            compact_percent: 25,
            compact_bytes: 64 << 20,
            compact_rate: NonZeroU64::new(16 << 20),
            owner: None,
            credential: Arc::new(Credential { umask: 0o022, ..Credential::root() }),
            atime: AtimePolicy::Never,
            clock: Arc::new(SystemClock),
            entropy: Entropy::System,
            one_thread: false,
            metrics_name: None,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Options of the object store: endpoint, region, credentials, deadlines.
    pub fn with_store_options(mut self, options: StoreOptions) -> Self {
        self.store_options = options;
        self
    }

    /// Uses this store instead of making one from the URL: any `ObjectStore` can be wrapped in one.
    pub fn with_store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Keeps the journal in this directory too, so that [`Level::Local`] is on the local disk, and a process that
    /// opens the volume here again finds what was not committed. It serves one volume. Without one (the default)
    /// the journal is in memory until it is committed.
    pub fn with_local_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.local_dir = Some(dir.into());
        self
    }

    /// Keeps the journal on this disk, such as a simulated one.
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Uses no thread beside the caller's runtime: the tasks themselves write the local log, hash and encode. For
    /// simulators, where one seed must replay one run.
    pub fn with_one_thread(mut self) -> Self {
        self.one_thread = true;
        self
    }

    /// What the volume is called in metrics, which have it as the label `volume` (none: they have no such label). For programs
    /// with several volumes: without a name, what is told last of any of them counts. Take few and short ones, and none
    /// that is made anew each time. `docs/metrics.md` lists the metrics; without the feature `metrics` there are none.
    ///
    /// ```
    /// let options = rfs::Options::new().with_metrics_name("jobs");
    /// ```
    pub fn with_metrics_name(mut self, name: impl Into<String>) -> Self {
        self.metrics_name = Some(name.into());
        self
    }

    /// What [`File::sync_all`](crate::File::sync_all) and `sync_data` reach. Default: [`Level::Local`].
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Commits on its own so long after the first change that is not committed; `None`: not by time. A commit is also
    /// made when the bytes of [`Options::with_commit_bytes`] or of the outage budget are reached. Default: 10 s.
    pub fn with_commit_interval(mut self, interval: Option<Duration>) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Commits on its own after so many bytes of journal. Default: 64 MiB.
    pub fn with_commit_bytes(mut self, bytes: u64) -> Self {
        self.commit_bytes = bytes.max(1);
        self
    }

    /// Up to so many bytes of journal go into the commit object itself, so that the commit is one put. Default:
    /// 1 MiB.
    pub fn with_inline_bytes(mut self, bytes: u64) -> Self {
        self.inline_bytes = bytes;
        self
    }

    /// How segments, and with them the content of files, are compressed in the store from here on; what is there stays as it
    /// is, and is read either way. Default: [`Compression::None`]. What is inlined in commits is not compressed.
    ///
    /// ```
    /// use rfs::{Compression, Options, Store, StoreOptions, blocking};
    ///
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// let options = Options::new().with_store(store.clone());
    /// let options = options.with_compression(Compression::Zstd).with_inline_bytes(0);
    /// let volume = blocking::Volume::create("memory://", options)?;
    /// let text = "a line of a log, as there are many\n".repeat(100_000);
    /// volume.fs().write("/log", &text)?;
    /// volume.commit()?;
    /// assert!(store.meter().snapshot().bytes() < text.len() as u64 / 10);
    /// assert_eq!(volume.fs().read("/log")?, text.as_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How the journal is cut: a frame of this many bytes takes no more records (default 256 KiB, 16 MiB at most), a
    /// segment no more frames (default 16 MiB, 256 MiB at most).
    pub fn with_cut(mut self, frame_bytes: usize, segment_bytes: u64) -> Self {
        self.frame_bytes = frame_bytes.clamp(512, 16 << 20);
        self.segment_bytes = segment_bytes.clamp(4 << 10, 256 << 20);
        self
    }

    /// Writes an image of the tree after so many bytes of journal (default 8 MiB) or so many commits (default 64), so that
    /// opening does not replay more than that; when the volume is closed, after a 64th of that. An image costs what
    /// changed since the one before.
    pub fn with_image_every(mut self, bytes: u64, commits: u64) -> Self {
        self.image_bytes = bytes.max(1);
        self.image_commits = commits.max(1);
        self
    }

    /// How far work goes on while the store is out of reach: so many bytes of journal that are not committed
    /// (default 1 GiB), for so long (default one hour). Then changes are refused with
    /// [`ErrorKind::Outage`](crate::ErrorKind::Outage) until the store is back.
    pub fn with_outage_budget(mut self, bytes: u64, time: Duration) -> Self {
        self.outage_bytes = bytes.max(1);
        self.outage_time = time;
        self
    }

    /// How much content is kept in memory (default 256 MiB; what is not committed comes on top in memory mode), and
    /// how much of the local log, after it was committed (default 512 MiB).
    pub fn with_cache(mut self, memory_bytes: u64, local_bytes: u64) -> Self {
        self.memory_bytes = memory_bytes;
        self.local_bytes = local_bytes;
        self
    }

    /// How much of what was fetched from the store, of the tree and of content, is kept in the local directory (default
    /// 1 GiB; 0: nothing). It is a bound for the files `cache-*` there. The next writer that opens the volume with this
    /// directory does not fetch it again. It is verified as what comes from the store is, so damage to these files costs
    /// a request. Without a local directory, and for readers, nothing is kept.
    pub fn with_disk_cache(mut self, bytes: u64) -> Self {
        self.disk_cache_bytes = bytes;
        self
    }

    /// About how much of the tree is kept in memory: inodes, names, and where content is (default 256 MiB). More of it is
    /// read when it is needed, and let go of when something else is.
    pub fn with_tree_memory(mut self, bytes: u64) -> Self {
        self.tree_bytes = bytes;
        self
    }

    /// How large a file of the local log gets before the next one is begun, or used again. Default: 64 MiB, 1 GiB at
    /// most.
    pub fn with_local_file_bytes(mut self, bytes: u64) -> Self {
        self.local_file_bytes = bytes.clamp(1, 1 << 30);
        self
    }

    /// What garbage collection keeps beside the named checkpoints: the newest commits (default 16), and every commit
    /// that was the newest one less than the grace ago (default one hour), for readers that opened it then.
    pub fn with_retention(mut self, keep_commits: usize, grace: Duration) -> Self {
        self.keep_commits = keep_commits.max(1);
        self.collect_grace = grace;
        self
    }

    /// Whether garbage is collected by itself: after each commit that is the first one to name an image
    /// ([`Options::with_image_every`]), since that is when what only older commits needed becomes garbage. Default:
    /// no, it is collected when [`Volume::collect_garbage`](crate::Volume::collect_garbage) is called. What
    /// [`Options::with_compaction`] says is then done after each collection, too.
    pub fn with_auto_collect(mut self, auto_collect: bool) -> Self {
        self.auto_collect = auto_collect;
        self
    }

    /// How fast garbage is collected: so many objects a second are deleted, or looked at for the first time. Default: as
    /// fast as the store lets it.
    pub fn with_collect_rate(mut self, objects_per_second: Option<NonZeroU32>) -> Self {
        self.collect_rate = objects_per_second;
        self
    }

    /// When content and pages are stored anew, so that the objects that they are in can go
    /// ([`Volume::compact`](crate::Volume::compact)): when less than so many hundredths of an object are in use (default
    /// 25, 50 at most; 0: never). Many small objects are put together as well. At most so many bytes are stored anew at a
    /// time (default 64 MiB).
    ///
    /// So for each byte that is stored anew at least three are given up, with the default.
    pub fn with_compaction(mut self, percent: u8, bytes: u64) -> Self {
        self.compact_percent = percent.min(50);
        self.compact_bytes = bytes;
        self
    }

    /// How fast content is stored anew, in bytes per second, so that what else is done is not held up. Default: 16 MiB.
    pub fn with_compaction_rate(mut self, bytes_per_second: Option<NonZeroU64>) -> Self {
        self.compact_rate = bytes_per_second;
        self
    }

    /// Whose permissions are checked, and whose what is made is. Default: root, which may do everything, with the
    /// umask 022. [`Fs::as_user`](crate::Fs::as_user) is for a program that acts for several.
    pub fn with_credential(mut self, credential: Credential) -> Self {
        self.credential = Arc::new(credential);
        self
    }

    /// Who the program is to the volume: what it holds open without a name, and its locks, are found again by a program
    /// that opens the volume as the same owner, and released by one that does not. The number is the program's own
    /// choice, below 2^63. Default: a new owner at each opening, which finds nothing.
    pub fn with_owner_id(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Whether reading changes the time of last access. Default: [`AtimePolicy::Never`].
    pub fn with_atime(mut self, policy: AtimePolicy) -> Self {
        self.atime = policy;
        self
    }

    /// Where the time of day comes from. Default: the system's clock.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where identities come from. Default: the operating system.
    pub fn with_entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    pub(crate) const fn cut(&self) -> Cut {
        Cut { frame_bytes: self.frame_bytes, segment_bytes: self.segment_bytes }
    }
}
