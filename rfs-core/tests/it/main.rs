//! The logical model from outside: what it answers, and what it can never be brought to.

mod acls;
mod batch;
mod content;
mod damage;
mod hash;
mod names;
mod permissions;
mod posix;
mod random;
mod support;
mod xattrs;
