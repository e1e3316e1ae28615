//! What the state at a commit needs.

use std::collections::BTreeSet;

use rfs_core::{CommitId, PageObject};

use crate::world::{Commit, Entry, Image, Object, World};

/// An object that is needed and not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) Object);

impl World {
    pub(crate) fn commit(&self, id: CommitId) -> Result<&Commit, Missing> {
        match self.log.get(&id) {
            Some(Entry::Commit(commit)) => Ok(commit),
            _ => Err(Missing(Object::Log(id))),
        }
    }

    /// The objects that the state at a commit needs: those of its image, and the commits since with what they name; and
    /// what the states need that the way goes back to.
    pub(crate) fn needs(&self, id: CommitId) -> Result<BTreeSet<Object>, Missing> {
        self.needs_of(id, true)
    }

    pub(crate) fn needs_of(&self, id: CommitId, with_rewound: bool) -> Result<BTreeSet<Object>, Missing> {
        let mut needs = BTreeSet::new();
        let mut states = vec![id];
        while let Some(state) = states.pop() {
            let image = self.commit(state)?.image;
            if let Some(Image { object, base, live, .. }) = image {
                needs.insert(Object::Pages(object));
                needs.extend(base.map(Object::Pages));
                needs.extend(live.map(Object::Segment));
            }
            let mut at = Some(state);
            while let Some(id) = at.filter(|id| Some(*id) != image.map(|image| image.of)) {
                let commit = self.commit(id)?;
                needs.insert(Object::Log(id));
                needs.extend(commit.segment.map(Object::Segment));
                states.extend(commit.rewound.filter(|_| with_rewound));
                at = commit.previous;
            }
        }
        Ok(needs)
    }

    /// What the next image is based on, and the segment that content of its tree is in, when it is of this commit.
    pub(crate) fn base(&self, id: CommitId) -> (Option<PageObject>, Option<crate::world::Segment>) {
        let Ok(commit) = self.commit(id) else { return (None, None) };
        let image = commit.image;
        let mut at = Some(id);
        let mut live = None;
        while let Some(id) = at.filter(|id| Some(*id) != image.map(|image| image.of)) {
            let Ok(commit) = self.commit(id) else { break };
            live = live.or(commit.segment);
            if let Some(to) = commit.rewound {
                let (base, older) = self.base(to);
                return (base, live.or(older));
            }
            at = commit.previous;
        }
        (image.map(|image| image.object), live.or(image.and_then(|image| image.live)))
    }
}
