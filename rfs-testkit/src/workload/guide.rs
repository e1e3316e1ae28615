//! What tells a workload what is there.

use rfs_core::{Access, Errno, Kind};

use super::Profile;
use crate::{EngineTarget, ModelFs, Slot, TestOp, TreeEngine, Value};

/// The model where it can follow, else the core: an operation that a caller may not do must not leave a trace in it.
/// Should the core be wrong, then the operations are so in their place only; what they do is for the judge to say.
#[derive(Clone, Debug)]
pub(super) enum Guide {
    Model(ModelFs),
    Core(Box<EngineTarget<TreeEngine>>),
}

impl Guide {
    pub(super) fn new(profile: Profile) -> Self {
        if !profile.callers {
            return Self::Model(ModelFs::new(profile.rules));
        }
        let mut core = EngineTarget::new(TreeEngine::new());
        core.rules = profile.rules;
        Self::Core(Box::new(core))
    }

    pub(super) fn do_op(&mut self, op: &TestOp) -> Result<Value, Errno> {
        match self {
            Self::Model(model) => model.do_op(op),
            Self::Core(core) => core.do_op(op),
        }
    }

    pub(super) fn paths(&self) -> Vec<(Vec<u8>, Kind)> {
        match self {
            Self::Model(model) => model.paths(),
            Self::Core(core) => core.paths(),
        }
    }

    pub(super) fn handles(&self) -> Vec<(Slot, Kind, Access)> {
        match self {
            Self::Model(model) => model.handles().collect(),
            Self::Core(core) => core.handles().collect(),
        }
    }

    /// Whether a handle holds a removed directory whose `..` the core treats otherwise than Linux.
    pub(super) fn holds_removed(&self, slot: Slot) -> bool {
        match self {
            Self::Model(_) => false,
            Self::Core(core) => core.holds_removed(slot),
        }
    }
}
