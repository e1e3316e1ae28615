//! Segments that go to the store as objects of their own: as soon as they are sealed, ahead of the commit that names them.
//!
//! Each upload is a task, so that none waits for another one that was begun before it: neither those that a commit needs, nor
//! those ahead of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use parking_lot::Mutex;
use rfs_backends::COMPRESSED_SUFFIX;
use rfs_core::SegmentId;
use rfs_journal::Sealed;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant};
use tracing::debug;

use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Compression;

/// How many segments are uploaded at a time.
const UPLOADS: usize = 4;
/// How long nothing is uploaded ahead after the store refused it, beyond the store's own retries.
const REST: Duration = Duration::from_secs(1);

/// What was uploaded, or is on its way, and no commit names yet.
#[derive(Debug)]
pub(crate) struct Uploads {
    known: Mutex<Known>,
    at_once: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    uploads: BTreeMap<SegmentId, (Upload, AbortHandle)>,
    /// Before this time none is begun ahead.
    rests_until: Option<Instant>,
}

/// Gives the key of the object when it is there.
type Upload = SharedFuture<BoxFuture<'static, Result<String>>>;

impl Default for Uploads {
    fn default() -> Self {
        Self { known: Mutex::default(), at_once: Semaphore::new(UPLOADS) }
    }
}

impl Uploads {
    /// Whether it was begun, and has not failed.
    pub(crate) fn has(&self, id: SegmentId) -> bool {
        self.known.lock().uploads.contains_key(&id)
    }

    /// Forgets those that a commit names, up to this one.
    pub(crate) fn forget(&self, last: SegmentId) {
        self.known.lock().uploads.retain(|id, _| *id > last);
    }

    /// Ends what is on its way.
    pub(crate) fn end(&self) {
        for (_, task) in std::mem::take(&mut self.known.lock().uploads).into_values() {
            task.abort();
        }
    }
}

/// Whose segments these are: it stands in their keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uploader {
    pub(crate) writer: u128,
    pub(crate) epoch: u64,
}

/// Begins to upload all segments after `last` that are sealed and too large to be inlined.
pub(crate) fn upload_ahead(shared: &Arc<Shared>, last: Option<SegmentId>, uploader: Uploader) {
    if shared.uploads.known.lock().rests_until.is_some_and(|until| Instant::now() < until) {
        return;
    }
    let mut id = last.map_or(SegmentId(0), SegmentId::next);
    while let Some(sealed) = shared.residency.sealed(id) {
        if journal_len(&sealed) > shared.options.inline_bytes {
            // Its task goes on by itself.
            drop(begin(shared, id, uploader));
        }
        id = id.next();
    }
}

/// Has these in the store, and gives their keys.
pub(crate) async fn upload(
    shared: &Arc<Shared>,
    sealed: &[Sealed],
    uploader: Uploader,
) -> Result<BTreeMap<SegmentId, String>> {
    let begun: Vec<_> = sealed.iter().map(|sealed| begin(shared, sealed.header.id, uploader)).collect();
    let mut keys = BTreeMap::new();
    for (sealed, upload) in sealed.iter().zip(begun) {
        keys.insert(sealed.header.id, upload.await?);
    }
    Ok(keys)
}

/// Begins an upload, unless it was.
fn begin(shared: &Arc<Shared>, id: SegmentId, uploader: Uploader) -> Upload {
    let mut known = shared.uploads.known.lock();
    if let Some((upload, _)) = known.uploads.get(&id) {
        return upload.clone();
    }
    let task = tokio::spawn({
        let shared = Arc::clone(shared);
        async move {
            let put = put(&shared, id, uploader).await;
            if let Err(error) = &put {
                debug!(%error, "a segment was not uploaded; its commit tries again");
                let mut known = shared.uploads.known.lock();
                known.uploads.remove(&id);
                known.rests_until = Some(Instant::now() + REST);
            }
            put
        }
    });
    let ends = task.abort_handle();
    let upload = async move {
        let ended = |_| Error::new(ErrorKind::Closed, format!("upload segment {id}: the volume was closed"));
        task.await.map_err(ended)?
    };
    let upload = upload.boxed().shared();
    known.uploads.insert(id, (upload.clone(), ends));
    upload
}

async fn put(shared: &Shared, id: SegmentId, Uploader { writer, epoch }: Uploader) -> Result<String> {
    let key = shared.keys.segment(id, epoch, writer);
    let key = match shared.options.compression {
        Compression::None => key,
        Compression::Zstd => key + COMPRESSED_SUFFIX,
    };
    let _permit = shared.uploads.at_once.acquire().await;
    let put = shared.store.put_large(&key, segment_pieces(shared, id)?).await;
    put.map_err(|error| Error::store(format!("upload segment {key}"), error))?;
    Ok(key)
}

/// The bytes of a sealed segment.
pub(crate) fn segment_pieces(shared: &Shared, id: SegmentId) -> Result<Vec<Bytes>> {
    let pieces = shared.residency.segment_bytes(id);
    let pieces =
        pieces.map_err(|error| Error::journal(format!("read segment {id} for its commit"), error))?;
    pieces.ok_or_else(|| Error::new(ErrorKind::Bug, format!("segment {id} left before it was committed")))
}

/// Bytes of a segment's frames.
pub(crate) fn journal_len(sealed: &Sealed) -> u64 {
    sealed.len - u64::from(sealed.footer_len)
}
