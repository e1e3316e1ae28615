//! Several Ops as one atomic unit.

use thiserror::Error;

use crate::decide::{Copies, decide_with};
use crate::{Change, Context, Errno, Op, Outcome, Place, Tree};

/// What a batch comes to.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The tree after all Ops.
    pub tree: Tree,
    /// What happens, in order.
    pub changes: Vec<Change>,
    /// What the caller is told, one for each Op.
    pub outcomes: Vec<Outcome>,
}

/// Why a batch was refused. Nothing of it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("Op {index} of the batch: {errno}")]
pub struct BatchError {
    /// Which Op was refused, counted from 0.
    pub index: usize,
    /// Why.
    #[source]
    pub errno: Errno,
}

/// Decides several Ops, each on the tree as the ones before it leave it. `tree` itself is only read.
///
/// `place` is where the journal will put the first payload byte of the batch; payloads follow each other without a
/// gap, in the order of the Ops.
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
/// The first Op that is refused, and why; `EFBIG` also when its payload would not fit behind `place`, and for a copy of
/// more than [`COPY_RUNS_MAX`](crate::COPY_RUNS_MAX) runs, which is not done in part here.
pub fn decide_batch(
    tree: &Tree,
    context: &Context<'_>,
    ops: &[Op],
    place: Place,
) -> Result<Batch, BatchError> {
    let mut batch = Batch {
        tree: tree.clone(),
        changes: Vec::with_capacity(ops.len()),
        outcomes: Vec::with_capacity(ops.len()),
    };
    let mut place = place;
    for (index, op) in ops.iter().enumerate() {
        let refused = |errno| BatchError { index, errno };
        let decision = decide_with(&batch.tree, context, op, Copies::Whole).map_err(refused)?;
        for change in &decision.changes {
            // What was decided on this very tree fits it, unless a number runs out: the end of the segment.
            batch.tree.apply(change, place).map_err(|_| refused(Errno::TooBig))?;
            place.position += change.payload_len();
        }
        batch.changes.extend(decision.changes);
        batch.outcomes.push(decision.outcome);
    }
    Ok(batch)
}
