//! What stands in envelopes: superblock, commit, fence, pin, what a collection keeps, whole images.

use bytes::Bytes;
use rfs_core::{CommitId, StateHash, Timestamp};
use rfs_recovery::commit_log::read_superblock;
use rfs_recovery::image::{ImageBody, Section, read_image, read_image_segments};
use rfs_recovery::objects::{Commit, CommitObject, Fence, WholeImage, decode_commit};
use rfs_recovery::pins::{FoundKept, Kept, Pin, read_kept, read_pin};
use rfs_recovery::{Home, Keys, Lineage, ObjectHash, SUPERBLOCK, dump_object};

use crate::store::{wait, with};
use crate::{VOLUME, choices, mend};

const STORE: &str = "fuzz://";
const ELSEWHERE: CommitId = CommitId { epoch: 1, number: 0 };

/// An object that is no image, read as each kind of object at the name that it says it stands at.
pub fn object(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let mut object = bytes.to_vec();
    if choice & 1 != 0 {
        mend::object(&mut object);
    }
    let object = Bytes::from(object);
    let _ = dump_object(STORE, "fuzz", &object);
    let body = mend::object_parts(&object).map_or(&[][..], |(body, _)| body);
    as_commit(&object, body);
    if wait(read_superblock(&with(SUPERBLOCK, &object))).is_ok() {
        return;
    }
    let pin = postcard::take_from_bytes::<Pin>(body).ok().map(|(pin, _)| (pin.volume, pin.id));
    let (volume, id) = pin.unwrap_or((VOLUME, 0));
    let keys = Keys(volume);
    let home = Home { store: with(&keys.pin(id), &object), keys };
    if let Ok(Some(pin)) = wait(read_pin(&home, id)) {
        let _ = pin.is_over(Timestamp::from_nanos(0));
        comes_back(&pin);
    }
    let volume = postcard::take_from_bytes::<Kept>(body).map_or(VOLUME, |(kept, _)| kept.volume);
    let keys = Keys(volume);
    let home = Home { store: with(&keys.kept(7), &object), keys };
    if let Ok(FoundKept { kept: Some(kept), .. }) = wait(read_kept(&home)) {
        let _ = kept.keeps(ELSEWHERE);
        comes_back(&kept);
    }
}

fn as_commit(object: &Bytes, body: &[u8]) {
    let commit = postcard::take_from_bytes::<Commit>(body).ok().map(|(commit, _)| (commit.volume, commit.id));
    let fence = postcard::take_from_bytes::<Fence>(body).ok().map(|(fence, _)| (fence.volume, fence.at));
    // Commits before version 4 begin in the same way.
    let start = postcard::take_from_bytes::<(u128, CommitId)>(body).ok().map(|(start, _)| start);
    for (volume, id) in [commit, fence, start].into_iter().flatten() {
        match decode_commit(STORE, Keys(volume), id, object) {
            Ok(CommitObject::Commit(found)) => {
                assert!(found.commit.id == id && found.commit.volume == volume, "it stands where it says");
                assert_eq!(found.inline_start + found.inline.len() as u64, object.len() as u64);
                comes_back(&found.commit);
            }
            Ok(CommitObject::Fence(fence)) => {
                assert!(fence.at == id && fence.volume == volume, "it stands where it says");
                comes_back(&fence);
            }
            Err(_) => {}
        }
    }
}

/// A whole image of version 1 or 2: `length of the body, body, sections`.
pub fn whole_image(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let mut object = bytes.to_vec();
    let mut hash = ObjectHash([0; 32]);
    if choice & 1 != 0 {
        hash = mend::object(&mut object);
        if let Some((mended, its)) = mended_sections(&object) {
            (object, hash) = (mended, its);
        }
    }
    let body = mend::object_parts(&object).map_or(&[][..], |(body, _)| body);
    let body = postcard::take_from_bytes::<ImageBody>(body).ok().map(|(body, _)| body);
    let (volume, of) = body.map_or((VOLUME, ELSEWHERE), |body| (body.volume, body.of));
    let key = Keys(volume).image(of, 1);
    let lineage = Lineage::alone(with(&key, &object), Keys(volume), Timestamp::from_nanos(0));
    let image = WholeImage { of, key, hash };
    let segments = wait(read_image_segments(&lineage, &image));
    if let Ok((body, of_image, tree)) = wait(read_image(&lineage, &image)) {
        assert_eq!(StateHash::of(&tree), Ok(body.state), "the tree is the one that its hash names");
        assert_eq!(tree.check(), Ok(()));
        assert_eq!(segments.ok(), Some(of_image));
    }
}

/// The image with sections that have their lengths and hashes: the first ends where it says, the second with the bytes.
fn mended_sections(object: &[u8]) -> Option<(Vec<u8>, ObjectHash)> {
    let (body, sections) = mend::object_parts(object)?;
    let (mut body, rest) = postcard::take_from_bytes::<ImageBody>(body).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let cut = usize::try_from(body.segments.len).unwrap_or(usize::MAX).min(sections.len());
    let (segments, items) = sections.split_at(cut);
    let mended = |section: Section, bytes: &[u8]| Section {
        len: bytes.len() as u64,
        hash: *blake3::hash(bytes).as_bytes(),
        ..section
    };
    body.segments = mended(body.segments, segments);
    body.items = mended(body.items, items);
    let body = postcard::to_stdvec(&body).ok()?;
    let mut made = object[..48].to_vec();
    made[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    made.extend(body);
    made.extend_from_slice(sections);
    let hash = mend::object(&mut made);
    Some((made, hash))
}

fn comes_back<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq,
{
    let bytes = postcard::to_stdvec(value).expect("what was decoded can be encoded");
    assert!(postcard::from_bytes::<T>(&bytes).ok().as_ref() == Some(value), "it comes back");
}
