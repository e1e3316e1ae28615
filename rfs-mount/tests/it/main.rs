//! Mounts, used as programs use them: through the system calls of Linux.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;
mod invalidation;
mod like_tmpfs;
mod limits;
mod names;
mod unlinked;
mod unmounting;
