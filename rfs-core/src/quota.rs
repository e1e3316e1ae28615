//! Quotas: how much a volume, or one user of it, may hold.

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
