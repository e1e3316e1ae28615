//! The objects as they were shipped stay readable, and are written the same.
//!
//! `RFS_GOLDEN=write` makes the files anew. That is right for a new file; a shipped one is never made anew.

use std::path::PathBuf;

use bytes::Bytes;
use rfs_core::{CommitId, Lsn, SegmentId, StateHash};
use rfs_recovery::commit_log::{Draft, Publisher, create, list, read_commit, read_superblock, take_over};
use rfs_recovery::image::{ImageOf, encode_image, read_image};
use rfs_recovery::objects::{Commit, CommitObject, Fence, FetchedCommit, Superblock, decode_commit};
use rfs_recovery::state::load;
use rfs_recovery::{RecoveryError, SUPERBLOCK, dump_object};
use rfs_testkit::{CrashPlan, SimStore};

use crate::sample::{self, FENCE, FIRST, KEYS, NEXT_WRITER, SECOND, Sample, VOLUME, WRITER, time};

/// The golden file `name`.
fn golden(name: &str, made: &Bytes) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("RFS_GOLDEN").is_ok_and(|value| value == "write") {
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
    let sample = sample::make().await;
    let object = golden("superblock-v1.bin", sample.superblock());
    let store = sample.store_with(&[(SUPERBLOCK, &object)]);
    let superblock = read_superblock(&store).await.unwrap();
    assert_eq!(superblock, Superblock { volume: VOLUME, created: time(-1) });
    let empty = sample::store_on(&SimStore::new(CrashPlan::never()));
    create(&empty, superblock.volume, superblock.created).await.unwrap();
    assert_eq!(empty.get(SUPERBLOCK).await.unwrap(), object);
    assert!(dump_object("golden", SUPERBLOCK, &object).unwrap().contains("Superblock"));
}

#[tokio::test]
async fn fence_v1() {
    let sample = sample::make().await;
    let object = golden("fence-v1.bin", sample.fence());
    let CommitObject::Fence(fence) = decoded(FENCE, &object) else { panic!("it is a fence") };
    let head = Some(as_commit(SECOND, sample.commit()).reference());
    let expected =
        Fence { volume: VOLUME, at: FENCE, writer: NEXT_WRITER, next_epoch: 2, head, time: time(20) };
    assert_eq!(fence, expected);
    let store = sample.store_with(&[]);
    let key = KEYS.commit(FENCE);
    store.delete(&key).await.unwrap();
    take_over(&store, KEYS, fence.writer, fence.time).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), object);
    assert!(dump_object("golden", &key, &object).unwrap().contains("next_epoch: 2"));
}

#[tokio::test]
async fn commit_v1() {
    let sample = sample::make().await;
    let object = golden("commit-v1.bin", sample.commit());
    let fetched = as_commit(SECOND, &object);
    let first = as_commit(FIRST, &sample.objects[&KEYS.commit(FIRST)]);
    let Commit { segments, .. } = &fetched.commit;
    let expected = Commit {
        volume: VOLUME,
        id: SECOND,
        writer: WRITER,
        previous: Some(first.reference()),
        base: first.commit.end,
        end: Lsn(6),
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
    assert!(dump_object("golden", &KEYS.commit(SECOND), &object).unwrap().contains("naïve"));

    // What was read, written again.
    let store = sample::store_on(&SimStore::new(CrashPlan::never()));
    let mut publisher = Publisher::new(store.clone(), KEYS, WRITER, 1, None, Lsn(0));
    for fetched in [first, fetched] {
        publisher.prepare(draft(&sample, fetched));
        publisher.settle().await.unwrap();
    }
    assert_eq!(store.get(&KEYS.commit(SECOND)).await.unwrap(), object);
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
    let sample = sample::make().await;
    let object = golden("image-v1.bin", sample.image());
    let store = sample.store_with(&[(&sample.image.key, &object)]);
    let (body, segments, tree) = read_image(&store, KEYS, &sample.image).await.unwrap();
    assert_eq!((body.volume, body.of, body.lsn), (VOLUME, FIRST, Lsn(3)));
    assert_eq!((body.state, body.next_segment), (StateHash::of(&sample.first), SegmentId(1)));
    assert_eq!(segments.iter().map(|kept| kept.live).collect::<Vec<_>>(), [true]);
    assert_eq!(StateHash::of(&tree), StateHash::of(&sample.first));
    let stored: Vec<_> = segments.into_iter().map(|kept| kept.stored).collect();
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
    assert!(dump_object("golden", &sample.image.key, &object).unwrap().contains("ImageBody"));
}

/// A volume of golden files opens as it always did.
#[tokio::test]
async fn a_volume_v1() {
    let sample = sample::make().await;
    let files = [
        (SUPERBLOCK.to_owned(), golden("superblock-v1.bin", sample.superblock())),
        (KEYS.commit(SECOND), golden("commit-v1.bin", sample.commit())),
        (KEYS.commit(FENCE), golden("fence-v1.bin", sample.fence())),
        (sample.image.key.clone(), golden("image-v1.bin", sample.image())),
    ];
    let files: Vec<_> = files.iter().map(|(key, object)| (key.as_str(), object)).collect();
    let store = sample.store_with(&files);
    let superblock = read_superblock(&store).await.unwrap();
    let listing = list(&store, KEYS).await.unwrap();
    assert_eq!(listing.slot, CommitId { epoch: 2, number: 0 });
    let head = listing.head.unwrap();
    let state = load(&store, KEYS, superblock.created, &listing.ids, head).await.unwrap();
    assert_eq!(state.state, StateHash::of(&sample.second));
    assert_eq!(state.commit.map(|commit| commit.id), Some(SECOND));
    assert_eq!((state.lsn, state.next_segment), (Lsn(6), SegmentId(3)));
    state.tree.check().unwrap();
}

/// Each kind of object with a version to come and the right checksum.
#[tokio::test]
async fn a_later_version_is_refused_by_name() {
    let sample = sample::make().await;
    let refuses = |error: RecoveryError, key: &str| {
        assert!(matches!(error, RecoveryError::UnknownFormat { version: 2, newest: 1, .. }), "{error}");
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
