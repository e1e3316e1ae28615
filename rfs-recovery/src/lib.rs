//! Commits, images and recovery: how the journal of a volume becomes durable in an object store, and how its state
//! is rebuilt from there.
//!
//! The commit protocol is in [`commit_log`]: one create-only put makes a commit durable, and a fence object ends the
//! epoch of a writer that was taken over. What is concluded from the objects there is in [`protocol`]. [`state`] rebuilds a tree: the newest image, then the journal behind it.
//! The crate has no public API for applications; the crate `rfs` is that.

mod cache;
mod changes;
pub mod check;
pub mod collect;
pub mod commit_log;
mod content;
pub mod drill;
mod dump;
mod envelope;
mod error;
mod history;
pub mod image;
mod keys;
mod lineage;
pub mod local_cache;
pub mod objects;
pub mod page;
mod pages;
pub mod pins;
pub mod protocol;
pub mod repair;
pub mod state;

pub use changes::ChangesWalk;
pub use content::Content;
pub use dump::dump_object;
pub use envelope::{FORMAT, ObjectHash, ObjectKind};
pub use error::RecoveryError;
pub use history::{History, history};
pub use keys::{Keys, SUPERBLOCK};
pub use lineage::{Home, Lineage};
pub use pages::{Pages, READ_MAX};
