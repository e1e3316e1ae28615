//! Sizes, holes and lengths at their limits.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::common::with_mount;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_2_to_the_63_bytes_costs_nothing() {
    with_mount(|mounted| {
        let file =
            File::options().read(true).write(true).create_new(true).open(mounted.path("file")).unwrap();
        for size in [1_000_000_000_000_000, i64::MAX as u64] {
            file.set_len(size).unwrap();
            assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().blocks()), (size, 0));
        }
        let end = i64::MAX as u64 - 5;
        let mut last = [1_u8; 5];
        assert_eq!(file.read_at(&mut last, end).unwrap(), 5);
        assert_eq!(last, [0; 5]);
        file.write_all_at(b"end", end + 2).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.read_at(&mut last, end).unwrap(), 5);
        assert_eq!(&last, b"\0\0end");
        assert_eq!(file.write_at(b"past", i64::MAX as u64 - 1).unwrap_err().raw_os_error(), Some(22));
        assert_eq!(file.metadata().unwrap().len(), i64::MAX as u64);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_found_punched_and_counted() {
    with_mount(|mounted| {
        let file =
            File::options().read(true).write(true).create_new(true).open(mounted.path("file")).unwrap();
        file.write_all_at(&vec![7; 65_536], 1 << 20).unwrap();
        file.set_len(8 << 20).unwrap();
        file.sync_all().unwrap();
        let data = |from| seek(&file, SeekFrom::Data(from));
        let hole = |from| seek(&file, SeekFrom::Hole(from));
        assert_eq!((data(0), hole(1 << 20)), (Ok(1 << 20), Ok((1 << 20) + 65_536)));
        assert_eq!(data((1 << 20) + 65_536), Err(Errno::NXIO));
        assert_eq!(data(8 << 20), Err(Errno::NXIO));
        assert_eq!(file.metadata().unwrap().blocks(), 128);
        let hole_flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, hole_flags, 1 << 20, 32_768).unwrap();
        assert_eq!(data(0), Ok((1 << 20) + 32_768));
        assert_eq!(file.metadata().unwrap().blocks(), 64);
        let mut start = vec![1_u8; 40_000];
        file.read_exact_at(&mut start, 1 << 20).unwrap();
        assert!(
            start[..32_768].iter().all(|byte| *byte == 0) && start[32_768..].iter().all(|byte| *byte == 7)
        );
        fallocate(&file, FallocateFlags::ZERO_RANGE, 8 << 20, 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (8 << 20) + 4096);
        fallocate(&file, FallocateFlags::empty(), 0, 9 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 9 << 20);
        fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 99 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 9 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_and_not_synced_is_data_for_a_seek() {
    with_mount(|mounted| {
        let file =
            File::options().read(true).write(true).create_new(true).open(mounted.path("file")).unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"written", 500_000).unwrap();
        let found = seek(&file, SeekFrom::Data(0)).unwrap();
        assert!(found <= 500_000 && found + 8192 > 500_000, "{found}");
        file.write_all_at(b"past the end", 2 << 20).unwrap();
        assert_eq!(seek(&file, SeekFrom::Data(1 << 20)), Ok(2 << 20));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_copied() {
    with_mount(|mounted| {
        let content: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
        fs::write(mounted.path("from"), &content).unwrap();
        let (from, to) =
            (File::open(mounted.path("from")).unwrap(), File::create(mounted.path("to")).unwrap());
        let (mut read, mut written) = (1_000, 0);
        while rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut written), 9_000_000).unwrap()
            > 0
        {}
        assert_eq!(fs::read(mounted.path("to")).unwrap(), content[1_000..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_the_sizes_of_the_volume() {
    with_mount(|mounted| {
        fs::write(mounted.path(&"n".repeat(255)), "").unwrap();
        assert_eq!(fs::write(mounted.path(&"n".repeat(256)), "").unwrap_err().raw_os_error(), Some(36));
        let stat = rustix::fs::statvfs(mounted.path("")).unwrap();
        assert_eq!((stat.f_namemax, stat.f_frsize, stat.f_bsize), (255, 4096, 4096));
        assert!(stat.f_bfree > 0 && stat.f_ffree > 0 && stat.f_bavail == stat.f_bfree);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_comes_back_as_it_was_written() {
    with_mount(|mounted| {
        let content: Vec<u8> =
            (0..20_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(mounted.path("file"), &content).unwrap();
        // Past the kernel's cache.
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let options = &mut File::options();
        let mut file = std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), direct)
            .open(mounted.path("file"))
            .unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert!(read == content);
        assert!(fs::read(mounted.path("file")).unwrap() == content);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_direct_append_stays_in_order() {
    const PIECE: usize = 1 << 20;
    with_mount(|mounted| {
        let path = mounted.path("log");
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let mut log = File::options().append(true).create(true).custom_flags(direct).open(&path).unwrap();
        let pieces: Vec<u8> = (0..16_u8).flat_map(|piece| vec![piece; PIECE]).collect();
        for _ in 0..5 {
            log.write_all(&pieces).unwrap();
        }
        let written = fs::read(&path).unwrap();
        assert_eq!(written.len(), 5 * pieces.len());
        for (number, piece) in written.chunks(PIECE).enumerate() {
            assert!(piece.iter().all(|byte| usize::from(*byte) == number % 16), "piece {number}");
        }
    })
    .await;
}
