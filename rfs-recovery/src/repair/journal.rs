//! What is left of a volume's journal: every segment that can be read, or put together from what is left of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use rfs_backends::StoreErrorKind;
use rfs_core::{CommitId, Lsn, SegmentId};
use rfs_journal::{
    ChainHash, FORMAT, Record, SegmentHeader, find_segments, read_header, salvage_segment, verify_segment,
};

use crate::check::{Entry, Survey};
use crate::objects::{StoredHeader, StoredSegment};
use crate::{Lineage, RecoveryError};

/// The segments that are left.
#[derive(Debug)]
pub(crate) struct Journal {
    lineage: Lineage,
    pieces: Vec<Piece>,
    by_end: HashMap<(Lsn, ChainHash), usize>,
}

/// A segment, where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) stored: StoredSegment,
    pub(crate) end: Lsn,
    pub(crate) chain: ChainHash,
    /// Payload that is lost.
    pub(crate) lost: Vec<Range<u64>>,
    /// What stands there is not what was written, and can be.
    pub(crate) restorable: bool,
    /// It stands in a commit that cannot be read.
    pub(crate) in_unreadable: Option<CommitId>,
}

impl Piece {
    fn base(&self) -> (Lsn, ChainHash) {
        (self.stored.header.base, self.stored.header.chain)
    }
}

/// Where a segment stands: object and offset.
pub(crate) type Spot = (String, u64);

impl Journal {
    /// Reads all that could be journal. `kept` are the segments that images name.
    ///
    /// # Errors
    /// The store's, if they are not about what is stored.
    pub(crate) async fn gather(
        survey: &Survey,
        kept: &BTreeMap<Spot, StoredSegment>,
    ) -> Result<Self, RecoveryError> {
        let mut journal =
            Self { lineage: survey.lineage.clone(), pieces: Vec::new(), by_end: HashMap::new() };
        let mut seen = HashSet::new();
        for (id, entry) in &survey.log {
            match entry {
                Entry::Commit(_) => journal.gather_commit(survey, *id, &mut seen).await?,
                Entry::Unreadable(_) => journal.gather_unreadable(survey, *id, &mut seen).await?,
                Entry::Fence(_) => {}
            }
        }
        for (spot, stored) in kept {
            if seen.insert(spot.clone())
                && let Some(bytes) = journal.bytes(stored).await?
            {
                journal.examine(stored, &bytes);
            }
        }
        for key in survey.objects.keys().filter(|key| survey.keys.parse_segment(key).is_some()) {
            if seen.insert((key.clone(), 0))
                && let Some(bytes) = journal.object(key).await?
            {
                journal.add_whole(key, 0..bytes.len(), &bytes, None);
            }
        }
        Ok(journal)
    }

    async fn gather_commit(
        &mut self,
        survey: &Survey,
        id: CommitId,
        seen: &mut HashSet<Spot>,
    ) -> Result<(), RecoveryError> {
        let Some(logged) = survey.commit(id) else { return Ok(()) };
        let commit = &logged.commit;
        let key = survey.key(id);
        let before = match commit.previous {
            None => Some(ChainHash::default()),
            Some(previous) => survey.commit(previous.id).map(|before| before.commit.chain),
        };
        let mut at = before.map(|chain| (commit.base, chain));
        let mut offset = logged.inline_start;
        for added in &commit.segments {
            let (key, start) = match &added.key {
                Some(key) => (key.clone(), 0),
                None => (key.clone(), offset),
            };
            if added.key.is_none() {
                offset += added.len;
            }
            let (base, chain) = at.unwrap_or_default();
            let header = StoredHeader { id: added.id, epoch: added.epoch, writer: added.writer, base, chain };
            let (hash, len, footer_len) = (added.hash, added.len, added.footer_len);
            let mut stored = StoredSegment { header, hash, len, footer_len, key, offset: start };
            seen.insert((stored.key.clone(), start));
            let Some(bytes) = self.bytes(&stored).await? else {
                at = None;
                continue;
            };
            if at.is_none()
                && let Ok(found) = read_header(&stored.key, &bytes)
                && found.id == added.id
            {
                stored.header = found.into();
            }
            at = self.examine(&stored, &bytes).map(|piece| (piece.end, piece.chain));
        }
        Ok(())
    }

    async fn gather_unreadable(
        &mut self,
        survey: &Survey,
        id: CommitId,
        seen: &mut HashSet<Spot>,
    ) -> Result<(), RecoveryError> {
        let key = survey.key(id);
        let Some(bytes) = self.object(&key).await? else { return Ok(()) };
        for range in find_segments(&bytes) {
            seen.insert((key.clone(), range.start as u64));
            self.add_whole(&key, range, &bytes, Some(id));
        }
        Ok(())
    }

    /// Adds a segment of which nobody says what it should be, if it is whole.
    fn add_whole(&mut self, key: &str, range: Range<usize>, bytes: &Bytes, of: Option<CommitId>) {
        let start = range.start as u64;
        let bytes = bytes.slice(range);
        let Ok(segment) = verify_segment(key, &bytes, None) else { return };
        if segment.header.volume != self.lineage.keys().0 {
            return;
        }
        let (footer, hash) = segment.footer.encode(&segment.header.encode());
        let stored = StoredSegment {
            header: segment.header.into(),
            hash,
            len: bytes.len() as u64,
            footer_len: footer.len() as u32,
            key: key.to_owned(),
            offset: start,
        };
        let (end, chain) = (segment.footer.end, segment.footer.chain);
        self.add(Piece { stored, end, chain, lost: Vec::new(), restorable: false, in_unreadable: of });
    }

    fn examine(&mut self, stored: &StoredSegment, bytes: &Bytes) -> Option<&Piece> {
        let piece = look(&self.lineage, stored, bytes)?;
        self.add(piece);
        self.pieces.last()
    }

    fn add(&mut self, piece: Piece) {
        let place = (piece.end, piece.chain);
        let at = self.pieces.len();
        // What is whole, and stays where it is, is preferred.
        let is_better = |known: &Piece| {
            (piece.lost.len(), piece.in_unreadable.is_some())
                < (known.lost.len(), known.in_unreadable.is_some())
        };
        // An empty one leads nowhere.
        if piece.end > piece.stored.header.base
            && self.by_end.get(&place).is_none_or(|known| is_better(&self.pieces[*known]))
        {
            self.by_end.insert(place, at);
        }
        self.pieces.push(piece);
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The segment that ends there.
    pub(crate) fn ending_at(&self, end: (Lsn, ChainHash)) -> Option<&Piece> {
        self.by_end.get(&end).map(|at| &self.pieces[*at])
    }

    /// The segments from one place of the history to another, in order.
    pub(crate) fn between(&self, from: (Lsn, ChainHash), to: (Lsn, ChainHash)) -> Option<Vec<&Piece>> {
        let mut way = Vec::new();
        let mut at = to;
        while at != from {
            let piece = self.ending_at(at).filter(|piece| piece.base().0 >= from.0)?;
            way.push(piece);
            at = piece.base();
        }
        way.reverse();
        Some(way)
    }

    /// Where the history goes on after its last commit that can be read: to the end of what commits hold that cannot,
    /// and, where one of a writer cannot be read, of what this writer has stored.
    pub(crate) fn tail(&self, from: (Lsn, ChainHash), unreadable: &[CommitId]) -> Vec<&Piece> {
        let inlined = self.pieces.iter().filter(|piece| {
            piece.in_unreadable.is_some_and(|id| unreadable.contains(&id)) && piece.end > from.0
        });
        let longest = inlined.filter_map(|piece| self.between(from, (piece.end, piece.chain)));
        let mut tail = longest.max_by_key(|way| way.last().map(|piece| piece.end)).unwrap_or_default();
        let of_writers: HashSet<u64> = unreadable.iter().map(|id| id.epoch).collect();
        loop {
            let end = tail.last().map_or(from, |piece| (piece.end, piece.chain));
            let mut next = self.pieces.iter().filter(|piece| {
                let key = piece.stored.key.rsplit('/').next().unwrap_or_default();
                let uploader = key.split('-').nth(1).and_then(|epoch| u64::from_str_radix(epoch, 16).ok());
                let own = self.lineage.keys().parse_segment(&piece.stored.key).is_some();
                let theirs = own && uploader.is_some_and(|epoch| of_writers.contains(&epoch));
                piece.base() == end && piece.end > end.0 && theirs
            });
            // Where there are two of them nobody knows which one was committed.
            let (Some(one), None) = (next.next(), next.next()) else { return tail };
            tail.push(one);
        }
    }

    /// The records of a segment.
    ///
    /// # Errors
    /// The store's; `Missing` when it is gone by now.
    pub(crate) async fn records(&self, piece: &Piece) -> Result<Vec<Record>, RecoveryError> {
        let stored = &piece.stored;
        let missing = || RecoveryError::Missing {
            store: self.lineage.store().url().to_owned(),
            key: stored.key.clone(),
        };
        let bytes = self.bytes(stored).await?.ok_or_else(missing)?;
        Ok(salvage_segment(&stored.key, &bytes, &headers(&self.lineage, stored), stored.hash)?.records)
    }

    /// A segment as it was written.
    ///
    /// # Errors
    /// As [`Journal::records`]; `Damaged` when some of it is lost.
    pub(crate) async fn whole(&self, stored: &StoredSegment) -> Result<Bytes, RecoveryError> {
        let bytes = self.bytes(stored).await?.unwrap_or_default();
        let salvaged = salvage_segment(&stored.key, &bytes, &headers(&self.lineage, stored), stored.hash)?;
        let store = self.lineage.store().url();
        salvaged
            .whole
            .ok_or_else(|| crate::envelope::damaged(store, &stored.key, "some of its content is lost"))
    }

    /// A segment that stands there as it was written, every byte verified.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, or the store's.
    pub(crate) async fn intact(&self, stored: &StoredSegment) -> Result<Bytes, RecoveryError> {
        let url = || self.lineage.of_key(&stored.key).store.url().to_owned();
        let missing = || RecoveryError::Missing { store: url(), key: stored.key.clone() };
        let bytes = self.bytes(stored).await?.ok_or_else(missing)?;
        crate::check::verify_whole(&self.lineage, stored, &bytes)?;
        Ok(bytes)
    }

    pub(crate) const fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// What stands where a segment should.
    async fn bytes(&self, stored: &StoredSegment) -> Result<Option<Bytes>, RecoveryError> {
        let Some(object) = self.object(&stored.key).await? else { return Ok(None) };
        let len = object.len() as u64;
        let end = stored.offset.saturating_add(stored.len).min(len);
        Ok(Some(object.slice(stored.offset.min(end) as usize..end as usize)))
    }

    /// An object, or what is left of it, if it is there and what it was sealed or compressed from can be told.
    pub(crate) async fn object(&self, key: &str) -> Result<Option<Bytes>, RecoveryError> {
        let store = &self.lineage.of_key(key).store;
        let object = match store.get(key).await {
            Err(error) if error.kind() == StoreErrorKind::Damaged => store.salvage(key).await,
            got => got,
        };
        match object {
            Ok(object) => Ok(Some(object)),
            Err(error)
                if matches!(
                    error.kind(),
                    StoreErrorKind::NotFound | StoreErrorKind::Damaged | StoreErrorKind::Truncated
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What a segment may be headed with: nothing but its hash tells which version it has.
fn headers(lineage: &Lineage, stored: &StoredSegment) -> Vec<SegmentHeader> {
    let volume = lineage.of_key(&stored.key).keys.0;
    (1..=FORMAT).rev().map(|version| stored.header.with_version(version, volume)).collect()
}

fn look(lineage: &Lineage, stored: &StoredSegment, bytes: &Bytes) -> Option<Piece> {
    let salvaged = salvage_segment(&stored.key, bytes, &headers(lineage, stored), stored.hash).ok()?;
    Some(Piece {
        stored: stored.clone(),
        end: salvaged.footer.end,
        chain: salvaged.footer.chain,
        restorable: salvaged.whole.is_some_and(|whole| whole != *bytes),
        lost: salvaged.lost,
        in_unreadable: None,
    })
}

/// The number of the segment behind the last one.
pub(crate) fn next_segment(way: &[&Piece], before: SegmentId) -> SegmentId {
    way.last().map_or(before, |piece| piece.stored.header.id.next())
}
