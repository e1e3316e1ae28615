//! Mounting, unmounting, and what can go wrong with them.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};

use rfs::{Level, Options, Volume};
use rfs_mount::{Error, Mount, MountOptions};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::common::{Mounted, has_fuse, options, with_mount};

#[tokio::test(flavor = "multi_thread")]
async fn the_volume_comes_back_with_what_was_written() {
    if !has_fuse() {
        return;
    }
    for writeback in [false, true] {
        let mut mounted = Mounted::new(MountOptions::new().with_writeback(writeback)).await;
        let volume = tokio::task::block_in_place(|| {
            // Not closed, not synced: the kernel may still hold it.
            let mut file = File::create(mounted.path("file")).unwrap();
            file.write_all(b"written").unwrap();
            let volume = mounted.unmount();
            assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(107), "ENOTCONN");
            assert_eq!(fs::read_dir(mounted.path("")).unwrap().count(), 0);
            volume
        });
        assert_eq!(volume.fs().read("/file").await.unwrap(), b"written");
        volume.commit().await.unwrap();
    }
}

/// Writes through shared mappings, without `msync`: to a file that was closed since, to one that has no handle besides
/// the mapping, and to one that has. Then it waits. Every other page is written, so that each is a request of its own.
const MAPPER: &str = "
import mmap, os, sys
def mapped(name):
    file = os.open(name, os.O_CREAT | os.O_RDWR)
    os.ftruncate(file, 4096 * 8192)
    memory = mmap.mmap(file, 4096 * 8192)
    for page in range(4096):
        memory[page * 8192] = 1
    return file, memory
file, closed = mapped('closed')
closed.close()
os.close(file)
file, alone = mapped('mapped')
os.close(file)
file, still = mapped('open')
print('ready', flush=True)
sys.stdin.read()
";

/// Starts it. It ends when its standard input does.
fn mapper(mounted: &Mounted) -> Child {
    let mut program = Command::new("python3")
        .args(["-c", MAPPER])
        .current_dir(mounted.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().expect("it is piped")).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    program
}

async fn has_what_was_mapped(volume: &Volume) {
    for name in ["closed", "mapped", "open"] {
        let content = volume.fs().read(&format!("/{name}")).await.unwrap();
        let written = content.chunks(8192).filter(|pages| pages.first() == Some(&1)).count();
        assert_eq!(written, 4096, "pages of {name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_to_a_mapping_is_not_lost() {
    if !has_fuse() {
        return;
    }
    for writeback in [false, true] {
        let mut mounted = Mounted::new(MountOptions::new().with_writeback(writeback)).await;
        let (volume, mut program) = tokio::task::block_in_place(|| {
            let program = mapper(&mounted);
            (mounted.unmount(), program)
        });
        has_what_was_mapped(&volume).await;
        drop(program.stdin.take());
        tokio::task::block_in_place(|| program.wait()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_on_top_stays() {
    if !has_fuse() {
        return;
    }
    let mut mounted = Mounted::new(MountOptions::new()).await;
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).arg(mounted.path("")).status();
        assert!(done.unwrap().success(), "{program}");
    };
    let (program, other) = tokio::task::block_in_place(|| {
        let program = mapper(&mounted);
        run("mount", &["-t", "tmpfs", "other"]);
        let other = mounted.path("file");
        fs::write(&other, "of another").unwrap();
        (program, other)
    });
    let dir = mounted.path("");
    let volume = tokio::task::block_in_place(|| mounted.unmount());
    let found = tokio::task::block_in_place(|| {
        let found = fs::read_to_string(other);
        for _ in 0..2 {
            // If it was not there any more, then the second is refused.
            Command::new("umount").arg("-l").arg(&dir).stderr(Stdio::null()).status().unwrap();
        }
        found
    });
    assert_eq!(found.unwrap(), "of another");
    has_what_was_mapped(&volume).await;
    let mut program = program;
    drop(program.stdin.take());
    tokio::task::block_in_place(|| program.wait()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_user_mounted_on_top_stays() {
    if !has_fuse() {
        return;
    }
    let mut mounted = Mounted::new(MountOptions::new()).await;
    let dir = mounted.path("");
    tokio::task::block_in_place(|| {
        // Nobody serves it, and the kernel does not let root in.
        let server = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let data = format!("fd={},rootmode=40000,user_id=1000,group_id=1000", server.as_raw_fd());
        let data = CString::new(data).unwrap();
        mount("other", &dir, "fuse", MountFlags::NOSUID, Some(&*data)).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap_err().raw_os_error(), Some(13), "EACCES");
        mounted.unmount();
        unmount(&dir, UnmountFlags::DETACH).unwrap();
        assert!(fs::metadata(&dir).is_ok(), "what was on top was still there");
        unmount(&dir, UnmountFlags::DETACH).unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_unmounts_and_others_can_unmount() {
    if !has_fuse() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open_or_create("memory://", options()).await.unwrap();
    let mount = Mount::new(volume.clone(), dir.path(), MountOptions::new()).unwrap();
    volume.fs().write("/file", b"x").await.unwrap();
    tokio::task::block_in_place(|| {
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"x");
        drop(mount);
        assert!(!dir.path().join("file").exists());
    });
    let mount = Mount::new(volume, dir.path(), MountOptions::new()).unwrap();
    let done = tokio::task::block_in_place(|| Command::new("umount").arg(dir.path()).status());
    assert!(done.unwrap().success());
    mount.wait().await;
    let volume = tokio::task::block_in_place(|| mount.unmount()).unwrap();
    assert_eq!(volume.fs().read("/file").await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_was_detached_while_in_use_keeps_nobody_waiting() {
    if !has_fuse() {
        return;
    }
    let mut mounted = Mounted::new(MountOptions::new()).await;
    let volume = tokio::task::block_in_place(|| {
        let mut file = File::create(mounted.path("file")).unwrap();
        let done = Command::new("umount").arg("-l").arg(mounted.path("")).status().unwrap();
        assert!(done.success());
        file.write_all(b"still goes").unwrap();
        let volume = mounted.unmount();
        file.write_all(b" on").unwrap();
        volume
    });
    assert_eq!(volume.fs().read("/file").await.unwrap(), b"still goes on");
    volume.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_reaches_the_volume_s_level() {
    if !has_fuse() {
        return;
    }
    let local = tempfile::tempdir().unwrap();
    let levels = [
        (Level::Local, options().with_level(Level::Local).with_local_dir(local.path())),
        (Level::Remote, options().with_level(Level::Remote)),
    ];
    for (level, options) in levels {
        let volume = Volume::open_or_create("memory://", options).await.unwrap();
        let mounted = Mounted::of(volume, MountOptions::new());
        tokio::task::block_in_place(|| {
            let mut file = File::create(mounted.path("file")).unwrap();
            file.write_all(b"x").unwrap();
            assert!(mounted.volume.position_at(level) < mounted.volume.position());
            file.sync_all().unwrap();
            assert_eq!(mounted.volume.position_at(level), mounted.volume.position());
            fs::create_dir(mounted.path("dir")).unwrap();
            assert!(mounted.volume.position_at(level) < mounted.volume.position());
            File::open(mounted.path("")).unwrap().sync_all().unwrap();
            assert_eq!(mounted.volume.position_at(level), mounted.volume.position());
            let sync = rustix::fs::OFlags::SYNC.bits().cast_signed();
            let mut synced =
                File::options().append(true).custom_flags(sync).open(mounted.path("file")).unwrap();
            synced.write_all(b"y").unwrap();
            assert_eq!(mounted.volume.position_at(level), mounted.volume.position(), "by O_SYNC");
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_syncs_wait_together() {
    if !has_fuse() {
        return;
    }
    let local = tempfile::tempdir().unwrap();
    let options = options().with_level(Level::Local).with_local_dir(local.path());
    let volume = Volume::open_or_create("memory://", options).await.unwrap();
    // Fewer threads than those who wait.
    let mounted = Mounted::of(volume, MountOptions::new().with_threads(1));
    let work = |name: usize| {
        let mut file = File::create(mounted.path(&name.to_string())).unwrap();
        for _ in 0..20 {
            file.write_all(b"x").unwrap();
            file.sync_data().unwrap();
        }
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| (0..16).for_each(|name| drop(scope.spawn(move || work(name)))));
    });
    assert_eq!(mounted.volume.position_at(Level::Local), mounted.volume.position());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_failed_says_so() {
    if !has_fuse() {
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let url = format!("file://{}", store.path().display());
    let volume = Volume::create(&url, options()).await.unwrap();
    let mounted = Mounted::of(volume, MountOptions::new());
    tokio::task::block_in_place(|| fs::write(mounted.path("file"), "x")).unwrap();
    // Another writer takes over.
    let other = Volume::open(&url, Options::new()).await.unwrap();
    assert!(mounted.volume.commit().await.is_err());
    let refused = tokio::task::block_in_place(|| fs::write(mounted.path("new"), "x")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(116), "ESTALE");
    let failure = mounted.mount().failure().expect("it was met");
    assert_eq!(failure.kind(), rfs::ErrorKind::Fenced);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mounted_on() {
    let volume = Volume::open_or_create("memory://", options()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for name in ["missing", "file"] {
        let refused = Mount::new(volume.clone(), &dir.path().join(name), MountOptions::new()).unwrap_err();
        assert!(matches!(refused, Error::Directory { .. }), "{refused}");
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let dir = dir.path().to_path_buf();
    let outside = std::thread::spawn(move || Mount::new(volume, &dir, MountOptions::new()).unwrap_err());
    assert!(matches!(outside.join().unwrap(), Error::NoRuntime { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mount_is_shown_with_its_type_and_source() {
    with_mount(|mounted| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = mounted.mount().dir().to_str().unwrap();
        let line = mounts.lines().find(|line| line.contains(dir)).unwrap();
        assert!(line.contains(&format!(" - {} memory://", rfs_mount::FS_TYPE)), "{line}");
    })
    .await;
}
