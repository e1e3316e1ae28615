//! Tests of the testkit itself, since a wrong judge makes every other test worthless; and of the core and the
//! journal against it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod core;
mod disk;
mod journal;
mod journal_log;
mod journal_parts;
mod journal_table;
mod linux;
mod store;
mod weather;
