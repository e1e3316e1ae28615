//! Special nodes, files without a name, and the ways of a rename.

use rfs_core::Errno::{
    Busy, Exists, Invalid, IsADirectory, NoSuchData, NotADirectory, NotEmpty, NotFound, Stale, TooManyLinks,
};
use rfs_core::{
    Access, At, Change, Cookie, Errno, Ino, Kind, LINK_MAX, Node, Op, OpenFlags, Outcome, RenameMode, Target,
    Timestamp,
};

use crate::support::{Fs, OWNER, answer, path};

fn exchange(fs: &mut Fs, from: &str, to: &str) -> Result<(), Errno> {
    renamed(fs, from, to, RenameMode::Exchange)
}

fn renamed(fs: &mut Fs, from: &str, to: &str, mode: RenameMode) -> Result<(), Errno> {
    answer(fs.run(&Op::Rename { from: At::root(from), to: At::root(to), mode }))
}

/// A file without a name, held open.
fn nameless(fs: &mut Fs, linkable: bool) -> Ino {
    let (dir, access) = (path("/", true), Access { read: true, write: true });
    let opened = fs.run(&Op::OpenNameless { dir, access, linkable, mode: 0o640 });
    let Ok(Outcome::Opened { ino, kind: Kind::File, created: true }) = opened else {
        panic!("not opened: {opened:?}")
    };
    fs.open.insert(ino);
    ino
}

#[test]
fn special_nodes_are_names_with_attributes() {
    let mut fs = Fs::new();
    for (name, node, device) in [
        ("fifo", Node::Fifo, 0),
        ("socket", Node::Socket, 0),
        ("char", Node::CharDevice(0x503), 0x503),
        ("block", Node::BlockDevice(u64::MAX), u64::MAX),
    ] {
        fs.run(&Op::Mknod { at: At::root(name), node: node.clone(), mode: 0o4622 }).expect("a new name");
        let attr = fs.stat(name).expect("it was made");
        assert_eq!((attr.kind, attr.device, attr.mode, attr.nlink), (node.kind(), device, 0o4622, 1));
        for flags in
            [OpenFlags::default(), OpenFlags { truncate: true, create: true, ..OpenFlags::default() }]
        {
            assert_eq!(fs.open(name, flags), Err(NoSuchData), "{name}");
        }
        let exclusive = OpenFlags { create: true, exclusive: true, ..OpenFlags::default() };
        assert_eq!(fs.open(name, exclusive), Err(Exists));
        assert_eq!(fs.open(name, OpenFlags { directory: true, ..OpenFlags::default() }), Err(NotADirectory));
        assert_eq!(fs.truncate(name, 0), Err(Invalid));
        assert_eq!(fs.stat(&format!("{name}/x")), Err(NotADirectory));
        assert_eq!(answer(fs.link(name, "other")), Ok(()));
        assert_eq!(fs.stat(name).map(|attr| attr.nlink), Ok(2));
        fs.unlink(name).expect("it is there");
        fs.rename("other", name).expect("it is there");
        assert_eq!(fs.tree.check(), Ok(()));
    }
    fs.run(&Op::Mknod { at: At::root("file"), node: Node::File, mode: 0o600 }).expect("a new name");
    fs.rename("fifo", "file").expect("one file replaces another, whatever they are");
    assert_eq!(fs.stat("file").map(|attr| attr.kind), Ok(Kind::Fifo));
}

#[test]
fn a_nameless_file_lives_by_its_handle() {
    let mut fs = Fs::new();
    let root = fs.stat("/").expect("the root");
    let ino = nameless(&mut fs, true);
    let attr = fs.tree.attr(ino).expect("it is open");
    assert_eq!(
        (attr.nlink, attr.mode, fs.stat("/")),
        (0, 0o640, Ok(root)),
        "no name, no trace in the directory"
    );
    assert_eq!(fs.tree.held_by(OWNER).collect::<Vec<_>>(), [ino]);
    assert_eq!(fs.tree.check(), Ok(()));

    let to = |name: &str| Op::Link { from: Target::Ino(ino), to: At::root(name) };
    fs.run(&to("first")).expect("it may get a name");
    assert_eq!(fs.stat("first").map(|attr| (attr.ino, attr.nlink)), Ok((ino, 1)));
    assert_eq!(fs.tree.held_by(OWNER).count(), 0, "what has a name is not held");
    fs.run(&to("second")).expect("as any file");
    fs.unlink("first").expect("it is there");
    fs.unlink("second").expect("it is there");
    assert_eq!(fs.tree.held_by(OWNER).collect::<Vec<_>>(), [ino], "it is open again without a name");
    assert_eq!(fs.run(&to("third")), Err(NotFound), "once it had one, it gets none again");
    fs.open.clear();
    fs.run(&Op::Release { ino }).expect("the last handle");
    assert_eq!(fs.tree.attr(ino), Err(Stale.into()));

    let unlinkable = nameless(&mut fs, false);
    let op = Op::Link { from: Target::Ino(unlinkable), to: At::root("never") };
    assert_eq!(fs.run(&op), Err(NotFound));
    fs.run(&Op::NewSession { keep: Vec::new() }).expect("the holder is gone");
    assert_eq!(fs.tree.attr(unlinkable), Err(Stale.into()));
    assert_eq!(fs.tree.check(), Ok(()));
}

#[test]
fn a_nameless_file_needs_a_directory_and_writing() {
    let mut fs = Fs::new();
    fs.create("f").expect("a new file");
    let write = Access { read: false, write: true };
    for (dir, access, expected) in [
        ("f", write, Err(NotADirectory)),
        ("missing", write, Err(NotFound)),
        ("/", Access { read: true, write: false }, Err(Invalid)),
        ("/", write, Ok(())),
    ] {
        let op = Op::OpenNameless { dir: path(dir, true), access, linkable: true, mode: 0o600 };
        assert_eq!(answer(fs.run(&op)), expected, "{dir}");
    }
}

#[test]
fn what_loses_its_last_name_is_held_in_the_same_step() {
    let mut fs = Fs::new();
    for name in ["f", "g", "h"] {
        fs.create(name).expect("a new file");
    }
    fs.mkdir("d").expect("a new directory");
    fs.link("f", "f2").expect("a new name");
    let (f, g, d) = (fs.ino("f"), fs.ino("g"), fs.ino("d"));
    fs.open.extend([f, g, d]);
    let held = |fs: &mut Fs, op: Op| -> Vec<Ino> {
        let decision = fs.decide(&op).expect("it is allowed");
        let holds = decision.changes.iter().filter_map(|change| match change {
            Change::Hold { ino, owner: OWNER } => Some(*ino),
            _ => None,
        });
        holds.collect()
    };
    let replace = Op::Rename { from: At::root("h"), to: At::root("g"), mode: RenameMode::Replace };
    assert_eq!(held(&mut fs, replace), [g]);
    assert_eq!(held(&mut fs, Op::Rmdir { at: At::root("d") }), [d]);
    assert_eq!(held(&mut fs, Op::Unlink { at: At::root("f") }), [], "it has another name");
    fs.unlink("f").expect("it is there");
    assert_eq!(held(&mut fs, Op::Unlink { at: At::root("f2") }), [f]);
}

#[test]
fn two_names_change_places() {
    let mut fs = Fs::new();
    for path in ["p", "q", "p/d", "p/d/e"] {
        fs.mkdir(path).expect("a new directory");
    }
    fs.create("q/f").expect("a new file");
    fs.symlink("x", "q/s").expect("a new symlink");
    fs.create("q/last").expect("a new file");
    let (d, f, p, q) = (fs.ino("p/d"), fs.ino("q/f"), fs.ino("p"), fs.ino("q"));
    let cookies = |fs: &Fs, dir| {
        let entries = fs.tree.read_dir(dir, Cookie(0), 9).expect("a directory");
        entries.into_iter().map(|entry| (entry.name.to_string(), entry.cookie)).collect::<Vec<_>>()
    };
    let before = (cookies(&fs, p), cookies(&fs, q));
    let old = fs.stat("q/last").expect("it is there");

    exchange(&mut fs, "p/d", "q/f").expect("a directory and a file");
    assert_eq!((fs.ino("q/f"), fs.ino("p/d")), (d, f));
    assert_eq!((cookies(&fs, p), cookies(&fs, q)), before, "a listing that goes on finds both");
    assert_eq!(fs.stat("q/f/..").map(|attr| attr.ino), Ok(q));
    let (p_attr, q_attr) = (fs.stat("p").expect("p"), fs.stat("q").expect("q"));
    assert_eq!((p_attr.nlink, q_attr.nlink), (2, 3), "the link of `..` moved");
    let now = Timestamp::from_nanos(fs.now);
    assert_eq!([p_attr, q_attr].map(|attr| (attr.times.modified, attr.times.changed)), [(now, now); 2]);
    for name in ["q/f", "p/d"] {
        assert_eq!(fs.stat(name).map(|attr| attr.times.changed), Ok(now));
    }
    assert_eq!(fs.stat("q/last"), Ok(old));
    assert_eq!(fs.tree.check(), Ok(()));

    exchange(&mut fs, "q/s", "q/last").expect("in one directory");
    assert_eq!(fs.lstat("q/last").map(|attr| attr.kind), Ok(Kind::Symlink));
    assert_eq!(fs.tree.check(), Ok(()));
    exchange(&mut fs, "q/f", "q/f").expect("with itself");
    fs.link("q/s", "p/same").expect("a new name");
    let op = Op::Rename { from: At::root("q/s"), to: At::root("p/same"), mode: RenameMode::Exchange };
    assert!(fs.decide(&op).expect("one inode").changes.is_empty());
}

#[test]
fn renames_with_flags_answer_as_linux() {
    use RenameMode::{Exchange, NoReplace, Whiteout};
    for (from, to, mode, expected) in [
        ("f", "new", NoReplace, Ok(())),
        ("f", "g", NoReplace, Err(Exists)),
        ("f", "f", NoReplace, Err(Exists)),
        ("f", "d", NoReplace, Err(Exists)),
        ("d", "d/e", NoReplace, Err(Exists)),
        ("d", "d/new", NoReplace, Err(Invalid)),
        ("x", "g", NoReplace, Err(NotFound)),
        ("f", ".", NoReplace, Err(Exists)),
        (".", "f", NoReplace, Err(Busy)),
        ("f", "new/", NoReplace, Err(NotADirectory)),
        ("f", "new", Exchange, Err(NotFound)),
        ("x", "f", Exchange, Err(NotFound)),
        ("f", "d", Exchange, Ok(())),
        ("d", "f", Exchange, Ok(())),
        ("f", "d/", Exchange, Ok(())),
        ("d", "f/", Exchange, Err(NotADirectory)),
        ("f/", "d", Exchange, Err(NotADirectory)),
        ("d/", "f", Exchange, Ok(())),
        ("d", "d/e", Exchange, Err(Invalid)),
        ("d/e", "d", Exchange, Err(Invalid)),
        ("d/e/g", "d", Exchange, Err(Invalid)),
        ("f", "d/e/g", Exchange, Ok(())),
        ("d", "full", Exchange, Ok(())),
        ("f", "..", Exchange, Err(Busy)),
        ("f", "new", Whiteout, Err(Invalid)),
        ("d", "full", RenameMode::Replace, Err(NotEmpty)),
        ("f", "full", RenameMode::Replace, Err(IsADirectory)),
    ] {
        let mut fs = Fs::new();
        for path in ["d", "d/e", "full", "full/x"] {
            fs.mkdir(path).expect("a new directory");
        }
        for path in ["f", "g", "d/e/g"] {
            fs.create(path).expect("a new file");
        }
        assert_eq!(renamed(&mut fs, from, to, mode), expected, "{from} {to} {mode:?}");
        assert_eq!(fs.tree.check(), Ok(()), "{from} {to} {mode:?}");
    }
}

#[test]
fn a_removed_directory_gets_nothing() {
    let mut fs = Fs::new();
    fs.mkdir("d").expect("a new directory");
    fs.create("f").expect("a new file");
    let d = fs.ino("d");
    fs.open.insert(d);
    fs.rmdir("d").expect("it is empty");
    let inside = || At { base: d, path: b"x".to_vec() };
    for op in [
        Op::Mknod { at: inside(), node: Node::Fifo, mode: 0 },
        Op::Link { from: path("f", true), to: inside() },
        Op::Rename { from: At::root("f"), to: inside(), mode: RenameMode::NoReplace },
        Op::Rename { from: At::root("f"), to: inside(), mode: RenameMode::Exchange },
        Op::Rename { from: inside(), to: At::root("f"), mode: RenameMode::Exchange },
    ] {
        assert_eq!(fs.run(&op), Err(NotFound), "{op:?}");
    }
}

#[test]
fn an_exchange_keeps_to_the_limit_of_links() {
    let mut fs = Fs::new();
    fs.mkdir("one").expect("a new directory");
    fs.mkdir("one/d").expect("a new directory");
    fs.create("f").expect("a new file");
    for number in fs.stat("/").expect("root").nlink..LINK_MAX {
        fs.mkdir(&format!("many{number}")).expect("a new directory");
    }
    assert_eq!(exchange(&mut fs, "one/d", "f"), Err(TooManyLinks));
    assert_eq!(exchange(&mut fs, "f", "one/d"), Err(TooManyLinks));
    assert_eq!(exchange(&mut fs, "one/d", "many70"), Ok(()));
}
