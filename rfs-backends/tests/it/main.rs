//! What a store must do, on stores that behave and on stores that do not.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod bandwidth;
mod canned;
mod circuit;
mod compress;
mod conformance;
mod create;
mod double;
mod hedge;
mod http;
mod metrics;
mod platforms;
mod policy;
mod seal;
mod servers;
mod store;
mod upload;
mod urls;
