//! Several Ops as one atomic unit.

use thiserror::Error;

use crate::decide::{Copies, decide_with};
use crate::{Change, Context, Decision, Errno, Fault, Ino, Op, Outcome, Place, Tree};

/// What a batch comes to.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The tree after all Ops.
    pub tree: Tree,
    /// What happens, in order.
    pub changes: Vec<Change>,
    /// What the caller is told, one for each Op.
    pub outcomes: Vec<Outcome>,
    /// Where the next payload byte goes.
    place: Place,
}

impl Batch {
    /// A batch without Ops. `place` is where the journal will put its first payload byte; payloads follow each other
    /// without a gap, in the order of the Ops.
    #[must_use]
    pub fn new(tree: &Tree, place: Place) -> Self {
        Self { tree: tree.clone(), changes: Vec::new(), outcomes: Vec::new(), place }
    }

    /// Decides one more Op, on the tree as those before it leave it. After a refusal the batch is of no use any more.
    ///
    /// # Errors
    /// Why it is refused; `EFBIG` also when its payload would not fit behind the batch's place, and for a copy of more
    /// than [`COPY_RUNS_MAX`](crate::COPY_RUNS_MAX) runs, which is not done in part here.
    pub fn decide(&mut self, context: &Context<'_>, op: &Op) -> Result<Outcome, Fault> {
        let Decision { changes, outcome } = decide_with(&self.tree, context, op, Copies::Whole)?;
        for change in changes {
            self.apply(change)?;
        }
        self.outcomes.push(outcome);
        Ok(outcome)
    }

    /// Stores `len` bytes of a file anew, which are the next payload, and tells whether it does: only if they still are
    /// where the caller read them, so that what is read stays the same. It has no outcome.
    ///
    /// # Errors
    /// As [`Batch::decide`].
    pub fn relocate(&mut self, ino: Ino, offset: u64, len: u64, from: Place) -> Result<bool, Fault> {
        let is_there = self.tree.is_at(ino, offset, len, from)?;
        if is_there {
            self.apply(Change::Relocate { ino, offset, len, from })?;
        }
        Ok(is_there)
    }

    fn apply(&mut self, change: Change) -> Result<(), Fault> {
        // What was decided on this very tree fits it, unless a number runs out: the end of the segment.
        self.tree.apply(&change, self.place).map_err(|misfit| match misfit.missing() {
            Some(missing) => Fault::Missing(missing.clone()),
            None => Errno::TooBig.into(),
        })?;
        self.place.position += change.payload_len();
        self.changes.push(change);
        Ok(())
    }
}

/// Why a batch was refused. Nothing of it happens.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Op {index} of the batch: {fault}")]
pub struct BatchError {
    /// Which Op was refused, counted from 0.
    pub index: usize,
    /// Why.
    #[source]
    pub fault: Fault,
}

/// Decides several Ops, each on the tree as the ones before it leave it. `tree` itself is only read.
///
/// `place` is as in [`Batch::new`].
///
/// ```
/// use rfs_core::{At, Context, Op, Place, Timestamp, Tree, decide_batch};
/// let tree = Tree::new(Timestamp::from_nanos(0));
/// let context = Context::new(Timestamp::from_nanos(1));
/// let ops = [Op::Mkdir { at: At::root("a"), mode: 0o755 }, Op::Mkdir { at: At::root("a/b"), mode: 0o755 }];
/// let batch = decide_batch(&tree, &context, &ops, Place::default())?;
/// assert_eq!(batch.tree.inode_count(), 3);
/// # Ok::<(), rfs_core::BatchError>(())
/// ```
///
/// # Errors
/// The first Op that is refused, and why, as [`Batch::decide`] says it.
pub fn decide_batch(
    tree: &Tree,
    context: &Context<'_>,
    ops: &[Op],
    place: Place,
) -> Result<Batch, BatchError> {
    let mut batch = Batch::new(tree, place);
    for (index, op) in ops.iter().enumerate() {
        batch.decide(context, op).map_err(|fault| BatchError { index, fault })?;
    }
    Ok(batch)
}
