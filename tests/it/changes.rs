//! The journal between two states.

use rfs::{At, Change, ErrorKind, Lsn, Objects, Record, Store, Volume};

use crate::common::{options, sim};

async fn all(volume: &Volume, after: Lsn, up_to: Lsn) -> rfs::Result<Vec<Record>> {
    let mut changes = volume.changes(after, up_to)?;
    let mut all = Vec::new();
    while let Some(record) = changes.next().await? {
        all.push(record);
    }
    Ok(all)
}

async fn filled(store: &Store, seed: u64) -> Volume {
    let options = options(seed).with_store(store.clone()).with_inline_bytes(200).with_cut(300, 1000);
    let volume = Volume::create("sim://", options).await.unwrap();
    for number in 0..30_usize {
        for part in 0..number % 7 {
            // Large ones are in segments whose footers repeat the Changes.
            volume.fs().write(format!("/{number}"), vec![7; number * part * 40]).await.unwrap();
        }
        volume.checkpoint(&format!("{number}")).await.unwrap().wait().await.unwrap();
    }
    volume
}

#[tokio::test]
async fn all_that_was_done_between_two_states_is_told_in_order() {
    for seed in [1, 2] {
        let (_, store) = sim();
        let volume = filled(&store, seed).await;
        let whole = all(&volume, Lsn(0), volume.position()).await.unwrap();
        let numbers: Vec<u64> = whole.iter().map(|record| record.lsn.0).collect();
        assert_eq!(numbers, (1..=volume.position().0).collect::<Vec<_>>());
        assert!(matches!(whole.last().unwrap().change, Change::AddCheckpoint { .. }));
        let end = volume.position().0;
        for (after, up_to) in [(0, 1), (3, 3), (5, 6), (1, end - 1), (end / 2, end), (end, end)] {
            let part = all(&volume, Lsn(after), Lsn(up_to)).await.unwrap();
            assert_eq!(part, whole[after as usize..up_to as usize], "{after} to {up_to}");
        }
        // Between two checkpoints, by who only reads, and only the segments between.
        let of = async |name: &str| {
            let at = At::Checkpoint(name.to_owned());
            Volume::open_read_only("sim://", options(seed).with_store(store.clone()), at).await.unwrap()
        };
        let (from, to) = (of("19").await.position(), of("20").await);
        let gets = |volume: &Volume| volume.metered().of(rfs::backends::RequestKind::Get).requests;
        let before = gets(&to);
        let part = all(&to, from, to.position()).await.unwrap();
        assert_eq!(part, whole[from.0 as usize..to.position().0 as usize]);
        let segments = part.len() as u64;
        assert!(gets(&to) - before <= 2 * segments + 2, "{} gets", gets(&to) - before);

        let wrong = volume.changes(Lsn(5), Lsn(4)).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Invalid);
        volume.fs().write("/new", b"not committed").await.unwrap();
        let early = volume.changes(Lsn(5), volume.position()).unwrap_err();
        assert!(early.kind() == ErrorKind::Invalid && early.to_string().contains("commit"), "{early}");
        volume.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_collected_is_said_to_be() {
    let (_, store) = sim();
    let volume = filled(&store, 1).await;
    for number in 0..29 {
        volume.drop_checkpoint(&format!("{number}")).await.unwrap();
    }
    for number in 0..30 {
        volume.fs().write(format!("/{number}"), b"").await.unwrap();
    }
    volume.close().await.unwrap();
    let keep_little = || {
        let options = options(1).with_store(store.clone()).with_image_every(u64::MAX, 2);
        options.with_retention(1, std::time::Duration::ZERO)
    };
    // The journal since the image of what is kept stays.
    for number in 0..3 {
        let volume = Volume::open("sim://", keep_little()).await.unwrap();
        for commit in 0..4_u8 {
            volume.fs().write(format!("/{number}"), [commit]).await.unwrap();
            volume.commit().await.unwrap();
        }
        volume.close().await.unwrap();
    }
    let volume = Volume::open("sim://", keep_little()).await.unwrap();
    let collected = volume.collect_garbage().await.unwrap();
    assert!(collected.objects > 5, "{collected:?}");
    let gone = all(&volume, Lsn(0), volume.position()).await.unwrap_err();
    assert!(gone.kind() == ErrorKind::NoSuchState && gone.to_string().contains("after position"), "{gone}");
    let objects = Objects::open("sim://", keep_little()).await.unwrap();
    let kept = objects.log(Some(2)).await.unwrap();
    let last = kept.iter().find_map(|entry| entry.commit.as_ref()).unwrap();
    let told = all(&volume, last.base, last.end).await.unwrap();
    assert_eq!(told.len() as u64, last.end.0 - last.base.0);
    volume.close().await.unwrap();
}
