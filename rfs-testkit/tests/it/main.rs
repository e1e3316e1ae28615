//! Tests of the testkit itself: a wrong judge makes every other test worthless.

mod core;
mod disk;
mod journal;
mod linux;
mod store;
