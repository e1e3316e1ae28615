//! What the program changes through the API is seen through the mount, whatever the kernel has cached.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use rfs::model::At;
use rfs::{Credential, Ino, Node, Op, RenameMode, Volume};
use rfs_mount::MountOptions;

use crate::common::{Mounted, has_fuse, wait};

/// Runs a test with two who change the volume: the program, by the API, and whoever uses the mount. The kernel has seen
/// `file` and its content, `dir`, and that there is no `absent`.
async fn both<T: Future<Output = ()>>(test: impl FnOnce(std::sync::Arc<Mounted>) -> T) {
    if !has_fuse() {
        return;
    }
    let mounted = std::sync::Arc::new(Mounted::new(MountOptions::new()).await);
    let fs = mounted.volume.fs();
    fs.write("/file", b"old content").await.unwrap();
    fs.create_dir("/dir").await.unwrap();
    mounted.mount().refresh().await;
    block(|| {
        assert_eq!(fs::read(mounted.path("file")).unwrap(), b"old content");
        assert_eq!(fs::read_dir(mounted.path("dir")).unwrap().count(), 0);
        assert!(!mounted.path("absent").exists() && !mounted.path("dir/absent").exists());
    });
    test(mounted).await;
}

fn block<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn content_and_size() {
    both(async |mounted| {
        let (volume, path): (&Volume, _) = (&mounted.volume, mounted.path("file"));
        let mut open = block(|| File::open(&path)).unwrap();
        for content in [&b"new content"[..], b"short", b"a content that is longer than all before"] {
            volume.fs().write("/file", content).await.unwrap();
            mounted.mount().refresh().await;
            block(|| {
                assert_eq!(fs::metadata(&path).unwrap().len(), content.len() as u64);
                assert_eq!(open.metadata().unwrap().len(), content.len() as u64);
                assert_eq!(fs::read(&path).unwrap(), content);
                let mut read = vec![0; content.len()];
                open.read_exact_at(&mut read, 0).unwrap();
                assert_eq!(read, content);
            });
        }
        let mut rest = String::new();
        block(|| open.read_to_string(&mut rest)).unwrap();
        assert_eq!(rest, "a content that is longer than all before");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names() {
    both(async |mounted| {
        let fs = mounted.volume.fs();
        fs.write("/absent", b"1").await.unwrap();
        fs.write("/dir/absent", b"2").await.unwrap();
        fs.rename("/file", "/renamed").await.unwrap();
        mounted.mount().refresh().await;
        block(|| {
            assert_eq!(fs::read(mounted.path("absent")).unwrap(), b"1");
            assert_eq!(fs::read(mounted.path("dir/absent")).unwrap(), b"2");
            assert!(!mounted.path("file").exists());
            assert_eq!(fs::read(mounted.path("renamed")).unwrap(), b"old content");
            let listed = fs::read_dir(mounted.path("")).unwrap().count();
            assert_eq!(listed, 3);
        });
        fs.remove_file("/renamed").await.unwrap();
        fs.remove_file("/dir/absent").await.unwrap();
        fs.remove_dir("/dir").await.unwrap();
        mounted.mount().refresh().await;
        block(|| {
            assert!(!mounted.path("renamed").exists() && !mounted.path("dir").exists());
            let left: Vec<_> =
                fs::read_dir(mounted.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["absent"]);
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes() {
    both(async |mounted| {
        let (fs, path) = (mounted.volume.fs(), mounted.path("file"));
        fs.set_permissions("/file", rfs::Permissions::from_mode(0o400)).await.unwrap();
        fs.hard_link("/file", "/link").await.unwrap();
        mounted.mount().refresh().await;
        let shown = block(|| fs::metadata(&path)).unwrap();
        assert_eq!((shown.mode() & 0o777, shown.nlink()), (0o400, 2));
        // And the other way round, which needs no telling.
        block(|| fs::set_permissions(&path, fs::Permissions::from_mode(0o751))).unwrap();
        assert_eq!(fs.metadata("/link").await.unwrap().mode() & 0o777, 0o751);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_of_both_do_not_overlap() {
    both(async |mounted| {
        let (volume, path) = (&mounted.volume, mounted.path("file"));
        let mut log = block(|| File::options().append(true).open(&path)).unwrap();
        let own = rfs::OpenOptions::new().append(true).open(&volume.fs(), "/file").await.unwrap();
        for _ in 0..100 {
            own.append(b" api").await.unwrap();
            // Without telling the kernel: it appends where it believes the end to be.
            block(|| log.write_all(b" mount")).unwrap();
        }
        mounted.mount().refresh().await;
        let expected = format!("old content{}", " api mount".repeat(100));
        assert_eq!(volume.fs().read("/file").await.unwrap(), expected.as_bytes());
        assert_eq!(block(|| fs::read_to_string(&path)).unwrap(), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_be_told_one_by_one() {
    const FILES: usize = 33_000;
    both(async |mounted| {
        let inodes = mounted.volume.inodes();
        let root = Credential::root();
        let name = |index: usize| format!("f{index}");
        let at = |index| At::root(name(index));
        for first in (0..FILES).step_by(3_000) {
            let make = |index| Op::Mknod { at: at(index), node: Node::File, mode: 0o644 };
            let ops: Vec<_> = (first..first + 3_000).map(make).collect();
            inodes.run_batch(&root, &ops, &[]).await.unwrap();
        }
        mounted.mount().refresh().await;
        let seen = |index| fs::metadata(mounted.path(&name(index))).unwrap().ino();
        block(|| assert!((0..FILES).all(|index| seen(index) > 0)));
        // Each exchange is four things to tell: two names and two inodes.
        let swaps = (0..FILES).step_by(2).map(|index| {
            let (from, to) = (at(index), at(index + 1));
            Op::Rename { from, to, mode: RenameMode::Exchange }
        });
        let ops: Vec<_> = swaps.chain([Op::Unlink { at: At::root("file") }]).collect();
        inodes.run_batch(&root, &ops, &[]).await.unwrap();
        mounted.mount().refresh().await;
        block(|| {
            assert!(!mounted.path("file").exists());
            for index in 0..FILES {
                let there = wait(inodes.lookup(&root, Ino::ROOT, name(index).as_bytes())).unwrap();
                assert_eq!(seen(index), there.ino.0, "{index}");
            }
        });
    })
    .await;
}
