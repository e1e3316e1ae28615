//! The formats of a volume's objects: golden files, versions to come, and objects that are made up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod collect;
mod golden;
mod image;
mod made_up;
mod made_up_pages;
mod pages;
mod sample;
