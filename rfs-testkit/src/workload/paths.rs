//! Paths in all forms: what is there, what could be, and what cannot.

use rfs_core::{Kind, NAME_MAX, PATH_MAX};

use super::Workload;
use crate::{LinkTarget, Path, Slot};

impl Workload {
    pub(super) fn any_path(&mut self) -> Path {
        // The first is the root, of which most operations only say that it is the root.
        let path = match self.paths.len() {
            2.. if self.rng.chance(95) => self.rng.pick(&self.paths[1..]).0.clone(),
            _ => self.paths[0].0.clone(),
        };
        self.disguise(path)
    }

    /// The first file there is: what many operations are about, so that they meet.
    pub(super) fn busy_file(&mut self) -> Path {
        match self.paths.iter().find(|(_, kind)| *kind == Kind::File) {
            Some((path, _)) => Path::new(path.clone()),
            None => self.any_path(),
        }
    }

    /// A path to something of this kind, if there is one.
    pub(super) fn path_to(&mut self, kind: Kind) -> Path {
        if self.rng.chance(6) {
            return self.any_path();
        }
        let fitting: Vec<usize> =
            (0..self.paths.len()).filter(|index| self.paths[*index].1 == kind).collect();
        if fitting.is_empty() {
            return self.any_path();
        }
        let path = self.paths[*self.rng.pick(&fitting)].0.clone();
        self.disguise(path)
    }

    /// A path for something new; at times it is taken.
    pub(super) fn new_path(&mut self) -> Path {
        let directory = self.directory_path();
        let name = self.name();
        self.disguise([directory.as_slice(), b"/", &name].concat())
    }

    pub(super) fn directory_path(&mut self) -> Vec<u8> {
        let shallow = |path: &[u8]| path.split(|byte| *byte == b'/').count() < 5;
        let fitting: Vec<usize> = (0..self.paths.len())
            .filter(|index| matches!(self.paths[*index].1, Kind::Directory | Kind::Symlink))
            .filter(|index| shallow(&self.paths[*index].0))
            .collect();
        self.paths[*self.rng.pick(&fitting)].0.clone()
    }

    pub(super) fn name(&mut self) -> Vec<u8> {
        match self.rng.below(60) {
            0 => vec![b'n'; NAME_MAX],
            1 => b"\xff\xfe \n".to_vec(),
            2 => b"...".to_vec(),
            3 if self.profile.odd_paths => vec![b'n'; NAME_MAX + 1],
            4 if self.profile.odd_paths => b".".to_vec(),
            5 if self.profile.odd_paths => b"..".to_vec(),
            number => vec![b'a' + (number % 12) as u8],
        }
    }

    /// The same path in another form, or one that is not the same any more.
    pub(super) fn disguise(&mut self, path: Vec<u8>) -> Path {
        let directories: Vec<Slot> = self
            .handles
            .iter()
            .filter(|(_, kind, _)| *kind == Kind::Directory)
            .map(|(slot, ..)| *slot)
            .collect();
        if self.profile.relative && !directories.is_empty() && self.rng.chance(25) {
            return self.relative(&path, *self.rng.clone().pick(&directories));
        }
        if !self.profile.odd_paths || self.rng.chance(70) {
            return Path::new(path);
        }
        let cut = self.slash_in(&path);
        let (head, tail) = path.split_at(cut);
        let bytes = match self.rng.below(22) {
            0..4 => [&path, b"/".as_slice()].concat(),
            4 => [&path, b"//".as_slice()].concat(),
            5..7 => [head, b"/", tail].concat(),
            7..9 => [head, b"/.", tail].concat(),
            9 => [b"/../..", path.as_slice()].concat(),
            10 => [&path, b"/.".as_slice()].concat(),
            11 => [&path, b"/..".as_slice()].concat(),
            12..14 => [head, b"/../", head.rsplit(|byte| *byte == b'/').next().unwrap_or(b""), tail].concat(),
            14 => path[1..].to_vec(),
            15 => [&path, b"/x".as_slice()].concat(),
            16 => [head, b"/missing/..", tail].concat(),
            17 => Vec::new(),
            18 => padded(&path, PATH_MAX - 1),
            19 => padded(&path, PATH_MAX + self.rng.index(3)),
            20 => b"/".to_vec(),
            _ => [head, b"/", &[b'n'; NAME_MAX + 1], tail].concat(),
        };
        Path::new(bytes)
    }

    /// A path from a directory's handle: a name in it, or one that climbs out of it and down again.
    pub(super) fn relative(&mut self, path: &[u8], slot: Slot) -> Path {
        // Where `..` of a directory leads that was removed with its parent is a matter of rules.
        let climbs = if self.guide.holds_removed(slot) { 3 } else { 0 };
        let bytes = match self.rng.below(10 - climbs) + climbs {
            0 => b".".to_vec(),
            1 => b"..".to_vec(),
            2 => [b"..", path].concat(),
            3 => path.to_vec(),
            _ => self.name(),
        };
        let base = if self.rng.chance(3) { self.rng.pick(&self.handles).0 } else { slot };
        Path { base: Some(base), bytes }
    }

    /// The position of a `/` in the path.
    pub(super) fn slash_in(&mut self, path: &[u8]) -> usize {
        let slashes: Vec<usize> = (0..path.len()).filter(|at| path[*at] == b'/').collect();
        *self.rng.pick(&slashes)
    }

    pub(super) fn link_target(&mut self) -> LinkTarget {
        LinkTarget(self.link_target_bytes())
    }

    pub(super) fn link_target_bytes(&mut self) -> Vec<u8> {
        let path = self.rng.pick(&self.paths).0.clone();
        match self.rng.below(24) {
            0..9 => path,
            9..12 => [b"..", path.as_slice()].concat(),
            12..16 => self.name(),
            16 => [&path, b"/".as_slice()].concat(),
            17 => b".".to_vec(),
            18 => b"..".to_vec(),
            19 => b"/dangling".to_vec(),
            20 => b"dangling/".to_vec(),
            21 if self.profile.odd_paths => Vec::new(),
            22 if self.profile.odd_paths => padded(&path, PATH_MAX - 1 + self.rng.index(2)),
            _ => [self.name(), b"/".to_vec(), self.name()].concat(),
        }
    }
}

/// The path with so many `./` put into it that it has `len` bytes.
fn padded(path: &[u8], len: usize) -> Vec<u8> {
    let missing = len.saturating_sub(path.len() + 1);
    let mut padded = b"/".to_vec();
    padded.extend(b"./".iter().cycle().take(missing & !1));
    padded.extend(std::iter::repeat_n(b'/', missing & 1));
    padded.extend_from_slice(path);
    padded
}
