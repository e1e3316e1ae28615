//! Who reads a file from front to back does not wait for one piece after the other.

use std::sync::Arc;
use std::time::Duration;

use object_store::throttle::{ThrottleConfig, ThrottledStore};
use rfs::{Entropy, Options, Volume};
use rfs_testkit::{CrashPlan, SimStore};

use crate::common::store_over;

const LEN: usize = 16 << 20;
const READ: usize = 128 << 10;
const DELAY: Duration = Duration::from_millis(20);

fn byte(at: usize) -> u8 {
    (at >> 12) as u8 ^ at as u8
}

/// How long it takes to read the file, and how many gets, on a store that takes its time for each.
async fn read_through(sim: &SimStore, options: Options, read: usize) -> (Duration, u64) {
    let client = sim.client(CrashPlan::never());
    let slow = ThrottleConfig { wait_get_per_call: DELAY, ..ThrottleConfig::default() };
    let store = store_over(Arc::new(ThrottledStore::new(client.clone(), slow)));
    let options = options.with_store(store).with_entropy(Entropy::seeded(2)).with_commit_interval(None);
    let volume = Volume::open("sim://", options).await.unwrap();
    let file = volume.fs().open("/large").await.unwrap();
    let (before, began) = (client.counts().gets, tokio::time::Instant::now());
    let mut bytes = vec![0; read];
    for at in (0..LEN).step_by(read) {
        assert_eq!(file.read_at(&mut bytes, at as u64).await.unwrap(), read);
        assert!(bytes.iter().enumerate().all(|(n, found)| *found == byte(at + n)));
    }
    (began.elapsed(), client.counts().gets - before)
}

#[tokio::test(start_paused = true)]
async fn what_comes_next_is_fetched_ahead() {
    let sim = SimStore::new(CrashPlan::never());
    let options =
        Options::new().with_entropy(Entropy::seeded(1)).with_store(store_over(Arc::new(sim.clone())));
    let volume = Volume::create("sim://", options).await.unwrap();
    let content: Vec<u8> = (0..LEN).map(byte).collect();
    volume.fs().write("/large", content).await.unwrap();
    volume.close().await.unwrap();

    let (alone, gets_alone) = read_through(&sim, Options::new().with_one_thread(), READ).await;
    let (ahead, gets_ahead) = read_through(&sim, Options::new(), READ).await;
    let (large, gets_large) = read_through(&sim, Options::new().with_one_thread(), 4 << 20).await;
    assert_eq!((gets_ahead, gets_large), (gets_alone, gets_alone), "nothing is fetched twice");
    assert!(ahead * 4 < alone && large * 4 < alone, "{alone:?} {ahead:?} {large:?}");
}
