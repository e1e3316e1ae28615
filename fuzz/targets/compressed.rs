#![no_main]
#![allow(missing_docs, reason = "it is a program for libFuzzer")]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rfs_fuzz::compressed(input));
