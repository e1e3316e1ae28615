//! The volume as its users see it, on every store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod appends;
mod apply;
mod at_time;
mod bad_input;
mod budgets;
mod callers;
mod changes;
mod check;
mod collection;
mod commits;
mod common;
mod compaction;
mod compression;
mod crash;
mod damage;
mod diff;
mod drill;
mod everything;
mod files;
mod fork;
mod gate;
mod handles;
mod http;
mod inodes;
mod local_cache;
mod local_log;
mod locks;
mod metrics;
mod model;
mod outage;
mod owners;
mod ranges;
mod read_ahead;
mod repair;
mod restore;
mod rewind;
mod stores;
mod target;
mod zombie;
