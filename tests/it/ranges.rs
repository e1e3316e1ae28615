//! Holes, ranges that move, bytes that files share; times of last access.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rfs::{Allocate, AtimePolicy, Clock, Errno, File, OpenOptions, Timestamp, Volume};

use crate::common::options;

async fn volume() -> Volume {
    Volume::create("memory://", options(1)).await.unwrap()
}

async fn open(volume: &Volume, path: &str, content: &[u8]) -> File {
    volume.fs().write(path, content).await.unwrap();
    OpenOptions::new().read(true).write(true).open(&volume.fs(), path).await.unwrap()
}

fn errno<T: std::fmt::Debug>(result: rfs::Result<T>) -> Errno {
    result.unwrap_err().errno().expect("a POSIX error")
}

#[tokio::test]
async fn ranges_are_punched_zeroed_taken_out_and_put_in() {
    let volume = volume().await;
    let fs = volume.fs();
    let file = open(&volume, "/f", b"0123456789").await;
    file.punch_hole(2, 2).await.unwrap();
    assert_eq!(fs.read("/f").await.unwrap(), b"01\x00\x00456789");
    assert_eq!(
        (
            file.seek_hole(0).await.unwrap(),
            file.seek_data(2).await.unwrap(),
            file.seek_hole(4).await.unwrap()
        ),
        (2, 4, 10)
    );
    assert_eq!(errno(file.seek_data(10).await), Errno::NoSuchData);
    assert_eq!(file.metadata().await.unwrap().allocated(), 8);
    assert_eq!(file.metadata().await.unwrap().blocks(), 1);
    file.collapse_range(2, 2).await.unwrap();
    assert_eq!(fs.read("/f").await.unwrap(), b"01456789");
    file.insert_range(1, 3).await.unwrap();
    assert_eq!(fs.read("/f").await.unwrap(), b"0\0\0\x001456789");
    file.zero_range(9, 4).await.unwrap();
    assert_eq!(fs.read("/f").await.unwrap(), b"0\0\0\x0014567\0\0\0\0");
    file.allocate(Allocate::KeepSize, 100, 100).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().len(), 13);
    file.allocate(Allocate::Extend, 10, 10).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().len(), 20);
    assert_eq!(errno(file.collapse_range(0, 20).await), Errno::Invalid);
    assert_eq!(errno(file.insert_range(20, 1).await), Errno::Invalid);
    assert_eq!(errno(file.punch_hole(0, 0).await), Errno::Invalid);
    assert_eq!(errno(file.insert_range(0, u64::MAX).await), Errno::TooBig);
    let reads = fs.open("/f").await.unwrap();
    assert_eq!(errno(reads.punch_hole(0, 1).await), Errno::BadHandle);
    volume.commit().await.unwrap();
    volume.check().await.unwrap();
}

#[tokio::test]
async fn the_largest_sparse_file_costs_nothing() {
    let volume = volume().await;
    let file = open(&volume, "/f", b"start").await;
    let end = i64::MAX as u64;
    file.set_len(end).await.unwrap();
    file.write_at(b"e", end - 1).await.unwrap();
    assert_eq!(errno(file.write_at(b"e", end).await), Errno::TooBig);
    assert_eq!((file.seek_hole(0).await.unwrap(), file.seek_data(5).await.unwrap()), (5, end - 1));
    assert_eq!(file.metadata().await.unwrap().allocated(), 6);
    let copy = open(&volume, "/copy", b"").await;
    assert_eq!(file.copy_range(0, &copy, 0, u64::MAX).await.unwrap(), end);
    assert_eq!(copy.metadata().await.unwrap().allocated(), 6);
    assert_eq!(copy.seek_data(5).await.unwrap(), end - 1);
    volume.check().await.unwrap();
}

#[tokio::test]
async fn copies_share_bytes_until_one_is_written_to() {
    let volume = volume().await;
    let fs = volume.fs();
    let content: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    fs.write("/big", &content).await.unwrap();
    fs.set_permissions("/big", rfs::Permissions::from_mode(0o640)).await.unwrap();
    volume.commit().await.unwrap();
    let sent = volume.metered().bytes();
    fs.clone_file("/big", "/clone").await.unwrap();
    assert_eq!(fs.copy("/big", "/copy").await.unwrap(), 1 << 20);
    volume.commit().await.unwrap();
    assert!(volume.metered().bytes() - sent < 16 << 10, "no content is sent again");
    let writer = OpenOptions::new().write(true).open(&fs, "/big").await.unwrap();
    writer.write_all_at(b"changed", 1000).await.unwrap();
    fs.remove_file("/big").await.unwrap();
    drop(writer);
    for path in ["/clone", "/copy"] {
        assert_eq!(fs.read(path).await.unwrap(), content, "{path}");
        assert_eq!(fs.metadata(path).await.unwrap().mode(), 0o640, "{path}");
    }
    assert_eq!(errno(fs.clone_file("/clone", "/copy").await), Errno::Exists);
    assert_eq!(errno(fs.copy("/copy", "/copy").await), Errno::Invalid);
    assert_eq!(errno(fs.copy("/", "/new").await), Errno::IsADirectory);
    fs.hard_link("/copy", "/same").await.unwrap();
    assert_eq!(errno(fs.copy("/copy", "/same").await), Errno::Invalid);
    assert_eq!(fs.read("/copy").await.unwrap().len(), 1 << 20);
    fs.write("/empty", b"").await.unwrap();
    assert_eq!(fs.copy("/empty", "/copy").await.unwrap(), 0);
    assert_eq!(fs.read("/copy").await.unwrap(), b"");
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_range_is_copied_between_and_within_files() {
    let volume = volume().await;
    let fs = volume.fs();
    let (from, to) = (open(&volume, "/from", b"0123456789").await, open(&volume, "/to", b"abc").await);
    assert_eq!(from.copy_range(7, &to, 2, 100).await.unwrap(), 3);
    assert_eq!(fs.read("/to").await.unwrap(), b"ab789");
    assert_eq!(from.copy_range(0, &from, 10, 5).await.unwrap(), 5);
    assert_eq!(fs.read("/from").await.unwrap(), b"012345678901234");
    assert_eq!(errno(from.copy_range(0, &from, 4, 5).await), Errno::Invalid);
    assert_eq!(from.copy_range(100, &to, 0, 5).await.unwrap(), 0);
    let reads = fs.open("/from").await.unwrap();
    assert_eq!(errno(from.copy_range(0, &reads, 0, 1).await), Errno::BadHandle);
    let appends = OpenOptions::new().append(true).open(&fs, "/to").await.unwrap();
    assert_eq!(errno(from.copy_range(0, &appends, 0, 1).await), Errno::BadHandle);
    assert_eq!(errno(appends.copy_range(0, &to, 0, 1).await), Errno::BadHandle);
    let elsewhere = Volume::create("memory://", options(2)).await.unwrap();
    let foreign = open(&elsewhere, "/f", b"").await;
    assert_eq!(errno(from.copy_range(0, &foreign, 0, 1).await), Errno::CrossVolume);
    fs.batch()
        .copy_range("/from", 0, "/to", 0, 2)
        .allocate("/to", Allocate::PunchHole, 1, 2)
        .apply()
        .await
        .unwrap();
    assert_eq!(fs.read("/to").await.unwrap(), b"0\0\x0089");
    volume.check().await.unwrap();
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Hands(AtomicI64);

const HOUR: i64 = 3600 * 1_000_000_000;

impl Hands {
    fn at_hour(&self, hour: i64) {
        self.0.store(hour * HOUR, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn reading_changes_the_time_of_access_as_the_policy_says() {
    // The hours at which a file that was written at 1 and read at 2, 3 and 40 shows as its last access.
    for (policy, hours) in [
        (AtimePolicy::Never, [1, 1, 1]),
        (AtimePolicy::Relative, [2, 2, 40]),
        (AtimePolicy::Always, [2, 3, 40]),
    ] {
        let clock = Arc::new(Hands(AtomicI64::new(0)));
        let options = options(1).with_clock(Arc::clone(&clock) as Arc<dyn Clock>).with_atime(policy);
        let volume = Volume::create("memory://", options).await.unwrap();
        let fs = volume.fs();
        clock.at_hour(1);
        fs.write("/f", b"content").await.unwrap();
        fs.create_dir("/d").await.unwrap();
        fs.symlink("f", "/s").await.unwrap();
        for (read, shown) in [2, 3, 40].into_iter().zip(hours) {
            clock.at_hour(read);
            fs.read("/f").await.unwrap();
            fs.read_dir("/d").await.unwrap().next_entry().await.unwrap();
            fs.read_link("/s").await.unwrap();
            for path in ["/f", "/d", "/s"] {
                let times = fs.symlink_metadata(path).await.unwrap().attr().times;
                assert_eq!(times.accessed.as_nanos() / HOUR, shown, "{policy:?} {path} read at {read}");
                assert_eq!((times.modified.as_nanos() / HOUR, times.changed.as_nanos() / HOUR), (1, 1));
            }
        }
        let before = volume.position();
        fs.read("/f").await.unwrap();
        assert_eq!(volume.position(), before, "the time of last access is this hour already");
        volume.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_volume_open_for_reading_keeps_its_times() {
    let url = crate::common::memory_url("atime-read-only");
    let volume = Volume::create(&url, options(1)).await.unwrap();
    volume.fs().write("/f", b"content").await.unwrap();
    volume.close().await.unwrap();
    let options = options(2).with_atime(AtimePolicy::Always);
    let reader = Volume::open_read_only(&url, options, rfs::At::Head).await.unwrap();
    let before = reader.fs().metadata("/f").await.unwrap();
    assert_eq!(reader.fs().read("/f").await.unwrap(), b"content");
    assert_eq!(reader.fs().metadata("/f").await.unwrap(), before);
}
