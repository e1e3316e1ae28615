//! Quotas: how much a volume, or one user of it, may hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Ino, Inode, NAME_MAX, NotLoaded, Tree};

/// Bytes that a volume without a quota says it has room for: more than anybody stores, and little enough that
/// programs can calculate with it.
const UNLIMITED_BYTES: u64 = 1 << 60;
/// Inodes that a volume without a quota says it has room for.
const UNLIMITED_INODES: u64 = 1 << 48;
/// The unit in which `statvfs(3)` counts.
const BLOCK_SIZE: u32 = 4096;

/// Whom a quota limits. The order of the variants is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum QuotaSubject {
    /// The whole volume: past it, `ENOSPC`, for everybody.
    Volume,
    /// What this user owns: past it, `EDQUOT`, but for callers with
    /// [`SYS_RESOURCE`](crate::Capabilities::SYS_RESOURCE).
    User(u32),
}

/// Limits; what is not given is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of content. Holes do not count; bytes that two files share count twice.
    pub bytes: Option<u64>,
    /// Inodes.
    pub inodes: Option<u64>,
}

/// What is there, counted as [`Limits`] count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of content.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// A quota that is set, and how much of it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quota {
    /// How much there may be.
    pub limits: Limits,
    /// How much there is.
    pub used: Usage,
}

/// How much a volume has room for, as `statvfs(3)` tells it: its quota's limits, or 2^60 bytes and 2^48 inodes.
///
/// ```
/// use rfs_core::{Timestamp, Tree};
/// let free = Tree::new(Timestamp::from_nanos(0)).stat_fs();
/// assert_eq!((free.bytes, free.bytes_free, free.inodes - free.inodes_free), (1 << 60, 1 << 60, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// The unit in which `statvfs(3)` counts, in bytes.
    pub block_size: u32,
    /// Bytes of content that it can hold.
    pub bytes: u64,
    /// How many of them are left.
    pub bytes_free: u64,
    /// Inodes that it can hold.
    pub inodes: u64,
    /// How many of them are left.
    pub inodes_free: u64,
    /// Longest name of a directory entry, in bytes.
    pub name_max: u32,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn are_none(&self) -> bool {
        self.bytes.is_none() && self.inodes.is_none()
    }
}

impl Quota {
    /// Whether it lets what is used become `new`: what does not grow may be over its limit.
    pub(crate) fn allows(&self, new: Usage) -> bool {
        let allowed =
            |limit: Option<u64>, old: u64, new: u64| new <= old || limit.is_none_or(|limit| new <= limit);
        allowed(self.limits.bytes, self.used.bytes, new.bytes)
            && allowed(self.limits.inodes, self.used.inodes, new.inodes)
    }
}

impl Tree {
    /// How much the volume has room for.
    #[must_use]
    pub fn stat_fs(&self) -> StatFs {
        let limits = self.quotas.get(&QuotaSubject::Volume).copied().unwrap_or_default();
        let used = self.usage();
        let bytes = limits.bytes.unwrap_or_else(|| UNLIMITED_BYTES.max(used.bytes));
        let inodes = limits.inodes.unwrap_or_else(|| UNLIMITED_INODES.max(used.inodes));
        StatFs {
            block_size: BLOCK_SIZE,
            bytes,
            bytes_free: bytes.saturating_sub(used.bytes),
            inodes,
            inodes_free: inodes.saturating_sub(used.inodes),
            name_max: NAME_MAX as u32,
        }
    }

    /// What a subject uses.
    pub(crate) fn usage_of(&self, subject: QuotaSubject) -> Usage {
        match subject {
            QuotaSubject::Volume => self.usage(),
            QuotaSubject::User(uid) => self.users.get(&uid).copied().unwrap_or_default(),
        }
    }

    /// What each user uses, counted anew from what is loaded.
    pub(crate) fn usage_by_user(&self) -> BTreeMap<u32, Usage> {
        let mut users: BTreeMap<u32, Usage> = BTreeMap::new();
        for (_, inode) in self.inodes.loaded() {
            let used = users.entry(inode.uid).or_default();
            *used = used.plus(Usage::of(inode));
        }
        users
    }

    /// Puts an inode in place, and counts what it uses.
    pub(crate) fn put_inode(&mut self, ino: Ino, inode: Inode) -> Result<(), NotLoaded> {
        let new = (inode.uid, Usage::of(&inode));
        let old = self.inodes.insert(ino, inode)?.map(|old| (old.uid, Usage::of(&old)));
        self.count(old, Some(new));
        Ok(())
    }

    /// Takes an inode out, and no longer counts it.
    pub(crate) fn take_inode(&mut self, ino: Ino) -> Result<(), NotLoaded> {
        if let Some(old) = self.inodes.remove(&ino)? {
            self.count(Some((old.uid, Usage::of(&old))), None);
        }
        Ok(())
    }

    /// What an owner uses of the volume changes. Of a sound tree nothing overflows: no user has more than the whole
    /// tree, and that is bounded where extents are put. But what is stored is not counted again when it is opened.
    fn count(&mut self, old: Option<(u32, Usage)>, new: Option<(u32, Usage)>) {
        if old == new {
            return;
        }
        if let (Some((old_uid, was)), Some((uid, is))) = (old, new)
            && old_uid == uid
            && let Some(used) = self.users.get_mut(&uid)
        {
            self.allocated = self.allocated.saturating_sub(was.bytes).saturating_add(is.bytes);
            *used = used.minus(was).plus(is);
            return;
        }
        if let Some((uid, usage)) = old {
            self.allocated = self.allocated.saturating_sub(usage.bytes);
            let left = self.usage_of(QuotaSubject::User(uid)).minus(usage);
            if left == Usage::default() {
                self.users.remove(&uid);
            } else {
                self.users.insert(uid, left);
            }
        }
        if let Some((uid, usage)) = new {
            self.allocated = self.allocated.saturating_add(usage.bytes);
            self.users.insert(uid, self.usage_of(QuotaSubject::User(uid)).plus(usage));
        }
    }
}

impl Usage {
    /// What one inode counts for.
    const fn of(inode: &Inode) -> Self {
        Self { bytes: inode.allocated, inodes: 1 }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            inodes: self.inodes.saturating_sub(other.inodes),
        }
    }
}
