//! Objects that are made up by someone who knows the format: the checksums are right, what they cover is not.
//!
//! Such an object is refused, or it says what another object could say. It never makes the reader panic, or take
//! memory by the word of a length.

use bytes::Bytes;
use rfs_backends::Store;
use rfs_core::{Lsn, SegmentId, StateHash, Tree};
use rfs_recovery::commit_log::{list, read_superblock};
use rfs_recovery::image::{ImageBody, read_image, read_image_segments};
use rfs_recovery::objects::{Commit, CommitObject, ImageRef, WholeImage, decode_commit};
use rfs_recovery::state::load;
use rfs_recovery::{ObjectHash, RecoveryError, SUPERBLOCK, dump_object};
use rfs_testkit::{Rng, loaded};

use crate::sample::{self, KEYS, Sample, VOLUME};

const HEADER: usize = 48;
const TRIES: u64 = 3_000;

/// Gives an object the checksum that its header and body have; returns it.
pub(crate) fn reseal(object: &mut [u8]) -> ObjectHash {
    let body_end = HEADER + body_len(object);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&object[..16]).update(&object[HEADER..body_end]);
    let hash = *hasher.finalize().as_bytes();
    object[16..HEADER].copy_from_slice(&hash);
    ObjectHash(hash)
}

fn body_len(object: &[u8]) -> usize {
    u32::from_le_bytes([object[12], object[13], object[14], object[15]]) as usize
}

/// The object with another body in its place, sealed.
fn with_body<T: serde::Serialize>(object: &Bytes, body: &T) -> (Bytes, ObjectHash) {
    let body = postcard::to_stdvec(body).unwrap();
    let mut made = object[..HEADER].to_vec();
    made[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    made.extend(body);
    let hash = reseal(&mut made);
    made.extend_from_slice(&object[HEADER + body_len(object)..]);
    (made.into(), hash)
}

fn body<T: serde::de::DeserializeOwned>(object: &Bytes) -> T {
    postcard::from_bytes(&object[HEADER..HEADER + body_len(object)]).unwrap()
}

/// The object with a few bytes of its body changed, or bytes put in or taken out, sealed.
fn garbled(object: &Bytes, rng: &mut Rng) -> (Bytes, ObjectHash) {
    let body_end = HEADER + body_len(object);
    let mut body = object[HEADER..body_end].to_vec();
    for _ in 0..=rng.below(3) {
        let at = rng.index(body.len());
        match rng.below(4) {
            0 => body[at] ^= 1 << rng.below(8),
            1 => body[at] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => drop(body.splice(at..at, vec![0xff; 1 + rng.index(9)])),
            _ => drop(body.drain(at..body.len().min(at + 1 + rng.index(9)))),
        }
        if body.is_empty() {
            body.push(0);
        }
    }
    let mut made = object[..HEADER].to_vec();
    made[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    made.extend(body);
    let hash = reseal(&mut made);
    made.extend_from_slice(&object[body_end..]);
    (made.into(), hash)
}

/// Opens the volume with this object in the place of its own.
async fn open(sample: &Sample, key: &str, object: &Bytes) -> Result<StateHash, RecoveryError> {
    open_store(&sample.store_with(&[(key, object)])).await
}

async fn open_store(store: &Store) -> Result<StateHash, RecoveryError> {
    let superblock = read_superblock(store).await?;
    let listing = list(&sample::lineage_of(store)).await?;
    let empty = || loaded(StateHash::of(&Tree::new(superblock.created)));
    let Some(head) = listing.head else { return Ok(empty()) };
    let pages = sample::pages_of(store);
    let state = load(&pages, &listing.ids, head).await?;
    pages.load_all(&state.tree).await?;
    assert_eq!(StateHash::of(&state.tree), Ok(state.state), "a state is always the one that its hash names");
    state.tree.check().unwrap();
    Ok(state.state)
}

#[tokio::test(start_paused = true)]
async fn garbled_superblocks_commits_and_fences() {
    let sample = sample::make().await;
    let mut rng = Rng::new(1);
    let (mut refused, mut opened) = (0, 0);
    // The fence above would name the commit as it was.
    let unfenced = sample.without(&sample.fence_key());
    for _ in 0..TRIES {
        for (sample, key, object) in [
            (&sample, SUPERBLOCK.to_owned(), sample.superblock()),
            (&unfenced, sample.head_key(), sample.commit()),
            (&sample, sample.fence_key(), sample.fence()),
        ] {
            let (object, _) = garbled(object, &mut rng);
            match open(sample, &key, &object).await {
                Ok(_) => opened += 1,
                Err(error) => {
                    assert!(error.to_string().len() < 2_000, "{error}");
                    refused += 1;
                }
            }
            // Whatever it says can be shown, or is refused.
            let _ = dump_object("made up", &key, &object);
        }
    }
    assert!(refused > opened, "{refused} were refused, {opened} told another story");
}

#[tokio::test(start_paused = true)]
async fn garbled_whole_images() {
    let sample = sample::version_2().await;
    let image = as_whole(&sample);
    let whole: ImageBody = body(sample.image());
    let attachment = sample.image().slice(HEADER + body_len(sample.image())..);
    let mut rng = Rng::new(2);
    for _ in 0..TRIES {
        let (object, hash) = if rng.chance(50) {
            garbled(sample.image(), &mut rng)
        } else {
            // The sections garbled, each with its own right checksum.
            let mut sections = attachment.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.index(sections.len());
                sections[at] = rng.next() as u8;
            }
            let (segments, items) = sections.split_at(whole.segments.len as usize);
            let mut made = whole.clone();
            made.segments.hash = *blake3::hash(segments).as_bytes();
            made.items.hash = *blake3::hash(items).as_bytes();
            let head = sample.image().slice(..HEADER + body_len(sample.image()));
            let (head, hash) = with_body(&head, &made);
            (Bytes::from([head.to_vec(), sections].concat()), hash)
        };
        let image = WholeImage { hash, ..image.clone() };
        let store = sample.store_with(&[(&image.key, &object)]);
        let segments = read_image_segments(&sample::lineage_of(&store), &image).await;
        if let Ok((body, of_image, tree)) = read_image(&sample::lineage_of(&store), &image).await {
            assert_eq!(StateHash::of(&tree), Ok(body.state));
            assert_eq!(segments.unwrap(), of_image);
            tree.check().unwrap();
        }
    }
}

fn as_whole(sample: &Sample) -> &WholeImage {
    let ImageRef::Whole(image) = &sample.image else { panic!("images were whole") };
    image
}

pub(crate) fn as_commit(sample: &Sample) -> Commit {
    let commit = decode_commit("sim://", KEYS, sample.head, sample.commit()).unwrap();
    let CommitObject::Commit(commit) = commit else { panic!("it is a commit") };
    commit.commit
}

/// The commit with another body, as version 4 writes it.
pub(crate) fn with_commit(sample: &Sample, commit: &Commit) -> Bytes {
    let mut object = sample.commit().to_vec();
    object[8] = 4;
    with_body(&object.into(), commit).0
}

/// What is made of an object's body, and how.
type Make<T> = (&'static str, fn(&mut T));

/// Counts, lengths and numbers at the ends of their ranges.
#[tokio::test(start_paused = true)]
async fn numbers_at_their_ends() {
    let sample = sample::make().await;
    let whole: Commit = body(sample.commit());
    let change: [Make<Commit>; 12] = [
        ("base", |commit| commit.base = Lsn(u64::MAX)),
        ("end", |commit| commit.end = Lsn(u64::MAX)),
        ("both", |commit| (commit.base, commit.end) = (Lsn(u64::MAX), Lsn(u64::MAX))),
        ("segment id", |commit| commit.segments[0].id = SegmentId(u64::MAX)),
        ("segment length", |commit| commit.segments[0].len = u64::MAX),
        ("inlined length", |commit| commit.segments[1].len = u64::MAX),
        ("lengths that wrap", |commit| {
            let added = commit.segments[1].clone();
            commit.segments[1].len = u64::MAX;
            commit.segments.push(added);
        }),
        ("footer", |commit| commit.segments.iter_mut().for_each(|added| added.footer_len = u32::MAX)),
        ("no footer", |commit| commit.segments.iter_mut().for_each(|added| added.footer_len = 0)),
        ("a large segment without footer", |commit| {
            (commit.segments[0].len, commit.segments[0].footer_len) = (1 << 40, 0);
        }),
        ("an object of another kind", |commit| commit.segments[0].key = Some(SUPERBLOCK.to_owned())),
        ("no object at all", |commit| commit.segments[0].key = Some("../../etc".to_owned())),
    ];
    let key = sample.head_key();
    // The fence above would name the commit as it was.
    let sample = sample.without(&sample.fence_key());
    let truth = loaded(StateHash::of(&sample.newest));
    let mut refused = Vec::new();
    for (what, change) in change {
        let mut made = whole.clone();
        change(&mut made);
        let (object, _) = with_body(sample.commit(), &made);
        match open(&sample, &key, &object).await {
            Ok(state) => assert_eq!(state, truth, "{what}"),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("sim://") || text.contains(&format!("{VOLUME:032x}")),
                    "{what}: {text}"
                );
                refused.push(what);
            }
        }
    }
    // Where the footer is, is not asked by those who read the whole segment.
    assert_eq!(refused.len(), change.len() - 2, "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn numbers_of_whole_images_at_their_ends() {
    let sample = sample::version_2().await;
    let sample = sample.without(&sample.fence_key());
    let (key, named) = (sample.head_key(), as_whole(&sample));
    let image: ImageBody = body(sample.image());
    let change: [Make<ImageBody>; 6] = [
        ("count of segments", |image| image.segments.count = u64::MAX),
        ("length of segments", |image| image.segments.len = u64::MAX),
        ("count of items", |image| image.items.count = u64::MAX),
        ("length of items", |image| image.items.len = u64::MAX),
        ("next segment", |image| image.next_segment = SegmentId(u64::MAX)),
        ("LSN", |image| image.lsn = Lsn(u64::MAX)),
    ];
    for (what, change) in change {
        let mut made = image.clone();
        change(&mut made);
        let (object, hash) = with_body(sample.image(), &made);
        let mut naming = as_commit(&sample);
        naming.image = Some(ImageRef::Whole(WholeImage { hash, ..named.clone() }));
        let commit = with_commit(&sample, &naming);
        let store = sample.store_with(&[(&named.key, &object), (&key, &commit)]);
        open_store(&store).await.expect_err(what);
    }
}
