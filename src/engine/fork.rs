//! Forks: a volume that begins with a state of another, and borrows its objects.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use rfs_recovery::RecoveryError;
use rfs_recovery::commit_log::{create_fork, read_superblock, replace_superblock};
use rfs_recovery::objects::{Location, Origin, OriginPin, Superblock};
use rfs_recovery::pins::remove_pin;
use tracing::{debug, info};

use super::Shared;
use super::collector::borrowed_now;
use super::pin::{lessen_pin, pin, resolve};
use crate::error::{Error, ErrorKind, Result};
use crate::fork::{Detached, Forked};
use crate::volume::{At, identity};

/// How many objects are copied at a time.
const COPIES: usize = 4;

/// Makes a volume at `url` that begins with the state `at`.
pub(crate) async fn fork(shared: &Shared, url: &str, at: &At) -> Result<Forked> {
    let doing = || format!("fork {} at {at} to {url}", shared.store.url());
    let store = shared.store.sibling(url).map_err(|error| Error::store(doing(), error))?;
    if !store.is_same_backend(&shared.store) && shared.store.url() == "memory://" {
        let what = format!("{}: nobody finds a store without a name; name it, as in memory://NAME", doing());
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    // What is pinned is still there: no collection of this writer runs meanwhile.
    let mut learnt = shared.collector.lock().await;
    let at = resolve(shared, &mut learnt, at).await.map_err(|error| error.during(doing()))?;
    let fail = |error: RecoveryError| Error::recovery(doing(), error);
    let volume = identity(&shared.options)?;
    if !store.is_same_backend(&shared.store) && !store.assumes_put_if_absent() {
        store.probe(volume).await.map_err(|error| Error::store(doing(), error))?;
    }
    let pin = pin(shared, at.id, url, Some(volume), None).await?;
    let ancestors = shared.pages.lineage().ancestors_of_fork(at.id, &store);
    let home = shared.pages.lineage().keeper_of_epoch(at.id.epoch);
    let location = Location::of(&home.store, &store);
    let origin_pin = OriginPin { id: pin.id, volume: home.keys.0, location };
    let origin = Origin { at, pin: Some(origin_pin), ancestors };
    let superblock = Superblock { volume, created: pin.made, origin: Some(origin) };
    match create_fork(&store, &superblock).await {
        Ok(true) => {}
        Ok(false) => {
            remove_pin(&home, pin.id).await.map_err(fail)?;
            let what = format!("{}: there is a volume already; choose another URL", doing());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        // It may have been made: then the pin is needed.
        Err(error) => return Err(fail(error)),
    }
    info!(%url, commit = %at.id, "volume forked");
    Ok(Forked { volume, at: at.id, pin: pin.id })
}

/// Copies what the volume borrows, and lets go of the pin.
pub(crate) async fn detach(shared: &Arc<Shared>) -> Result<Detached> {
    let doing = || format!("detach {}", shared.store.url());
    let fail = |error: RecoveryError| Error::recovery(doing(), error);
    let lineage = shared.pages.lineage();
    let mut detached = Detached::default();
    let Some((home, pin)) = lineage.pin() else { return Ok(detached) };
    let mut learnt = shared.collector.lock().await;
    resolve(shared, &mut learnt, &At::Head).await.map_err(|error| error.during(doing()))?;
    let borrowed = borrowed_now(shared, &mut learnt).await.map_err(|error| error.during(doing()))?;
    let copy = |key: String| {
        let from = lineage.of_key(&key).store;
        async move {
            let object = from.get(&key).await;
            let object = object.map_err(|error| Error::store(format!("copy {key}"), error))?;
            let bytes = object.len() as u64;
            let put = shared.store.put_large(&key, vec![object]).await;
            put.map_err(|error| Error::store(format!("copy {key}"), error))?;
            Ok::<_, Error>(bytes)
        }
    };
    let mut copies = stream::iter(borrowed.objects.into_iter().map(copy)).buffer_unordered(COPIES);
    while let Some(bytes) = copies.try_next().await.map_err(|error| error.during(doing()))? {
        detached.objects += 1;
        detached.bytes += bytes;
    }
    drop(copies);
    let mut superblock = read_superblock(&shared.store).await.map_err(fail)?;
    // A volume that was forked from this one borrows from where it always did.
    let is_borrowed = !borrowed.by_forks.is_empty();
    superblock.origin = lineage.detached_origin();
    if let Some(origin) = superblock.origin.as_mut().filter(|_| !is_borrowed) {
        origin.pin = None;
    }
    replace_superblock(&shared.store, &superblock).await.map_err(fail)?;
    if is_borrowed {
        lessen_pin(shared, &borrowed.by_forks).await.map_err(fail)?;
    } else {
        remove_pin(&home, pin).await.map_err(fail)?;
    }
    lineage.set_origin(superblock.origin).map_err(|error| Error::store(doing(), error))?;
    debug!(objects = detached.objects, bytes = detached.bytes, "volume detached");
    Ok(detached)
}
