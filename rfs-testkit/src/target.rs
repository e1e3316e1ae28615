//! What every target of the operations must be able to do, and how their answers and trees are compared.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use rfs_core::Kind;

use crate::testop::show_bytes;
use crate::{Content, Slot, TestOp, XattrText};

/// Something that operations can be run on: the model, a real directory, rfs at one of its layers.
pub trait Target {
    /// Performs one operation.
    fn run(&mut self, op: &TestOp) -> Answer;

    /// The whole tree, and what the handles hold.
    fn dump(&mut self) -> Dump;
}

/// What an operation answers: a value, or Linux's error number.
pub type Answer = Result<Value, i32>;

/// What an operation yields.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Done, nothing to tell.
    Unit,
    /// Content.
    Bytes(Vec<u8>),
    /// An offset.
    Number(u64),
    /// Attributes.
    Attr(Attr),
    /// Names, sorted.
    Names(Vec<Vec<u8>>),
    /// Where a symlink points.
    Link(Vec<u8>),
    /// Whether it is so.
    Truth(bool),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("done"),
            Self::Bytes(bytes) => {
                let start = &bytes[..bytes.len().min(24)];
                write!(f, "{} bytes \"{}\"", bytes.len(), start.escape_ascii())
            }
            Self::Number(number) => write!(f, "{number}"),
            Self::Attr(attr) => attr.fmt(f),
            Self::Names(names) => f.debug_list().entries(names.iter().map(|name| show_bytes(name))).finish(),
            Self::Link(target) => write!(f, "-> {}", show_bytes(target)),
            Self::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

/// The attributes that all targets have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of links.
    pub nlink: u32,
    /// Size in bytes; 0 for a directory.
    pub size: u64,
    /// Which device it is, as `st_rdev`.
    pub device: u64,
    /// Last access, where an operation set it to a given time and nothing has changed it since; only of files,
    /// since what else changes it differs between systems. In nanoseconds.
    pub accessed: Option<i64>,
    /// Last modification, where an operation set it to a given time and nothing has changed it since.
    pub modified: Option<i64>,
}

/// Between these (in nanoseconds) lies what any clock shows during a test, and no time that an operation sets: so a
/// target that only shows a time lets one see where it came from. They are in 2001 and in 2099.
pub const CLOCK_NANOS: std::ops::Range<i64> = 1_000_000_000_000_000_000..4_100_000_000_000_000_000;

/// The time as [`Attr`] shows it: only if an operation set it.
#[must_use]
pub fn set_time(nanos: i64) -> Option<i64> {
    (!CLOCK_NANOS.contains(&nanos)).then_some(nanos)
}

/// One file, directory or symlink of a [`Dump`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its attributes.
    pub attr: Attr,
    /// Content of a file.
    pub content: Content,
    /// Where a symlink points.
    pub link: Vec<u8>,
    /// Its extended attributes, of all namespaces.
    pub xattrs: BTreeMap<XattrText, XattrText>,
    /// Names of the same inode have the same number; numbers are given in the order of the paths.
    pub identity: usize,
}

/// A whole tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Everything that has a path, by its path; the root's is empty.
    pub tree: BTreeMap<Vec<u8>, Node>,
    /// What the open handles hold, by slot; the identity of what has no name counts on after those of the tree.
    /// A handle that may not read shows no content.
    pub handles: BTreeMap<Slot, Node>,
}

impl Dump {
    /// The differences to `other`, one a line, under the names given; empty when there are none.
    #[must_use]
    pub fn diff(&self, name: &str, other: &Self, other_name: &str) -> String {
        let mut out = String::new();
        diff_maps(&mut out, (name, &self.tree), (other_name, &other.tree), |path| show_bytes(path));
        diff_maps(&mut out, (name, &self.handles), (other_name, &other.handles), |slot| {
            format!("handle {slot}")
        });
        out
    }
}

/// Gives each inode number of a target its identity: its place in the order of first sight.
#[derive(Debug, Default)]
pub struct Identities(BTreeMap<u64, usize>);

impl Identities {
    /// The identity of an inode number.
    pub fn of(&mut self, ino: u64) -> usize {
        let next = self.0.len();
        *self.0.entry(ino).or_insert(next)
    }

    /// Whether the inode number was seen before.
    #[must_use]
    pub fn knows(&self, ino: u64) -> bool {
        self.0.contains_key(&ino)
    }
}

/// Runs `ops` on two targets and compares every answer, and the trees after every `dump_every` operations and at
/// the end.
///
/// # Errors
/// A text for the failure message: the operations that led there, the two answers, and the differences.
pub fn compare(
    ops: &[TestOp],
    (left_name, left): (&str, &mut dyn Target),
    (right_name, right): (&str, &mut dyn Target),
    dump_every: usize,
) -> Result<(), String> {
    for (index, op) in ops.iter().enumerate() {
        let (left_answer, right_answer) = (left.run(op), right.run(op));
        let last = index + 1 == ops.len();
        let dumped = last || (index + 1) % dump_every.max(1) == 0;
        let mut trees = String::new();
        if dumped || left_answer != right_answer {
            trees = left.dump().diff(left_name, &right.dump(), right_name);
        }
        if left_answer != right_answer || !trees.is_empty() {
            let mut out = String::from("operations up to the difference:\n");
            for (number, op) in ops.iter().enumerate().take(index + 1).skip(index.saturating_sub(40)) {
                _ = writeln!(out, "  {number:4} {op:?}");
            }
            _ = writeln!(out, "{left_name}: {left_answer:?}\n{right_name}: {right_answer:?}\n{trees}");
            return Err(out);
        }
    }
    Ok(())
}

fn diff_maps<K: Ord>(
    out: &mut String,
    (left_name, left): (&str, &BTreeMap<K, Node>),
    (right_name, right): (&str, &BTreeMap<K, Node>),
    show: impl Fn(&K) -> String,
) {
    for (key, node) in left {
        match right.get(key) {
            Some(other) if node == other => {}
            Some(other) => {
                let at = node.content.first_difference(&other.content);
                let at = at.map(|at| format!(" (content differs from {at})")).unwrap_or_default();
                _ = writeln!(out, "{}{at}\n  {left_name}: {node:?}\n  {right_name}: {other:?}", show(key));
            }
            None => _ = writeln!(out, "{} only in {left_name}: {node:?}", show(key)),
        }
    }
    for (key, node) in right.iter().filter(|(key, _)| !left.contains_key(key)) {
        _ = writeln!(out, "{} only in {right_name}: {node:?}", show(key));
    }
}
