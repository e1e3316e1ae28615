//! The whole way on each kind of store.

use std::time::Duration;

use rfs::backends::RequestKind;
use rfs::{At, ErrorKind, Options, Volume};

use crate::commits::one_put_per_commit;
use crate::common::{Place, listing, on_each_store, options};

on_each_store! {
    a_small_commit_costs_one_put
    a_volume_lives_through_many_machines
    large_files_go_up_in_parts_and_come_back
    an_existing_volume_is_not_made_again
}

fn on(place: &Place, seed: u64) -> Options {
    options(seed).with_store_options(place.options.clone())
}

async fn a_small_commit_costs_one_put(place: Place) {
    let volume = Volume::create(&place.url, on(&place, 1)).await.unwrap();
    one_put_per_commit(&volume).await;
}

/// A9, A12: each machine finds what the one before committed, with nothing but the URL.
async fn a_volume_lives_through_many_machines(place: Place) {
    let mut expected = Vec::new();
    let mut hash = None;
    for machine in 0..6_u8 {
        let dir = tempfile::tempdir().unwrap();
        let options = on(&place, u64::from(machine)).with_local_dir(dir.path()).with_image_every(1 << 20, 4);
        let options = options.with_retention(2, Duration::ZERO);
        let volume = Volume::open_or_create(&place.url, options).await.unwrap();
        assert_eq!(listing(&volume).await, expected, "machine {machine}");
        let found = volume.state_hash().await.unwrap();
        assert!(hash.is_none_or(|hash| hash == found));
        let fs = volume.fs();
        for step in 0..4_u8 {
            fs.create_dir_all(format!("/m{machine}/s{step}")).await.unwrap();
            fs.write(format!("/m{machine}/s{step}/f"), vec![machine; 5000 * usize::from(step)])
                .await
                .unwrap();
            if machine > 0 {
                let (from, to) = (format!("/m{}/s{step}/f", machine - 1), format!("/m{machine}/s{step}/old"));
                fs.rename(from, to).await.unwrap();
            }
            volume.commit().await.unwrap();
        }
        volume.collect_garbage().await.unwrap();
        let file = fs.open(format!("/m{machine}/s3/f")).await.unwrap();
        file.sync_all().await.unwrap();
        expected = listing(&volume).await;
        hash = Some(volume.state_hash().await.unwrap());
        drop((file, fs));
        if machine % 2 == 0 {
            volume.close().await.unwrap();
        }
        // Otherwise the machine is just gone, its local directory with it.
    }
    let reader = Volume::open_read_only(&place.url, on(&place, 99), At::Head).await.unwrap();
    assert_eq!(listing(&reader).await, expected);
}

async fn large_files_go_up_in_parts_and_come_back(place: Place) {
    let large = |seed| on(&place, seed).with_cut(256 << 10, 12 << 20);
    let volume = Volume::create(&place.url, large(1)).await.unwrap();
    let content: Vec<u8> = (0..30_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let before = volume.metered();
    volume.fs().write("/big", &content).await.unwrap();
    volume.commit().await.unwrap();
    let sent = volume.metered() - before;
    assert!(sent.of(RequestKind::Multipart).requests > 0, "{sent}");
    drop(volume);
    let volume = Volume::open(&place.url, large(2)).await.unwrap();
    assert!(volume.fs().read("/big").await.unwrap() == content);
}

async fn an_existing_volume_is_not_made_again(place: Place) {
    let none = Volume::open(&place.url, on(&place, 1)).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NoVolume, "{none}");
    let volume = Volume::create(&place.url, on(&place, 1)).await.unwrap();
    volume.fs().write("/a", b"1").await.unwrap();
    let error = Volume::create(&place.url, on(&place, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    volume.commit().await.unwrap();
}
