//! Which maps are stored as pages, and the keys and small values of theirs.

use rfs_core::{
    Cookie, Entry, EntryKey, Extent, FILE_SIZE_MAX, Ino, Inode, Kind, NAME_MAX, Name, PageObject, Place,
    SegmentId, XATTR_NAME_MAX, XATTR_VALUE_MAX, XattrName, XattrValue,
};

use super::column::{Column, Input, NUMBER_MAX, put_deltas, put_numbers, put_pairs, put_runs};
use crate::objects::StoredSegment;

/// Which map a page is of. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum MapKind {
    /// Inode number to inode.
    Inodes = 1,
    /// Directory and name to entry.
    Entries = 2,
    /// Directory and cookie to name.
    Listing = 3,
    /// File and offset to extent.
    Extents = 4,
    /// Inode and name to extended attribute.
    Xattrs = 5,
    /// Segment to its live bytes.
    LiveBytes = 6,
    /// Segment to where it is stored.
    Segments = 7,
    /// Object of pages to the bytes of its pages that are in use.
    Objects = 8,
    /// Inode, directory and cookie of an entry to nothing.
    Links = 9,
}

/// The key of a map that is stored as pages, and whose values are `V`.
pub trait Paged<V>: Column + Ord {
    /// Which map it is.
    const KIND: MapKind;

    /// Whether the tree could hold this pair.
    fn is_sound(&self, value: &V) -> bool;
}

impl Paged<Inode> for Ino {
    const KIND: MapKind = MapKind::Inodes;

    fn is_sound(&self, _: &Inode) -> bool {
        true
    }
}

impl Paged<Entry> for EntryKey {
    const KIND: MapKind = MapKind::Entries;

    fn is_sound(&self, _: &Entry) -> bool {
        true
    }
}

impl Paged<Name> for (Ino, Cookie) {
    const KIND: MapKind = MapKind::Listing;

    fn is_sound(&self, _: &Name) -> bool {
        true
    }
}

impl Paged<()> for (Ino, Ino, Cookie) {
    const KIND: MapKind = MapKind::Links;

    fn is_sound(&self, (): &()) -> bool {
        true
    }
}

impl Paged<Extent> for (Ino, u64) {
    const KIND: MapKind = MapKind::Extents;

    fn is_sound(&self, extent: &Extent) -> bool {
        let end = self.1.checked_add(extent.len);
        extent.len > 0
            && end.is_some_and(|end| end <= FILE_SIZE_MAX)
            && extent.place.position.checked_add(extent.len).is_some()
    }
}

impl Paged<XattrValue> for (Ino, XattrName) {
    const KIND: MapKind = MapKind::Xattrs;

    fn is_sound(&self, _: &XattrValue) -> bool {
        true
    }
}

impl Paged<u64> for SegmentId {
    const KIND: MapKind = MapKind::LiveBytes;

    fn is_sound(&self, _: &u64) -> bool {
        true
    }
}

impl Paged<u64> for PageObject {
    const KIND: MapKind = MapKind::Objects;

    fn is_sound(&self, _: &u64) -> bool {
        true
    }
}

impl Paged<StoredSegment> for SegmentId {
    const KIND: MapKind = MapKind::Segments;

    fn is_sound(&self, stored: &StoredSegment) -> bool {
        stored.header.id == *self
    }
}

impl Column for Ino {
    const MAX: usize = NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|ino| ino.0));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        Some(input.deltas(count)?.into_iter().map(Self).collect())
    }
}

impl Column for PageObject {
    const MAX: usize = 2 * NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|object| object.epoch));
        put_deltas(out, values.iter().map(|object| object.number));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let (epochs, numbers) = (input.deltas(count)?, input.deltas(count)?);
        Some(epochs.into_iter().zip(numbers).map(|(epoch, number)| Self { epoch, number }).collect())
    }
}

impl Column for SegmentId {
    const MAX: usize = NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|id| id.0));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        Some(input.deltas(count)?.into_iter().map(Self).collect())
    }
}

impl Column for u64 {
    const MAX: usize = NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_numbers(out, values.iter().copied());
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        input.numbers(count)
    }
}

impl Column for (Ino, Cookie) {
    const MAX: usize = 2 * NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|(ino, _)| ino.0));
        put_deltas(out, values.iter().map(|(_, cookie)| cookie.0));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let inos = Ino::decode(input, count)?;
        Some(inos.into_iter().zip(input.deltas(count)?.into_iter().map(Cookie)).collect())
    }
}

/// As of entries: a cookie is expected to be as far from its inode as the one before.
impl Column for (Ino, Ino, Cookie) {
    const MAX: usize = 3 * NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|(ino, ..)| ino.0));
        put_deltas(out, values.iter().map(|(_, parent, _)| parent.0));
        put_deltas(out, values.iter().map(|(ino, _, cookie)| cookie.0.wrapping_sub(ino.0)));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let (inos, parents) = (Ino::decode(input, count)?, Ino::decode(input, count)?);
        let rows = inos.into_iter().zip(parents).zip(input.deltas(count)?);
        Some(rows.map(|((ino, parent), far)| (ino, parent, Cookie(ino.0.wrapping_add(far)))).collect())
    }
}

impl Column for () {
    const MAX: usize = 0;

    fn encode(_: &[Self], _: &mut Vec<u8>) {}

    fn decode(_: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        Some(vec![(); count])
    }
}

impl Column for (Ino, u64) {
    const MAX: usize = 2 * NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|(ino, _)| ino.0));
        put_deltas(out, values.iter().map(|(_, offset)| *offset));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let inos = Ino::decode(input, count)?;
        Some(inos.into_iter().zip(input.deltas(count)?).collect())
    }
}

impl Column for (Ino, XattrName) {
    const MAX: usize = 3 * NUMBER_MAX + XATTR_NAME_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|(ino, _)| ino.0));
        put_runs(out, values.iter().map(|(_, name)| name.as_bytes()));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let inos = Ino::decode(input, count)?;
        let names = input.runs(count, XATTR_NAME_MAX, |name| XattrName::new(name).ok())?;
        Some(inos.into_iter().zip(names).collect())
    }
}

impl Column for XattrValue {
    const MAX: usize = 2 * NUMBER_MAX + XATTR_VALUE_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_runs(out, values.iter().map(Self::as_bytes));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        input.runs(count, XATTR_VALUE_MAX, |value| Self::new(value).ok())
    }
}

impl Column for Name {
    const MAX: usize = 2 * NUMBER_MAX + NAME_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_runs(out, values.iter().map(Self::as_bytes));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        input.runs(count, NAME_MAX, |name| Self::new(name).ok())
    }
}

impl Column for EntryKey {
    const MAX: usize = Ino::MAX + Name::MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|key| key.parent.0));
        put_runs(out, values.iter().map(|key| key.name.as_bytes()));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let parents = Ino::decode(input, count)?;
        let names = Name::decode(input, count)?;
        Some(parents.into_iter().zip(names).map(|(parent, name)| Self { parent, name }).collect())
    }
}

impl Column for Kind {
    const MAX: usize = 1;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        out.extend(values.iter().map(|kind| *kind as u8));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let kinds = input.bytes(count)?.iter().map(|kind| match kind {
            0 => Some(Self::File),
            1 => Some(Self::Directory),
            2 => Some(Self::Symlink),
            3 => Some(Self::Fifo),
            4 => Some(Self::Socket),
            5 => Some(Self::CharDevice),
            6 => Some(Self::BlockDevice),
            _ => None,
        });
        kinds.collect()
    }
}

/// Inodes and cookies are given out in the same order, whatever the order of the names: so a cookie is expected to be
/// as far from its inode as the one before.
impl Column for Entry {
    const MAX: usize = Ino::MAX + Kind::MAX + NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|entry| entry.ino.0));
        Kind::encode(&values.iter().map(|entry| entry.kind).collect::<Vec<_>>(), out);
        put_deltas(out, values.iter().map(|entry| entry.cookie.0.wrapping_sub(entry.ino.0)));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let inos = Ino::decode(input, count)?;
        let kinds = Kind::decode(input, count)?;
        let distances = input.deltas(count)?;
        let rows = inos.into_iter().zip(kinds).zip(distances);
        let entry = |((ino, kind), distance): ((Ino, Kind), u64)| Self {
            ino,
            kind,
            cookie: Cookie(ino.0.wrapping_add(distance)),
        };
        Some(rows.map(entry).collect())
    }
}

/// Content lies in the journal in the order in which it was written: an extent is expected to begin where the one
/// before it ends.
impl Column for Extent {
    const MAX: usize = 3 * NUMBER_MAX;

    fn encode(values: &[Self], out: &mut Vec<u8>) {
        put_deltas(out, values.iter().map(|extent| extent.place.segment.0));
        put_numbers(out, values.iter().map(|extent| extent.len));
        let ends = values.iter().map(|extent| extent.place.position.wrapping_add(extent.len));
        let expected = std::iter::once(0).chain(ends);
        put_pairs(out, expected.zip(values.iter().map(|extent| extent.place.position)));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let segments = SegmentId::decode(input, count)?;
        let lens = input.numbers(count)?;
        let mut expected = 0;
        let extents = segments.into_iter().zip(lens).map(|(segment, len)| {
            let position = input.delta(expected)?;
            expected = position.wrapping_add(len);
            Some(Self { place: Place { segment, position }, len })
        });
        extents.collect()
    }
}
