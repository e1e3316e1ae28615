//! The Changes of the journal between two positions, a piece at a time.

use std::sync::Arc;

use rfs_core::{Lsn, SegmentId, Tree};
use rfs_journal::{Footer, Record};

use crate::RecoveryError;
use crate::content::Content;
use crate::history::frame_records;
use crate::objects::StoredSegment;

/// How far the reading of a part of the journal is.
#[derive(Clone, Debug)]
pub struct ChangesWalk {
    /// Up to where everything was given.
    at: Lsn,
    up_to: Lsn,
    open: Option<Open>,
}

/// The segment that it is in.
#[derive(Clone, Debug)]
struct Open {
    stored: StoredSegment,
    footer: Arc<Footer>,
    frame: usize,
}

impl ChangesWalk {
    /// The Changes after one position up to and with another.
    #[must_use]
    pub const fn new(after: Lsn, up_to: Lsn) -> Self {
        Self { at: after, up_to, open: None }
    }

    /// The next records, in order: those of a segment whose footer has them, or of a frame. None are left when there are
    /// none. Only the segments between the two positions are looked at, and of those only what tells the Changes.
    ///
    /// # Errors
    /// `NoSuchState` where the journal between was collected; `Missing` where a segment is gone that content of `tree`
    /// is in; `Damaged`, or the store's. Then it can be asked again.
    pub async fn next(&mut self, content: &Content, tree: &Tree) -> Result<Vec<Record>, RecoveryError> {
        while self.at < self.up_to {
            if self.open.as_ref().is_none_or(|open| open.footer.end <= self.at) {
                self.open = Some(self.segment(content, tree).await?);
            }
            let Some(open) = &mut self.open else { break };
            let id = open.stored.header.id;
            let (records, end) = match open.footer.records(&open.stored.key, id) {
                Some(records) => (records?, open.footer.end),
                None => {
                    let frames = &open.footer.frames;
                    let end_of =
                        |frame: usize| frames.get(frame + 1).map_or(open.footer.end, |next| next.base);
                    while open.frame < frames.len() && end_of(open.frame) <= self.at {
                        open.frame += 1;
                    }
                    if open.frame == frames.len() {
                        let what = "its frames do not hold what its footer says";
                        return Err(content.damaged(&open.stored, what));
                    }
                    (
                        frame_records(content, &open.stored, &open.footer, open.frame).await?,
                        end_of(open.frame),
                    )
                }
            };
            let wanted =
                records.into_iter().filter(|record| record.lsn > self.at && record.lsn <= self.up_to);
            let wanted: Vec<Record> = wanted.collect();
            self.at = end.min(self.up_to);
            if !wanted.is_empty() {
                return Ok(wanted);
            }
        }
        Ok(Vec::new())
    }

    /// The segment in which the next record is.
    async fn segment(&self, content: &Content, tree: &Tree) -> Result<Open, RecoveryError> {
        let collected = || RecoveryError::NoSuchState {
            store: content.pages().store().url().to_owned(),
            what: format!("journal after position {} any more", self.at),
        };
        let stored = content.segment_at(self.at).await?.ok_or_else(collected)?;
        let footer = match content.footer(&stored).await {
            Err(missing @ RecoveryError::Missing { .. }) => {
                let id: SegmentId = stored.header.id;
                let is_live = content.pages().ask(|| tree.segments().contains_key(&id)).await?;
                return Err(if is_live { missing } else { collected() });
            }
            footer => footer?,
        };
        // Between two that are kept one may have been collected.
        if footer.base > self.at || footer.end <= self.at {
            return Err(collected());
        }
        Ok(Open { stored, footer, frame: 0 })
    }
}
