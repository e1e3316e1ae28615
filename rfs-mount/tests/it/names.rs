//! Names, special nodes, times and extended attributes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags, makedev, mknodat,
    renameat_with, utimensat,
};
use rustix::io::Errno;

use crate::common::{wait, with_mount};

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_are_one_inode_with_the_right_count() {
    with_mount(|mounted| {
        let (one, two) = (mounted.path("one"), mounted.path("two"));
        fs::write(&one, "x").unwrap();
        assert_eq!(fs::metadata(&one).unwrap().nlink(), 1);
        fs::hard_link(&one, &two).unwrap();
        let (first, second) = (fs::metadata(&one).unwrap(), fs::metadata(&two).unwrap());
        assert_eq!((first.ino(), first.nlink()), (second.ino(), 2));
        assert_eq!(second.nlink(), 2);
        fs::remove_file(&one).unwrap();
        assert_eq!(fs::metadata(&two).unwrap().nlink(), 1);
        fs::write(&one, "y").unwrap();
        fs::hard_link(&two, mounted.path("three")).unwrap();
        fs::rename(&one, &two).unwrap();
        assert_eq!(fs::metadata(mounted.path("three")).unwrap().nlink(), 1);
        assert_eq!(fs::read(&two).unwrap(), b"y");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_keep_their_flags() {
    with_mount(|mounted| {
        let (one, two) = (mounted.path("one"), mounted.path("two"));
        fs::write(&one, "1").unwrap();
        fs::create_dir(&two).unwrap();
        let rename = |flags| renameat_with(CWD, &one, CWD, &two, flags);
        assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
        let whiteout = renameat_with(CWD, &one, CWD, mounted.path("three"), RenameFlags::WHITEOUT);
        assert_eq!(whiteout, Err(Errno::INVAL));
        rename(RenameFlags::EXCHANGE).unwrap();
        assert!(fs::metadata(&one).unwrap().is_dir());
        assert_eq!(fs::read(&two).unwrap(), b"1");
        assert_eq!(fs::rename(&two, &one).unwrap_err().raw_os_error(), Some(21), "onto a directory");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn special_nodes_keep_kind_and_number() {
    with_mount(|mounted| {
        let make = |name: &str, kind, device| {
            mknodat(CWD, mounted.path(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
            fs::metadata(mounted.path(name)).unwrap()
        };
        assert!(make("fifo", FileType::Fifo, 0).file_type().is_fifo());
        assert!(make("socket", FileType::Socket, 0).file_type().is_socket());
        assert!(make("file", FileType::RegularFile, 0).file_type().is_file());
        // The largest numbers that Linux has.
        for (name, kind, (major, minor)) in [
            ("null", FileType::CharacterDevice, (1, 3)),
            ("most", FileType::BlockDevice, (0xfff, 0xf_ffff)),
            ("mixed", FileType::CharacterDevice, (259, 70_000)),
        ] {
            let made = make(name, kind, makedev(major, minor));
            assert_eq!(made.rdev(), makedev(major, minor), "{name}");
            assert_eq!(made.mode() & 0o7777, 0o640);
            let inodes = mounted.volume.inodes();
            let root = rfs::Credential::root();
            let stored = wait(inodes.lookup(&root, rfs::Ino::ROOT, name.as_bytes())).unwrap();
            assert_eq!(stored.device, makedev(major, minor), "{name} in the volume");
        }
        assert_eq!(fs::read(mounted.path("null")).unwrap(), b"");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_before_1970_and_after_2038_keep_their_nanoseconds() {
    with_mount(|mounted| {
        let file = mounted.path("file");
        fs::write(&file, "").unwrap();
        for (seconds, nanos) in [(-1, 999_999_999), (-2_000_000_000, 1), (4_294_967_296, 123_456_789), (0, 0)]
        {
            let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
            let shown = fs::metadata(&file).unwrap();
            assert_eq!((shown.mtime(), shown.mtime_nsec()), (seconds, nanos));
            assert_eq!((shown.atime(), shown.atime_nsec()), (seconds, nanos));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_no_file_system_has_are_clamped() {
    // What 64 bits of nanoseconds can hold.
    let runtime = tokio::runtime::Handle::current();
    let first = SystemTime::UNIX_EPOCH - Duration::from_nanos(i64::MIN.unsigned_abs());
    let last = SystemTime::UNIX_EPOCH + Duration::from_nanos(i64::MAX.unsigned_abs());
    with_mount(|mounted| {
        let file = mounted.path("file");
        fs::write(&file, "").unwrap();
        for (seconds, nanos, meant) in [
            (i64::MIN, 0, first),
            (i64::MIN, 999_999_999, first),
            (i64::MIN + 1, 1, first),
            (i64::MAX, 999_999_999, last),
        ] {
            let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
            let kept = runtime.block_on(mounted.volume.fs().metadata("/file")).unwrap();
            assert_eq!((kept.accessed(), kept.modified()), (meant, meant), "{seconds}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_can_be_set_read_listed_and_removed() {
    with_mount(|mounted| {
        let file = mounted.path("file");
        fs::write(&file, "").unwrap();
        let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&file, name, value, flags);
        let mut room = [0_u8; 64];
        set("user.one", b"1", XattrFlags::CREATE).unwrap();
        assert_eq!(set("user.one", b"2", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(set("user.two", b"2", XattrFlags::REPLACE), Err(Errno::NODATA));
        set("user.one", b"123", XattrFlags::REPLACE).unwrap();
        set("trusted.two", b"", XattrFlags::empty()).unwrap();
        assert_eq!(rustix::fs::getxattr(&file, "user.one", &mut room[..]), Ok(3));
        assert_eq!(&room[..3], b"123");
        assert_eq!(rustix::fs::getxattr(&file, "user.one", &mut room[..2]), Err(Errno::RANGE));
        let len = rustix::fs::listxattr(&file, &mut room[..]).unwrap();
        assert_eq!(&room[..len], b"trusted.two\0user.one\0");
        fs::set_permissions(mounted.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let listed = as_nobody("getfattr -m - --only-values -d \"$0\"; getfattr -m - \"$0\"", &file);
        assert!(!listed.contains("trusted"), "{listed}");
        rustix::fs::removexattr(&file, "user.one").unwrap();
        assert_eq!(rustix::fs::removexattr(&file, "user.one"), Err(Errno::NODATA));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_those_of_who_asks() {
    with_mount(|mounted| {
        fs::set_permissions(mounted.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let (file, shared) = (mounted.path("file"), mounted.path("shared"));
        fs::write(&file, "root's").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(as_nobody("cat \"$0\" 2>&1 || true", &file).contains("Permission denied"));
        assert!(as_nobody("echo >> \"$0\" || true", &file).is_empty());
        as_nobody("umask 027; echo mine > \"$0/own\"; mkdir \"$0/dir\"", &shared);
        let own = fs::metadata(shared.join("own")).unwrap();
        assert_eq!((own.uid(), own.gid(), own.mode() & 0o7777), (NOBODY, NOBODY, 0o640));
        assert_eq!(fs::metadata(shared.join("dir")).unwrap().mode() & 0o7777, 0o750);
        // What others own in a sticky directory is not one's own to remove.
        fs::write(shared.join("roots"), "").unwrap();
        as_nobody("rm -f \"$0/roots\" || true", &shared);
        assert!(shared.join("roots").exists());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_takes_set_user_id_away() {
    with_mount(|mounted| {
        fs::set_permissions(mounted.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let file = mounted.path("program");
        fs::write(&file, "x").unwrap();
        let commands = ["echo >> \"$0\"", "truncate -s 7 \"$0\"", ": > \"$0\"", "fallocate -l 100 \"$0\""];
        for command in commands {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
            as_nobody(command, &file);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o777, "by {command}");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
            let done = Command::new("sh").args(["-c", command]).arg(&file).status().unwrap();
            assert!(done.success(), "{command}");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o6777, "by root, {command}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
        std::os::unix::fs::chown(&file, Some(NOBODY), None).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o777, "by another owner");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_is_enforced_and_inherited() {
    with_mount(|mounted| {
        let setfacl = |spec: &str, name: &str| {
            let done = Command::new("setfacl").args(["-m", spec]).arg(mounted.path(name)).status();
            done.is_ok_and(|done| done.success())
        };
        fs::set_permissions(mounted.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(mounted.path("file"), "secret").unwrap();
        fs::set_permissions(mounted.path("file"), fs::Permissions::from_mode(0o600)).unwrap();
        if !setfacl("u:65534:r", "file") {
            eprintln!("not tested: there is no setfacl (package acl)");
            return;
        }
        assert_eq!(as_nobody("cat \"$0\"", &mounted.path("file")), "secret");
        assert_eq!(fs::metadata(mounted.path("file")).unwrap().mode() & 0o777, 0o640, "the mask is shown");
        fs::create_dir(mounted.path("dir")).unwrap();
        assert!(setfacl("d:u:65534:rwx,d:g::-,d:o::-", "dir"));
        fs::write(mounted.path("dir/made"), "inherited").unwrap();
        assert_eq!(as_nobody("cat \"$0\"", &mounted.path("dir/made")), "inherited");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_complete_while_entries_come_and_go() {
    with_mount(|mounted| {
        let dir = mounted.path("dir");
        fs::create_dir(&dir).unwrap();
        for index in 0..1000 {
            fs::write(dir.join(format!("stays-{index}")), "").unwrap();
            fs::write(dir.join(format!("goes-{index}")), "").unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, entry) in fs::read_dir(&dir).unwrap().enumerate() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(seen.insert(name.clone()), "{name} is listed twice");
            let _ = fs::remove_file(dir.join(format!("goes-{}", index % 1000)));
            fs::write(dir.join(format!("comes-{index}")), "").unwrap();
            if index > 5000 {
                break;
            }
        }
        assert_eq!(seen.iter().filter(|name| name.starts_with("stays-")).count(), 1000);
        assert!(fs::remove_dir(&dir).is_err());
        fs::remove_dir_all(&dir).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_opened_with_o_excl_and_o_directory() {
    with_mount(|mounted| {
        let open = |name: &str, flags| {
            rustix::fs::open(mounted.path(name), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
                .map(drop)
        };
        open("new", OFlags::CREATE | OFlags::EXCL | OFlags::RDWR).unwrap();
        assert_eq!(open("new", OFlags::CREATE | OFlags::EXCL | OFlags::RDWR), Err(Errno::EXIST));
        assert_eq!(open("new", OFlags::DIRECTORY), Err(Errno::NOTDIR));
        std::os::unix::fs::symlink("new", mounted.path("link")).unwrap();
        assert_eq!(open("link", OFlags::NOFOLLOW), Err(Errno::LOOP));
        assert_eq!(open("none/new", OFlags::CREATE | OFlags::RDWR), Err(Errno::NOENT));
        assert_eq!(fs::read_link(mounted.path("link")).unwrap().to_str(), Some("new"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_program_is_not_truncated() {
    with_mount(|mounted| {
        let program = mounted.path("cat");
        fs::copy("/bin/cat", &program).unwrap();
        let length = fs::metadata(&program).unwrap().len();
        let mut running =
            Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        for how in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
            let opened = rustix::fs::open(&program, how | OFlags::CLOEXEC, Mode::empty()).map(drop);
            assert_eq!(opened, Err(Errno::TXTBSY), "{how:?}");
        }
        assert_eq!(fs::metadata(&program).unwrap().len(), length);
        running.stdin.take().unwrap().write_all(b"still there").unwrap();
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"still there");
    })
    .await;
}

const NOBODY: u32 = 65_534;

/// What a shell prints that runs as a user without rights.
fn as_nobody(command: &str, argument: &std::path::Path) -> String {
    use std::os::unix::process::CommandExt;
    // The directory that the mount is in is root's own.
    let parent = argument.ancestors().find(|dir| dir.parent() == Some(&std::env::temp_dir())).unwrap();
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", command]).arg(argument).uid(NOBODY).gid(NOBODY).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
