//! A volume in memory, mounted.

use std::path::{Path, PathBuf};

use rfs::{Level, Options, Volume};
use rfs_mount::{Mount, MountOptions};

/// A mounted volume with the directory that it is mounted on.
pub(crate) struct Mounted {
    mount: Option<Mount>,
    pub(crate) volume: Volume,
    dir: tempfile::TempDir,
}

/// Whether there is FUSE here. Where it is missing there is nothing to test, and the test says so.
pub(crate) fn has_fuse() -> bool {
    let there = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    if !there {
        eprintln!("not tested: mounting needs /dev/fuse and root");
    }
    there
}

pub(crate) fn options() -> Options {
    Options::new().with_level(Level::Memory).with_commit_interval(None)
}

impl Mounted {
    pub(crate) async fn new(options: MountOptions) -> Self {
        Self::of(Volume::open_or_create("memory://", self::options()).await.unwrap(), options)
    }

    pub(crate) fn of(volume: Volume, options: MountOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = Mount::new(volume.clone(), dir.path(), options).unwrap();
        Self { mount: Some(mount), volume, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn mount(&self) -> &Mount {
        self.mount.as_ref().expect("it is mounted")
    }

    pub(crate) fn unmount(&mut self) -> Volume {
        self.mount.take().expect("it is mounted").unmount().unwrap()
    }
}

/// What an answer of the volume is, for a test that blocks.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(answer)
}

/// Runs a test with a fresh mount, once with the kernel's writeback and once without.
pub(crate) async fn with_mount(test: impl Fn(&Mounted)) {
    if !has_fuse() {
        return;
    }
    for writeback in [false, true] {
        let mounted = Mounted::new(MountOptions::new().with_writeback(writeback)).await;
        tokio::task::block_in_place(|| test(&mounted));
    }
}
