//! Trees that are wholly in memory: no page of theirs is ever missing.

use rfs_core::{Errno, Fault, Missing};

/// What such a tree answers.
///
/// # Errors
/// Why it is refused.
///
/// # Panics
/// When a page is missing.
pub fn posix<T>(answer: Result<T, Fault>) -> Result<T, Errno> {
    answer.map_err(|fault| fault.errno().expect("the tree is wholly in memory"))
}

/// What such a tree holds.
///
/// # Panics
/// When a page is missing.
pub fn loaded<T>(answer: Result<T, Missing>) -> T {
    answer.expect("the tree is wholly in memory")
}
