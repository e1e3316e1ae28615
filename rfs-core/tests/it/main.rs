//! The logical model from outside: what it answers, and what it can never be brought to.

mod acls;
mod batch;
mod content;
mod damage;
mod hash;
mod locks;
mod names;
mod owners;
mod permissions;
mod posix;
mod quotas;
mod random;
mod ranges;
mod support;
mod xattrs;
