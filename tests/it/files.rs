//! Operations on files, through the public API.

use rfs::{Errno, OpenOptions, Permissions, Volume};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::common::options;

async fn volume() -> Volume {
    Volume::create("memory://", options(1)).await.unwrap()
}

#[tokio::test]
async fn content_is_written_overwritten_cut_and_read() {
    let volume = volume().await;
    let fs = volume.fs();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&fs, "/a").await.unwrap();
    file.write_all_at(b"0123456789", 0).await.unwrap();
    file.write_all_at(b"ab", 4).await.unwrap();
    file.write_all_at(b"z", 15).await.unwrap();
    assert_eq!(fs.read("/a").await.unwrap(), b"0123ab6789\0\0\0\0\0z");
    file.set_len(6).await.unwrap();
    file.set_len(8).await.unwrap();
    let mut buffer = [9; 20];
    assert_eq!(file.read_at(&mut buffer, 2).await.unwrap(), 6);
    assert_eq!(&buffer[..6], b"23ab\0\0");
    let exists = OpenOptions::new().write(true).create_new(true).open(&fs, "/a").await.unwrap_err();
    assert_eq!(exists.errno(), Some(Errno::Exists));
    assert_eq!(exists.to_string(), "open /a: the name exists (EEXIST)");
}

#[tokio::test]
async fn large_content_crosses_frames_and_segments() {
    let volume = Volume::create("memory://", options(2).with_cut(4096, 100_000)).await.unwrap();
    let fs = volume.fs();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs.write("/big", &content).await.unwrap();
    assert_eq!(fs.read("/big").await.unwrap(), content);
    let receipt = volume.commit().await.unwrap();
    assert_eq!(receipt.position, volume.position());
    assert_eq!(fs.read("/big").await.unwrap(), content);
    assert_eq!(fs.copy("/big", "/copy").await.unwrap(), 1_000_000);
    assert_eq!(fs.read("/copy").await.unwrap(), content);
    volume.check().await.unwrap();
}

#[tokio::test]
async fn the_cursor_reads_writes_and_seeks() {
    let volume = volume().await;
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).open(&volume.fs(), "/a").await.unwrap();
    file.write_all(b"hello world").await.unwrap();
    file.seek(std::io::SeekFrom::Start(6)).await.unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "world");
    file.seek(std::io::SeekFrom::End(-5)).await.unwrap();
    file.write_all(b"W").await.unwrap();
    assert_eq!(volume.fs().read_to_string("/a").await.unwrap(), "hello World");
    file.seek(std::io::SeekFrom::Current(-100)).await.unwrap_err();
}

#[tokio::test]
async fn appends_of_many_tasks_never_mix() {
    let volume = volume().await;
    let fs = volume.fs();
    let mut tasks = Vec::new();
    for task in 0..8_u8 {
        let fs = fs.clone();
        tasks.push(tokio::spawn(async move {
            let log = OpenOptions::new().append(true).create(true).open(&fs, "/log").await.unwrap();
            for _ in 0..100 {
                log.append(&[task; 16]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let content = fs.read("/log").await.unwrap();
    assert_eq!(content.len(), 8 * 100 * 16);
    let mut counts = [0; 8];
    for chunk in content.chunks(16) {
        assert!(chunk.iter().all(|byte| *byte == chunk[0]), "an append is torn: {chunk:?}");
        counts[chunk[0] as usize] += 1;
    }
    assert_eq!(counts, [100; 8]);
}

#[tokio::test]
async fn names_move_and_go() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.create_dir_all("/a/b/c").await.unwrap();
    fs.create_dir_all("/a/b/c").await.unwrap();
    fs.write("/a/b/c/f", b"1").await.unwrap();
    fs.hard_link("/a/b/c/f", "/g").await.unwrap();
    fs.symlink("a/b", "/s").await.unwrap();
    assert_eq!(fs.read("/s/c/f").await.unwrap(), b"1");
    assert_eq!(fs.metadata("/g").await.unwrap().nlink(), 2);
    fs.rename("/a/b", "/moved").await.unwrap();
    assert_eq!(fs.read("/moved/c/f").await.unwrap(), b"1");
    assert_eq!(fs.metadata("/s").await.unwrap_err().errno(), Some(Errno::NotFound));
    assert!(fs.symlink_metadata("/s").await.unwrap().is_symlink());
    assert_eq!(fs.remove_dir("/moved").await.unwrap_err().errno(), Some(Errno::NotEmpty));
    fs.remove_dir_all("/moved").await.unwrap();
    assert!(!fs.try_exists("/moved/c/f").await.unwrap());
    assert_eq!(fs.read("/g").await.unwrap(), b"1");
    fs.set_permissions("/g", Permissions::from_mode(0o600)).await.unwrap();
    fs.chown("/g", Some(7), None).await.unwrap();
    let metadata = fs.metadata("/g").await.unwrap();
    assert_eq!((metadata.mode(), metadata.uid(), metadata.gid(), metadata.nlink()), (0o600, 7, 0, 1));
    let through = fs.write("/g/x", b"").await.unwrap_err();
    assert_eq!(through.errno(), Some(Errno::NotADirectory));
    let long = fs.write("x".repeat(256), b"").await.unwrap_err();
    assert_eq!(long.errno(), Some(Errno::NameTooLong));
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_removed_file_lives_as_long_as_its_handle() {
    let volume = volume().await;
    let fs = volume.fs();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).open(&fs, "/a").await.unwrap();
    file.write_all_at(b"still", 0).await.unwrap();
    fs.remove_file("/a").await.unwrap();
    fs.write("/a", b"another").await.unwrap();
    file.write_all_at(b" here", 5).await.unwrap();
    let mut buffer = [0; 10];
    file.read_at(&mut buffer, 0).await.unwrap();
    assert_eq!(&buffer, b"still here");
    assert_eq!(file.metadata().await.unwrap().nlink(), 0);
    volume.commit().await.unwrap();
    let before = volume.position();
    drop(file);
    assert_eq!(volume.position().0, before.0 + 1, "closing it removes it, as a Change of its own");
    volume.check().await.unwrap();
}

#[tokio::test]
async fn listings_see_each_lasting_entry_once() {
    let volume = volume().await;
    let fs = volume.fs();
    for number in 0..500 {
        fs.write(format!("/f{number}"), b"").await.unwrap();
    }
    let mut entries = fs.read_dir("/").await.unwrap();
    let mut seen = Vec::new();
    while let Some(entry) = entries.next_entry().await.unwrap() {
        seen.push(entry.file_name().into_string().unwrap());
        let number = seen.len();
        fs.write(format!("/new{number}"), b"").await.unwrap();
        if number.is_multiple_of(2) && number < 400 {
            let _ = fs.remove_file(format!("/f{}", 499 - number / 2)).await;
        }
        if number > 2000 {
            break;
        }
    }
    for number in 0..300 {
        let name = format!("f{number}");
        assert_eq!(seen.iter().filter(|seen| **seen == name).count(), 1, "{name}");
    }
}

#[tokio::test]
async fn locks_exclude_wait_and_die_with_their_handle() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/lock", b"").await.unwrap();
    let first = fs.open("/lock").await.unwrap();
    let second = fs.open("/lock").await.unwrap();
    first.lock_shared().await.unwrap();
    second.try_lock_shared().await.unwrap();
    assert_eq!(first.try_lock().await.unwrap_err().errno(), Some(Errno::WouldBlock));
    second.unlock().await.unwrap();
    first.try_lock().await.unwrap();
    assert_eq!(second.try_lock_shared().await.unwrap_err().errno(), Some(Errno::WouldBlock));
    let waiter = tokio::spawn(async move {
        second.lock().await.unwrap();
        second
    });
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    drop(first);
    let second = waiter.await.unwrap();
    let third = fs.open("/lock").await.unwrap();
    assert!(third.try_lock().await.is_err());
    drop(second);
    third.try_lock().await.unwrap();
}

/// Two who share the lock and both wait to hold it alone get it one after the other.
#[tokio::test]
async fn two_upgrades_do_not_wait_for_each_other() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/lock", b"").await.unwrap();
    let alone = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let file = fs.open("/lock").await.unwrap();
        file.lock_shared().await.unwrap();
        let alone = alone.clone();
        tasks.push(tokio::spawn(async move {
            file.lock().await.unwrap();
            assert_eq!(alone.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "both hold it alone");
            tokio::task::yield_now().await;
            alone.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            file.unlock().await.unwrap();
        }));
    }
    for task in tasks {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), task).await;
        ended.expect("each gets the lock").unwrap();
    }
}

#[tokio::test]
async fn a_batch_happens_whole_or_not_at_all() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/account-a", b"10").await.unwrap();
    fs.write("/account-b", b"00").await.unwrap();
    let before = (volume.position(), volume.state_hash().await.unwrap());
    let batch = fs.batch().write_at("/account-a", b"05", 0).write_at("/nowhere", b"05", 0);
    let error = batch.apply().await.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::NotFound));
    assert!(error.to_string().contains("operation 1"), "{error}");
    assert_eq!((volume.position(), volume.state_hash().await.unwrap()), before);
    let batch = fs.batch().require_size("/account-a", 2).write_at("/account-a", b"05", 0);
    batch.write_at("/account-b", b"05", 0).rename("/account-b", "/b").create_dir("/d").apply().await.unwrap();
    assert_eq!(fs.read("/account-a").await.unwrap(), b"05");
    assert_eq!(fs.read("/b").await.unwrap(), b"05");
    volume.check().await.unwrap();
}

#[test]
fn the_blocking_face_does_the_same() {
    use std::io::{Read, Seek, Write};
    let volume = rfs::blocking::Volume::open_or_create("memory://", rfs::Options::new()).unwrap();
    let fs = volume.fs();
    fs.create_dir_all("/a/b").unwrap();
    let mut file = fs.open_with("/a/b/c", OpenOptions::new().read(true).write(true).create(true)).unwrap();
    file.write_all(b"hello").unwrap();
    file.seek(std::io::SeekFrom::Start(1)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ello");
    file.sync_all().unwrap();
    fs.apply(|batch| batch.rename("/a/b/c", "/c").remove_dir("/a/b")).unwrap();
    assert_eq!(fs.read_to_string("/c").unwrap(), "hello");
    fs.clone_file("/c", "/clone").unwrap();
    fs.rename_with("/c", "/clone", rfs::RenameMode::Exchange).unwrap();
    fs.set_xattr("/c", "user.a", "1", rfs::XattrMode::Set).unwrap();
    assert_eq!(fs.xattr("/c", "user.a").unwrap(), b"1");
    file.punch_hole(0, 2).unwrap();
    file.try_lock_range(rfs::LockRange::ALL, rfs::LockMode::Exclusive).unwrap();
    assert_eq!(fs.read("/clone").unwrap(), b"\0\0llo");
    let user = fs.as_user(rfs::Credential::user(1, 1, &[]));
    assert_eq!(user.write("/mine", b"").unwrap_err().errno(), Some(Errno::AccessDenied));
    let nameless = fs.open_nameless("/", OpenOptions::new().read(true).write(true)).unwrap();
    assert_eq!(file.copy_range(2, &nameless, 0, 100).unwrap(), 3);
    nameless.link_to("/named").unwrap();
    assert_eq!(fs.read("/named").unwrap(), b"llo");
    let receipt = volume.checkpoint("one").unwrap().wait().unwrap();
    assert_eq!(volume.as_async().checkpoints()[0].1.commit, receipt.commit);
    drop((file, nameless));
    drop((fs, user));
    volume.close().unwrap();
}

#[test]
fn a_directory_is_listed_without_a_runtime() {
    let volume = rfs::blocking::Volume::create("memory://", rfs::Options::new()).unwrap();
    let fs = volume.fs();
    fs.create_dir("/d").unwrap();
    for number in 0..300 {
        fs.write(format!("/d/{number}"), "x".repeat(number)).unwrap();
    }
    let mut entries = fs.read_dir("/d").unwrap();
    let first = entries.next_entry().unwrap().unwrap();
    let after = entries.cookie();
    let rest: Vec<_> = entries.by_ref().map(|entry| entry.unwrap().path()).collect();
    assert!(entries.next_entry().unwrap().is_none());
    entries.seek(after);
    assert_eq!(entries.by_ref().map(|entry| entry.unwrap().path()).collect::<Vec<_>>(), rest);
    entries.seek(rfs::Cookie(0));
    let mut seen: Vec<u64> = Vec::new();
    for entry in &mut entries {
        let entry = entry.unwrap();
        let (name, metadata) = (entry.file_name().into_string().unwrap(), entry.metadata().unwrap());
        assert_eq!(entry.path(), std::path::Path::new("/d").join(&name));
        assert_eq!(metadata.len(), name.parse::<u64>().unwrap());
        assert_eq!((entry.ino(), entry.file_type()), (metadata.ino(), metadata.file_type()));
        seen.push(name.parse().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..300).collect::<Vec<u64>>());

    fs.remove_file(first.path()).unwrap();
    assert_eq!(first.metadata().unwrap_err().errno(), Some(Errno::Stale));
    assert_eq!(fs.read_dir(rest[0].as_path()).unwrap_err().errno(), Some(Errno::NotADirectory));
    volume.check().unwrap();
    let hash = volume.state_hash().unwrap();
    fs.remove_dir_all("/d").unwrap();
    assert_ne!(volume.state_hash().unwrap(), hash);

    entries.seek(rfs::Cookie(0));
    volume.close().unwrap();
    let told: Vec<_> = entries.map(|entry| entry.unwrap_err().kind()).collect();
    assert_eq!(told, [rfs::ErrorKind::Closed], "once, not for ever");
}

#[tokio::test]
async fn a_file_is_not_copied_onto_itself_nor_read_past_memory() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/a", b"content").await.unwrap();
    fs.hard_link("/a", "/b").await.unwrap();
    assert_eq!(fs.copy("/a", "/b").await.unwrap_err().errno(), Some(Errno::Invalid));
    assert_eq!(fs.read("/a").await.unwrap(), b"content");
    fs.truncate("/a", 1 << 62).await.unwrap();
    assert_eq!(fs.read("/a").await.unwrap_err().errno(), Some(Errno::TooBig));
}

/// A write that was given up while it waited for room leaves nothing to the next one.
#[tokio::test(start_paused = true)]
async fn a_cancelled_write_is_not_resumed() {
    use std::time::Duration;
    let sim = rfs_testkit::SimStore::new(rfs_testkit::CrashPlan::never());
    let store = rfs::Store::new(
        std::sync::Arc::new(sim.clone()),
        "sim://",
        object_store::path::Path::from("v"),
        rfs::StoreOptions::default(),
    );
    let small = options(1).with_store(store).with_outage_budget(10_000, Duration::from_secs(3600));
    let volume = Volume::create("sim://", small).await.unwrap();
    let mut file = volume.fs().create("/a").await.unwrap();
    file.write_all(&vec![1; 20_000]).await.unwrap();
    let hold = sim.hold_next_put();
    tokio::time::timeout(Duration::from_secs(1), file.write_all(&[2; 500])).await.unwrap_err();
    hold.release();
    file.write_all(&[3; 100]).await.unwrap();
    let content = volume.fs().read("/a").await.unwrap();
    assert_eq!((content.len(), &content[20_000..]), (20_100, &[3; 100][..]));
}
