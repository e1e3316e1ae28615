//! Extended attributes: who may use which, on what, and up to which size.

use rfs_core::Errno::{
    AccessDenied, Exists, Invalid, ListTooLong, NoAttribute, NoSpace, NotFound, NotPermitted, NotSupported,
    Range,
};
use rfs_core::{
    At, Capabilities, Credential, Ino, Node, Op, Target, Timestamp, XATTR_BYTES_MAX, XATTR_LIST_MAX,
    XATTR_VALUE_MAX, XattrMode,
};

use crate::support::{Fs, GROUP_OBJ, MASK, NOBODY, OTHER, USER, USER_OBJ, acl, answer, path, posix};

/// What Linux takes for the capabilities of an executable.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn set(path_: &str, name: &str, value: &[u8], mode: XattrMode) -> Op {
    Op::SetXattr { target: path(path_, false), name: name.into(), value: value.to_vec(), mode }
}

fn remove(path_: &str, name: &str) -> Op {
    Op::RemoveXattr { target: path(path_, false), name: name.into() }
}

fn owner() -> Credential {
    Credential::user(1000, 1000, &[])
}

fn stranger() -> Credential {
    Credential::user(1001, 1001, &[])
}

fn able(capabilities: Capabilities) -> Credential {
    Credential { capabilities, ..stranger() }
}

/// `f`, `shared` (0666), the directories `d` and `sticky` (01777), the symlink `s` and the fifo `p`: all the owner's.
fn fs() -> Fs {
    let mut fs = Fs::new();
    for (path, mode) in [("f", 0o644), ("shared", 0o666)] {
        fs.create(path).expect("a new file");
        fs.chmod(path, mode).expect("it was made");
    }
    for (path, mode) in [("d", 0o755), ("sticky", 0o1777)] {
        fs.mkdir(path).expect("a new directory");
        fs.chmod(path, mode).expect("it was made");
    }
    fs.symlink("f", "s").expect("a new symlink");
    fs.run(&Op::Mknod { at: At::root("p"), node: Node::Fifo, mode: 0o666 }).expect("a new fifo");
    for path in ["f", "shared", "d", "sticky", "s", "p"] {
        fs.chown(path, 1000, 1000).expect("it was made");
    }
    fs
}

#[test]
fn attributes_are_set_as_in_linux() {
    let (long, too_long) = (format!("user.{}", "x".repeat(250)), format!("user.{}", "x".repeat(251)));
    for (who, path, name, expected) in [
        (owner(), "f", "user.a", Ok(())),
        (owner(), "d", "user.a", Ok(())),
        (owner(), "f", &long, Ok(())),
        (owner(), "f", &too_long, Err(Range)),
        (owner(), "missing", &too_long, Err(Range)),
        (owner(), "missing", "user.a", Err(NotFound)),
        (owner(), "f", "", Err(Range)),
        (owner(), "f", "user.\0", Err(Invalid)),
        (owner(), "f", "user.", Err(Invalid)),
        (owner(), "f", "user", Err(NotSupported)),
        (owner(), "f", "other.a", Err(NotSupported)),
        (owner(), "f", "system.a", Err(NotSupported)),
        (stranger(), "f", "system.a", Err(NotSupported)),
        (stranger(), "f", "other.a", Err(AccessDenied)),
        (stranger(), "f", "user.a", Err(AccessDenied)),
        (stranger(), "f", "user.", Err(AccessDenied)),
        (stranger(), "shared", "user.a", Ok(())),
        (stranger(), "d", "user.a", Err(AccessDenied)),
        (stranger(), "sticky", "user.a", Err(NotPermitted)),
        (owner(), "sticky", "user.a", Ok(())),
        (able(Capabilities::FOWNER), "sticky", "user.a", Ok(())),
        (Credential::root(), "s", "user.a", Err(NotPermitted)),
        (Credential::root(), "p", "user.a", Err(NotPermitted)),
        (owner(), "f", "trusted.a", Err(NotPermitted)),
        (able(Capabilities::SYS_ADMIN), "f", "trusted.a", Ok(())),
        (Credential::root(), "s", "trusted.a", Ok(())),
        (Credential::root(), "f", "trusted.", Err(Invalid)),
        (owner(), "f", "security.a", Err(NotPermitted)),
        (owner(), "f", "security.", Err(NotPermitted)),
        (able(Capabilities::SYS_ADMIN), "p", "security.a", Ok(())),
        (able(Capabilities::SYS_ADMIN), "f", "security.", Err(Invalid)),
        (able(Capabilities::SYS_ADMIN), "f", "security.capability", Err(NotPermitted)),
        (able(Capabilities::SETFCAP), "f", "security.capability", Ok(())),
        (able(Capabilities::SETFCAP), "f", "security.a", Err(NotPermitted)),
    ] {
        let op = set(path, name, &CAPABILITY, XattrMode::Set);
        let mut fs = fs();
        assert_eq!(answer(fs.run_as(&who, &op)), expected, "{path} {name:?} by {who:?}");
        assert_eq!(fs.tree.check(), Ok(()));
        if expected.is_err() {
            // A name that cannot be set cannot be removed either.
            assert_eq!(answer(fs.run_as(&who, &remove(path, name))), expected, "{path} {name:?} by {who:?}");
        }
    }
    for value in [&b"x"[..], &[0; 20], &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], b""] {
        let op = set("f", "security.capability", value, XattrMode::Set);
        assert_eq!(fs().run(&op), Err(Invalid), "{value:?}");
        assert_eq!(fs().run_as(&stranger(), &op), Err(Invalid), "{value:?}");
    }
    let op = set("f", "security.capability", &[&[0, 0, 0, 3][..], &[0; 20]].concat(), XattrMode::Set);
    assert_eq!(answer(fs().run(&op)), Ok(()));
}

#[test]
fn attributes_are_read_as_in_linux() {
    let mut fs = fs();
    for name in ["user.a", "trusted.a", "security.a"] {
        fs.set_xattr("f", name, name.as_bytes()).expect("a file");
    }
    fs.set_xattr("p", "trusted.p", b"").expect("a fifo");
    fs.chmod("f", 0o620).expect("a file");
    for (who, path, name, expected) in [
        (owner(), "f", "user.a", Ok(b"user.a".to_vec())),
        (stranger(), "f", "user.a", Err(AccessDenied)),
        (stranger(), "f", "user.missing", Err(AccessDenied)),
        (stranger(), "f", "other.a", Err(AccessDenied)),
        (stranger(), "f", "system.a", Err(NotSupported)),
        (able(Capabilities::DAC_READ_SEARCH), "f", "user.a", Ok(b"user.a".to_vec())),
        (owner(), "f", "user.missing", Err(NoAttribute)),
        (owner(), "f", "user.", Err(Invalid)),
        (owner(), "f", "", Err(Range)),
        (owner(), "f", "trusted.a", Err(NoAttribute)),
        (able(Capabilities::SYS_ADMIN), "f", "trusted.a", Ok(b"trusted.a".to_vec())),
        (stranger(), "f", "security.a", Ok(b"security.a".to_vec())),
        (Credential::root(), "p", "trusted.p", Ok(Vec::new())),
        (Credential::root(), "p", "user.a", Err(NoAttribute)),
        (Credential::root(), "s", "user.a", Err(NoAttribute)),
        (Credential::root(), "s", "system.posix_acl_access", Err(NotSupported)),
        (Credential::root(), "f", "system.posix_acl_default", Err(NoAttribute)),
    ] {
        let value = posix(fs.tree.xattr(&who, fs.ino(path), name.as_bytes()));
        assert_eq!(value.map(|value| value.as_bytes().to_vec()), expected, "{path} {name:?} by {who:?}");
    }
    let listed = |who: &Credential, path: &str| {
        let names = fs.tree.xattr_names(who, fs.ino(path)).expect("it is there");
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listed(&Credential::root(), "f"), ["security.a", "trusted.a", "user.a"]);
    assert_eq!(listed(&stranger(), "f"), ["security.a", "user.a"], "whoever may not read it may know of it");
    assert_eq!(listed(&owner(), "p"), [""; 0]);
    assert_eq!(fs.tree.xattr_names(&owner(), Ino(99)), Err(rfs_core::Errno::Stale.into()));
}

#[test]
fn making_and_replacing_are_told_apart() {
    let mut fs = fs();
    let run = |fs: &mut Fs, value: &[u8], mode| answer(fs.run(&set("f", "user.a", value, mode)));
    assert_eq!(run(&mut fs, b"1", XattrMode::Replace), Err(NoAttribute));
    assert_eq!(run(&mut fs, b"1", XattrMode::Create), Ok(()));
    assert_eq!(run(&mut fs, b"2", XattrMode::Create), Err(Exists));
    assert_eq!(run(&mut fs, b"2", XattrMode::Replace), Ok(()));
    assert_eq!(fs.xattr("f", "user.a"), Ok(b"2".to_vec()));
    let before = fs.stat("f").expect("a file").times;
    assert_eq!(run(&mut fs, b"2", XattrMode::Set), Ok(()));
    assert_eq!(fs.stat("f").map(|attr| attr.times), Ok(before), "it is what it was");
    assert_eq!(run(&mut fs, b"", XattrMode::Set), Ok(()));
    assert_eq!(fs.xattr("f", "user.a"), Ok(Vec::new()), "an empty value is a value");
    let after = fs.stat("f").expect("a file").times;
    assert_eq!((after.changed, after.modified), (Timestamp::from_nanos(fs.now), before.modified));
    fs.run(&remove("f", "user.a")).expect("it is there");
    assert_eq!(fs.stat("f").map(|attr| attr.times.changed), Ok(Timestamp::from_nanos(fs.now)));
    assert_eq!(fs.run(&remove("f", "user.a")), Err(NoAttribute));
}

#[test]
fn attributes_belong_to_the_inode() {
    let mut fs = fs();
    fs.set_xattr("f", "user.a", b"1").expect("a file");
    fs.link("f", "f2").expect("a new name");
    fs.rename("f", "moved").expect("it is there");
    for name in ["f2", "moved"] {
        assert_eq!(fs.xattr(name, "user.a"), Ok(b"1".to_vec()));
    }
    let ino = fs.ino("f2");
    fs.open.insert(ino);
    fs.unlink("f2").expect("it is there");
    fs.unlink("moved").expect("it is there");
    let op = Op::SetXattr {
        target: Target::Ino(ino),
        name: b"user.b".to_vec(),
        value: b"2".to_vec(),
        mode: XattrMode::Set,
    };
    fs.run(&op).expect("it is open");
    assert_eq!(fs.tree.xattr_names(&Credential::root(), ino).map(|names| names.len()), Ok(2));
    fs.open.clear();
    fs.run(&Op::Release { ino }).expect("the last handle");
    assert_eq!(fs.tree.check(), Ok(()), "they went with it");
    fs.create("f").expect("a new file");
    assert_eq!(fs.xattr("f", "user.a"), Err(NoAttribute));
}

#[test]
fn sizes_have_limits() {
    let mut fs = fs();
    let (most, too_much) = (vec![1; XATTR_VALUE_MAX], vec![1; XATTR_VALUE_MAX + 1]);
    fs.set_xattr("f", "user.a", &most).expect("the most");
    assert_eq!(fs.xattr("f", "user.a"), Ok(most));
    assert_eq!(fs.set_xattr("f", "user.a", &too_much), Err(ListTooLong));
    assert_eq!(fs.set_xattr("missing", "user.a", &too_much), Err(ListTooLong));
    fs.run(&remove("f", "user.a")).expect("it is there");
    // Each name of 255 bytes takes 256 bytes of the list.
    for number in 0..XATTR_LIST_MAX / 256 {
        fs.set_xattr("f", &format!("user.{number:0250}"), b"").expect("the list has room");
    }
    assert_eq!(fs.set_xattr("f", "user.a", b""), Err(NoSpace));
    fs.set_xattr("f", &format!("user.{:0250}", 7), b"new").expect("no new name");
    fs.set_xattr("d", "user.a", b"").expect("each inode has its own list");
}

/// An ACL is in the list as any attribute is.
#[test]
fn an_acl_is_within_the_limits_too() {
    let named = acl(&[
        (USER_OBJ, 6, NOBODY),
        (USER, 4, 7),
        (GROUP_OBJ, 4, NOBODY),
        (MASK, 4, NOBODY),
        (OTHER, 4, NOBODY),
    ]);
    for (path, acls) in [("f", vec!["access"]), ("d", vec!["access", "default"])] {
        let mut fs = fs();
        for number in 0..XATTR_LIST_MAX / 256 {
            fs.set_xattr(path, &format!("user.{number:0250}"), b"").expect("the list has room");
        }
        let before = fs.tree.clone();
        for acl in acls {
            let name = format!("system.posix_acl_{acl}");
            assert_eq!(fs.set_xattr(path, &name, &named), Err(NoSpace), "{name}");
            assert_eq!(fs.tree, before, "neither the ACL nor the permission bits are set");
            fs.run(&remove(path, &format!("user.{:0250}", 0))).expect("it is there");
            fs.set_xattr(path, &name, &named).expect("the list has room again");
            fs.run(&remove(path, &name)).expect("it is there");
            fs.tree = before.clone();
        }
    }
}

#[test]
fn all_attributes_of_an_inode_have_a_limit() {
    let mut fs = fs();
    // Each takes 6 bytes of name.
    let value = vec![1; XATTR_VALUE_MAX];
    let most = (XATTR_BYTES_MAX / XATTR_VALUE_MAX) as u8;
    for number in 0..most - 1 {
        fs.set_xattr("f", &format!("user.{}", char::from(b'a' + number)), &value).expect("there is room");
    }
    let left = XATTR_BYTES_MAX - 6 - usize::from(most - 1) * (6 + XATTR_VALUE_MAX);
    assert_eq!(fs.set_xattr("f", "user.z", &vec![1; left + 1]), Err(NoSpace));
    fs.set_xattr("f", "user.z", &vec![1; left]).expect("it fits to the byte");
    assert_eq!(fs.set_xattr("f", "user.y", b""), Err(NoSpace));
    assert_eq!(fs.set_xattr("f", "user.z", &value), Err(NoSpace));
    fs.set_xattr("f", "user.a", &vec![2; XATTR_VALUE_MAX]).expect("it takes the room of the one before");
    fs.run(&remove("f", "user.a")).expect("it is there");
    fs.set_xattr("f", "user.y", &vec![1; XATTR_VALUE_MAX]).expect("there is room again");
    fs.set_xattr("d", "user.a", &value).expect("each inode has room of its own");
    assert_eq!(fs.tree.check(), Ok(()));
}
