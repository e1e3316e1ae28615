//! Every operation on every form of path: what random operations meet too seldom to be relied on.

use rfs_core::{Access, NAME_MAX, Node, OpenFlags, PATH_MAX, RenameMode, SYMLINKS_MAX, XattrMode};

use crate::{LinkTarget, Path, TestOp, What, XattrText};

/// Operations that each start from the tree of [`corner_tree`]: run that on a fresh target, then one of these.
///
/// ```
/// use rfs_testkit::{ModelFs, Rules, Target, corner_ops, corner_tree};
/// let op = corner_ops().remove(0);
/// let mut model = ModelFs::new(Rules::rfs());
/// for step in corner_tree() {
///     model.run(&step).unwrap();
/// }
/// _ = model.run(&op);
/// ```
#[must_use]
pub fn corner_ops() -> Vec<TestOp> {
    let forms: Vec<Path> = path_forms().into_iter().map(Path::new).collect();
    let mut ops = Vec::new();
    for path in &forms {
        ops.extend(ops_on(path));
        for to in &forms {
            for mode in [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange] {
                ops.push(TestOp::Rename { from: path.clone(), to: to.clone(), mode });
            }
            let from = What::Path { path: path.clone(), follow: false };
            ops.push(TestOp::Link { from, to: to.clone() });
        }
    }
    ops
}

/// Makes the tree for [`corner_ops`]: an empty and a full directory, files with one and with two names, and
/// symlinks to each kind of thing, to nothing, and to themselves; a fifo and a device.
#[must_use]
pub fn corner_tree() -> Vec<TestOp> {
    let mkdir = |path: &str| TestOp::Mkdir { path: Path::new(path), mode: 0o755 };
    let create = |path: &str| TestOp::Create { path: Path::new(path), mode: 0o644 };
    let symlink = |target: &str, path: &str| TestOp::Symlink {
        target: LinkTarget(target.into()),
        path: Path::new(path),
    };
    vec![
        mkdir("/empty"),
        mkdir("/full"),
        mkdir("/full/sub"),
        create("/full/sub/file"),
        create("/file"),
        create("/other"),
        TestOp::Link { from: What::path("/file"), to: Path::new("/twin") },
        symlink("file", "/to-file"),
        symlink("file/", "/to-file-slash"),
        symlink("/full", "/to-full"),
        symlink("empty/", "/to-empty"),
        symlink("missing", "/dangling"),
        symlink("missing/", "/dangling-slash"),
        symlink("loop", "/loop"),
        symlink("..", "/full/up"),
        TestOp::Mknod { path: Path::new("/fifo"), node: Node::Fifo, mode: 0o644 },
        TestOp::Mknod { path: Path::new("/device"), node: Node::CharDevice(7), mode: 0o644 },
    ]
}

/// A chain of symlinks that is as long as may be followed, and one that is longer by one.
#[must_use]
pub fn symlink_chain() -> Vec<TestOp> {
    let mut ops = vec![TestOp::Create { path: Path::new("/0"), mode: 0o644 }];
    for number in 0..=SYMLINKS_MAX {
        let target = LinkTarget(number.to_string().into_bytes());
        ops.push(TestOp::Symlink { target, path: Path::new(format!("/{}", number + 1)) });
    }
    for number in [SYMLINKS_MAX, SYMLINKS_MAX + 1] {
        for follow in [true, false] {
            let path = Path::new(format!("/{number}"));
            ops.push(TestOp::Stat { what: What::Path { path, follow } });
        }
    }
    ops
}

fn path_forms() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "/",
        "//",
        ".",
        "..",
        "/..",
        "/empty",
        "/empty/",
        "/empty/.",
        "/empty/..",
        "/full",
        "/full/",
        "/full/sub",
        "/full/sub/new",
        "/full/sub/file",
        "/full/up/empty",
        "/file",
        "/file/",
        "/file/.",
        "/file/x",
        "/other",
        "/twin",
        "/to-file",
        "/to-file/",
        "/to-file-slash",
        "/to-full",
        "/to-full/",
        "/to-full/sub/..",
        "/to-empty",
        "/to-empty/new",
        "/dangling",
        "/dangling/",
        "/dangling-slash",
        "/loop",
        "/loop/",
        "/new",
        "/new/",
        "/new/.",
        "/missing/new",
        "/fifo",
        "/fifo/",
        "/fifo/x",
        "/device",
    ];
    let mut forms: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let long = [b'n'; NAME_MAX + 1];
    forms.push([b"/", &long[1..]].concat());
    forms.push([b"/", &long[..]].concat());
    forms.push([b"/", &long[..], b"/"].concat());
    forms.push([b"/missing/", &long[..]].concat());
    forms.push([b"/file/", &long[..]].concat());
    for len in [PATH_MAX - 1, PATH_MAX] {
        let mut path = vec![b'/'; len - "empty".len()];
        path.extend(b"empty");
        forms.push(path);
    }
    forms
}

fn ops_on(path: &Path) -> Vec<TestOp> {
    let mut ops = vec![
        TestOp::Mkdir { path: path.clone(), mode: 0o700 },
        TestOp::Create { path: path.clone(), mode: 0o600 },
        TestOp::Symlink { target: LinkTarget(b"x".to_vec()), path: path.clone() },
        TestOp::Symlink { target: LinkTarget(path.bytes.clone()), path: Path::new("/link") },
        TestOp::Mknod { path: path.clone(), node: Node::Socket, mode: 0o600 },
        TestOp::OpenNameless {
            slot: 0,
            path: path.clone(),
            access: Access { read: true, write: true },
            linkable: true,
            mode: 0o600,
        },
        TestOp::Unlink { path: path.clone() },
        TestOp::Rmdir { path: path.clone() },
        TestOp::ReadLink { path: path.clone() },
        TestOp::ReadDir { what: What::Path { path: path.clone(), follow: true } },
        TestOp::Truncate { what: What::Path { path: path.clone(), follow: true }, size: 3 },
        TestOp::Read { what: What::Path { path: path.clone(), follow: true }, offset: 0, len: 3 },
        TestOp::Link { from: What::Path { path: path.clone(), follow: true }, to: Path::new("/link") },
    ];
    for follow in [true, false] {
        let what = What::Path { path: path.clone(), follow };
        ops.push(TestOp::Stat { what: what.clone() });
        ops.push(TestOp::SetMode { what: what.clone(), mode: 0o711 });
        ops.push(TestOp::SetOwner { what: what.clone(), uid: Some(7), gid: None });
        ops.extend([0, 1, 7].map(|access| TestOp::Access { what: what.clone(), access }));
        for name in ["user.x", "trusted.x", "user.", "other.x", ""] {
            let (name, value) = (XattrText(name.into()), XattrText(b"value".to_vec()));
            ops.push(TestOp::GetXattr { what: what.clone(), name: name.clone() });
            ops.push(TestOp::RemoveXattr { what: what.clone(), name: name.clone() });
            ops.push(TestOp::SetXattr { what: what.clone(), name, value, mode: XattrMode::Set });
        }
        ops.push(TestOp::ListXattr { what });
    }
    for bits in 0..32_u8 {
        let flags = OpenFlags {
            create: bits & 1 != 0,
            exclusive: bits & 2 != 0,
            truncate: bits & 4 != 0,
            directory: bits & 8 != 0,
            no_follow: bits & 16 != 0,
        };
        for write in [false, true] {
            let access = Access { read: true, write };
            ops.push(TestOp::Open { slot: 0, path: path.clone(), access, flags, mode: 0o640 });
        }
    }
    ops
}
