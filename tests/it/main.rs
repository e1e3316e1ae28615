//! The volume as its users see it, on every store.

mod commits;
mod common;
mod crash;
mod files;
mod local_log;
mod stores;
mod target;
mod zombie;
