//! The history of one inode, found by the segment indexes.

use std::sync::Arc;

use rfs_core::{Ino, Lsn, Tree};
use rfs_journal::{Footer, Record, RecordPosition};

use crate::RecoveryError;
use crate::content::Content;
use crate::objects::StoredSegment;

/// The history of one inode.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Its records, in order.
    pub records: Vec<Record>,
    /// The history is complete after this LSN: what was before was collected.
    pub complete_after: Lsn,
}

/// The committed records of an inode. Of each segment only the index, and the Changes of the frames that it names,
/// are read.
///
/// A segment that no content of `tree` is in may have been collected; the history is complete only after it.
///
/// # Errors
/// `Missing`, `Damaged`, or the store's.
pub async fn history(content: &Content, ino: Ino, tree: &Tree) -> Result<History, RecoveryError> {
    let mut records = Vec::new();
    let mut complete_after = None;
    let mut expected = None;
    for stored in content.all().await? {
        let (footer, named) = match of_segment(content, &stored, ino).await {
            Err(missing @ RecoveryError::Missing { .. }) => {
                let id = stored.header.id;
                if content.pages().ask(|| tree.segments().contains_key(&id)).await? {
                    return Err(missing);
                }
                content.forget(&[id]).await?;
                expected = None;
                continue;
            }
            found => found?,
        };
        if expected != Some(footer.base) {
            complete_after = Some(footer.base);
        }
        expected = Some(footer.end);
        records.extend(named);
    }
    Ok(History { records, complete_after: complete_after.unwrap_or_default() })
}

/// A segment's footer, and the records that its index names for the inode.
async fn of_segment(
    content: &Content,
    stored: &StoredSegment,
    ino: Ino,
) -> Result<(Arc<Footer>, Vec<Record>), RecoveryError> {
    let footer = content.footer(stored).await?;
    let named = match footer.index.get(&ino) {
        Some(positions) => named_records(content, stored, &footer, positions).await?,
        None => Vec::new(),
    };
    Ok((footer, named))
}

async fn named_records(
    content: &Content,
    stored: &StoredSegment,
    footer: &Footer,
    positions: &[RecordPosition],
) -> Result<Vec<Record>, RecoveryError> {
    let id = stored.header.id;
    if let Some(all) = footer.records(&stored.key, id) {
        let all = all?;
        let at = |position: &RecordPosition| {
            let frame = &footer.frames[position.frame as usize];
            (frame.base.0 - footer.base.0) as usize + position.record as usize
        };
        return Ok(positions.iter().map(|position| all[at(position)].clone()).collect());
    }
    let mut named = Vec::with_capacity(positions.len());
    for of_frame in positions.chunk_by(|a, b| a.frame == b.frame) {
        let records = frame_records(content, stored, footer, of_frame[0].frame as usize).await?;
        named.extend(of_frame.iter().map(|position| records[position.record as usize].clone()));
    }
    Ok(named)
}

/// The records of a frame of a stored segment.
pub(crate) async fn frame_records(
    content: &Content,
    stored: &StoredSegment,
    footer: &Footer,
    frame: usize,
) -> Result<Vec<Record>, RecoveryError> {
    let frame = &footer.frames[frame];
    let start = stored.offset + frame.changes_start();
    let changes = content.fetch(stored, start, u64::from(frame.changes_len)).await?;
    if !frame.has_changes(&changes) {
        let what = format!("the Changes of the frame at byte {} do not have their checksum", frame.position);
        return Err(content.damaged(stored, &what));
    }
    Ok(frame.decode(&stored.key, stored.header.id, &changes)?)
}
