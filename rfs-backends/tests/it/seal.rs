//! Encrypted stores: what comes back is what was written, and nothing else opens.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rfs_backends::{Algorithm, Encryption, KeyWrapper, PutNew, Store, StoreErrorKind, StoreOptions};

const LENGTHS: [usize; 8] = [0, 1, 100, 65_535, 65_536, 65_537, 131_072, 410_001];

fn store(backend: &Arc<InMemory>, encryption: Option<Encryption>) -> Store {
    let options = StoreOptions::default().with_multipart_threshold(400_000);
    let options = match encryption {
        Some(encryption) => options.with_encryption(encryption),
        None => options,
    };
    Store::new(Arc::clone(backend) as Arc<dyn ObjectStore>, "sealed://", Path::from("v"), options)
}

fn content(len: usize) -> Bytes {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

async fn raw(backend: &InMemory, key: &str) -> Bytes {
    backend.get(&Path::from(format!("v/{key}"))).await.unwrap().bytes().await.unwrap()
}

async fn set_raw(backend: &InMemory, key: &str, bytes: Vec<u8>) {
    backend.put(&Path::from(format!("v/{key}")), bytes.into()).await.unwrap();
}

#[tokio::test]
async fn what_is_read_is_what_was_written() {
    for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
        let backend = Arc::new(InMemory::new());
        let key = Encryption::by_key([1; 32]).with_algorithm(algorithm);
        let written = store(&backend, Some(key));
        for len in LENGTHS {
            let (key, whole) = (format!("o{len}"), content(len));
            let chunks = vec![whole.slice(..len / 3), Bytes::new(), whole.slice(len / 3..)];
            written.put_large(&key, chunks).await.unwrap();
            assert_eq!(written.head(&key).await.unwrap().size, len as u64);
        }
        // Another process; what the volume is encrypted with it is told by the volume.
        let read = store(&backend, Some(Encryption::by_key([1; 32])));
        for object in read.list("", None).await.unwrap() {
            if object.key != "encryption" {
                assert_eq!(object.key, format!("o{}", object.size));
            }
        }
        for len in LENGTHS {
            let (key, whole) = (format!("o{len}"), content(len));
            assert_eq!(read.get(&key).await.unwrap(), whole);
            let ends = [0, 65_535, 65_536, 65_537, len.saturating_sub(1), len];
            for (start, end) in ends.iter().flat_map(|start| ends.map(|end| (*start, end))) {
                if start < end && end <= len {
                    let got = read.get_range(&key, start as u64..end as u64).await.unwrap();
                    assert_eq!(got, whole.slice(start..end), "{start}..{end} of {len}");
                }
            }
            let beyond = read.get_range(&key, len as u64 / 2..len as u64 + 1).await.unwrap_err();
            assert_eq!(beyond.kind(), StoreErrorKind::Truncated, "{beyond}");
            assert!(len < 32 || !raw(&backend, &key).await.windows(32).any(|part| part == &whole[..32]));
        }
    }
}

#[tokio::test]
async fn what_was_changed_moved_or_cut_is_damage() {
    let backend = Arc::new(InMemory::new());
    let sealed = store(&backend, Some(Encryption::by_key([1; 32])));
    let (one, two) = (content(140_000), content(140_001));
    sealed.put("one", one.clone()).await.unwrap();
    sealed.put("two", two).await.unwrap();
    let stored = raw(&backend, "one").await;
    let block = 65_536 + 49;
    let damages: Vec<Vec<u8>> =
        [16, 17, 40, 60, 16 + block - 1, 16 + block, 16 + 2 * block + 40, stored.len() - 1]
            .into_iter()
            .map(|at| {
                let mut damaged = stored.to_vec();
                damaged[at] ^= 1;
                damaged
            })
            .chain([
                // Cut between blocks, within one, and with a block too many, or two in each other's place.
                stored[..16 + block].to_vec(),
                stored[..16 + 2 * block + 10].to_vec(),
                [&stored[..], &stored[16..16 + block]].concat(),
                [
                    &stored[..16],
                    &stored[16 + block..16 + 2 * block],
                    &stored[16..16 + block],
                    &stored[16 + 2 * block..],
                ]
                .concat(),
                stored[..16].to_vec(),
            ])
            .collect();
    for damaged in damages {
        set_raw(&backend, "one", damaged).await;
        let error = sealed.get("one").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "{error}");
        // A range of what is not damaged may still be read, and is never anything else.
        for start in [0, 70_000, 139_000] {
            if let Ok(read) = sealed.get_range("one", start..start + 1000).await {
                assert_eq!(read, one.slice(start as usize..start as usize + 1000));
            }
        }
    }
    set_raw(&backend, "one", raw(&backend, "two").await.to_vec()).await;
    assert_eq!(sealed.get("one").await.unwrap_err().kind(), StoreErrorKind::Damaged);
    assert_eq!(sealed.get_range("one", 0..10).await.unwrap_err().kind(), StoreErrorKind::Damaged);
}

#[tokio::test]
async fn a_wrong_key_is_told() {
    let backend = Arc::new(InMemory::new());
    store(&backend, Some(Encryption::by_key([1; 32]))).put("a", content(10)).await.unwrap();
    let wrong = [
        Some(Encryption::by_key([2; 32])),
        Some(Encryption::by_passphrase("open")),
        Some(Encryption::by_wrapper(Arc::new(Service(3)))),
        None,
    ];
    for wrong in wrong {
        let error = store(&backend, wrong.clone()).get("a").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::WrongKey, "{wrong:?}: {error}");
    }
    // What is there was not encrypted.
    let backend = Arc::new(InMemory::new());
    store(&backend, None).put("a", content(10)).await.unwrap();
    let keyed = store(&backend, Some(Encryption::by_key([1; 32])));
    keyed.put("b", content(10)).await.unwrap();
    assert_eq!(keyed.get("a").await.unwrap_err().kind(), StoreErrorKind::WrongKey);
    // An object with a key that was damaged, or made up.
    let object = raw(&backend, "encryption").await.to_vec();
    for at in 0..object.len() {
        let mut damaged = object.clone();
        damaged[at] ^= 4;
        set_raw(&backend, "encryption", damaged).await;
        let error = store(&backend, Some(Encryption::by_key([1; 32]))).get("b").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "byte {at}: {error}");
    }
    set_raw(&backend, "encryption", Vec::new()).await;
    let error = store(&backend, Some(Encryption::by_key([1; 32]))).get("b").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Damaged);
}

/// A key service for tests: its key is one byte.
#[derive(Debug)]
struct Service(u8);

#[async_trait]
impl KeyWrapper for Service {
    async fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Ok([&[self.0][..], &key.map(|byte| byte ^ self.0)].concat())
    }

    async fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], Box<dyn std::error::Error + Send + Sync>> {
        match wrapped.split_first() {
            Some((by, key)) if *by == self.0 => {
                let key: [u8; 32] = key.try_into()?;
                Ok(key.map(|byte| byte ^ self.0))
            }
            _ => Err("it was wrapped by another service".into()),
        }
    }
}

#[tokio::test]
async fn keys_are_replaced_without_writing_anything_else() {
    let backend = Arc::new(InMemory::new());
    let by = [
        Encryption::by_key([1; 32]),
        Encryption::by_passphrase("correct horse"),
        Encryption::by_wrapper(Arc::new(Service(9))),
        Encryption::by_key([4; 32]),
    ];
    store(&backend, Some(by[0].clone())).put("a", content(100_000)).await.unwrap();
    let stored = raw(&backend, "a").await;
    for (old, new) in by.iter().zip(&by[1..]) {
        store(&backend, Some(old.clone())).rotate_key(new).await.unwrap();
        let read = store(&backend, Some(new.clone())).get("a").await.unwrap();
        assert_eq!(read, content(100_000));
        let error = store(&backend, Some(old.clone())).get("a").await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::WrongKey, "{error}");
    }
    assert_eq!(raw(&backend, "a").await, stored);
    let wrong = store(&backend, Some(Encryption::by_passphrase("incorrect horse")));
    assert_eq!(wrong.rotate_key(&by[0]).await.unwrap_err().kind(), StoreErrorKind::WrongKey);
    let plain = store(&Arc::new(InMemory::new()), None);
    assert_eq!(plain.rotate_key(&by[0]).await.unwrap_err().kind(), StoreErrorKind::WrongKey);
}

#[tokio::test]
async fn create_only_puts_know_whose_bytes_stand_there() {
    let backend = Arc::new(InMemory::new());
    let (one, two) = (
        store(&backend, Some(Encryption::by_key([1; 32]))),
        store(&backend, Some(Encryption::by_key([1; 32]))),
    );
    assert_eq!(one.put_new("commit", "mine".into()).await.unwrap(), PutNew::Created);
    assert_eq!(one.put_new("commit", "mine".into()).await.unwrap(), PutNew::Created);
    assert_eq!(two.put_new("commit", "yours".into()).await.unwrap(), PutNew::Exists("mine".into()));
    two.probe(7).await.unwrap();
}

#[tokio::test]
async fn the_same_bytes_show_only_where_they_are_written_again() {
    let backend = Arc::new(InMemory::new());
    let sealed = store(&backend, Some(Encryption::by_key([1; 32])));
    let same = Bytes::from(vec![0; 3 * 65_536]);
    sealed.put("a", same.clone()).await.unwrap();
    sealed.put("b", same.clone()).await.unwrap();
    let (a, b) = (raw(&backend, "a").await, raw(&backend, "b").await);
    let blocks = |stored: &Bytes| -> Vec<Bytes> {
        (0..3).map(|at| stored.slice(16 + at * 65_585..16 + (at + 1) * 65_585)).collect()
    };
    let mut all: Vec<Bytes> = blocks(&a).into_iter().chain(blocks(&b)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "no two blocks look alike");
    sealed.put("a", same).await.unwrap();
    assert_eq!(raw(&backend, "a").await, a, "a put that is repeated writes the same bytes");
}
