use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rfs_journal::RealDisk;
use rfs_testkit::{CrashPlan, CrashSide, Rng, SimDisk};

use super::*;

/// Sixteen files of 4 KiB.
const DISK: u64 = 64 << 10;

fn cache_on(disk: &SimDisk, memory: u64) -> LocalCache {
    LocalCache::open(Some(Arc::new(disk.clone())), memory, DISK)
}

fn healthy() -> SimDisk {
    SimDisk::new(CrashPlan::never())
}

fn key(object: u8) -> String {
    format!("segments/{object}")
}

/// What an object has from `start` on.
fn content(object: u8, start: u64, len: u64) -> Vec<u8> {
    (start..start + len).map(|at| (at * 7) as u8 ^ object).collect()
}

fn put(cache: &LocalCache, object: u8, start: u64, len: u64) {
    cache.put(&key(object), start, &content(object, start, len));
}

/// Whether the piece is there; it must be right then.
fn has(cache: &LocalCache, object: u8, start: u64, len: u64) -> bool {
    let got = cache.get(&key(object), start, len);
    if let Some(bytes) = &got {
        assert_eq!(*bytes, content(object, start, len));
    }
    got.is_some()
}

fn bytes_on(disk: &SimDisk) -> u64 {
    let files = disk.names().into_iter().filter(|name| name.starts_with("cache-"));
    files.map(|name| disk.content(&name).unwrap().len() as u64).sum()
}

#[test]
fn what_is_put_is_found_by_its_key_and_range_alone() {
    for (memory, disk) in [(1 << 20, None), (0, Some(healthy())), (1 << 20, Some(healthy()))] {
        let disk = disk.map(|disk| Arc::new(disk) as Arc<dyn Disk>);
        let cache = LocalCache::open(disk, memory, DISK);
        put(&cache, 1, 100, 50);
        assert!(has(&cache, 1, 100, 50));
        for (object, start, len) in [(2, 100, 50), (1, 101, 50), (1, 100, 49), (1, 100, 51), (1, 100, 0)] {
            assert!(!has(&cache, object, start, len));
        }
        let stats = cache.stats();
        assert_eq!((stats.memory_hits + stats.disk_hits, stats.misses), (1, 5));
        cache.put("empty", 0, b"");
        assert_eq!(cache.get("empty", 0, 0), None);
        assert_eq!(cache.get("endless", u64::MAX, u64::MAX), None);
    }
}

#[test]
fn a_piece_from_the_disk_is_in_memory_then() {
    let disk = healthy();
    put(&cache_on(&disk, 0), 1, 0, 50);
    let cache = cache_on(&disk, 1 << 20);
    assert_eq!(cache.get_in_memory(&key(1), 0, 50), None);
    assert!(has(&cache, 1, 0, 50));
    assert!(cache.get_in_memory(&key(1), 0, 50).is_some());
    let stats = cache.stats();
    assert_eq!((stats.disk_hits, stats.memory_hits, stats.misses), (1, 1, 0));
}

#[test]
fn memory_lets_go_what_was_used_longest_ago() {
    let cache = LocalCache::open(None, 3 * 300, 0);
    for start in 0..3 {
        put(&cache, 1, start, 100);
    }
    assert!(has(&cache, 1, 0, 100));
    put(&cache, 1, 3, 100);
    let held: Vec<bool> = (0..4).map(|start| has(&cache, 1, start, 100)).collect();
    assert_eq!(held, [true, false, true, true]);
    put(&cache, 1, 4, 1000);
    assert!(!has(&cache, 1, 4, 1000) && has(&cache, 1, 3, 100));
    assert!(cache.stats().memory_bytes <= 900);
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let disk = healthy();
    let cache = cache_on(&disk, 0);
    put(&cache, 1, 0, 300);
    for start in 0..2000 {
        put(&cache, 2, start, 300);
        assert!(has(&cache, 1, 0, 300), "after {start} others");
        assert!(bytes_on(&disk) <= DISK && cache.stats().disk_bytes >= bytes_on(&disk));
    }
    assert!(!has(&cache, 2, 0, 300) && has(&cache, 2, 1999, 300));
    let held = (0..2000).filter(|start| has(&cache, 2, *start, 300)).count();
    assert!(held as u64 * 300 > DISK / 2, "{held}");
}

#[test]
fn what_is_on_the_disk_survives_a_restart() {
    for flushed in [false, true] {
        let disk = healthy();
        let cache = cache_on(&disk, 0);
        for start in 0..100 {
            put(&cache, 1, start, 300);
        }
        if flushed {
            cache.flush();
        }
        drop(cache);
        let before = disk.counts().reads;
        let cache = cache_on(&disk, 0);
        // Two for a table; else one for each entry of the last file.
        let (reads, files) = (disk.counts().reads - before, disk.names().len() as u64);
        assert_eq!(reads == 2 * files, flushed, "{reads} reads");
        assert!((0..100).all(|start| has(&cache, 1, start, 300)));
        // It goes on where the other stopped, and so does the next one.
        put(&cache, 1, 100, 300);
        let cache = cache_on(&disk, 0);
        assert!((0..=100).all(|start| has(&cache, 1, start, 300)));
    }
}

#[test]
fn many_short_runs_do_not_leave_many_files() {
    let disk = healthy();
    for start in 0..300 {
        let cache = cache_on(&disk, 0);
        put(&cache, 1, start, 10);
        if start % 2 == 0 {
            cache.flush();
        }
    }
    assert!(disk.names().len() <= 12, "{:?}", disk.names());
    assert!((0..300).all(|start| has(&cache_on(&disk, 0), 1, start, 10)));
    // Nor do those that end in the middle of a write.
    for start in 300..600 {
        put(&cache_on(&disk, 0), 1, start, 10);
        let last = disk.names().pop().unwrap();
        disk.truncate(&last, disk.content(&last).unwrap().len() - 1);
    }
    assert!(disk.names().len() <= 65, "{}", disk.names().len());
}

#[test]
fn a_smaller_budget_holds_from_the_start() {
    let disk = healthy();
    let cache = LocalCache::open(Some(Arc::new(disk.clone())), 0, 2 * DISK);
    for start in 0..1000 {
        put(&cache, 1, start, 300);
    }
    assert!(bytes_on(&disk) > DISK);
    disk.set_content("log-00000001", b"not the cache's");
    disk.set_content("cache-1", b"neither");
    let cache = cache_on(&disk, 0);
    let bytes = bytes_on(&disk) - 7;
    assert!(bytes <= DISK && has(&cache, 1, 999, 300), "{bytes}");
    drop(cache);
    let nothing = LocalCache::open(Some(Arc::new(disk.clone())), 0, 0);
    put(&nothing, 1, 0, 10);
    assert_eq!(disk.names(), ["cache-1", "log-00000001"]);
}

#[test]
fn what_is_forgotten_stays_so_after_a_restart() {
    for flushed in [false, true] {
        let disk = healthy();
        let cache = cache_on(&disk, 1 << 20);
        for object in 1..=2 {
            (0..30).for_each(|start| put(&cache, object, start, 300));
        }
        cache.forget(&key(1));
        put(&cache, 1, 3, 300);
        if flushed {
            cache.flush();
        }
        for cache in [cache, cache_on(&disk, 0)] {
            let held: Vec<u64> = (0..30).filter(|start| has(&cache, 1, *start, 300)).collect();
            assert_eq!(held, [3]);
            assert!((0..30).all(|start| has(&cache, 2, start, 300)));
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_a_miss_or_harmless() {
    let disk = healthy();
    let cache = cache_on(&disk, 0);
    put(&cache, 1, 0, 20);
    put(&cache, 2, 0, 20);
    cache.flush();
    let whole = disk.content("cache-00000000").unwrap();
    let look = |bytes: &[u8]| {
        let disk = healthy();
        disk.set_content("cache-00000000", bytes);
        let cache = cache_on(&disk, 0);
        let held = usize::from(has(&cache, 1, 0, 20)) + usize::from(has(&cache, 2, 0, 20));
        put(&cache, 3, 0, 20);
        assert!(has(&cache, 3, 0, 20));
        held
    };
    let mut held = 0;
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        held += look(&flipped);
    }
    for len in 0..whole.len() {
        look(&whole[..len]);
    }
    assert!(held > whole.len() * 8, "most bits are of one piece alone");
}

#[test]
fn damage_is_seen_while_the_cache_is_open() {
    let disk = healthy();
    let cache = cache_on(&disk, 0);
    put(&cache, 1, 0, 300);
    disk.flip_bit("cache-00000000", 8 * 100);
    assert!(!has(&cache, 1, 0, 300));
    put(&cache, 1, 0, 300);
    assert!(has(&cache, 1, 0, 300));
}

#[test]
fn a_full_disk_costs_the_pieces_that_do_not_fit() {
    let disk = healthy();
    let cache = cache_on(&disk, 1 << 20);
    for start in 0..50 {
        put(&cache, 1, start, 300);
    }
    disk.set_capacity(Some(bytes_on(&disk) + 1000));
    for start in 50..100 {
        put(&cache, 1, start, 300);
    }
    // Memory has them.
    assert!((0..100).all(|start| has(&cache, 1, start, 300)));
    let later = cache_on(&disk, 0);
    let held = (0..100).filter(|start| has(&later, 1, *start, 300)).count();
    assert!((50..54).contains(&held), "{held}");
    disk.set_capacity(None);
    put(&later, 1, 99, 300);
    assert!(has(&cache_on(&disk, 0), 1, 99, 300));
}

#[test]
fn an_error_costs_one_piece() {
    let disk = healthy();
    let cache = cache_on(&disk, 0);
    disk.fail_write(3);
    for start in 0..10 {
        put(&cache, 1, start, 300);
    }
    for cache in [&cache, &cache_on(&disk, 0)] {
        let lost: Vec<u64> = (0..10).filter(|start| !has(cache, 1, *start, 300)).collect();
        assert_eq!(lost, [3]);
    }
}

/// A disk on which nothing can be removed.
#[derive(Debug)]
struct Sticky(SimDisk);

impl Disk for Sticky {
    fn open(&self, name: &str, create: bool) -> std::io::Result<Arc<dyn rfs_journal::DiskFile>> {
        self.0.open(name, create)
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, _: &str) -> std::io::Result<()> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }
    fn sync_dir(&self) -> std::io::Result<()> {
        self.0.sync_dir()
    }
}

#[test]
fn files_that_cannot_be_removed_count() {
    let disk = healthy();
    for round in 0..3 {
        let cache = LocalCache::open(Some(Arc::new(Sticky(disk.clone()))), 0, DISK);
        for start in round * 1000..round * 1000 + 400 {
            put(&cache, 1, start, 300);
            assert!(bytes_on(&disk) <= DISK);
        }
    }
    let cache = cache_on(&disk, 0);
    for start in 0..400 {
        put(&cache, 1, start, 300);
    }
    assert!(has(&cache, 1, 399, 300));
}

#[test]
fn it_works_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2_u64 {
        let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
        let cache = LocalCache::open(Some(disk), 0, DISK);
        let held: Vec<u64> = (0..400).filter(|start| has(&cache, 1, *start, 300)).collect();
        assert_eq!(held, (400 - 140 * round..400).collect::<Vec<_>>());
        for start in 0..400 {
            put(&cache, 1, start, 300);
        }
    }
}

#[test]
fn threads_share_it() {
    let disk = healthy();
    let cache = cache_on(&disk, 4000);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let cache = &cache;
            scope.spawn(move || {
                let mut rng = Rng::new(u64::from(thread));
                for _ in 0..2000 {
                    let (object, start, len) = (rng.below(4) as u8, rng.below(50), 1 + rng.below(600));
                    match rng.below(20) {
                        0 => cache.forget(&key(object)),
                        1 => cache.flush(),
                        2..10 => put(cache, object, start, len),
                        _ => _ = has(cache, object, start, len),
                    }
                }
            });
        }
    });
    assert!(bytes_on(&disk) <= DISK && cache.stats().memory_bytes <= 4000);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u64),
    Get(u8, u64),
    Forget(u8),
    Flush,
    /// The process ends, and the next one opens the cache.
    Restart,
    PowerLoss(u64),
    Flip(u64),
    Cut(u64),
    /// So much more fits on the disk.
    Full(u64),
    Empty,
    FailWrite(u64),
    /// The machine dies in the call after so many more.
    Crash(u64, u64),
}

const OBJECTS: u8 = 4;
const STARTS: u64 = 40;

/// All pieces together are about three times of what fits.
const fn len_at(start: u64) -> u64 {
    [10, 250, 600, 1100, 3500][(start % 5) as usize]
}

fn calm_step() -> BoxedStrategy<Step> {
    let piece = || (0..OBJECTS, 0..STARTS);
    prop_oneof![
        30 => piece().prop_map(|(object, start)| Step::Put(object, start)),
        15 => piece().prop_map(|(object, start)| Step::Get(object, start)),
        2 => (0..OBJECTS).prop_map(Step::Forget),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
    .boxed()
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        40 => calm_step(),
        1 => any::<u64>().prop_map(Step::PowerLoss),
        1 => any::<u64>().prop_map(Step::Flip),
        1 => any::<u64>().prop_map(Step::Cut),
        1 => (0..10_000_u64).prop_map(Step::Full),
        2 => Just(Step::Empty),
        1 => (0..4_u64).prop_map(Step::FailWrite),
        1 => (0..20_u64, any::<u64>()).prop_map(|(calls, seed)| Step::Crash(calls, seed)),
    ]
    .boxed()
}

/// Whatever is done to cache and disk: what is found is what was put, within the budgets; what was forgotten is not
/// found as long as the disk works; and as long as it does, what was put last is found.
fn run(steps: &[Step]) {
    const MEMORY: u64 = 2000;
    let mut plan = CrashPlan::never();
    let mut disk = SimDisk::new(plan.clone());
    let mut cache = cache_on(&disk, MEMORY);
    let mut put_since: BTreeSet<(u8, u64)> = BTreeSet::new();
    let mut works = true;
    for step in steps {
        match *step {
            Step::Put(object, start) => {
                put(&cache, object, start, len_at(start));
                put_since.insert((object, start));
                assert!(!works || has(&cache, object, start, len_at(start)), "what was put last is there");
            }
            Step::Get(object, start) => {
                let found = has(&cache, object, start, len_at(start));
                assert!(!found || !works || put_since.contains(&(object, start)), "it was forgotten");
            }
            Step::Forget(object) => {
                cache.forget(&key(object));
                put_since.retain(|(other, _)| *other != object);
            }
            Step::Flush => cache.flush(),
            Step::Restart | Step::PowerLoss(_) | Step::Crash(..) => {
                works &= matches!(step, Step::Restart);
                plan = match *step {
                    Step::Crash(calls, seed) => CrashPlan::at_call(calls, CrashSide::Partly, seed),
                    _ => CrashPlan::never(),
                };
                disk = match *step {
                    Step::PowerLoss(seed) => disk.after_power_loss(seed, plan.clone()),
                    _ => disk.after_kill(plan.clone()),
                };
                cache = cache_on(&disk, MEMORY);
                look_at_all(&cache, works.then_some(&put_since));
            }
            Step::Flip(seed) | Step::Cut(seed) => {
                works = false;
                let mut rng = Rng::new(seed);
                let names = disk.names();
                if names.is_empty() {
                    continue;
                }
                let name = rng.pick(&names).clone();
                let len = disk.content(&name).unwrap().len() as u64;
                if len > 0 && matches!(step, Step::Flip(_)) {
                    disk.flip_bit(&name, rng.below(len * 8));
                } else {
                    disk.truncate(&name, rng.below(len + 1) as usize);
                }
                look_at_all(&cache, None);
            }
            Step::Full(more) => {
                works = false;
                disk.set_capacity(Some(bytes_on(&disk) + more));
            }
            Step::Empty => disk.set_capacity(None),
            Step::FailWrite(skip) => {
                works = false;
                disk.fail_write(skip);
            }
        }
        assert!(bytes_on(&disk) <= DISK, "{} bytes on the disk", bytes_on(&disk));
        assert!(cache.stats().memory_bytes <= MEMORY);
    }
}

/// Whatever is found is right, and one of those if they are given.
fn look_at_all(cache: &LocalCache, allowed: Option<&BTreeSet<(u8, u64)>>) {
    for object in 0..OBJECTS {
        for start in 0..STARTS {
            let found = has(cache, object, start, len_at(start));
            let may_be = allowed.is_none_or(|allowed| allowed.contains(&(object, start)));
            assert!(!found || may_be, "it was forgotten");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(9),
        cases: 100,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_keeps_its_promises_while_the_disk_works(steps in prop::collection::vec(calm_step(), 1..300)) {
        run(&steps);
    }

    #[test]
    fn nothing_that_happens_to_it_gives_wrong_bytes_or_too_many(steps in prop::collection::vec(step(), 1..300)) {
        run(&steps);
    }
}
