//! The logical model from outside: what it answers, and what it can never be brought to.

mod batch;
mod content;
mod damage;
mod hash;
mod posix;
mod random;
mod support;
