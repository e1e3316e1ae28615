//! `rfs mount` and `rfs unmount`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::common::{ENDING, Place, has_fuse, has_helper, rfs, rfs_with_signals};

#[test]
fn signals_commit_and_unmount() {
    if !has_fuse() {
        return;
    }
    for signal in ENDING {
        let place = Place::new();
        let mut server = place.mount_by(rfs_with_signals(), &["--commit-interval", "never"]);
        fs::write(place.mnt().join("file"), "kept").unwrap();
        let mut open = File::create(place.mnt().join("open")).unwrap();
        open.write_all(b"kept too").unwrap();
        server.signal(signal);
        assert_eq!(server.status(), Some(0), "{signal:?}");
        assert!(!place.mnt().join("file").exists(), "it is unmounted");
        let found = place.exec(&[], "cat file open");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "keptkept too");
    }
}

#[test]
fn a_user_s_mount_ends_while_it_is_used() {
    if !has_fuse() || !has_helper() {
        return;
    }
    let connections = "/sys/fs/fuse/connections";
    let none = format!("! mountpoint -q {connections} || umount {connections}");
    let shown = format!("mountpoint -q {connections} || mount -t fusectl none {connections}");
    for prepare in [shown, none] {
        let place = Place::new();
        place.give_to_user();
        let mut server = place.mount_by(place.rfs_as_user(&prepare), &["--commit-interval", "never"]);
        let mut user = server
            .as_user("exec 3> open && echo kept > file && echo kept >&3 && echo ready && read end; ls .")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(user.stdout.take().expect("it is piped"));
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        server.signal(Signal::TERM);
        assert_eq!(server.status(), Some(0), "{prepare}");
        let user = user.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&user.stderr).contains("not connected"), "{user:?}");
        assert_eq!(place.exec(&[], "cat file open").stdout, b"kept\nkept\n", "{prepare}");
    }
}

#[test]
fn a_new_volume_is_its_maker_s_from_the_beginning() {
    if !has_fuse() {
        return;
    }
    for made_before in [false, true] {
        let place = Place::new();
        if made_before {
            // As by a process that was killed before it did anything.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            drop(runtime.block_on(rfs::Volume::create(&place.url(), rfs::Options::new())).unwrap());
        }
        place.give_to_user();
        let failed = place
            .rfs_as_user("chmod 0 /dev/fuse")
            .args(["mount", &place.url()])
            .arg(place.mnt())
            .args(["--create", "--commit-interval", "never"])
            .output()
            .unwrap();
        assert_eq!(failed.status.code(), Some(125), "{failed:?}");
        assert!(String::from_utf8_lossy(&failed.stderr).contains("mount"), "{failed:?}");
        let found = place.exec(&[], "stat -c %u:%g .");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "1000:1000\n", "{found:?}");
    }
    // What has a history is nobody else's.
    let place = Place::new();
    assert!(place.exec(&[], "true > file").status.success());
    place.give_to_user();
    let url = place.url();
    let opened =
        place.rfs_as_user("chmod 0 /dev/fuse").args(["mount", &url, "/", "--create"]).output().unwrap();
    assert_eq!(opened.status.code(), Some(125), "{opened:?}");
    assert_eq!(place.exec(&[], "stat -c %u:%g .").stdout, b"0:0\n");
}

#[cfg(feature = "s3")]
#[test]
fn a_signal_ends_the_opening() {
    // It takes connections by its backlog, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new();
    let mnt = place.mnt();
    let exec = ["exec", "s3://bucket/volume", "--", "true"];
    let mount = ["mount", "s3://bucket/volume", mnt.to_str().unwrap()];
    for (args, signal) in [(&mount[..], Signal::TERM), (&mount, Signal::HUP), (&exec, Signal::INT)] {
        if args == exec && !has_fuse() {
            continue;
        }
        let child = rfs_with_signals()
            .args(args)
            .env("AWS_ENDPOINT_URL", format!("http://{}", silent.local_addr().unwrap()))
            .envs([("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_REGION", "here")])
            .env_remove("AWS_ENDPOINT_URL_S3")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It is asked for something: so it listens to signals.
        let (_asked, _) = silent.accept().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(128 + signal.as_raw()), "{told}");
        assert!(told.contains("s3://bucket/volume"), "{told}");
    }
}

#[test]
fn a_last_commit_that_fails_is_told() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let told = place.root.path().join("told");
    let mut command = rfs();
    command.stderr(File::create(&told).unwrap());
    let mut server = place.mount_by(command, &["--commit-interval", "never"]);
    fs::write(place.mnt().join("file"), "lost").unwrap();
    assert!(Command::new("sh").args(["-c", &place.break_store()]).status().unwrap().success());
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(125));
    let told = fs::read_to_string(told).unwrap();
    assert!(told.contains("rfs: the last commit: ") && told.contains("Not a directory"), "{told}");
    assert!(!place.mnt().join("file").exists(), "it is unmounted all the same");
}

#[test]
fn what_nohup_ignores_is_ignored() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let mut nohup = Command::new("env");
    nohup.args(["--default-signal", "--ignore-signal=HUP", env!("CARGO_BIN_EXE_rfs")]);
    let mut server = place.mount_by(nohup, &[]);
    let status = server.proc_status();
    let has = |field: &str, signal: Signal| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
    };
    assert!(has("SigIgn:", Signal::HUP) && !has("SigCgt:", Signal::HUP), "{status}");
    assert!(has("SigCgt:", Signal::TERM) && has("SigCgt:", Signal::XFSZ), "{status}");
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn unmount_waits_for_the_last_commit() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let mut server = place.mount(&["--commit-interval", "never", "--writeback"]);
    let file = File::create(place.mnt().join("file")).unwrap();
    let busy = rfs().arg("unmount").arg(place.mnt()).output().unwrap();
    assert_eq!(busy.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("a program uses it"), "{busy:?}");
    drop(file);
    fs::write(place.mnt().join("file"), "kept").unwrap();
    let done = rfs().arg("unmount").arg(place.mnt()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    // Before the process is asked how it ended: what it committed is there.
    assert_eq!(place.exec(&[], "cat file").stdout, b"kept");
    assert_eq!(server.status(), Some(0));
    let again = rfs().arg("unmount").arg(place.mnt()).output().unwrap();
    assert_eq!(again.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&again.stderr).contains("no volume is mounted"), "{again:?}");
}

#[test]
fn unmount_waits_for_nobody_in_another_pid_namespace() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let mut server = place.mount(&["--commit-interval", "never"]);
    fs::write(place.mnt().join("file"), "kept").unwrap();
    let done = Command::new("unshare")
        .args(["--pid", "--fork", env!("CARGO_BIN_EXE_rfs"), "unmount"])
        .arg(place.mnt())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("PID namespace"), "{done:?}");
    assert_eq!(server.status(), Some(0));
    assert_eq!(place.exec(&[], "cat file").stdout, b"kept");
}

#[test]
fn after_a_kill_what_was_synced_is_there() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let local = place.root.path().join("local");
    let options = ["--commit-interval", "never", "--local-dir", local.to_str().unwrap()];
    let mut server = place.mount(&options);
    for round in 0..3 {
        if round > 0 {
            let before = fs::read_to_string(place.mnt().join(format!("synced-{}", round - 1))).unwrap();
            assert_eq!(before, "x".repeat(100_000));
        }
        let mut file = File::create(place.mnt().join(format!("synced-{round}"))).unwrap();
        file.write_all("x".repeat(100_000).as_bytes()).unwrap();
        file.sync_all().unwrap();
        fs::remove_file(place.mnt().join("gone")).ok();
        fs::write(place.mnt().join("gone"), "not synced").unwrap();
        server.kill();
        drop(file);
        server = place.mount(&options);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn what_a_killed_mount_held_without_a_name_is_removed() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let local = place.root.path().join("local");
    let options = ["--commit-interval", "never", "--local-dir", local.to_str().unwrap()];
    let inodes = || {
        let stat = rustix::fs::statvfs(place.mnt()).unwrap();
        stat.f_files - stat.f_ffree
    };
    let mut server = place.mount(&options);
    let before = inodes();
    let file = File::create(place.mnt().join("file")).unwrap();
    fs::remove_file(place.mnt().join("file")).unwrap();
    file.sync_all().unwrap();
    assert_eq!(inodes(), before + 1);
    server.kill();
    drop(file);
    // Nobody has a handle of it any more.
    let _server = place.mount(&options);
    assert_eq!(inodes(), before);
}

#[test]
fn huge_sparse_files_need_no_memory() {
    if !has_fuse() {
        return;
    }
    let place = Place::new();
    let mount = format!(
        "ulimit -v 2000000; exec '{}' mount '{}' '{}' --create --threads 2",
        env!("CARGO_BIN_EXE_rfs"),
        place.url(),
        place.mnt().display(),
    );
    let mut server = place.serve(Command::new("sh").args(["-c", &mount]));
    let file = File::create(place.mnt().join("file")).unwrap();
    for _ in 0..10 {
        file.set_len(1_000_000_000_000_000).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 999_999_999_999_999).unwrap();
        file.set_len(1).unwrap();
    }
    file.sync_all().unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.status(), Some(0));
}

#[test]
fn what_is_wrong_is_said() {
    let place = Place::new();
    let refused = |args: &[&str]| {
        let output = rfs().args(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let dir = place.mnt();
    let dir = dir.to_str().unwrap();
    assert!(refused(&["mount", &place.url(), dir]).contains("--create"));
    assert!(refused(&["mount", "ftp://x", dir]).contains("ftp"));
    let local = refused(&["mount", &place.url(), dir, "--create", "--level", "local"]);
    assert!(local.contains("--local-dir"), "{local}");
    let missing = format!("{dir}/missing");
    if has_fuse() {
        assert!(refused(&["mount", &place.url(), &missing, "--create"]).contains("missing"));
    }
    assert!(refused(&["mount", &place.url(), dir, "--commit-interval", "5"]).contains("unit"));
}
