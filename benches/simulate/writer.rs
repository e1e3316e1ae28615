//! A machine whose processes open the volume for writing, one after the other, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rfs::{ErrorKind, Volume};
use rfs_testkit::sim::{Accident, Machine, Process};
use rfs_testkit::{CallKind, CrashSide, Rng};

use crate::history::{Tail, tree_of};
use crate::session::Session;
use crate::setting::{Setting, URL, some_time};
use crate::target::dump;

/// A machine with writers.
pub(crate) struct Writers {
    setting: Arc<Setting>,
    machine: Machine,
    has_disk: bool,
    tail: Arc<Mutex<Option<Tail>>>,
    rng: Rng,
}

impl Writers {
    pub(crate) fn new(setting: &Arc<Setting>, name: &str) -> Self {
        let mut rng = setting.world.rng();
        let (machine, has_disk) = (setting.world.machine(name), rng.chance(70));
        Self { setting: Arc::clone(setting), machine, has_disk, tail: Arc::default(), rng }
    }

    /// Makes the volume.
    pub(crate) async fn create(&mut self) {
        let process = self.machine.start();
        let options = self.setting.options(&process, URL, false, &mut self.rng);
        let before = self.setting.history.before_opening();
        let volume = Volume::create(URL, options).await.expect("nothing goes wrong yet");
        let report = volume.open_report().expect("it is open for writing");
        self.setting.history.opened(process.name(), &before, report, volume.position(), None);
        volume.close().await.expect("nothing goes wrong yet");
    }

    /// Some processes, one after the other.
    pub(crate) async fn run(mut self) {
        for _ in 0..2 + self.rng.below(4) {
            let longest = if self.rng.chance(20) { 20_000 } else { 60 };
            self.setting.world.pause(some_time(&mut self.rng, Duration::from_secs(longest))).await;
            self.one_process().await;
            let accident = match self.rng.below(10) {
                0..5 => Accident::Kill,
                5..9 => Accident::PowerLoss,
                _ => Accident::DiskLoss,
            };
            self.machine.suffer(accident);
            if accident == Accident::DiskLoss {
                *self.tail.lock() = None;
            }
        }
    }

    async fn one_process(&mut self) {
        let process = if self.rng.chance(50) {
            let side = *self.rng.pick(&[CrashSide::Before, CrashSide::After, CrashSide::Partly]);
            self.machine.start_to_die(self.rng.below(300), side)
        } else {
            self.machine.start()
        };
        mend(&process);
        let patient = self.rng.chance(50);
        if patient && self.rng.chance(40) {
            // In the middle of its opening, which puts a superblock and a fence, or at its first commit: others commit
            // meanwhile, and collect what it goes by.
            let time = Duration::from_secs(16 << self.rng.below(10));
            process.sleep_before(CallKind::Put, self.rng.below(3), time);
        }
        let mut options = self.setting.options(&process, URL, patient, &mut self.rng);
        if self.has_disk {
            options = options.with_disk(Arc::new(process.disk().clone()));
        }
        let (over, faulty) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(false)));
        let fate = Fate {
            setting: Arc::clone(&self.setting),
            process: process.clone(),
            patient,
            over: Arc::clone(&over),
            faulty: Arc::clone(&faulty),
        };
        let fate = self.setting.world.spawn(fate.take_its_course(self.setting.world.rng()));
        self.write(&process, options, &faulty).await;
        over.store(true, Ordering::Relaxed);
        process.crash();
        fate.await;
    }

    async fn write(&mut self, process: &Process, options: rfs::Options, faulty: &Arc<Mutex<bool>>) {
        let (setting, history) = (&self.setting, &self.setting.history);
        let before = history.before_opening();
        let opened = Volume::open(URL, options).await;
        let volume = match opened {
            Ok(volume) => volume,
            Err(error) => {
                let kind = error.kind();
                setting.world.note(&format!("{} does not open: {error}", process.name()));
                setting.world.count("openings that failed");
                let superseded = history.is_superseded(before.opening);
                let explained = Setting::is_explained(process, &error)
                    || kind == ErrorKind::LocalDisk && *faulty.lock()
                    || matches!(kind, ErrorKind::Fenced | ErrorKind::Damaged) && superseded;
                assert!(explained, "{} opens the volume: {error} ({kind:?})", process.name());
                return;
            }
        };
        let report = volume.open_report().expect("it is open for writing").clone();
        setting.world.note(&format!("{} opened: {report:?}", process.name()));
        setting.world.count(match &report.local {
            rfs::LocalLog::Nothing => "takeovers without a local log",
            rfs::LocalLog::Replayed(_) => "takeovers with a local log",
            _ => "local logs put aside",
        });
        let tail = if self.has_disk { *self.tail.lock() } else { None };
        let (expected, tail) = history.opened(process.name(), &before, &report, volume.position(), tail);
        *self.tail.lock() = Some(tail);
        let tasks = 1 + self.rng.index(3);
        let session = Arc::new(Session {
            setting: Arc::clone(setting),
            process: process.clone(),
            volume,
            epoch: report.epoch,
            opening: before.opening,
            tail: Arc::clone(&self.tail),
            has_disk: self.has_disk,
            faulty: Arc::clone(faulty),
            alone: tasks == 1,
        });
        match dump(&session.volume).await {
            Ok(found) => {
                let difference = found.diff("found", &tree_of(&expected), "expected");
                assert!(difference.is_empty(), "{} opened another tree\n{difference}", process.name());
                setting.world.count("trees compared");
            }
            Err(error) => assert!(session.is_explained(&error), "{}: {error}", process.name()),
        }
        let steps = 3 + self.rng.index(40);
        let works: Vec<_> = (0..tasks)
            .map(|_| {
                let (session, rng) = (Arc::clone(&session), setting.world.rng());
                setting.world.spawn(async move { session.work(steps, rng).await })
            })
            .collect();
        for work in works {
            work.await;
        }
        self.end(session).await;
    }

    /// Closes the volume, or lets it go as it is.
    async fn end(&mut self, session: Arc<Session>) {
        if session.process.is_dead() || !self.rng.chance(40) {
            return;
        }
        let Ok(session) = Arc::try_unwrap(session) else { panic!("all of its tasks are done") };
        let (position, epoch) = (session.volume.position(), session.epoch);
        let Session { volume, process, .. } = session;
        match volume.close().await {
            Ok(()) => {
                self.setting.world.note(&format!("{} closed epoch {epoch} at {position}", process.name()));
                self.setting.world.count("volumes closed");
            }
            Err(error) => {
                let superseded = self.setting.history.is_superseded(session.opening);
                let explained = Setting::is_explained(&process, &error)
                    || matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Damaged) && superseded
                    || error.kind() == ErrorKind::LocalDisk && *session.faulty.lock();
                assert!(explained, "{} closes the volume: {error}", process.name());
            }
        }
    }
}

/// A disk that was told to fail does no more.
fn mend(process: &Process) {
    const NEVER: u64 = 1 << 40;
    process.disk().set_capacity(None);
    process.disk().fail_sync(NEVER);
    process.disk().fail_write(NEVER);
}

/// What becomes of a process while it works.
struct Fate {
    setting: Arc<Setting>,
    process: Process,
    patient: bool,
    over: Arc<AtomicBool>,
    faulty: Arc<Mutex<bool>>,
}

impl Fate {
    async fn take_its_course(self, mut rng: Rng) {
        let world = &self.setting.world;
        loop {
            world.pause(some_time(&mut rng, Duration::from_secs(60))).await;
            if self.over.load(Ordering::Relaxed) || self.process.is_dead() {
                return;
            }
            match rng.below(100) {
                0..5 => self.process.crash(),
                5..20 => {
                    // Who does not wait for long would only try again and again while it sleeps.
                    let most = if self.patient { 86_400 * 3 } else { 300 };
                    self.process.sleep_for(some_time(&mut rng, Duration::from_secs(most))).await;
                }
                20..24 => {
                    *self.faulty.lock() = true;
                    let disk = self.process.disk();
                    let fault = match rng.below(3) {
                        0 => {
                            disk.set_capacity(Some(rng.below(60_000)));
                            "disks that fill up"
                        }
                        1 => {
                            disk.fail_sync(rng.below(3));
                            "syncs that fail"
                        }
                        _ => {
                            disk.fail_write(rng.below(3));
                            "writes that fail"
                        }
                    };
                    world.note(&format!("{}: {fault}", self.process.name()));
                    world.count(fault);
                }
                _ => {}
            }
        }
    }
}
