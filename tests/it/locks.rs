//! Locks: who waits, who is told that it would wait for ever.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rfs::{Errno, File, LockMode, LockRange, OpenOptions, Volume};

use crate::common::options;

const ALONE: LockMode = LockMode::Exclusive;
const SHARED: LockMode = LockMode::Shared;

async fn volume() -> Volume {
    Volume::create("memory://", options(1)).await.unwrap()
}

async fn open(volume: &Volume, path: &str) -> File {
    OpenOptions::new().read(true).write(true).create(true).open(&volume.fs(), path).await.unwrap()
}

fn range(start: u64, end: u64) -> LockRange {
    LockRange::new(start, end).unwrap()
}

/// Begins to do something that waits.
async fn waits<T: Send + 'static>(
    doing: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let task = tokio::spawn(doing);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!task.is_finished(), "it does not wait");
    task
}

async fn ends<T>(task: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), task).await.expect("it goes on").unwrap()
}

#[tokio::test]
async fn ranges_exclude_by_byte_and_by_open_file() {
    let volume = volume().await;
    let (one, other) = (open(&volume, "/f").await, open(&volume, "/f").await);
    one.try_lock_range(range(0, 100), ALONE).await.unwrap();
    other.try_lock_range(range(100, 200), ALONE).await.unwrap();
    assert_eq!(
        other.try_lock_range(range(99, 100), SHARED).await.unwrap_err().errno(),
        Some(Errno::WouldBlock)
    );
    one.try_clone().unlock_range(range(50, 60)).await.unwrap();
    other.try_lock_range(range(50, 60), SHARED).await.unwrap();
    let held = one.test_lock_range(range(0, 1000), ALONE).await.unwrap().unwrap();
    assert_eq!((held.owner.key, held.range), (other.lock_key(), range(50, 60)));
    assert_eq!(one.test_lock_range(range(50, 60), SHARED).await.unwrap(), None);
    one.try_lock().await.unwrap();
    other.unlock_range(LockRange::ALL).await.unwrap();
    one.try_lock_range(LockRange::ALL, ALONE).await.unwrap();
    drop(one);
    other.try_lock_range(LockRange::ALL, ALONE).await.unwrap();
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_range_needs_a_handle_that_is_open_for_it() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/f", b"").await.unwrap();
    let reads = fs.open("/f").await.unwrap();
    let writes = OpenOptions::new().write(true).open(&fs, "/f").await.unwrap();
    assert_eq!(reads.try_lock_range(range(0, 1), ALONE).await.unwrap_err().errno(), Some(Errno::BadHandle));
    assert_eq!(writes.lock_range(range(0, 1), SHARED).await.unwrap_err().errno(), Some(Errno::BadHandle));
    reads.try_lock_range(range(0, 1), SHARED).await.unwrap();
    writes.try_lock_range(range(1, 2), ALONE).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_a_range_gets_it() {
    let volume = volume().await;
    let (one, other) = (open(&volume, "/f").await, open(&volume, "/f").await);
    one.lock_range(range(0, 10), ALONE).await.unwrap();
    let waiting = waits(async move {
        other.lock_range(range(5, 15), SHARED).await.unwrap();
        other
    })
    .await;
    one.unlock_range(range(0, 5)).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // An exclusive lock that becomes a shared one lets others in.
    one.lock_range(range(5, 10), SHARED).await.unwrap();
    let other = ends(waiting).await;
    assert_eq!(one.try_lock_range(range(14, 15), ALONE).await.unwrap_err().errno(), Some(Errno::WouldBlock));
    drop(other);
    one.try_lock_range(range(14, 15), ALONE).await.unwrap();
}

#[tokio::test]
async fn two_that_wait_for_each_other_are_told() {
    let volume = volume().await;
    let (one, other) = (open(&volume, "/f").await, open(&volume, "/f").await);
    one.try_lock_range(range(0, 1), ALONE).await.unwrap();
    other.try_lock_range(range(1, 2), ALONE).await.unwrap();
    let clone = one.try_clone();
    let waiting = waits(async move { clone.lock_range(range(1, 2), ALONE).await }).await;
    let told = other.lock_range(range(0, 1), ALONE).await.unwrap_err();
    assert_eq!(told.errno(), Some(Errno::Deadlock));
    assert_eq!(
        one.try_lock_range(range(1, 2), SHARED).await.unwrap_err().errno(),
        Some(Errno::WouldBlock),
        "who was told keeps what it held"
    );
    other.unlock_range(range(1, 2)).await.unwrap();
    ends(waiting).await.unwrap();
}

/// Two that share a range and both want it alone: the second would wait for ever.
#[tokio::test]
async fn two_upgrades_of_a_range_are_a_deadlock() {
    let volume = volume().await;
    let (one, other) = (open(&volume, "/f").await, open(&volume, "/f").await);
    one.try_lock_range(range(0, 1), SHARED).await.unwrap();
    other.try_lock_range(range(0, 1), SHARED).await.unwrap();
    let clone = one.try_clone();
    let waiting = waits(async move { clone.lock_range(range(0, 1), ALONE).await }).await;
    assert_eq!(other.lock_range(range(0, 1), ALONE).await.unwrap_err().errno(), Some(Errno::Deadlock));
    drop(other);
    ends(waiting).await.unwrap();
}

/// Whole-file locks and ranges do not see each other, but who holds one and waits for the other stands in one circle.
#[tokio::test]
async fn a_circle_of_three_through_both_kinds_is_seen() {
    let volume = volume().await;
    let (a, b, c) = (open(&volume, "/f").await, open(&volume, "/f").await, open(&volume, "/f").await);
    let on_g = open(&volume, "/g").await;
    a.try_lock().await.unwrap();
    b.try_lock_range(range(0, 1), ALONE).await.unwrap();
    c.try_lock_range(range(1, 2), ALONE).await.unwrap();
    on_g.try_lock().await.unwrap();
    let clone = b.try_clone();
    let b_waits = waits(async move { clone.lock().await }).await;
    let clone = c.try_clone();
    let c_waits = waits(async move { clone.lock_range(range(0, 1), SHARED).await }).await;
    // Waiting where no circle closes is no deadlock, however many wait already.
    let other = open(&volume, "/g").await;
    let g_waits = waits(async move { other.lock().await }).await;
    assert_eq!(a.lock_range(range(1, 2), SHARED).await.unwrap_err().errno(), Some(Errno::Deadlock));
    drop(a);
    ends(b_waits).await.unwrap();
    drop(b);
    ends(c_waits).await.unwrap();
    drop(on_g);
    ends(g_waits).await.unwrap();
}

/// A circle that a third closes, by taking what was released, is seen by those who then wait in vain.
#[tokio::test]
async fn a_circle_that_closes_while_one_waits_is_seen() {
    let volume = volume().await;
    let (one, other, third) =
        (open(&volume, "/f").await, open(&volume, "/f").await, open(&volume, "/f").await);
    one.try_lock_range(range(0, 1), ALONE).await.unwrap();
    third.try_lock_range(range(1, 2), ALONE).await.unwrap();
    let clone = one.try_clone();
    let one_waits = waits(async move { clone.lock_range(range(1, 2), ALONE).await }).await;
    // The other waits for the first, then takes what the first waits for, before the first can.
    let clone = other.try_clone();
    let other_waits = waits(async move { clone.lock_range(range(0, 1), ALONE).await }).await;
    third.unlock_range(range(1, 2)).await.unwrap();
    other.try_lock_range(range(1, 2), ALONE).await.unwrap();
    let told = ends(one_waits).await.unwrap_err();
    assert_eq!(told.errno(), Some(Errno::Deadlock));
    drop(one);
    ends(other_waits).await.unwrap();
}

/// A circle that a grant closes, without anything being released: who waits has one more in its way.
#[tokio::test]
async fn a_circle_that_a_grant_closes_is_seen() {
    let volume = volume().await;
    let (a, b, c) = (open(&volume, "/f").await, open(&volume, "/f").await, open(&volume, "/f").await);
    b.try_lock_range(range(200, 201), ALONE).await.unwrap();
    c.try_lock_range(range(0, 10), ALONE).await.unwrap();
    let clone = b.try_clone();
    let b_waits = waits(async move { clone.lock_range(range(0, 100), ALONE).await }).await;
    let clone = a.try_clone();
    let a_waits = waits(async move { clone.lock_range(range(200, 201), ALONE).await }).await;
    a.try_lock_range(range(50, 60), ALONE).await.unwrap();
    assert_eq!(ends(b_waits).await.unwrap_err().errno(), Some(Errno::Deadlock));
    drop(b);
    ends(a_waits).await.unwrap();
}

/// A future that counts how often it is woken.
struct Counted<F> {
    future: std::pin::Pin<Box<F>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<F: Future> Counted<F> {
    /// Begins to do something that waits.
    fn new(future: F) -> Self {
        let mut new = Self { future: Box::pin(future), woken: Arc::default() };
        assert!(!new.goes_on(), "it does not wait");
        assert_eq!(new.count(), 0);
        new
    }

    fn goes_on(&mut self) -> bool {
        let waker = std::task::Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_ready()
    }

    fn count(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }
}

/// Only those who may get a lock now are woken.
#[tokio::test]
async fn a_release_wakes_those_who_wait_for_that_file() {
    let volume = volume().await;
    let (f, other_f) = (open(&volume, "/f").await, open(&volume, "/f").await);
    let (g, other_g) = (open(&volume, "/g").await, open(&volume, "/g").await);
    f.try_lock().await.unwrap();
    f.try_lock_range(range(0, 9), ALONE).await.unwrap();
    g.try_lock_range(range(0, 9), ALONE).await.unwrap();
    let mut whole = Counted::new(other_f.lock());
    let mut bytes = Counted::new(other_g.lock_range(range(5, 6), SHARED));

    g.try_lock_range(range(20, 30), ALONE).await.unwrap();
    volume.fs().rename("/f", "/h").await.unwrap();
    volume.fs().remove_file("/g").await.unwrap();
    assert_eq!((whole.count(), bytes.count()), (0, 0), "nothing was released");
    g.unlock_range(range(5, 6)).await.unwrap();
    assert_eq!((whole.count(), bytes.count()), (0, 1));
    assert!(bytes.goes_on() && !whole.goes_on());
    drop(f);
    assert!(whole.count() > 0 && whole.goes_on(), "a handle's end releases its locks");
    drop((whole, bytes));

    // An owner's end releases locks on any file.
    let server = rfs::LockOwner { owner: rfs::OwnerId(9), key: 1 };
    let ino = other_f.ino();
    let (root, inodes) = (rfs::Credential::root(), volume.inodes());
    other_f.unlock().await.unwrap();
    let op = rfs::Op::LockFile { ino, owner: server, mode: ALONE };
    inodes.run(&root, &op, &[]).await.unwrap();
    let mut whole = Counted::new(other_f.lock_shared());
    inodes.run(&root, &rfs::Op::EndOwner { owner: server.owner }, &[]).await.unwrap();
    assert!(whole.count() > 0 && whole.goes_on());
    volume.check().await.unwrap();
}

/// Who stops waiting is not in the way of anybody's count.
#[tokio::test]
async fn who_gave_up_waiting_is_forgotten() {
    let volume = volume().await;
    let (one, other) = (open(&volume, "/f").await, open(&volume, "/f").await);
    one.try_lock_range(range(0, 1), ALONE).await.unwrap();
    other.try_lock_range(range(1, 2), ALONE).await.unwrap();
    let clone = one.try_clone();
    let given_up = waits(async move { clone.lock_range(range(1, 2), ALONE).await }).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let clone = other.try_clone();
    let waiting = waits(async move { clone.lock_range(range(0, 1), ALONE).await }).await;
    one.unlock_range(range(0, 1)).await.unwrap();
    ends(waiting).await.unwrap();
}

/// Tasks that take two of a few locks in any order, and give both up when they are told of a deadlock: all of them end,
/// and no two ever hold the same lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_in_any_order_all_end() {
    const LOCKS: usize = 4;
    let volume = volume().await;
    let holders: Arc<[AtomicUsize; LOCKS]> = Arc::default();
    let mut tasks = Vec::new();
    for task in 0..6_u64 {
        let (holders, file) = (Arc::clone(&holders), open(&volume, "/f").await);
        tasks.push(tokio::spawn(async move {
            let (mut state, mut done, mut told) = (task + 1, 0, 0);
            while done < 100 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let first = (state >> 33) as usize % LOCKS;
                let second = (first + 1 + (state >> 40) as usize % (LOCKS - 1)) % LOCKS;
                let mut got = Vec::new();
                for lock in [first, second] {
                    let byte = range(lock as u64, lock as u64 + 1);
                    match file.lock_range(byte, ALONE).await {
                        Ok(()) => {
                            assert_eq!(
                                holders[lock].fetch_add(1, Ordering::SeqCst),
                                0,
                                "two hold lock {lock}"
                            );
                            got.push(lock);
                            tokio::task::yield_now().await;
                        }
                        Err(error) => {
                            assert_eq!(error.errno(), Some(Errno::Deadlock));
                            told += 1;
                            break;
                        }
                    }
                }
                done += usize::from(got.len() == 2);
                for lock in &got {
                    holders[*lock].fetch_sub(1, Ordering::SeqCst);
                }
                file.unlock_range(LockRange::ALL).await.unwrap();
            }
            told
        }));
    }
    for task in tasks {
        ends(task).await;
    }
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_volume_that_is_closed_lets_nobody_wait() {
    let volume = volume().await;
    let (one, other) = (open(&volume, "/f").await, open(&volume, "/f").await);
    one.try_lock().await.unwrap();
    let waiting = waits(async move { other.lock().await }).await;
    volume.close().await.unwrap();
    assert_eq!(ends(waiting).await.unwrap_err().kind(), rfs::ErrorKind::Closed);
}
