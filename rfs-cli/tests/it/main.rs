//! The `rfs` command, run as a shell runs it.

mod common;
mod exec;
mod mount;
