//! What a program holds when it ends, and who finds it again.

use rfs::{Errno, LockMode, LockRange, OpenOptions, Options, OwnerId, Volume};

use crate::common::{memory_url, options};

const JOB: OwnerId = OwnerId(7);

fn job(seed: u64) -> Options {
    options(seed).with_owner_id(JOB)
}

fn both() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    options
}

/// A program that works, commits and is killed: nothing runs that it would run at its end.
struct Killed {
    url: String,
    scratch: rfs::Ino,
    file_key: u64,
    range_key: u64,
}

async fn killed(test: &str) -> Killed {
    let url = memory_url(test);
    let volume = Volume::create(&url, job(1)).await.unwrap();
    let fs = volume.fs();
    let scratch = both().open(&fs, "/scratch").await.unwrap();
    scratch.write_all_at(b"half done", 0).await.unwrap();
    fs.remove_file("/scratch").await.unwrap();
    let input = both().open(&fs, "/input").await.unwrap();
    input.try_lock().await.unwrap();
    let table = both().open(&fs, "/table").await.unwrap();
    table.try_lock_range(LockRange { start: 10, end: 20 }, LockMode::Exclusive).await.unwrap();
    volume.commit().await.unwrap();
    let found =
        Killed { url, scratch: scratch.ino(), file_key: input.lock_key(), range_key: table.lock_key() };
    // What goes now is not committed, so it never happened.
    drop((scratch, input, table, fs));
    drop(volume);
    found
}

#[tokio::test]
async fn the_same_owner_finds_files_without_a_name() {
    let Killed { url, scratch, .. } = killed("owner-files").await;
    let volume = Volume::open(&url, job(2)).await.unwrap();
    let report = volume.open_report().unwrap();
    assert_eq!((report.held_files, report.held_locks), (1, 2));
    assert_eq!(volume.held_files(), [scratch]);
    let fs = volume.fs();
    let file = fs.open_held(scratch, OpenOptions::new().read(true).write(true)).await.unwrap();
    file.write_all_at(b" and more", 9).await.unwrap();
    let mut content = [0; 18];
    assert_eq!(file.read_at(&mut content, 0).await.unwrap(), 18);
    assert_eq!(&content, b"half done and more");
    let again = fs.open_held(scratch, OpenOptions::new().read(true)).await.unwrap();
    drop(file);
    assert_eq!(volume.held_files(), [scratch], "the second handle holds it");
    drop(again);
    assert!(volume.held_files().is_empty());
    let gone = fs.open_held(scratch, OpenOptions::new().read(true)).await.unwrap_err();
    assert_eq!(gone.errno(), Some(Errno::Stale));
    volume.check().await.unwrap();
}

#[tokio::test]
async fn the_same_owner_finds_its_locks() {
    let Killed { url, file_key, range_key, .. } = killed("owner-locks").await;
    let volume = Volume::open(&url, job(2)).await.unwrap();
    let fs = volume.fs();
    assert_eq!(volume.held_locks().iter().map(|(_, key)| *key).collect::<Vec<_>>(), [file_key, range_key]);
    let other = both().open(&fs, "/input").await.unwrap();
    assert!(other.lock_key() != file_key && other.lock_key() != range_key, "a key is never given out twice");
    assert_eq!(other.try_lock_shared().await.unwrap_err().errno(), Some(Errno::WouldBlock));
    let mine = both().lock_key(file_key).open(&fs, "/input").await.unwrap();
    mine.try_lock_shared().await.unwrap();
    other.try_lock_shared().await.unwrap();
    other.unlock().await.unwrap();

    let ten = LockRange { start: 10, end: 11 };
    let other = both().open(&fs, "/table").await.unwrap();
    let held = other.test_lock_range(ten, LockMode::Shared).await.unwrap().unwrap();
    assert_eq!((held.owner.owner, held.owner.key), (JOB, range_key));
    let mine = both().lock_key(range_key).open(&fs, "/table").await.unwrap();
    mine.try_lock_range(ten, LockMode::Exclusive).await.unwrap();
    drop(mine);
    other.try_lock_range(LockRange::ALL, LockMode::Exclusive).await.unwrap();
    volume.check().await.unwrap();
}

#[tokio::test]
async fn another_owner_finds_nothing() {
    for (other, url) in [(Some(OwnerId(8)), "owner-other"), (None, "owner-none")] {
        let Killed { url, scratch, .. } = killed(url).await;
        let mut options = options(2);
        if let Some(other) = other {
            options = options.with_owner_id(other);
        }
        let volume = Volume::open(&url, options).await.unwrap();
        let report = volume.open_report().unwrap();
        assert_eq!((report.held_files, report.held_locks), (0, 0));
        assert!(volume.held_files().is_empty() && volume.held_locks().is_empty());
        let fs = volume.fs();
        let gone = fs.open_held(scratch, OpenOptions::new().read(true)).await.unwrap_err();
        assert_eq!(gone.errno(), Some(Errno::Stale));
        both().open(&fs, "/input").await.unwrap().try_lock().await.unwrap();
        let table = both().open(&fs, "/table").await.unwrap();
        table.try_lock_range(LockRange::ALL, LockMode::Exclusive).await.unwrap();
        volume.check().await.unwrap();
    }
}

/// A reader of the state sees what is held, and disturbs none of it.
#[tokio::test]
async fn a_reader_sees_files_without_a_name_too() {
    let Killed { url, scratch, .. } = killed("owner-reader").await;
    let reader = Volume::open_read_only(&url, options(3), rfs::At::Head).await.unwrap();
    let file = reader.fs().open_held(scratch, OpenOptions::new().read(true)).await.unwrap();
    let mut content = [0; 9];
    file.read_at(&mut content, 0).await.unwrap();
    assert_eq!(&content, b"half done");
    drop((file, reader));
    let volume = Volume::open(&url, job(2)).await.unwrap();
    assert_eq!(volume.held_files(), [scratch]);
}

#[tokio::test]
async fn owners_that_the_program_did_not_choose_differ() {
    let url = memory_url("owner-given");
    let first = Volume::create(&url, options(1)).await.unwrap().owner();
    let second = Volume::open(&url, options(2)).await.unwrap().owner();
    assert!(first != second && first.0 >= 1 << 63 && second.0 >= 1 << 63);
}

/// The number that the volume gives out can't be chosen: a program would find what another left.
#[tokio::test]
async fn an_owner_is_below_two_to_the_63() {
    let error = Volume::create("memory://", options(1).with_owner_id(OwnerId(1 << 63))).await.unwrap_err();
    assert_eq!(error.kind(), rfs::ErrorKind::Invalid);
    assert!(error.to_string().contains("owner"), "{error}");
}

#[tokio::test]
async fn an_inode_is_opened_by_its_number_by_those_who_may() {
    let volume = Volume::create("memory://", options(1)).await.unwrap();
    let fs = volume.fs();
    fs.write("/file", b"1").await.unwrap();
    let ino = rfs::Ino(fs.metadata("/file").await.unwrap().ino());
    let reading = OpenOptions::new().read(true).clone();
    let file = fs.open_held(ino, &reading).await.unwrap();
    assert_eq!(file.write_at(b"2", 0).await.unwrap_err().errno(), Some(Errno::BadHandle));
    let user = fs.as_user(rfs::Credential::user(1000, 1000, &[]));
    assert_eq!(user.open_held(ino, &reading).await.unwrap_err().errno(), Some(Errno::NotPermitted));
    assert_eq!(fs.open_held(ino, &OpenOptions::new()).await.unwrap_err().errno(), Some(Errno::Invalid));
    let creates = OpenOptions::new().write(true).create(true).clone();
    assert_eq!(fs.open_held(ino, &creates).await.unwrap_err().errno(), Some(Errno::Invalid));
    let empties = OpenOptions::new().read(true).truncate(true).clone();
    assert_eq!(fs.open_held(ino, &empties).await.unwrap_err().errno(), Some(Errno::Invalid));
    fs.remove_file("/file").await.unwrap();
    user.open_held(ino, &reading).await.expect("held by the volume's owner, and everybody may read it");
}
