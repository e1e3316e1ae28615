//! File content that may be sparse and huge: what was never written takes no memory.

use std::collections::BTreeMap;
use std::fmt;

const PAGE: u64 = 4096;

/// The bytes of a file. Zeros and holes are the same thing: two contents are equal when they read the same.
///
/// ```
/// use rfs_testkit::Content;
/// let mut content = Content::default();
/// content.write(1 << 40, b"far");
/// assert_eq!(content.len(), (1 << 40) + 3);
/// assert_eq!(content.read((1 << 40) - 1, 3), b"\0fa");
/// ```
#[derive(Clone, Default)]
pub struct Content {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At most `len` bytes from `offset`; fewer at the end of the content.
    #[must_use]
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.len).max(offset);
        let mut bytes = vec![0; (end - offset) as usize];
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let start = (number * PAGE).max(offset);
            let stop = (number * PAGE).saturating_add(PAGE).min(end);
            let run = &page[(start - number * PAGE) as usize..(stop - number * PAGE) as usize];
            bytes[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(run);
        }
        bytes
    }

    /// Writes `bytes` at `offset`, lengthening the content where needed.
    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let within = (at % PAGE) as usize;
            let (run, rest) = bytes.split_at(bytes.len().min(PAGE as usize - within));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
            page[within..within + run.len()].copy_from_slice(run);
            at += run.len() as u64;
            bytes = rest;
        }
        if at > offset {
            self.len = self.len.max(at);
        }
    }

    /// Shortens the content, or lengthens it with zeros.
    pub fn set_len(&mut self, len: u64) {
        self.pages.split_off(&len.div_ceil(PAGE));
        if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
            page[(len % PAGE) as usize..].fill(0);
        }
        self.len = len;
    }

    /// Makes a range read as zeros; what of it is past the end does nothing.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len).max(offset);
        let numbers: Vec<u64> =
            self.pages.range(offset / PAGE..end.div_ceil(PAGE)).map(|(at, _)| *at).collect();
        for number in numbers {
            let start = (number * PAGE).max(offset) - number * PAGE;
            let stop =
                (number * PAGE).saturating_add(PAGE).min(end).max(number * PAGE + start) - number * PAGE;
            if let Some(page) = self.pages.get_mut(&number) {
                page[start as usize..stop as usize].fill(0);
            }
        }
    }

    /// Takes a range out; what is behind it moves forward.
    pub fn collapse(&mut self, offset: u64, len: u64) {
        let behind = self.runs_from(offset + len);
        let size = self.len - len;
        self.set_len(offset);
        self.set_len(size);
        for (at, bytes) in behind {
            self.write(at - len, &bytes);
        }
    }

    /// Puts zeros in; what was there moves back.
    pub fn insert(&mut self, offset: u64, len: u64) {
        let behind = self.runs_from(offset);
        let size = self.len + len;
        self.set_len(offset);
        self.set_len(size);
        for (at, bytes) in behind {
            self.write(at + len, &bytes);
        }
    }

    /// The first byte from `offset` on that is not zero.
    #[must_use]
    pub fn first_nonzero(&self, offset: u64) -> Option<u64> {
        self.pages.range(offset / PAGE..).find_map(|(number, page)| {
            let start = (number * PAGE).max(offset) - number * PAGE;
            let found = page[start as usize..].iter().position(|byte| *byte != 0)?;
            Some(number * PAGE + start + found as u64)
        })
    }

    /// What was written from `offset` on, page by page.
    fn runs_from(&self, offset: u64) -> Vec<(u64, Vec<u8>)> {
        let pages = self.pages.range(offset / PAGE..);
        pages
            .map(|(number, page)| {
                let start = (number * PAGE).max(offset);
                let end = (number * PAGE).saturating_add(PAGE).min(self.len).max(start);
                (start, page[(start - number * PAGE) as usize..(end - number * PAGE) as usize].to_vec())
            })
            .collect()
    }

    fn byte(&self, at: u64) -> u8 {
        self.pages.get(&(at / PAGE)).map_or(0, |page| page[(at % PAGE) as usize])
    }

    fn written(&self) -> impl Iterator<Item = (&u64, &Vec<u8>)> {
        self.pages.iter().filter(|(_, page)| page.iter().any(|byte| *byte != 0))
    }

    /// The first offset at which `self` and `other` read differently, both taken as followed by zeros.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let numbers: std::collections::BTreeSet<u64> =
            self.pages.keys().chain(other.pages.keys()).copied().collect();
        let mut offsets = numbers.into_iter().flat_map(|page| page * PAGE..=page * PAGE + (PAGE - 1));
        offsets.find(|at| self.byte(*at) != other.byte(*at))
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.written().eq(other.written())
    }
}

impl Eq for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.read(0, 16);
        write!(f, "{} bytes \"{}\"{}", self.len, start.escape_ascii(), if self.len > 16 { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::Content;

    #[test]
    fn ranges_move_as_those_of_a_vector() {
        let mut rng = crate::Rng::new(5);
        let (mut content, mut bytes) = (Content::default(), Vec::new());
        for _ in 0..400 {
            let size = bytes.len() as u64;
            let (offset, len) = (rng.below(size + 1), rng.below(9_000));
            let (at, run) = (offset as usize, len as usize);
            match rng.below(5) {
                0 if offset + len < size => {
                    content.collapse(offset, len);
                    bytes.drain(at..at + run);
                }
                1 if size < 60_000 => {
                    content.insert(offset, len);
                    bytes.splice(at..at, vec![0; run]);
                }
                2 => {
                    content.zero(offset, len);
                    let end = bytes.len().min(at + run);
                    bytes[at..end].fill(0);
                }
                3 => {
                    content.set_len(len);
                    bytes.resize(run, 0);
                }
                _ => {
                    content.write(offset, &vec![7; run]);
                    bytes.resize(bytes.len().max(at + run), 0);
                    bytes[at..at + run].fill(7);
                }
            }
            assert_eq!(content.len(), bytes.len() as u64);
            assert!(content.read(0, u64::MAX) == bytes, "{content:?}");
            let first = bytes.iter().skip(3_000).position(|byte| *byte != 0).map(|at| at as u64 + 3_000);
            assert_eq!(content.first_nonzero(3_000), first);
        }
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let mut content = Content::default();
        content.write(0, &[7; 10_000]);
        content.set_len(4_097);
        content.set_len(9_000);
        assert_eq!(content.read(4_090, 20), [[7; 7].as_slice(), &[0; 13]].concat());
        let mut same = Content::default();
        same.write(0, &[7; 4_097]);
        assert_ne!(content, same);
        same.set_len(9_000);
        assert_eq!(content, same);
        same.write(8_000, &[1]);
        assert_eq!(content.first_difference(&same), Some(8_000));
    }
}
