//! What is held in memory: the piece that was not used for longest goes first.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::layout::{ObjectId, PieceId};

/// What a piece costs beside its bytes, about.
const PIECE_COST: u64 = 200;

#[derive(Debug)]
pub(super) struct Memory {
    budget: u64,
    bytes: u64,
    pieces: BTreeMap<PieceId, Piece>,
    /// The pieces by when they were used.
    order: BTreeMap<u64, PieceId>,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    used: u64,
}

impl Memory {
    pub(super) const fn new(budget: u64) -> Self {
        Self { budget, bytes: 0, pieces: BTreeMap::new(), order: BTreeMap::new(), now: 0 }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&mut self, id: &PieceId) -> Option<Bytes> {
        let piece = self.pieces.get_mut(id)?;
        self.now += 1;
        self.order.remove(&piece.used);
        self.order.insert(self.now, *id);
        piece.used = self.now;
        Some(piece.bytes.clone())
    }

    /// Whether the piece is not there and may be.
    pub(super) fn has_room_for(&self, id: &PieceId) -> bool {
        cost(id) <= self.budget && !self.pieces.contains_key(id)
    }

    /// Keeps a piece whose bytes are not part of something larger.
    pub(super) fn insert(&mut self, id: PieceId, bytes: Bytes) {
        if !self.has_room_for(&id) {
            return;
        }
        while self.bytes + cost(&id) > self.budget
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.pieces.remove(&oldest);
            self.bytes -= cost(&oldest);
        }
        self.now += 1;
        self.bytes += cost(&id);
        self.order.insert(self.now, id);
        self.pieces.insert(id, Piece { bytes, used: self.now });
    }

    pub(super) fn forget(&mut self, object: ObjectId) {
        let ids: Vec<PieceId> = self.pieces.range(PieceId::all_of(object)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(piece) = self.pieces.remove(&id) {
                self.order.remove(&piece.used);
                self.bytes -= cost(&id);
            }
        }
    }
}

fn cost(id: &PieceId) -> u64 {
    PIECE_COST + u64::from(id.len)
}
