//! A tree in pages answers as one in memory does, whatever of it is loaded.

use std::collections::HashMap;

use super::TreeNode;
use crate::random::any_op;
use crate::support::{Fs, Random};
use crate::{
    ApplyError, Fault, Key, Missing, NodeParts, NodeView, PageObject, PageRef, StateHash, Stored, StoredTree,
    Tree, Value, decide,
};

/// What was stored: for each page, how to put it in place.
#[derive(Default)]
struct Pages(HashMap<PageRef, Fill>);

type Fill = Box<dyn Fn(&Missing)>;

impl Pages {
    fn put<K: Key, V: Value>(&mut self, view: NodeView<'_, K, V>) -> PageRef {
        let object = PageObject { epoch: 1, number: self.0.len() as u64 };
        let page = PageRef { object, offset: 0, len: 1, hash: [0; 16] };
        let parts = match view {
            NodeView::Leaf { keys, values } => {
                NodeParts::Leaf { keys: keys.to_vec(), values: values.to_vec() }
            }
            NodeView::Branch { level, keys, children } => {
                NodeParts::Branch { level, keys: keys.to_vec(), children }
            }
        };
        let fill = move |missing: &Missing| missing.fill(parts.clone()).expect("it is what was stored");
        self.0.insert(page, Box::new(fill));
        page
    }

    fn store(&mut self, tree: &Tree) -> StoredTree {
        let mut stored = Stored::default();
        let tree = tree.store(&mut stored, |node| {
            Ok::<_, ()>(match node {
                TreeNode::Inodes(node) => self.put(node),
                TreeNode::Entries(node) => self.put(node),
                TreeNode::Listing(node) => self.put(node),
                TreeNode::Links(node) => self.put(node),
                TreeNode::Extents(node) => self.put(node),
                TreeNode::Xattrs(node) => self.put(node),
                TreeNode::Segments(node) => self.put(node),
            })
        });
        stored.mark();
        tree.expect("putting does not fail")
    }

    fn fill(&self, missing: &Missing) {
        self.0[&missing.page()](missing);
    }

    fn ask<T>(&self, ask: impl Fn() -> Result<T, Missing>) -> T {
        loop {
            match ask() {
                Ok(answer) => return answer,
                Err(missing) => self.fill(&missing),
            }
        }
    }
}

#[test]
fn every_op_asks_for_its_pages_before_it_changes_anything() {
    let (mut missed, mut missed_late, mut done) = (0, 0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        let mut pages = Pages::default();
        let mut paged = fs.tree.clone();
        let mut hash = StateHash::of(&paged).expect("it is loaded");
        for number in 0..300 {
            let at = format!("seed {seed}, Op {number}");
            match random.below(4) {
                0 => paged = Tree::open(pages.store(&paged)).expect("it is what was stored"),
                1 => {
                    pages.store(&paged);
                    paged.age();
                    paged.evict();
                }
                _ => {}
            }
            let op = any_op(&mut random, &fs);
            let expected = fs.decide(&op);
            let decision = loop {
                match fs.in_context(|context| decide(&paged, context, &op)) {
                    Ok(decision) => break Ok(decision),
                    Err(Fault::Errno(errno)) => break Err(errno),
                    Err(Fault::Missing(missing)) => pages.fill(&missing),
                }
                missed += 1;
            };
            assert_eq!(decision, expected, "{at}");
            let Ok(decision) = decision else { continue };
            let before = paged.clone();
            for change in &decision.changes {
                loop {
                    let untouched = paged.clone();
                    let applied = paged.apply(change, fs.place);
                    let Err(missing) = applied.as_ref().map_err(ApplyError::missing) else {
                        break;
                    };
                    assert_eq!(untouched, paged, "{at}: {change:?}");
                    pages.fill(missing.unwrap_or_else(|| panic!("{at}: {applied:?}")));
                    missed_late += 1;
                }
                fs.tree.apply(change, fs.place).expect("what was decided fits");
                fs.place.position += change.payload_len();
                done += 1;
            }
            hash = pages.ask(|| hash.update(&before, &paged));
        }
        while let Err(missing) = paged.whole() {
            pages.fill(&missing);
        }
        assert_eq!(paged, fs.tree, "seed {seed}");
        assert_eq!(paged.check(), Ok(()), "seed {seed}");
        assert_eq!(Ok(hash), StateHash::of(&fs.tree), "seed {seed}");
    }
    assert!(missed > 1000 && missed_late > 1000 && done > 1000, "{missed} {missed_late} {done}");
}

#[test]
fn what_is_stored_damaged_is_refused() {
    let stored = Pages::default().store(&Fs::new().tree);
    assert!(Tree::open(stored.clone()).is_ok());
    let mut twice = stored.clone();
    twice.users.push(twice.users[0]);
    assert!(Tree::open(twice).is_err());
    let mut outside = stored;
    outside.items.push(crate::Item::NextIno(crate::Ino(5)));
    assert!(Tree::open(outside).is_err());
}
