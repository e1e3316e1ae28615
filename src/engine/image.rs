//! Images: the whole tree at a commit, stored in the background from a snapshot, and named by the next commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use rfs_core::{CommitId, Lsn, PageObject, SegmentId, Tree};
use rfs_recovery::READ_MAX;
use rfs_recovery::image::{EncodedImage, ImageBase, ImageOf, encode_image};
use rfs_recovery::objects::ImageRef;
use tracing::{debug, warn};

use super::Shared;
use super::committer::{Committer, Receipt, heavy, name_state};
use crate::error::{Error, ErrorKind, Result};

/// When a volume is closed an image is due after so many times less than else.
const AT_CLOSE: u64 = 64;
/// Fewer bytes of the tree that are not stored than these are never much.
const DIRTY_MIN: u64 = 16 << 20;

/// The images of a volume, as far as the committer cares.
#[derive(Debug)]
pub(crate) struct ImageState {
    /// What commits name.
    pub(crate) named: Option<ImageRef>,
    /// Whole, and to be named by the next commit.
    pub(crate) ready: Option<ImageRef>,
    pub(crate) running: bool,
    /// What the newest image stored.
    pub(crate) base: Option<ImageBase>,
    /// The next object of pages, of this writer's epoch. None is used twice, so that what became of an earlier put does
    /// not matter.
    pub(crate) next_object: PageObject,
    /// The commits that the volume goes back to and that no commit names yet, by the LSN of the record: they are kept.
    pub(crate) rewinding: BTreeMap<Lsn, CommitId>,
    /// How often the volume went back. An image of a state before that is of no use after it.
    pub(crate) turn: u64,
    /// Bytes and commits since the newest image.
    pub(crate) bytes_since: u64,
    pub(crate) commits_since: u64,
}

/// Starts an image if the next opening would replay more than little: an image costs what changed.
pub(crate) async fn image_at_close(shared: &Arc<Shared>) {
    // One that is being made is of an earlier commit.
    if image_made(shared).await.is_err() {
        return;
    }
    let guard = shared.publisher.lock().await;
    let receipt = shared.commits.borrow().receipt.clone();
    let (Some(committer), Some(receipt)) = (guard.as_ref(), receipt) else { return };
    let due = {
        let image = shared.image.lock();
        image.bytes_since >= shared.options.image_bytes / AT_CLOSE
            || image.commits_since >= shared.options.image_commits.div_ceil(AT_CLOSE)
    };
    if due {
        committer.start_image(shared, &receipt);
    }
}

/// Starts an image of the newest commit.
pub(crate) async fn image_now(shared: &Arc<Shared>) -> Result<()> {
    image_made(shared).await?;
    let guard = shared.publisher.lock().await;
    let receipt = shared.commits.borrow().receipt.clone();
    if let (Some(committer), Some(receipt)) = (guard.as_ref(), receipt) {
        committer.start_image(shared, &receipt);
    }
    Ok(())
}

/// Waits for an image that is being made, and has a commit name it. A program that has volumes open for a short time
/// only would else never name one, and each opening would replay more.
pub(crate) async fn name_image(shared: &Shared) -> Result<()> {
    image_made(shared).await?;
    if shared.image.lock().ready.is_none() {
        return Ok(());
    }
    name_state(shared).await
}

/// Waits until no image is being made.
async fn image_made(shared: &Shared) -> Result<()> {
    let mut commits = shared.commits.view();
    loop {
        let ended = shared.image_ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        shared.live.read().usable().map_err(|refused| refused.doing(|| "wait for an image".to_owned()))?;
        if !shared.image.lock().running {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = ended => {}
            () = commits.until(|state| state.failed) => {}
        }
    }
}

impl Committer {
    /// Starts an image of this commit's state in the background, if the last one is far behind.
    pub(super) fn image_if_due(
        &self,
        shared: &Arc<Shared>,
        receipt: &Receipt,
        journal_bytes: u64,
        commits: u64,
    ) {
        let due = {
            let mut image = shared.image.lock();
            image.bytes_since = image.bytes_since.saturating_add(journal_bytes);
            image.commits_since += commits;
            // One that only names an image is nothing to replay.
            image.commits_since += u64::from(journal_bytes > 0);
            image.bytes_since >= shared.options.image_bytes
                || image.commits_since >= shared.options.image_commits
                || self.is_much_dirty(shared, image.bytes_since)
        };
        if due {
            self.start_image(shared, receipt);
        }
    }

    /// Starts an image of this commit's state in the background, unless one is being made.
    fn start_image(&self, shared: &Arc<Shared>, receipt: &Receipt) {
        let (bytes, commits) = {
            let mut image = shared.image.lock();
            if image.running {
                return;
            }
            image.running = true;
            (std::mem::take(&mut image.bytes_since), std::mem::take(&mut image.commits_since))
        };
        let turn = self.turn;
        let (task, tree, receipt) = (Arc::clone(shared), self.tree.clone(), receipt.clone());
        let next_segment = self.last_segment.map_or(SegmentId(0), SegmentId::next);
        // Made here: a task that its runtime never runs ends, too.
        let running = RunningImage(Arc::clone(&task));
        tokio::spawn(async move {
            let _running = running;
            let written = write_image(&task, &receipt, next_segment, tree, turn).await;
            let mut image = task.image.lock();
            match written {
                Ok(Some(reference)) => image.ready = Some(reference),
                Ok(None) => debug!("an image was given up: the volume went back meanwhile"),
                Err(error) => {
                    warn!(%error, "an image was not written");
                    if error.kind() == ErrorKind::Outage {
                        // Tried again after the next commit; for any other reason not before the next is due.
                        image.bytes_since += bytes;
                        image.commits_since += commits;
                    }
                }
            }
        });
    }

    /// Whether so much of the tree is not stored that an image has to be made, so that it can be let go of. Nobody looks
    /// before something was done: looking takes time in proportion to what is in memory.
    fn is_much_dirty(&self, shared: &Shared, bytes_since: u64) -> bool {
        let (little, much) = (shared.options.tree_bytes / 64, shared.options.tree_bytes / 4);
        bytes_since >= little.max(DIRTY_MIN / 16) && self.tree.held().dirty as u64 >= much.max(DIRTY_MIN)
    }
}

/// No other image is made meanwhile, and the next one can be, however this one ends.
struct RunningImage(Arc<Shared>);

impl Drop for RunningImage {
    fn drop(&mut self) {
        self.0.image.lock().running = false;
        self.0.image_ended.notify_waiters();
    }
}

async fn write_image(
    shared: &Arc<Shared>,
    receipt: &Receipt,
    next_segment: SegmentId,
    tree: Tree,
    turn: u64,
) -> Result<Option<ImageRef>> {
    let doing = "make an image";
    let segments = shared.content.settle().await.map_err(|error| Error::recovery(doing, error))?;
    let of = ImageOf {
        volume: shared.keys.0,
        of: receipt.commit,
        lsn: receipt.position,
        chain: receipt.chain,
        state: receipt.state,
        next_segment,
        tree,
        segments,
    };
    let encoded = encode(shared, of, turn).await.map_err(|error| error.during(doing))?;
    let Some(encoded) = encoded else { return Ok(None) };
    let object = encoded.reference.head.object;
    let key = shared.keys.pages_of(object);
    let bytes = encoded.len();
    // Places in it are numbers of 32 bits.
    if bytes > shared.store.max_object_bytes().min(u64::from(u32::MAX)) {
        let what = format!(
            "image {key} would have {bytes} bytes, more than the store's options let one object have"
        );
        return Err(Error::new(ErrorKind::Store, what));
    }
    if encoded.reference.head.len > READ_MAX {
        let what = format!(
            "image {key} would have a head that nobody reads: there are too many locks, nameless inodes or users"
        );
        return Err(Error::new(ErrorKind::Store, what));
    }
    let put = shared.store.put_large(&key, encoded.pieces.clone()).await;
    put.map_err(|error| Error::store(format!("write image {key}"), error))?;
    debug!(%key, pages = encoded.pages, bytes, "image written");
    {
        let mut image = shared.image.lock();
        if image.turn != turn {
            return Ok(None);
        }
        encoded.is_stored(&shared.pages);
        image.base = Some(encoded.base);
    }
    // What is stored now can be let go of.
    let room = heavy(shared, |shared| {
        shared.make_room();
        Ok(())
    });
    room.await?;
    Ok(Some(ImageRef::Paged(encoded.reference)))
}

/// None when the volume went back meanwhile: what the image is to be based on is another one then.
async fn encode(shared: &Arc<Shared>, of: ImageOf, turn: u64) -> Result<Option<EncodedImage>> {
    let (object, base) = {
        let mut image = shared.image.lock();
        if image.turn != turn {
            return Ok(None);
        }
        let object = image.next_object;
        image.next_object.number += 1;
        (object, image.base.clone().unwrap_or_default())
    };
    let (of, base) = (Arc::new(of), Arc::new(base));
    loop {
        let (of, base) = (Arc::clone(&of), Arc::clone(&base));
        match heavy(shared, move |_| Ok(encode_image(&of, &base, object))).await? {
            Ok(encoded) => return Ok(Some(encoded)),
            Err(missing) => shared.load(&missing).await?,
        }
    }
}
