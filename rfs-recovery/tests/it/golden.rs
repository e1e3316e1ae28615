//! The objects as they were shipped stay readable, and are written the same.
//!
//! `RFS_GOLDEN=write` makes the missing files. A shipped one is never made anew.

use std::collections::BTreeSet;

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{CommitId, Item, Lsn, PageRef, Root, SegmentId, StateHash, Tree};
use rfs_recovery::commit_log::{
    Draft, Publisher, create, create_fork, list, read_commit, read_superblock, take_over,
};
use rfs_recovery::image::{ImageHead, read_head, read_image};
use rfs_recovery::objects::{
    Ancestor, Commit, CommitObject, Fence, FetchedCommit, ImageRef, Location, Origin, OriginPin, PagedImage,
    StoredSegment, Superblock, WholeImage, decode_commit,
};
use rfs_recovery::page::page_ref;
use rfs_recovery::pins::{Pin, pins, put_pin};
use rfs_recovery::state::{fetch_footer, load};
use rfs_recovery::{FORMAT, Home, RecoveryError, SUPERBLOCK, dump_object};
use rfs_testkit::{CrashPlan, SimStore, loaded};

use crate::sample::{self, FIRST, FIRST_PAGES, KEYS, NEXT_WRITER, PAGES, Sample, VOLUME, WRITER, time};

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
    superblock(&sample::version_2().await).await;
}

#[tokio::test]
async fn superblock_v3() {
    superblock(&sample::version_3().await).await;
}

#[tokio::test]
async fn superblock_v4() {
    superblock(&sample::version_4().await).await;
}

#[tokio::test]
async fn superblock_v5() {
    let sample = sample::version_5().await;
    let superblock = superblock(&sample).await;
    let empty = sample::store_on(&SimStore::new(CrashPlan::never()));
    create(&empty, superblock.volume, superblock.created).await.unwrap();
    assert_eq!(empty.get(SUPERBLOCK).await.unwrap(), sample.superblock());
}

/// What is there since version 4 only: a fork's superblock, and a pin.
#[tokio::test]
async fn forks_v4() {
    let store = sample::store_on(&SimStore::new(CrashPlan::never()));
    let shipped = |name| std::fs::read(sample::golden_path(name)).unwrap();
    store.put(SUPERBLOCK, shipped("superblock-fork-v4.bin").into()).await.unwrap();
    store.put(&KEYS.pin(0xf0), shipped("pin-v4.bin").into()).await.unwrap();
    let found = (read_superblock(&store).await.unwrap(), pins(&Home { store, keys: KEYS }).await.unwrap());
    let (superblock, pin) = fork_and_pin(&sample::version_4().await);
    assert_eq!(found, (superblock, vec![pin]));
}

#[tokio::test]
async fn forks_v5() {
    let (superblock, pin) = fork_and_pin(&sample::version_5().await);
    let store = sample::store_on(&SimStore::new(CrashPlan::never()));
    assert!(create_fork(&store, &superblock).await.unwrap());
    assert_eq!(
        store.get(SUPERBLOCK).await.unwrap(),
        sample::golden("superblock-fork-v5.bin", &store, SUPERBLOCK).await
    );
    assert_eq!(read_superblock(&store).await.unwrap(), superblock);
    let home = Home { store: store.clone(), keys: KEYS };
    put_pin(&home, &pin).await.unwrap();
    let key = KEYS.pin(0xf0);
    assert_eq!(store.get(&key).await.unwrap(), sample::golden("pin-v5.bin", &store, &key).await);
    assert_eq!(pins(&home).await.unwrap(), [pin]);
}

fn fork_and_pin(sample: &Sample) -> (Superblock, Pin) {
    let location =
        |url: &str, prefix: Option<&str>| Location { url: url.into(), prefix: prefix.map(Into::into) };
    let commit = as_commit(FIRST, &sample.objects[&KEYS.commit(FIRST)]).reference();
    let ancestor =
        |volume, last_epoch, location| Ancestor { volume, created: time(-2), last_epoch, location };
    let superblock = Superblock {
        volume: VOLUME + 1,
        created: time(40),
        origin: Some(Origin {
            at: commit,
            pin: Some(OriginPin {
                id: 0xf0,
                volume: VOLUME,
                location: location("sim://parent", Some("parent")),
            }),
            ancestors: vec![
                ancestor(VOLUME - 1, 0, location("sim://far/away", None)),
                ancestor(VOLUME, FIRST.epoch, location("sim://parent", Some("parent"))),
            ],
        }),
    };
    let (owner, objects) = ("naïve".to_owned(), Some(vec!["a/b".to_owned()]));
    let (fork, expires) = (Some(VOLUME + 1), Some(time(60)));
    let pin = Pin { volume: VOLUME, id: 0xf0, owner, fork, at: FIRST, made: time(50), expires, objects };
    (superblock, pin)
}

async fn superblock(sample: &Sample) -> Superblock {
    let superblock = read_superblock(&sample.store_with(&[])).await.unwrap();
    assert_eq!(superblock, Superblock { volume: VOLUME, created: time(-1), origin: None });
    assert!(dump_object("golden", SUPERBLOCK, sample.superblock()).unwrap().contains("Superblock"));
    superblock
}

#[tokio::test]
async fn fence_v1() {
    fence(&sample::version_1().await);
}

#[tokio::test]
async fn fence_v2() {
    fence(&sample::version_2().await);
}

#[tokio::test]
async fn fence_v3() {
    fence(&sample::version_3().await);
}

#[tokio::test]
async fn fence_v4() {
    fence(&sample::version_4().await);
}

#[tokio::test]
async fn fence_v5() {
    let sample = sample::version_5().await;
    let fence = fence(&sample);
    let store = sample.store_with(&[]);
    let key = sample.fence_key();
    store.delete(&key).await.unwrap();
    take_over(&sample::lineage_of(&store), fence.writer, fence.time).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), sample.fence());
}

fn fence(sample: &Sample) -> Fence {
    let at = sample.fence_id();
    let CommitObject::Fence(fence) = decoded(at, sample.fence()) else { panic!("it is a fence") };
    let head = Some(as_commit(sample.head, sample.commit()).reference());
    let expected = Fence { volume: VOLUME, at, writer: NEXT_WRITER, next_epoch: 2, head, time: time(20) };
    assert_eq!(fence, expected);
    assert!(dump_object("golden", &sample.fence_key(), sample.fence()).unwrap().contains("next_epoch: 2"));
    fence
}

#[tokio::test]
async fn commit_v1() {
    commit(&sample::version_1().await);
}

#[tokio::test]
async fn commit_v2() {
    commit(&sample::version_2().await);
}

#[tokio::test]
async fn commit_v3() {
    commit(&sample::version_3().await);
}

#[tokio::test]
async fn commit_v4() {
    commit(&sample::version_4().await);
}

#[tokio::test]
async fn commit_v5() {
    let sample = sample::version_5().await;
    commit(&sample);
    // What was read, written again.
    let store = sample::store_on(&SimStore::new(CrashPlan::never()));
    let mut publisher = Publisher::new(sample::lineage_of(&store), WRITER, 1, None, Lsn(0));
    for number in 0..=sample.head.number {
        let id = CommitId { number, ..sample.head };
        publisher.prepare(draft(&sample, as_commit(id, &sample.objects[&KEYS.commit(id)])));
        publisher.settle().await.unwrap();
    }
    assert_eq!(store.get(&sample.head_key()).await.unwrap(), sample.commit());
}

fn commit(sample: &Sample) {
    let object = sample.commit();
    let fetched = as_commit(sample.head, object);
    let before = sample.image.of();
    let before = as_commit(before, &sample.objects[&KEYS.commit(before)]);
    let Commit { segments, .. } = &fetched.commit;
    let expected = Commit {
        volume: VOLUME,
        id: sample.head,
        writer: WRITER,
        previous: Some(before.reference()),
        base: before.commit.end,
        end: Lsn(before.commit.end.0 + 3),
        chain: fetched.commit.chain,
        state: loaded(StateHash::of(&sample.newest)),
        time: time(10),
        segments: segments.clone(),
        image: Some(sample.image.clone()),
        checkpoint: Some("naïve".to_owned()),
        metadata: rfs_journal::ByteSection(b"flight 17".to_vec()),
        rewound: fetched.commit.rewound.clone(),
    };
    assert_eq!(fetched.commit, expected);
    let places: Vec<_> = segments.iter().map(|added| (added.id, added.key.clone())).collect();
    let next = SegmentId(sample.head.number);
    let uploaded = KEYS.segment(next, 1, WRITER);
    assert_eq!(places, [(next, Some(uploaded)), (next.next(), None)]);
    assert_eq!(fetched.inline, object.slice(fetched.inline_start as usize..));
    assert!(dump_object("golden", &sample.head_key(), object).unwrap().contains("naïve"));
}

/// What was to be committed, from what was.
fn draft(sample: &Sample, fetched: FetchedCommit) -> Draft {
    let Commit { end, chain, state, time, segments, image, checkpoint, metadata, rewound, .. } =
        fetched.commit;
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
    Draft {
        end,
        chain,
        state,
        time,
        segments,
        inline: pieces,
        image,
        checkpoint,
        metadata: metadata.0,
        rewound,
    }
}

#[tokio::test]
async fn image_v1() {
    whole_image(&sample::version_1().await).await;
}

#[tokio::test]
async fn image_v2() {
    whole_image(&sample::version_2().await).await;
}

fn as_whole(sample: &Sample) -> &WholeImage {
    let ImageRef::Whole(image) = &sample.image else { panic!("images were whole") };
    image
}

async fn whole_image(sample: &Sample) {
    let store = sample.store_with(&[]);
    let image = as_whole(sample);
    let (body, segments, tree) = read_image(&sample::lineage_of(&store), image).await.unwrap();
    let end = as_commit(FIRST, &sample.objects[&KEYS.commit(FIRST)]).commit.end;
    assert_eq!((body.volume, body.of, body.lsn), (VOLUME, FIRST, end));
    assert_eq!((body.state, body.next_segment), (loaded(StateHash::of(&sample.imaged)), SegmentId(1)));
    assert_eq!(segments.iter().map(|kept| kept.live).collect::<Vec<_>>(), [true]);
    assert_eq!(tree, sample.imaged);
    assert!(dump_object("golden", &image.key, sample.image()).unwrap().contains("ImageBody"));
}

/// How pages are compressed is the compressor's affair: so what is in them is compared, and not where they are.
#[tokio::test]
async fn pages_v3() {
    let sample = sample::version_3().await;
    let (shipped, tree) = paged_image(&sample).await;
    assert_eq!(tree, sample.imaged);
    let made = sample::make().await;
    let (mut made, _) = paged_image(&made).await;
    // Heads of version 1 have no map of the names by inode.
    let links = std::mem::replace(&mut made.tree.links, Root { page: None, height: 0, len: 0 });
    assert_eq!(links.len, made.tree.entries.len);
    made.roots.retain(|(page, _)| Some(*page) != links.page);
    assert_eq!(placeless(shipped), placeless(made));
}

#[tokio::test]
async fn pages_v4() {
    pages(&sample::version_4().await).await;
}

#[tokio::test]
async fn pages_v5() {
    pages(&sample::version_5().await).await;
}

async fn pages(sample: &Sample) {
    let (shipped, tree) = paged_image(sample).await;
    assert_eq!(tree, sample.imaged);
    let made = sample::make().await;
    let (made, _) = paged_image(&made).await;
    assert_eq!(placeless(shipped), placeless(made));
}

async fn paged_image(sample: &Sample) -> (ImageHead, Tree) {
    let store = sample.store_with(&[]);
    let pages = sample::pages_of(&store);
    let (head, base) = read_head(&pages, &sample.paged()).await.unwrap();
    let commit = as_commit(head.of, &sample.objects[&KEYS.commit(head.of)]).commit;
    assert_eq!((head.volume, head.of, head.lsn), (VOLUME, sample.image.of(), commit.end));
    assert_eq!((head.chain, head.state, head.next_segment), (commit.chain, commit.state, SegmentId(2)));
    let mut tree = base.tree().unwrap().clone();
    pages.load_all(&tree).await.unwrap();
    if tree.lacks_links() {
        loaded(tree.index_links());
    }
    tree.check().unwrap();
    assert_eq!(StateHash::of(&tree), Ok(head.state));
    let objects = || base.objects().iter().map(|pair| pair.map(|(object, _)| *object)).collect();
    let objects: Vec<_> = pages.ask(objects).await.unwrap();
    assert_eq!(objects, [FIRST_PAGES, PAGES], "it stores what changed, and no more");
    let segments = || base.segments().iter().map(|pair| pair.map(|(id, _)| *id)).collect();
    let segments: Vec<_> = pages.ask(segments).await.unwrap();
    assert_eq!(segments, [SegmentId(0), SegmentId(1)]);
    (head, tree)
}

fn placeless(mut head: ImageHead) -> ImageHead {
    let placeless = |page: &mut PageRef| *page = PageRef { offset: 0, len: 0, hash: [0; 16], ..*page };
    let tree = &mut head.tree;
    let roots: [&mut Root; 9] = [
        &mut tree.inodes,
        &mut tree.entries,
        &mut tree.listing,
        &mut tree.links,
        &mut tree.extents,
        &mut tree.xattrs,
        &mut tree.segments,
        &mut head.segments,
        &mut head.objects,
    ];
    roots.into_iter().filter_map(|root| root.page.as_mut()).for_each(placeless);
    head.roots.iter_mut().for_each(|(page, bytes)| {
        placeless(page);
        bytes.0.clear();
    });
    head
}

#[tokio::test]
async fn every_kind_of_item_is_in_the_sample() {
    let name = |item: &Item| format!("{item:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned();
    let tree = sample::make().await.newest;
    let kinds: BTreeSet<String> = loaded(tree.items()).map(|item| name(&item)).collect();
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
    is_written_on(&sample::version_1().await).await;
}

#[tokio::test]
async fn a_volume_v2() {
    is_written_on(&sample::version_2().await).await;
}

#[tokio::test]
async fn a_volume_v3() {
    is_written_on(&sample::version_3().await).await;
}

#[tokio::test]
async fn a_volume_v4() {
    is_written_on(&sample::version_4().await).await;
}

#[tokio::test]
async fn a_volume_v5() {
    is_written_on(&sample::version_5().await).await;
}

async fn is_written_on(sample: &Sample) {
    let store = sample.store_with(&[]);
    let stored = opens(&store, sample, CommitId { epoch: 2, number: 0 }).await;
    for stored in &stored {
        let footer = fetch_footer(&sample::lineage_of(&store), stored).await.unwrap();
        assert_eq!(footer.base, stored.header.base);
    }
    take_over(&sample::lineage_of(&store), NEXT_WRITER, time(30)).await.unwrap();
    opens(&store, sample, CommitId { epoch: 3, number: 0 }).await;
}

async fn opens(store: &Store, sample: &Sample, slot: CommitId) -> Vec<StoredSegment> {
    let pages = sample::pages_of(store);
    let listing = list(&sample::lineage_of(store)).await.unwrap();
    assert_eq!(listing.slot, slot);
    let head = listing.head.unwrap();
    let state = load(&pages, &listing.ids, head).await.unwrap();
    pages.load_all(&state.tree).await.unwrap();
    assert_eq!(state.tree, sample.newest);
    assert_eq!(state.state, loaded(StateHash::of(&sample.newest)));
    assert_eq!(state.commit.map(|commit| commit.id), Some(sample.head));
    let end = as_commit(sample.head, sample.commit()).commit.end;
    assert_eq!((state.lsn, state.next_segment), (end, SegmentId(sample.head.number + 2)));
    state.tree.check().unwrap();
    let segments = || state.segments.iter().map(|pair| pair.map(|(_, stored)| stored.clone())).collect();
    let segments: Vec<StoredSegment> = pages.ask(segments).await.unwrap();
    assert_eq!(segments.len() as u64, sample.head.number + 2);
    segments
}

/// Each kind of object with a version to come and the right checksum.
#[tokio::test]
async fn a_later_version_is_refused_by_name() {
    let sample = sample::make().await;
    let refuses = |error: RecoveryError, key: &str| {
        assert!(matches!(error, RecoveryError::UnknownFormat { version: 6, newest: 5, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(key) && text.contains("newer rfs"), "{text}");
    };
    let object = later(sample.superblock());
    refuses(read_superblock(&sample.store_with(&[(SUPERBLOCK, &object)])).await.unwrap_err(), SUPERBLOCK);
    let objects = [(sample.head, later(sample.commit())), (sample.fence_id(), later(sample.fence()))];
    for (id, object) in objects {
        let key = KEYS.commit(id);
        let store = sample.store_with(&[(&key, &object)]);
        refuses(list(&sample::lineage_of(&store)).await.unwrap_err(), &key);
        refuses(read_commit(&sample::lineage_of(&store), id).await.unwrap_err(), &key);
        refuses(take_over(&sample::lineage_of(&store), 1, time(30)).await.unwrap_err(), &key);
    }
    let before = sample::version_2().await;
    let (key, object) = (before.image_key(), later(before.image()));
    let store = before.store_with(&[(&key, &object)]);
    refuses(read_image(&sample::lineage_of(&store), as_whole(&before)).await.unwrap_err(), &key);

    let image = sample.paged();
    let mut object = sample.image().to_vec();
    object[image.head.offset as usize] += 1;
    let head = page_ref(PAGES, image.head.offset, &object[image.head.offset as usize..]);
    let key = sample.image_key();
    let store = sample.store_with(&[(&key, &object.into())]);
    let error = read_head(&sample::pages_of(&store), &PagedImage { head, ..image }).await.unwrap_err();
    assert!(matches!(error, RecoveryError::UnknownFormat { version: 3, newest: 2, .. }), "{error}");
    assert!(error.to_string().contains(&key), "{error}");
}

/// The object with the version after the newest.
fn later(object: &Bytes) -> Bytes {
    let mut later = object.to_vec();
    later[8] = FORMAT as u8 + 1;
    crate::made_up::reseal(&mut later);
    later.into()
}
