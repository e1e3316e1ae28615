//! The commit protocol as a model: every interleaving of a few writers, their collectors and somebody who pins, on a
//! store that applies puts and deletes late, or twice, and loses answers, is gone through.
//!
//! What they conclude from what they see is decided by [`rfs_recovery::protocol`], which the product runs too. The rest,
//! which step follows which, is [`World`]'s own. A state is checked by [`loss`]: nothing acknowledged is lost, and
//! everything that is kept can be read.
//!
//! [`Without`] takes one safeguard away. Each has to lose something: then the model sees what it is for.

mod collection;
mod explore;
mod loss;
mod needs;
mod world;
mod writer;

pub use explore::{Found, explore};
pub use loss::{Loss, loss};
pub use world::{Action, Bounds, Protocol, Without, World};
