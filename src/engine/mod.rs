//! The running volume: the tree under its lock, the driver of the local log, and the committer.

mod at_time;
mod collector;
mod committer;
mod compactor;
mod driver;
mod fork;
mod graft;
mod image;
mod live;
mod loaded;
mod locks;
mod open;
mod pin;
mod read_ahead;
mod rewind;
mod shared;
mod usage;
mod watch;

pub(crate) use collector::{Collector, collect_at_close, collect_now};
pub use committer::Receipt;
pub(crate) use committer::{CommitState, commit_named, commit_now, name_state, queue_commit};
pub use compactor::Compacted;
pub(crate) use compactor::compact_now;
pub(crate) use fork::{detach, fork};
pub(crate) use image::{image_at_close, image_now, name_image};
pub(crate) use live::{Caller, Live, Refused, each_step};
pub(crate) use locks::{LockRequest, Wanted};
pub use open::{LocalLog, OpenReport};
pub(crate) use open::{open_reader, open_writer};
pub(crate) use pin::{pin, resolve};
pub(crate) use rewind::{rewind, rewind_path};
pub(crate) use shared::Shared;
pub use usage::StoreUsage;
pub(crate) use usage::usage_now;
pub(crate) use watch::Origin;
pub use watch::{Changed, Watch};
