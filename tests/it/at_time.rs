//! Opening a volume as it stood at a time.

use std::sync::Arc;

use rfs::backends::RequestKind;
use rfs::{At, ErrorKind, Timestamp, Volume};
use rfs_testkit::ManualClock;

use crate::common::{TestClock, options, sim};

const SECOND: i64 = 1_000_000_000;

fn at(second: i64) -> At {
    At::Time(Timestamp::from_nanos(second * SECOND))
}

#[tokio::test]
async fn the_newest_commit_by_then_is_found_by_halves() {
    let (_, store) = sim();
    let clock = ManualClock::new(100 * SECOND);
    let of = |seed| options(seed).with_store(store.clone()).with_clock(Arc::new(TestClock(clock.clone())));
    // Commits at 110, 120, ..., by two writers, so that the end of an epoch is among them.
    let mut volume = Volume::create("sim://", of(1)).await.unwrap();
    for number in 11..75 {
        clock.advance(10 * SECOND);
        volume.fs().write("/number", number.to_string()).await.unwrap();
        volume.commit().await.unwrap();
        if number == 40 {
            volume.close().await.unwrap();
            clock.advance(SECOND);
            volume = Volume::open("sim://", of(2)).await.unwrap();
            clock.advance(-SECOND);
        }
    }
    drop(volume);
    let read = async |second| {
        let volume = Volume::open_read_only("sim://", of(3), at(second)).await?;
        volume.fs().read_to_string("/number").await
    };
    for (second, number) in
        [(110, "11"), (119, "11"), (120, "12"), (405, "40"), (410, "41"), (740, "74"), (9999, "74")]
    {
        assert_eq!(read(second).await.unwrap(), number, "{second}");
    }
    let error = read(109).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchState);

    let asked = |volume: &Volume| volume.metered().of(RequestKind::Get).requests;
    let before = store.meter().snapshot().of(RequestKind::Get).requests;
    let by_time = Volume::open_read_only("sim://", of(4), at(111)).await.unwrap();
    let by_time = asked(&by_time) - before;
    let first = At::Commit(rfs::CommitId { epoch: 1, number: 0 });
    let before = store.meter().snapshot().of(RequestKind::Get).requests;
    let by_number = Volume::open_read_only("sim://", of(5), first).await.unwrap();
    let by_number = asked(&by_number) - before;
    assert!((1..=7).contains(&(by_time - by_number)), "{by_time} and {by_number} gets, for 66 entries");
}

#[tokio::test]
async fn a_clock_that_went_back_hides_no_commit_that_was_made_in_time() {
    let (_, store) = sim();
    let clock = ManualClock::new(0);
    let of = |seed| options(seed).with_store(store.clone()).with_clock(Arc::new(TestClock(clock.clone())));
    for (seed, time) in [(1, 100), (2, 300), (3, 200), (4, 250)] {
        clock.advance(time * SECOND - clock.now_nanos());
        let volume = Volume::open_or_create("sim://", of(seed)).await.unwrap();
        volume.fs().write("/time", time.to_string()).await.unwrap();
        volume.close().await.unwrap();
    }
    for wanted in [100, 150, 200, 225, 250, 300, 400] {
        let volume = Volume::open_read_only("sim://", of(9), at(wanted)).await.unwrap();
        let found: i64 = volume.fs().read_to_string("/time").await.unwrap().parse().unwrap();
        let possible: &[i64] = match wanted {
            100 | 150 => &[100],
            200 | 225 => &[100, 200],
            250 => &[100, 250],
            _ => &[250],
        };
        assert!(possible.contains(&found), "{found} at {wanted}");
    }
    let none = Volume::open_read_only("sim://", of(9), at(99)).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::NoSuchState);
}
