//! What differs makes the one tree of the other, costs what differs, and is told by inodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{InodeDifference, TreeDiff, differing};
use crate::random::any_op;
use crate::support::{Fs, Random, items};
use crate::{Extent, Ino, Item, Name, Place, SegmentId, Tree};

fn all(old: &Tree, new: &Tree) -> Vec<InodeDifference> {
    let mut diff = TreeDiff::default();
    std::iter::from_fn(|| diff.next(old, new).expect("they are loaded")).collect()
}

/// Every name with its inode, and of every byte its place.
#[derive(Debug, Default, PartialEq)]
struct Flat {
    names: BTreeSet<(Ino, Name, Ino)>,
    places: BTreeMap<(Ino, u64), (SegmentId, u64)>,
    inodes: BTreeMap<Ino, crate::Inode>,
    xattrs: BTreeMap<(Ino, crate::XattrName), crate::XattrValue>,
}

fn flat(tree: &Tree) -> Flat {
    let mut flat = Flat::default();
    for item in items(tree) {
        match item {
            Item::Entry(key, entry) => {
                flat.names.insert((key.parent, key.name, entry.ino));
            }
            Item::Inode(ino, inode) => {
                flat.inodes.insert(ino, inode);
            }
            Item::Xattr { ino, name, value } => {
                flat.xattrs.insert((ino, name), value);
            }
            Item::Extent { ino, offset, extent } => {
                for byte in 0..extent.len {
                    let place = (extent.place.segment, extent.place.position + byte);
                    flat.places.insert((ino, offset + byte), place);
                }
            }
            _ => {}
        }
    }
    flat
}

/// Does what the differences say.
fn patch(mut flat: Flat, differences: &[InodeDifference], new: &Flat) -> Flat {
    for difference in differences {
        let ino = difference.ino;
        for (parent, name) in &difference.lost {
            assert!(flat.names.remove(&(*parent, name.clone(), ino)), "{difference:?}");
        }
        match &difference.new {
            Some(inode) => flat.inodes.insert(ino, inode.clone()),
            None => flat.inodes.remove(&ino),
        };
        for name in &difference.xattrs {
            let key = (ino, name.clone());
            match new.xattrs.get(&key) {
                Some(value) => flat.xattrs.insert(key, value.clone()),
                None => flat.xattrs.remove(&key),
            };
        }
        for range in &difference.content {
            for byte in range.clone() {
                let (was, is) = (flat.places.remove(&(ino, byte)), new.places.get(&(ino, byte)));
                assert_ne!(was.as_ref(), is, "{difference:?}");
                flat.places.extend(is.map(|place| ((ino, byte), *place)));
            }
        }
    }
    for difference in differences {
        for (parent, name) in &difference.gained {
            assert!(flat.names.insert((*parent, name.clone(), difference.ino)), "{difference:?}");
        }
    }
    flat
}

#[test]
fn differences_make_the_one_of_the_other() {
    let mut found = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        let mut states = vec![fs.tree.clone()];
        for number in 0..300 {
            let op = any_op(&mut random, &fs);
            if let Ok(decision) = fs.decide(&op) {
                for change in &decision.changes {
                    fs.tree.apply(change, fs.place).expect("what was decided fits");
                    fs.place.position += change.payload_len();
                }
            }
            if number % 60 == 59 {
                states.push(fs.tree.clone());
            }
            // As after going back: numbers are given out once more.
            if number == 150 {
                fs.tree = states[1].clone();
            }
        }
        for old in &states {
            for new in &states {
                let differences = all(old, new);
                found += differences.len();
                let new = flat(new);
                assert_eq!(patch(flat(old), &differences, &new), new, "seed {seed}");
            }
        }
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn runs_are_compared_byte_by_byte() {
    let mut random = Random(7);
    for _ in 0..2000 {
        let mut list = || {
            let (mut runs, mut at) = (Vec::new(), 0);
            for _ in 0..random.below(5) {
                at += random.below(4);
                let len = 1 + random.below(6);
                // Often the place that follows from the offset, so that parts are alike.
                let position = if random.one_in(3) { random.below(30) } else { at };
                let place = Place { segment: SegmentId(0), position };
                runs.push((at, Extent { place, len }));
                at += len;
            }
            runs
        };
        let (old, new) = (list(), list());
        let at = |runs: &[(u64, Extent)], byte: u64| {
            let run = runs.iter().find(|(offset, extent)| (*offset..offset + extent.len).contains(&byte));
            run.map(|(offset, extent)| extent.place.position + (byte - offset))
        };
        let ranges: Vec<Range<u64>> = differing(&old, &new);
        assert!(ranges.windows(2).all(|two| two[0].end < two[1].start), "{ranges:?}");
        for byte in 0..60 {
            let told = ranges.iter().any(|range| range.contains(&byte));
            assert_eq!(told, at(&old, byte) != at(&new, byte), "{old:?} {new:?} {byte}");
        }
    }
}
