//! Drives the log: a thread that writes and syncs what the appender closed, one sync for all who wait. Without a local
//! disk it has nothing to write, but the checksums and hashes to make.
//!
//! Where there is to be one thread only, whoever waits drives.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};
use rfs_core::Lsn;
use rfs_journal::{Appender, LogWriter};

use super::Shared;
use super::latest::Latest;
use crate::error::{Error, ErrorKind, Result};

/// A queue of this size is not worked off as fast as it grows.
const RUNAWAY_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct Driver {
    writer: Mutex<LogWriter>,
    has_disk: bool,
    thread: Option<Arc<Bell>>,
    durable: Latest<Lsn>,
    /// Nothing is written any more.
    ended: AtomicBool,
}

/// What the thread waits for.
#[derive(Debug, Default)]
struct Bell {
    wanted: Mutex<Wanted>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    write: bool,
    sync: bool,
    stop: bool,
}

impl Driver {
    /// A driver for `writer`; `with_thread` when it may use a thread of its own, which [`Driver::start`] begins.
    pub(crate) fn new(writer: LogWriter, with_thread: bool) -> Self {
        let has_disk = writer.has_disk();
        let durable = Latest::new(writer.durable());
        Self {
            has_disk,
            thread: with_thread.then(Arc::default),
            durable,
            writer: Mutex::new(writer),
            ended: AtomicBool::new(false),
        }
    }

    /// Starts the thread, if there is to be one.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<()> {
        let Some(bell) = shared.driver.as_ref().and_then(|driver| driver.thread.clone()) else {
            return Ok(());
        };
        let weak = Arc::downgrade(shared);
        let thread = std::thread::Builder::new().name("rfs-log".to_owned());
        let spawned = thread.spawn(move || run_thread(&bell, &weak));
        spawned.map(drop).map_err(|error| {
            Error::caused(ErrorKind::LocalDisk, "starting the thread of the local log", error)
        })
    }

    /// Whether there is a local disk.
    pub(crate) const fn has_disk(&self) -> bool {
        self.has_disk
    }

    /// Up to where the log is on the local disk.
    pub(crate) fn durable(&self) -> Lsn {
        *self.durable.borrow()
    }

    /// Waits until the log is on the local disk up to `position`.
    pub(crate) async fn wait(&self, shared: &Shared, position: Lsn) -> Result<()> {
        if self.thread.is_none() && self.durable() < position {
            self.drive(shared, true)?;
        }
        let mut durable = self.durable.view();
        loop {
            if *durable.look() >= position {
                return Ok(());
            }
            shared
                .live
                .read()
                .usable()
                .map_err(|refused| refused.doing(|| format!("sync up to {position}")))?;
            if self.ended.load(Ordering::Acquire) {
                return Err(Error::new(
                    ErrorKind::Closed,
                    format!("sync up to {position}: the local log was closed"),
                ));
            }
            if let Some(bell) = &self.thread {
                bell.ring(|wanted| wanted.sync = true);
            }
            durable.changed().await;
        }
    }

    /// The queue is long, of so many bytes: has it written.
    pub(crate) fn relieve(&self, shared: &Shared, queued: u64) -> Result<()> {
        match &self.thread {
            // The queue's owner goes on while the thread works it off; only a runaway queue is written in place.
            Some(bell) if queued < RUNAWAY_BYTES.min(shared.options.memory_bytes) => {
                bell.ring(|wanted| wanted.write = true);
                Ok(())
            }
            _ => self.drive(shared, false),
        }
    }

    /// Writes everything that was appended so far, here and now; with `sync`, to the disk for certain.
    pub(crate) fn drive(&self, shared: &Shared, sync: bool) -> Result<()> {
        self.drive_with(shared, sync, &mut Vec::new()).map(drop)
    }

    /// As [`Driver::drive`], and puts in buffers for frames to come. Gives how many more are worth making.
    fn drive_with(&self, shared: &Shared, sync: bool, spare: &mut Vec<Vec<u8>>) -> Result<usize> {
        let mut writer = self.writer.lock();
        let (room, work) = {
            let mut live = shared.live.write();
            let Some(front) = &mut live.front else { return Ok(0) };
            let room = front.appender.put_spare(spare);
            front.appender.close_frame();
            (room, front.appender.take_work())
        };
        // One frame at a time is no haste.
        let wanted = if work.len() > 2 { room.min(work.len()) } else { 0 };
        let sealed = work.iter().any(rfs_journal::Work::ends_segment);
        let written = writer.write(work, sync && self.has_disk);
        writer.recycle(shared.options.local_bytes);
        drop(writer);
        shared.residency.trim(shared.options.memory_bytes);
        match written {
            Ok(durable) => {
                if sealed {
                    // It may be large enough to be uploaded ahead of its commit.
                    shared.wake.notify_one();
                }
                self.durable.change_if(|known| {
                    let grew = durable > *known;
                    *known = durable.max(*known);
                    grew
                });
                Ok(wanted)
            }
            Err(error) => {
                let error = Error::journal("writing the local log", error);
                shared.fail(&error);
                Err(error)
            }
        }
    }

    /// Ends the thread, and lets go of the local directory.
    pub(crate) fn stop(&self) {
        if let Some(bell) = &self.thread {
            bell.ring(|wanted| wanted.stop = true);
        }
        self.writer.lock().release();
        self.end();
    }

    /// Whether nothing is written any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Has everybody who waits look at what became of the volume.
    pub(crate) fn wake_waiters(&self) {
        self.durable.change(|_| {});
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake_waiters();
    }
}

impl Bell {
    fn ring(&self, set: impl FnOnce(&mut Wanted)) {
        set(&mut self.wanted.lock());
        self.rung.notify_one();
    }
}

/// Tells waiters that the thread is gone, however it went.
struct Ending<'a>(&'a Weak<Shared>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.0.upgrade().as_ref().and_then(|shared| shared.driver.as_ref()) {
            driver.end();
        }
    }
}

fn run_thread(bell: &Bell, shared: &Weak<Shared>) {
    let _ending = Ending(shared);
    let mut spare = Vec::new();
    loop {
        let sync = {
            let mut wanted = bell.wanted.lock();
            while !(wanted.write || wanted.sync || wanted.stop) {
                bell.rung.wait(&mut wanted);
            }
            if wanted.stop {
                return;
            }
            wanted.write = false;
            std::mem::take(&mut wanted.sync)
        };
        let Some(shared) = shared.upgrade() else { return };
        let Some(driver) = &shared.driver else { return };
        let Ok(wanted) = driver.drive_with(&shared, sync, &mut spare) else { return };
        spare = Appender::spare(&shared.options.cut(), wanted);
    }
}
