//! The running volume: the tree under its lock, the driver of the local log, and the committer.

mod committer;
mod driver;
mod live;
mod open;
mod shared;

pub use committer::Receipt;
pub(crate) use committer::{CommitState, commit_named, commit_now};
pub(crate) use live::{Live, with_done};
pub use open::{LocalLog, OpenReport};
pub(crate) use open::{open_reader, open_writer};
pub(crate) use shared::Shared;
