//! Where a node of a map is stored.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a stored page, and what is in it. Core does not know what an object is: whoever stored the page does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageRef {
    /// The object that it is in.
    pub object: PageObject,
    /// Where it starts in the object, in bytes.
    pub offset: u32,
    /// Its length, in bytes.
    pub len: u32,
    /// The first 16 bytes of the BLAKE3 hash of its bytes.
    pub hash: [u8; 16],
}

/// Names an object of pages: each epoch numbers its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageObject {
    /// The epoch of the writer that stored it.
    pub epoch: u64,
    /// Its number among those of that epoch.
    pub number: u64,
}

impl fmt::Display for PageObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl fmt::Display for PageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = u64::from(self.offset) + u64::from(self.len);
        write!(f, "page at {}..{end} of page object {}", self.offset, self.object)
    }
}
