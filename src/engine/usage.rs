//! What a volume takes in its store.

use std::collections::BTreeMap;

use rfs_backends::is_compressed;
use rfs_core::SegmentId;
use rfs_recovery::collect::{Retention, Total, account};

use super::Shared;
use super::collector::{newest_until_ms, retention};
use crate::error::{Error, Result};
use crate::stored::{ObjectRole, role_of};

/// What a volume takes in its store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreUsage {
    /// All objects of the volume but the superblock, by what they are for.
    pub roles: Vec<(ObjectRole, Total)>,
    /// Bytes of these that the newest state is made of: content, and pages of its tree.
    pub live_bytes: u64,
    /// All other bytes of these: what was overwritten or removed, states that are kept, the journal's Changes and indexes.
    pub dead_bytes: u64,
    /// Bytes of the newest state in objects of the volumes that it is a fork of.
    pub borrowed_bytes: u64,
    /// What [`Volume::collect_garbage`](crate::Volume::collect_garbage) would delete now.
    pub collectable: Total,
    /// By the name of a checkpoint, what nothing but it needs: what a collection could delete once it is dropped.
    pub checkpoints: Vec<(String, Total)>,
}

pub(crate) async fn usage_now(shared: &Shared) -> Result<StoreUsage> {
    let doing = || format!("count what {} takes", shared.store.url());
    let failed = |error| Error::recovery(doing(), error);
    let mut learnt = shared.collector.lock().await;
    let tree = shared.live.read().tree.clone();
    let stored = shared.content.all().await.map_err(failed)?;
    let retention = match retention(shared, doing).await? {
        Some((retention, _)) => retention,
        None => {
            let receipt = shared.commits.borrow().receipt.clone();
            let Some(receipt) = receipt else { return Ok(StoreUsage::default()) };
            Retention {
                newest: receipt.commit,
                checkpoints: tree.checkpoints().iter().map(|(_, checkpoint)| checkpoint.commit).collect(),
                keep_commits: shared.options.keep_commits,
                newest_until_ms: newest_until_ms(shared),
                last_segment: stored.last().map(|stored| stored.header.id),
                now: shared.options.clock.now(),
            }
        }
    };
    let account = account(&shared.pages, &retention, &mut learnt).await.map_err(failed)?;
    drop(learnt);
    let live = || tree.segments().iter().map(|pair| pair.map(|(id, bytes)| (*id, *bytes))).collect();
    let live: BTreeMap<SegmentId, u64> = shared.pages.ask(live).await.map_err(failed)?;
    let mut usage = StoreUsage {
        live_bytes: account.live_pages,
        borrowed_bytes: account.borrowed_pages,
        collectable: account.collectable,
        ..StoreUsage::default()
    };
    let lineage = shared.pages.lineage();
    let sizes: BTreeMap<&str, u64> =
        account.objects.iter().map(|object| (object.key.as_str(), object.size)).collect();
    for stored in stored {
        let mut bytes = live.get(&stored.header.id).copied().unwrap_or(0);
        if let Some(size) = sizes.get(stored.key.as_str()).filter(|_| is_compressed(&stored.key)) {
            // As if each part of it were compressed as well as the whole.
            let share = u128::from(bytes) * u128::from(*size) / u128::from(stored.len.max(1));
            bytes = u64::try_from(share).unwrap_or(u64::MAX);
        }
        let of =
            if lineage.is_borrowed(&stored.key) { &mut usage.borrowed_bytes } else { &mut usage.live_bytes };
        *of = of.saturating_add(bytes);
    }
    let mut roles: BTreeMap<ObjectRole, Total> = BTreeMap::new();
    let mut all = 0_u64;
    for object in &account.objects {
        let total = roles.entry(role_of(lineage.of_key(&object.key).keys, &object.key)).or_default();
        total.objects += 1;
        total.bytes = total.bytes.saturating_add(object.size);
        all = all.saturating_add(object.size);
    }
    usage.roles = roles.into_iter().collect();
    // What was copied within the volume is there once, and counted for each that refers to it.
    usage.live_bytes = usage.live_bytes.min(all);
    usage.dead_bytes = all - usage.live_bytes;
    let named = tree.checkpoints().iter().map(|(name, checkpoint)| {
        (name.clone(), account.checkpoints.get(&checkpoint.commit).copied().unwrap_or_default())
    });
    usage.checkpoints = named.collect();
    Ok(usage)
}
