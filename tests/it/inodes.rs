//! The tree by inode numbers, and watching it.

use std::future::Future;
use std::task::Poll;

use rfs::model::At;
use rfs::{
    Access, Changed, Cookie, Credential, Errno, Ino, Inodes, Kind, Name, Node, Op, OpenFlags, OpenOptions,
    Outcome, RenameMode, Target, Volume, Watch, WriteAt,
};

use crate::common::options;

const ROOT: Credential = Credential::root();

async fn volume() -> Volume {
    Volume::create("memory://", options(1)).await.unwrap()
}

fn at(base: Ino, name: &str) -> At {
    At { base, path: name.as_bytes().to_vec() }
}

fn create(name: &str) -> Op {
    let flags = OpenFlags { create: true, ..OpenFlags::default() };
    Op::Open { at: at(Ino::ROOT, name), access: Access { read: true, write: true }, flags, mode: 0o644 }
}

async fn opened(inodes: &Inodes, name: &str) -> Ino {
    match inodes.open(&ROOT, &create(name)).await.unwrap() {
        Outcome::Opened { ino, kind: Kind::File, .. } => ino,
        other => panic!("{other:?}"),
    }
}

/// What a watch has to tell now.
fn told(watch: &mut Watch) -> Vec<Changed> {
    let mut told = Vec::new();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        let mut next = std::pin::pin!(watch.next());
        match next.as_mut().poll(&mut context) {
            Poll::Ready(Some(changed)) => told.push(changed),
            Poll::Ready(None) | Poll::Pending => return told,
        }
    }
}

fn entry(name: &str) -> Changed {
    Changed::Entry { dir: Ino::ROOT, name: Name::new(name.as_bytes()).unwrap() }
}

#[tokio::test]
async fn an_opened_inode_outlives_its_name_until_it_is_let_go() {
    let volume = volume().await;
    let inodes = volume.inodes();
    let ino = opened(&inodes, "a").await;
    let write = |len| Op::Write { target: Target::Ino(ino), at: WriteAt::End, len };
    inodes.run(&ROOT, &write(5), b"hello").await.unwrap();
    inodes.run(&ROOT, &Op::Unlink { at: at(Ino::ROOT, "a") }, &[]).await.unwrap();
    inodes.hold(ino).await.unwrap();
    inodes.let_go(ino);
    assert_eq!(inodes.attr(ino).await.unwrap().nlink, 0);
    assert_eq!(inodes.read(ino, 1, 100).await.unwrap().concat(), b"ello");
    inodes.let_go(ino);
    assert_eq!(inodes.attr(ino).await.unwrap_err().errno(), Some(Errno::Stale));
    assert_eq!(inodes.hold(ino).await.unwrap_err().errno(), Some(Errno::Stale));
    inodes.let_go(ino);
    volume.check().await.unwrap();
}

#[tokio::test]
async fn directories_are_walked_and_listed() {
    let volume = volume().await;
    let inodes = volume.inodes();
    let Outcome::Made { ino: dir } =
        inodes.run(&ROOT, &Op::Mkdir { at: at(Ino::ROOT, "dir"), mode: 0o755 }, &[]).await.unwrap()
    else {
        panic!("a directory is made")
    };
    for name in ["x", "y", "z"] {
        let op = Op::Mknod { at: at(dir, name), node: Node::Fifo, mode: 0o600 };
        inodes.run(&ROOT, &op, &[]).await.unwrap();
    }
    assert_eq!(inodes.lookup(&ROOT, Ino::ROOT, b"dir").await.unwrap().ino, dir);
    assert_eq!(inodes.parent(dir).await.unwrap(), Ino::ROOT);
    assert_eq!(inodes.lookup(&ROOT, dir, b"none").await.unwrap_err().errno(), Some(Errno::NotFound));
    assert_eq!(inodes.lookup(&ROOT, dir, &[b'n'; 256]).await.unwrap_err().errno(), Some(Errno::NameTooLong));
    let first = inodes.read_dir(dir, Cookie(0), 2).await.unwrap();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|(entry, attr)| attr.ino == entry.ino && attr.kind == Kind::Fifo));
    let rest = inodes.read_dir(dir, first[1].0.cookie, usize::MAX).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].0.name.as_bytes(), b"z");
    assert_eq!(
        inodes.read_dir(first[0].0.ino, Cookie(0), 1).await.unwrap_err().errno(),
        Some(Errno::NotADirectory)
    );
}

#[tokio::test]
async fn what_no_caller_may_ask_is_refused() {
    let volume = volume().await;
    let inodes = volume.inodes();
    let ino = opened(&inodes, "a").await;
    let before = volume.position();
    let write = Op::Write { target: Target::Ino(ino), at: WriteAt::End, len: 5 };
    for payload in [&b""[..], b"four", b"sixsix"] {
        let error = inodes.run(&ROOT, &write, payload).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::Invalid));
    }
    let twice = [write.clone(), write.clone()];
    assert!(inodes.run_batch(&ROOT, &twice, &[b"12345", b"1234"]).await.is_err());
    let huge = Op::Write { target: Target::Ino(ino), at: WriteAt::End, len: u64::MAX };
    assert!(inodes.run_batch(&ROOT, &[huge.clone(), huge], &[]).await.is_err());
    assert!(inodes.run(&ROOT, &create("b"), b"x").await.is_err());
    let commit = rfs::CommitId { epoch: 9, number: 9 };
    let own = [Op::AddCheckpoint { name: "c".into(), commit }, Op::NewSession { keep: Vec::new() }];
    for op in &own {
        let error = inodes.run(&ROOT, op, &[]).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NotSupported));
    }
    let unlink = inodes.run(&ROOT, &Op::Unlink { at: at(Ino::ROOT, "none") }, &[]).await.unwrap_err();
    assert_eq!(unlink.to_string(), "Unlink: no such file or directory (ENOENT)");
    assert!(inodes.run_batch(&ROOT, &own, &[]).await.is_err());
    assert_eq!(inodes.open(&ROOT, &write).await.unwrap_err().errno(), Some(Errno::Invalid));
    assert_eq!(volume.position(), before);
    inodes.run_batch(&ROOT, &twice, &[b"12345", b"67890"]).await.unwrap();
    assert_eq!(volume.fs().read("/a").await.unwrap(), b"1234567890");
}

/// Without a handle that is counted nobody would ever let go of what is held.
#[tokio::test]
async fn what_holds_without_a_handle_is_refused() {
    let volume = volume().await;
    let inodes = volume.inodes();
    let ino = opened(&inodes, "a").await;
    let access = Access { read: true, write: true };
    let nameless = Op::OpenNameless { dir: Target::Ino(Ino::ROOT), access, linkable: true, mode: 0o600 };
    let key = 1;
    let lock =
        |owner| Op::LockFile { ino, owner: rfs::LockOwner { owner, key }, mode: rfs::LockMode::Shared };
    inodes.run(&ROOT, &lock(inodes.owner()), &[]).await.unwrap();
    let before = (volume.position(), volume.state_hash().await.unwrap());
    for op in [nameless.clone(), Op::Hold { ino }, Op::EndOwner { owner: inodes.owner() }] {
        let alone = inodes.run(&ROOT, &op, &[]).await.unwrap_err();
        let first = Op::Mkdir { at: at(Ino::ROOT, "d"), mode: 0o755 };
        let together = inodes.run_batch(&ROOT, &[first, op.clone()], &[]).await.unwrap_err();
        for error in [alone, together] {
            assert_eq!(error.errno(), Some(Errno::Invalid), "{op:?}");
        }
    }
    assert_eq!((volume.position(), volume.state_hash().await.unwrap()), before);

    // The ways that count: the inode goes with its last handle.
    let Outcome::Opened { ino: scratch, .. } = inodes.open(&ROOT, &nameless).await.unwrap() else {
        panic!("it is opened")
    };
    inodes.hold(scratch).await.unwrap();
    inodes.let_go(scratch);
    assert_eq!(inodes.attr(scratch).await.unwrap().nlink, 0);
    inodes.let_go(scratch);
    assert_eq!(inodes.attr(scratch).await.unwrap_err().errno(), Some(Errno::Stale));
    // The end of another owner, for whom a server took locks.
    let (other, before) = (rfs::OwnerId(9), volume.state_hash().await.unwrap());
    inodes.run(&ROOT, &lock(other), &[]).await.unwrap();
    inodes.run(&ROOT, &Op::EndOwner { owner: other }, &[]).await.unwrap();
    inodes.run(&ROOT, &Op::Release { ino }, &[]).await.unwrap();
    assert_eq!(volume.state_hash().await.unwrap(), before);
    inodes.let_go(ino);
    volume.check().await.unwrap();
}

#[tokio::test]
async fn a_watch_tells_what_others_change_and_once() {
    let volume = volume().await;
    let (inodes, fs) = (volume.inodes(), volume.fs());
    let mut watch = inodes.watch();
    let mut others = volume.inodes().watch();
    let ino = opened(&inodes.clone(), "own").await;
    assert_eq!(told(&mut watch), []);
    assert_eq!(told(&mut others), [entry("own"), Changed::Content(Ino::ROOT)]);

    let file = OpenOptions::new().write(true).open(&fs, "/own").await.unwrap();
    for _ in 0..100 {
        file.append(b"x").await.unwrap();
    }
    file.set_permissions(rfs::Permissions::from_mode(0o600)).await.unwrap();
    assert_eq!(told(&mut watch), [Changed::Content(ino), Changed::Attributes(ino)]);
    fs.write("/a", b"").await.unwrap();
    assert_eq!(told(&mut watch), [entry("a"), Changed::Content(Ino::ROOT)]);
    let a = Ino(fs.metadata("/a").await.unwrap().ino());
    fs.batch().rename_with("/a", "/own", RenameMode::Replace).apply().await.unwrap();
    let both = [Changed::Attributes(a), Changed::Attributes(ino)];
    assert_eq!(
        told(&mut watch),
        [entry("a"), Changed::Content(Ino::ROOT), entry("own"), both[0].clone(), both[1].clone()]
    );
    let file = fs.open("/own").await.unwrap();
    file.try_lock().await.unwrap();
    assert_eq!(told(&mut watch), [], "nobody caches locks");
}

#[tokio::test]
async fn a_watch_that_nobody_reads_stays_bounded() {
    let volume = volume().await;
    let (inodes, fs) = (volume.inodes(), volume.fs());
    let mut watch = inodes.watch();
    for number in 0..70_000 {
        fs.symlink("x", format!("/{number}")).await.unwrap();
    }
    assert_eq!(told(&mut watch), [Changed::Everything]);
    fs.remove_file("/0").await.unwrap();
    assert_eq!(told(&mut watch).len(), 3);
}

#[tokio::test]
async fn a_watch_ends_with_the_volume() {
    let volume = volume().await;
    let mut watch = volume.inodes().watch();
    volume.fs().write("/a", b"").await.unwrap();
    let waiting = tokio::spawn(async move {
        let mut told = 0;
        while watch.next().await.is_some() {
            told += 1;
        }
        told
    });
    volume.clone().close().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 2);
    assert_eq!(volume.inodes().watch().next().await, None);
}
