//! What must hold in every state.

use std::collections::BTreeSet;

use rfs_core::CommitId;

use crate::needs::Missing;
use crate::world::{Object, Pinning, World};

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A commit that was acknowledged is not in the history that an opener finds, or another is in its place.
    Acknowledged(CommitId),
    /// An object that the newest state needs.
    Head(Object),
    /// An object that the state of a commit with a name needs.
    Named(CommitId, Object),
    /// An object that a pinned state needs, after whoever pinned it was told that it is kept.
    Pinned(CommitId, Object),
}

/// What is lost, if anything is.
pub fn loss(world: &World) -> Option<Loss> {
    let (head, _) = world.opening();
    let mut history = BTreeSet::new();
    let mut at = head;
    while let Some(id) = at.filter(|id| history.insert(*id)) {
        at = world.made.get(&id).and_then(|commit| commit.previous);
    }
    for (id, by) in &world.acknowledged {
        let is_there = history.contains(id) && world.made.get(id).is_some_and(|made| made.by == *by);
        if !is_there {
            return Some(Loss::Acknowledged(*id));
        }
    }
    let missing = |id: CommitId| {
        let found = world.needs(id).and_then(|needs| world.stands(&needs));
        found.err().map(|Missing(object)| object)
    };
    if let Some(object) = head.and_then(missing) {
        return Some(Loss::Head(object));
    }
    for id in history.iter().filter(|id| world.made.get(id).is_some_and(|commit| commit.named)) {
        if let Some(object) = missing(*id) {
            return Some(Loss::Named(*id, object));
        }
    }
    let Some(Pinning::Done(at)) = world.pinning else { return None };
    missing(at).map(|object| Loss::Pinned(at, object))
}
