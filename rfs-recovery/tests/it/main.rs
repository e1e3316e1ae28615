//! The formats of a volume's objects: golden files, versions to come, and objects that are made up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod golden;
mod image;
mod made_up;
mod pages;
mod sample;
