//! rfs without its outer layers: Ops and Changes on a tree.
//!
//! [`TreeEngine`] is the core alone. A journal under test is another [`Engine`].

use rfs_core::{
    Change, Context, Errno, Op, Outcome, Place, SegmentId, Timestamp, Tree, decide, decide_batch,
};

use crate::ManualClock;
use crate::whole::posix;

/// What performs Ops and keeps content.
pub trait Engine {
    /// The tree as it stands.
    fn tree(&self) -> Tree;

    /// Performs one Op; `payload` is what it writes. Of the context the time does not count: the engine has a clock.
    ///
    /// # Errors
    /// Why it was refused.
    fn submit(&mut self, context: &Context<'_>, op: &Op, payload: &[u8]) -> Result<Outcome, Errno>;

    /// Performs several Ops, all or none; the payload holds what they write, in their order.
    ///
    /// # Errors
    /// Why one of them was refused.
    fn submit_batch(&mut self, context: &Context<'_>, ops: &[Op], payload: &[u8]) -> Result<(), Errno>;

    /// Content bytes from a place.
    fn read(&self, place: Place, len: u64) -> Vec<u8>;
}

/// The core alone: payload lies in one endless segment in memory.
#[derive(Clone, Debug)]
pub struct TreeEngine {
    tree: Tree,
    payload: Vec<u8>,
    clock: ManualClock,
    history: Vec<(Change, Place)>,
}

const START: Timestamp = Timestamp::from_nanos(1_577_836_800_000_000_000);

impl TreeEngine {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        let clock = ManualClock::ticking(START.as_nanos());
        Self { tree: Tree::new(START), payload: Vec::new(), clock, history: Vec::new() }
    }

    /// The tree that comes of all Changes so far, applied to an empty one.
    #[must_use]
    pub fn replayed(&self) -> Tree {
        let mut tree = Tree::new(START);
        for (change, place) in &self.history {
            tree.apply(change, *place)
                .expect("a Change that was applied once applies in the same order again");
        }
        tree
    }

    /// Every Change so far, and where its payload is.
    #[must_use]
    pub fn history(&self) -> &[(Change, Place)] {
        &self.history
    }

    fn end(&self) -> Place {
        Place { segment: SegmentId(0), position: self.payload.len() as u64 }
    }

    fn now<'a>(&self, context: &Context<'a>) -> Context<'a> {
        Context { now: Timestamp::from_nanos(self.clock.now_nanos()), ..*context }
    }

    fn remember(&mut self, changes: Vec<Change>, payload: &[u8]) {
        let mut place = self.end();
        for change in changes {
            let len = change.payload_len();
            self.history.push((change, place));
            place.position += len;
        }
        self.payload.extend_from_slice(payload);
        assert_eq!(place, self.end(), "the Changes of an Op carry exactly its payload");
    }
}

impl Default for TreeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for TreeEngine {
    fn tree(&self) -> Tree {
        self.tree.clone()
    }

    fn submit(&mut self, context: &Context<'_>, op: &Op, payload: &[u8]) -> Result<Outcome, Errno> {
        let decision = posix(decide(&self.tree, &self.now(context), op))?;
        for change in &decision.changes {
            self.tree.apply(change, self.end()).expect("what was decided on a tree applies to it");
        }
        self.remember(decision.changes, payload);
        Ok(decision.outcome)
    }

    fn submit_batch(&mut self, context: &Context<'_>, ops: &[Op], payload: &[u8]) -> Result<(), Errno> {
        let batch = decide_batch(&self.tree, &self.now(context), ops, self.end());
        let batch = posix(batch.map_err(|error| error.fault))?;
        self.tree = batch.tree;
        self.remember(batch.changes, payload);
        Ok(())
    }

    fn read(&self, place: Place, len: u64) -> Vec<u8> {
        let start = place.position as usize;
        self.payload[start..start + len as usize].to_vec()
    }
}
