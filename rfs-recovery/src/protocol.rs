//! What those who meet at the commit log conclude from what they see there: without I/O, so that the model that checks
//! the protocol in every interleaving runs this very code.
//!
//! - In an epoch the object with the highest number decides: a commit is the head; a fence ends the epoch.
//! - The highest object of an epoch is never collected, nor is the newest commit.
//! - An opener puts its fence right above the head, create-only, and then lists once more above it: anything there
//!   means that it slept, that its fence stands in a collected number, and that it owns nothing.
//! - A writer has one commit in flight. A put whose answer was lost is put again, byte for byte, until it is known
//!   whose object stands there.

use std::collections::{BTreeMap, BTreeSet};

use rfs_core::CommitId;

/// What stands at the highest number of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top<R> {
    /// A commit.
    Commit,
    /// The end of an epoch.
    Fence {
        /// The epoch that begins with it.
        next_epoch: u64,
        /// The newest commit below it, as the fence names it.
        head: Option<R>,
    },
}

/// Which commit is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadIs<R> {
    /// What the volume begins with: nothing, or the commit that it is a fork of.
    Start,
    /// There is none: the newest fence names none.
    Nowhere,
    /// The one at the highest number.
    Top,
    /// The one that the newest fence names.
    Named(R),
}

/// What an opener concludes from the highest object of the log: which commit is the head, and where the next commit, or
/// the fence that ends the epoch, would stand. `first` is where that is while the log is empty.
///
/// ```
/// use rfs_core::CommitId;
/// use rfs_recovery::protocol::{HeadIs, Top, conclude};
/// let at = CommitId { epoch: 2, number: 5 };
/// let first = CommitId { epoch: 0, number: 0 };
/// assert_eq!(conclude::<u8>(Some((at, Top::Commit)), first), (HeadIs::Top, CommitId { epoch: 2, number: 6 }));
/// let fence = Top::Fence { next_epoch: 3, head: Some(7) };
/// assert_eq!(conclude(Some((at, fence)), first), (HeadIs::Named(7), CommitId { epoch: 3, number: 0 }));
/// ```
#[must_use]
pub fn conclude<R>(top: Option<(CommitId, Top<R>)>, first: CommitId) -> (HeadIs<R>, CommitId) {
    match top {
        None => (HeadIs::Start, first),
        Some((at, Top::Commit)) => (HeadIs::Top, CommitId { epoch: at.epoch, number: at.number + 1 }),
        Some((_, Top::Fence { next_epoch, head })) => {
            (head.map_or(HeadIs::Nowhere, HeadIs::Named), CommitId { epoch: next_epoch, number: 0 })
        }
    }
}

/// The epoch that a fence in this place begins.
#[must_use]
pub const fn epoch_after(slot: CommitId) -> u64 {
    slot.epoch + 1
}

/// What an opener concludes from the list that it made after its fence was put into `slot`: none that it owns the next
/// epoch, else what says that it owns nothing.
#[must_use]
pub fn above_fence(slot: CommitId, listed: impl IntoIterator<Item = CommitId>) -> Option<CommitId> {
    listed.into_iter().find(|id| id.epoch == slot.epoch && id.number > slot.number)
}

/// Another writer, and the epoch that is its own. A writer that is not known is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rival {
    /// Who.
    pub by: u128,
    /// Its epoch.
    pub epoch: u64,
}

/// What a writer concludes from the answer to the put of its commit: that it is durable, or that another has taken over.
/// `stands` is none when its own object stands there; `whose` says whose another is, or none if that cannot be read:
/// whatever it is, it is not this writer's, so it fences as well.
///
/// # Errors
/// Who has taken over: nothing of the commit will ever be seen.
pub fn settled<T>(
    slot: CommitId,
    stands: Option<T>,
    whose: impl FnOnce(T) -> Option<Rival>,
) -> Result<(), Rival> {
    match stands {
        None => Ok(()),
        Some(object) => Err(whose(object).unwrap_or(Rival { by: 0, epoch: epoch_after(slot) })),
    }
}

/// From where on an owner lists to learn whether another has taken over, when `next` is its next commit.
#[must_use]
pub const fn listed_from(next: CommitId) -> CommitId {
    match next.number.checked_sub(1) {
        Some(number) => CommitId { number, ..next },
        // Nothing of this epoch is there: the owner's fence stands above the head of the one before.
        None => CommitId { epoch: next.epoch - 1, number: u64::MAX },
    }
}

/// The object of such a list that decides: below the highest there may be commits of the owner, made since.
#[must_use]
pub fn deciding(from: CommitId, listed: impl IntoIterator<Item = CommitId>) -> Option<CommitId> {
    listed.into_iter().max().filter(|id| *id > from)
}

/// The commits and fences that a collection need not keep for the protocol's sake, with `newest` the newest commit of its
/// writer: those below it, but for the highest of each epoch. What states need is kept besides.
pub fn collectable(log: &BTreeSet<CommitId>, newest: CommitId) -> impl Iterator<Item = CommitId> {
    let highest: BTreeMap<u64, CommitId> = log.iter().map(|id| (id.epoch, *id)).collect();
    let below = log.range(..newest);
    below.copied().filter(move |id| highest.get(&id.epoch) != Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, number: u64) -> CommitId {
        CommitId { epoch, number }
    }

    #[test]
    fn a_fence_without_a_head_leads_nowhere() {
        let fence = Top::<u8>::Fence { next_epoch: 1, head: None };
        assert_eq!(conclude(Some((id(0, 0), fence)), id(0, 0)), (HeadIs::Nowhere, id(1, 0)));
        assert_eq!(conclude::<u8>(None, id(4, 0)), (HeadIs::Start, id(4, 0)));
    }

    #[test]
    fn only_what_is_above_in_the_same_epoch_says_that_a_fence_came_late() {
        assert_eq!(above_fence(id(1, 3), [id(1, 2), id(1, 3), id(2, 0)]), None);
        assert_eq!(above_fence(id(1, 3), [id(1, 2), id(1, 5)]), Some(id(1, 5)));
    }

    #[test]
    fn what_cannot_be_read_fences_as_well() {
        let whose = |known: Option<Rival>| known;
        let rival = Rival { by: 7, epoch: 9 };
        assert_eq!(settled(id(2, 1), None, whose), Ok(()));
        assert_eq!(settled(id(2, 1), Some(Some(rival)), whose), Err(rival));
        assert_eq!(settled(id(2, 1), Some(None), whose), Err(Rival { by: 0, epoch: 3 }));
    }

    #[test]
    fn an_owner_without_a_commit_looks_above_the_epoch_before() {
        assert_eq!(listed_from(id(3, 2)), id(3, 1));
        assert_eq!(listed_from(id(3, 0)), id(2, u64::MAX));
        assert_eq!(deciding(id(3, 1), [id(3, 1)]), None);
        assert_eq!(deciding(id(3, 1), [id(3, 2), id(3, 4), id(3, 3)]), Some(id(3, 4)));
    }

    #[test]
    fn the_highest_of_each_epoch_and_what_is_newest_stay() {
        let log = BTreeSet::from([id(0, 0), id(1, 0), id(1, 1), id(1, 2), id(2, 0), id(2, 1), id(2, 2)]);
        let collectable: Vec<CommitId> = collectable(&log, id(2, 1)).collect();
        assert_eq!(collectable, [id(1, 0), id(1, 1), id(2, 0)]);
    }
}
