//! Promise 3: two writers never both commit, on each kind of store.

use std::sync::Arc;
use std::time::Duration;

use rfs::{At, ErrorKind, Options, Store, Volume};

use crate::common::{Place, listing, on_each_store};
use crate::gate::{Gate, Keeper};

on_each_store! {
    the_first_writers_next_commit_is_fenced
    a_writer_that_slept_before_its_put_is_fenced
    a_writer_that_slept_through_collection_is_fenced
    an_opener_that_slept_before_its_fence_owns_nothing_by_it
    of_many_openers_one_owns_the_volume
}

fn on(place: &Place, seed: u64) -> Options {
    place.on(seed).with_retention(1, Duration::ZERO).with_image_every(u64::MAX, 2)
}

async fn open(place: &Place, seed: u64) -> Volume {
    Volume::open_or_create(&place.url, on(place, seed)).await.unwrap()
}

/// Options of a writer whose commits and fences can be stopped before they take effect.
fn gated(place: &Place, seed: u64) -> (Options, Keeper) {
    let plain = Store::from_url(&place.url, place.options.clone()).unwrap();
    let (gate, keeper) = Gate::before(Arc::clone(plain.inner()));
    let patient = place.options.clone().with_deadline(Duration::from_secs(600));
    let patient = patient.with_attempt_timeout(Duration::from_secs(600));
    let store = Store::new(Arc::new(gate), &place.url, plain.prefix().clone(), patient);
    (on(place, seed).with_store(store), keeper)
}

async fn open_gated(place: &Place, seed: u64) -> (Volume, Keeper) {
    let (options, keeper) = gated(place, seed);
    (Volume::open_or_create(&place.url, options).await.unwrap(), keeper)
}

async fn fenced(volume: &Volume) {
    let error = volume.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    dead(volume).await;
}

async fn dead(volume: &Volume) {
    for error in [
        volume.fs().write("/more", b"").await.unwrap_err(),
        volume.fs().read("/a").await.unwrap_err(),
        volume.commit().await.unwrap_err(),
        volume.checkpoint("more").await.unwrap_err(),
        volume.collect_garbage().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    }
}

/// What every later reader and writer finds.
async fn holds(place: &Place, expected: &[(&str, &str)]) {
    let at = Volume::open_read_only(&place.url, on(place, 90), At::Head).await.unwrap();
    let writer = open(place, 91).await;
    for volume in [at, writer] {
        for (path, content) in expected {
            assert_eq!(volume.fs().read_to_string(path).await.unwrap(), *content);
        }
        assert_eq!(listing(&volume).await.len(), expected.len());
        volume.check().await.unwrap();
    }
}

/// Commits, and goes on until the number of that commit is collected, however long the images in the background take.
/// Returns what the file at the path has in the end.
async fn commit_until_collected(volume: &Volume, path: &str) -> String {
    let mut content = "round 0".to_owned();
    volume.fs().write(path, &content).await.unwrap();
    let first = volume.commit().await.unwrap().commit;
    for round in 1.. {
        match volume.metadata_of(first).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NoSuchState => break,
            Err(error) => panic!("{error}"),
        }
        content = format!("round {round}");
        volume.fs().write(path, &content).await.unwrap();
        volume.commit().await.unwrap();
        volume.collect_garbage().await.unwrap();
    }
    content
}

async fn the_first_writers_next_commit_is_fenced(place: Place) {
    let first = open(&place, 1).await;
    first.fs().write("/a", b"committed").await.unwrap();
    first.commit().await.unwrap();
    first.fs().write("/lost", b"never committed").await.unwrap();
    let second = open(&place, 2).await;
    assert_eq!(second.open_report().unwrap().epoch, first.open_report().unwrap().epoch + 1);
    first.fs().write("/late", b"after the epoch was lost").await.unwrap();
    fenced(&first).await;
    second.fs().write("/b", b"second's").await.unwrap();
    second.commit().await.unwrap();
    drop((first, second));
    holds(&place, &[("/a", "committed"), ("/b", "second's")]).await;
}

async fn a_writer_that_slept_before_its_put_is_fenced(place: Place) {
    let (first, mut keeper) = open_gated(&place, 1).await;
    first.fs().write("/a", b"committed").await.unwrap();
    first.commit().await.unwrap();
    first.fs().write("/late", b"sent too late").await.unwrap();
    keeper.close();
    let mut commit = first.checkpoint("late").await.unwrap();
    keeper.stopped().await;
    let second = open(&place, 2).await;
    second.fs().write("/b", b"second's").await.unwrap();
    second.commit().await.unwrap();
    keeper.open();
    assert_eq!(commit.wait().await.unwrap_err().kind(), ErrorKind::Fenced);
    dead(&first).await;
    drop((first, second));
    holds(&place, &[("/a", "committed"), ("/b", "second's")]).await;
}

async fn a_writer_that_slept_through_collection_is_fenced(place: Place) {
    let (first, mut keeper) = open_gated(&place, 1).await;
    for round in 0..5 {
        first.fs().write("/a", format!("round {round}")).await.unwrap();
        first.commit().await.unwrap();
    }
    first.fs().write("/late", b"sent too late").await.unwrap();
    keeper.close();
    let mut commit = first.checkpoint("late").await.unwrap();
    keeper.stopped().await;
    let second = open(&place, 2).await;
    let last = commit_until_collected(&second, "/b").await;
    let third = open(&place, 3).await;
    third.fs().write("/c", b"third's").await.unwrap();
    third.commit().await.unwrap();
    third.collect_garbage().await.unwrap();
    keeper.open();
    assert_eq!(commit.wait().await.unwrap_err().kind(), ErrorKind::Fenced);
    dead(&first).await;
    assert_eq!(second.collect_garbage().await.unwrap_err().kind(), ErrorKind::Fenced);
    dead(&second).await;
    drop((first, second, third));
    holds(&place, &[("/a", "round 4"), ("/b", &last), ("/c", "third's")]).await;
}

/// An opener lists, sleeps, and puts its fence into a number that was committed and collected meanwhile.
async fn an_opener_that_slept_before_its_fence_owns_nothing_by_it(place: Place) {
    let owner = open(&place, 1).await;
    owner.fs().write("/a", b"before").await.unwrap();
    owner.commit().await.unwrap();
    let (options, mut keeper) = gated(&place, 2);
    keeper.close();
    let url = place.url.clone();
    let opener = tokio::spawn(async move { Volume::open(&url, options).await });
    keeper.stopped().await;
    let last = commit_until_collected(&owner, "/a").await;
    keeper.open();
    let opener = opener.await.unwrap().unwrap();
    assert_eq!(opener.fs().read_to_string("/a").await.unwrap(), last);
    owner.fs().write("/late", b"after the epoch was lost").await.unwrap();
    fenced(&owner).await;
    opener.fs().write("/b", b"opener's").await.unwrap();
    opener.commit().await.unwrap();
    drop((owner, opener));
    holds(&place, &[("/a", &last), ("/b", "opener's")]).await;
}

async fn of_many_openers_one_owns_the_volume(place: Place) {
    drop(open(&place, 1).await);
    let openers = (10..16).map(|seed| {
        let place = place.clone();
        tokio::spawn(async move { Volume::open(&place.url, on(&place, seed)).await })
    });
    let mut owners = Vec::new();
    for opener in openers.collect::<Vec<_>>() {
        owners.push(opener.await.unwrap().unwrap());
    }
    owners.sort_by_key(|volume| volume.open_report().unwrap().epoch);
    let epochs: Vec<u64> = owners.iter().map(|volume| volume.open_report().unwrap().epoch).collect();
    assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{epochs:?}");
    for (number, volume) in owners.iter().enumerate() {
        volume.fs().write("/owner", number.to_string()).await.unwrap();
        assert_eq!(volume.commit().await.is_ok(), number == owners.len() - 1);
    }
    drop(owners);
    holds(&place, &[("/owner", "5")]).await;
}
