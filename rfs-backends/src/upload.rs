//! Objects too large for one request.

use crate::{Store, StoreError};
use bytes::Bytes;
use object_store::PutPayload;

mod begun_again;
mod resumed;
mod unfinished;

pub(crate) use unfinished::Leftovers;

/// The most parts that S3 takes.
const MOST_PARTS: u64 = 10_000;

/// Parts of one upload that are under way at once.
const PARTS_AT_ONCE: usize = 8;

impl Store {
    /// Writes the object that `chunks` make one after the other, replacing what is there.
    ///
    /// Below [`StoreOptions::with_multipart_threshold`](crate::StoreOptions::with_multipart_threshold) this is one
    /// [`put`](Self::put). From there on the object goes up in parts, several at once, and appears when all are there.
    /// A part that fails is sent again, on backends of [`with_multipart`](Self::with_multipart); on others the upload is
    /// aborted and, while the deadline allows, begun again. No chunk is copied, unless the name is that of a compressed object.
    ///
    /// No store can upload in parts only if the key is absent: use names that only one writer uses. An upload that
    /// fails, or whose future is dropped, is aborted, if need be with the next one that succeeds. Only a process that
    /// dies leaves parts behind, which cost space unseen; on S3 a lifecycle rule for incomplete uploads removes them.
    ///
    /// ```
    /// use rfs_backends::{Store, StoreOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// store.put_large("segment", vec!["head ".into(), "tail".into()]).await?;
    /// assert_eq!(store.get("segment").await?, "head tail");
    /// # Ok::<(), rfs_backends::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub async fn put_large(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let inner = &self.inner;
        let path = inner.path("uploading", key)?;
        let chunks = inner.compressed("uploading", key, chunks).await?;
        let total = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        if total < inner.options.multipart_threshold {
            return self.put_stored("writing", key, chunks).await;
        }
        let chunks = inner.sealed(key, chunks).await?;
        let total = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let parts = cut(chunks, inner.options.part_bytes.max(total.div_ceil(MOST_PARTS)));
        let mut call = inner.call("uploading", key, total);
        match &inner.shared.parts {
            Some(backend) => {
                call.run(|limit| resumed::attempt(inner, backend, (key, &path), &parts, limit)).await
            }
            None => call.run(|limit| begun_again::attempt(inner, &path, &parts, limit)).await,
        }
    }
}

/// Cuts the bytes of `chunks` anew into parts of `part_bytes`, the last one shorter, sharing the memory.
fn cut(chunks: Vec<Bytes>, part_bytes: u64) -> Vec<PutPayload> {
    let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX).max(1);
    let mut parts = Vec::new();
    let mut part: Vec<Bytes> = Vec::new();
    let mut room = part_bytes;
    for mut chunk in chunks {
        while !chunk.is_empty() {
            let piece = chunk.split_to(room.min(chunk.len()));
            room -= piece.len();
            part.push(piece);
            if room == 0 {
                parts.push(part.drain(..).collect());
                room = part_bytes;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part.into_iter().collect());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_but_for_the_last_and_keep_the_bytes() {
        let chunks = ["0123", "", "456789a", "bcdef"].map(|chunk| Bytes::from_static(chunk.as_bytes()));
        let text = |size| {
            let parts = cut(chunks.to_vec(), size).into_iter().map(Bytes::from);
            parts.map(|part| String::from_utf8_lossy(&part).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(text(5), ["01234", "56789", "abcde", "f"]);
        assert_eq!(text(16), ["0123456789abcdef"]);
        assert_eq!(text(8), ["01234567", "89abcdef"]);
        assert!(cut(Vec::new(), 5).is_empty());
    }
}
