//! A crash at every call that changes the disk or the store, at every level of durability.
//!
//! One run of 2,000 operations is done once without a crash, which counts its calls and notes the position after
//! each operation. Then, for each call, the same run is done again up to a crash in that call (before its effect,
//! after it, or with a part of it), and the volume is opened again: on a new machine, after a loss of power, and after
//! a kill. Promises 1 and 2: what is found is the tree after a prefix of the operations, with each batch whole, and
//! not shorter than what was acknowledged. Promise 3: the history goes on from there and is found again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rfs::{Entropy, ErrorKind, Level, Lsn, Options, OwnerId, Store, StoreOptions, Volume};
use rfs_testkit::{
    Answer, Attr, CrashPlan, CrashSide, Dump, ManualClock, ModelFs, Profile, Rng, Rules, SimDisk, SimStore,
    Target, TestOp, Workload,
};

use crate::common::TestClock;
use crate::handles::Handles;
use crate::target::{attr_of, dump, expressible, nameless, perform};

const OPS: usize = 2_000;
/// Who works, dies, and comes back.
const OWNER: OwnerId = OwnerId(7);
const STRANGER: OwnerId = OwnerId(8);

/// What a run does beside its operations.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// Whether there is a local disk.
    disk: bool,
    /// Every how many operations the local disk is waited for, and a commit is; 0: never.
    sync_every: usize,
    commit_every: usize,
    image_commits: u64,
}

const MEMORY: Habit = Habit { disk: false, sync_every: 0, commit_every: 19, image_commits: 3 };
const LOCAL: Habit = Habit { disk: true, sync_every: 3, commit_every: 307, image_commits: 2 };
const REMOTE: Habit = Habit { disk: true, sync_every: 0, commit_every: 11, image_commits: 9 };

/// What is known of a run when it ends, by a crash or not.
#[derive(Debug, Default)]
struct Run {
    /// The position after each operation, and how many were done by then.
    positions: Vec<(Lsn, usize)>,
    local: Lsn,
    remote: Lsn,
}

/// The seed of the operations; `RFS_TEST_SEED` gives another one.
fn seed() -> u64 {
    std::env::var("RFS_TEST_SEED").map_or(11, |seed| seed.parse().expect("RFS_TEST_SEED is a number"))
}

fn profile() -> Profile {
    Profile {
        relative: false,
        odd_paths: false,
        max_write_bytes: 3_000,
        max_xattr_bytes: 200,
        ..Profile::rfs()
    }
}

/// Operations of which each is one step in the history, but for [`TestOp::Close`]: what opens goes into a free slot,
/// so that it closes nothing.
fn ops(seed: u64) -> Vec<TestOp> {
    let mut model = ModelFs::new(Rules::rfs());
    let mut ops = Vec::new();
    for op in Workload::new(seed, profile()).filter_map(expressible) {
        if let TestOp::Open { slot, .. } | TestOp::OpenNameless { slot, .. } = &op
            && model.handles().any(|(taken, ..)| taken == *slot)
        {
            continue;
        }
        // What it answers is what the run without a crash is compared with.
        let _ = model.run(&op);
        ops.push(op);
        if ops.len() == OPS {
            break;
        }
    }
    ops
}

/// Operations by path to go on with: of the old handles a new process knows nothing.
fn further_ops() -> impl Iterator<Item = TestOp> {
    Workload::new(99, Profile::paths()).filter_map(expressible).take(20)
}

fn options(store: &SimStore, disk: Option<&SimDisk>, habit: Habit, seed: u64) -> Options {
    let quick = StoreOptions::default().with_deadline(Duration::from_secs(3)).with_jitter_seed(seed);
    let store = Store::new(Arc::new(store.clone()), "sim://", object_store::path::Path::from("v"), quick);
    let clock = TestClock(ManualClock::ticking(1_700_000_000_000_000_000));
    let mut options = Options::new()
        .with_store(store)
        .with_clock(Arc::new(clock))
        .with_entropy(Entropy::seeded(seed))
        .with_owner_id(OWNER)
        .with_commit_interval(None)
        .with_one_thread()
        .with_cut(1_500, 30_000)
        .with_inline_bytes(20_000)
        .with_image_every(u64::MAX, habit.image_commits)
        .with_retention(2, Duration::ZERO)
        .with_local_file_bytes(20_000)
        .with_cache(50_000, 40_000);
    if let Some(disk) = disk {
        options = options.with_disk(Arc::new(disk.clone()));
    }
    options
}

/// Runs until the end or the crash. The answers are the model's.
async fn run(options: Options, ops: &[TestOp], habit: Habit, answers: Option<&[Answer]>) -> Run {
    let mut run = Run::default();
    // An error is the crash: a run without one has a plan that never crashes, and is looked at in full.
    let _ = run_to_crash(&mut run, options, ops, habit, answers).await;
    run
}

async fn run_to_crash(
    run: &mut Run,
    options: Options,
    ops: &[TestOp],
    habit: Habit,
    answers: Option<&[Answer]>,
) -> rfs::Result<()> {
    let volume = Volume::open_or_create("sim://", options).await?;
    let mut handles = Handles::default();
    for (number, op) in ops.iter().enumerate() {
        let got = perform(&mut handles, &volume, op).await?;
        if let Some(answers) = answers {
            assert_eq!(got, answers[number], "operation {number}: {op:?}");
        }
        run.positions.push((volume.position(), number + 1));
        let due = |every: usize| every > 0 && (number + 1).is_multiple_of(every);
        if due(habit.sync_every) {
            let position = volume.position();
            volume.wait(position, Level::Local).await?;
            run.local = position;
        }
        if due(habit.commit_every) {
            let receipt = if (number / habit.commit_every).is_multiple_of(3) {
                let mut commit = volume.checkpoint(&format!("c{number}")).await?;
                run.positions.push((commit.position(), number + 1));
                commit.wait().await?
            } else {
                volume.commit().await?
            };
            run.remote = receipt.position;
            if (number / habit.commit_every) % 5 == 4 {
                volume.collect_garbage().await?;
            }
        }
    }
    Ok(())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// The answers of the model, and the run without a crash.
fn undisturbed(seed: u64, habit: Habit) -> (Vec<TestOp>, Run, u64) {
    let ops = ops(seed);
    let mut model = ModelFs::new(Rules::rfs());
    let answers: Vec<Answer> = ops.iter().map(|op| model.run(op)).collect();
    let plan = CrashPlan::never();
    let (store, disk) = (SimStore::new(plan.clone()), SimDisk::new(plan.clone()));
    let whole =
        block_on(run(options(&store, habit.disk.then_some(&disk), habit, 1), &ops, habit, Some(&answers)));
    let done = whole.positions.last().map(|(_, count)| *count);
    assert_eq!(done, Some(OPS), "the run without a crash ended early");
    (ops, whole, plan.calls())
}

/// Opens what a crash left, and sees that it is a prefix that is long enough; then goes on, and opens again.
async fn recover(
    store: &SimStore,
    disk: Option<SimDisk>,
    habit: Habit,
    ops: &[TestOp],
    run: &Run,
    least: Lsn,
) {
    let opened = Volume::open_or_create("sim://", options(store, disk.as_ref(), habit, 2)).await;
    let volume = opened.expect("what a crash leaves can be opened");
    // What opening itself adds comes after that.
    let found = volume.open_report().expect("it is open for writing").position;
    assert!(found >= least, "positions up to {least} were acknowledged, {found} is found");
    let (position, count) =
        run.positions.iter().rev().find(|(position, _)| *position <= found).copied().unwrap_or_default();
    // To close lets locks go and then the file, and no other operation has more steps than one.
    let closing = position != found && matches!(ops.get(count), Some(TestOp::Close { .. }));
    assert!(position == found || closing, "what is found ends inside an operation, {found} after {position}");
    let mut model = ModelFs::new(Rules::rfs());
    for op in &ops[..count] {
        let _ = model.run(op);
    }
    compare(&volume, &mut model, &format!("after {count} operations")).await;
    if !closing {
        compare_held(&volume, &model).await;
    }
    volume.check().await.expect("the tree is sound");
    // The history goes on: on this machine, and then on another one.
    let mut handles = Handles::default();
    for op in further_ops() {
        let expected = model.run(&op);
        assert_eq!(perform(&mut handles, &volume, &op).await.expect("the volume goes on"), expected);
    }
    volume.commit().await.expect("the volume commits");
    drop(volume);
    let stranger = options(store, None, habit, 3).with_owner_id(STRANGER);
    let again = Volume::open("sim://", stranger).await.expect("it opens once more");
    compare(&again, &mut model, "after going on").await;
    let (files, locks) = (again.held_files(), again.held_locks());
    assert!(files.is_empty() && locks.is_empty(), "another owner holds {files:?}, has locks {locks:?}");
    let report = again.open_report().expect("it is open for writing");
    assert_eq!((report.held_files, report.held_locks), (0, 0));
    again.check().await.expect("what was held is gone without a trace");
}

/// The same owner finds what it held open without a name, and its locks.
async fn compare_held(volume: &Volume, model: &ModelFs) {
    let inodes = volume.inodes();
    let mut found = Vec::new();
    for ino in volume.held_files() {
        found.push(nameless(volume, ino).await.expect("what is held can be read"));
    }
    assert_eq!(sorted(&found), sorted(&model.nameless()), "nameless files");
    let mut locked: Vec<Attr> = Vec::new();
    for (ino, _) in volume.held_locks() {
        locked.push(attr_of(&inodes.attr(ino).await.expect("what is locked is there")));
    }
    assert_eq!(sorted(&locked), sorted(&model.locked()), "locks");
}

fn sorted<T: std::fmt::Debug>(items: &[T]) -> Vec<String> {
    let mut texts: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    texts.sort();
    texts
}

async fn compare(volume: &Volume, model: &mut ModelFs, when: &str) {
    let expected = Dump { handles: BTreeMap::new(), ..model.dump() };
    let found = dump(volume).await.expect("everything can be read");
    let difference = found.diff("found", &expected, "expected");
    assert!(difference.is_empty(), "{when}:\n{difference}");
}

/// Crashes in every call of the run whose number leaves `part` when divided by `parts`.
fn crash_everywhere(habit: Habit, (part, parts): (u64, u64)) {
    let seed = seed();
    let (ops, _, calls) = undisturbed(seed, habit);
    println!("{calls} calls, {habit:?}");
    assert!(calls > 100, "{calls} calls");
    let mut rng = Rng::new(seed);
    for call in 0..calls {
        let (side, luck) = (rng.below(3), rng.next());
        if call % parts != part {
            continue;
        }
        let side = [CrashSide::Before, CrashSide::After, CrashSide::Partly][side as usize];
        let plan = CrashPlan::at_call(call, side, luck);
        let (store, disk) = (SimStore::new(plan.clone()), SimDisk::new(plan.clone()));
        let crashed =
            block_on(run(options(&store, habit.disk.then_some(&disk), habit, 1), &ops, habit, None));
        assert!(plan.crashed(), "call {call} of {calls} was not reached again");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Objects are the same for all three, so each works on its own copy.
            block_on(recover(&copy(&store), None, habit, &ops, &crashed, crashed.remote));
            if habit.disk {
                let least = crashed.remote.max(crashed.local);
                let disk_after = disk.after_power_loss(luck, CrashPlan::never());
                block_on(recover(&copy(&store), Some(disk_after), habit, &ops, &crashed, least));
                let disk_after = disk.after_kill(CrashPlan::never());
                block_on(recover(&copy(&store), Some(disk_after), habit, &ops, &crashed, least));
            }
        }));
        if let Err(panic) = outcome {
            eprintln!("crash in call {call} of {calls}, {side:?}, luck {luck}, {habit:?}:");
            plan.trace().iter().rev().take(8).for_each(|line| eprintln!("  {line}"));
            std::panic::resume_unwind(panic);
        }
    }
}

/// A store with the same objects, for a recovery that must not disturb another.
fn copy(store: &SimStore) -> SimStore {
    copy_for(store, &CrashPlan::never())
}

fn copy_for(store: &SimStore, plan: &CrashPlan) -> SimStore {
    let copy = SimStore::new(plan.clone());
    for path in store.paths() {
        if let Some(object) = store.object(&path) {
            copy.set_object(&path, object);
        }
    }
    copy
}

macro_rules! shards {
    ($($name:ident: $habit:ident $part:literal of $parts:literal;)*) => {
        $(#[test] fn $name() { crash_everywhere($habit, ($part, $parts)); })*
    };
}

shards! {
    crash_at_every_call_memory_0: MEMORY 0 of 2;
    crash_at_every_call_memory_1: MEMORY 1 of 2;
    crash_at_every_call_local_0: LOCAL 0 of 4;
    crash_at_every_call_local_1: LOCAL 1 of 4;
    crash_at_every_call_local_2: LOCAL 2 of 4;
    crash_at_every_call_local_3: LOCAL 3 of 4;
    crash_at_every_call_remote_0: REMOTE 0 of 4;
    crash_at_every_call_remote_1: REMOTE 1 of 4;
    crash_at_every_call_remote_2: REMOTE 2 of 4;
    crash_at_every_call_remote_3: REMOTE 3 of 4;
}

/// Machines die while they recover, too: a crash in each call of the next opening and its first commit.
#[test]
fn crash_at_every_call_of_recovery() {
    let (ops, _, calls) = undisturbed(seed(), LOCAL);
    let mut rng = Rng::new(seed());
    let mut recoveries = 0;
    for call in (60..calls).step_by(calls as usize / 12) {
        let plan = CrashPlan::at_call(call, CrashSide::Partly, rng.next());
        let (store, disk) = (SimStore::new(plan.clone()), SimDisk::new(plan.clone()));
        let mut crashed = block_on(run(options(&store, Some(&disk), LOCAL, 1), &ops, LOCAL, None));
        let least = crashed.remote.max(crashed.local);
        let power_loss = rng.next();
        let first = disk.after_power_loss(power_loss, CrashPlan::never());
        let found = block_on(async {
            let opened =
                Volume::open_or_create("sim://", options(&copy(&store), Some(&first), LOCAL, 4)).await;
            opened.expect("what a crash leaves can be opened").open_report().map(|report| report.position)
        });
        // Each opening may add up to two Changes of its own, which change no file.
        let found = found.expect("it is open for writing");
        crashed.positions.retain(|(position, _)| *position <= found);
        let count = crashed.positions.last().map_or(0, |(_, count)| *count);
        crashed.positions.extend([(Lsn(found.0 + 1), count), (Lsn(found.0 + 2), count)]);
        for second in 0.. {
            let plan = CrashPlan::at_call(second, CrashSide::Partly, rng.next());
            let (store, disk) = (copy_for(&store, &plan), disk.after_power_loss(power_loss, plan.clone()));
            let opened = block_on(async {
                let volume = Volume::open_or_create("sim://", options(&store, Some(&disk), LOCAL, 4)).await?;
                volume.commit().await
            });
            if !plan.crashed() {
                opened.expect("a recovery without a crash succeeds");
                break;
            }
            recoveries += 1;
            let disk = disk.after_power_loss(rng.next(), CrashPlan::never());
            block_on(recover(&copy(&store), Some(disk), LOCAL, &ops, &crashed, least));
        }
    }
    assert!(recoveries > 50, "{recoveries} recoveries crashed");
}

/// The checker is checked: a volume that lost its last acknowledged operation does not pass.
#[test]
fn a_lost_operation_would_be_seen() {
    let (ops, whole, _) = undisturbed(11, MEMORY);
    let store = SimStore::new(CrashPlan::never());
    let short = block_on(run(options(&store, None, MEMORY, 1), &ops[..500], MEMORY, None));
    assert!(short.remote > Lsn(0));
    let why = |ops: &[TestOp], least| {
        let store = copy(&store);
        let recovered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(recover(&store, None, MEMORY, ops, &whole, least));
        }));
        let panic = recovered.expect_err("the checker lets it pass");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let acknowledged = why(&ops, Lsn(short.remote.0 + 1));
    assert!(acknowledged.contains("were acknowledged"), "{acknowledged}");
    // And one whose content is that of other operations does not pass either.
    let others: Vec<TestOp> = Workload::new(12, Profile::paths()).filter_map(expressible).take(OPS).collect();
    let different = why(&others, Lsn(0));
    assert!(different.contains("only in"), "{different}");
}

/// The run has something to find again, and who finds nothing of it does not pass.
#[test]
fn a_lost_lock_or_file_would_be_seen() {
    let ops = ops(11);
    let mut model = ModelFs::new(Rules::rfs());
    let (mut with_files, mut with_locks, mut best) = (0, 0, 0);
    for (number, op) in ops.iter().enumerate() {
        // Its answers are compared elsewhere.
        let _ = model.run(op);
        let (files, locks) = (model.nameless().len(), model.locked().len());
        (with_files, with_locks) = (with_files + usize::from(files > 0), with_locks + usize::from(locks > 0));
        if files > 0 && locks > 0 {
            best = number + 1;
        }
    }
    assert!(
        with_files > OPS / 10 && with_locks > OPS / 10,
        "{with_files} with files, {with_locks} with locks"
    );

    let store = SimStore::new(CrashPlan::never());
    block_on(async {
        let volume = Volume::open_or_create("sim://", options(&store, None, MEMORY, 1)).await.unwrap();
        let (mut handles, mut model) = (Handles::default(), ModelFs::new(Rules::rfs()));
        for op in &ops[..best] {
            let expected = model.run(op);
            assert_eq!(perform(&mut handles, &volume, op).await.unwrap(), expected);
        }
        volume.commit().await.unwrap();
        // As by a kill: what the handles hold stays in the history.
        std::mem::forget(handles);
        drop(volume);
        let same = Volume::open("sim://", options(&copy(&store), None, MEMORY, 2)).await.unwrap();
        compare_held(&same, &model).await;
        let stranger = options(&copy(&store), None, MEMORY, 3).with_owner_id(STRANGER);
        let stranger = Volume::open("sim://", stranger).await.unwrap();
        let compared = std::panic::AssertUnwindSafe(compare_held(&stranger, &model));
        let panic = futures::FutureExt::catch_unwind(compared).await.expect_err("the checker lets it pass");
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.contains("nameless files"), "{text}");
    });
}

/// A crash of the whole volume is an error of every later call, not a hang.
#[test]
fn after_the_crash_calls_fail_in_bounded_time() {
    let plan = CrashPlan::at_call(80, CrashSide::Before, 1);
    let (store, disk) = (SimStore::new(plan.clone()), SimDisk::new(plan.clone()));
    let error = block_on(async {
        let volume = Volume::open_or_create("sim://", options(&store, Some(&disk), LOCAL, 1)).await?;
        loop {
            volume.fs().write("/a", b"1").await?;
            volume.wait(volume.position(), Level::Local).await?;
        }
        #[expect(unreachable_code, reason = "it names the type")]
        rfs::Result::Ok(())
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::LocalDisk);
}
