//! What has no name any more, and is still used.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rfs_mount::MountOptions;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::common::{Mounted, has_fuse, wait, with_mount};

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_file_lives_until_it_is_closed() {
    with_mount(|mounted| {
        let path = mounted.path("file");
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(b"before").unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b" after").unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after");
        file.set_len(3).unwrap();
        file.sync_all().unwrap();
        assert_eq!(
            mounted.volume.inodes().stat_fs().inodes_free + 2,
            mounted.volume.inodes().stat_fs().inodes
        );
        // Another of that name is another file.
        fs::write(&path, "new").unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), file.metadata().unwrap().ino());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_working_directory_still_has_attributes() {
    with_mount(|mounted| {
        let dir = mounted.path("dir");
        fs::create_dir(&dir).unwrap();
        let script = "rmdir \"$PWD\" && stat -c %h . && { ls -a . | wc -l; } && ! touch new 2>/dev/null && chmod 700 .";
        let output = Command::new("sh").args(["-c", script]).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n0\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_pipe_still_has_attributes() {
    with_mount(|mounted| {
        let path = mounted.path("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        // Reading and writing, so that the open does not wait for the other side.
        let pipe = File::options().read(true).write(true).open(&path).unwrap();
        let bare = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let before = pipe.metadata().unwrap();
        fs::remove_file(&path).unwrap();
        let after = pipe.metadata().unwrap();
        assert_eq!((after.ino(), after.nlink(), after.mode()), (before.ino(), 0, before.mode()));
        rustix::fs::fchmod(&pipe, Mode::from_raw_mode(0o644)).unwrap();
        assert_eq!(rustix::fs::fstat(&bare).unwrap().st_mode & 0o7777, 0o644);
        assert!(after.ctime_nsec() != before.ctime_nsec() || after.ctime() != before.ctime());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_after_unmounting() {
    if !has_fuse() {
        return;
    }
    let mut mounted = Mounted::new(MountOptions::new()).await;
    tokio::task::block_in_place(|| {
        let mut file = File::create_new(mounted.path("file")).unwrap();
        file.write_all(b"x").unwrap();
        fs::remove_file(mounted.path("file")).unwrap();
        assert_eq!(mounted.volume.held_files().len(), 1);
        let volume = mounted.unmount();
        assert_eq!(volume.held_files(), []);
        assert_eq!(file.write(b"y").unwrap_err().raw_os_error(), Some(107), "ENOTCONN");
        wait(volume.check()).unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_a_file_that_is_being_replaced_gets_the_old_or_the_new_one() {
    with_mount(|mounted| {
        let (file, other) = (mounted.path("file"), mounted.path("other"));
        fs::write(&file, "0").unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for number in 1..=3_000 {
                    fs::write(&other, number.to_string()).unwrap();
                    fs::rename(&other, &file).unwrap();
                }
                ended.store(true, std::sync::atomic::Ordering::Release);
            });
            let mut last = 0;
            while !ended.load(std::sync::atomic::Ordering::Acquire) {
                match fs::read_to_string(&file) {
                    Ok(read) => {
                        let read: u32 = read.parse().unwrap();
                        assert!(read >= last);
                        last = read;
                    }
                    // The kernel looks again once; it was replaced again meanwhile. docs/semantics.md says so.
                    Err(error) => assert_eq!(error.raw_os_error(), Some(116), "{error}"),
                }
            }
        });
    })
    .await;
}
