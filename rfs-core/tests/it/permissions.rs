//! Who may do what. Each line of a table is one system call on Linux by a caller with these rights.

use rfs_core::Errno::{
    AccessDenied, Exists, Invalid, IsADirectory, NoSuchData, NotADirectory, NotEmpty, NotFound, NotPermitted,
    NotSupported, TooManySymlinks,
};
use rfs_core::{
    Access, At, Capabilities, Credential, Errno, Node, Op, OpenFlags, Outcome, Permission, RenameMode,
    SetTime, Target, Timestamp, WriteAt,
};

use crate::support::{Fs, answer, path, posix};

const OWNER: u32 = 1000;
const GROUP: u32 = 2000;

fn owner() -> Credential {
    Credential { umask: 0, ..Credential::user(OWNER, OWNER, &[]) }
}

fn member() -> Credential {
    Credential { umask: 0, ..Credential::user(1001, 1001, &[7, GROUP]) }
}

fn stranger() -> Credential {
    Credential { umask: 0, ..Credential::user(1002, 1002, &[]) }
}

fn able(capabilities: Capabilities) -> Credential {
    Credential { capabilities, ..stranger() }
}

/// A file, or a directory when the path ends in `/`, of the owner and the group.
fn made(fs: &mut Fs, path: &str, mode: u32) {
    let outcome = if path.ends_with('/') { fs.mkdir(path) } else { fs.create(path) };
    outcome.expect("a new name");
    let name = path.trim_end_matches('/');
    fs.chown(name, OWNER, GROUP).expect("it was made");
    fs.chmod(name, mode).expect("it was made");
}

fn fs(made_of: &[(&str, u32)]) -> Fs {
    let mut fs = Fs::new();
    for (path, mode) in made_of {
        made(&mut fs, path, *mode);
    }
    fs
}

#[test]
fn every_directory_on_the_way_is_searched() {
    let mut fs =
        fs(&[("open/", 0o777), ("open/shut/", 0o710), ("open/shut/in/", 0o777), ("open/shut/in/f", 0o666)]);
    fs.symlink("open/shut/in", "to_in").expect("a new symlink");
    fs.symlink("open/shut", "to_shut").expect("a new symlink");
    for (who, path, expected) in [
        (owner(), "open/shut/in/f", Ok(())),
        (member(), "open/shut/in/f", Ok(())),
        (stranger(), "open/shut", Ok(())),
        (stranger(), "open/shut/", Ok(())),
        (stranger(), "to_shut", Ok(())),
        (stranger(), "open/shut/.", Err(AccessDenied)),
        (stranger(), "open/shut/..", Err(AccessDenied)),
        (stranger(), "open/shut/in", Err(AccessDenied)),
        (stranger(), "open/shut/missing", Err(AccessDenied)),
        (stranger(), "to_in", Err(AccessDenied)),
        (stranger(), "to_in/f", Err(AccessDenied)),
        (stranger(), "missing/shut", Err(NotFound)),
        (stranger(), "open/shut/in/f/x", Err(AccessDenied)),
        (owner(), "open/shut/in/f/x", Err(NotADirectory)),
        (able(Capabilities::DAC_READ_SEARCH), "open/shut/in/f", Ok(())),
        (able(Capabilities::DAC_OVERRIDE), "open/shut/in/f", Ok(())),
        (able(Capabilities::FOWNER), "open/shut/in/f", Err(AccessDenied)),
    ] {
        let found = posix(fs.tree.lookup(&who, &At::root(path), true));
        assert_eq!(found.map(|_| ()), expected, "{path} by {who:?}");
    }
    // A base that is held open still has to be searched.
    let (shut, inside) = (fs.ino("open/shut"), fs.ino("open/shut/in"));
    let below = |base, path: &str| At { base, path: path.into() };
    assert_eq!(fs.tree.lookup(&stranger(), &below(shut, "in"), true), Err(AccessDenied.into()));
    assert_eq!(fs.tree.lookup(&stranger(), &below(inside, "f"), true), Ok(fs.ino("open/shut/in/f")));
    assert_eq!(fs.tree.child_of(&stranger(), shut, b"in"), Err(AccessDenied.into()));
    assert_eq!(fs.tree.child_of(&stranger(), shut, b".."), Err(AccessDenied.into()));
    assert_eq!(fs.tree.child_of(&owner(), shut, b"in"), Ok(inside));
    assert_eq!(fs.tree.child_of(&owner(), inside, b".."), Ok(shut));
    assert_eq!(fs.tree.child_of(&owner(), inside, b"."), Ok(inside));
    assert_eq!(fs.tree.parent(inside), Ok(shut));
    assert_eq!(fs.tree.parent(fs.ino("to_in")), Err(NotADirectory.into()));
}

#[test]
fn opening_asks_for_what_it_will_do() {
    let read = Access { read: true, write: false };
    let write = Access { read: false, write: true };
    let none = OpenFlags::default();
    let create = OpenFlags { create: true, ..none };
    let truncate = OpenFlags { truncate: true, ..none };
    let exclusive = OpenFlags { exclusive: true, ..create };
    let searcher = || able(Capabilities::DAC_READ_SEARCH);
    for (who, path, access, flags, expected) in [
        (owner(), "f", write, none, Ok(())),
        (member(), "f", read, none, Ok(())),
        (member(), "f", write, none, Err(AccessDenied)),
        (member(), "f", read, truncate, Err(AccessDenied)),
        (member(), "f", read, create, Ok(())),
        (stranger(), "f", read, none, Err(AccessDenied)),
        (stranger(), "f", read, exclusive, Err(Exists)),
        (searcher(), "f", read, none, Ok(())),
        (searcher(), "f", Access { read: true, write: true }, none, Err(AccessDenied)),
        (able(Capabilities::DAC_OVERRIDE), "f", write, none, Ok(())),
        (stranger(), "closed", read, none, Err(AccessDenied)),
        (stranger(), "closed", write, none, Err(IsADirectory)),
        (searcher(), "closed", read, none, Ok(())),
        (stranger(), "closed/new", write, create, Err(AccessDenied)),
        (stranger(), "listed/new", write, create, Err(AccessDenied)),
        (stranger(), "listed/new", write, none, Err(AccessDenied)),
        (stranger(), "searched/new", write, create, Err(AccessDenied)),
        (stranger(), "searched/new", write, none, Err(NotFound)),
        (stranger(), "searched/old", write, create, Ok(())),
        (stranger(), "shared/new", write, create, Ok(())),
        (searcher(), "searched/new", write, create, Err(AccessDenied)),
        (stranger(), "shared/fifo", read, none, Err(AccessDenied)),
        (owner(), "shared/fifo", read, none, Err(NoSuchData)),
    ] {
        let mut fs = fs(&[
            ("f", 0o640),
            ("closed/", 0o700),
            ("listed/", 0o706),
            ("searched/", 0o701),
            ("searched/old", 0o666),
            ("shared/", 0o703),
        ]);
        let fifo = Op::Mknod { at: At::root("shared/fifo"), node: Node::Fifo, mode: 0o600 };
        fs.run_as(&owner(), &fifo).expect("a new fifo");
        let op = Op::Open { at: At::root(path), access, flags, mode: 0o600 };
        assert_eq!(answer(fs.run_as(&who, &op)), expected, "{op:?} by {who:?}");
    }
    // What was just made is open for what its mode would refuse.
    let mut fs = fs(&[("shared/", 0o777)]);
    let op = Op::Open { at: At::root("shared/new"), access: write, flags: create, mode: 0o400 };
    assert_eq!(answer(fs.run_as(&stranger(), &op)), Ok(()));
    assert_eq!(answer(fs.run_as(&stranger(), &op)), Err(AccessDenied));
}

#[test]
fn entries_need_writing_and_searching() {
    let at = |path: &str| At::root(path);
    let rename = |from: &str, to: &str, mode| Op::Rename { from: at(from), to: at(to), mode };
    let (replace, exchange) = (RenameMode::Replace, RenameMode::Exchange);
    for (op, expected) in [
        (Op::Mkdir { at: at("fixed/new"), mode: 0o777 }, Err(AccessDenied)),
        (Op::Mkdir { at: at("fixed/f"), mode: 0o777 }, Err(Exists)),
        (Op::Mkdir { at: at("blind/new"), mode: 0o777 }, Err(AccessDenied)),
        (Op::Mkdir { at: at("shared/new"), mode: 0o777 }, Ok(())),
        (Op::Symlink { target: b"x".to_vec(), at: at("fixed/new") }, Err(AccessDenied)),
        (Op::Link { from: path("shared/f", false), to: at("fixed/new") }, Err(AccessDenied)),
        (Op::Unlink { at: at("fixed/f") }, Err(AccessDenied)),
        (Op::Unlink { at: at("fixed/d") }, Err(AccessDenied)),
        (Op::Unlink { at: at("fixed/d/") }, Err(IsADirectory)),
        (Op::Unlink { at: at("fixed/missing") }, Err(NotFound)),
        (Op::Unlink { at: at("shared/f") }, Ok(())),
        (Op::Unlink { at: at("shared/d") }, Err(IsADirectory)),
        (Op::Rmdir { at: at("fixed/d") }, Err(AccessDenied)),
        (Op::Rmdir { at: at("fixed/f") }, Err(AccessDenied)),
        (Op::Rmdir { at: at("shared/full") }, Err(NotEmpty)),
        (rename("fixed/f", "shared/new", replace), Err(AccessDenied)),
        (rename("fixed/f", "fixed/f", replace), Ok(())),
        (rename("shared/f", "fixed/new", replace), Err(AccessDenied)),
        (rename("shared/f", "fixed/d", replace), Err(AccessDenied)),
        (rename("shared/f", "shared/d", replace), Err(IsADirectory)),
        // A directory that moves to another gets another `..`.
        (rename("shared/d", "other/new", replace), Err(AccessDenied)),
        (rename("shared/d", "shared/new", replace), Ok(())),
        (rename("shared/own", "other/new", replace), Ok(())),
        (rename("shared/f", "other/d", exchange), Err(AccessDenied)),
        (rename("shared/own", "other/f", exchange), Ok(())),
        (rename("shared/f", "fixed/f", exchange), Err(AccessDenied)),
    ] {
        let mut fs = fs(&[
            ("fixed/", 0o755),
            ("fixed/f", 0o666),
            ("fixed/d/", 0o755),
            ("blind/", 0o776),
            ("shared/", 0o777),
            ("shared/f", 0o666),
            ("shared/d/", 0o755),
            ("shared/full/", 0o755),
            ("shared/full/f", 0o666),
            ("shared/own/", 0o777),
            ("other/", 0o777),
            ("other/f", 0o600),
            ("other/d/", 0o755),
        ]);
        assert_eq!(answer(fs.run_as(&stranger(), &op)), expected, "{op:?}");
        assert_eq!(fs.tree.check(), Ok(()));
    }
}

#[test]
fn a_sticky_directory_keeps_what_belongs_to_others() {
    let at = |path: &str| At::root(path);
    let replace = |from: &str, to: &str| Op::Rename { from: at(from), to: at(to), mode: RenameMode::Replace };
    let exchange =
        |from: &str, to: &str| Op::Rename { from: at(from), to: at(to), mode: RenameMode::Exchange };
    let other = || Credential::user(1001, 1001, &[]);
    for (who, op, expected) in [
        (other(), Op::Unlink { at: at("t/f") }, Err(NotPermitted)),
        (other(), Op::Unlink { at: at("t/d") }, Err(NotPermitted)),
        (other(), Op::Rmdir { at: at("t/d") }, Err(NotPermitted)),
        (other(), replace("t/f", "t/new"), Err(NotPermitted)),
        (other(), replace("t/mine", "t/f"), Err(NotPermitted)),
        (other(), exchange("t/mine", "t/f"), Err(NotPermitted)),
        (other(), replace("t/mine", "t/new"), Ok(())),
        (other(), Op::Unlink { at: at("t/mine") }, Ok(())),
        (stranger(), Op::Unlink { at: at("t/f") }, Ok(())),
        (owner(), Op::Unlink { at: at("t/f") }, Ok(())),
        (able(Capabilities::FOWNER), Op::Unlink { at: at("t/mine") }, Ok(())),
        (
            Credential { uid: 1003, ..able(Capabilities::DAC_OVERRIDE) },
            Op::Unlink { at: at("t/f") },
            Err(NotPermitted),
        ),
    ] {
        let mut fs = fs(&[("t/", 0o1777), ("t/d/", 0o777)]);
        // The file is the stranger's, the directory the owner's.
        fs.create("t/f").expect("a new file");
        fs.chown("t/f", 1002, 1002).expect("it was made");
        fs.chown("t/d", 1002, 1002).expect("it was made");
        fs.create("t/mine").expect("a new file");
        fs.chown("t/mine", 1001, 1001).expect("it was made");
        assert_eq!(answer(fs.run_as(&who, &op)), expected, "{op:?} by {who:?}");
    }
}

#[test]
fn what_others_planted_is_not_opened_with_o_creat() {
    let create = OpenFlags { create: true, no_follow: true, ..OpenFlags::default() };
    for (dir_mode, made_by, expected) in [
        (0o1777, stranger(), Err(AccessDenied)),
        (0o1777, member(), Err(TooManySymlinks)),
        (0o1777, owner(), Err(TooManySymlinks)),
        (0o1775, stranger(), Err(TooManySymlinks)),
        (0o777, stranger(), Err(TooManySymlinks)),
    ] {
        let mut fs = fs(&[("t/", dir_mode)]);
        fs.symlink("x", "t/s").expect("a new symlink");
        fs.chown("t/s", made_by.uid, made_by.gid).expect("it was made");
        let access = Access { read: true, write: false };
        let op = Op::Open { at: At::root("t/s"), access, flags: create, mode: 0o600 };
        assert_eq!(answer(fs.run_as(&member(), &op)), expected, "{dir_mode:o} by {made_by:?}");
    }
}

#[test]
fn attributes_are_the_owners_to_set() {
    let time = SetTime::At(Timestamp::from_nanos(5));
    let mode = |mode| Op::SetMode { target: path("f", true), mode };
    let owned = |uid, gid| Op::SetOwner { target: path("f", true), uid, gid };
    let times = |accessed, modified| Op::SetTimes { target: path("f", true), accessed, modified };
    let writer = || Credential::user(1003, GROUP, &[]);
    for (who, op, expected) in [
        (owner(), mode(0o600), Ok(())),
        (member(), mode(0o600), Err(NotPermitted)),
        (able(Capabilities::FOWNER), mode(0o600), Ok(())),
        (able(Capabilities::CHOWN), mode(0o600), Err(NotPermitted)),
        (member(), Op::SetMode { target: path("s", false), mode: 0 }, Err(NotSupported)),
        (owner(), owned(Some(OWNER), None), Ok(())),
        (owner(), owned(Some(1001), None), Err(NotPermitted)),
        (owner(), owned(None, Some(GROUP)), Ok(())),
        (owner(), owned(None, Some(OWNER)), Ok(())),
        (owner(), owned(None, Some(7)), Err(NotPermitted)),
        (owner(), owned(None, Some(u32::MAX)), Err(Invalid)),
        (member(), owned(None, None), Ok(())),
        (member(), owned(None, Some(GROUP)), Err(NotPermitted)),
        (able(Capabilities::CHOWN), owned(Some(1), Some(1)), Ok(())),
        (able(Capabilities::FOWNER), owned(None, Some(1002)), Err(NotPermitted)),
        (owner(), times(time, time), Ok(())),
        (owner(), times(SetTime::Now, SetTime::Now), Ok(())),
        (writer(), times(SetTime::Now, SetTime::Now), Ok(())),
        (writer(), times(SetTime::Now, SetTime::Keep), Err(NotPermitted)),
        (writer(), times(time, time), Err(NotPermitted)),
        (stranger(), times(SetTime::Now, SetTime::Now), Err(AccessDenied)),
        (stranger(), times(SetTime::Keep, time), Err(NotPermitted)),
        (stranger(), times(SetTime::Keep, SetTime::Keep), Ok(())),
        (able(Capabilities::FOWNER), times(time, time), Ok(())),
        (stranger(), Op::Truncate { target: path("f", true), size: 1 }, Err(AccessDenied)),
        (writer(), Op::Truncate { target: path("f", true), size: 1 }, Ok(())),
    ] {
        let mut fs = fs(&[("f", 0o664)]);
        fs.symlink("f", "s").expect("a new symlink");
        assert_eq!(answer(fs.run_as(&who, &op)), expected, "{op:?} by {who:?}");
    }
}

#[test]
fn what_is_open_was_asked_for_when_it_was_opened() {
    let mut fs = fs(&[("f", 0o600)]);
    let target = Target::Ino(fs.ino("f"));
    let write = Op::Write { target: target.clone(), at: WriteAt::End, len: 3 };
    assert_eq!(fs.run_as(&stranger(), &write), Ok(Outcome::Written { offset: 0 }));
    assert_eq!(answer(fs.run_as(&stranger(), &Op::Truncate { target: target.clone(), size: 0 })), Ok(()));
    assert_eq!(fs.run_as(&stranger(), &Op::SetMode { target, mode: 0o777 }), Err(NotPermitted));
}

#[test]
fn set_id_bits_do_not_outlive_their_reason() {
    let mode_after = |mode: u32, who: &Credential, op: &Op| {
        let mut fs = fs(&[("f", mode)]);
        fs.set_xattr(
            "f",
            "security.capability",
            &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        )
        .expect("a file");
        fs.run_as(who, op).expect("it is allowed");
        let capability = fs.xattr("f", "security.capability").is_ok();
        (fs.stat("f").expect("it is there").mode, capability)
    };
    let write = Op::Write { target: path("f", true), at: WriteAt::End, len: 1 };
    let truncate = Op::Truncate { target: path("f", true), size: 0 };
    let access = Access { read: true, write: false };
    let flags = OpenFlags { truncate: true, ..OpenFlags::default() };
    let open = Op::Open { at: At::root("f"), access, flags, mode: 0 };
    for op in [&write, &truncate, &open] {
        for (mode, who, expected) in [
            (0o6777, stranger(), 0o777),
            (0o6767, stranger(), 0o767),
            (0o6767, member(), 0o2767),
            (0o6777, member(), 0o777),
            (0o6777, owner(), 0o777),
            (0o6777, able(Capabilities::FSETID), 0o6777),
            (0o6777, Credential::root(), 0o6777),
        ] {
            assert_eq!(mode_after(mode, &who, op), (expected, false), "{mode:o}, {op:?} by {who:?}");
        }
    }
    let chown = |gid| Op::SetOwner { target: path("f", true), uid: None, gid };
    let chmod = |mode| Op::SetMode { target: path("f", true), mode };
    let in_group = || Credential { uid: OWNER, ..member() };
    for (mode, who, op, expected) in [
        (0o6777, Credential::root(), chown(Some(7)), (0o777, false)),
        (0o6767, Credential::root(), chown(Some(7)), (0o2767, false)),
        (0o6767, in_group(), chown(Some(7)), (0o2767, false)),
        (0o6767, owner(), chown(None), (0o767, false)),
        (0o777, stranger(), chown(None), (0o777, false)),
        (0o600, owner(), chmod(0o2755), (0o755, true)),
        (0o600, in_group(), chmod(0o2755), (0o2755, true)),
        (0o600, able(Capabilities::FOWNER), chmod(0o6755), (0o4755, true)),
        (0o600, able(Capabilities::FOWNER | Capabilities::FSETID), chmod(0o6755), (0o6755, true)),
    ] {
        assert_eq!(mode_after(mode, &who, &op), expected, "{mode:o}, {op:?} by {who:?}");
    }
    let mut fs = fs(&[("f", 0o4777)]);
    assert_eq!(fs.run_as(&stranger(), &chown(None)), Err(NotPermitted), "it would clear set-user-id");
}

#[test]
fn what_is_made_takes_after_its_maker_and_its_directory() {
    let masked = || Credential { umask: 0o027, ..stranger() };
    let file = |mode| Op::Mknod { at: At::root("d/new"), node: Node::File, mode };
    let dir = |mode| Op::Mkdir { at: At::root("d/new"), mode };
    for (dir_mode, who, op, expected) in [
        (0o777, stranger(), file(0o6777), (0o6777, 1002)),
        (0o777, masked(), file(0o6777), (0o6750, 1002)),
        (0o777, masked(), dir(0o7777), (0o1750, 1002)),
        (0o2777, stranger(), file(0o666), (0o666, GROUP)),
        (0o2777, stranger(), file(0o6676), (0o4676, GROUP)),
        (0o2777, stranger(), file(0o2666), (0o2666, GROUP)),
        (0o2777, member(), file(0o6676), (0o6676, GROUP)),
        (0o2777, able(Capabilities::FSETID), file(0o6676), (0o6676, GROUP)),
        (0o2777, stranger(), dir(0o777), (0o2777, GROUP)),
        (0o2777, masked(), dir(0o777), (0o2750, GROUP)),
    ] {
        let mut fs = fs(&[("d/", dir_mode)]);
        fs.run_as(&who, &op).expect("everybody may");
        let made = fs.stat("d/new").expect("it was made");
        assert_eq!((made.mode, made.gid), expected, "{dir_mode:o}, {op:?} by {who:?}");
        assert_eq!(made.uid, who.uid);
    }
    let mut fs = fs(&[("d/", 0o777)]);
    let op = Op::Symlink { target: b"x".to_vec(), at: At::root("d/new") };
    fs.run_as(&masked(), &op).expect("everybody may");
    assert_eq!(fs.lstat("d/new").map(|attr| attr.mode), Ok(0o777), "a symlink has no mode to mask");
}

#[test]
fn links_to_what_belongs_to_others_are_guarded() {
    for (who, from, expected) in [
        (stranger(), "open", Ok(())),
        (stranger(), "readable", Err(NotPermitted)),
        (stranger(), "setuid", Err(NotPermitted)),
        (stranger(), "setgid", Err(NotPermitted)),
        (stranger(), "locking", Ok(())),
        (stranger(), "symlink", Err(NotPermitted)),
        (stranger(), "fifo", Err(NotPermitted)),
        (stranger(), "dir", Err(NotPermitted)),
        (owner(), "setuid", Ok(())),
        (owner(), "dir", Err(NotPermitted)),
        (able(Capabilities::FOWNER), "setuid", Ok(())),
        (able(Capabilities::DAC_OVERRIDE), "readable", Ok(())),
        (able(Capabilities::DAC_OVERRIDE), "symlink", Err(NotPermitted)),
    ] {
        let mut fs = fs(&[
            ("open", 0o666),
            ("readable", 0o644),
            ("setuid", 0o4666),
            ("setgid", 0o2676),
            ("locking", 0o2666),
            ("dir/", 0o777),
            ("to/", 0o777),
            ("shut/", 0o755),
        ]);
        fs.symlink("open", "symlink").expect("a new symlink");
        let fifo = Op::Mknod { at: At::root("fifo"), node: Node::Fifo, mode: 0o666 };
        fs.run(&fifo).expect("a new fifo");
        let link = |to: &str| Op::Link { from: path(from, false), to: At::root(to) };
        assert_eq!(answer(fs.run_as(&who, &link("to/new"))), expected, "{from} by {who:?}");
        if expected == Err(NotPermitted) && from != "dir" {
            assert_eq!(
                fs.run_as(&who, &link("shut/new")),
                Err(NotPermitted),
                "before the directory is asked"
            );
        }
    }
}

#[test]
fn device_nodes_need_a_capability() {
    for (who, path, node, expected) in [
        (stranger(), "to/new", Node::Fifo, Ok(())),
        (stranger(), "to/new", Node::Socket, Ok(())),
        (stranger(), "to/new", Node::File, Ok(())),
        (stranger(), "to/new", Node::CharDevice(0), Ok(())),
        (stranger(), "to/new", Node::CharDevice(0x103), Err(NotPermitted)),
        (stranger(), "to/new", Node::BlockDevice(0), Err(NotPermitted)),
        (stranger(), "shut/new", Node::BlockDevice(0), Err(AccessDenied)),
        (stranger(), "shut", Node::BlockDevice(0), Err(Exists)),
        (able(Capabilities::MKNOD), "to/new", Node::BlockDevice(0), Ok(())),
        (stranger(), "missing/new", Node::Directory, Err(NotPermitted)),
        (stranger(), "missing/new", Node::Symlink(b"x"[..].into()), Err(Invalid)),
    ] {
        let mut fs = fs(&[("to/", 0o777), ("shut/", 0o755)]);
        let op = Op::Mknod { at: At::root(path), node, mode: 0o600 };
        assert_eq!(answer(fs.run_as(&who, &op)), expected, "{op:?} by {who:?}");
    }
}

#[test]
fn access_is_what_an_op_would_be_given() {
    let fs = fs(&[("f", 0o640), ("d/", 0o750)]);
    let given = |who: &Credential, name: &str| {
        let allowed = |bits| {
            let access = Permission::from_bits(bits).expect("three bits");
            fs.tree.permits(who, fs.ino(name), access)
        };
        (0..8).filter(|bits| allowed(*bits) == Ok(())).fold(0, |all, bits| all | bits)
    };
    for (who, name, expected) in [
        (owner(), "f", 6),
        (member(), "f", 4),
        (stranger(), "f", 0),
        (member(), "d", 5),
        (Credential::root(), "f", 6),
        (Credential::root(), "d", 7),
        (able(Capabilities::DAC_READ_SEARCH), "d", 5),
    ] {
        assert_eq!(given(&who, name), expected, "{name} by {who:?}");
    }
    let refused = fs.tree.permits(&owner(), rfs_core::Ino(99), Permission::NONE);
    assert_eq!(refused, Err(Errno::Stale.into()));
}
