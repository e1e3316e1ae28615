//! The names of a volume's objects: made and parsed here only.
//!
//! ```text
//! superblock
//! <volume>/commits/<epoch>-<number>
//! <volume>/segments/<id>-<epoch>-<writer>
//! <volume>/images/<epoch>-<number>-<writer>   (before format version 3)
//! <volume>/pages/<epoch>-<number>
//! <volume>/pins/<pin>
//! <volume>/kept-by/<epoch>
//! <volume>/kept   (before format version 5)
//! <volume>/aside/<name of an object that was put aside>
//! <volume>/receipts/<epoch>-<number>-<time>
//! ```
//! The volume is 32 hexadecimal digits, a writer and a pin too, every other number 16: so names sort as their numbers do, and
//! none is the leading path of another. The volume id in every name keeps a writer of a deleted volume away from a
//! new one at the same URL.

use rfs_core::{CommitId, PageObject, SegmentId};

/// The one object whose name does not hold the volume id: it tells it.
pub const SUPERBLOCK: &str = "superblock";

/// Makes and parses the names of one volume's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys(pub u128);

impl Keys {
    /// Whether `key` is the name of an object of this volume.
    #[must_use]
    pub fn is_named(self, key: &str) -> bool {
        key.strip_prefix(&format!("{:032x}", self.0)).is_some_and(|rest| rest.starts_with('/'))
    }

    /// What all names start with but for the superblock's.
    #[must_use]
    pub fn volume(self) -> String {
        format!("{:032x}", self.0)
    }

    /// What all pins' names start with.
    #[must_use]
    pub fn pins(self) -> String {
        format!("{:032x}/pins", self.0)
    }

    /// The name of a pin.
    #[must_use]
    pub fn pin(self, id: u128) -> String {
        format!("{}/{id:032x}", self.pins())
    }

    /// The pin that `key` names.
    #[must_use]
    pub fn parse_pin(self, key: &str) -> Option<u128> {
        let id = key.strip_prefix(&self.pins())?.strip_prefix('/')?;
        let plain = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if plain { u128::from_str_radix(id, 16).ok() } else { None }
    }

    /// What the names start with under which collections say what they keep.
    #[must_use]
    pub fn all_kept(self) -> String {
        format!("{:032x}/kept-by", self.0)
    }

    /// Where the newest collection of an epoch says what it keeps.
    #[must_use]
    pub fn kept(self, epoch: u64) -> String {
        format!("{}/{epoch:016x}", self.all_kept())
    }

    /// The epoch whose collection `key` is of.
    #[must_use]
    pub fn parse_kept(self, key: &str) -> Option<u64> {
        hex16(key.strip_prefix(&self.all_kept())?.strip_prefix('/')?)
    }

    /// What the newest collection kept, whoever made it, before format version 5.
    #[must_use]
    pub fn kept_v4(self) -> String {
        format!("{:032x}/kept", self.0)
    }

    /// What the names of all objects start with that a repair has put aside.
    #[must_use]
    pub fn all_aside(self) -> String {
        format!("{:032x}/aside", self.0)
    }

    /// Where an object of this volume is put aside.
    #[must_use]
    pub fn aside(self, key: &str) -> String {
        let below = key.strip_prefix(&format!("{}/", self.volume())).unwrap_or(key);
        format!("{}/{below}", self.all_aside())
    }

    /// What the names of all receipts of drills start with.
    #[must_use]
    pub fn receipts(self) -> String {
        format!("{:032x}/receipts", self.0)
    }

    /// The name of the receipt of a drill with this commit, made at this time: nanoseconds since 1970.
    #[must_use]
    pub fn receipt(self, of: CommitId, time: i64) -> String {
        format!("{}/{:016x}-{:016x}-{time:016x}", self.receipts(), of.epoch, of.number)
    }

    /// What all commits' names start with.
    #[must_use]
    pub fn commits(self) -> String {
        format!("{:032x}/commits", self.0)
    }

    /// What all segments' names start with.
    #[must_use]
    pub fn segments(self) -> String {
        format!("{:032x}/segments", self.0)
    }

    /// What all images' names start with.
    #[must_use]
    pub fn images(self) -> String {
        format!("{:032x}/images", self.0)
    }

    /// The name of a commit, or of the fence that stands in its place.
    #[must_use]
    pub fn commit(self, id: CommitId) -> String {
        format!("{}/{:016x}-{:016x}", self.commits(), id.epoch, id.number)
    }

    /// The name of a segment uploaded by a writer.
    #[must_use]
    pub fn segment(self, id: SegmentId, epoch: u64, writer: u128) -> String {
        format!("{}/{:016x}-{epoch:016x}-{writer:032x}", self.segments(), id.0)
    }

    /// The name of the image of a commit's state, uploaded by a writer.
    #[must_use]
    pub fn image(self, of: CommitId, writer: u128) -> String {
        format!("{}/{:016x}-{:016x}-{writer:032x}", self.images(), of.epoch, of.number)
    }

    /// What all page objects' names start with.
    #[must_use]
    pub fn pages(self) -> String {
        format!("{:032x}/pages", self.0)
    }

    /// The name of an object of pages.
    #[must_use]
    pub fn pages_of(self, object: PageObject) -> String {
        format!("{}/{:016x}-{:016x}", self.pages(), object.epoch, object.number)
    }

    /// The page object that `key` names.
    #[must_use]
    pub fn parse_pages(self, key: &str) -> Option<PageObject> {
        let (epoch, number) = key.strip_prefix(&self.pages())?.strip_prefix('/')?.split_once('-')?;
        Some(PageObject { epoch: hex16(epoch)?, number: hex16(number)? })
    }

    /// The commit that `key` names.
    #[must_use]
    pub fn parse_commit(self, key: &str) -> Option<CommitId> {
        let (epoch, number) = key.strip_prefix(&self.commits())?.strip_prefix('/')?.split_once('-')?;
        Some(CommitId { epoch: hex16(epoch)?, number: hex16(number)? })
    }

    /// The segment number in `key`.
    #[must_use]
    pub fn parse_segment(self, key: &str) -> Option<SegmentId> {
        let rest = key.strip_prefix(&self.segments())?.strip_prefix('/')?;
        Some(SegmentId(hex16(rest.split('-').next()?)?))
    }
}

fn hex16(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // No history gets so far: such a name is not one of ours, and adding to it must not overflow.
    let number = if plain { u64::from_str_radix(digits, 16).ok() } else { None };
    number.filter(|number| *number < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_sort_as_their_numbers() {
        let keys = Keys(7);
        let ids =
            [(1, 0), (1, 15), (1, 16), (2, 0), (300, 1)].map(|(epoch, number)| CommitId { epoch, number });
        let names = ids.map(|id| keys.commit(id));
        assert!(names.is_sorted());
        assert_eq!(names.clone().map(|name| keys.parse_commit(&name)), ids.map(Some));
        assert_eq!(keys.parse_segment(&keys.segment(SegmentId(9), 1, 2)), Some(SegmentId(9)));
        assert_eq!(Keys(8).parse_commit(&names[0]), None);
        assert_eq!(keys.parse_commit(&names[0].to_uppercase()), None);
        assert_eq!(keys.parse_commit(&format!("{}x", names[0])), None);
    }
}
