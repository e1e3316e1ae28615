//! How a volume is mounted.

use std::num::NonZeroUsize;

/// Options of a mount.
///
/// ```
/// let options = rfs_mount::MountOptions::new().with_threads(2).with_allow_other(false);
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
#[must_use]
#[expect(clippy::struct_excessive_bools, reason = "they are independent options, as of mount(8)")]
pub struct MountOptions {
    pub(crate) source: Option<String>,
    pub(crate) threads: usize,
    pub(crate) allow_other: bool,
    pub(crate) set_id: bool,
    pub(crate) devices: bool,
    pub(crate) read_only: bool,
    pub(crate) writeback: bool,
    pub(crate) exclusive: bool,
    pub(crate) server: Option<u32>,
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

impl Default for MountOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self {
            source: None,
            threads: processors.clamp(2, 16),
            allow_other: true,
            set_id: true,
            devices: true,
            read_only: false,
            writeback: false,
            exclusive: false,
            server: None,
            runtime: None,
        }
    }
}

impl MountOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is shown as the mount's source. Default: the volume's URL.
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How many threads answer the kernel, 1 to 256. What has to wait (for a sync, or for the store) holds none of
    /// them. Default: one for each processor, 2 to 16.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, 256);
        self
    }

    /// Whether other users than the one who mounts may use it, each with their own rights. Default: yes.
    pub fn with_allow_other(mut self, allow: bool) -> Self {
        self.allow_other = allow;
        self
    }

    /// Whether set-user-id and set-group-id count when a file of it is executed; not where the volume comes from
    /// people who are not trusted. Default: yes. A mount by a user other than root never heeds them.
    pub fn with_set_id(mut self, heed: bool) -> Self {
        self.set_id = heed;
        self
    }

    /// Whether device nodes of it can be opened. Default: yes. A mount by a user other than root never opens them.
    pub fn with_devices(mut self, open: bool) -> Self {
        self.devices = open;
        self
    }

    /// Whether the kernel refuses changes with `EROFS`: for volumes that are open read-only. Default: no.
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether the kernel keeps what is written until the file is closed or synced, or for some seconds, so that many
    /// small writes become few large ones. Default: no, each write is in the journal when it returns.
    ///
    /// Only for mounts that alone change the files while they are mounted: the kernel then trusts its own sizes and
    /// times, so that sizes that the program changes through the API are not seen while a file is cached. And what is
    /// committed in the background is then a mixture: names of now, content of some seconds ago.
    pub fn with_writeback(mut self, writeback: bool) -> Self {
        self.writeback = writeback;
        self
    }

    /// Whether nothing but the mount changes the volume while it is mounted. Default: no, the program may.
    ///
    /// If so, the kernel keeps listings of directories, until it changes them itself. It is never told of other changes
    /// to them.
    pub fn with_exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// The process that ends when the mount does. It is shown as the extended attribute `system.rfs.server` of the root
    /// directory, so that who unmounts can wait for the last commit: its number, a space, and the inode number of
    /// `/proc/self/ns/pid` here, for in another PID namespace the first may mean another process. Default: not shown.
    pub fn with_server(mut self, pid: u32) -> Self {
        self.server = Some(pid);
        self
    }

    /// Where requests that have to wait go on. Default: the runtime of the caller of [`Mount::new`](crate::Mount::new).
    /// It must have threads of its own (`rt-multi-thread`), for a caller that blocks on a file of the mount would
    /// otherwise wait for itself.
    pub fn with_runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}
