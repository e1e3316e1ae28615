//! A store that is switched off for hours in mid-run: what promise 7 says, on every level.

use std::time::Duration;

use rfs::{ErrorKind, Level, Options, Volume};
use rfs_testkit::SimStore;
use tokio::time::Instant;

use crate::common::{listing, options, sim, store_on};

/// What changes may wait for a commit, in bytes, while the store is off.
const BUDGET: u64 = 200_000;
const OUTAGE: Duration = Duration::from_secs(2 * 3600);
/// How long after the store is back the volume is to have noticed by itself: the longest pause of the store's circuit, the
/// committer's rest, and a commit.
const RESUMED: Duration = Duration::from_secs(40);

fn within_budget(seed: u64) -> Options {
    options(seed)
        .with_commit_interval(Some(Duration::from_secs(10)))
        .with_outage_budget(BUDGET, Duration::from_secs(4 * 3600))
}

/// One write each five seconds for two simulated hours, while the store is off. Gives how many were taken and the
/// positions after each.
async fn work_through(volume: &Volume, name: &str) -> Vec<rfs::Lsn> {
    let begun = Instant::now();
    let mut taken = Vec::new();
    let mut refused = 0_u64;
    while begun.elapsed() < OUTAGE {
        match volume.fs().write(format!("/{name}-{:05}", taken.len()), vec![7; 1000]).await {
            Ok(()) => {
                assert_eq!(refused, 0, "what is pushed back stays so until the store is back");
                taken.push(volume.position());
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Outage, "{error}");
                refused += 1;
            }
        }
        // Reading goes on all the time.
        if let Some(last) = taken.len().checked_sub(1) {
            let read = volume.fs().read(format!("/{name}-{last:05}")).await.unwrap();
            assert_eq!(read, vec![7; 1000]);
        }
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    }
    assert!(refused > 1000, "{refused} of the writes of two hours were refused");
    let bytes = taken.len() as u64 * 1000;
    assert!((BUDGET / 2..=BUDGET).contains(&bytes), "{bytes} bytes were taken in a budget of {BUDGET}");
    taken
}

/// Lets time pass until everything up to now is in the store, by itself.
async fn resume(volume: &Volume) -> Duration {
    let begun = Instant::now();
    let position = volume.position();
    tokio::time::timeout(RESUMED, volume.wait(position, Level::Remote))
        .await
        .expect("the volume goes on by itself soon after the store is back")
        .unwrap();
    begun.elapsed()
}

/// Everything in the volume as another machine finds it, without this one's local directory.
async fn elsewhere(sim: &SimStore) -> Vec<String> {
    let volume = Volume::open_read_only("sim://", options(9).with_store(store_on(sim)), rfs::At::Head).await;
    listing(&volume.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn two_hours_without_a_store() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", within_budget(1).with_store(store)).await.unwrap();
    volume.fs().write("/before", b"remote").await.unwrap();
    let acknowledged = volume.commit().await.unwrap().position;
    let before = elsewhere(&sim).await;
    sim.set_offline(true);
    let requests = sim.counts().requests();
    let taken = work_through(&volume, "during").await;
    let asked = sim.counts().requests() - requests;
    assert!(asked < 1500, "a store that is off was asked {asked} times in two hours");
    assert_eq!(volume.position_at(Level::Remote), acknowledged, "nothing more was called durable");
    sim.set_offline(false);
    assert_eq!(elsewhere(&sim).await, before, "what was acknowledged at Remote is there");
    resume(&volume).await;
    volume.fs().write("/after", b"1").await.unwrap();
    assert!(volume.position_at(Level::Remote) >= *taken.last().unwrap());
    volume.commit().await.unwrap();
    assert_eq!(elsewhere(&sim).await, listing(&volume).await);
}

#[tokio::test(start_paused = true)]
async fn two_hours_without_a_store_and_then_the_process_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (sim, store) = sim();
    let on_this_machine = |seed| within_budget(seed).with_local_dir(dir.path().join("rfs"));
    let volume = Volume::create("sim://", on_this_machine(1).with_store(store)).await.unwrap();
    volume.fs().write("/before", b"remote").await.unwrap();
    volume.commit().await.unwrap();
    let remote = listing(&volume).await;
    sim.set_offline(true);
    let taken = work_through(&volume, "during").await;
    volume.wait(*taken.last().unwrap(), Level::Local).await.unwrap();
    let local = listing(&volume).await;
    drop(volume);
    // While the store is off nothing can be opened, and nothing is lost by trying.
    let off = Volume::open("sim://", on_this_machine(2).with_store(store_on(&sim))).await.unwrap_err();
    assert_eq!(off.kind(), ErrorKind::Outage, "{off}");
    sim.set_offline(false);
    assert_eq!(elsewhere(&sim).await, remote, "what was acknowledged at Remote is there");
    let volume = Volume::open("sim://", on_this_machine(3).with_store(store_on(&sim))).await.unwrap();
    assert_eq!(listing(&volume).await, local, "what was acknowledged at Local is there");
    resume(&volume).await;
    assert_eq!(elsewhere(&sim).await, local);
}

/// A store that fails most of what it is asked, for hours, is no reason to stop.
#[tokio::test(start_paused = true)]
async fn an_outage_that_comes_and_goes_loses_nothing() {
    let (sim, store) = sim();
    let volume = Volume::create("sim://", within_budget(3).with_store(store)).await.unwrap();
    for turn in 0..20 {
        sim.set_offline(true);
        volume.fs().write(format!("/off-{turn}"), vec![1; 1000]).await.unwrap();
        for _ in 0..300 {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
        assert!(volume.position_at(Level::Remote) < volume.position());
        sim.set_offline(false);
        volume.fs().write(format!("/on-{turn}"), vec![2; 1000]).await.unwrap();
        resume(&volume).await;
    }
    assert_eq!(elsewhere(&sim).await, listing(&volume).await);
    assert_eq!(listing(&volume).await.len(), 40);
}
