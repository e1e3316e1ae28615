//! Restoring to a host directory.

mod denying;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use rfs::backends::RequestKind;
use rfs::{
    At, Errno, ErrorKind, Fs, Node, Permissions, RestoreOptions, RestoreProgress, Timestamp, Volume,
    XattrMode,
};
use rfs_testkit::{CrashPlan, SimStore};

use self::denying::Denying;
use crate::common::{options, sim, store_over};

/// What is compared of an entry, with the identity of its inode as the first path that it is met by.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) async fn in_volume(volume: &Volume, from: &Path) -> Tree {
    let fs = volume.fs().no_follow();
    let (mut tree, mut first) = (Tree::new(), BTreeMap::new());
    let mut paths = vec![from.to_path_buf()];
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        let metadata = fs.symlink_metadata(&path).await.unwrap();
        if metadata.is_dir() {
            let mut entries = fs.read_dir(&path).await.unwrap();
            while let Some(entry) = entries.next_entry().await.unwrap() {
                paths.push(entry.path());
            }
        }
        found.push((path, metadata));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, metadata) in found {
        let what = if metadata.is_file() {
            content(&fs.read(&path).await.unwrap())
        } else if metadata.is_symlink() {
            fs.read_link(&path).await.unwrap().display().to_string()
        } else {
            format!("{}", metadata.rdev())
        };
        let mut xattrs = Vec::new();
        for name in fs.xattr_names(&path).await.unwrap() {
            xattrs.push((name.as_bytes().to_vec(), fs.xattr(&path, name.as_bytes()).await.unwrap()));
        }
        let attr = metadata.attr();
        let below = path.strip_prefix(from).unwrap().to_path_buf();
        let same = first.entry(metadata.ino()).or_insert_with(|| below.clone()).clone();
        let (accessed, modified) = (attr.times.accessed.to_parts(), attr.times.modified.to_parts());
        let line = line(
            &format!("{:?}", attr.kind),
            (attr.mode, if is_root() { (attr.uid, attr.gid) } else { (0, 0) }),
            [(accessed.0, accessed.1.into()), (modified.0, modified.1.into())],
            (same, what, xattrs),
        );
        tree.insert(below, line);
    }
    tree
}

pub(crate) fn on_host(dir: &Path) -> Tree {
    let (mut tree, mut first) = (Tree::new(), BTreeMap::new());
    let mut found = Vec::new();
    let mut paths = vec![dir.to_path_buf()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, metadata));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, metadata) in found {
        let kind = match metadata.mode() & 0o170_000 {
            0o100_000 => "File",
            0o040_000 => "Directory",
            0o120_000 => "Symlink",
            0o010_000 => "Fifo",
            0o140_000 => "Socket",
            0o020_000 => "CharDevice",
            _ => "BlockDevice",
        };
        let what = match kind {
            "File" => content_of(&path),
            "Symlink" => fs::read_link(&path).unwrap().display().to_string(),
            _ => metadata.rdev().to_string(),
        };
        let below = path.strip_prefix(dir).unwrap().to_path_buf();
        let same = first.entry(metadata.ino()).or_insert_with(|| below.clone()).clone();
        let owner = if is_root() { (metadata.uid(), metadata.gid()) } else { (0, 0) };
        let line = line(
            kind,
            (metadata.mode() & 0o7777, owner),
            [(metadata.atime(), metadata.atime_nsec()), (metadata.mtime(), metadata.mtime_nsec())],
            (same, what, xattrs(&path)),
        );
        tree.insert(below, line);
    }
    tree
}

fn content(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        hash_block(&mut hasher, number as u64, block);
    }
    format!("{} bytes, {:x}", bytes.len(), hasher.finish())
}

/// As [`content`], of a file whose holes may be larger than memory.
fn content_of(path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    let file = fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let mut at = 0;
    let mut block = [0; BLOCK];
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = data / BLOCK as u64 * BLOCK as u64;
        let held = (len - at).min(BLOCK as u64) as usize;
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut block[..held], at).unwrap();
        hash_block(&mut hasher, at / BLOCK as u64, &block[..held]);
        at += held as u64;
    }
    format!("{len} bytes, {:x}", hasher.finish())
}

const BLOCK: usize = 4096;

/// What is in no hole, or could be in one, is not told from it.
fn hash_block(hasher: &mut DefaultHasher, number: u64, block: &[u8]) {
    if block.iter().any(|byte| *byte != 0) {
        (number, block).hash(hasher);
    }
}

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

fn line(
    kind: &str,
    (mode, owner): (u32, (u32, u32)),
    [accessed, modified]: [(i64, i64); 2],
    (same, what, mut xattrs): (PathBuf, String, Xattrs),
) -> String {
    xattrs.sort();
    // Looking at a directory sets its time of last access on the host, and a symlink has no permissions.
    let accessed = if kind == "File" { (0, 0) } else { accessed };
    let accessed = if matches!(kind, "Directory" | "Symlink") { (0, 0) } else { accessed };
    let mode = if kind == "Symlink" { 0o777 } else { mode };
    format!(
        "{kind} {mode:o} {owner:?} {accessed:?} {modified:?} same as {} {xattrs:?} {what}",
        same.display()
    )
}

fn xattrs(path: &Path) -> Xattrs {
    let mut names = [0; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = [0; 4096];
        let len = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]).unwrap();
        value[..len].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Some of everything that a tree can hold.
pub(crate) async fn fill(fs: &Fs) {
    let time = |seconds, nanos| Some(Timestamp::from_parts(seconds, nanos));
    fs.create_dir_all("/dir/below/deep").await.unwrap();
    fs.create_dir("/empty").await.unwrap();
    fs.write("/dir/one", b"one").await.unwrap();
    fs.write("/none", b"").await.unwrap();
    fs.write("/dir/below/large", (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
        .await
        .unwrap();
    fs.truncate("/dir/sparse", 0).await.unwrap_err();
    fs.write("/dir/sparse", b"start").await.unwrap();
    fs.truncate("/dir/sparse", 16 << 20).await.unwrap();
    let sparse = rfs::OpenOptions::new().write(true).open(fs, "/dir/sparse").await.unwrap();
    sparse.write_all_at(b"middle", 8 << 20).await.unwrap();
    drop(sparse);
    fs.hard_link("/dir/one", "/dir/below/same").await.unwrap();
    fs.hard_link("/dir/one", "/again").await.unwrap();
    fs.symlink("../nowhere", "/dir/link").await.unwrap();
    fs.hard_link("/dir/link", "/dir/link2").await.unwrap();
    fs.mknod("/dir/fifo", Node::Fifo, 0o640).await.unwrap();
    fs.mknod("/dir/socket", Node::Socket, 0o600).await.unwrap();
    fs.write(std::ffi::OsStr::from_bytes(b"/dir/\xff\n"), b"odd").await.unwrap();
    fs.write("/.rfs-restore", b"a name that is taken").await.unwrap();
    for number in 0..300 {
        fs.write(format!("/dir/below/deep/{number}"), vec![7; number]).await.unwrap();
    }
    fs.set_xattr("/dir/one", "user.source", b"sensor \x00 7", XattrMode::Set).await.unwrap();
    fs.set_xattr("/dir/below", "user.of-dir", b"1", XattrMode::Set).await.unwrap();
    fs.set_permissions("/dir/one", Permissions::from_mode(0o4751)).await.unwrap();
    if is_root() {
        fs.chown("/dir/one", Some(12), Some(34)).await.unwrap();
        fs.set_permissions("/dir/one", Permissions::from_mode(0o4751)).await.unwrap();
        fs.no_follow().chown("/dir/link", Some(56), Some(78)).await.unwrap();
        fs.chown("/dir/below", Some(1), None).await.unwrap();
        fs.mknod("/dir/null", Node::CharDevice(rustix::fs::makedev(1, 3)), 0o666).await.unwrap();
    }
    fs.set_times("/dir/one", time(1_000_000_000, 123_456_789), time(1_500_000_000, 987_654_321))
        .await
        .unwrap();
    fs.no_follow().set_times("/dir/link", time(1, 1), time(2, 2)).await.unwrap();
    fs.set_times("/dir/below", time(3, 3), time(1_600_000_000, 4)).await.unwrap();
    fs.set_permissions("/dir/below", Permissions::from_mode(0o1555)).await.unwrap();
    fs.set_times("/", time(5, 5), time(6, 6)).await.unwrap();
}

/// A committed volume that is open to read only and keeps nothing that was read, the store, and how many gets that is
/// going to answer.
async fn filled(seed: u64) -> (SimStore, Volume, Arc<AtomicI64>) {
    let sim = SimStore::new(CrashPlan::never());
    let (denying, answers) = Denying::new(Arc::new(sim.clone()));
    let store = store_over(Arc::new(denying));
    let of =
        |seed| options(seed).with_store(store.clone()).with_inline_bytes(4096).with_cut(16 << 10, 256 << 10);
    let volume = Volume::create("sim://", of(seed)).await.unwrap();
    fill(&volume.fs()).await;
    volume.close().await.unwrap();
    let volume = Volume::open_read_only("sim://", of(seed + 1).with_cache(0, 0), At::Head).await.unwrap();
    (sim, volume, answers)
}

fn gets(volume: &Volume) -> (u64, u64) {
    let count = volume.metered().of(RequestKind::Get);
    (count.requests, count.bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_comes_back_with_everything() {
    let (_, volume, _) = filled(1).await;
    let host = tempfile::tempdir().unwrap();
    let dir = host.path().join("new/dir");
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let told = move |progress: RestoreProgress| seen.lock().unwrap().push(progress);
    let restored = volume.restore(&dir, RestoreOptions::new().with_progress(told)).await.unwrap();
    assert_eq!((restored.missing.as_slice(), restored.refused.as_slice()), (&[] as &[_], &[] as &[_]));
    let expected = in_volume(&volume, Path::new("/")).await;
    assert_eq!(on_host(&dir), expected);
    assert_eq!(restored.directories + restored.entries, expected.len() as u64);
    assert_eq!((restored.kept, restored.owners), (0, is_root()));
    let sparse = fs::metadata(dir.join("dir/sparse")).unwrap();
    assert!(sparse.len() == 16 << 20 && sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    let steps = steps.lock().unwrap();
    let last = steps.last().unwrap();
    assert_eq!((last.entries, last.bytes), (last.total_entries, last.total_bytes));
    assert!(steps.len() as u64 >= restored.entries);
    assert!(
        steps.is_sorted_by_key(|progress| progress.entries)
            && steps.is_sorted_by_key(|progress| progress.bytes)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_failed_goes_on() {
    let (_, volume, answers) = filled(10).await;
    let expected = in_volume(&volume, Path::new("/")).await;
    let host = tempfile::tempdir().unwrap();
    let options = || RestoreOptions::new().with_parallel(2);
    let mut read = Vec::new();
    let restored = loop {
        answers.store(60, Ordering::SeqCst);
        let before = gets(&volume).1;
        let done = volume.restore(host.path(), options()).await;
        read.push(gets(&volume).1 - before);
        match done {
            Ok(restored) => break restored,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
                // What has its name is whole.
                for (path, line) in on_host(host.path()) {
                    let is_ours = path.starts_with(".rfs-restore+");
                    if !is_ours && !line.starts_with("Directory") {
                        let but_links = |line: &str| {
                            let (before, after) = line.split_once(" same as ").unwrap();
                            (before.to_owned(), after.split_once(" [").unwrap().1.to_owned())
                        };
                        assert_eq!(but_links(&expected[&path]), but_links(&line), "{}", path.display());
                    }
                }
            }
        }
        assert!(read.len() < 200, "it does not get on");
    };
    assert!(restored.missing.is_empty() && restored.kept > 0 && read.len() > 2, "{read:?}");
    answers.store(i64::MAX, Ordering::SeqCst);
    assert_eq!(on_host(host.path()), expected);

    // Nothing is read twice but what was on its way.
    let before = gets(&volume).1;
    let fresh = tempfile::tempdir().unwrap();
    assert!(volume.restore(fresh.path(), options()).await.unwrap().missing.is_empty());
    let all = gets(&volume).1 - before;
    let on_the_way = 3 * (256 << 10);
    let sum: u64 = read.iter().sum();
    assert!(sum <= all + read.len() as u64 * on_the_way, "{sum} of {all} in {} runs", read.len());

    let again = volume.restore(host.path(), options()).await.unwrap_err();
    assert!(again.kind() == ErrorKind::Invalid && again.to_string().contains("not empty"), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_leads_nowhere_else() {
    let (_, volume, answers) = filled(20).await;
    let host = tempfile::tempdir().unwrap();
    let (dir, outside) = (host.path().join("dir"), host.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    answers.store(30, Ordering::SeqCst);
    volume.restore(&dir, RestoreOptions::new()).await.unwrap_err();
    answers.store(i64::MAX, Ordering::SeqCst);
    // A directory, a file's name and the place of a file that is to come become symlinks.
    fs::remove_dir_all(dir.join("dir/below")).unwrap();
    for name in ["dir/below", "none", "dir/sparse"] {
        let _ = fs::remove_file(dir.join(name));
        std::os::unix::fs::symlink(&outside, dir.join(name)).unwrap();
    }
    let restored = volume.restore(&dir, RestoreOptions::new()).await.unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let missing: Vec<_> = restored.missing.iter().map(|missing| missing.path.clone()).collect();
    assert_eq!(missing, [PathBuf::from("/dir/below")], "{restored:?}");
    assert!(!restored.missing[0].damaged);
    assert!(dir.join("none").symlink_metadata().unwrap().is_file());

    fs::remove_file(dir.join("dir/below")).unwrap();
    let restored = volume.restore(&dir, RestoreOptions::new()).await.unwrap();
    assert!(restored.missing.is_empty());
    assert_eq!(on_host(&dir), in_volume(&volume, Path::new("/")).await);

    // A restore that is under way.
    let busy = host.path().join("busy");
    answers.store(30, Ordering::SeqCst);
    volume.restore(&busy, RestoreOptions::new()).await.unwrap_err();
    answers.store(i64::MAX, Ordering::SeqCst);
    let other = fs::File::open(busy.join(".rfs-restore+")).unwrap();
    other.try_lock().unwrap();
    let refused = volume.restore(&busy, RestoreOptions::new()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains("under way"), "{refused}");
    drop(other);
    assert!(volume.restore(&busy, RestoreOptions::new()).await.unwrap().missing.is_empty());

    // An unfinished one of something else.
    let part = |path: &str| RestoreOptions::new().with_path(path);
    let begun = host.path().join("begun");
    answers.store(30, Ordering::SeqCst);
    volume.restore(&begun, part("/dir")).await.unwrap_err();
    answers.store(i64::MAX, Ordering::SeqCst);
    let foreign = volume.restore(&begun, part("/dir/below")).await.unwrap_err();
    assert!(
        foreign.kind() == ErrorKind::Invalid && foreign.to_string().contains("something else"),
        "{foreign}"
    );

    // The work directory itself.
    let other = host.path().join("other");
    fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&outside, other.join(".rfs-restore+")).unwrap();
    volume.restore(&other, RestoreOptions::new()).await.unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_file_only_its_places_are_read() {
    let (_, volume, _) = filled(30).await;
    // The pages of the tree are read by this.
    volume.check().await.unwrap();
    let host = tempfile::tempdir().unwrap();
    let before = gets(&volume);
    let one = |path: &str| RestoreOptions::new().with_path(path);
    let restored = volume.restore(host.path(), one("/dir/below/deep/200")).await.unwrap();
    let (requests, bytes) = (gets(&volume).0 - before.0, gets(&volume).1 - before.1);
    assert_eq!((restored.entries, restored.bytes), (1, 200));
    assert!(requests <= 2 && bytes < 300 << 10, "{requests} gets of {bytes} bytes");
    assert_eq!(fs::read(host.path().join("200")).unwrap(), [7; 200]);
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);

    let there = volume.restore(host.path(), one("/dir/below/deep/200")).await.unwrap_err();
    assert_eq!(there.errno(), Some(Errno::Exists));
    let other = one("/dir/one").with_name("200").with_replace(true);
    assert_eq!(volume.restore(host.path(), other).await.unwrap().entries, 1);
    assert_eq!(fs::read(host.path().join("200")).unwrap(), b"one");
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
    for wrong in ["../x", "..", "", "a/b"] {
        let refused = volume.restore(host.path(), one("/dir/one").with_name(wrong)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
        assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
    }
    let none = volume.restore(host.path(), one("/none/there")).await.unwrap_err();
    assert_eq!(none.errno(), Some(Errno::NotADirectory));

    // What was left by one that was killed is no hindrance to one of another state; somebody else's directory is.
    let left = format!(".rfs-restore-{}", volume.fs().metadata("/dir/one").await.unwrap().ino());
    fs::create_dir(host.path().join(&left)).unwrap();
    fs::write(host.path().join(&left).join("state"), "rfs restore 1\nvolume of another\n").unwrap();
    let one_again = || one("/dir/one").with_replace(true);
    // Others could have put something into one that they may look into.
    volume.restore(host.path(), one_again()).await.unwrap_err();
    fs::set_permissions(host.path().join(&left), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    assert_eq!(volume.restore(host.path(), one_again()).await.unwrap().entries, 1);
    assert!(!host.path().join(&left).exists());
    fs::create_dir(host.path().join(&left)).unwrap();
    fs::write(host.path().join(&left).join("state"), "precious").unwrap();
    volume.restore(host.path(), one_again()).await.unwrap_err();
    assert_eq!(fs::read(host.path().join(&left).join("state")).unwrap(), b"precious");
    fs::remove_dir_all(host.path().join(&left)).unwrap();

    let sub = host.path().join("sub");
    let restored = volume.restore(&sub, one("/dir/below")).await.unwrap();
    assert_eq!(restored.directories, 2);
    assert_eq!(on_host(&sub), in_volume(&volume, Path::new("/dir/below")).await);
}

/// An ACL as Linux gives it, for a user beside the owner.
fn acl(user: u32) -> Vec<u8> {
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, none), (2, 6, user), (4, 5, none), (16, 7, none), (32, 4, none)];
    let entries = entries.iter().flat_map(|(tag, permissions, id)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    });
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_lists_are_those_of_the_volume() {
    let host = tempfile::tempdir().unwrap();
    let set = |name: &str, user| {
        rustix::fs::setxattr(host.path(), name, &acl(user), rustix::fs::XattrFlags::empty())
    };
    // What is made in the host directory has this one, if its file system has any.
    let takes_them = set("system.posix_acl_default", 1234).is_ok();
    let (_, store) = sim();
    let volume = Volume::create("sim://", options(50).with_store(store)).await.unwrap();
    let fs = volume.fs();
    fs.create_dir_all("/with/below").await.unwrap();
    fs.create_dir("/without").await.unwrap();
    fs.write("/with/file", b"").await.unwrap();
    fs.write("/without/file", b"").await.unwrap();
    fs.set_xattr("/with", "system.posix_acl_default", acl(5), XattrMode::Set).await.unwrap();
    fs.set_xattr("/with/file", "system.posix_acl_access", acl(6), XattrMode::Set).await.unwrap();
    let restored = volume.restore(host.path().join("new"), RestoreOptions::new()).await.unwrap();
    assert!(restored.missing.is_empty());
    if takes_them {
        assert_eq!(restored.refused, []);
        assert_eq!(on_host(&host.path().join("new")), in_volume(&volume, Path::new("/")).await);
    } else {
        assert_eq!(restored.refused.len(), 2, "{restored:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_missing_until_it_is_mended() {
    let (sim, volume, _) = filled(40).await;
    let host = tempfile::tempdir().unwrap();
    let segment = sim.paths().into_iter().find(|path| path.as_ref().contains("/segments/")).unwrap();
    let whole = sim.object(&segment).unwrap();
    sim.flip_bit(&segment, 8 * 100_000);
    let restored = volume.restore(host.path(), RestoreOptions::new()).await.unwrap();
    let [missing] = restored.missing.as_slice() else { panic!("{restored:?}") };
    assert!(missing.damaged && missing.path == Path::new("/dir/below/large"), "{missing:?}");
    assert!(missing.why.contains(segment.as_ref().strip_prefix("v/").unwrap()), "{missing:?}");
    assert!(!host.path().join("dir/below/large").exists());
    sim.set_object(&segment, whole);
    let restored = volume.restore(host.path(), RestoreOptions::new()).await.unwrap();
    assert!(restored.missing.is_empty() && restored.kept > 300);
    assert_eq!(on_host(host.path()), in_volume(&volume, Path::new("/")).await);
}
