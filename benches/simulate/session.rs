//! A writer that has the volume open: tasks that use it all at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rfs::{At, Error, ErrorKind, Level, Volume};
use rfs_testkit::sim::Process;
use rfs_testkit::{Rng, TestOp, What};

use crate::forks::Fork;
use crate::handles::Handles;
use crate::history::Tail;
use crate::setting::{Setting, some_time};
use crate::target::perform;

/// What the tasks of a session share.
pub(crate) struct Session {
    pub(crate) setting: Arc<Setting>,
    pub(crate) process: Process,
    pub(crate) volume: Volume,
    pub(crate) epoch: u64,
    /// The number of its opening.
    pub(crate) opening: u64,
    pub(crate) tail: Arc<Mutex<Option<Tail>>>,
    pub(crate) has_disk: bool,
    /// The disk was told to fail.
    pub(crate) faulty: Arc<Mutex<bool>>,
    /// One task has it for itself, so it may do what takes several steps.
    pub(crate) alone: bool,
}

impl Session {
    /// Goes on until it is over, the process is dead, or the volume fails.
    pub(crate) async fn work(&self, steps: usize, mut rng: Rng) {
        for _ in 0..steps {
            if !self.process.awake().await {
                return;
            }
            if let Err(error) = self.step(&mut rng).await {
                assert!(self.is_explained(&error), "{}: {error} ({:?})", self.process.name(), error.kind());
                if error.kind() != ErrorKind::Outage {
                    return;
                }
            }
            if rng.chance(60) {
                self.setting.world.pause(some_time(&mut rng, Duration::from_secs(20))).await;
            }
        }
    }

    /// Whether what happened explains the error.
    pub(crate) fn is_explained(&self, error: &Error) -> bool {
        if Setting::is_explained(&self.process, error) {
            return true;
        }
        let superseded = self.setting.history.is_superseded(self.opening);
        match error.kind() {
            ErrorKind::Fenced => {
                self.setting.world.count("writers that learnt that they are fenced");
                superseded
            }
            // What only its own history needs may be collected by the next writer.
            ErrorKind::Damaged | ErrorKind::NoSuchState => superseded,
            ErrorKind::LocalDisk => *self.faulty.lock(),
            _ => false,
        }
    }

    async fn step(&self, rng: &mut Rng) -> rfs::Result<()> {
        let (volume, history) = (&self.volume, &self.setting.history);
        match rng.below(100) {
            0..62 => self.operate(rng).await,
            62..74 => {
                let least = volume.position();
                let receipt = volume.commit().await?;
                history.committed(self.epoch, least, &receipt);
                self.setting.world.count("commits acknowledged");
                Ok(())
            }
            74..82 if self.has_disk => {
                let position = volume.position();
                volume.wait(position, Level::Local).await?;
                if let Some(tail) = &mut *self.tail.lock()
                    && tail.epoch == self.epoch
                {
                    tail.local = tail.local.max(position);
                }
                self.setting.world.note(&format!("{}: {position} is safe at Local", self.process.name()));
                self.setting.world.count("positions acknowledged at Local");
                Ok(())
            }
            82..86 => self.checkpoint().await,
            86..88 => self.drop_checkpoint(rng).await,
            88..94 => {
                volume.collect_garbage().await?;
                self.setting.world.count("collections");
                Ok(())
            }
            94..96 => self.fork(rng).await,
            96..98 if self.alone => self.rewind(rng).await,
            _ => Ok(()),
        }
    }

    async fn operate(&self, rng: &mut Rng) -> rfs::Result<()> {
        for _ in 0..=rng.below(4) {
            let op = self.setting.next_op();
            let op = if self.alone { Some(op) } else { in_one_step(op) };
            let Some(op) = op else { continue };
            let got = perform(&mut Handles::default(), &self.volume, &op).await?;
            self.setting.history.operated(self.epoch, self.volume.position(), op, &got);
        }
        Ok(())
    }

    async fn checkpoint(&self) -> rfs::Result<()> {
        let (volume, history) = (&self.volume, &self.setting.history);
        let name = self.setting.fresh_name("c");
        let mut commit = volume.checkpoint(&name).await?;
        let position = commit.position();
        history.noted(self.epoch, position);
        let model = history.model_of(self.epoch);
        let receipt = commit.wait().await?;
        history.committed(self.epoch, position, &receipt);
        history.checkpoint(name, model);
        self.setting.world.count("checkpoints acknowledged");
        Ok(())
    }

    /// A checkpoint that this writer knows, and that nobody dropped.
    fn some_checkpoint(&self, rng: &mut Rng) -> Option<String> {
        let names = self.volume.checkpoints().into_iter().map(|(name, _)| name);
        let names: Vec<String> = names.filter(|name| self.setting.history.has_checkpoint(name)).collect();
        if names.is_empty() { None } else { Some(rng.pick(&names).clone()) }
    }

    async fn drop_checkpoint(&self, rng: &mut Rng) -> rfs::Result<()> {
        let Some(name) = self.some_checkpoint(rng) else { return Ok(()) };
        self.setting.history.forget_checkpoint(&name);
        self.volume.drop_checkpoint(&name).await?;
        self.setting.history.noted(self.epoch, self.volume.position());
        Ok(())
    }

    async fn fork(&self, rng: &mut Rng) -> rfs::Result<()> {
        let Some(name) = self.some_checkpoint(rng) else { return Ok(()) };
        let model = self.setting.history.checkpoints().into_iter().find(|(other, _)| *other == name);
        let Some((_, model)) = model else { return Ok(()) };
        let url = format!("sim://{}", self.setting.fresh_name("f"));
        match self.volume.fork(&url, &At::Checkpoint(name.clone())).await {
            Ok(_) => {}
            // Somebody dropped it meanwhile.
            Err(error)
                if error.kind() == ErrorKind::NoSuchState && !self.setting.history.has_checkpoint(&name) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.setting.world.count("forks made");
        self.setting.forks.lock().push(Fork { url, states: vec![model] });
        Ok(())
    }

    async fn rewind(&self, rng: &mut Rng) -> rfs::Result<()> {
        let Some(name) = self.some_checkpoint(rng) else { return Ok(()) };
        let history = &self.setting.history;
        let model = history.checkpoints().into_iter().find(|(other, _)| *other == name);
        let Some((_, model)) = model else { return Ok(()) };
        let before = self.volume.position();
        history.goes_back(self.epoch, before, &model);
        let done = self.volume.rewind(&At::Checkpoint(name)).await;
        // Nobody else changes anything meanwhile: so it went back if there is something new.
        let after = self.volume.position();
        history.went_back(self.epoch, after);
        if after > before {
            self.setting.world.count("rewinds");
        }
        let receipt = done?;
        history.committed(self.epoch, after, &receipt);
        Ok(())
    }
}

/// The operation as one that takes place at one moment, if there is such a one: several tasks do it at once.
fn in_one_step(op: TestOp) -> Option<TestOp> {
    match op {
        TestOp::Write { what: what @ What::Path { follow: true, .. }, at, data } => {
            Some(TestOp::Batch(vec![TestOp::Write { what, at, data }]))
        }
        TestOp::Mkdir { .. }
        | TestOp::Symlink { .. }
        | TestOp::Link { .. }
        | TestOp::Unlink { .. }
        | TestOp::Rmdir { .. }
        | TestOp::Rename { .. }
        | TestOp::Mknod { .. }
        | TestOp::Stat { .. }
        | TestOp::ReadLink { .. }
        | TestOp::Batch(_) => Some(op),
        _ => None,
    }
}
