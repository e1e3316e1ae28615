//! The objects as they were shipped stay readable, and are written the same.
//!
//! `RFS_GOLDEN=write` makes the missing files. A shipped one is never made anew.

use std::collections::BTreeSet;

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{CommitId, Item, Lsn, SegmentId, StateHash, Tree};
use rfs_recovery::commit_log::{Draft, Publisher, create, list, read_commit, read_superblock, take_over};
use rfs_recovery::image::{ImageBody, ImageOf, encode_image, read_image};
use rfs_recovery::objects::{
    Commit, CommitObject, Fence, FetchedCommit, StoredSegment, Superblock, decode_commit,
};
use rfs_recovery::state::{fetch_footer, load};
use rfs_recovery::{RecoveryError, SUPERBLOCK, dump_object};
use rfs_testkit::{CrashPlan, SimStore};

use crate::sample::{self, FENCE, FIRST, KEYS, NEXT_WRITER, SECOND, Sample, VOLUME, WRITER, time};

/// The golden file `name`, which is as the object that was made just now.
fn golden(name: &str, made: &Bytes) -> Bytes {
    let path = sample::golden_path(name);
    if !path.exists() && std::env::var("RFS_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, made).unwrap();
    }
    let bytes: Bytes =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into();
    assert!(bytes == *made, "{name}: the same object is written as the same bytes");
    bytes
}

fn decoded(id: CommitId, object: &Bytes) -> CommitObject {
    decode_commit("golden", KEYS, id, object).unwrap()
}

fn as_commit(id: CommitId, object: &Bytes) -> FetchedCommit {
    let CommitObject::Commit(commit) = decoded(id, object) else { panic!("{id} is a commit") };
    *commit
}

#[tokio::test]
async fn superblock_v1() {
    superblock(&sample::version_1().await).await;
}

#[tokio::test]
async fn superblock_v2() {
    let sample = sample::make().await;
    let object = golden("superblock-v2.bin", sample.superblock());
    let superblock = superblock(&sample).await;
    let empty = sample::store_on(&SimStore::new(CrashPlan::never()));
    create(&empty, superblock.volume, superblock.created).await.unwrap();
    assert_eq!(empty.get(SUPERBLOCK).await.unwrap(), object);
}

async fn superblock(sample: &Sample) -> Superblock {
    let superblock = read_superblock(&sample.store_with(&[])).await.unwrap();
    assert_eq!(superblock, Superblock { volume: VOLUME, created: time(-1) });
    assert!(dump_object("golden", SUPERBLOCK, sample.superblock()).unwrap().contains("Superblock"));
    superblock
}

#[tokio::test]
async fn fence_v1() {
    fence(&sample::version_1().await);
}

#[tokio::test]
async fn fence_v2() {
    let sample = sample::make().await;
    let object = golden("fence-v2.bin", sample.fence());
    let fence = fence(&sample);
    let store = sample.store_with(&[]);
    let key = KEYS.commit(FENCE);
    store.delete(&key).await.unwrap();
    take_over(&store, KEYS, fence.writer, fence.time).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), object);
}

fn fence(sample: &Sample) -> Fence {
    let CommitObject::Fence(fence) = decoded(FENCE, sample.fence()) else { panic!("it is a fence") };
    let head = Some(as_commit(SECOND, sample.commit()).reference());
    let expected =
        Fence { volume: VOLUME, at: FENCE, writer: NEXT_WRITER, next_epoch: 2, head, time: time(20) };
    assert_eq!(fence, expected);
    assert!(dump_object("golden", &KEYS.commit(FENCE), sample.fence()).unwrap().contains("next_epoch: 2"));
    fence
}

#[tokio::test]
async fn commit_v1() {
    commit(&sample::version_1().await);
}

#[tokio::test]
async fn commit_v2() {
    let sample = sample::make().await;
    let object = golden("commit-v2.bin", sample.commit());
    // What was read, written again.
    let (first, second) = commit(&sample);
    let store = sample::store_on(&SimStore::new(CrashPlan::never()));
    let mut publisher = Publisher::new(store.clone(), KEYS, WRITER, 1, None, Lsn(0));
    for fetched in [first, second] {
        publisher.prepare(draft(&sample, fetched));
        publisher.settle().await.unwrap();
    }
    assert_eq!(store.get(&KEYS.commit(SECOND)).await.unwrap(), object);
}

fn commit(sample: &Sample) -> (FetchedCommit, FetchedCommit) {
    let object = sample.commit();
    let fetched = as_commit(SECOND, object);
    let first = as_commit(FIRST, &sample.objects[&KEYS.commit(FIRST)]);
    let Commit { segments, .. } = &fetched.commit;
    let expected = Commit {
        volume: VOLUME,
        id: SECOND,
        writer: WRITER,
        previous: Some(first.reference()),
        base: first.commit.end,
        end: Lsn(first.commit.end.0 + 3),
        chain: fetched.commit.chain,
        state: StateHash::of(&sample.second),
        time: time(10),
        segments: segments.clone(),
        image: Some(sample.image.clone()),
        checkpoint: Some("naïve".to_owned()),
        metadata: rfs_journal::ByteSection(b"flight 17".to_vec()),
    };
    assert_eq!(fetched.commit, expected);
    let places: Vec<_> = segments.iter().map(|added| (added.id, added.key.clone())).collect();
    let uploaded = KEYS.segment(SegmentId(1), 1, WRITER);
    assert_eq!(places, [(SegmentId(1), Some(uploaded)), (SegmentId(2), None)]);
    assert_eq!(fetched.inline, object.slice(fetched.inline_start as usize..));
    assert!(dump_object("golden", &KEYS.commit(SECOND), object).unwrap().contains("naïve"));
    (first, fetched)
}

/// What was to be committed, from what was.
fn draft(sample: &Sample, fetched: FetchedCommit) -> Draft {
    let Commit { end, chain, state, time, segments, image, checkpoint, metadata, .. } = fetched.commit;
    let mut inline = fetched.inline;
    let mut pieces = Vec::new();
    let with_header = segments.into_iter().map(|added| {
        let bytes = match &added.key {
            Some(key) => sample.objects[key].clone(),
            None => {
                pieces.push(inline.split_to(added.len as usize));
                pieces[pieces.len() - 1].clone()
            }
        };
        let header = rfs_journal::verify_segment("segment", &bytes, Some(added.hash)).unwrap().header;
        (added, header)
    });
    let segments = with_header.collect();
    Draft { end, chain, state, time, segments, inline: pieces, image, checkpoint, metadata: metadata.0 }
}

#[tokio::test]
async fn image_v1() {
    image(&sample::version_1().await).await;
}

#[tokio::test]
async fn image_v2() {
    let sample = sample::make().await;
    let object = golden("image-v2.bin", sample.image());
    let (body, stored, tree) = image(&sample).await;
    let of = ImageOf {
        volume: body.volume,
        of: body.of,
        lsn: body.lsn,
        chain: body.chain,
        state: body.state,
        next_segment: body.next_segment,
        segments: &stored,
    };
    let again = encode_image("golden", WRITER, &of, &tree).unwrap();
    assert_eq!(again.reference, sample.image);
    assert_eq!(Bytes::from(again.pieces.concat()), object);
}

async fn image(sample: &Sample) -> (ImageBody, Vec<StoredSegment>, Tree) {
    let store = sample.store_with(&[]);
    let (body, segments, tree) = read_image(&store, KEYS, &sample.image).await.unwrap();
    let end = as_commit(FIRST, &sample.objects[&KEYS.commit(FIRST)]).commit.end;
    assert_eq!((body.volume, body.of, body.lsn), (VOLUME, FIRST, end));
    assert_eq!((body.state, body.next_segment), (StateHash::of(&sample.first), SegmentId(1)));
    assert_eq!(segments.iter().map(|kept| kept.live).collect::<Vec<_>>(), [true]);
    assert_eq!(tree, sample.first);
    assert!(dump_object("golden", &sample.image.key, sample.image()).unwrap().contains("ImageBody"));
    (body, segments.into_iter().map(|kept| kept.stored).collect(), tree)
}

#[tokio::test]
async fn every_kind_of_item_is_in_the_sample() {
    let name = |item: &Item| format!("{item:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned();
    let tree = sample::make().await.second;
    let kinds: BTreeSet<String> = tree.items().map(|item| name(&item)).collect();
    let expected = [
        "Checkpoint",
        "Entry",
        "Extent",
        "FileLock",
        "Hold",
        "Inode",
        "Linkable",
        "NextIno",
        "Quota",
        "RangeLock",
        "Xattr",
    ];
    assert!(kinds.iter().map(String::as_str).eq(expected), "{kinds:?}");
}

/// A volume that was written before this release opens, and is written on.
#[tokio::test]
async fn a_volume_v1() {
    let sample = sample::version_1().await;
    let store = sample.store_with(&[]);
    let stored = opens(&store, &sample, CommitId { epoch: 2, number: 0 }).await;
    for stored in &stored {
        let footer = fetch_footer(&store, KEYS, stored).await.unwrap();
        assert_eq!(footer.base, stored.header.base);
    }
    take_over(&store, KEYS, NEXT_WRITER, time(30)).await.unwrap();
    opens(&store, &sample, CommitId { epoch: 3, number: 0 }).await;
}

/// A volume of golden files opens as it always did.
#[tokio::test]
async fn a_volume_v2() {
    let sample = sample::make().await;
    opens(&sample.store_with(&[]), &sample, CommitId { epoch: 2, number: 0 }).await;
}

async fn opens(store: &Store, sample: &Sample, slot: CommitId) -> Vec<StoredSegment> {
    let superblock = read_superblock(store).await.unwrap();
    let listing = list(store, KEYS).await.unwrap();
    assert_eq!(listing.slot, slot);
    let head = listing.head.unwrap();
    let state = load(store, KEYS, superblock.created, &listing.ids, head).await.unwrap();
    assert_eq!(state.tree, sample.second);
    assert_eq!(state.state, StateHash::of(&sample.second));
    assert_eq!(state.commit.map(|commit| commit.id), Some(SECOND));
    let end = as_commit(SECOND, sample.commit()).commit.end;
    assert_eq!((state.lsn, state.next_segment), (end, SegmentId(3)));
    state.tree.check().unwrap();
    state.segments.into_values().collect()
}

/// Each kind of object with a version to come and the right checksum.
#[tokio::test]
async fn a_later_version_is_refused_by_name() {
    let sample = sample::make().await;
    let refuses = |error: RecoveryError, key: &str| {
        assert!(matches!(error, RecoveryError::UnknownFormat { version: 3, newest: 2, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(key) && text.contains("newer rfs"), "{text}");
    };
    let object = later(sample.superblock());
    refuses(read_superblock(&sample.store_with(&[(SUPERBLOCK, &object)])).await.unwrap_err(), SUPERBLOCK);
    for (id, object) in [(SECOND, later(sample.commit())), (FENCE, later(sample.fence()))] {
        let key = KEYS.commit(id);
        let store = sample.store_with(&[(&key, &object)]);
        refuses(list(&store, KEYS).await.unwrap_err(), &key);
        refuses(read_commit(&store, KEYS, id).await.unwrap_err(), &key);
        refuses(take_over(&store, KEYS, 1, time(30)).await.unwrap_err(), &key);
    }
    let object = later(sample.image());
    let store = sample.store_with(&[(&sample.image.key, &object)]);
    refuses(read_image(&store, KEYS, &sample.image).await.unwrap_err(), &sample.image.key);
}

/// The object with its version one later.
fn later(object: &Bytes) -> Bytes {
    let mut later = object.to_vec();
    later[8] += 1;
    crate::made_up::reseal(&mut later);
    later.into()
}
