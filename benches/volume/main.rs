//! What the operations of a volume cost, each beside the physical limit that it is measured against: the same work
//! by system calls on tmpfs or on the disk, a raw put to the same store, the decoding alone.
//!
//! `cargo bench` prints them all, `cargo bench -- rename` those whose name holds the word. Compare within a group:
//! what stands there ran one after the other on one machine. `RFS_TEST_S3_ENDPOINT` (and the other variables that
//! `cargo xtask test` sets) adds an S3 server.

mod commit;
mod durable;
mod limits;
mod memory;
mod open;
mod segments;
mod setup;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    memory::append(&mut criterion);
    memory::create(&mut criterion);
    memory::rename(&mut criterion);
    durable::append(&mut criterion);
    commit::commit(&mut criterion);
    open::open(&mut criterion);
    open::replay(&mut criterion);
    criterion.final_summary();
}
