//! The checks, each on keys of its own.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    Error, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    path::Path,
};
use std::{collections::BTreeSet, ops::Bound, sync::Arc};
use tokio::task::JoinSet;

/// Nothing, or why the check fails.
pub(crate) type Outcome = Result<(), String>;

/// S3's smallest part.
const PART: usize = 5 << 20;

/// Requests under way at once where a check makes many.
const AT_ONCE: usize = 16;

/// The store under test, and a corner of it.
pub(crate) struct Ground {
    store: Arc<dyn ObjectStore>,
    root: String,
    seed: u64,
}

impl Ground {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self { store, root: format!("rfs-conformance-{seed:016x}"), seed }
    }

    pub(crate) async fn clean(&self) -> Outcome {
        let root = Path::from(self.root.as_str());
        let left = self.list(&root, None).await?;
        let keys = stream::iter(left.into_iter().map(|meta| Ok(meta.location))).boxed();
        self.store.delete_stream(keys).try_for_each(|_| async { Ok(()) }).await.map_err(text("deleting"))?;
        match self.list(&root, None).await?.len() {
            0 => Ok(()),
            left => Err(format!("{left} objects are left under {root}")),
        }
    }

    fn key(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.root))
    }

    /// Bytes that depend on the seed and on `salt` in every place.
    fn bytes(&self, salt: u64, length: usize) -> Bytes {
        let mut state = self.seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            bytes.extend_from_slice(&(state ^ (state >> 33)).to_le_bytes());
        }
        bytes.truncate(length);
        bytes.into()
    }

    async fn put(&self, key: &Path, bytes: &Bytes) -> Outcome {
        self.store.put(key, bytes.clone().into()).await.map_err(text("putting"))?;
        Ok(())
    }

    async fn create(&self, key: &Path, bytes: &Bytes) -> Result<(), Error> {
        self.store.put_opts(key, bytes.clone().into(), PutMode::Create.into()).await.map(drop)
    }

    async fn read(&self, key: &Path) -> Result<Bytes, String> {
        self.store.get(key).await.map_err(text("getting"))?.bytes().await.map_err(text("reading"))
    }

    async fn expect(&self, key: &Path, bytes: &Bytes) -> Outcome {
        let found = self.read(key).await?;
        if found == *bytes {
            return Ok(());
        }
        let same = found.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        Err(format!("{} bytes instead of {}, the first {same} of them right", found.len(), bytes.len()))
    }

    async fn expect_missing(&self, key: &Path) -> Outcome {
        match self.store.get(key).await {
            Err(Error::NotFound { .. }) => {}
            Err(other) => return Err(format!("getting it fails otherwise: {other}")),
            Ok(found) => return Err(format!("getting it finds {} bytes", found.meta.size)),
        }
        match self.store.head(key).await {
            Err(Error::NotFound { .. }) => Ok(()),
            Err(other) => Err(format!("looking at it fails otherwise: {other}")),
            Ok(found) => Err(format!("looking at it finds {} bytes", found.size)),
        }
    }

    async fn list(&self, prefix: &Path, after: Option<&Path>) -> Result<Vec<ObjectMeta>, String> {
        let listing = match after {
            Some(after) => self.store.list_with_offset(Some(prefix), after),
            None => self.store.list(Some(prefix)),
        };
        listing.try_collect().await.map_err(text("listing"))
    }

    async fn expect_listed(&self, prefix: &Path, after: Option<&Path>, keys: &BTreeSet<Path>) -> Outcome {
        let listed = self.list(prefix, after).await?;
        let found: BTreeSet<_> = listed.iter().map(|meta| meta.location.clone()).collect();
        if let Some(lost) = keys.difference(&found).next() {
            return Err(format!(
                "{} of {} keys are not listed, {lost} among them",
                keys.difference(&found).count(),
                keys.len()
            ));
        }
        if let Some(extra) = found.difference(keys).next() {
            return Err(format!("{extra} is listed"));
        }
        if listed.len() > found.len() {
            return Err(format!("{} keys are listed twice", listed.len() - found.len()));
        }
        Ok(())
    }
}

pub(crate) async fn put_get(ground: &Ground) -> Outcome {
    for (salt, length) in [(1, 1), (2, 100), (3, 70_000)] {
        let (key, bytes) = (ground.key(&format!("put-get-{length}")), ground.bytes(salt, length));
        ground.put(&key, &bytes).await?;
        ground.expect(&key, &bytes).await?;
    }
    Ok(())
}

pub(crate) async fn put_pieces(ground: &Ground) -> Outcome {
    let (key, bytes) = (ground.key("pieces"), ground.bytes(4, 50_000));
    let pieces: PutPayload = (0..50).map(|piece| bytes.slice(piece * 1000..(piece + 1) * 1000)).collect();
    ground.store.put(&key, pieces).await.map_err(text("putting"))?;
    ground.expect(&key, &bytes).await
}

pub(crate) async fn empty(ground: &Ground) -> Outcome {
    let key = ground.key("empty");
    ground.put(&key, &Bytes::new()).await?;
    ground.expect(&key, &Bytes::new()).await
}

pub(crate) async fn overwrite(ground: &Ground) -> Outcome {
    let key = ground.key("overwrite");
    for (salt, length) in [(5, 3000), (6, 10), (7, 3000)] {
        let bytes = ground.bytes(salt, length);
        ground.put(&key, &bytes).await?;
        ground.expect(&key, &bytes).await?;
    }
    Ok(())
}

pub(crate) async fn ranges(ground: &Ground) -> Outcome {
    let (key, bytes) = (ground.key("ranges"), ground.bytes(8, 20_000));
    ground.put(&key, &bytes).await?;
    for (start, end) in [(0, 1), (0, 20_000), (19_999, 20_000), (1, 2), (4095, 8193), (10_000, 20_000)] {
        let range = start as u64..end as u64;
        let found = ground.store.get_range(&key, range).await.map_err(text("reading a range"))?;
        if found != bytes.slice(start..end) {
            return Err(format!("{start}..{end} of 20000 gives {} bytes, or wrong ones", found.len()));
        }
    }
    Ok(())
}

pub(crate) async fn range_past_end(ground: &Ground) -> Outcome {
    let (key, bytes) = (ground.key("past-end"), ground.bytes(9, 100));
    ground.put(&key, &bytes).await?;
    let options = GetOptions::new().with_range(Some(90..200));
    if let Ok(answer) = ground.store.get_opts(&key, options).await {
        let said = answer.range.clone();
        let found = answer.bytes().await.map_err(text("reading"))?;
        if said != (90..100) || found != bytes.slice(90..) {
            return Err(format!("90..200 of 100 gives {} bytes, said to be {said:?}", found.len()));
        }
    }
    match ground.store.get_range(&key, 150..160).await {
        Ok(found) if !found.is_empty() => Err(format!("150..160 of 100 gives {} bytes", found.len())),
        _ => Ok(()),
    }
}

pub(crate) async fn missing(ground: &Ground) -> Outcome {
    ground.expect_missing(&ground.key("never-written")).await
}

pub(crate) async fn sizes(ground: &Ground) -> Outcome {
    let key = ground.key("sizes/object");
    ground.put(&key, &ground.bytes(10, 12_345)).await?;
    let looked = ground.store.head(&key).await.map_err(text("looking"))?.size;
    let listed = ground.list(&ground.key("sizes"), None).await?;
    let listed = listed.first().ok_or("the object is not listed")?.size;
    let read = ground.store.get(&key).await.map_err(text("getting"))?.meta.size;
    if (looked, listed, read) == (12_345, 12_345, 12_345) {
        return Ok(());
    }
    Err(format!("12345 bytes are {looked} when looked at, {listed} when listed, {read} when read"))
}

pub(crate) async fn keys(ground: &Ground) -> Outcome {
    let hex64 = format!("{:064x}", u128::from(ground.seed) << 17);
    let names = [
        "keys/0000000000000001/0000000000000000".to_owned(),
        "keys/ffffffffffffffff/00000000000000ff".to_owned(),
        format!("keys/{hex64}"),
        format!("keys/{hex64}.seg"),
        "keys/with space, comma=and-dash_and.dot".to_owned(),
        format!("keys/{}", "n".repeat(200)),
    ];
    let mut all = BTreeSet::new();
    for (salt, name) in names.iter().enumerate() {
        let (key, bytes) = (ground.key(name), ground.bytes(salt as u64 + 100, 40));
        ground.put(&key, &bytes).await?;
        ground.expect(&key, &bytes).await.map_err(|why| format!("{name}: {why}"))?;
        all.insert(key);
    }
    ground.expect_listed(&ground.key("keys"), None, &all).await
}

pub(crate) async fn create_refuses(ground: &Ground) -> Outcome {
    let (key, other) = (ground.key("create"), ground.key("create-over-put"));
    ground.create(&key, &ground.bytes(11, 50)).await.map_err(text("creating"))?;
    refused(ground.create(&key, &ground.bytes(12, 50)).await, "a created object")?;
    ground.put(&other, &ground.bytes(13, 50)).await?;
    refused(ground.create(&other, &ground.bytes(14, 50)).await, "a put object")
}

pub(crate) async fn create_leaves(ground: &Ground) -> Outcome {
    let (key, first) = (ground.key("create-leaves"), ground.bytes(15, 500));
    ground.create(&key, &first).await.map_err(text("creating"))?;
    for salt in 16..20 {
        // Whether it is refused is for another check.
        let _ = ground.create(&key, &ground.bytes(salt, 500)).await;
    }
    ground.expect(&key, &first).await
}

fn refused(outcome: Result<(), Error>, what: &str) -> Outcome {
    match outcome {
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Err(other) => Err(format!("creating {what} again fails otherwise: {other}")),
        Ok(()) => Err(format!("{what} was created again")),
    }
}

pub(crate) async fn race(ground: &Ground, keys: usize, racers: usize) -> Outcome {
    for race in 0..keys {
        let key = ground.key(&format!("race-{race:04}"));
        let mut running = JoinSet::new();
        for racer in 0..racers {
            // Tasks of their own, so that a store in this process is raced by threads where the runtime has several.
            let (store, key, bytes) =
                (Arc::clone(&ground.store), key.clone(), ground.bytes(racer as u64 + 1000, 64));
            running.spawn(async move {
                (store.put_opts(&key, bytes.clone().into(), PutMode::Create.into()).await, bytes)
            });
        }
        let mut winners = Vec::new();
        while let Some(finished) = running.join_next().await {
            let (outcome, bytes) = finished.map_err(|failure| format!("a creator panicked: {failure}"))?;
            match outcome {
                Ok(_) => winners.push(bytes),
                other => refused(other.map(drop), "a raced key")?,
            }
        }
        let [winner] = &winners[..] else {
            return Err(format!("{} of {racers} creators won {key}", winners.len()));
        };
        ground.expect(&key, winner).await.map_err(|why| format!("the winner's bytes do not stand: {why}"))?;
    }
    Ok(())
}

pub(crate) async fn delete(ground: &Ground) -> Outcome {
    let key = ground.key("delete/object");
    ground.put(&key, &ground.bytes(20, 10)).await?;
    ground.store.delete(&key).await.map_err(text("deleting"))?;
    ground.expect_missing(&key).await?;
    ground.expect_listed(&ground.key("delete"), None, &BTreeSet::new()).await
}

pub(crate) async fn delete_missing(ground: &Ground) -> Outcome {
    match ground.store.delete(&ground.key("never-there")).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(other) => Err(format!("deleting it fails: {other}")),
    }
}

pub(crate) async fn create_after_delete(ground: &Ground) -> Outcome {
    let (key, second) = (ground.key("again"), ground.bytes(22, 10));
    ground.create(&key, &ground.bytes(21, 10)).await.map_err(text("creating"))?;
    ground.store.delete(&key).await.map_err(text("deleting"))?;
    ground.create(&key, &second).await.map_err(text("creating again"))?;
    ground.expect(&key, &second).await
}

pub(crate) async fn list_prefix(ground: &Ground) -> Outcome {
    let inside = ["prefix/a/1", "prefix/a/2", "prefix/a/deep/er/3", "prefix/a/z"];
    let outside = ["prefix/ab", "prefix/a-b/1", "prefix/b/1", "prefix/0/1"];
    for name in inside.iter().chain(&outside) {
        ground.put(&ground.key(name), &Bytes::from_static(b"x")).await?;
    }
    let inside = inside.iter().map(|name| ground.key(name)).collect();
    ground.expect_listed(&ground.key("prefix/a"), None, &inside).await?;
    ground.expect_listed(&ground.key("prefix/none"), None, &BTreeSet::new()).await
}

pub(crate) async fn list_fresh(ground: &Ground) -> Outcome {
    let prefix = ground.key("fresh");
    let mut standing = BTreeSet::new();
    for number in 0..8 {
        let key = ground.key(&format!("fresh/{number:08}"));
        ground.create(&key, &Bytes::from_static(b"x")).await.map_err(text("creating"))?;
        standing.insert(key);
        ground.expect_listed(&prefix, None, &standing).await?;
        if number % 3 == 2
            && let Some(oldest) = standing.pop_first()
        {
            ground.store.delete(&oldest).await.map_err(text("deleting"))?;
            ground.expect_listed(&prefix, None, &standing).await?;
        }
    }
    Ok(())
}

pub(crate) async fn list_long(ground: &Ground, objects: usize) -> Outcome {
    let prefix = ground.key("long");
    let keys: BTreeSet<_> = (0..objects).map(|number| ground.key(&format!("long/{number:016x}"))).collect();
    let puts = keys.iter().cloned();
    stream::iter(puts.map(|key| async move { ground.store.put(&key, PutPayload::from_static(b"x")).await }))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(text("putting"))?;
    ground.expect_listed(&prefix, None, &keys).await?;
    // After a key that exists, after one that does not, after the last but one, and after the last.
    for after in [
        format!("long/{:016x}", objects / 3),
        format!("long/{:016x}x", objects / 2),
        format!("long/{:016x}", objects.saturating_sub(2)),
        format!("long/{:016x}", objects - 1),
    ] {
        let after = ground.key(&after);
        let rest = keys.range((Bound::Excluded(&after), Bound::Unbounded)).cloned().collect();
        let why = |why| format!("after {after}: {why}");
        ground.expect_listed(&prefix, Some(&after), &rest).await.map_err(why)?;
    }
    Ok(())
}

pub(crate) async fn list_sorted(ground: &Ground) -> Outcome {
    let listed = ground.list(&Path::from(ground.root.as_str()), None).await?;
    match listed.windows(2).find(|pair| pair[0].location >= pair[1].location) {
        None => Ok(()),
        Some(pair) => Err(format!("{} comes before {}", pair[0].location, pair[1].location)),
    }
}

async fn upload(ground: &Ground, key: &Path, bytes: &Bytes) -> Result<Box<dyn MultipartUpload>, String> {
    let mut upload = ground.store.put_multipart(key).await.map_err(text("starting the upload"))?;
    let cuts = (0..bytes.len()).step_by(PART);
    let parts = cuts.map(|start| upload.put_part(bytes.slice(start..bytes.len().min(start + PART)).into()));
    // Out of order on purpose: parts are numbered when they are made.
    let backwards: Vec<_> = parts.collect::<Vec<_>>().into_iter().rev().collect();
    stream::iter(backwards).buffer_unordered(4).try_collect::<()>().await.map_err(text("sending a part"))?;
    Ok(upload)
}

pub(crate) async fn multipart(ground: &Ground, length: usize) -> Outcome {
    let (key, bytes) = (ground.key("multipart"), ground.bytes(23, length));
    let mut upload = upload(ground, &key, &bytes).await?;
    if ground.store.head(&key).await.is_ok() {
        return Err("the object is seen before it is complete".to_owned());
    }
    upload.complete().await.map_err(text("completing"))?;
    ground.expect(&key, &bytes).await
}

pub(crate) async fn multipart_abort(ground: &Ground) -> Outcome {
    let key = ground.key("aborted");
    let mut upload = upload(ground, &key, &ground.bytes(24, 1000)).await?;
    upload.abort().await.map_err(text("aborting"))?;
    ground.expect_missing(&key).await
}

fn text(doing: &'static str) -> impl FnOnce(Error) -> String {
    move |error| format!("{doing} fails: {error}")
}
