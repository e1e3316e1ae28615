//! Compressed objects, by the store's own calls.

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rfs_backends::{Encryption, Store, StoreErrorKind, StoreOptions};

/// Some megabytes of a log, with noise in the middle.
fn content() -> Vec<u8> {
    let mut content = Vec::new();
    for line in 0..40_000 {
        if (20_000..22_000).contains(&line) {
            content.extend(blake3::hash(&u32::to_le_bytes(line)).as_bytes());
        } else {
            content
                .extend(format!("{line:08} the state was written and what was written was synced\n").bytes());
        }
    }
    content
}

fn stores() -> Vec<(&'static str, Arc<InMemory>, Store)> {
    let encrypted = StoreOptions::default().with_encryption(Encryption::by_key([7; 32]));
    let in_parts = StoreOptions::default().with_multipart_threshold(100_000).with_part_bytes(50_000);
    [("plain", StoreOptions::default()), ("in parts", in_parts), ("encrypted", encrypted)]
        .map(|(what, options)| {
            let backend = Arc::new(InMemory::new());
            (what, Arc::clone(&backend), Store::new(backend, "mine://", Path::default(), options))
        })
        .into()
}

/// Another client of the same store, which has read nothing.
fn fresh(backend: &Arc<InMemory>, like: &str) -> Store {
    let options = StoreOptions::default();
    let options =
        if like == "encrypted" { options.with_encryption(Encryption::by_key([7; 32])) } else { options };
    Store::new(Arc::clone(backend) as Arc<dyn ObjectStore>, "mine://", Path::default(), options)
}

#[tokio::test]
async fn what_was_put_is_read_whole_and_in_ranges() {
    let content = content();
    for (what, backend, store) in stores() {
        // In pieces that are no blocks.
        let chunks = content.chunks(100_001).map(Bytes::copy_from_slice).collect();
        store.put_large("a.z", chunks).await.unwrap();
        store.put("small.z", "text".into()).await.unwrap();
        store.put("empty.z", Bytes::new()).await.unwrap();
        let stored = store.head("a.z").await.unwrap().size;
        assert!(stored < content.len() as u64 / 6, "{what}: {stored} of {}", content.len());
        let len = content.len() as u64;
        for ranges in [0..1, 65_535..65_537, 0..len, len - 1..len, 1_000_000..1_400_000, 131_072..196_608] {
            let got = fresh(&backend, what).get_range("a.z", ranges.clone()).await.unwrap();
            assert_eq!(got, content[ranges.start as usize..ranges.end as usize], "{what}: {ranges:?}");
        }
        assert_eq!(fresh(&backend, what).get("a.z").await.unwrap(), content, "{what}");
        assert_eq!(fresh(&backend, what).get("small.z").await.unwrap(), "text");
        assert_eq!(fresh(&backend, what).get_range("small.z", 1..3).await.unwrap(), "ex");
        assert_eq!(fresh(&backend, what).get("empty.z").await.unwrap(), "");
        let error = fresh(&backend, what).get_range("a.z", len - 1..len + 1).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Truncated, "{what}: {error}");
    }
}

#[tokio::test]
async fn of_a_damaged_object_all_other_blocks_are_left() {
    let content = content();
    for (what, backend, store) in stores() {
        store.put_large("a.z", vec![content.clone().into()]).await.unwrap();
        store.put_large("a", vec![content.clone().into()]).await.unwrap();
        for key in ["a", "a.z"] {
            assert_eq!(
                fresh(&backend, what).salvage(key).await.unwrap(),
                content,
                "{what}: nothing is damaged"
            );
            let path = Path::from(key);
            let mut stored = backend.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
            // Not in the first block, which holds the table.
            let late = stored.len() / 4 * 3;
            stored[late] ^= 1;
            backend.put(&path, stored.clone().into()).await.unwrap();
            let left = fresh(&backend, what).salvage(key).await.unwrap();
            assert_eq!(left.len(), content.len(), "{what}: {key}");
            let differ = left.iter().zip(&content).filter(|(left, content)| left != content).count();
            // A sealed block may hold the ends of two compressed ones, and all that are smaller.
            let most = if what == "encrypted" && key == "a.z" { content.len() / 3 * 2 } else { 65_536 };
            assert!((1..=most).contains(&differ), "{what}: {key} has {differ} other bytes");
            // Cut: what was before is there.
            backend.put(&path, stored[..late].to_vec().into()).await.unwrap();
            let left = fresh(&backend, what).salvage(key).await.unwrap();
            assert_eq!(left[..content.len() / 3], content[..content.len() / 3], "{what}: {key}");
        }
        let missing = store.salvage("none").await.unwrap_err();
        assert_eq!(missing.kind(), StoreErrorKind::NotFound);
        let path = Path::from("a.z");
        backend.put(&path, b"RFS-ZIP".to_vec().into()).await.unwrap();
        let error = fresh(&backend, what).salvage("a.z").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "{what}: {error}");
    }
}

#[tokio::test]
async fn the_table_of_an_object_is_asked_for_once() {
    let (_, backend, store) = stores().swap_remove(0);
    store.put("a.z", content().into()).await.unwrap();
    let store = fresh(&backend, "plain");
    for start in [10, 1_000_000, 2_000_000] {
        store.get_range("a.z", start..start + 100).await.unwrap();
    }
    let metered = store.meter().snapshot();
    assert_eq!(metered.requests(), 4, "{metered}");
    assert!(metered.bytes() < 40_000, "{metered}");
}

/// A table that is longer than what is read to begin with.
#[tokio::test]
async fn long_objects_have_long_tables() {
    let (_, backend, store) = stores().swap_remove(0);
    let content = vec![b'x'; 600 * 65_536 + 5];
    store.put("a.z", content.into()).await.unwrap();
    let got = fresh(&backend, "plain").get_range("a.z", 39_000_000..39_000_003).await.unwrap();
    assert_eq!(got, "xxx");
}

#[tokio::test]
async fn what_is_written_anew_is_read_anew() {
    let (_, backend, store) = stores().swap_remove(0);
    store.put("a.z", content().into()).await.unwrap();
    let reader = fresh(&backend, "plain");
    reader.get_range("a.z", 5..10).await.unwrap();
    let other = content().repeat(2).split_off(77);
    store.put("a.z", other.clone().into()).await.unwrap();
    assert_eq!(store.get_range("a.z", 3_000_000..3_000_010).await.unwrap(), other[3_000_000..3_000_010]);
    assert_eq!(reader.get_range("a.z", 3_000_000..3_000_010).await.unwrap(), other[3_000_000..3_000_010]);
}

#[tokio::test]
async fn damage_is_told() {
    let (_, backend, store) = stores().swap_remove(0);
    store.put("a.z", content().into()).await.unwrap();
    let path = Path::from("a.z");
    let whole = backend.get(&path).await.unwrap().bytes().await.unwrap();
    for at in [3, 9, 17, 25, 40, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 4;
        backend.put(&path, damaged.into()).await.unwrap();
        let error = fresh(&backend, "plain").get("a.z").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "byte {at}: {error}");
        let error = fresh(&backend, "plain").get_range("a.z", 0..content().len() as u64).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "byte {at}: {error}");
    }
    for len in [0, 10, 40, 1000, whole.len() - 1] {
        backend.put(&path, whole.slice(..len).into()).await.unwrap();
        let error = fresh(&backend, "plain").get("a.z").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "cut to {len}: {error}");
        fresh(&backend, "plain").get_range("a.z", 0..content().len() as u64).await.unwrap_err();
    }
    backend.put(&path, "not compressed".into()).await.unwrap();
    let error = fresh(&backend, "plain").get("a.z").await.unwrap_err();
    assert!(error.to_string().contains("not compressed"), "{error}");
}

#[tokio::test]
async fn what_is_created_exclusively_is_not_compressed() {
    let (_, _, store) = stores().swap_remove(0);
    let error = store.put_new("a.z", "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::BadKey, "{error}");
}
