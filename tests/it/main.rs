//! The volume as its users see it, on every store.

mod commits;
mod common;
mod files;
mod local_log;
mod stores;
mod zombie;
