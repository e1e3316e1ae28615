//! Volumes whose segments are compressed, or only some of them.

use std::time::Duration;

use object_store::{ObjectStoreExt, path::Path};
use rfs::backends::is_compressed;
use rfs::{At, CheckOptions, Compression, Options, RepairOptions, Volume};
use rfs_testkit::Rng;

use crate::common::{Place, listing};

fn on(place: &Place, seed: u64, compression: Compression) -> Options {
    place
        .on(seed)
        .with_compression(compression)
        .with_inline_bytes(0)
        .with_cut(60_000, 300_000)
        .with_retention(1, Duration::ZERO)
        .with_image_every(1 << 20, 3)
}

/// Text, and in each third file what does not compress.
fn content(number: u32) -> Vec<u8> {
    let mut content = format!("file {number} has lines, and all are the same\n").repeat(5_000).into_bytes();
    if number.is_multiple_of(3) {
        let mut rng = Rng::new(u64::from(number));
        let noise: Vec<u8> = (0..25_000).flat_map(|_| rng.next().to_le_bytes()).collect();
        content.splice(50_000..50_000, noise);
    }
    content
}

/// Each round is written by another writer, compressed or not.
async fn filled(place: &Place) -> Volume {
    Volume::create(&place.url, on(place, 0, Compression::None)).await.unwrap().close().await.unwrap();
    let mut number = 0;
    for (seed, compression) in
        [(1, Compression::Zstd), (2, Compression::None), (3, Compression::Zstd), (4, Compression::Zstd)]
    {
        let volume = Volume::open(&place.url, on(place, seed, compression)).await.unwrap();
        for _ in 0..5 {
            volume.fs().write(format!("/f{number}"), content(number)).await.unwrap();
            number += 1;
        }
        volume.checkpoint(&format!("round {seed}")).await.unwrap().wait().await.unwrap();
        if seed == 4 {
            return volume;
        }
        volume.close().await.unwrap();
    }
    unreachable!("the last round returns")
}

async fn has_all(volume: &Volume) {
    for number in 0..20 {
        let wanted = content(number);
        let path = format!("/f{number}");
        assert_eq!(volume.fs().read(&path).await.unwrap(), wanted, "{path}");
        let file = volume.fs().open(&path).await.unwrap();
        for at in [0, 49_990, 65_530, 150_000, wanted.len() as u64 - 3] {
            let mut got = [0; 40];
            let len = file.read_at(&mut got, at).await.unwrap();
            let wanted = &wanted[at as usize..wanted.len().min(at as usize + 40)];
            assert_eq!(got[..len], *wanted, "{path} at {at}");
        }
    }
}

#[tokio::test]
async fn volumes_may_be_compressed_in_parts() {
    let place = Place::memory("volumes_may_be_compressed_in_parts");
    let volume = filled(&place).await;
    let objects = place.store().list("", None).await.unwrap();
    let (compressed, plain): (Vec<_>, Vec<_>) = objects
        .iter()
        .filter(|object| object.key.contains("/segments/"))
        .partition(|object| is_compressed(&object.key));
    assert!(compressed.len() >= 3 && !plain.is_empty(), "{objects:?}");
    let bytes =
        |objects: &[&rfs::backends::ObjectInfo]| objects.iter().map(|object| object.size).sum::<u64>();
    assert!(bytes(&compressed) < 1_800_000, "fifteen files of which five have 200,000 bytes of noise");
    has_all(&volume).await;
    let before = listing(&volume).await;
    volume.close().await.unwrap();

    let volume =
        Volume::open_read_only(&place.url, on(&place, 9, Compression::None), At::Head).await.unwrap();
    has_all(&volume).await;
    assert_eq!(listing(&volume).await, before);
    let report =
        rfs::check(&place.url, on(&place, 10, Compression::None), CheckOptions::new().with_deep(true));
    let report = report.await.unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

#[tokio::test]
async fn compressed_segments_are_forked_copied_gone_back_to_and_compacted() {
    let place = Place::memory("compressed_segments_are_forked_copied_gone_back_to_and_compacted");
    let volume = filled(&place).await;
    let fork_place = place.at(format!("{}-fork", place.url));
    volume.fork(&fork_place.url, &At::Head).await.unwrap();
    let fork = Volume::open(&fork_place.url, on(&fork_place, 11, Compression::None)).await.unwrap();
    has_all(&fork).await;
    fork.detach().await.unwrap();
    fork.close().await.unwrap();

    volume.rewind(&At::Checkpoint("round 1".to_owned())).await.unwrap();
    assert!(volume.fs().metadata("/f4").await.is_ok() && volume.fs().metadata("/f5").await.is_err());
    volume.rewind(&At::Checkpoint("round 4".to_owned())).await.unwrap();
    for round in 1..=4 {
        volume.drop_checkpoint(&format!("round {round}")).await.unwrap();
    }
    for number in 0..20 {
        if number % 2 == 1 {
            volume.fs().remove_file(format!("/f{number}")).await.unwrap();
        }
    }
    volume.commit().await.unwrap();
    volume.compact().await.unwrap();
    volume.commit().await.unwrap();
    volume.collect_garbage().await.unwrap();
    let usage = volume.usage().await.unwrap();
    assert!(usage.live_bytes > 0);
    volume.close().await.unwrap();
    let volume = Volume::open(&place.url, on(&place, 12, Compression::Zstd)).await.unwrap();
    for number in (0..20).step_by(2) {
        assert_eq!(volume.fs().read(format!("/f{number}")).await.unwrap(), content(number));
    }
    let report =
        rfs::check(&place.url, on(&place, 13, Compression::None), CheckOptions::new().with_deep(true));
    let report = report.await.unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);

    let fork = Volume::open(&fork_place.url, on(&fork_place, 14, Compression::None)).await.unwrap();
    has_all(&fork).await;
}

#[tokio::test]
async fn damage_of_a_compressed_segment_is_found() {
    let place = Place::memory("damage_of_a_compressed_segment_is_found");
    filled(&place).await.close().await.unwrap();
    let store = place.store();
    let objects = store.list("", None).await.unwrap();
    let damaged = objects.iter().find(|object| is_compressed(&object.key)).unwrap();
    let path = Path::from(damaged.key.as_str());
    let mut bytes = store.inner().get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[5_000] ^= 1;
    store.inner().put(&path, bytes.into()).await.unwrap();
    let options = on(&place, 20, Compression::None);
    let report = rfs::check(&place.url, options, CheckOptions::new().with_deep(true)).await.unwrap();
    let found = &report.findings[0];
    assert_eq!(found.key, damaged.key, "{:?}", report.findings);
    assert!(found.what.contains("block"), "{found:?}");

    let options = on(&place, 21, Compression::None);
    rfs::repair(&place.url, options, RepairOptions::new()).await.unwrap();
    let volume =
        Volume::open_read_only(&place.url, on(&place, 22, Compression::None), At::Head).await.unwrap();
    assert_eq!(volume.fs().read("/f19").await.unwrap(), content(19));
    has_lost_one(&volume).await;
}

/// All files are there but one, and of that one what stands in other blocks than the damaged one.
async fn has_lost_one(volume: &Volume) {
    let mut lost = Vec::new();
    for number in 0..20 {
        let path = format!("/f{number}");
        match volume.fs().read(&path).await {
            Ok(found) => assert_eq!(found, content(number), "{path}"),
            Err(error) => lost.push((path, error)),
        }
    }
    let [(path, _)] = lost.as_slice() else { panic!("of one file there is a damaged block: {lost:?}") };
    let file = volume.fs().open(path).await.unwrap();
    let len = content(0).len() as u64;
    let mut read = 0;
    for at in (0..len).step_by(1 << 10) {
        read += u64::from(file.read_at(&mut [0; 100], at).await.is_ok());
    }
    assert!(read > 20, "{read} of {} KiB of {path} can be read", len >> 10);
}

#[tokio::test]
async fn damage_of_a_sealed_segment_costs_its_block() {
    let place = Place::encrypted("damage_of_a_sealed_segment_costs_its_block");
    filled(&place).await.close().await.unwrap();
    let store = place.store();
    let segments = store.list("", None).await.unwrap().into_iter();
    let mut segments = segments.filter(|object| object.key.contains("/segments/"));
    let damaged = segments.find(|object| is_compressed(&object.key)).unwrap();
    let path = Path::from(damaged.key.as_str());
    let mut bytes = store.inner().get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    // The second block: with the first one, what tells where the compressed blocks are would be lost.
    bytes[80_000] ^= 1;
    store.inner().put(&path, bytes.into()).await.unwrap();
    rfs::repair(&place.url, on(&place, 21, Compression::None), RepairOptions::new()).await.unwrap();
    let volume =
        Volume::open_read_only(&place.url, on(&place, 22, Compression::None), At::Head).await.unwrap();
    has_lost_one(&volume).await;
}
