//! What `rfs` does with a volume that is not mounted: a file for each command.

pub(crate) mod apply;
pub(crate) mod cat;
pub(crate) mod changes;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod checkpoints;
pub(crate) mod completions;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod drill;
pub(crate) mod drop;
pub(crate) mod du;
pub(crate) mod fork;
pub(crate) mod gc;
pub(crate) mod inspect;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod pins;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod rewind;
pub(crate) mod stat;
pub(crate) mod stats;
pub(crate) mod store;

/// What a command's end says beside its output: a failure has its own exit code.
pub(crate) type Done = Result<(), crate::error::Failure>;
