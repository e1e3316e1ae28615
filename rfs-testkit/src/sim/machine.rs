//! Machines with disks, and the processes on them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::network::Network;
use super::world::World;
use crate::{CallKind, CrashPlan, CrashSide, Rng, SimDisk};

/// What ends a process, beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// The process dies, the machine lives on: all that was written is there.
    Kill,
    /// The machine loses its power: of what was not synced anything may be there, in any order.
    PowerLoss,
    /// The machine is lost, and replaced by one with an empty disk.
    DiskLoss,
}

/// A machine, on which one process runs at a time.
#[derive(Debug)]
pub struct Machine {
    world: World,
    name: String,
    disk: SimDisk,
    process: Option<Process>,
    started: u64,
    rng: Rng,
}

impl Machine {
    pub(super) fn new(world: World, name: &str) -> Self {
        let rng = world.rng();
        let disk = SimDisk::new(CrashPlan::never());
        Self { world, name: name.to_owned(), disk, process: None, started: 0, rng }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a process. One that still runs is killed.
    pub fn start(&mut self) -> Process {
        self.start_with(CrashPlan::never())
    }

    /// Starts a process that dies in one of its calls of disk or store, counted from 0.
    pub fn start_to_die(&mut self, call: u64, side: CrashSide) -> Process {
        let plan = CrashPlan::at_call(call, side, self.rng.next());
        self.start_with(plan)
    }

    /// Ends the process, and does to the disk what the accident does.
    pub fn suffer(&mut self, accident: Accident) {
        if let Some(process) = self.process.take() {
            process.crash();
        }
        self.world.note(&format!("{}: {accident:?}", self.name));
        self.disk = match accident {
            Accident::Kill => self.disk.after_kill(CrashPlan::never()),
            Accident::PowerLoss => self.disk.after_power_loss(self.rng.next(), CrashPlan::never()),
            Accident::DiskLoss => SimDisk::new(CrashPlan::never()),
        };
        self.world.count(match accident {
            Accident::Kill => "processes killed",
            Accident::PowerLoss => "power lost",
            Accident::DiskLoss => "machines lost",
        });
    }

    fn start_with(&mut self, plan: CrashPlan) -> Process {
        if let Some(process) = self.process.take() {
            process.crash();
        }
        self.started += 1;
        self.disk = self.disk.after_kill(plan.clone());
        let name = format!("{}/{}", self.name, self.started);
        let process = Process(Arc::new(Running {
            world: self.world.clone(),
            name,
            plan,
            disk: self.disk.clone(),
            asleep: AtomicBool::new(false),
            woken: Notify::new(),
            drowsy: Mutex::new(None),
            told: Mutex::new(false),
        }));
        self.process = Some(process.clone());
        process
    }
}

/// A process on a machine; clones are the same one.
#[derive(Clone, Debug)]
pub struct Process(Arc<Running>);

#[derive(Debug)]
struct Running {
    world: World,
    name: String,
    plan: CrashPlan,
    disk: SimDisk,
    asleep: AtomicBool,
    /// Wakes those who wait for that in the order in which they came; a watch channel would do it in another one each time.
    woken: Notify,
    /// After so many more requests of this kind it falls asleep, for this time.
    drowsy: Mutex<Option<(CallKind, u64, Duration)>>,
    /// Its death is in the trace.
    told: Mutex<bool>,
}

impl Process {
    /// Its name: that of the machine, and its number there.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The world that it is in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// The store as this process reaches it.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(Network::new(self.clone()))
    }

    /// The machine's disk as this process reaches it.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    /// Dies now. From here on each of its calls fails, and none has an effect; what is under way on the network is done.
    pub fn crash(&self) {
        self.0.plan.crash();
        self.note_death();
        // Who waits for it to wake sees that it is dead.
        self.0.rouse();
    }

    /// Whether it is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let dead = self.0.plan.crashed();
        if dead {
            self.note_death();
        }
        dead
    }

    /// Falls asleep: its requests wait until it wakes, and so do the answers to those that are under way.
    pub fn sleep(&self) {
        self.0.world.note(&format!("{} falls asleep", self.0.name));
        self.0.world.count("processes put to sleep");
        self.0.asleep.store(true, Ordering::Release);
    }

    /// Falls asleep, and wakes after this time.
    pub async fn sleep_for(&self, time: Duration) {
        self.sleep();
        self.0.world.pause(time).await;
        self.wake();
    }

    /// Falls asleep right before a request of this kind, when so many more of them have been sent, and wakes after this
    /// time: what it goes by is long out of date when the request is sent.
    pub fn sleep_before(&self, kind: CallKind, skip: u64, time: Duration) {
        *self.0.drowsy.lock() = Some((kind, skip, time));
    }

    /// Wakes.
    pub fn wake(&self) {
        self.0.world.note(&format!("{} wakes", self.0.name));
        self.0.rouse();
    }

    /// Waits until it is awake; says whether it is alive then. Tasks of the process pass here before each step, since only
    /// its requests stop by themselves.
    pub async fn awake(&self) -> bool {
        loop {
            let mut woken = pin!(self.0.woken.notified());
            // From here on no waking is missed.
            woken.as_mut().enable();
            if !self.0.asleep.load(Ordering::Acquire) {
                return !self.is_dead();
            }
            woken.await;
        }
    }

    /// Waits until it can send a request; says whether it is alive then.
    pub(super) async fn may_send(&self, kind: CallKind) -> bool {
        if !self.awake().await {
            return false;
        }
        if let Some(time) = self.0.is_drowsy(kind) {
            self.sleep();
            let process = self.clone();
            drop(self.0.world.spawn(async move {
                process.0.world.pause(time).await;
                process.wake();
            }));
        }
        self.awake().await
    }

    pub(super) fn plan(&self) -> &CrashPlan {
        &self.0.plan
    }

    fn note_death(&self) {
        if !std::mem::replace(&mut *self.0.told.lock(), true) {
            self.0.world.note(&format!("{} is dead", self.0.name));
            self.0.world.count("processes that died");
        }
    }
}

impl Running {
    /// Counts a request; for how long it is to sleep before it, if it is.
    fn is_drowsy(&self, kind: CallKind) -> Option<Duration> {
        let mut drowsy = self.drowsy.lock();
        let (_, skip, time) = drowsy.as_mut().filter(|(of, ..)| *of == kind)?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        let time = *time;
        *drowsy = None;
        Some(time)
    }

    fn rouse(&self) {
        self.asleep.store(false, Ordering::Release);
        self.woken.notify_waiters();
    }
}
