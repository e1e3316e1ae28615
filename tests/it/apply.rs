//! Bringing a host directory from one state to another.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rfs::{
    ApplyError, ApplyOptions, At, ErrorKind, Fs, Misfit, Node, Permissions, RestoreOptions, Store, Timestamp,
    Volume, XattrMode,
};
use rfs_testkit::{Abilities, Profile, Rules, SLOTS, TestOp, Workload};

use crate::common::{options, sim};
use crate::handles::Handles;
use crate::restore::{fill, in_volume, is_root, on_host};
use crate::target::{expressible, perform};

async fn at(store: &Store, seed: u64, checkpoint: &str) -> Volume {
    let at = At::Checkpoint(checkpoint.to_owned());
    Volume::open_read_only("sim://", options(seed).with_store(store.clone()), at).await.unwrap()
}

async fn checkpoint(volume: &Volume, name: &str) {
    volume.checkpoint(name).await.unwrap().wait().await.unwrap();
}

async fn restored(volume: &Volume, dir: &Path) {
    let restored = volume.restore(dir, RestoreOptions::new()).await.unwrap();
    assert_eq!((restored.missing.as_slice(), restored.refused.as_slice()), (&[] as &[_], &[] as &[_]));
}

async fn stands_at(dir: &Path, volume: &Volume, what: &str) {
    let (found, expected) = (on_host(dir), in_volume(volume, Path::new("/")).await);
    for (path, line) in &expected {
        assert_eq!(found.get(path), Some(line), "{what}: {}", path.display());
    }
    let more: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(more.is_empty(), "{what}: {more:?}");
}

/// A tree that changes in every way.
async fn change(fs: &Fs) {
    let time = |seconds, nanos| Some(Timestamp::from_parts(seconds, nanos));
    // Swapped names, in a circle of three, of directories too.
    fs.write("/a", b"was a").await.unwrap();
    fs.rename("/none", "/tmp").await.unwrap();
    fs.rename("/again", "/none").await.unwrap();
    fs.rename("/tmp", "/again").await.unwrap();
    // A directory goes below what was below it.
    fs.rename("/dir/below", "/below").await.unwrap();
    fs.rename("/dir", "/below/deep/dir").await.unwrap();
    fs.create_dir("/dir").await.unwrap();
    // Kinds change.
    fs.remove_dir("/empty").await.unwrap();
    fs.write("/empty", b"a file now").await.unwrap();
    fs.remove_file("/below/same").await.unwrap();
    fs.create_dir_all("/below/same/as/new").await.unwrap();
    fs.hard_link("/below/large", "/dir/large").await.unwrap();
    fs.hard_link("/below/large", "/below/same/as/large").await.unwrap();
    // Content in the middle, holes, sizes.
    let large = rfs::OpenOptions::new().write(true).open(fs, "/below/large").await.unwrap();
    large.write_all_at(b"in the middle", 200_000).await.unwrap();
    large.punch_hole(8192, 65_536).await.unwrap();
    drop(large);
    fs.truncate("/below/large", 300_000).await.unwrap();
    fs.truncate("/below/large", 500_000).await.unwrap();
    let sparse = rfs::OpenOptions::new().write(true).open(fs, "/below/deep/dir/sparse").await.unwrap();
    sparse.write_all_at(b"later", 12 << 20).await.unwrap();
    sparse.punch_hole(0, 10 << 20).await.unwrap();
    drop(sparse);
    for number in 0..200 {
        let path = format!("/below/deep/{number}");
        if fs.try_exists(&path).await.unwrap() {
            fs.remove_file(path).await.unwrap();
        }
    }
    fs.write(OsStr::from_bytes(b"/dir/\xfe\x01"), b"odd too").await.unwrap();
    fs.remove_file(OsStr::from_bytes(b"/below/deep/dir/\xff\n")).await.unwrap();
    fs.mknod("/dir/fifo", Node::Fifo, 0o600).await.unwrap();
    fs.remove_file("/below/deep/dir/fifo").await.unwrap();
    fs.remove_file("/below/deep/dir/link").await.unwrap();
    fs.symlink("elsewhere", "/below/deep/dir/link").await.unwrap();
    fs.no_follow().set_times("/below/deep/dir/link2", time(7, 7), time(8, 8)).await.unwrap();
    fs.set_xattr("/none", "user.source", b"another", XattrMode::Set).await.unwrap();
    fs.set_xattr("/none", "user.more", b"more", XattrMode::Set).await.unwrap();
    fs.remove_xattr("/below", "user.of-dir").await.unwrap();
    fs.set_permissions("/below", Permissions::from_mode(0o750)).await.unwrap();
    fs.set_permissions("/below/deep/250", Permissions::from_mode(0o400)).await.unwrap();
    if is_root() {
        fs.chown("/below/deep/251", Some(5), Some(6)).await.unwrap();
    }
    fs.set_times("/below/deep/252", time(11, 12), time(13, 14)).await.unwrap();
    fs.set_times("/", time(15, 16), time(17, 18)).await.unwrap();
}

async fn two_states(seed: u64, files: u64) -> (Store, Volume, Volume) {
    let (_, store) = sim();
    let volume = Volume::create("sim://", options(seed).with_store(store.clone())).await.unwrap();
    fill(&volume.fs()).await;
    let time = volume.fs().metadata("/dir/below/deep").await.unwrap().attr().times.modified;
    for number in 0..250 - files {
        volume.fs().remove_file(format!("/dir/below/deep/{number}")).await.unwrap();
    }
    volume.fs().set_times("/dir/below/deep", None, Some(time)).await.unwrap();
    checkpoint(&volume, "one").await;
    change(&volume.fs()).await;
    checkpoint(&volume, "two").await;
    volume.close().await.unwrap();
    let (one, two) = (at(&store, seed, "one").await, at(&store, seed, "two").await);
    (store, one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_goes_there_and_back() {
    for seed in [1, 2] {
        let (_, one, two) = two_states(seed, 250).await;
        let host = tempfile::tempdir().unwrap();
        let dir = host.path().join("dir");
        restored(&one, &dir).await;
        let untouched = fs::metadata(dir.join("dir/below/deep/299")).unwrap().ctime_nsec();
        for (from, to, what) in [(&one, &two, "there"), (&two, &one, "back"), (&one, &two, "and there")] {
            let applied = from.apply_to(&dir, to, ApplyOptions::new()).await.unwrap();
            stands_at(&dir, to, what).await;
            assert_eq!((applied.refused.as_slice(), applied.owners), (&[] as &[_], is_root()));
            assert!(applied.created > 3 && applied.removed > 2 && applied.changed > 5, "{applied:?}");
            // Once more: there is nothing left to do.
            let again = from.apply_to(&dir, to, ApplyOptions::new()).await.unwrap();
            assert_eq!(again.bytes, 0);
            stands_at(&dir, to, what).await;
        }
        let sparse = fs::metadata(dir.join("below/deep/dir/sparse")).unwrap();
        assert!(sparse.len() == 16 << 20 && sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
        let still = fs::metadata(dir.join("below/deep/299")).unwrap().ctime_nsec();
        assert_eq!(still, untouched, "what is as it was is not touched");
    }
}

/// Being killed is no news.
fn silence_kills() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.contains("killed on purpose")) {
            tell(info);
        }
    }));
}

/// As [`ApplyOptions`], but before step `last` it dies.
fn killed_before(last: u64) -> (ApplyOptions, Arc<AtomicU64>) {
    let steps = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&steps);
    let options = ApplyOptions::new().with_progress(move |progress| {
        count.store(progress.steps, Ordering::SeqCst);
        assert!(progress.steps < last, "killed on purpose");
    });
    (options, steps)
}

/// Whether it was done before it died.
async fn dies(dir: &Path, from: &Volume, to: &Volume, last: u64) -> bool {
    let (options, _) = killed_before(last);
    let (dir, from, to) = (dir.to_path_buf(), from.clone(), to.clone());
    let run = tokio::spawn(async move { from.apply_to(&dir, &to, options).await.unwrap() });
    match run.await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_panic());
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_goes_on() {
    silence_kills();
    let (_, one, two) = two_states(1, 55).await;
    let host = tempfile::tempdir().unwrap();
    for (from, to) in [(&one, &two), (&two, &one)] {
        let dir = host.path().join("all");
        restored(from, &dir).await;
        let (options, steps) = killed_before(u64::MAX);
        let _ = from.apply_to(&dir, to, options).await.unwrap();
        let steps = steps.load(Ordering::SeqCst);
        fs::remove_dir_all(&dir).unwrap();
        // All of them would take a minute.
        for last in (0..=steps).filter(|step| step % 4 == 1 || steps - step < 12) {
            let dir = host.path().join(format!("killed{last}"));
            restored(from, &dir).await;
            assert!(!dies(&dir, from, to, last).await);
            // And once more, somewhere in what is done again.
            let _ = dies(&dir, from, to, last / 2 + 1).await;
            let _ = from.apply_to(&dir, to, ApplyOptions::new()).await.unwrap();
            let what = format!("killed before step {last} of {steps}");
            stands_at(&dir, to, &what).await;
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}

/// What is spoilt, what is said of it, and how it is done.
type Case = (&'static str, &'static str, fn(&Path));

async fn misfits(dir: &Path, from: &Volume, to: &Volume) -> Vec<Misfit> {
    let before = on_host(dir);
    match from.apply_to(dir, to, ApplyOptions::new()).await {
        Err(ApplyError::NotThere(misfits)) => {
            assert_eq!(on_host(dir), before, "nothing is changed");
            misfits
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_not_there_is_refused_with_a_list() {
    let (_, one, two) = two_states(1, 250).await;
    let host = tempfile::tempdir().unwrap();
    let cases: [Case; 13] = [
        ("dir/below/large", "has other content", |at| {
            let file = fs::OpenOptions::new().write(true).open(at).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", 100).unwrap();
        }),
        ("dir/sparse", "has other content", |at| {
            let file = fs::OpenOptions::new().write(true).open(at).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", 5 << 20).unwrap();
        }),
        ("none", "has 1 bytes instead of 0", |at| fs::write(at, b"x").unwrap()),
        ("dir/below/deep/7", "is missing", |at| fs::remove_file(at).unwrap()),
        ("dir/link", "leads elsewhere", |at| {
            // It has another name, so that both are another link.
            fs::remove_file(at).unwrap();
            symlink("../nowherf", at).unwrap();
            fs::remove_file(at.with_file_name("link2")).unwrap();
            fs::hard_link(at, at.with_file_name("link2")).unwrap();
        }),
        ("empty/more", "is in a directory that is to be removed", |at| fs::write(at, b"precious").unwrap()),
        ("a", "is there, and is not in the first state", |at| fs::write(at, b"precious").unwrap()),
        ("dir/fifo", "is no fifo", |at| {
            fs::remove_file(at).unwrap();
            fs::write(at, b"").unwrap();
        }),
        ("dir/below", "has permissions 0700 instead of 1555", |at| {
            fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("dir/below/deep/252", "has 2 names instead of 1", |at| {
            fs::hard_link(at, at.ancestors().nth(4).unwrap().join("outside")).unwrap();
        }),
        ("dir/one", "is not the same file as", |at| {
            let content = fs::read(at).unwrap();
            fs::remove_file(at).unwrap();
            fs::write(at, content).unwrap();
        }),
        ("dir/below", "has other extended attributes", |at| {
            rustix::fs::setxattr(at, "user.of-dir", b"2", rustix::fs::XattrFlags::empty()).unwrap();
        }),
        ("dir", "is no directory", |at| {
            let outside = at.parent().unwrap().with_file_name("moved");
            fs::rename(at, &outside).unwrap();
            symlink(&outside, at).unwrap();
        }),
    ];
    for (number, (path, why, spoil)) in cases.into_iter().enumerate() {
        let below = host.path().join(number.to_string());
        let dir = below.join("dir");
        restored(&one, &dir).await;
        spoil(&dir.join(path));
        let found = misfits(&dir, &one, &two).await;
        let told = found.iter().find(|misfit| misfit.why.contains(why));
        assert!(told.is_some(), "{path}: {why}: {found:?}");
        let paths: Vec<_> = found.iter().map(|misfit| misfit.path.clone()).collect();
        let names = ["dir/one", "dir/link"];
        assert!(paths.contains(&Path::new("/").join(path)) || names.contains(&path), "{path}: {paths:?}");
    }
    // The list has an end.
    let dir = host.path().join("many");
    restored(&one, &dir).await;
    for number in 0..150 {
        fs::remove_file(dir.join(format!("dir/below/deep/{number}"))).unwrap();
    }
    assert_eq!(misfits(&dir, &one, &two).await.len(), 100);
    // What the difference does not touch may be as it likes.
    let dir = host.path().join("untouched");
    restored(&one, &dir).await;
    fs::write(dir.join("dir/below/deep/290"), b"somebody's own").unwrap();
    fs::write(dir.join("dir/below/mine"), b"somebody's own").unwrap();
    let _ = one.apply_to(&dir, &two, ApplyOptions::new()).await.unwrap();
    assert_eq!(fs::read(dir.join("below/deep/290")).unwrap(), b"somebody's own");
    assert_eq!(fs::read(dir.join("below/mine")).unwrap(), b"somebody's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_between_other_states_is_ended_first() {
    silence_kills();
    let (store, one, two) = two_states(1, 250).await;
    let volume = Volume::open("sim://", options(3).with_store(store.clone())).await.unwrap();
    volume.fs().write("/third", b"third").await.unwrap();
    checkpoint(&volume, "three").await;
    volume.close().await.unwrap();
    let three = at(&store, 1, "three").await;
    let host = tempfile::tempdir().unwrap();
    let dir = host.path().join("dir");
    restored(&one, &dir).await;
    assert!(!dies(&dir, &one, &two, 50).await);
    for (from, to) in [(&one, &three), (&two, &three), (&two, &one)] {
        let refused = from.apply_to(&dir, to, ApplyOptions::new()).await.unwrap_err();
        let ApplyError::Failed(error) = refused else { panic!("{refused:?}") };
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("unfinished"), "{error}");
    }
    let work = fs::File::open(dir.join(".rfs-apply")).unwrap();
    work.try_lock().unwrap();
    let busy = one.apply_to(&dir, &two, ApplyOptions::new()).await.unwrap_err();
    assert!(busy.to_string().contains("under way"), "{busy}");
    drop(work);
    let _ = one.apply_to(&dir, &two, ApplyOptions::new()).await.unwrap();
    stands_at(&dir, &two, "ended").await;
    let _ = two.apply_to(&dir, &three, ApplyOptions::new()).await.unwrap();
    stands_at(&dir, &three, "went on").await;
}

/// Any states of a volume, each from each.
#[test]
fn any_state_becomes_any_other() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let runs = std::env::var("RFS_TEST_OPS").map_or(2, |ops| ops.parse::<u64>().unwrap().div_ceil(1000));
    for seed in 0..runs {
        runtime.block_on(run(seed));
    }
}

async fn run(seed: u64) {
    const STATES: usize = 5;
    let (_, store) = sim();
    let of = |seed: u64| options(seed).with_store(store.clone()).with_image_every(u64::MAX, 2);
    let volume = Volume::create("sim://", of(seed)).await.unwrap();
    let mut handles = Handles::default();
    let abilities = Abilities::RENAME_MODES
        | Abilities::USER_XATTRS
        | Abilities::SPECIAL_NODES
        | Abilities::PUNCH
        | Abilities::ZERO_RANGE
        | Abilities::COPY
        | Abilities::NAMELESS;
    let profile = Profile { relative: false, rules: Rules::rfs(), ..Profile::linux(abilities) };
    let mut names = Vec::new();
    for (number, op) in Workload::new(seed, profile).filter_map(expressible).take(STATES * 200).enumerate() {
        // Much of it is refused.
        let _ = perform(&mut handles, &volume, &op).await.unwrap();
        if number % 200 == 199 {
            let name = format!("{number}");
            checkpoint(&volume, &name).await;
            names.push(name);
        }
    }
    for slot in 0..SLOTS {
        let _ = perform(&mut handles, &volume, &TestOp::Close { slot }).await.unwrap();
    }
    volume.close().await.unwrap();
    let mut states = Vec::new();
    for name in &names {
        states.push(at(&store, seed, name).await);
    }
    let host = tempfile::tempdir().unwrap();
    for (number, from) in states.iter().enumerate() {
        for (other, to) in states.iter().enumerate() {
            let dir = host.path().join(format!("{number}-{other}"));
            let restored = from.restore(&dir, RestoreOptions::new()).await.unwrap();
            assert_eq!(restored.missing, []);
            let what = format!("seed {seed}, from {number} to {other}");
            let applied = from.apply_to(&dir, to, ApplyOptions::new()).await;
            let _ = applied.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let fresh = host.path().join("fresh");
            let restored = to.restore(&fresh, RestoreOptions::new()).await.unwrap();
            assert_eq!(restored.missing, []);
            assert_eq!(on_host(&dir), on_host(&fresh), "{what}");
            fs::remove_dir_all(&dir).unwrap();
            fs::remove_dir_all(&fresh).unwrap();
        }
    }
}
