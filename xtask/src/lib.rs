//! The project's own tasks, started as `cargo xtask COMMAND`.
//!
//! Every command is a module with a `run` function and a line in the table of `main.rs`. The rules of
//! [`deps`] are a library, so that `cargo test` applies them to the real workspace as well.

pub mod ci;
pub mod deps;
pub mod documents;
pub mod figures;
pub mod flights;
pub mod fuzz;
pub mod generated;
pub mod instructions;
pub mod model;
pub mod mutate;
pub mod process;
pub mod race;
pub mod scale;
pub mod serve;
pub mod servers;
pub mod simulate;
pub mod stores;
pub mod suites;
pub mod tally;
pub mod test;
pub mod time;
pub mod workspace;

/// What a task ends with: nothing, or one message for whoever started it.
pub type Outcome = Result<(), String>;
