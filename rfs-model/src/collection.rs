//! Collections: what they decide early, and delete late.

use std::collections::BTreeSet;

use rfs_core::CommitId;
use rfs_recovery::protocol;

use crate::world::{Action, Entry, Object, Protocol, Said, Session, Without, World};
use crate::writer::Mode;

/// How far a collection is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Collection {
    /// What there was, and what of it is needed.
    Marked(View),
    /// The same, and it has said what it keeps.
    Said(View),
    /// What goes.
    Decided(View, BTreeSet<Object>),
}

/// What a collection goes by: the store as it was when it began.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    /// The owner's newest commit then.
    newest: CommitId,
    /// From where on it looks for a fence.
    from: CommitId,
    by: Session,
    epoch: u64,
    last_segment: u8,
    listed: BTreeSet<Object>,
    needed: BTreeSet<Object>,
    states: Vec<CommitId>,
}

impl World {
    pub(crate) fn collector_may(&self, protocol: &Protocol, writer: usize, actions: &mut Vec<Action>) {
        let state = &self.writers[writer];
        match &state.collection {
            None => {
                let Mode::Owner(owner) = state.mode else { return };
                if owner.collects().is_some() && self.used.collections < protocol.bounds.collections {
                    actions.push(Action::Mark(writer));
                }
            }
            Some(Collection::Marked(_)) => actions.push(Action::Say(writer)),
            Some(Collection::Said(_)) => actions.push(Action::Decide(writer)),
            Some(Collection::Decided(..)) => actions.push(Action::Recheck(writer)),
        }
    }

    /// The next step of a writer's collection.
    pub(crate) fn collect(&mut self, protocol: &Protocol, writer: usize) {
        let next = match self.writers[writer].collection.take() {
            None => {
                self.used.collections += 1;
                self.mark(protocol, writer).map(Collection::Marked)
            }
            Some(Collection::Marked(view)) => {
                if protocol.has(Without::SaysWhatIsKept) {
                    let place = if protocol.has(Without::KeptByEpoch) { view.epoch } else { 0 };
                    let said = Said { newest: view.newest, states: view.states.clone() };
                    self.kept.insert(place, said);
                }
                Some(Collection::Said(view))
            }
            Some(Collection::Said(view)) => {
                let dead = self.dead(protocol, &view);
                Some(Collection::Decided(view, dead))
            }
            Some(Collection::Decided(view, dead)) => {
                if !protocol.has(Without::Recheck) || self.owns(&view) {
                    self.deletes.extend(dead);
                }
                None
            }
        };
        self.writers[writer].collection = next;
    }

    /// Whether nobody has taken over, as the check for a fence tells.
    fn owns(&self, view: &View) -> bool {
        let deciding = protocol::deciding(view.from, self.log.keys().copied());
        deciding.is_none_or(|id| match self.log[&id] {
            Entry::Commit(commit) => commit.by == view.by,
            Entry::Fence { by, .. } => by == view.by,
        })
    }

    fn mark(&self, protocol: &Protocol, writer: usize) -> Option<View> {
        let Mode::Owner(owner) = self.writers[writer].mode else { return None };
        let newest = owner.collects()?;
        let named = self
            .log
            .iter()
            .filter(|(id, entry)| **id <= newest && matches!(entry, Entry::Commit(commit) if commit.named));
        let states: BTreeSet<CommitId> = named.map(|(id, _)| *id).chain([newest]).collect();
        let mut view = View {
            newest,
            from: protocol::listed_from(owner.next),
            by: self.session(writer),
            epoch: owner.next.epoch,
            last_segment: self.made.get(&newest)?.last_segment,
            listed: self.log.keys().map(|id| Object::Log(*id)).chain(self.data.iter().copied()).collect(),
            needed: BTreeSet::new(),
            states: states.iter().copied().collect(),
        };
        if !self.owns(&view) {
            return None;
        }
        for state in states {
            // A state that it keeps and that is not whole is damage: the collection ends with an error.
            view.needed.extend(self.needs_of(state, protocol.has(Without::RewoundKept)).ok()?);
        }
        Some(view)
    }

    /// What goes: by the view, and the pins that there are now.
    fn dead(&self, protocol: &Protocol, view: &View) -> BTreeSet<Object> {
        let mut needed = view.needed.clone();
        if protocol.has(Without::PinsListed) {
            // One that was put too late keeps nothing, and whoever put it was told so.
            needed.extend(self.pins.iter().filter_map(|pin| self.needs(*pin).ok()).flatten());
        }
        let log: BTreeSet<CommitId> = view.listed.iter().filter_map(Object::in_log).collect();
        let collectable: BTreeSet<CommitId> = if protocol.has(Without::HighestKept) {
            protocol::collectable(&log, view.newest).collect()
        } else {
            log.range(..view.newest).copied().collect()
        };
        let pages = |object: &Object| match object {
            Object::Pages(object) => Some(*object),
            _ => None,
        };
        let newest_pages = needed.iter().filter_map(pages).max();
        let may_go = |object: &Object| match object {
            Object::Log(id) => collectable.contains(id),
            Object::Pages(object) => {
                newest_pages.is_some_and(|newest| *object < newest) || !protocol.has(Without::NewestPagesKept)
            }
            Object::Segment(segment) => segment.number <= view.last_segment,
        };
        view.listed.iter().filter(|object| may_go(object) && !needed.contains(object)).copied().collect()
    }
}

impl Object {
    fn in_log(&self) -> Option<CommitId> {
        match self {
            Self::Log(id) => Some(*id),
            _ => None,
        }
    }
}
