//! Tests of the testkit itself: a wrong judge makes every other test worthless.

mod core;
mod disk;
mod journal;
mod journal_log;
mod journal_parts;
mod journal_table;
mod linux;
mod store;
