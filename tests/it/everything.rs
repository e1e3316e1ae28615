//! Everything that changes a volume, mixed at random and against the reference model: operations, commits, checkpoints,
//! going back, forks and what becomes of them, pins, collections, compaction, openings, and crashes in any call of these.
//! Every state that is kept reads the same for as long as it is, and in the end nothing is left but what a new volume has.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::path::Path;
use rfs::{At, CommitId, ErrorKind, Options, Store, StoreOptions, Volume};
use rfs_testkit::{
    CrashPlan, CrashSide, Dump, ModelFs, Profile, Rng, Rules, SLOTS, SimStore, Target, TestOp, Workload,
};

use crate::common::options;
use crate::handles::Handles;
use crate::target::{dump, expressible, perform};

/// Steps of a run.
const STEPS: usize = 400;
/// Most volumes of a run.
const VOLUMES: usize = 4;
/// How many commits each volume keeps beside those with a name.
const KEPT: usize = 3;

/// A10, A11, A18, A20: 20,000 steps in runs of 400; `RFS_TEST_STEPS` asks for more or fewer, `RFS_TEST_SEED` for others.
fn every_state_that_is_kept_stays_as_it_was(part: u64, parts: u64) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let runs = number("RFS_TEST_STEPS", 20_000_u64).div_ceil(STEPS as u64);
    let first = number("RFS_TEST_SEED", 0);
    for seed in (first..first + runs).filter(|seed| seed % parts == part) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(Run::new(seed).whole()));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

macro_rules! shards {
    ($($name:ident: $part:literal of $parts:literal;)*) => {
        $(#[test] fn $name() { every_state_that_is_kept_stays_as_it_was($part, $parts); })*
    };
}

shards! {
    every_state_that_is_kept_stays_0: 0 of 4;
    every_state_that_is_kept_stays_1: 1 of 4;
    every_state_that_is_kept_stays_2: 2 of 4;
    every_state_that_is_kept_stays_3: 3 of 4;
}

struct Run {
    seed: u64,
    sim: SimStore,
    rng: Rng,
    ops: Box<dyn Iterator<Item = TestOp>>,
    volumes: Vec<Place>,
    /// Writers so far: each has a seed of its own.
    writers: u64,
    names: u64,
}

/// A volume, and what is known of it.
struct Place {
    url: String,
    volume: Option<Volume>,
    handles: Handles,
    model: ModelFs,
    /// What the newest commit holds.
    committed: ModelFs,
    checkpoints: BTreeMap<String, ModelFs>,
    commits: BTreeMap<CommitId, ModelFs>,
    pins: BTreeMap<u128, (CommitId, ModelFs)>,
    /// What else may be found after a death.
    perhaps: Vec<ModelFs>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let profile = Profile { relative: false, max_xattr_bytes: 500, ..Profile::rfs() };
        let ops = Workload::new(seed, profile).filter_map(expressible);
        let (sim, rng) = (SimStore::new(CrashPlan::never()), Rng::new(seed));
        Self { seed, sim, rng, ops: Box::new(ops), volumes: Vec::new(), writers: 0, names: 0 }
    }

    /// How a writer, whose calls go by a plan, opens a volume.
    fn options(&mut self, url: &str, plan: &CrashPlan) -> Options {
        self.writers += 1;
        let prefix = Path::from(url.strip_prefix("sim://").unwrap());
        let quick = StoreOptions::default().with_deadline(Duration::from_secs(5));
        let store = Store::new(std::sync::Arc::new(self.sim.client(plan.clone())), url, prefix, quick);
        options(self.seed * 1000 + self.writers)
            .with_store(store)
            .with_cut(2_000, 20_000)
            .with_image_every(30_000, 5)
            .with_retention(KEPT, Duration::ZERO)
            .with_compaction(60, 1 << 20)
            .with_compaction_rate(None)
            .with_collect_rate(None)
    }

    async fn whole(mut self) {
        let url = "sim://v0".to_owned();
        let options = self.options(&url, &CrashPlan::never());
        let volume = Volume::create(&url, options).await.unwrap();
        self.volumes.push(Place::new(url, ModelFs::new(Rules::rfs()), volume));
        for step in 0..STEPS {
            let at = self.rng.index(self.volumes.len());
            self.step(at, step).await;
            if step % 50 == 49 {
                for at in 0..self.volumes.len() {
                    self.look_back(at, step).await;
                }
            }
        }
        self.end().await;
    }

    async fn step(&mut self, at: usize, step: usize) {
        let choice = self.rng.below(100);
        if choice < 70 {
            for _ in 0..4 {
                let op = self.ops.next().expect("there is no end of them");
                self.volumes[at].operate(&op, &format!("seed {}, step {step}", self.seed)).await;
            }
            return;
        }
        // One in three of the others dies in some call.
        if choice.is_multiple_of(3) {
            let side = *self.rng.pick(&[CrashSide::Before, CrashSide::After, CrashSide::Partly]);
            let plan = CrashPlan::at_call(4 + self.rng.below(12), side, self.rng.next());
            self.reopen(at, &plan).await;
            self.act(at, choice, &plan).await;
            plan.crash();
            self.recover(at, step).await;
        } else {
            self.act(at, choice, &CrashPlan::never()).await;
            // Some of these have committed: from here on it is known what is.
            self.volumes[at].commit().await;
        }
    }

    /// Opens a volume anew, by a writer that is going to die.
    async fn reopen(&mut self, at: usize, plan: &CrashPlan) {
        let place = &mut self.volumes[at];
        place.close_handles().await;
        // What was not committed is lost with the one before.
        if self.rng.chance(50) {
            place.commit().await;
        }
        place.volume = None;
        place.forget_uncommitted();
        let url = self.volumes[at].url.clone();
        let options = self.options(&url, plan);
        self.volumes[at].volume = Volume::open(&url, options).await.ok();
    }

    /// After a death: what is found is what was committed, or what was on its way.
    async fn recover(&mut self, at: usize, step: usize) {
        let url = self.volumes[at].url.clone();
        let options = self.options(&url, &CrashPlan::never());
        let place = &mut self.volumes[at];
        place.handles = Handles::default();
        place.volume = None;
        let volume = Volume::open(&url, options).await.unwrap();
        let found = dump(&volume).await.unwrap();
        let mut candidates = std::mem::take(&mut place.perhaps);
        candidates.extend([place.model.clone(), place.committed.clone()]);
        let fits = candidates.into_iter().map(settled);
        let fits = fits.into_iter().find(|model| found.diff("a", &tree_of(model), "b").is_empty());
        let Some(fits) = fits else {
            let difference = found.diff("found", &tree_of(&place.committed), "committed");
            panic!(
                "seed {}, step {step}, {url}: after a crash there is another tree\n{difference}",
                self.seed
            );
        };
        let checkpoints: Vec<String> = volume.checkpoints().into_iter().map(|(name, _)| name).collect();
        place.checkpoints.retain(|name, _| checkpoints.contains(name));
        for name in checkpoints {
            place.checkpoints.entry(name).or_insert_with(|| fits.clone());
        }
        (place.model, place.committed) = (fits.clone(), fits);
        place.commits.clear();
        place.volume = Some(volume);
        place.commit().await;
    }

    /// Something other than an operation. What fails does so because the writer died.
    async fn act(&mut self, at: usize, choice: u64, plan: &CrashPlan) {
        let dies = |error: Option<rfs::Error>| {
            let alive = error.filter(|_| !plan.crashed());
            assert!(alive.is_none(), "action {choice} fails, and not by dying: {alive:?}");
        };
        let has_room = self.volumes.len() < VOLUMES;
        let place = &mut self.volumes[at];
        let Some(volume) = place.volume.clone() else { return };
        match choice {
            70..=74 => {
                self.names += 1;
                let name = format!("c{}", self.names);
                let before = place.model.clone();
                let made = async { volume.checkpoint(&name).await?.wait().await };
                match made.await {
                    Ok(receipt) => {
                        place.note_commit(receipt.commit);
                        place.checkpoints.insert(name, before);
                    }
                    Err(error) => dies(Some(error)),
                }
            }
            75..=77 => {
                let Some(name) = place.checkpoints.keys().next().cloned() else { return };
                let dropped = async {
                    volume.drop_checkpoint(&name).await?;
                    volume.commit().await
                };
                // Whether it is gone is seen when the volume is opened again.
                match dropped.await {
                    Ok(receipt) => {
                        place.checkpoints.remove(&name);
                        place.note_commit(receipt.commit);
                    }
                    Err(error) => dies(Some(error)),
                }
            }
            78..=81 => {
                place.close_handles().await;
                let states =
                    place.checkpoints.iter().map(|(name, model)| (At::Checkpoint(name.clone()), model));
                let kept = place.commits.iter().rev().take(KEPT).map(|(id, model)| (At::Commit(*id), model));
                let states: Vec<_> = states.chain(kept).map(|(at, model)| (at, model.clone())).collect();
                let Some((state, model)) = states.get(self.rng.index(states.len().max(1))) else { return };
                match volume.rewind(state).await {
                    Ok(receipt) => {
                        place.model = settled(model.clone());
                        place.note_commit(receipt.commit);
                    }
                    // Of commits without a name only the newest are kept.
                    Err(error)
                        if error.kind() == ErrorKind::NoSuchState && matches!(state, At::Commit(_)) => {}
                    Err(error) => {
                        dies(Some(error));
                        place.perhaps.push(model.clone());
                    }
                }
            }
            82..=84 if has_room => {
                self.names += 1;
                let url = format!("sim://v{}", self.names);
                let named = place.checkpoints.iter().next_back();
                let (state, model) = match named {
                    Some((name, model)) if self.rng.chance(50) => {
                        (At::Checkpoint(name.clone()), model.clone())
                    }
                    _ => (At::Head, place.model.clone()),
                };
                // The handles of this writer are not the fork's.
                if state == At::Head && !place.model.nameless().is_empty() {
                    return;
                }
                match volume.fork(&url, &state).await {
                    Ok(_) => {
                        let options = self.options(&url, &CrashPlan::never());
                        let fork = Volume::open(&url, options).await.unwrap();
                        let mut place = Place::new(url, settled(model), fork);
                        place.commit().await;
                        self.volumes.push(place);
                    }
                    Err(error) => dies(Some(error)),
                }
            }
            85 => dies(volume.detach().await.err()),
            86..=87 => {
                let Some((id, model)) = place.commits.iter().next_back() else { return };
                let (id, model) = (*id, model.clone());
                match volume.pin(&At::Commit(id), "a test", None).await {
                    Ok(pin) => drop(place.pins.insert(pin.id, (id, model))),
                    // It is not kept any more, or of the volume that this is a fork of.
                    Err(error) if matches!(error.kind(), ErrorKind::NoSuchState | ErrorKind::Invalid) => {}
                    Err(error) => dies(Some(error)),
                }
            }
            88 => {
                let Some(id) = place.pins.keys().next().copied() else { return };
                place.pins.remove(&id);
                dies(volume.unpin(id).await.err());
            }
            89..=91 => dies(volume.collect_garbage().await.err()),
            92..=93 => dies(volume.compact().await.err()),
            94..=96 => {
                place.close_handles().await;
                drop(volume);
                let closed = place.volume.take().expect("it is open").close().await;
                let is_closed = closed.is_ok();
                dies(closed.err());
                if is_closed {
                    place.committed = place.model.clone();
                    let url = place.url.clone();
                    let options = self.options(&url, plan);
                    let opened = Volume::open(&url, options).await;
                    self.volumes[at].volume = opened.map_err(|error| dies(Some(error))).ok();
                }
            }
            _ => match volume.commit().await {
                Ok(receipt) => place.note_commit(receipt.commit),
                Err(error) => dies(Some(error)),
            },
        }
    }

    /// Every state that is kept reads as when it was made.
    async fn look_back(&mut self, at: usize, step: usize) {
        let (url, states) = {
            let place = &self.volumes[at];
            let named = place.checkpoints.iter().map(|(name, model)| (At::Checkpoint(name.clone()), model));
            let newest = place.commits.iter().rev().take(KEPT).map(|(id, model)| (At::Commit(*id), model));
            let pinned = place.pins.values().map(|(id, model)| (At::Commit(*id), model));
            // Of commits only the newest few are kept, and some that nobody asked for are among them.
            let sure = named.chain(pinned).chain([(At::Head, &place.committed)]).map(|state| (state, true));
            let states = sure.chain(newest.map(|state| (state, false)));
            let states: Vec<_> = states.map(|((at, model), sure)| (at, tree_of(model), sure)).collect();
            (place.url.clone(), states)
        };
        for (state, expected, sure) in states {
            let options = self.options(&url, &CrashPlan::never());
            let when = format!("seed {}, step {step}, {url} at {state}", self.seed);
            let reader = Volume::open_read_only(&url, options, state).await;
            let gone = reader.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSuchState);
            if gone && !sure {
                continue;
            }
            let reader = reader.unwrap_or_else(|error| panic!("{when}: {error}"));
            let found = dump(&reader).await.unwrap_or_else(|error| panic!("{when}: {error}"));
            let difference = found.diff("found", &expected, "expected");
            assert!(difference.is_empty(), "{when}:\n{difference}");
            reader.check().await.unwrap_or_else(|error| panic!("{when}: {error}"));
        }
    }

    /// Everything is dropped: what is left is what a new volume has, and the ends of epochs.
    async fn end(&mut self) {
        // Forks first: those that were made last borrow from those before.
        let mut volumes = std::mem::take(&mut self.volumes);
        for place in volumes.iter_mut().rev() {
            place.close_handles().await;
            let volume = place.volume.as_ref().expect("it is open");
            volume.detach().await.unwrap();
        }
        for place in &mut volumes {
            let volume = place.volume.as_ref().expect("it is open");
            for (name, _) in volume.checkpoints() {
                volume.drop_checkpoint(&name).await.unwrap();
            }
            for pin in volume.pins().await.unwrap() {
                volume.unpin(pin.id).await.unwrap();
            }
            empty(volume).await;
            volume.commit().await.unwrap();
        }
        let url = "sim://fresh".to_owned();
        let options = self.options(&url, &CrashPlan::never());
        let fresh = Volume::create(&url, options).await.unwrap();
        volumes.push(Place::new(url, ModelFs::new(Rules::rfs()), fresh));
        for round in 0..8 {
            for place in &mut volumes {
                let volume = place.volume.take().expect("it is open");
                volume.fs().write("/round", [round]).await.unwrap();
                volume.commit().await.unwrap();
                volume.fs().remove_file("/round").await.unwrap();
                volume.compact().await.unwrap();
                volume.collect_garbage().await.unwrap();
                volume.close().await.unwrap();
                let options = self.options(&place.url, &CrashPlan::never()).with_retention(1, Duration::ZERO);
                place.volume = Some(Volume::open(&place.url, options).await.unwrap());
            }
        }
        let left = |place: &Place| {
            let prefix = place.url.strip_prefix("sim://").unwrap().to_owned() + "/";
            let id = format!("{:032x}", place.volume.as_ref().expect("it is open").id());
            let below = self.sim.paths().into_iter().filter_map(|path| {
                let key = path.as_ref().strip_prefix(&prefix)?.replace(&id, "V");
                Some((key, self.sim.object(&path).map_or(0, |object| object.len())))
            });
            let mut left = BTreeMap::new();
            for (key, bytes) in below {
                let role = key.rsplit_once('/').map_or("", |(role, _)| role).to_owned();
                let of_role: &mut (usize, usize) = left.entry(role).or_default();
                *of_role = (of_role.0 + 1, of_role.1 + bytes);
            }
            left
        };
        let of_fresh = left(volumes.last().unwrap());
        for place in &volumes {
            let epochs = place.volume.as_ref().and_then(Volume::open_report).map_or(0, |report| report.epoch);
            let found = left(place);
            for (role, (count, bytes)) in &found {
                let (fresh, fresh_bytes) = of_fresh.get(role).copied().unwrap_or_default();
                let (more, more_bytes) = match role.as_str() {
                    "V/commits" => (epochs as usize, 1024 + epochs as usize * 500),
                    // Leaves that were emptied stay until a neighbour is in memory with them.
                    "V/pages" => (2, 20_000),
                    _ => (0, 1024),
                };
                let fits = *count <= fresh + more && *bytes <= 2 * fresh_bytes + more_bytes;
                assert!(
                    fits,
                    "seed {}, {}: {found:?} is left, of a new one {of_fresh:?}",
                    self.seed, place.url
                );
            }
        }
    }
}

impl Place {
    fn new(url: String, model: ModelFs, volume: Volume) -> Self {
        Self {
            url,
            volume: Some(volume),
            handles: Handles::default(),
            committed: model.clone(),
            model,
            checkpoints: BTreeMap::new(),
            commits: BTreeMap::new(),
            pins: BTreeMap::new(),
            perhaps: Vec::new(),
        }
    }

    async fn operate(&mut self, op: &TestOp, when: &str) {
        let volume = self.volume.as_ref().expect("it is open");
        let (got, expected) = (perform(&mut self.handles, volume, op).await.unwrap(), self.model.run(op));
        assert_eq!(got, expected, "{when}: {op:?}");
    }

    async fn close_handles(&mut self) {
        for slot in 0..SLOTS {
            self.operate(&TestOp::Close { slot }, "closing").await;
        }
    }

    async fn commit(&mut self) {
        let receipt = self.volume.as_ref().expect("it is open").commit().await.unwrap();
        self.note_commit(receipt.commit);
    }

    fn note_commit(&mut self, id: CommitId) {
        self.committed = self.model.clone();
        self.commits.insert(id, self.model.clone());
        while self.commits.len() > KEPT {
            self.commits.pop_first();
        }
    }

    fn forget_uncommitted(&mut self) {
        self.model = settled(self.committed.clone());
    }
}

/// What is found when it is opened again: nothing is held any more.
fn settled(mut model: ModelFs) -> ModelFs {
    for slot in 0..SLOTS {
        let _ = model.run(&TestOp::Close { slot });
    }
    model
}

/// Without what handles hold: a volume shows that to their program only.
fn tree_of(model: &ModelFs) -> Dump {
    Dump { handles: BTreeMap::new(), ..model.clone().dump() }
}

/// Removes everything.
async fn empty(volume: &Volume) {
    let fs = volume.fs();
    let mut entries = fs.read_dir("/").await.unwrap();
    while let Some(entry) = entries.next_entry().await.unwrap() {
        if entry.file_type().is_dir() {
            fs.remove_dir_all(entry.path()).await.unwrap();
        } else {
            fs.remove_file(entry.path()).await.unwrap();
        }
    }
}
