//! Compaction: what is in use of objects that are mostly not is stored again, so that the objects can go.
//!
//! Content is stored again by ordinary records of the journal, under the ordinary back-pressure: each is decided under
//! the volume's lock, and is nothing where somebody wrote meanwhile. Pages are stored again by the next image: their nodes
//! lose them. Either way the next collection deletes what is empty then. A state that is kept goes on reading the old
//! places for as long as it is kept.
//!
//! An object is *thin* when little of it is in use, and much is not. Small objects are never thin; when there are many
//! they are put together, so that a byte is stored again a few times at most before it is in a large object.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rfs_core::{Extent, Ino, PageObject, PageRef, Place, SegmentId};
use rfs_recovery::objects::StoredSegment;
use tracing::debug;

use super::live::Move;
use super::{Refused, Shared, image_now, name_image, name_state};
use crate::clock::sleep;
use crate::error::{Error, Result};

/// Objects that are smaller are put together.
const SMALL: u64 = 64 << 10;
/// When there are so many of them.
const MANY: usize = 16;
/// Objects whose content is stored again at a time, at most.
const OBJECTS_MAX: usize = 1024;
/// Content is stored again in pieces of so many bytes, at most.
const PIECE: u64 = 1 << 20;
/// So many pieces in one record frame, at most.
const PIECES_MAX: usize = 1024;
/// The extents of more inodes are not looked for one by one.
const INODES_MAX: usize = 1 << 16;
/// Of a tree with more extents not all are looked at.
const EXTENTS_MAX: u64 = 1 << 18;
/// How many extents are looked at under the lock.
const LOOK: usize = 4096;

/// How much is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeal {
    /// What costs more to keep than to store again.
    Due,
    /// Somebody asks for it: also small objects of which little is in use, though they are few.
    All,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Objects that the newest state does not need any more, once it is committed and an image is made.
    pub objects: u64,
    /// Bytes of content that were stored again.
    pub content_bytes: u64,
    /// Bytes of pages that the next image stores again.
    pub page_bytes: u64,
    /// There is more than is done at a time: it is to be called again.
    pub more: bool,
}

/// An object, and how much of it is in use.
struct Candidate<T> {
    parts: Vec<T>,
    bytes: u64,
    live: u64,
}

impl<T> Default for Candidate<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), bytes: 0, live: 0 }
    }
}

/// Compacts what is due, and has a commit and an image hold the state: what was compacted before, too, by who could not
/// finish it.
pub(crate) async fn compact_now(shared: &Arc<Shared>) -> Result<Compacted> {
    let compacted = compact_some(shared, Zeal::All).await?;
    let is_dirty = {
        let fixed = shared.commits.borrow().fixed;
        shared.live.read().front.as_ref().is_some_and(|front| front.is_dirty(fixed))
    };
    if compacted != Compacted::default() || is_dirty || shared.image.lock().bytes_since > 0 {
        name_state(shared).await?;
        image_now(shared).await?;
        name_image(shared).await?;
    }
    Ok(compacted)
}

/// Compacts what is due. The next commit and the next image hold it.
pub(crate) async fn compact_some(shared: &Shared, zeal: Zeal) -> Result<Compacted> {
    let doing = |error| Error::recovery(format!("compact {}", shared.store.url()), error);
    shared.live.read().usable().map_err(|refused| refused.doing(|| "compact".to_owned()))?;
    if shared.options.compact_percent == 0 || shared.driver.is_none() || shared.collector.is_ending() {
        return Ok(Compacted::default());
    }
    let _turn = shared.collector.compacting.lock().await;
    let (content, content_bytes, more) = compact_content(shared, zeal).await?;
    let (thin, more_pages) = thin_pages(shared, zeal).await.map_err(doing)?;
    let page_bytes = forget_pages(shared, &thin).await?;
    let objects = content + thin.len() as u64;
    let compacted = Compacted { objects, content_bytes, page_bytes, more: more || more_pages };
    debug!(?compacted, "compacted");
    Ok(compacted)
}

/// Chooses objects to be emptied: the thin ones, those with the least in use first, and the small ones if there are many.
/// Tells whether others are left for the next time.
fn choose<K: Ord + Clone, T>(
    shared: &Shared,
    zeal: Zeal,
    candidates: BTreeMap<K, Candidate<T>>,
    budget: u64,
) -> (BTreeMap<K, Candidate<T>>, bool) {
    let percent = u64::from(shared.options.compact_percent);
    let in_use = candidates.into_iter().filter(|(_, candidate)| candidate.live > 0);
    let is_thin = |of: &Candidate<T>| {
        of.live.saturating_mul(100) < of.bytes.saturating_mul(percent)
            && (zeal == Zeal::All || of.bytes >= SMALL)
    };
    let (mut thin, others): (Vec<_>, Vec<_>) = in_use.partition(|(_, candidate)| is_thin(candidate));
    thin.sort_by_key(|(_, candidate)| candidate.live);
    let small: Vec<_> = others.into_iter().filter(|(_, candidate)| candidate.bytes < SMALL).collect();
    let small = if small.len() >= MANY { small } else { Vec::new() };
    let mut left = budget;
    let (mut chosen, mut more) = (BTreeMap::new(), false);
    for (key, candidate) in thin.into_iter().chain(small) {
        match left.checked_sub(candidate.live).filter(|_| chosen.len() < OBJECTS_MAX) {
            Some(rest) => {
                left = rest;
                chosen.insert(key, candidate);
            }
            // What is more than the budget by itself never fits.
            None => more |= candidate.live <= budget,
        }
    }
    (chosen, more)
}

/// Stores content of thin objects again. Gives how many objects these are, how many bytes were stored, and whether there is
/// more to do.
async fn compact_content(shared: &Shared, zeal: Zeal) -> Result<(u64, u64, bool)> {
    let doing = |error| Error::recovery(format!("compact {}", shared.store.url()), error);
    let tree = shared.live.read().tree.clone();
    let live = || tree.segments().iter().map(|pair| pair.map(|(id, bytes)| (*id, *bytes))).collect();
    let live: BTreeMap<SegmentId, u64> = shared.pages.ask(live).await.map_err(doing)?;
    drop(tree);
    let mut objects: BTreeMap<String, Candidate<StoredSegment>> = BTreeMap::new();
    for stored in shared.content.all().await.map_err(doing)? {
        if shared.pages.lineage().is_borrowed(&stored.key) {
            continue;
        }
        let object = objects.entry(stored.key.clone()).or_default();
        object.bytes = object.bytes.saturating_add(stored.len);
        object.live = object.live.saturating_add(live.get(&stored.header.id).copied().unwrap_or(0));
        object.parts.push(stored);
    }
    let (chosen, more) = choose(shared, zeal, objects, shared.options.compact_bytes);
    let segments: Vec<&StoredSegment> = chosen.values().flat_map(|object| &object.parts).collect();
    let segments: Vec<&StoredSegment> =
        segments.into_iter().filter(|stored| live.contains_key(&stored.header.id)).collect();
    if segments.is_empty() {
        return Ok((0, 0, false));
    }
    let runs = find(shared, &segments, &live).await?;
    let moved = relocate(shared, runs).await?;
    Ok((chosen.len() as u64, moved, more))
}

/// Finds the extents that lie in these segments: by the segments' indexes; where others refer to them too, because a file
/// was copied, by looking at all, if these are not too many.
async fn find(
    shared: &Shared,
    segments: &[&StoredSegment],
    live: &BTreeMap<SegmentId, u64>,
) -> Result<Vec<(Ino, u64, Extent)>> {
    let doing = |error| Error::recovery(format!("compact {}", shared.store.url()), error);
    let mut left: BTreeMap<SegmentId, u64> = BTreeMap::new();
    let mut inodes = BTreeSet::new();
    for stored in segments {
        let id = stored.header.id;
        left.insert(id, live.get(&id).copied().unwrap_or(0));
        if inodes.len() <= INODES_MAX {
            let footer = shared.content.footer(stored).await.map_err(doing)?;
            inodes.extend(footer.index.keys().copied());
        }
    }
    let wanted: HashSet<SegmentId> = left.keys().copied().collect();
    let mut runs = Vec::new();
    if inodes.len() <= INODES_MAX {
        for ino in inodes {
            runs.extend(extents_in(shared, (ino, 0), (ino, u64::MAX), &wanted).await?);
        }
        for (_, _, extent) in &runs {
            let left = left.entry(extent.place.segment).or_default();
            *left = left.saturating_sub(extent.len);
        }
    }
    if left.values().any(|left| *left > 0) && shared.live.read().tree.extent_count() <= EXTENTS_MAX {
        return extents_in(shared, (Ino(0), 0), (Ino(u64::MAX), 0), &wanted).await;
    }
    // What stays in a segment keeps it, so that storing the rest again would be in vain.
    runs.retain(|(_, _, extent)| left.get(&extent.place.segment) == Some(&0));
    Ok(runs)
}

async fn extents_in(
    shared: &Shared,
    from: (Ino, u64),
    to: (Ino, u64),
    wanted: &HashSet<SegmentId>,
) -> Result<Vec<(Ino, u64, Extent)>> {
    let mut found = Vec::new();
    let mut next = Some(from);
    while let Some(from) = next {
        let is_wanted = |id| wanted.contains(&id);
        let look = |live: &super::Live| Ok(live.tree.extents_in(from, to, LOOK, &is_wanted)?);
        let some = shared.look(look, || "compact".to_owned()).await?;
        found.extend(some.extents);
        next = some.next;
    }
    Ok(found)
}

/// Stores these extents again, in order of the files. Gives how many bytes that were.
async fn relocate(shared: &Shared, mut runs: Vec<(Ino, u64, Extent)>) -> Result<u64> {
    let doing = |error| Error::recovery(format!("compact {}", shared.store.url()), error);
    runs.sort_by_key(|(ino, offset, _)| (*ino, *offset));
    let pieces = runs.into_iter().flat_map(|(ino, offset, extent)| {
        (0..extent.len).step_by(PIECE as usize).map(move |skip| {
            let from = Place { position: extent.place.position + skip, ..extent.place };
            (ino, offset + skip, from, PIECE.min(extent.len - skip))
        })
    });
    let mut pieces = pieces.peekable();
    let mut moved = 0;
    while pieces.peek().is_some() {
        let (mut moves, mut bytes) = (Vec::new(), 0);
        while let Some((ino, offset, from, len)) = pieces
            .next_if(|(_, _, _, len)| moves.is_empty() || bytes + len <= PIECE && moves.len() < PIECES_MAX)
        {
            let payload = match shared.content.read(from, len).await {
                Ok(payload) => payload,
                // It was overwritten and collected meanwhile.
                Err(rfs_recovery::RecoveryError::Missing { .. }) => continue,
                Err(error) => return Err(doing(error)),
            };
            bytes += len;
            moves.push(Move { ino, offset, from, payload });
        }
        if moves.is_empty() {
            continue;
        }
        // The budget for an outage is for what users do.
        if shared.commits.borrow().outage.is_some() || shared.collector.is_ending() {
            break;
        }
        shared.admit(|| "compact".to_owned()).await?;
        let done = shared.change(|live| live.relocate(&moves)).await;
        moved += done.map_err(|refused: Refused| refused.doing(|| "compact".to_owned()))?;
        if let Some(rate) = shared.options.compact_rate {
            sleep(Duration::from_micros(bytes.saturating_mul(1_000_000) / rate)).await;
        }
    }
    Ok(moved)
}

/// The objects of pages of which little is in use, and whether there are more.
async fn thin_pages(
    shared: &Shared,
    zeal: Zeal,
) -> std::result::Result<(BTreeSet<PageObject>, bool), rfs_recovery::RecoveryError> {
    let Some((base, newest)) = newest_image(shared) else { return Ok((BTreeSet::new(), false)) };
    let live = || base.iter().map(|pair| pair.map(|(object, bytes)| (*object, *bytes))).collect();
    let live: BTreeMap<PageObject, u64> = shared.pages.ask(live).await?;
    let mut objects: BTreeMap<PageObject, Candidate<()>> = BTreeMap::new();
    // Also copies of those of volumes that it was a fork of.
    for keys in shared.pages.lineage().detached().into_iter().chain([shared.keys]) {
        for object in shared.store.list(&keys.pages(), None).await? {
            let Some(id) = keys.parse_pages(&object.key).filter(|id| *id < newest) else { continue };
            let live = live.get(&id).copied().unwrap_or(0);
            objects.insert(id, Candidate { parts: Vec::new(), bytes: object.size, live });
        }
    }
    let (chosen, more) = choose(shared, zeal, objects, shared.options.compact_bytes / 8);
    Ok((chosen.into_keys().collect(), more))
}

type Counted = rfs_core::Map<PageObject, u64>;

fn newest_image(shared: &Shared) -> Option<(Counted, PageObject)> {
    let image = shared.image.lock();
    let base = image.base.as_ref()?.objects().clone();
    match image.ready.as_ref().or(image.named.as_ref())? {
        rfs_recovery::objects::ImageRef::Paged(paged) => Some((base, paged.head.object)),
        rfs_recovery::objects::ImageRef::Whole(_) => None,
    }
}

/// Nodes whose pages are in these objects are stored again by the next image. Gives how many bytes of pages that are.
async fn forget_pages(shared: &Shared, thin: &BTreeSet<PageObject>) -> Result<u64> {
    if thin.is_empty() {
        return Ok(0);
    }
    let doing = |error| Error::recovery(format!("compact {}", shared.store.url()), error);
    let unwanted = |page: &PageRef| thin.contains(&page.object);
    let mut bytes = 0;
    let forgotten = shared.change(|live| {
        bytes += live.tree.forget_pages(&unwanted)?;
        Ok(())
    });
    forgotten.await.map_err(|refused| refused.doing(|| "compact".to_owned()))?;
    shared.content.forget_pages(&unwanted).await.map_err(doing)?;
    let of_objects = || {
        let mut image = shared.image.lock();
        image.base.as_mut().map_or(Ok(()), |base| base.forget_pages(thin))
    };
    shared.pages.ask(of_objects).await.map_err(doing)?;
    Ok(bytes)
}
