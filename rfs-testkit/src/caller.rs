//! Who performs operations.

use rfs_core::{Capabilities, Credential};

/// The callers that [`crate::TestOp::As`] knows by their place: root, users that share a group or none, and some with
/// single capabilities.
///
/// ```
/// use rfs_core::Credential;
/// assert_eq!(rfs_testkit::callers()[0], Credential::root());
/// ```
#[must_use]
pub fn callers() -> Vec<Credential> {
    let user = |uid, gid, groups: &[u32], umask| Credential { umask, ..Credential::user(uid, gid, groups) };
    let able = |user: Credential, capabilities| Credential { capabilities, ..user };
    vec![
        Credential::root(),
        user(500, 500, &[], 0o022),
        user(1000, 500, &[], 0o027),
        user(1001, 1001, &[500, 1000], 0o002),
        user(1002, 1002, &[], 0),
        able(user(0, 0, &[], 0o077), Capabilities::NONE),
        able(user(1000, 1000, &[], 0o022), Capabilities::FOWNER | Capabilities::DAC_READ_SEARCH),
        able(user(1002, 500, &[], 0o022), Capabilities::CHOWN | Capabilities::FSETID | Capabilities::SETFCAP),
        able(user(1001, 1001, &[], 0), Capabilities::DAC_OVERRIDE | Capabilities::MKNOD),
        able(user(1003, 1003, &[0], 0o022), Capabilities::SYS_ADMIN),
    ]
}
