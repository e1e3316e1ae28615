//! What Linux answers. Each line of a table is one system call as root on tmpfs.

use rfs_core::Errno::{
    Busy, Exists, Invalid, IsADirectory, NameTooLong, NotADirectory, NotEmpty, NotFound, NotPermitted,
    NotSupported, Stale, TooBig, TooManyLinks, TooManySymlinks, WouldBlock,
};
use rfs_core::{
    Access, At, Cookie, Credential, Errno, FILE_SIZE_MAX, Ino, Item, LINK_MAX, LockMode, Op, OpenFlags,
    Outcome, PATH_MAX, RenameMode, SetTime, Target, Timestamp, Tree, WriteAt,
};

use crate::support::{Fs, items, locker, path};

/// `d` with `d/e` in it, `empty`, the file `f`, and symlinks: `to_d`, `to_f`, `dangling`, `loop`, `root`, `up`.
fn fs() -> Fs {
    let mut fs = Fs::new();
    for path in ["d", "d/e", "empty"] {
        fs.mkdir(path).expect("a new directory");
    }
    fs.create("f").expect("a new file");
    for (target, path) in [
        ("d", "to_d"),
        ("f", "to_f"),
        ("missing", "dangling"),
        ("loop", "loop"),
        ("//", "root"),
        ("../d/", "d/up"),
        ("empty/new/", "to_new_slash"),
    ] {
        fs.symlink(target, path).expect("a new symlink");
    }
    fs
}

fn no_outcome(result: Result<Outcome, Errno>) -> Result<(), Errno> {
    result.map(|_| ())
}

#[test]
fn paths_resolve_as_in_linux() {
    let fs = fs();
    let ino = |path: &str| fs.tree.lookup(&Credential::root(), &At::root(path), true);
    for same in
        ["/d", "d/", "//d", "./d", "d/.", "d/e/..", "to_d", "to_d/", "../../d", "root/d", "d/up", "d/up/up"]
    {
        assert_eq!(ino(same), ino("d"), "{same}");
    }
    for same in ["/", "///", ".", "..", "/..", "d/..", "root", "root/", "to_d/.."] {
        assert_eq!(ino(same), Ok(Ino::ROOT), "{same}");
    }
    let (long, longest) = ("n".repeat(256), "n".repeat(255));
    let deep = "a/".repeat(PATH_MAX / 2);
    for (path, errno) in [
        ("", NotFound),
        ("x", NotFound),
        ("x/y", NotFound),
        ("f/", NotADirectory),
        ("f/.", NotADirectory),
        ("f/x", NotADirectory),
        ("to_f/", NotADirectory),
        ("to_f/..", NotADirectory),
        ("dangling", NotFound),
        ("loop", TooManySymlinks),
        ("loop/x", TooManySymlinks),
        ("a\0b", Invalid),
        (&long, NameTooLong),
        (&longest, NotFound),
        (&format!("x/{long}"), NotFound),
        (&format!("f/{long}"), NotADirectory),
        (&deep, NameTooLong),
        (&deep[1..], NotFound),
    ] {
        assert_eq!(ino(path), Err(errno.into()), "{path}");
    }
    assert_eq!(fs.tree.lookup(&Credential::root(), &At::root("loop"), false), Ok(fs.ino("loop")));
    assert_eq!(fs.tree.lookup(&Credential::root(), &At::root("to_d/"), false), ino("d"));
    assert_eq!(
        fs.tree.lookup(&Credential::root(), &At { base: fs.ino("f"), path: b"x".into() }, true),
        Err(NotADirectory.into())
    );
    assert_eq!(
        fs.tree.lookup(&Credential::root(), &At { base: fs.ino("f"), path: b"/d".into() }, true),
        ino("d")
    );
    assert_eq!(
        fs.tree.lookup(&Credential::root(), &At { base: Ino(99), path: b"x".into() }, true),
        Err(Stale.into())
    );
}

#[test]
fn forty_symlinks_are_followed_and_no_more() {
    let mut fs = fs();
    fs.symlink("f", "s1").expect("a new symlink");
    for number in 2..=41 {
        fs.symlink(&format!("s{}", number - 1), &format!("s{number}")).expect("a new symlink");
    }
    assert_eq!(fs.stat("s40"), fs.stat("f"));
    assert_eq!(fs.stat("s41"), Err(TooManySymlinks));
}

#[test]
fn open_answers_as_linux() {
    let read = Access { read: true, write: false };
    let write = Access { read: false, write: true };
    let none = OpenFlags::default();
    let create = OpenFlags { create: true, ..none };
    let exclusive = OpenFlags { exclusive: true, ..create };
    let truncate = OpenFlags { truncate: true, ..none };
    let directory = OpenFlags { directory: true, ..none };
    let no_follow = OpenFlags { no_follow: true, ..none };
    for (path, access, flags, answer) in [
        ("f", read, none, Ok(false)),
        ("d", read, none, Ok(false)),
        ("d", read, directory, Ok(false)),
        ("d", write, none, Err(IsADirectory)),
        ("d", write, directory, Err(IsADirectory)),
        ("d", read, truncate, Err(IsADirectory)),
        ("d", read, create, Err(IsADirectory)),
        ("d", read, exclusive, Err(Exists)),
        ("d/", read, exclusive, Err(IsADirectory)),
        ("d/.", read, exclusive, Err(Exists)),
        ("d/..", read, create, Err(IsADirectory)),
        ("/", read, exclusive, Err(Exists)),
        ("/", read, none, Ok(false)),
        ("f", read, directory, Err(NotADirectory)),
        ("f/", read, none, Err(NotADirectory)),
        ("new/", read, create, Err(IsADirectory)),
        ("f/", read, create, Err(IsADirectory)),
        ("f/new", read, create, Err(NotADirectory)),
        ("x/new", read, create, Err(NotFound)),
        ("new", read, none, Err(NotFound)),
        ("new", read, create, Ok(true)),
        ("new", read, exclusive, Ok(true)),
        ("f", read, create, Ok(false)),
        ("f", read, exclusive, Err(Exists)),
        ("f", read, truncate, Ok(false)),
        ("f", read, OpenFlags { exclusive: true, ..none }, Ok(false)),
        ("to_f", read, no_follow, Err(TooManySymlinks)),
        ("to_d", read, OpenFlags { directory: true, ..no_follow }, Err(NotADirectory)),
        ("to_d/", read, no_follow, Ok(false)),
        ("to_f", read, create, Ok(false)),
        ("to_f", read, OpenFlags { create: true, ..no_follow }, Err(TooManySymlinks)),
        ("dangling", read, none, Err(NotFound)),
        ("dangling", read, create, Ok(true)),
        ("dangling", read, exclusive, Err(Exists)),
        ("to_new_slash", read, create, Err(IsADirectory)),
        ("root", read, create, Err(IsADirectory)),
        ("root", read, none, Ok(false)),
        ("loop", read, create, Err(TooManySymlinks)),
        ("", read, OpenFlags { directory: true, ..create }, Err(Invalid)),
        ("f", Access { read: false, write: false }, none, Err(Invalid)),
    ] {
        let answered = fs().run(&Op::Open { at: At::root(path), access, flags, mode: 0o644 });
        let created = answered.map(|outcome| matches!(outcome, Outcome::Opened { created: true, .. }));
        assert_eq!(created, answer, "{path} {flags:?}");
    }
    let mut fs = fs();
    fs.create("dangling").expect("its target is made");
    assert_eq!(fs.stat("missing").map(|attr| attr.ino), fs.stat("dangling").map(|attr| attr.ino));
}

#[test]
fn names_are_made_as_in_linux() {
    for (path, answer) in [
        ("new", Ok(())),
        ("new/", Ok(())),
        ("d/../new", Ok(())),
        ("d", Err(Exists)),
        ("f/", Err(Exists)),
        ("dangling", Err(Exists)),
        ("dangling/", Err(Exists)),
        (".", Err(Exists)),
        ("d/..", Err(Exists)),
        ("/", Err(Exists)),
        ("x/new", Err(NotFound)),
        ("f/new", Err(NotADirectory)),
    ] {
        assert_eq!(no_outcome(fs().mkdir(path)), answer, "mkdir {path}");
    }
    let long = "t".repeat(PATH_MAX);
    for (target, path, answer) in [
        ("anything", "new", Ok(())),
        (&long[1..], "new", Ok(())),
        (&long, "new", Err(NameTooLong)),
        ("", "new", Err(NotFound)),
        ("a\0", "new", Err(Invalid)),
        ("x", "new/", Err(NotFound)),
        ("x", "f/", Err(Exists)),
        ("x", "d/", Err(Exists)),
        ("x", "dangling", Err(Exists)),
        ("x", "..", Err(Exists)),
    ] {
        assert_eq!(no_outcome(fs().symlink(target, path)), answer, "symlink {path}");
    }
    for (from, to, answer) in [
        ("f", "new", Ok(())),
        ("to_f", "new", Ok(())),
        ("f", "f", Err(Exists)),
        ("f", "new/", Err(NotFound)),
        ("f", "d/", Err(Exists)),
        ("f", "dangling", Err(Exists)),
        ("f/", "new", Err(NotADirectory)),
        ("d", "new", Err(NotPermitted)),
        ("d", "f", Err(Exists)),
        ("d", "new/", Err(NotFound)),
        ("x", "f", Err(NotFound)),
    ] {
        assert_eq!(no_outcome(fs().link(from, to)), answer, "link {from} {to}");
    }
    let mut fs = fs();
    fs.link("to_f", "same").expect("the symlink itself");
    assert_eq!(fs.lstat("same").map(|attr| attr.nlink), Ok(2));
    fs.run(&Op::Link { from: path("to_f", true), to: At::root("followed") }).expect("its target");
    assert_eq!(fs.stat("f").map(|attr| attr.nlink), Ok(2));
}

#[test]
fn names_are_removed_as_in_linux() {
    for (path, answer) in [
        ("f", Ok(())),
        ("to_d", Ok(())),
        ("dangling", Ok(())),
        ("f/", Err(NotADirectory)),
        ("to_d/", Err(NotADirectory)),
        ("x", Err(NotFound)),
        ("x/", Err(NotFound)),
        ("d", Err(IsADirectory)),
        ("d/", Err(IsADirectory)),
        (".", Err(IsADirectory)),
        ("..", Err(IsADirectory)),
        ("/", Err(IsADirectory)),
    ] {
        assert_eq!(no_outcome(fs().unlink(path)), answer, "unlink {path}");
    }
    for (path, answer) in [
        ("empty", Ok(())),
        ("empty/", Ok(())),
        ("d", Err(NotEmpty)),
        ("f", Err(NotADirectory)),
        ("f/", Err(NotADirectory)),
        ("to_d", Err(NotADirectory)),
        ("to_d/", Err(NotADirectory)),
        ("x", Err(NotFound)),
        ("d/.", Err(Invalid)),
        ("d/..", Err(NotEmpty)),
        ("/", Err(Busy)),
    ] {
        assert_eq!(no_outcome(fs().rmdir(path)), answer, "rmdir {path}");
    }
}

#[test]
fn renames_answer_as_in_linux() {
    for (from, to, answer) in [
        ("f", "new", Ok(())),
        ("f", "to_d", Ok(())),
        ("to_f", "f", Ok(())),
        ("d", "new", Ok(())),
        ("d", "new/", Ok(())),
        ("d/", "empty", Ok(())),
        ("f", "f", Ok(())),
        ("d", "d", Ok(())),
        ("d", "empty", Ok(())),
        ("d", "empty/", Ok(())),
        ("x", "f", Err(NotFound)),
        ("x", "x/y", Err(NotFound)),
        ("f/", "new", Err(NotADirectory)),
        ("f", "new/", Err(NotADirectory)),
        ("to_d/", "new", Err(NotADirectory)),
        ("d", "f", Err(NotADirectory)),
        ("d", "to_d/", Err(NotADirectory)),
        ("f", "d", Err(IsADirectory)),
        ("f", "d/", Err(NotADirectory)),
        ("empty", "d", Err(NotEmpty)),
        ("d", "d/new", Err(Invalid)),
        ("d", "d/e/new", Err(Invalid)),
        ("d", "d/e", Err(Invalid)),
        ("d/e", "d", Err(NotEmpty)),
        ("d/up", "d", Err(NotEmpty)),
        (".", "new", Err(Busy)),
        ("d", "..", Err(Busy)),
        ("/", "new", Err(Busy)),
        ("x", ".", Err(Busy)),
        ("d/.", "x/y", Err(NotFound)),
    ] {
        assert_eq!(no_outcome(fs().rename(from, to)), answer, "rename {from} {to}");
    }
}

#[test]
fn links_and_times_follow_a_rename() {
    let mut fs = fs();
    fs.mkdir("to").expect("a new directory");
    let (d, before) = (fs.ino("d"), fs.stat("/").expect("the root"));
    fs.rename("d", "to/d").expect("it moves");
    let now = Timestamp::from_nanos(fs.now);
    let (root, to, moved) =
        (fs.stat("/").expect("root"), fs.stat("to").expect("to"), fs.stat("to/d").expect("d"));
    assert_eq!((root.nlink, to.nlink, moved.ino), (before.nlink - 1, 3, d));
    assert_eq!((root.times.modified, to.times.changed, moved.times.changed), (now, now, now));
    assert_ne!(moved.times.modified, now);
    assert_eq!(fs.stat("to/d/..").map(|attr| attr.ino), Ok(to.ino));

    fs.link("f", "g").expect("a new name");
    let other = fs
        .decide(&Op::Rename { from: At::root("f"), to: At::root("g"), mode: RenameMode::Replace })
        .expect("one inode");
    assert!(other.changes.is_empty(), "two names of one inode stay");
    fs.create("h").expect("a new file");
    fs.rename("h", "g").expect("g is replaced");
    assert_eq!(fs.stat("f").map(|attr| attr.nlink), Ok(1));
    assert_eq!(fs.tree.check(), Ok(()));
}

#[test]
fn content_calls_answer_as_linux() {
    let mut fs = fs();
    for (path, answer) in [("d", IsADirectory), ("x", NotFound), ("f/", NotADirectory)] {
        assert_eq!(fs.truncate(path, 1), Err(answer), "{path}");
        assert_eq!(fs.write(path, WriteAt::End, 1), Err(answer), "{path}");
    }
    let symlink = Target::Ino(fs.ino("to_f"));
    assert_eq!(fs.run(&Op::Truncate { target: symlink, size: 1 }), Err(Invalid));
    assert_eq!(fs.truncate("f", FILE_SIZE_MAX + 1), Err(TooBig));
    assert_eq!(fs.write("f", WriteAt::Offset(FILE_SIZE_MAX), 1), Err(TooBig));
    assert_eq!(fs.write("f", WriteAt::Offset(u64::MAX), u64::MAX), Err(TooBig));
    assert_eq!(fs.write("f", WriteAt::Offset(u64::MAX), 0), Ok(Outcome::Written { offset: u64::MAX }));
    assert_eq!(fs.stat("f").map(|attr| attr.size), Ok(0));
    assert_eq!(
        fs.write("f", WriteAt::Offset(FILE_SIZE_MAX - 1), 1),
        Ok(Outcome::Written { offset: FILE_SIZE_MAX - 1 })
    );
    assert_eq!(fs.write("f", WriteAt::End, 1), Err(TooBig));
    fs.truncate("f", 3).expect("a file");
    assert_eq!(fs.write("to_f", WriteAt::End, 2), Ok(Outcome::Written { offset: 3 }));
}

#[test]
fn attributes_are_set_as_in_linux() {
    let mut fs = fs();
    fs.chmod("f", 0o107_755).expect("a file");
    assert_eq!(fs.stat("f").map(|attr| attr.mode), Ok(0o7755));
    assert_eq!(fs.run(&Op::SetMode { target: path("to_f", false), mode: 0 }), Err(NotSupported));
    fs.run(&Op::SetOwner { target: path("f", true), uid: Some(7), gid: None }).expect("a file");
    let owned = fs.stat("f").expect("a file");
    assert_eq!(
        (owned.mode, owned.uid, owned.gid),
        (0o1755, 7, 0),
        "chown clears set-user-id and set-group-id"
    );
    let time = Timestamp::from_nanos(-5);
    fs.set_times("f", SetTime::At(time), SetTime::Keep).expect("a file");
    let times = fs.stat("f").expect("a file").times;
    assert_eq!(
        (times.accessed, times.modified, times.changed.as_nanos()),
        (time, owned.times.modified, fs.now)
    );
    assert_eq!(no_outcome(fs.set_times("x", SetTime::Keep, SetTime::Keep)), Ok(()));
    assert_eq!(fs.set_times("x", SetTime::Now, SetTime::Keep), Err(NotFound));

    fs.run(&Op::SetOwner { target: path("d", true), uid: None, gid: Some(9) }).expect("a directory");
    fs.chmod("d", 0o2755).expect("a directory");
    fs.mkdir("d/sub").expect("a new directory");
    fs.create("d/file").expect("a new file");
    let (sub, file) = (fs.stat("d/sub").expect("made"), fs.stat("d/file").expect("made"));
    assert_eq!((sub.gid, sub.mode, file.gid, file.mode), (9, 0o2755, 9, 0o644));
    fs.run(&Op::Mkdir { at: At::root("special"), mode: 0o7777 }).expect("a new directory");
    assert_eq!(fs.stat("special").map(|attr| attr.mode), Ok(0o1777));
    assert_eq!(fs.lstat("to_f").map(|attr| (attr.mode, attr.size)), Ok((0o777, 1)));
}

#[test]
fn what_is_open_outlives_its_name() {
    let mut fs = fs();
    fs.write("f", WriteAt::End, 8).expect("a file");
    let (f, e) = (fs.ino("f"), fs.ino("d/e"));
    fs.open.extend([f, e]);
    fs.unlink("f").expect("it is there");
    fs.rmdir("d/e").expect("it is empty");
    assert_eq!(fs.tree.attr(f).map(|attr| (attr.nlink, attr.size)), Ok((0, 8)));
    assert_eq!(
        fs.run(&Op::Write { target: Target::Ino(f), at: WriteAt::End, len: 1 }),
        Ok(Outcome::Written { offset: 8 })
    );
    assert_eq!(fs.run(&Op::Link { from: Target::Ino(f), to: At::root("again") }), Err(NotFound));

    let inside = |path: &str| At { base: e, path: path.into() };
    let long = "n".repeat(256);
    assert_eq!(fs.tree.lookup(&Credential::root(), &inside("."), true), Ok(e));
    assert_eq!(fs.tree.lookup(&Credential::root(), &inside(".."), true), Ok(fs.ino("d")));
    assert_eq!(fs.tree.lookup(&Credential::root(), &inside("x"), true), Err(NotFound.into()));
    assert_eq!(fs.tree.lookup(&Credential::root(), &inside(&long), true), Err(NotFound.into()));
    assert_eq!(fs.run(&Op::Mkdir { at: inside("x"), mode: 0 }), Err(NotFound));
    assert_eq!(
        fs.run(&Op::Rename { from: At::root("d"), to: inside("x"), mode: RenameMode::Replace }),
        Err(NotFound)
    );
    assert_eq!(fs.tree.read_dir(e, Cookie(0), 9), Ok(Vec::new()));
    assert_eq!(fs.tree.check(), Ok(()));

    fs.unlink("d/up").expect("it is there");
    fs.rmdir("d").expect("it is empty");
    assert_eq!(
        fs.tree.lookup(&Credential::root(), &inside(".."), true),
        Err(NotFound.into()),
        "the last parent is gone"
    );
    assert_eq!(fs.tree.check(), Ok(()));

    assert!(fs.decide(&Op::Release { ino: f }).expect("still open").changes.is_empty());
    fs.open.clear();
    for ino in [f, e] {
        fs.run(&Op::Release { ino }).expect("the last handle");
        assert_eq!(fs.tree.attr(ino), Err(Stale.into()));
    }
    assert!(fs.tree.segments().is_empty() && !fs.tree.needs_new_session());

    fs.create("g").expect("a new file");
    fs.create("h").expect("a new file");
    let g = fs.ino("g");
    fs.open.insert(g);
    fs.rename("h", "g").expect("g is replaced");
    assert_eq!(fs.tree.attr(g).map(|attr| attr.nlink), Ok(0));
    assert_eq!(fs.tree.check(), Ok(()));
}

#[test]
fn locks_exclude_each_other() {
    let mut fs = fs();
    let ino = fs.ino("f");
    let lock = |owner, mode| Op::LockFile { ino, owner: locker(owner), mode };
    let unlock = |owner| Op::UnlockFile { ino, owner: locker(owner) };
    for owner in [1, 2] {
        fs.run(&lock(owner, LockMode::Shared)).expect("shared");
    }
    assert!(fs.decide(&lock(1, LockMode::Shared)).expect("held").changes.is_empty());
    assert_eq!(fs.run(&lock(1, LockMode::Exclusive)), Err(WouldBlock));
    assert_eq!(fs.tree.file_locks(ino).count(), 2, "a refused change of mode loses nothing");
    fs.run(&unlock(2)).expect("held");
    fs.run(&lock(1, LockMode::Exclusive)).expect("alone");
    assert_eq!(fs.run(&lock(2, LockMode::Shared)), Err(WouldBlock));
    assert!(fs.decide(&unlock(2)).expect("not held").changes.is_empty());
    assert_eq!(fs.run(&Op::LockFile { ino: Ino(99), owner: locker(1), mode: LockMode::Shared }), Err(Stale));
    assert!(fs.tree.needs_new_session());
    fs.unlink("f").expect("it is there");
    assert!(!fs.tree.needs_new_session(), "locks go with the inode");
}

#[test]
fn a_listing_shows_what_stays_exactly_once() {
    let mut fs = Fs::new();
    for name in ["a", "b", "c", "d"] {
        fs.create(name).expect("a new file");
    }
    let first = fs.tree.read_dir(Ino::ROOT, Cookie(0), 2).expect("a directory");
    assert_eq!(first.iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>(), ["a", "b"]);
    fs.unlink("a").expect("it is there");
    fs.create("new").expect("a new file");
    fs.rename("new", "b").expect("b is replaced, but its name stays");
    fs.create("e").expect("a new file");
    let rest = fs.tree.read_dir(Ino::ROOT, first[1].cookie, 9).expect("a directory");
    assert_eq!(rest.iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>(), ["c", "d", "e"]);
    assert_eq!(fs.tree.read_dir(Ino::ROOT, Cookie(u64::MAX), 9), Ok(Vec::new()));
    assert_eq!(fs.tree.read_dir(fs.ino("b"), Cookie(0), 9), Err(NotADirectory.into()));
}

#[test]
fn links_have_a_limit() {
    let mut fs = fs();
    for number in fs.stat("/").expect("root").nlink..LINK_MAX {
        fs.mkdir(&format!("many{number}")).expect("a new directory");
    }
    assert_eq!(fs.mkdir("one_more"), Err(TooManyLinks));
    assert_eq!(fs.rename("d/e", "one_more"), Err(TooManyLinks));
    assert_eq!(no_outcome(fs.rename("d/e", "empty")), Ok(()), "it replaces a link");
    for number in 1..LINK_MAX {
        fs.link("f", &format!("d/f{number}")).expect("a new name");
    }
    assert_eq!(fs.link("f", "one_more"), Err(TooManyLinks));
    assert_eq!(fs.tree.check(), Ok(()));
    let items: Vec<Item> = items(&fs.tree).collect();
    assert_eq!(Tree::from_items(items), Ok(fs.tree));
}

#[test]
fn checkpoints_have_names_of_their_own() {
    let mut fs = Fs::new();
    let commit = rfs_core::CommitId { epoch: 1, number: 4 };
    let add = |name: &str| Op::AddCheckpoint { name: name.to_owned(), commit };
    fs.run(&add("one")).expect("a new name");
    assert_eq!(
        fs.tree.checkpoints().get(&"one".to_owned()).map(|checkpoint| checkpoint.commit),
        Some(commit)
    );
    for (name, errno) in [("one", Exists), ("", Invalid), (&"l".repeat(256), NameTooLong)] {
        assert_eq!(fs.run(&add(name)), Err(errno));
    }
    assert_eq!(fs.run(&Op::DropCheckpoint { name: "two".to_owned() }), Err(NotFound));
    fs.run(&Op::DropCheckpoint { name: "one".to_owned() }).expect("it is there");
    assert!(fs.tree.checkpoints().is_empty());
}
