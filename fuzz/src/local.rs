//! Files of the local cache.

use std::sync::Arc;

use rfs_journal::Disk;
use rfs_recovery::local_cache::LocalCache;
use rfs_testkit::{CrashPlan, SimDisk};

use crate::{choices, mend};

const KEYS: [&str; 3] = ["segments/1", "pages/2", "commits/3"];
const FILE: &str = "cache-00000000";

/// A directory with one file of the cache. Whatever is in it, a cache opens, answers, and takes what it is given; and
/// the next one finds that.
pub fn cache_file(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let mut bytes = bytes.to_vec();
    if choice & 1 != 0 {
        let objects =
            KEYS.map(|key| *blake3::hash(key.as_bytes()).as_bytes().first_chunk().expect("it is longer"));
        mend::cache_file(&mut bytes, &objects);
    }
    let sim = SimDisk::new(CrashPlan::never());
    sim.set_content(FILE, &bytes);
    let disk: Arc<dyn Disk> = Arc::new(sim);
    for round in 0..2 {
        let cache = LocalCache::open(Some(Arc::clone(&disk)), 1 << 16, 1 << 20);
        assert!(cache.stats().disk_bytes <= 1 << 20, "the cache keeps its budget");
        for key in KEYS {
            for (start, len) in [(0, 1), (0, 7), (4096, 7), (0, u64::from(u32::MAX))] {
                let found = cache.get(key, start, len);
                assert!(found.is_none_or(|found| found.len() as u64 == len), "a piece has its length");
            }
        }
        if round == 0 {
            cache.forget(KEYS[0]);
            assert_eq!(cache.get(KEYS[0], 0, 1), None, "what is forgotten is not found");
            cache.put(KEYS[1], 1, b"content");
            assert_eq!(cache.get(KEYS[1], 1, 7).as_deref(), Some(&b"content"[..]), "it is in memory");
            cache.flush();
        }
    }
}
