//! Writes the seed corpora, `fuzz/corpus/TARGET/`, from the golden files and from what rfs writes now.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

// Its parts of the coverage runtime are what an instrumented program is linked with.
use libfuzzer_sys as _;
use rfs_backends::object_store::{ObjectStoreExt, memory::InMemory, path::Path as Key};
use rfs_backends::{Store, StoreOptions};
use rfs_core::{Change, CommitId, PageObject, SegmentId};
use rfs_fuzz::VOLUME;
use rfs_journal::{Disk, verify_segment};
use rfs_recovery::Keys;
use rfs_recovery::local_cache::LocalCache;
use rfs_recovery::page::MapKind;
use rfs_testkit::{CrashPlan, EngineTarget, Profile, Rng, SimDisk, Target, TreeEngine, Workload};

/// The maps in the order in which the target of pages counts them, and what their golden files are called.
const MAPS: [(MapKind, &str); 9] = [
    (MapKind::Inodes, "inodes"),
    (MapKind::Entries, "entries"),
    (MapKind::Listing, "listing"),
    (MapKind::Extents, "extents"),
    (MapKind::Xattrs, "xattrs"),
    (MapKind::LiveBytes, "live-bytes"),
    (MapKind::Segments, "segments"),
    (MapKind::Objects, "objects"),
    (MapKind::Links, "links"),
];

fn main() {
    let golden = golden();
    let named = |part: &str| {
        let part = part.to_owned();
        golden
            .iter()
            .filter(move |(name, _)| name.contains(&part))
            .map(|(name, bytes)| (name.as_str(), bytes))
    };
    for (name, bytes) in named("segment").filter(|(name, _)| !name.contains("page")) {
        seed("segment", name, &[&[1], bytes.as_slice()]);
    }
    for (name, bytes) in named("local-log") {
        for choice in [1, 9] {
            seed("local_log", &format!("{name}-{choice}"), &[&[choice, choice], bytes.as_slice()]);
        }
    }
    for kind in ["commit", "fence", "superblock", "pin"] {
        named(kind).for_each(|(name, bytes)| seed("object", name, &[&[1], bytes.as_slice()]));
    }
    named("image-v").for_each(|(name, bytes)| seed("whole_image", name, &[&[1], bytes.as_slice()]));
    for (name, object) in named("pages") {
        seed("image_head", name, &[&head_start(object).to_le_bytes(), object.as_slice()]);
    }
    for (number, (_, map)) in MAPS.iter().enumerate() {
        for (name, page) in named(&format!("page-{map}-")) {
            let mend = u8::from(page[3] == 0);
            seed("page", name, &[&[(number as u8) << 1 | mend], page.as_slice()]);
        }
    }
    changes(&golden);
    cache_files();
    compressed();
    names();
    attributes();
    let mut rng = Rng::new(1);
    for number in 0..24 {
        let bytes: Vec<u8> = (0..3 * (10 + 4 * number)).map(|_| rng.next() as u8).collect();
        seed("ops", &format!("{number:02}"), &[&bytes]);
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The golden files that hold bytes, by name.
fn golden() -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for of in ["rfs-journal", "rfs-recovery"] {
        gather(&root().join("..").join(of).join("tests/golden"), of, &mut found);
    }
    found
}

fn gather(directory: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).expect("there are golden files").map(|entry| entry.expect("a file"))
    {
        let file = entry.file_name().to_string_lossy().into_owned();
        // The volume's id in the names of a whole volume's objects says nothing.
        let short = file.split_once('_').map_or(file.as_str(), |(_, rest)| rest);
        let name = format!("{prefix}-{}", short.trim_end_matches(".bin"));
        if entry.path().is_dir() {
            gather(&entry.path(), &name, found);
        } else if !file.ends_with(".txt") {
            found.insert(name, fs::read(entry.path()).expect("a golden file can be read"));
        }
    }
}

fn seed(target: &str, name: &str, parts: &[&[u8]]) {
    let directory = root().join("corpus").join(target);
    fs::create_dir_all(&directory).expect("the corpus can be written");
    fs::write(directory.join(name), parts.concat()).expect("the corpus can be written");
}

/// Where the head starts in an object of pages: behind its version stands the volume.
fn head_start(object: &[u8]) -> u16 {
    let volume = postcard::to_stdvec(&VOLUME).expect("a number can be encoded");
    let at = object.windows(volume.len()).rposition(|window| window == volume).expect("an object has a head");
    (at - 1) as u16
}

fn changes(golden: &BTreeMap<String, Vec<u8>>) {
    let mut all: Vec<Change> = Vec::new();
    for bytes in golden.values() {
        if let Ok(segment) = verify_segment("golden", &bytes.clone().into(), None) {
            all.extend(segment.records.into_iter().map(|record| record.change));
        }
    }
    let mut core = EngineTarget::new(TreeEngine::new());
    let mut workload = Workload::new(1, Profile::rfs());
    for op in workload.by_ref().take(150) {
        _ = core.run(&op);
    }
    for number in 0..40 {
        let before = core.engine.history().len();
        workload.reseed(number);
        for op in workload.by_ref().take(10) {
            _ = core.run(&op);
        }
        let made: Vec<Change> =
            core.engine.history()[before..].iter().map(|(change, _)| change.clone()).collect();
        let bytes: Vec<Vec<u8>> = made.iter().map(encoded).collect();
        if bytes.concat().len() < 2_000 {
            seed("apply_changes", &format!("{number:02}"), &[&bytes.concat()]);
        }
        all.extend(made);
    }
    for change in all {
        let kind = format!("{change:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
        let bytes = encoded(&change);
        if bytes.len() < 300 {
            seed("change", &kind, &[&bytes]);
        }
    }
}

fn encoded(change: &Change) -> Vec<u8> {
    postcard::to_stdvec(change).expect("a Change can be encoded")
}

fn cache_files() {
    for flushed in [false, true] {
        let sim = SimDisk::new(CrashPlan::never());
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let cache = LocalCache::open(Some(disk), 1 << 16, 1 << 20);
        cache.put("segments/1", 0, b"1");
        cache.put("pages/2", 0, b"content");
        cache.put("commits/3", 4096, b"content");
        cache.forget("segments/1");
        if flushed {
            cache.flush();
        }
        let name = if flushed { "table" } else { "entries" };
        seed("cache_file", name, &[&[1], &sim.content("cache-00000000").expect("the cache has a file")]);
    }
}

/// An object as a store makes it: of text, of noise, and of nothing.
fn compressed() {
    let mut rng = Rng::new(2);
    let noise: Vec<u8> = (0..300).map(|_| rng.next() as u8).collect();
    let long = "a line of a log\n".repeat(9_000).into_bytes();
    for (name, content) in
        [("text", b"text".repeat(40)), ("noise", noise), ("long", long), ("empty", Vec::new())]
    {
        let backend = Arc::new(InMemory::new());
        let store = Store::new(backend.clone(), "seeds://", Key::default(), StoreOptions::default());
        block_on(store.put("a.z", content.into())).expect("a store in memory takes an object");
        let object = block_on(async { backend.get(&Key::from("a.z")).await?.bytes().await });
        seed("compressed", name, &[&[1], &object.expect("it was put")]);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime of one thread starts").block_on(future)
}

fn names() {
    let keys = Keys(VOLUME);
    let commit = CommitId { epoch: 3, number: 17 };
    let made = [
        keys.commit(commit),
        keys.segment(SegmentId(5), 3, 7),
        keys.image(commit, 7),
        keys.pages_of(PageObject { epoch: 3, number: 4 }),
        keys.pin(9),
        keys.kept(3),
        keys.receipt(commit, 12),
    ];
    for (number, key) in made.iter().enumerate() {
        seed("key", &number.to_string(), &[key.as_bytes()]);
    }
    let urls =
        ["memory://", "memory://one/two", "file:///srv/a%20b", "s3://bucket/a/b", "az://c/p", "https://h/p"];
    for (number, url) in urls.iter().enumerate() {
        seed("url", &number.to_string(), &[url.as_bytes()]);
    }
}

fn attributes() {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let rows = [(1, 7, none), (2, 5, 1000), (4, 5, none), (8, 4, 500), (16, 5, none), (32, 1, none)];
    let list: Vec<u8> =
        rows.iter().flat_map(|(tag, permissions, id)| entry(*tag, *permissions, *id)).collect();
    let minimal: Vec<u8> = [(1, 6, none), (4, 4, none), (32, 0, none)]
        .iter()
        .flat_map(|(tag, permissions, id)| entry(*tag, *permissions, *id))
        .collect();
    for (which, name) in [(0, "access"), (1, "default")] {
        seed("xattr", name, &[&[which], &[2, 0, 0, 0], &list]);
        seed("xattr", &format!("{name}-minimal"), &[&[which], &[2, 0, 0, 0], &minimal]);
    }
    seed("xattr", "capability", &[&[2], &[0, 0, 0, 2], &[0; 16]]);
    seed("xattr", "named", &[&[7], b"user.name\0value"]);
}
