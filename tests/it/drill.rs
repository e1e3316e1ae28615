//! Drills: what is restored is what was committed, or it is an error.

use std::collections::BTreeMap;

use rfs::{DrillOptions, DrillReceipt, ErrorKind, Objects};
use rfs_testkit::SimStore;

use crate::check::{Sample, below, check, objects, small};
use crate::common::store_on;

async fn drill(sim: &SimStore, drill: DrillOptions) -> rfs::Result<DrillReceipt> {
    rfs::drill("sim://", small(13, store_on(sim)), drill).await
}

#[tokio::test(start_paused = true)]
async fn each_checkpoint_is_restored() {
    let sample = Sample::make().await;
    let newest = drill(&sample.sim, DrillOptions::new()).await.unwrap();
    assert_eq!(newest.drilled.checkpoint.as_deref(), Some("three"));
    let mut contents = BTreeMap::new();
    for (name, truth) in &sample.checkpoints {
        let receipt = drill(&sample.sim, DrillOptions::new().with_checkpoint(*name)).await.unwrap();
        let drilled = &receipt.drilled;
        assert_eq!(drilled.state, sample.states[name]);
        assert_eq!((drilled.commit, drilled.replayed_from), (sample.commits[*name], Some(rfs::Lsn(0))));
        assert_eq!(drilled.files + drilled.directories + drilled.others, 1 + distinct(truth));
        contents.insert(drilled.content, *name);
    }
    assert_eq!(contents.len(), 3);
    assert_eq!(contents[&newest.drilled.content], "three");
    let none = drill(&sample.sim, DrillOptions::new().with_checkpoint("none")).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::NoSuchState);
}

/// Paths, where one file has two names from the checkpoint "two" on.
fn distinct(truth: &crate::check::Truth) -> u64 {
    let again = truth.contains_key(std::path::Path::new("/dir/again"));
    truth.len() as u64 - u64::from(again)
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_json_and_is_kept() {
    let sample = Sample::make().await;
    let before = objects(&sample.sim);
    let receipt = drill(&sample.sim, DrillOptions::new()).await.unwrap();
    assert_eq!(objects(&sample.sim), before, "nothing is written that is not asked for");
    let receipt = (receipt, drill(&sample.sim, DrillOptions::new().with_stored_receipt(true)).await.unwrap());
    assert_eq!(receipt.0, receipt.1);
    let after = objects(&sample.sim);
    let made: Vec<_> = after.iter().filter(|(key, _)| !before.contains_key(*key)).collect();
    let [(key, stored)] = made[..] else { panic!("{made:?}") };
    assert!(below(key).contains("/receipts/"), "{key}");
    assert_eq!(stored, &receipt.1.to_json());
    let json = receipt.1.to_json();
    for field in ["\"checkpoint\": \"three\"", "\"replayed_from\": 0", "\"milliseconds\": 0", "\"version\""] {
        assert!(json.contains(field), "{json}");
    }
    let report = check(&sample.sim, true).await;
    assert!(report.is_sound() && report.unreferenced.iter().all(|(key, _)| !key.contains("receipts")));
    let objects = Objects::open("sim://", small(13, store_on(&sample.sim))).await.unwrap();
    objects.list().await.unwrap();
}

/// Whatever of a checkpoint's objects is damaged: it is told, or the checkpoint is whole all the same.
#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_not_restored() {
    let sample = Sample::make().await;
    let whole = drill(&sample.sim, DrillOptions::new()).await.unwrap();
    let mut told = 0;
    for (key, object) in objects(&sample.sim) {
        sample.sim.flip_bit(&key, object.len() as u64 * 4);
        match drill(&sample.sim, DrillOptions::new()).await {
            Ok(receipt) => assert_eq!(receipt, whole, "{key}"),
            Err(error) => {
                told += 1;
                assert!(
                    error.kind() == ErrorKind::Damaged || error.to_string().contains(below(&key)),
                    "{key}: {error}"
                );
            }
        }
        sample.sim.set_object(&key, object);
    }
    assert!(told >= 8, "{told}");
}
