//! Names and values of extended attributes, among them ACLs and capabilities.

use rfs_core::{
    At, Context, Node, Op, Place, SegmentId, Target, Timestamp, Tree, XattrMode, XattrName, decide,
};
use rfs_testkit::callers;

use crate::choices;

const PLACE: Place = Place { segment: SegmentId(0), position: 0 };
const NAMES: [&[u8]; 6] = [
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"security.capability",
    b"user.x",
    b"trusted.x",
    b"system.y",
];

/// An attribute on a directory: `choices, value`, or `choices, name, NUL, value`. It is set, and then asked for its
/// permissions by everybody, inherited, and changed by a new mode.
pub fn xattr(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let (name, value) = match NAMES.get(usize::from(choice & 7)) {
        Some(name) => (name.to_vec(), bytes.to_vec()),
        None => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            (bytes[..end].to_vec(), bytes.get(end + 1..).unwrap_or_default().to_vec())
        }
    };
    let mut tree = Tree::new(Timestamp::from_nanos(0));
    assert!(act(&mut tree, 0, &Op::Mkdir { at: At::root("d"), mode: 0o750 }));
    let target = || Target::Path { at: At::root("d"), follow: true };
    let caller = usize::from(choice >> 3) % callers().len();
    let set = Op::SetXattr { target: target(), name: name.clone(), value, mode: XattrMode::Set };
    if act(&mut tree, caller, &set) {
        XattrName::new(&name).expect("an attribute that was set has a name");
    }
    for caller in 0..callers().len() {
        act(&mut tree, caller, &Op::Mknod { at: At::root("d/f"), node: Node::File, mode: 0o666 });
        act(&mut tree, caller, &Op::Mkdir { at: At::root("d/e"), mode: 0o777 });
        act(&mut tree, caller, &Op::SetMode { target: target(), mode: 0o2640 });
        act(&mut tree, caller, &Op::RemoveXattr { target: target(), name: name.clone() });
    }
    assert_eq!(tree.check(), Ok(()));
}

/// Whether the Op was done.
fn act(tree: &mut Tree, caller: usize, op: &Op) -> bool {
    let credential = &callers()[caller];
    let context = Context { credential, ..Context::new(Timestamp::from_nanos(1)) };
    let Ok(decision) = decide(tree, &context, op) else { return false };
    for change in &decision.changes {
        tree.apply(change, PLACE).expect("what was decided on a tree applies to it");
    }
    true
}
