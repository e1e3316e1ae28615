//! POSIX ACLs: what can be set, what they do to modes, what is inherited, and what they give to whom.

use rfs_core::Errno::{AccessDenied, Invalid, NoAttribute, NotPermitted, NotSupported};
use rfs_core::{
    At, Capabilities, Change, Credential, Ino, Name, Node, Op, Permission, Place, Timestamp, XattrMode,
};

use crate::support::{
    Fs, GROUP, GROUP_OBJ, MASK, NOBODY, OTHER, Random, USER, USER_OBJ, acl, answer, loaded, path,
};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// A list that names user 7 and group 8.
fn named(owner: u16, user: u16, group: u16, named_group: u16, mask: u16, other: u16) -> Vec<u8> {
    acl(&[
        (USER_OBJ, owner, NOBODY),
        (USER, user, 7),
        (GROUP_OBJ, group, NOBODY),
        (GROUP, named_group, 8),
        (MASK, mask, NOBODY),
        (OTHER, other, NOBODY),
    ])
}

/// A list that says what permission bits say.
fn minimal(owner: u16, group: u16, other: u16) -> Vec<u8> {
    acl(&[(USER_OBJ, owner, NOBODY), (GROUP_OBJ, group, NOBODY), (OTHER, other, NOBODY)])
}

/// The file `f`, the directory `d` and the symlink `s`, all of user and group 1000.
fn fs() -> Fs {
    let mut fs = Fs::new();
    fs.create("f").expect("a new file");
    fs.mkdir("d").expect("a new directory");
    fs.symlink("f", "s").expect("a new symlink");
    for name in ["f", "d", "s"] {
        fs.chown(name, 1000, 1000).expect("it was made");
    }
    fs
}

fn set(path_: &str, name: &str, value: &[u8]) -> Op {
    let (name, mode) = (name.into(), XattrMode::Set);
    Op::SetXattr { target: path(path_, false), name, value: value.to_vec(), mode }
}

fn mode(fs: &Fs, path: &str) -> u32 {
    fs.stat(path).expect("it is there").mode
}

#[test]
fn lists_have_a_form() {
    let (u, g, o) = ((USER_OBJ, 7, NOBODY), (GROUP_OBJ, 7, NOBODY), (OTHER, 7, NOBODY));
    let (user, group, m) = ((USER, 7, 5), (GROUP, 7, 5), (MASK, 7, NOBODY));
    for (entries, expected) in [
        (&[u, g, o][..], Ok(())),
        (&[u, g, m, o], Ok(())),
        (&[u, user, g, group, m, o], Ok(())),
        (&[u, user, user, g, m, o], Ok(())),
        (&[u, user, g, o], Err(Invalid)),
        (&[u, g, group, o], Err(Invalid)),
        (&[g, o], Err(Invalid)),
        (&[u, o], Err(Invalid)),
        (&[u, g], Err(Invalid)),
        (&[u, u, g, o], Err(Invalid)),
        (&[u, g, g, o], Err(Invalid)),
        (&[u, g, o, o], Err(Invalid)),
        (&[u, g, m, m, o], Err(Invalid)),
        (&[g, u, o], Err(Invalid)),
        (&[u, g, o, m], Err(Invalid)),
        (&[u, g, user, m, o], Err(Invalid)),
        (&[u, group, g, m, o], Err(Invalid)),
        (&[u, g, m, group, o], Err(Invalid)),
        (&[(USER_OBJ, 8, NOBODY), g, o], Err(Invalid)),
        (&[u, (USER, 7, NOBODY), g, m, o], Err(Invalid)),
        (&[u, g, (GROUP, 7, NOBODY), m, o], Err(Invalid)),
        (&[u, g, (0x40, 7, NOBODY), o], Err(Invalid)),
        (&[u, g, (0, 7, NOBODY), o], Err(Invalid)),
        // Nothing at all removes the list.
        (&[], Ok(())),
    ] {
        for (path, name) in [("f", ACCESS), ("d", ACCESS), ("d", DEFAULT)] {
            let mut fs = fs();
            assert_eq!(
                answer(fs.set_xattr(path, name, &acl(entries))),
                expected,
                "{path} {name} {entries:?}"
            );
            assert_eq!(fs.tree.check(), Ok(()));
        }
    }
    let whole = minimal(7, 7, 7);
    for (value, expected) in [
        (&whole[..2], Err(Invalid)),
        (&whole[..whole.len() - 1], Err(Invalid)),
        (&[&[1], &whole[1..]].concat(), Err(NotSupported)),
        (b"", Ok(())),
    ] {
        assert_eq!(answer(fs().set_xattr("f", ACCESS, value)), expected, "{value:?}");
    }
}

#[test]
fn the_first_error_is_the_one_linux_gives() {
    let (owner, stranger) = (Credential::user(1000, 1000, &[]), Credential::user(1001, 1001, &[]));
    let (good, bad) = (minimal(7, 0, 0), acl(&[(OTHER, 7, NOBODY)]));
    let fowner = Credential { capabilities: Capabilities::FOWNER, ..stranger.clone() };
    for (who, path, name, value, expected) in [
        (&owner, "f", ACCESS, &good[..], Ok(())),
        (&fowner, "f", ACCESS, &good, Ok(())),
        (&stranger, "f", ACCESS, &good, Err(NotPermitted)),
        (&stranger, "f", ACCESS, &bad, Err(NotPermitted)),
        (&stranger, "f", ACCESS, b"x", Err(Invalid)),
        (&stranger, "f", ACCESS, b"", Err(NotPermitted)),
        (&stranger, "d", DEFAULT, b"", Err(NotPermitted)),
        (&stranger, "f", DEFAULT, b"", Ok(())),
        (&stranger, "f", DEFAULT, &bad, Err(AccessDenied)),
        (&owner, "f", DEFAULT, &good, Err(AccessDenied)),
        (&owner, "s", ACCESS, &good, Err(NotSupported)),
        (&owner, "s", DEFAULT, &good, Err(NotSupported)),
    ] {
        let answered = answer(fs().run_as(who, &set(path, name, value)));
        assert_eq!(answered, expected, "{path} {name} {value:?} by {who:?}");
    }
    let mut fs = fs();
    for name in [ACCESS, DEFAULT] {
        let op = Op::RemoveXattr { target: path("d", false), name: name.into() };
        assert!(fs.decide(&op).expect("what is not there is gone").changes.is_empty());
        assert_eq!(fs.xattr("d", name), Err(NoAttribute));
    }
}

#[test]
fn a_list_and_the_mode_say_the_same() {
    let mut fs = fs();
    fs.chmod("f", 0o4600).expect("a file");
    fs.set_xattr("f", ACCESS, &minimal(6, 5, 4)).expect("a file");
    assert_eq!((mode(&fs, "f"), fs.xattr("f", ACCESS)), (0o4654, Err(NoAttribute)), "bits can say it");

    fs.set_xattr("f", ACCESS, &named(7, 7, 5, 6, 3, 1)).expect("a file");
    assert_eq!(mode(&fs, "f"), 0o4731, "the group's bits are the mask");
    fs.chmod("f", 0o1640).expect("a file");
    assert_eq!(fs.xattr("f", ACCESS), Ok(named(6, 7, 5, 6, 4, 0)), "and the mask is the group's bits");
    fs.set_xattr("f", ACCESS, &minimal(7, 7, 7)).expect("a file");
    assert_eq!((mode(&fs, "f"), fs.xattr("f", ACCESS)), (0o1777, Err(NoAttribute)));

    // With a mask but nobody named there is more than bits can say: the group's own permissions.
    let masked = |mask| {
        acl(&[(USER_OBJ, 6, NOBODY), (GROUP_OBJ, 7, NOBODY), (MASK, mask, NOBODY), (OTHER, 0, NOBODY)])
    };
    fs.set_xattr("f", ACCESS, &masked(2)).expect("a file");
    assert_eq!((mode(&fs, "f"), fs.xattr("f", ACCESS)), (0o1620, Ok(masked(2))));
    fs.run(&Op::RemoveXattr { target: path("f", false), name: ACCESS.into() }).expect("it is there");
    assert_eq!((mode(&fs, "f"), fs.xattr("f", ACCESS)), (0o1620, Err(NoAttribute)), "the bits stay");

    // Ids of entries that name nobody are not kept.
    let odd = acl(&[(USER_OBJ, 6, 3), (USER, 1, 7), (GROUP_OBJ, 7, 4), (MASK, 2, 0), (OTHER, 0, 9)]);
    fs.set_xattr("f", ACCESS, &odd).expect("a file");
    let even = acl(&[
        (USER_OBJ, 6, NOBODY),
        (USER, 1, 7),
        (GROUP_OBJ, 7, NOBODY),
        (MASK, 2, NOBODY),
        (OTHER, 0, NOBODY),
    ]);
    assert_eq!(fs.xattr("f", ACCESS), Ok(even));
    assert_eq!(fs.tree.check(), Ok(()));
}

#[test]
fn set_group_id_goes_when_a_stranger_to_the_group_sets_a_list() {
    let owner = Credential::user(1000, 5, &[]);
    let member = Credential::user(1000, 5, &[1000]);
    for (who, value, expected) in [
        (&owner, minimal(7, 7, 7), 0o777),
        (&member, minimal(7, 7, 7), 0o2777),
        (&owner, named(7, 7, 7, 7, 7, 7), 0o777),
        (&Credential::root(), named(7, 7, 7, 7, 7, 7), 0o2777),
        (&owner, Vec::new(), 0o700),
    ] {
        let mut fs = fs();
        fs.chmod("f", 0o2700).expect("a file");
        fs.run_as(who, &set("f", ACCESS, &value)).expect("it is the owner's");
        assert_eq!(mode(&fs, "f"), expected, "{value:?} by {who:?}");
    }
}

#[test]
fn what_is_made_inherits_the_default_list() {
    let default = named(7, 7, 5, 6, 6, 1);
    let maker = Credential { umask: 0o077, ..Credential::root() };
    for (name, node, asked, mode_, access) in [
        ("d/all", Node::File, 0o7777, 0o7761, Some(named(7, 7, 5, 6, 6, 1))),
        ("d/some", Node::File, 0o640, 0o640, Some(named(6, 7, 5, 6, 4, 0))),
        ("d/fifo", Node::Fifo, 0o622, 0o620, Some(named(6, 7, 5, 6, 2, 0))),
        ("d/sub", Node::Directory, 0o755, 0o741, Some(named(7, 7, 5, 6, 4, 1))),
        ("d/link", Node::Symlink(b"x"[..].into()), 0, 0o777, None),
    ] {
        let mut fs = fs();
        fs.set_xattr("d", DEFAULT, &default).expect("a directory");
        assert_eq!(fs.xattr("d", ACCESS), Err(NoAttribute), "a default list is not for the directory itself");
        let at = At::root(name);
        let op = match &node {
            Node::Directory => Op::Mkdir { at, mode: asked },
            Node::Symlink(target) => Op::Symlink { target: target.to_vec(), at },
            _ => Op::Mknod { at, node: node.clone(), mode: asked },
        };
        fs.run_as(&maker, &op).expect("a new name");
        assert_eq!(fs.lstat(name).map(|attr| attr.mode), Ok(mode_), "{name}: the umask does not count");
        if let Some(access) = access {
            assert_eq!(fs.xattr(name, ACCESS), Ok(access), "{name}");
            let passed_on = fs.xattr(name, DEFAULT);
            assert_eq!(passed_on.is_ok(), node == Node::Directory, "{name}");
            assert!(passed_on.is_err() || passed_on == Ok(default.clone()));
        }
        assert_eq!(fs.tree.check(), Ok(()));
    }
    // A default list without names is bits: it is kept as a default, but what is made has no list.
    let mut fs = fs();
    fs.set_xattr("d", DEFAULT, &minimal(7, 5, 0)).expect("a directory");
    let op = Op::Mkdir { at: At::root("d/sub"), mode: 0o777 };
    fs.run_as(&maker, &op).expect("a new directory");
    assert_eq!((mode(&fs, "d/sub"), fs.xattr("d/sub", ACCESS)), (0o750, Err(NoAttribute)));
    assert_eq!(fs.xattr("d/sub", DEFAULT), Ok(minimal(7, 5, 0)));
    let op = Op::OpenNameless {
        dir: path("d/sub", true),
        access: rfs_core::Access { read: false, write: true },
        linkable: true,
        mode: 0o666,
    };
    let decision = fs.decide(&op).expect("a directory");
    assert!(matches!(decision.changes[..], [Change::CreateNameless { mode: 0o640, .. }]), "{decision:?}");
}

/// What the standard's text says of a list, word by word: `entries` are tag, permissions and id.
fn standard(entries: &[(u16, u16, u32)], who: &Credential, owner: u32, group: u32, wanted: u16) -> bool {
    let of = |tag: u16| entries.iter().filter(move |entry| entry.0 == tag);
    let mask = of(MASK).next().map_or(7, |entry| entry.1);
    let gives = |permissions: u16| permissions & wanted == wanted;
    if who.uid == owner {
        return of(USER_OBJ).any(|entry| gives(entry.1));
    }
    if let Some(user) = of(USER).find(|entry| entry.2 == who.uid) {
        return gives(user.1 & mask);
    }
    let own = of(GROUP_OBJ).filter(|_| who.is_in_group(group));
    let groups: Vec<_> = own.chain(of(GROUP).filter(|entry| who.is_in_group(entry.2))).collect();
    if groups.is_empty() {
        return of(OTHER).any(|entry| gives(entry.1));
    }
    groups.iter().any(|entry| gives(entry.1 & mask))
}

#[test]
fn lists_give_what_the_standard_says() {
    let mut random = Random(3);
    let mut given = 0;
    for _ in 0..4000 {
        let mut entries = vec![(USER_OBJ, random.below(8) as u16, NOBODY)];
        for uid in 0..random.below(3) {
            entries.push((USER, random.below(8) as u16, 1001 + uid as u32));
        }
        entries.push((GROUP_OBJ, random.below(8) as u16, NOBODY));
        for gid in 0..random.below(3) {
            entries.push((GROUP, random.below(8) as u16, 2001 + gid as u32));
        }
        // A mask that gives nothing hides the whole list: see the next test.
        entries.push((MASK, 1 + random.below(7) as u16, NOBODY));
        entries.push((OTHER, random.below(8) as u16, NOBODY));
        let mut fs = fs();
        fs.set_xattr("f", ACCESS, &acl(&entries)).expect("a list");
        let who = Credential::user(
            random.pick(&[1000, 1001, 1002, 1003]),
            random.pick(&[1000, 2001, 2002, 9]),
            &[random.pick(&[1000, 2001, 2002, 9])],
        );
        let wanted = random.below(8) as u16;
        let access = Permission::from_bits(wanted.into()).expect("three bits");
        let answered = fs.tree.permits(&who, fs.ino("f"), access).is_ok();
        assert_eq!(answered, standard(&entries, &who, 1000, 1000, wanted), "{entries:?} {wanted} {who:?}");
        given += u32::from(answered);
    }
    assert!((800..3200).contains(&given), "{given}");
}

#[test]
fn a_mask_that_gives_nothing_hides_the_list() {
    let mut fs = fs();
    fs.set_xattr("f", ACCESS, &named(6, 7, 7, 7, 0, 4)).expect("a list");
    let reads = |who: &Credential| fs.tree.permits(who, fs.ino("f"), Permission::READ);
    assert_eq!(reads(&Credential::user(7, 9, &[])), Ok(()), "as Linux: user 7 is in the last class then");
    assert_eq!(reads(&Credential::user(9, 8, &[])), Ok(()));
    assert_eq!(reads(&Credential::user(9, 1000, &[])), Err(AccessDenied.into()));
}

#[test]
fn a_path_is_walked_by_lists() {
    let mut fs = fs();
    fs.create("d/f").expect("a new file");
    fs.chmod("d", 0o700).expect("a directory");
    let (user, group) = (Credential::user(7, 7, &[]), Credential::user(9, 9, &[8]));
    assert_eq!(fs.tree.lookup(&user, &At::root("d/f"), true), Err(AccessDenied.into()));
    fs.set_xattr("d", ACCESS, &named(7, 1, 0, 3, 3, 0)).expect("a directory");
    assert_eq!(fs.tree.lookup(&user, &At::root("d/f"), true), Ok(fs.ino("d/f")));
    let make = |name: &str| Op::Mkdir { at: At::root(name), mode: 0o755 };
    assert_eq!(fs.run_as(&user, &make("d/new")), Err(AccessDenied));
    assert_eq!(answer(fs.run_as(&group, &make("d/new"))), Ok(()));
    fs.chmod("d", 0o710).expect("a directory");
    assert_eq!(fs.run_as(&group, &make("d/more")), Err(AccessDenied), "chmod sets the mask");
}

#[test]
fn a_list_that_is_none_does_not_come_in_by_a_change() {
    let mut fs = fs();
    let (f, d, s) = (fs.ino("f"), fs.ino("d"), fs.ino("s"));
    let list = minimal(7, 5, 0);
    let with_id = acl(&[(USER_OBJ, 7, 3), (GROUP_OBJ, 5, NOBODY), (OTHER, 0, NOBODY)]);
    for (ino, name, value, fits) in [
        (f, ACCESS, &list[..], true),
        (d, ACCESS, &list, true),
        (d, DEFAULT, &list, true),
        (f, DEFAULT, &list, false),
        (s, ACCESS, &list, false),
        (f, ACCESS, b"", false),
        (f, ACCESS, &list[..4], false),
        (f, ACCESS, &list[..list.len() - 8], false),
        (f, ACCESS, &with_id, false),
        (s, "user.a", b"", false),
        (f, "other.a", b"", false),
        (f, "user.", b"", false),
        (Ino(99), "user.a", b"", false),
    ] {
        let name = rfs_core::XattrName::new(name.as_bytes()).expect("a name");
        let value = rfs_core::XattrValue::new(value).expect("a value");
        let change = Change::SetXattr { ino, name, value, time: Timestamp::default() };
        let before = fs.tree.clone();
        assert_eq!(fs.tree.apply(&change, Place::default()).is_ok(), fits, "{change:?}");
        assert_eq!(before == fs.tree, !fits, "{change:?}");
        assert_eq!(fs.tree.check(), Ok(()));
    }
    let name = rfs_core::XattrName::new(b"user.none").expect("a name");
    let change = Change::RemoveXattr { ino: f, name, time: Timestamp::default() };
    let error = fs.tree.apply(&change, Place::default()).expect_err("it is not there").to_string();
    assert!(error.contains("RemoveXattr") && error.contains("user.none"), "{error}");
    assert!(Name::new(b"f").is_ok_and(|name| loaded(fs.tree.entry(Ino::ROOT, &name)).is_some()));
}
