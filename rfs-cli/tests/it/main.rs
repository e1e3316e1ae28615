//! The `rfs` command, run as a shell runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;
mod copying;
mod exec;
mod mount;
mod reading;
mod store_check;
mod transcript;
