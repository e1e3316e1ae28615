//! Operations for callers who may not do everything; attributes beyond permission bits.

use rfs::{
    Credential, Errno, Fs, Limits, Node, OpenOptions, Options, Permission, Permissions, QuotaSubject,
    RenameMode, Volume, XattrMode,
};

use crate::common::options;

async fn volume() -> Volume {
    Volume::create("memory://", options(1)).await.unwrap()
}

fn errno<T: std::fmt::Debug>(result: rfs::Result<T>) -> Errno {
    result.unwrap_err().errno().expect("a POSIX error")
}

/// A world-writable directory, as `/tmp`.
async fn shared_dir(fs: &Fs) {
    fs.create_dir("/tmp").await.unwrap();
    fs.set_permissions("/tmp", Permissions::from_mode(0o1777)).await.unwrap();
}

#[tokio::test]
async fn each_operation_is_checked_for_its_caller() {
    let volume = volume().await;
    let fs = volume.fs();
    shared_dir(&fs).await;
    let (ann, bob) =
        (fs.as_user(Credential::user(1000, 1000, &[50])), fs.as_user(Credential::user(1001, 1001, &[50])));
    ann.write("/tmp/a", b"ann's").await.unwrap();
    let metadata = fs.metadata("/tmp/a").await.unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode()), (1000, 1000, 0o644));
    assert_eq!(bob.read("/tmp/a").await.unwrap(), b"ann's");
    assert_eq!(errno(bob.write("/tmp/a", b"bob's").await), Errno::AccessDenied);
    assert_eq!(errno(bob.truncate("/tmp/a", 0).await), Errno::AccessDenied);
    assert_eq!(errno(bob.remove_file("/tmp/a").await), Errno::NotPermitted, "the directory is sticky");
    assert_eq!(errno(bob.rename("/tmp/a", "/tmp/b").await), Errno::NotPermitted);
    assert_eq!(
        errno(bob.set_permissions("/tmp/a", Permissions::from_mode(0o666)).await),
        Errno::NotPermitted
    );
    assert_eq!(errno(bob.chown("/tmp/a", Some(1001), None).await), Errno::NotPermitted);
    assert_eq!(errno(ann.chown("/tmp/a", Some(1001), None).await), Errno::NotPermitted);
    ann.chown("/tmp/a", None, Some(50)).await.expect("ann is in the group");
    assert_eq!(errno(ann.write("/etc", b"").await), Errno::AccessDenied);
    assert_eq!(errno(ann.create_dir("/d").await), Errno::AccessDenied);
    let device = Node::CharDevice(0x103);
    assert_eq!(errno(ann.mknod("/tmp/null", device.clone(), 0o666).await), Errno::NotPermitted);
    fs.mknod("/tmp/null", device, 0o666).await.unwrap();
    let null = fs.metadata("/tmp/null").await.unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == 0x103 && null.len() == 0);

    ann.access("/tmp/a", Permission::READ | Permission::WRITE).await.unwrap();
    bob.access("/tmp/a", Permission::READ).await.unwrap();
    assert_eq!(errno(bob.access("/tmp/a", Permission::WRITE).await), Errno::AccessDenied);
    assert_eq!(errno(ann.access("/tmp/a", Permission::EXECUTE).await), Errno::AccessDenied);
    assert_eq!(errno(ann.access("/tmp/none", Permission::NONE).await), Errno::NotFound);

    ann.set_permissions("/tmp/a", Permissions::from_mode(0o600)).await.unwrap();
    assert_eq!(errno(bob.open("/tmp/a").await), Errno::AccessDenied);
    assert_eq!(errno(bob.copy("/tmp/a", "/tmp/mine").await), Errno::AccessDenied);
    assert_eq!(errno(bob.clone_file("/tmp/a", "/tmp/mine").await), Errno::AccessDenied);
    assert!(!fs.try_exists("/tmp/mine").await.unwrap());
    ann.create_dir("/tmp/private").await.unwrap();
    ann.set_permissions("/tmp/private", Permissions::from_mode(0o700)).await.unwrap();
    assert_eq!(errno(bob.read_dir("/tmp/private").await), Errno::AccessDenied);
    assert_eq!(errno(bob.metadata("/tmp/private/x").await), Errno::AccessDenied);
    let batch = bob.batch().write("/tmp/fine", b"").remove_file("/tmp/a").apply().await;
    assert_eq!(errno(batch), Errno::NotPermitted);
    assert!(!fs.try_exists("/tmp/fine").await.unwrap());
    volume.check().await.unwrap();
}

/// A handle was checked when it was opened: what is done through it is not checked again, as in POSIX.
#[tokio::test]
async fn a_handle_keeps_what_it_was_opened_for() {
    let volume = volume().await;
    let fs = volume.fs();
    shared_dir(&fs).await;
    let ann = fs.as_user(Credential::user(1000, 1000, &[]));
    let file = OpenOptions::new().read(true).write(true).create(true).open(&ann, "/tmp/a").await.unwrap();
    fs.chown("/tmp/a", Some(0), Some(0)).await.unwrap();
    fs.set_permissions("/tmp/a", Permissions::from_mode(0)).await.unwrap();
    file.write_all_at(b"still", 0).await.unwrap();
    assert_eq!(file.read_at(&mut [0; 9], 0).await.unwrap(), 5);
    assert_eq!(errno(file.set_permissions(Permissions::from_mode(0o777)).await), Errno::NotPermitted);
    assert_eq!(errno(file.chown(Some(1000), None).await), Errno::NotPermitted);
    assert_eq!(errno(ann.open("/tmp/a").await), Errno::AccessDenied);
}

#[tokio::test]
async fn a_write_clears_set_user_id() {
    let volume = volume().await;
    let fs = volume.fs();
    shared_dir(&fs).await;
    let ann = fs.as_user(Credential::user(1000, 1000, &[]));
    ann.write("/tmp/tool", b"#!").await.unwrap();
    ann.set_permissions("/tmp/tool", Permissions::from_mode(0o4755)).await.unwrap();
    let before = volume.position();
    let file = OpenOptions::new().append(true).open(&ann, "/tmp/tool").await.unwrap();
    file.append(b"more").await.unwrap();
    assert_eq!(fs.metadata("/tmp/tool").await.unwrap().mode(), 0o755);
    assert_eq!(volume.position().0, before.0 + 2, "two Changes, in one step");
    assert_eq!(fs.read("/tmp/tool").await.unwrap(), b"#!more");
    fs.set_permissions("/tmp/tool", Permissions::from_mode(0o4755)).await.unwrap();
    fs.write("/tmp/tool", b"root may").await.unwrap();
    assert_eq!(fs.metadata("/tmp/tool").await.unwrap().mode(), 0o4755);
    volume.commit().await.unwrap();
    assert_eq!(fs.read("/tmp/tool").await.unwrap(), b"root may");
    volume.check().await.unwrap();
}

#[tokio::test]
async fn the_umask_is_the_credentials() {
    let credential = Credential { umask: 0o027, ..Credential::user(5, 6, &[]) };
    let volume = Volume::create("memory://", options(1).with_credential(credential)).await.unwrap();
    let root = volume.fs().as_user(Credential::root());
    root.set_permissions("/", Permissions::from_mode(0o777)).await.unwrap();
    let fs = volume.fs();
    fs.create_dir("/d").await.unwrap();
    OpenOptions::new().write(true).create(true).mode(0o777).open(&fs, "/d/f").await.unwrap();
    fs.batch().write("/d/b", b"").apply().await.unwrap();
    for (path, mode) in [("/d", 0o750), ("/d/f", 0o750), ("/d/b", 0o640)] {
        let metadata = fs.metadata(path).await.unwrap();
        assert_eq!((metadata.mode(), metadata.uid(), metadata.gid()), (mode, 5, 6), "{path}");
    }
    root.write("/by-root", b"").await.unwrap();
    assert_eq!(fs.metadata("/by-root").await.unwrap().mode(), 0o666);
}

/// Who makes a file may fill it, whatever permissions it gets: `open` does not check a file that it made.
#[tokio::test]
async fn who_makes_a_file_fills_it() {
    let volume = volume().await;
    let fs = volume.fs();
    shared_dir(&fs).await;
    fs.create_dir("/tmp/acl").await.unwrap();
    fs.set_permissions("/tmp/acl", Permissions::from_mode(0o777)).await.unwrap();
    fs.write("/source", b"content").await.unwrap();
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(1_u16, 5_u16), (4, 5), (32, 5)] {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes(), [255, 255], [255, 255]].concat());
    }
    fs.set_xattr("/tmp/acl", "system.posix_acl_default", &acl, XattrMode::Set).await.unwrap();
    let strict = Credential { umask: 0o222, ..Credential::user(1000, 1000, &[]) };
    for (caller, dir) in [(strict, "/tmp"), (Credential::user(1000, 1000, &[]), "/tmp/acl")] {
        let ann = fs.as_user(caller);
        let path = |name: &str| format!("{dir}/{name}");
        ann.copy("/source", path("copy")).await.unwrap();
        ann.clone_file("/source", path("clone")).await.unwrap();
        ann.write(path("write"), b"content").await.unwrap();
        ann.batch().write(path("batch"), b"content").apply().await.unwrap();
        for (name, mode) in [("copy", 0o644), ("clone", 0o644), ("write", 0o444), ("batch", 0o444)] {
            assert_eq!(ann.read(path(name)).await.unwrap(), b"content");
            assert_eq!(ann.metadata(path(name)).await.unwrap().mode(), mode, "{dir}/{name}");
        }
        let again = ann.batch().write(path("new"), b"").append(path("new"), b"").append(path("batch"), b"");
        let error = again.apply().await.unwrap_err();
        assert!(error.to_string().contains("operation 1"), "each that opens it again is checked: {error}");
        assert_eq!(error.errno(), Some(Errno::AccessDenied));
    }
    volume.check().await.unwrap();
}

/// As `std::fs::copy`, that sets the permissions before it writes.
#[tokio::test]
async fn a_copy_has_the_permissions_that_its_maker_may_give() {
    let volume = volume().await;
    let fs = volume.fs();
    shared_dir(&fs).await;
    fs.write("/tool", b"#!").await.unwrap();
    fs.set_permissions("/tool", Permissions::from_mode(0o4755)).await.unwrap();
    let ann = fs.as_user(Credential::user(1000, 1000, &[]));
    ann.copy("/tool", "/tmp/copy").await.unwrap();
    assert_eq!(fs.metadata("/tmp/copy").await.unwrap().mode(), 0o755, "a write clears set-user-id");
    fs.copy("/tool", "/tmp/roots").await.unwrap();
    assert_eq!(fs.metadata("/tmp/roots").await.unwrap().mode(), 0o4755);
    fs.set_permissions("/tmp/roots", Permissions::from_mode(0o666)).await.unwrap();
    assert_eq!(errno(ann.copy("/tool", "/tmp/roots").await), Errno::NotPermitted, "only its owner sets them");
    assert_eq!(fs.metadata("/tmp/roots").await.unwrap().mode(), 0o666);
    fs.symlink("roots", "/tmp/link").await.unwrap();
    fs.copy("/source", "/tmp/link").await.unwrap_err();
    fs.copy("/tool", "/tmp/link").await.unwrap();
    assert_eq!(fs.metadata("/tmp/roots").await.unwrap().mode(), 0o4755);
}

#[tokio::test]
async fn attributes_are_set_found_listed_and_removed() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/f", b"").await.unwrap();
    fs.symlink("f", "/s").await.unwrap();
    fs.set_xattr("/s", "user.a", b"1", XattrMode::Create).await.unwrap();
    assert_eq!(fs.xattr("/f", "user.a").await.unwrap(), b"1");
    assert_eq!(errno(fs.set_xattr("/f", "user.a", b"2", XattrMode::Create).await), Errno::Exists);
    assert_eq!(errno(fs.set_xattr("/f", "user.b", b"2", XattrMode::Replace).await), Errno::NoAttribute);
    assert_eq!(errno(fs.xattr("/f", "user.b").await), Errno::NoAttribute);
    assert_eq!(errno(fs.set_xattr("/f", "odd.b", b"", XattrMode::Set).await), Errno::NotSupported);
    assert_eq!(
        errno(fs.no_follow().set_xattr("/s", "user.a", b"", XattrMode::Set).await),
        Errno::NotPermitted
    );
    fs.no_follow().set_xattr("/s", "trusted.a", b"link", XattrMode::Set).await.unwrap();
    let file = OpenOptions::new().read(true).open(&fs, "/f").await.unwrap();
    file.set_xattr("user.b", vec![7; 65_536], XattrMode::Set).await.unwrap();
    assert_eq!(file.xattr("user.b").await.unwrap().len(), 65_536);
    assert_eq!(errno(file.set_xattr("user.c", vec![7; 65_537], XattrMode::Set).await), Errno::ListTooLong);
    let names = |names: Vec<rfs::XattrName>| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(fs.xattr_names("/f").await.unwrap()), ["user.a", "user.b"]);
    assert_eq!(names(fs.no_follow().xattr_names("/s").await.unwrap()), ["trusted.a"]);
    let user = fs.as_user(Credential::user(1, 1, &[]));
    assert_eq!(names(user.no_follow().xattr_names("/s").await.unwrap()), [""; 0]);
    file.remove_xattr("user.b").await.unwrap();
    fs.remove_xattr("/f", "user.a").await.unwrap();
    assert_eq!(errno(fs.remove_xattr("/f", "user.a").await), Errno::NoAttribute);
    assert!(file.xattr_names().await.unwrap().is_empty());
    volume.commit().await.unwrap();
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_view_that_does_not_follow_is_about_the_symlink() {
    let volume = volume().await;
    let (fs, links) = (volume.fs(), volume.fs().no_follow());
    fs.write("/f", b"target").await.unwrap();
    fs.symlink("f", "/s").await.unwrap();
    links.chown("/s", Some(4), Some(5)).await.unwrap();
    let time = rfs::Timestamp::from_parts(-3, 7);
    links.set_times("/s", None, Some(time)).await.unwrap();
    let link = links.metadata("/s").await.unwrap();
    assert!(link.is_symlink());
    assert_eq!((link.uid(), link.gid(), link.attr().times.modified), (4, 5, time));
    assert_eq!(fs.metadata("/f").await.unwrap().uid(), 0);
    assert_eq!(errno(links.read("/s").await), Errno::TooManySymlinks);
    assert_eq!(links.read("/f").await.unwrap(), b"target");
}

#[tokio::test]
async fn names_are_exchanged_kept_or_refused() {
    let volume = volume().await;
    let fs = volume.fs();
    fs.write("/a", b"a").await.unwrap();
    fs.create_dir("/d").await.unwrap();
    fs.write("/d/in", b"in").await.unwrap();
    assert_eq!(errno(fs.rename_with("/a", "/d", RenameMode::NoReplace).await), Errno::Exists);
    assert_eq!(errno(fs.rename_with("/a", "/none", RenameMode::Exchange).await), Errno::NotFound);
    assert_eq!(errno(fs.rename_with("/a", "/none", RenameMode::Whiteout).await), Errno::Invalid);
    fs.rename_with("/a", "/d", RenameMode::Exchange).await.unwrap();
    assert_eq!(fs.read("/d").await.unwrap(), b"a");
    assert_eq!(fs.read("/a/in").await.unwrap(), b"in");
    fs.rename_with("/d", "/free", RenameMode::NoReplace).await.unwrap();
    assert_eq!(fs.read("/free").await.unwrap(), b"a");
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_file_without_a_name_gets_one_or_goes() {
    let volume = volume().await;
    let fs = volume.fs();
    let both = OpenOptions::new().read(true).write(true).mode(0o666).clone();
    let file = fs.open_nameless("/", &both).await.unwrap();
    file.write_all_at(b"content", 0).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().nlink(), 0);
    assert_eq!(volume.held_files(), [file.ino()]);
    fs.write("/taken", b"").await.unwrap();
    assert_eq!(errno(file.link_to("/taken").await), Errno::Exists);
    file.link_to("/named").await.unwrap();
    drop(file);
    assert_eq!(fs.read("/named").await.unwrap(), b"content");
    assert_eq!(fs.metadata("/named").await.unwrap().mode(), 0o644);
    let never = fs.open_nameless("/", both.clone().create_new(true)).await.unwrap();
    assert_eq!(errno(never.link_to("/never").await), Errno::NotFound);
    let ino = never.ino();
    drop(never);
    assert_eq!(errno(fs.open_held(ino, &both).await), Errno::Stale);
    assert_eq!(errno(fs.open_nameless("/named", &both).await), Errno::NotADirectory);
    assert_eq!(errno(fs.open_nameless("/", OpenOptions::new().read(true)).await), Errno::Invalid);
    assert!(volume.held_files().is_empty());
    volume.check().await.unwrap();
}

#[tokio::test]
async fn quotas_refuse_before_anything_is_half_done() {
    let volume = Volume::create("memory://", Options::new().with_commit_interval(None)).await.unwrap();
    let fs = volume.fs();
    shared_dir(&fs).await;
    let ann = fs.as_user(Credential::user(1000, 1000, &[]));
    let limits = Limits { bytes: Some(100), inodes: Some(3) };
    assert_eq!(errno(ann.set_quota(QuotaSubject::User(1000), limits).await), Errno::NotPermitted);
    fs.set_quota(QuotaSubject::User(1000), limits).await.unwrap();
    ann.write("/tmp/a", vec![1; 100]).await.unwrap();
    write_over(&ann, "/tmp/a").await;
    let file = OpenOptions::new().append(true).open(&ann, "/tmp/a").await.unwrap();
    assert_eq!(errno(file.append(b"x").await), Errno::QuotaExceeded);
    assert_eq!(file.metadata().await.unwrap().len(), 100);
    ann.write("/tmp/b", b"").await.unwrap();
    ann.write("/tmp/c", b"").await.unwrap();
    assert_eq!(errno(ann.write("/tmp/d", b"").await), Errno::QuotaExceeded);
    assert_eq!(errno(ann.copy("/tmp/a", "/tmp/b").await), Errno::QuotaExceeded);
    assert!(fs.metadata("/tmp/b").await.unwrap().is_file(), "the copy that was refused did nothing");
    fs.write("/tmp/d", vec![1; 1000]).await.expect("root has no quota");
    let quotas = fs.quotas().await.unwrap();
    assert_eq!(quotas.len(), 1);
    assert_eq!((quotas[0].1.limits, quotas[0].1.used.bytes, quotas[0].1.used.inodes), (limits, 100, 3));

    fs.set_quota(QuotaSubject::Volume, Limits { bytes: Some(2000), inodes: None }).await.unwrap();
    assert_eq!(errno(fs.write("/tmp/e", vec![1; 901]).await), Errno::NoSpace);
    assert_eq!(fs.metadata("/tmp/e").await.unwrap().len(), 0);
    let sizes = fs.stat_fs().await.unwrap();
    assert_eq!(sizes.name_max, 255);
    fs.set_quota(QuotaSubject::User(1000), Limits::default()).await.unwrap();
    file.append(b"x").await.unwrap();
    volume.check().await.unwrap();
}

/// Writes over what is there already: that needs no room.
async fn write_over(fs: &Fs, path: &str) {
    let file = OpenOptions::new().write(true).open(fs, path).await.unwrap();
    let len = file.metadata().await.unwrap().len();
    file.write_all_at(&vec![2; len as usize], 0).await.unwrap();
}
