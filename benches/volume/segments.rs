//! The segments of a volume, as they are stored. `cargo xtask race` reads them, too.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

/// The segments that a store in memory has, in order: the key of each, and its bytes.
pub(crate) async fn segments_of(stored: &InMemory) -> Vec<(String, Bytes)> {
    let mut objects: Vec<_> = stored.list(None).try_collect().await.expect("the store lists");
    objects.retain(|object| object.location.as_ref().contains("/segments/"));
    objects.sort_by(|one, other| one.location.cmp(&other.location));
    let mut segments = Vec::new();
    for object in objects {
        let found = stored.get(&object.location).await.expect("the object is there");
        segments.push((object.location.to_string(), found.bytes().await.expect("the object is read")));
    }
    segments
}
