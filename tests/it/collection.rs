//! Garbage collection: by itself, beside commits, and at a cost that follows what is new.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use rfs::backends::RequestKind;
use rfs::{At, Store, StoreOptions, Volume};

use crate::common::{memory_url, options, sim, store_on, store_over};
use crate::gate::Gate;

/// With automatic collection the store has what the newest state needs, however long the volume is written.
#[tokio::test(start_paused = true)]
async fn garbage_is_collected_by_itself() {
    let (sim, store) = sim();
    let options = options(1).with_store(store).with_image_every(u64::MAX, 4);
    let options = options.with_retention(1, Duration::ZERO).with_auto_collect(true);
    let volume = Volume::create("sim://", options).await.unwrap();
    let mut objects = Vec::new();
    for round in 0..200_u8 {
        volume.fs().write("/a", [round; 1000]).await.unwrap();
        volume.commit().await.unwrap();
        yield_often().await;
        objects.push(sim.paths().len());
    }
    let (early, late) = objects.split_at(100);
    assert_eq!(early.iter().skip(20).max(), late.iter().max(), "{objects:?}");
    assert!(late.iter().all(|count| *count < 15), "{objects:?}");
    assert_eq!(volume.fs().read("/a").await.unwrap(), [199; 1000]);
}

/// A program that has its volume open for a short time names images too, so that the journal is replayed from there,
/// and collects: whether the image is being made when it closes the volume, or whole.
#[tokio::test]
async fn short_runs_name_images_and_collect() {
    for writes in 1..3 {
        let (sim, store) = sim();
        let mut most = (0, 0, 0);
        for run in 0..60_u64 {
            let options = options(run).with_store(store.clone()).with_image_every(u64::MAX, 4);
            let options = options.with_retention(1, Duration::ZERO).with_auto_collect(true);
            let volume = Volume::open_or_create("sim://", options).await.unwrap();
            for _ in 0..writes {
                volume.fs().write("/a", vec![run as u8; 1000]).await.unwrap();
                volume.commit().await.unwrap();
                yield_often().await;
            }
            volume.fs().write("/b", vec![run as u8; 1000]).await.unwrap();
            let replayed = volume.open_report().unwrap().replayed_bytes;
            volume.close().await.unwrap();
            let count = |kind: &str| sim.paths().iter().filter(|path| path.as_ref().contains(kind)).count();
            // The highest object of each epoch stays.
            let commits = count("/commits/") - run as usize;
            most = (most.0.max(count("/pages/")), most.1.max(commits), most.2.max(replayed));
        }
        assert!(most.0 <= 4 && most.1 <= 16 && most.2 < 15_000, "{writes}: {most:?}");
    }
}

/// Each image asks for a collection. While one is under way, those that are asked for are one.
#[tokio::test]
async fn collections_do_not_pile_up() {
    let (sim, _) = sim();
    let (gate, mut keeper) = Gate::before_image_lists(Arc::new(sim.clone()));
    let options = options(1).with_store(store_over(Arc::new(gate))).with_image_every(u64::MAX, 1);
    let options = options.with_retention(1, Duration::ZERO).with_auto_collect(true);
    let volume = Volume::create("sim://", options).await.unwrap();
    keeper.close();
    for round in 0..40_u8 {
        volume.fs().write("/a", [round; 1000]).await.unwrap();
        volume.commit().await.unwrap();
        yield_often().await;
    }
    keeper.stopped().await;
    let (before, closed) = (volume.metered(), volume.clone());
    keeper.open();
    closed.close().await.unwrap();
    let left = sim.paths().len();
    assert!(left < 15, "{left} objects");
    // A collection lists four kinds of objects, and twice what is above the head: the one that was held up, one that waited
    // for it, and the one at the end.
    let lists = (volume.metered() - before).of(RequestKind::List).requests;
    assert!((5..=18).contains(&lists), "{lists} lists");
}

/// Images come one after the other, and lists take a second: nine tenths of the time nothing is collected.
#[tokio::test(start_paused = true)]
async fn a_collection_rests_before_the_next() {
    let (sim, _) = sim();
    let slow = ThrottleConfig { wait_list_per_call: Duration::from_secs(1), ..ThrottleConfig::default() };
    let slow = ThrottledStore::new(sim, slow);
    let options = options(1).with_store(store_over(Arc::new(slow))).with_image_every(u64::MAX, 1);
    let options = options.with_retention(1, Duration::ZERO).with_auto_collect(true);
    let volume = Volume::create("sim://", options).await.unwrap();
    let before = volume.metered();
    for round in 0..300_u32 {
        volume.fs().write("/a", round.to_le_bytes()).await.unwrap();
        volume.commit().await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        yield_often().await;
    }
    // A collection lists seven times, and takes three seconds or more; without a rest there are 341.
    let lists = (volume.metered() - before).of(RequestKind::List).requests;
    assert!((40..=100).contains(&lists), "{lists} lists in five minutes");
}

/// A store in memory hands out parts of its objects: what is cached of one must not keep all of it when it is deleted.
#[tokio::test]
async fn what_is_cached_is_no_part_of_an_object() {
    let url = memory_url("what-is-cached");
    let volume = Volume::create(&url, options(1)).await.unwrap();
    volume.fs().write("/a", vec![7; 3_000_000]).await.unwrap();
    volume.close().await.unwrap();
    let volume = Volume::open(&url, options(2)).await.unwrap();
    let file = volume.fs().open("/a").await.unwrap();
    let pieces = file.read_pieces(0, 3_000_000).await.unwrap();
    assert_eq!(pieces.iter().map(bytes::Bytes::len).sum::<usize>(), 3_000_000);
    let store = Store::from_url(&url, StoreOptions::default()).unwrap();
    let mut objects = store.inner().list(None);
    let mut seen = 0;
    while let Some(object) = objects.next().await {
        let whole = store.inner().get(&object.unwrap().location).await.unwrap().bytes().await.unwrap();
        let range = whole.as_ptr_range();
        seen += whole.len();
        assert!(pieces.iter().all(|piece| !range.contains(&piece.as_ptr())));
    }
    assert!(seen > 3_000_000);
}

#[tokio::test]
async fn commits_are_made_while_garbage_is_collected() {
    let (sim, _) = sim();
    let (gate, mut keeper) = Gate::before_image_lists(Arc::new(sim.clone()));
    let options = options(1).with_store(store_over(Arc::new(gate))).with_image_every(u64::MAX, 2);
    let volume = Volume::create("sim://", options.with_retention(1, Duration::ZERO)).await.unwrap();
    for round in 0..20_u8 {
        volume.fs().write("/a", [round; 1000]).await.unwrap();
        volume.commit().await.unwrap();
        yield_often().await;
    }
    keeper.close();
    let collector = volume.clone();
    let collection = tokio::spawn(async move { collector.collect_garbage().await });
    keeper.stopped().await;
    volume.fs().write("/b", b"meanwhile").await.unwrap();
    let receipt = volume.checkpoint("meanwhile").await.unwrap().wait().await.unwrap();
    assert_eq!(receipt.position, volume.position());
    keeper.open();
    assert!(collection.await.unwrap().unwrap().objects > 10);
    let at = At::Checkpoint("meanwhile".to_owned());
    let at = Volume::open_read_only("sim://", self::options(2).with_store(store_on(&sim)), at).await.unwrap();
    assert_eq!(at.fs().read("/b").await.unwrap(), b"meanwhile");
    assert_eq!(at.fs().read("/a").await.unwrap(), [19; 1000]);
    at.check().await.unwrap();
}

/// What is retained is looked at once, and not again by each collection.
#[tokio::test]
async fn a_collection_asks_for_what_is_new_only() {
    let (_, store) = sim();
    let keep = |seed| {
        let options = options(seed).with_store(store.clone()).with_image_every(u64::MAX, 10);
        options.with_retention(1000, Duration::ZERO)
    };
    let gets = async |volume: &Volume| {
        let before = volume.metered();
        volume.collect_garbage().await.unwrap();
        (volume.metered() - before).of(RequestKind::Get).requests
    };
    let work = async |volume: &Volume| {
        for round in 0..100_u8 {
            volume.fs().write("/a", [round; 100]).await.unwrap();
            volume.commit().await.unwrap();
            yield_often().await;
        }
    };
    let volume = Volume::create("sim://", keep(1)).await.unwrap();
    work(&volume).await;
    let first = gets(&volume).await;
    // Of what it made itself a writer asks for nothing: only what ended the epoch before, and what was kept until then.
    assert_eq!((first, gets(&volume).await), (2, 0));
    drop(volume);
    let volume = Volume::open("sim://", keep(2)).await.unwrap();
    work(&volume).await;
    let first = gets(&volume).await;
    assert!((100..=200).contains(&first), "{first}");
    assert_eq!(gets(&volume).await, 0);
}

/// Lets background tasks go on.
async fn yield_often() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
