//! Whether segments are what was written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rfs_backends::is_compressed;
use rfs_journal::{FORMAT, Footer, FrameInfo, salvage_segment, verify_segment};

use super::report::{Findings, Found, Problem, told};
use crate::objects::{StoredSegment, missing};
use crate::state::fetch_footer;
use crate::{Home, Lineage, RecoveryError, envelope};

/// Verifies segments, each once.
#[derive(Debug)]
pub(crate) struct Segments {
    lineage: Lineage,
    deep: bool,
    known: HashMap<(String, u64), Arc<Condition>>,
}

/// What can be read of a segment.
#[derive(Debug)]
pub(crate) struct Condition {
    /// The frames; none if nothing can be read.
    frames: Option<Vec<FrameInfo>>,
    /// Payload that is lost.
    lost: Vec<Range<u64>>,
    /// What is wrong, as a finding says it.
    wrong: Option<(String, Problem, String)>,
}

/// What becomes of a run of bytes in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Readable,
    /// These positions are not.
    Lost(Vec<Range<u64>>),
    /// No frame holds it.
    Nowhere,
}

impl Segments {
    pub(crate) fn new(lineage: Lineage, deep: bool) -> Self {
        Self { lineage, deep, known: HashMap::new() }
    }

    /// How many were verified.
    pub(crate) fn count(&self) -> u64 {
        self.known.len() as u64
    }

    /// Verifies a segment: its footer, or every byte. `size` is that of its object as it was listed.
    ///
    /// # Errors
    /// The store's, if they are not about what is stored.
    pub(crate) async fn condition(
        &mut self,
        stored: &StoredSegment,
        size: Option<u64>,
    ) -> Result<Arc<Condition>, RecoveryError> {
        let place = (stored.key.clone(), stored.offset);
        if let Some(known) = self.known.get(&place) {
            return Ok(Arc::clone(known));
        }
        let condition = Arc::new(self.look(stored, size).await?);
        self.known.insert(place, Arc::clone(&condition));
        Ok(condition)
    }

    async fn look(&self, stored: &StoredSegment, size: Option<u64>) -> Result<Condition, RecoveryError> {
        let end = stored.offset.saturating_add(stored.len);
        let home = self.lineage.of_key(&stored.key);
        let own = home.keys.parse_segment(&stored.key).is_some();
        // The size of a compressed object says nothing of its content's.
        if let Some(size) = size.filter(|_| !is_compressed(&stored.key))
            && (size < end || own && size != end)
        {
            let what = format!("it has {size} bytes where {end} were written");
            let error = envelope::damaged(home.store.url(), &stored.key, &what);
            return self.damaged(stored, error, None);
        }
        if !self.deep {
            return match fetch_footer(&self.lineage, stored).await {
                Ok(Footer { frames, .. }) => {
                    Ok(Condition { frames: Some(frames), lost: Vec::new(), wrong: None })
                }
                Err(error) => self.damaged(stored, error, None),
            };
        }
        let bytes = home.store.get_range(&stored.key, stored.offset..end).await;
        let bytes = match bytes.map_err(|error| missing(&home.store, &stored.key, error)) {
            Ok(bytes) => bytes,
            Err(error) => return self.damaged(stored, error, None),
        };
        match verify_whole(&self.lineage, stored, &bytes) {
            Ok(footer) => Ok(Condition { frames: Some(footer.frames), lost: Vec::new(), wrong: None }),
            Err(error) => self.damaged(stored, error, Some(&bytes)),
        }
    }

    fn damaged(
        &self,
        stored: &StoredSegment,
        error: RecoveryError,
        bytes: Option<&Bytes>,
    ) -> Result<Condition, RecoveryError> {
        let (key, problem, what) = told(error, &stored.key)?;
        let wrong = Some((key, problem, what));
        let salvaged = bytes.and_then(|bytes| salvage(&self.lineage, stored, bytes).ok());
        Ok(match salvaged {
            // Who reads content needs the footer as it is.
            Some(salvaged) if !salvaged.lost.is_empty() => {
                Condition { frames: Some(salvaged.footer.frames), lost: salvaged.lost, wrong }
            }
            _ => Condition { frames: None, lost: Vec::new(), wrong },
        })
    }
}

/// Verifies every byte of a segment that is stored so.
pub(crate) fn verify_whole(
    lineage: &Lineage,
    stored: &StoredSegment,
    bytes: &Bytes,
) -> Result<Footer, RecoveryError> {
    let Home { store, keys } = lineage.of_key(&stored.key);
    let segment = verify_segment(&stored.key, bytes, Some(stored.hash))?;
    if stored.header.is_of(&segment.header, keys.0) {
        Ok(segment.footer)
    } else {
        Err(envelope::damaged(store.url(), &stored.key, "it is another segment than the one that is named"))
    }
}

/// What is left of a segment that is stored so.
pub(crate) fn salvage(
    lineage: &Lineage,
    stored: &StoredSegment,
    bytes: &Bytes,
) -> Result<rfs_journal::Salvaged, RecoveryError> {
    let keys = lineage.of_key(&stored.key).keys;
    let headers: Vec<_> =
        (1..=FORMAT).rev().map(|version| stored.header.with_version(version, keys.0)).collect();
    Ok(salvage_segment(&stored.key, bytes, &headers, stored.hash)?)
}

impl Condition {
    /// Adds what is wrong to the findings.
    pub(crate) fn tell(&self, findings: &mut Findings, state: Option<&str>) -> Found {
        let (key, problem, what) = self.wrong.as_ref()?;
        if state.is_some() {
            return findings.add(key, *problem, what, state);
        }
        findings.add(key, *problem, &format!("{what}; only the history of what was done needs it"), None)
    }

    /// What becomes of the `len` bytes at `position`.
    pub(crate) fn run(&self, position: u64, len: u64) -> Run {
        let end = position.saturating_add(len);
        let Some(frames) = &self.frames else { return Run::Lost(std::iter::once(position..end).collect()) };
        let frame = frames.partition_point(|frame| frame.position <= position).checked_sub(1);
        let inside = frame
            .is_some_and(|at| frames[at].payload_start() <= position && end <= frames[at].changes_start());
        if !inside {
            return Run::Nowhere;
        }
        let clipped = self.lost.iter().map(|lost| lost.start.max(position)..lost.end.min(end));
        let lost: Vec<Range<u64>> = clipped.filter(|range| range.start < range.end).collect();
        if lost.is_empty() { Run::Readable } else { Run::Lost(lost) }
    }
}
