//! POSIX access control lists (IEEE 1003.1e draft 17), in the binary form that Linux gives their extended
//! attributes: a version, then for each entry a tag, permissions and an id, all little-endian.
//!
//! An access ACL's first, last and mask entries always say what the mode's permission bits say; one that says no
//! more than the mode is not stored at all. [`permits`] works on the stored bytes, since it is on the way of every
//! path.

use crate::{Credential, Errno, Inode, Permission};

/// The attribute that holds an inode's own list.
pub(crate) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the list that what is made in a directory gets.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER_LEN: usize = 4;
const ENTRY_LEN: usize = 8;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// One line of a list: for whom, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    /// The user or group; [`NO_ID`] for the entries that need none.
    id: u32,
}

/// A list that was taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    /// Takes an attribute's value apart; none if it has no entry, which removes a list. Whether the entries make a
    /// list is for [`Acl::validate`] to say.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>, Errno> {
        if value.is_empty() {
            return Ok(None);
        }
        let (header, entries) = value.split_first_chunk::<HEADER_LEN>().ok_or(Errno::Invalid)?;
        if u32::from_le_bytes(*header) != VERSION {
            return Err(Errno::NotSupported);
        }
        if entries.len() % ENTRY_LEN != 0 {
            return Err(Errno::Invalid);
        }
        let known = |entry: &Entry| match entry.tag {
            USER | GROUP => entry.id != NO_ID,
            USER_OBJ | GROUP_OBJ | MASK | OTHER => true,
            _ => false,
        };
        let acl = Self(self::entries(value).collect());
        match acl.0.as_slice() {
            [] => Ok(None),
            entries if entries.iter().all(known) => Ok(Some(acl)),
            _ => Err(Errno::Invalid),
        }
    }

    /// Whether its entries are in order, each that has to be there is, and a mask if users or groups are named.
    pub(crate) fn validate(&self) -> Result<(), Errno> {
        let mut rest = self.0.as_slice();
        let mut take = |tag| {
            let taken = rest.iter().take_while(|entry| entry.tag == tag).count();
            rest = &rest[taken..];
            taken
        };
        let owner = take(USER_OBJ) == 1;
        let users = take(USER);
        let group = take(GROUP_OBJ) == 1;
        let groups = take(GROUP);
        let masks = take(MASK);
        let other = take(OTHER) == 1;
        let masked = masks == 1 || masks == 0 && users + groups == 0;
        let valid = owner && group && other && masked && rest.is_empty();
        if valid && self.0.iter().all(|entry| entry.permissions <= 7) { Ok(()) } else { Err(Errno::Invalid) }
    }

    /// The permission bits that it stands for.
    pub(crate) fn mode(&self) -> u32 {
        let class =
            |tag: u16| self.0.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.permissions));
        let group = class(MASK).or_else(|| class(GROUP_OBJ));
        class(USER_OBJ).unwrap_or(0) << 6 | group.unwrap_or(0) << 3 | class(OTHER).unwrap_or(0)
    }

    /// Whether it says no more than permission bits can.
    pub(crate) fn is_minimal(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// Takes over permission bits, as `chmod(2)` sets them.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        let group = if self.0.iter().any(|entry| entry.tag == MASK) { MASK } else { GROUP_OBJ };
        for entry in &mut self.0 {
            let bits = match entry.tag {
                USER_OBJ => mode >> 6,
                tag if tag == group => mode >> 3,
                OTHER => mode,
                _ => continue,
            };
            entry.permissions = (bits & 7) as u16;
        }
    }

    /// What a new inode gets of its directory's default list: no permission that its maker did not ask for. Yields
    /// its permission bits.
    pub(crate) fn inherit(&mut self, mode: u32) -> u32 {
        let kept = mode & self.mode();
        self.set_mode(kept);
        mode & !0o777 | kept & 0o777
    }

    /// The attribute's value.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for Entry { tag, permissions, id } in &self.0 {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            let id = if matches!(*tag, USER | GROUP) { *id } else { NO_ID };
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }
}

/// Whether a value can be stored: a list in the one form that [`Acl::to_bytes`] gives it.
pub(crate) fn is_stored_form(value: &[u8]) -> bool {
    match Acl::parse(value) {
        Ok(Some(acl)) => acl.validate().is_ok() && acl.to_bytes() == value,
        _ => false,
    }
}

/// Whether a stored access list gives it to a caller that is not the inode's owner.
pub(crate) fn permits(value: &[u8], credential: &Credential, inode: &Inode, access: Permission) -> bool {
    let gives = |permissions: u16| access.is_given_by(u32::from(permissions));
    let masked = |permissions: u16| {
        let mask = entries(value).find(|entry| entry.tag == MASK).map_or(7, |entry| entry.permissions);
        gives(permissions & mask)
    };
    let mut in_group = false;
    for Entry { tag, permissions, id } in entries(value) {
        match tag {
            USER if id == credential.uid => return masked(permissions),
            GROUP_OBJ | GROUP => {
                let gid = if tag == GROUP { id } else { inode.gid };
                if credential.is_in_group(gid) {
                    in_group = true;
                    if gives(permissions) {
                        return masked(permissions);
                    }
                }
            }
            OTHER => return !in_group && gives(permissions),
            _ => {}
        }
    }
    false
}

fn entries(value: &[u8]) -> impl Iterator<Item = Entry> {
    let (entries, _) = value.get(HEADER_LEN..).unwrap_or_default().as_chunks::<ENTRY_LEN>();
    entries.iter().map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| Entry {
        tag: u16::from_le_bytes([t0, t1]),
        permissions: u16::from_le_bytes([p0, p1]),
        id: u32::from_le_bytes([i0, i1, i2, i3]),
    })
}
