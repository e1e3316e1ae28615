use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use super::{Footprint, Map, Missing, NodeParts, NodeView, PageObject, PageRef, Root, Stored};

impl Footprint for u32 {}

type Model = BTreeMap<u32, u32>;
type Pages = HashMap<PageRef, NodeParts<u32, u32>>;

/// Numbers that depend on the seed alone (xorshift64*: Marsaglia 2003, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from((high * u64::from(bound)) >> 32).expect("it is below the bound")
    }
}

/// Asks until no page is missing, and tells how many were.
fn answer<T>(pages: &Pages, mut ask: impl FnMut() -> Result<T, Missing>) -> (T, usize) {
    let mut fetched = 0;
    loop {
        match ask() {
            Ok(answer) => return (answer, fetched),
            Err(missing) => {
                let parts = pages.get(&missing.page()).expect("only stored pages are asked for").clone();
                missing.fill(parts).expect("it is what was stored");
                fetched += 1;
            }
        }
    }
}

fn store(map: &Map<u32, u32>, pages: &mut Pages) -> (Root, Stored) {
    let mut stored = Stored::default();
    let root = map.store(&mut stored, &mut |view| -> Result<PageRef, ()> {
        let parts = match view {
            NodeView::Leaf { keys, values } => {
                NodeParts::Leaf { keys: keys.to_vec(), values: values.to_vec() }
            }
            NodeView::Branch { level, keys, children } => {
                NodeParts::Branch { level, keys: keys.to_vec(), children }
            }
        };
        let object = PageObject { epoch: 1, number: pages.len() as u64 };
        let page = PageRef { object, offset: 0, len: 1, hash: [0; 16] };
        pages.insert(page, parts);
        Ok(page)
    });
    (root.expect("putting does not fail"), stored)
}

/// All pages of a map.
fn reach(map: &Map<u32, u32>, pages: &Pages) -> HashSet<PageRef> {
    let mut found = HashSet::new();
    answer(pages, || {
        map.pages_but(&|_| false, &mut |page| {
            found.insert(page);
        })
    });
    found
}

fn all(map: &Map<u32, u32>) -> Result<Vec<(u32, u32)>, Missing> {
    map.iter().map(|pair| pair.map(|(key, value)| (*key, *value))).collect()
}

fn contents(model: &Model) -> Vec<(u32, u32)> {
    model.iter().map(|(key, value)| (*key, *value)).collect()
}

/// Changes a map and its model alike. Before each change what it needs is loaded, and nothing more is needed then.
fn change(map: &mut Map<u32, u32>, model: &mut Model, pages: &Pages, random: &mut Random, keys: u32) {
    let key = random.below(keys);
    answer(pages, || map.load(&key));
    match random.below(8) {
        0..4 => {
            let value = random.below(1000);
            assert_eq!(map.insert(key, value), Ok(model.insert(key, value)));
        }
        4..7 => assert_eq!(map.remove(&key), Ok(model.remove(&key))),
        _ => {
            if let Some(value) = map.get_mut(&key).expect("it is loaded") {
                *value += 1;
                *model.get_mut(&key).expect("the model has it too") += 1;
            }
        }
    }
}

fn check_reads(map: &Map<u32, u32>, model: &Model, pages: &Pages, random: &mut Random, keys: u32) {
    assert_eq!(map.len(), model.len() as u64);
    let (low, high) = (random.below(keys), random.below(keys));
    let (low, high) = (low.min(high), low.max(high));
    let got = answer(pages, || map.get(&low).map(Option::<&u32>::copied)).0;
    assert_eq!(got, model.get(&low).copied());
    let before = answer(pages, || map.at_or_before(&low).map(|pair| pair.map(|(k, v)| (*k, *v)))).0;
    assert_eq!(before, model.range(..=low).next_back().map(|(k, v)| (*k, *v)));
    let before = answer(pages, || map.before(&low).map(|pair| pair.map(|(k, v)| (*k, *v)))).0;
    assert_eq!(before, model.range(..low).next_back().map(|(k, v)| (*k, *v)));
    let bounds = [
        (Bound::Included(low), Bound::Excluded(high)),
        (Bound::Excluded(low), Bound::Included(high)),
        (Bound::Unbounded, Bound::Included(high)),
        (Bound::Included(low), Bound::Unbounded),
    ];
    for range in bounds {
        if low == high && matches!(range, (Bound::Excluded(_), Bound::Included(_))) {
            continue;
        }
        let ask = || map.range(range).map(|pair| pair.map(|(k, v)| (*k, *v))).collect::<Result<Vec<_>, _>>();
        let expected: Vec<_> = model.range(range).map(|(k, v)| (*k, *v)).collect();
        assert_eq!(answer(pages, ask).0, expected);
    }
}

#[test]
fn it_answers_as_a_plain_map_does() {
    for (seed, keys) in [(1, 10), (2, 100), (3, 1000), (4, 5000)] {
        let mut random = Random(seed);
        let (mut map, mut model, mut pages) = (Map::default(), Model::new(), Pages::new());
        let mut snapshots: Vec<(Map<u32, u32>, Model)> = Vec::new();
        for step in 0..6000 {
            change(&mut map, &mut model, &pages, &mut random, keys);
            match random.below(60) {
                0 => check_reads(&map, &model, &pages, &mut random, keys),
                1 => snapshots.push((map.clone(), model.clone())),
                2 => {
                    let (root, stored) = store(&map, &mut pages);
                    match random.below(3) {
                        // The pages never came to be.
                        0 => {}
                        1 => stored.mark(),
                        _ => {
                            stored.mark();
                            map = Map::open(root);
                        }
                    }
                }
                3 => {
                    map.evict();
                    map.age();
                }
                4 if !snapshots.is_empty() => {
                    let at = random.below(u32::try_from(snapshots.len()).expect("few")) as usize;
                    let (old, old_model) = snapshots.swap_remove(at);
                    assert_eq!(
                        answer(&pages, || all(&old)).0,
                        contents(&old_model),
                        "seed {seed} step {step}"
                    );
                    check_difference(&old, &old_model, &map, &model, &pages);
                }
                _ => {}
            }
        }
        assert_eq!(answer(&pages, || all(&map)).0, contents(&model));
    }
}

fn check_difference(old: &Map<u32, u32>, before: &Model, new: &Map<u32, u32>, after: &Model, pages: &Pages) {
    let ask = || {
        let found = new.since(old).map(|found| found.map(|d| (*d.key, d.old.copied(), d.new.copied())));
        found.collect::<Result<Vec<_>, _>>()
    };
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let expected = keys.into_iter().map(|key| (key, before.get(&key).copied(), after.get(&key).copied()));
    let expected: Vec<_> = expected.filter(|(_, old, new)| old != new).collect();
    assert_eq!(answer(pages, ask).0, expected);
}

fn filled(count: u32) -> Map<u32, u32> {
    Map::from_ascending((0..count).map(|key| (key, key)))
}

#[test]
fn what_ascends_fills_its_nodes() {
    let bulk = filled(1000);
    let mut one_by_one = Map::default();
    for key in 0..1000 {
        one_by_one.insert(key, key).expect("all is loaded");
    }
    assert_eq!(bulk, one_by_one);
    for map in [bulk, one_by_one] {
        let mut pages = Pages::new();
        store(&map, &mut pages);
        let leaves = pages.values().filter(|parts| matches!(parts, NodeParts::Leaf { .. })).count();
        assert_eq!(leaves, 1000_usize.div_ceil(super::LEAF_MAX));
    }
}

#[test]
fn pairs_that_do_not_ascend_are_passed_over() {
    let map = Map::from_ascending([(2, 0), (1, 1), (2, 2), (3, 3)]);
    assert_eq!(all(&map), Ok(vec![(2, 0), (3, 3)]));
    assert_eq!(Map::<u32, u32>::from_ascending([]), Map::default());
}

#[test]
fn a_change_stores_its_path_only() {
    let mut map = filled(1000);
    let mut pages = Pages::new();
    let (_, stored) = store(&map, &mut pages);
    stored.mark();
    let height = usize::from(map.height);
    assert!(height >= 3, "{height}");
    map.insert(500, 0).expect("all is loaded");
    let before = pages.len();
    let (_, stored) = store(&map, &mut pages);
    assert_eq!((pages.len() - before, stored.pages().count()), (height + 1, height + 1));
    // What was not marked is stored again.
    let before = pages.len();
    store(&map, &mut pages).1.mark();
    assert_eq!(pages.len() - before, height + 1);
    let before = pages.len();
    store(&map, &mut pages);
    assert_eq!(pages.len(), before);
}

#[test]
fn a_lookup_loads_one_path() {
    let mut pages = Pages::new();
    let (root, _) = store(&filled(1000), &mut pages);
    let map: Map<u32, u32> = Map::open(root);
    let path = usize::from(map.height) + 1;
    assert_eq!(answer(&pages, || map.get(&77).map(Option::<&u32>::copied)), (Some(77), path));
    assert_eq!(answer(&pages, || map.clone().get(&77).map(Option::<&u32>::copied)), (Some(77), 0));
    // A difference needs none of what is shared.
    let mut changed = map.clone();
    changed.insert(77, 0).expect("the path is loaded");
    let ask = || changed.since(&map).map(|d| d.map(|d| *d.key)).collect::<Result<Vec<_>, _>>();
    assert_eq!(answer(&pages, ask), (vec![77], 0));
}

/// Whatever pages a map is to be without, it holds the same; a clone keeps them, and the next image has none of them.
#[test]
fn unwanted_pages_are_stored_again() {
    let mut random = Random(4);
    let mut pages = Pages::new();
    let (mut map, mut model) = (filled(400), (0..400).map(|key| (key, key)).collect::<Model>());
    for round in 0..40 {
        for _ in 0..random.below(20) {
            change(&mut map, &mut model, &pages, &mut random, 500);
        }
        let (_, stored) = store(&map, &mut pages);
        stored.mark();
        let before = map.clone();
        map = Map::open(store(&map, &mut pages).0);
        let (low, many) = (u64::from(random.below(300)), u64::from(random.below(60)));
        let end = (low + many).min(pages.len() as u64);
        let unwanted = |page: &PageRef| (low..end).contains(&page.object.number);
        let there = reach(&map, &pages).iter().filter(|page| unwanted(page)).count() as u64;
        let mut forgotten = None;
        while forgotten.is_none() {
            match map.forget_pages(&unwanted) {
                Ok(bytes) => forgotten = Some(bytes),
                Err(missing) => {
                    for one in missing.all() {
                        one.fill(pages[&one.page()].clone()).expect("it is what was stored");
                    }
                }
            }
        }
        assert_eq!(forgotten, Some(there), "each has one byte");
        let (_, stored) = store(&map, &mut pages);
        assert!(!stored.kept().iter().any(unwanted), "round {round}");
        assert_eq!(map.forget_pages(&unwanted), Ok(0));
        assert_eq!(answer(&pages, || all(&map)).0, contents(&model));
        assert_eq!(answer(&pages, || all(&before)).0, contents(&model));
        stored.mark();
        assert!(!reach(&map, &pages).iter().any(unwanted));
    }
}

/// All pages of a range are told level by level: as many rounds as there are levels, and no page beside it.
#[test]
fn a_range_is_loaded_by_levels() {
    let mut pages = Pages::new();
    let full = filled(5000);
    let (root, _) = store(&full, &mut pages);
    let fill_all = |missing: &Missing| {
        for one in missing.all() {
            one.fill(pages[&one.page()].clone()).expect("it is what was stored");
        }
        missing.all().count()
    };
    let bounds = [
        (Bound::Included(100), Bound::Excluded(160)),
        (Bound::Excluded(4000), Bound::Included(4100)),
        (Bound::Unbounded, Bound::Excluded(50)),
        (Bound::Included(4990), Bound::Unbounded),
        (Bound::Included(7), Bound::Included(7)),
    ];
    for range in bounds {
        let map: Map<u32, u32> = Map::open(root);
        let (mut rounds, mut fetched) = (0, 0);
        while let Err(missing) = map.load_range(range) {
            rounds += 1;
            fetched += fill_all(&missing);
        }
        let read: Vec<(u32, u32)> = map
            .range(range)
            .map(|pair| pair.map(|(key, value)| (*key, *value)).expect("it is loaded"))
            .collect();
        let expected = full.range(range).map(|pair| pair.map(|(key, value)| (*key, *value)));
        assert_eq!(Ok(read.clone()), expected.collect());
        assert_eq!(rounds, usize::from(root.height) + 1);
        assert!(fetched <= read.len() / 4 + 2 * rounds, "{fetched} pages of {range:?}");
    }
    let map: Map<u32, u32> = Map::open(root);
    let mut rounds = 0;
    while let Err(missing) = map.load_each([9, 10, 999, 4000, 4001]) {
        assert!(fill_all(&missing) <= 3, "each page once");
        rounds += 1;
    }
    assert_eq!(rounds, usize::from(root.height) + 1);
    let map: Map<u32, u32> = Map::open(root);
    while let Err(missing) = map.load_range(..) {
        assert!(missing.all().count() <= 256, "what is told at a time is bounded");
        fill_all(&missing);
    }
    assert_eq!(all(&map).map(|all| all.len()), Ok(5000));
}

#[test]
fn what_is_not_loaded_cannot_be_changed() {
    let mut pages = Pages::new();
    let (root, _) = store(&filled(100), &mut pages);
    let mut map: Map<u32, u32> = Map::open(root);
    assert!(map.insert(1, 0).is_err() && map.remove(&1).is_err() && map.get_mut(&1).is_err());
    assert!(map.remove_range(..).is_err());
    assert_eq!(answer(&pages, || all(&map)).0, (0..100).map(|key| (key, key)).collect::<Vec<_>>());
    assert_eq!(map.remove_range(10..), Ok(90));
    assert_eq!(all(&map).map(|pairs| pairs.len()), Ok(10));
    assert_eq!((map.remove_range(..), map.height, map.is_empty()), (Ok(10), 0, true));
}

#[test]
fn what_nobody_needed_is_let_go_of() {
    let mut pages = Pages::new();
    let mut map = filled(1000);
    assert_eq!(map.held().clean, 0);
    store(&map, &mut pages).1.mark();
    let all_bytes = map.held().clean;
    assert!(all_bytes > 8000 && map.held().dirty == 0);
    // Everything was needed once, to be made.
    assert_eq!(map.evict(), 0);
    map.age();
    map.get(&500).expect("it is loaded");
    assert!(map.evict() > all_bytes / 2);
    assert!(map.get(&500).is_ok(), "what was needed stays");
    assert!(map.get(&0).is_err());
    map.insert(501, 0).expect("it is loaded");
    map.age();
    map.evict();
    assert_eq!(map.held().clean, 0);
    assert!(map.held().dirty > 0 && map.get(&501) == Ok(Some(&0)), "what is dirty stays");
    assert_eq!(answer(&pages, || all(&map)).0.len(), 1000);
}

/// Others see what one loads, but keep what one lets go of.
#[test]
fn a_snapshot_keeps_what_it_holds() {
    let mut pages = Pages::new();
    let mut map = filled(1000);
    store(&map, &mut pages).1.mark();
    let snapshot = map.clone();
    map.age();
    map.evict();
    assert_eq!(map.held().clean, 0);
    assert!(all(&snapshot).is_ok() && map.get(&1).is_err());
    let ask = || snapshot.since(&map).map(|d| d.map(|d| *d.key)).collect::<Result<Vec<_>, _>>();
    assert_eq!(ask(), Ok(Vec::new()));
}

/// The pages of an old map are those that a new one kept, those that only kept ones lead to, and those it gave up.
#[test]
fn pages_that_are_given_up_are_found() {
    let mut random = Random(9);
    let mut pages = Pages::new();
    let (mut map, mut model) = (filled(500), (0..500).map(|key| (key, key)).collect::<Model>());
    store(&map, &mut pages).1.mark();
    for _ in 0..50 {
        let old = map.clone();
        for _ in 0..random.below(30) {
            change(&mut map, &mut model, &pages, &mut random, 600);
        }
        let (_, stored) = store(&map, &mut pages);
        stored.mark();
        let kept: HashSet<PageRef> = stored.kept().iter().copied().collect();
        let mut given_up = HashSet::new();
        let kept = |page: &PageRef| kept.contains(page);
        answer(&pages, || {
            old.pages_but(&kept, &mut |page| {
                given_up.insert(page);
            })
        });
        let (before, after) = (reach(&old, &pages), reach(&map, &pages));
        assert_eq!(given_up, before.difference(&after).copied().collect());
    }
}

#[test]
fn a_page_that_is_no_node_is_refused() {
    let mut pages = Pages::new();
    let (root, _) = store(&filled(100), &mut pages);
    let page = root.page.expect("it is not empty");
    let map: Map<u32, u32> = Map::open(root);
    let missing = map.get(&0).expect_err("nothing is loaded");
    assert!(missing.is_of::<u32, u32>() && !missing.is_of::<u32, u64>());
    let leaf = |keys: Vec<u32>, values: Vec<u32>| NodeParts::Leaf { keys, values };
    let branch = |level, keys: Vec<u32>, count| NodeParts::<u32, u32>::Branch {
        level,
        keys,
        children: vec![page; count],
    };
    for parts in [
        leaf(vec![1], vec![]),
        leaf(vec![2, 1], vec![0, 0]),
        leaf(vec![1, 1], vec![0, 0]),
        leaf((0..7).collect(), vec![0; 7]),
        branch(1, vec![], 0),
        branch(1, vec![1], 1),
        branch(0, vec![], 1),
        branch(1, vec![2, 1], 3),
        branch(1, (1..6).collect(), 6),
    ] {
        assert!(missing.fill(parts.clone()).is_err(), "{parts:?}");
    }
    // Alone it would be a node; the root says that it is of another level.
    for parts in [leaf(vec![1], vec![0]), branch(root.height - 1, vec![1], 2), branch(u8::MAX, vec![1], 2)] {
        assert!(missing.fill(parts.clone()).is_err(), "{parts:?}");
    }
    assert!(missing.fill(NodeParts::Leaf { keys: vec![1_u64], values: vec![0_u64] }).is_err());
    assert!(map.get(&0).is_err());
    assert_eq!(answer(&pages, || map.get(&0).map(Option::<&u32>::copied)).0, Some(0));
}

type Ask<'a> = &'a dyn Fn(&Map<u32, u32>) -> Result<(), Missing>;

/// However one comes to a page: keys that the branches above do not lead to are not taken for its own.
#[test]
fn a_page_with_keys_of_another_is_refused() {
    let mut pages = Pages::new();
    let (root, _) = store(&filled(100), &mut pages);
    assert_eq!(root.height, 2);
    let leaf_of = |key: u32| {
        let leaf =
            pages.values().find(|parts| matches!(parts, NodeParts::Leaf { keys, .. } if keys.contains(&key)));
        leaf.expect("there is one for each key").clone()
    };
    let empty = Map::default();
    let asks: [Ask<'_>; 9] = [
        &|map| map.get(&50).map(drop),
        &|map| map.find(&50).map(drop),
        &|map| map.at_or_before(&50).map(drop),
        &|map| map.before(&50).map(drop),
        &|map| map.range(50..).next().transpose().map(drop),
        &|map| all(map).map(drop),
        &|map| map.since(&empty).try_for_each(|found| found.map(drop)),
        &|map| empty.since(map).try_for_each(|found| found.map(drop)),
        &|map| {
            let mut found = Vec::new();
            map.missing(1, &mut found);
            found.pop().map_or(Ok(()), Err)
        },
    ];
    for ask in asks {
        let map: Map<u32, u32> = Map::open(root);
        let mut refused = 0;
        while let Err(missing) = ask(&map) {
            let right = &pages[&missing.page()];
            match right {
                NodeParts::Leaf { keys, .. } => {
                    let (first, last) = (keys[0], keys[keys.len() - 1]);
                    let neighbours = [first.checked_sub(1), (last < 99).then_some(last + 1)];
                    for neighbour in neighbours.into_iter().flatten() {
                        assert!(missing.fill(leaf_of(neighbour)).is_err(), "{neighbour} in {right:?}");
                        refused += 1;
                    }
                }
                NodeParts::Branch { level: 1, keys, children } => {
                    let children = vec![children[0]; 2];
                    for key in [0, 100] {
                        let branch =
                            NodeParts::Branch { level: 1, keys: vec![key], children: children.clone() };
                        let outside = key == 0 && keys[0] > 30 || key == 100 && keys[0] < 60;
                        assert!(!outside || missing.fill::<u32, u32>(branch).is_err(), "{key} in {keys:?}");
                    }
                }
                NodeParts::Branch { .. } => {}
            }
            missing.fill(right.clone()).expect("it is what was stored");
        }
        assert!(refused > 0);
    }
}

#[test]
fn roots_that_cannot_be_are_told() {
    let page = Some(PageRef { object: PageObject { epoch: 1, number: 0 }, offset: 0, len: 1, hash: [0; 16] });
    assert!(Root { page: None, height: 0, len: 0 }.is_sound());
    assert!(Root { page, height: 0, len: 6 }.is_sound() && Root { page, height: 1, len: 30 }.is_sound());
    for (page, height, len) in
        [(None, 0, 1), (None, 1, 0), (page, 0, 0), (page, 0, 7), (page, 1, 31), (page, u8::MAX, u64::MAX)]
    {
        assert!(!Root { page, height, len }.is_sound(), "{height} {len}");
    }
}
