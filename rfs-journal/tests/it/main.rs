//! The formats of the journal: golden files, damage, and garbage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod damage;
mod garbage;
mod golden;
mod sample;
