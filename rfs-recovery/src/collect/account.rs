//! Who needs the objects of a volume, and how much of them is in use.

use std::collections::{BTreeMap, BTreeSet};

use rfs_backends::ObjectInfo;
use rfs_core::CommitId;

use super::{Learnt, Listed, Needed, Retention};
use crate::image::read_head;
use crate::objects::ImageRef;
use crate::pins::pins;
use crate::{Home, Pages, RecoveryError};

/// How many objects, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Who needs the objects of a volume.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// All that the volume has in its store, but for the superblock.
    pub objects: Vec<ObjectInfo>,
    /// What a collection would delete now.
    pub collectable: Total,
    /// What only this named commit needs: what dropping its name would free.
    pub checkpoints: BTreeMap<CommitId, Total>,
    /// Bytes of pages of the newest image in objects of the volume's own.
    pub live_pages: u64,
    /// The same in objects of the volumes that it borrows from.
    pub borrowed_pages: u64,
}

/// Who needs an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// This named commit alone.
    Only(CommitId),
    /// Several, or the newest state, or a pin.
    Others,
}

/// Marks what each retained state needs, and adds it up. Nothing is changed, and of segments nothing is read.
///
/// # Errors
/// `Missing`, `Damaged`, or the store's.
pub async fn account(
    pages: &Pages,
    retention: &Retention,
    learnt: &mut Learnt,
) -> Result<Account, RecoveryError> {
    let (store, keys, lineage) = (pages.store(), pages.keys(), pages.lineage());
    let listed = Listed::of(pages).await?;
    let unnamed = Retention { checkpoints: BTreeSet::new(), ..retention.clone() };
    let mut needed = Needed::mark(pages, &listed.ids, &unnamed, learnt).await?;
    for pin in pins(&Home { store: store.clone(), keys }).await? {
        if !pin.is_over(retention.now) {
            needed.mark_pin(pages, pin, learnt).await?;
        }
    }
    let mut holders: BTreeMap<String, Holder> =
        needed.keys.iter().map(|key| (key.clone(), Holder::Others)).collect();
    for id in &retention.checkpoints {
        let mut named = Needed::default();
        named.mark_state(pages, *id, learnt).await?;
        for key in &named.keys {
            let holder = holders.entry(key.clone()).or_insert(Holder::Only(*id));
            if *holder != Holder::Only(*id) {
                *holder = Holder::Others;
            }
        }
        needed.newest_image = needed.newest_image.take().max(named.newest_image);
        needed.keys.append(&mut named.keys);
    }
    let mut account = Account {
        collectable: listed.dead(keys, retention, &needed).iter().fold(Total::default(), Total::with),
        checkpoints: retention.checkpoints.iter().map(|id| (*id, Total::default())).collect(),
        ..Account::default()
    };
    account.objects = store.list(&keys.volume(), None).await?;
    account.objects.extend(listed.copies);
    for object in &account.objects {
        if let Some(Holder::Only(id)) = holders.get(&object.key)
            && let Some(total) = account.checkpoints.get_mut(id)
        {
            *total = total.with(object);
        }
    }
    let newest = learnt.commit(lineage, retention.newest).await?;
    match newest.and_then(|commit| commit.image.clone()) {
        Some(ImageRef::Paged(image)) => {
            let (_, base) = read_head(pages, &image).await?;
            let count = || {
                let (mut own, mut borrowed) = (u64::from(image.head.len), 0);
                for pair in base.objects() {
                    let (object, bytes) = pair?;
                    let is_own = lineage.of_epoch(object.epoch).keys == keys;
                    *(if is_own { &mut own } else { &mut borrowed }) += bytes;
                }
                Ok((own, borrowed))
            };
            (account.live_pages, account.borrowed_pages) = pages.ask(count).await?;
        }
        Some(ImageRef::Whole(image)) => {
            let whole = account.objects.iter().filter(|object| object.key == image.key);
            account.live_pages = whole.map(|object| object.size).sum();
        }
        None => {}
    }
    Ok(account)
}

impl Total {
    fn with(self, object: &ObjectInfo) -> Self {
        Self { objects: self.objects + 1, bytes: self.bytes.saturating_add(object.size) }
    }
}
