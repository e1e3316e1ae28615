//! One operation, done again and again: what is counted under callgrind by `cargo xtask instructions`.
//!
//! ```text
//! instructions list
//! instructions OPERATION COUNT
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use rfs::blocking::{Fs, Volume};
use rfs::{Entropy, OpenOptions, Options};

const DIR: &str = "/job/state/files";
/// The files that are there before anything is counted.
const FILES: u64 = 2_000;

struct Operation {
    name: &'static str,
    run: fn(&Volume, u64),
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "append", run: append },
    Operation { name: "overwrite", run: overwrite },
    Operation { name: "create", run: create },
    Operation { name: "rename", run: rename },
    Operation { name: "metadata", run: metadata },
    Operation { name: "read", run: read },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let chosen = |name: &str| OPERATIONS.iter().find(|operation| operation.name == name);
    match words.as_slice() {
        ["list"] => OPERATIONS.iter().for_each(|operation| println!("{}", operation.name)),
        [name, count] => {
            let (Some(operation), Ok(count)) = (chosen(name), count.parse()) else { return usage() };
            let options = Options::new().with_entropy(Entropy::seeded(1)).with_commit_interval(None);
            let options = options.with_one_thread().with_commit_bytes(u64::MAX);
            let volume = Volume::create("memory://", options).expect("a volume is made");
            (operation.run)(&volume, count);
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("instructions list | OPERATION COUNT");
    ExitCode::from(2)
}

fn append(volume: &Volume, count: u64) {
    let mut file = volume.fs().create("/log").expect("the file is made");
    for _ in 0..count {
        file.write_all(&[1; 100]).expect("it takes the bytes");
    }
}

fn overwrite(volume: &Volume, count: u64) {
    let fs = volume.fs();
    fs.write("/data", vec![1; 64 << 12]).expect("the file is made");
    let file = fs.open_with("/data", OpenOptions::new().write(true)).expect("it is opened");
    for number in 0..count {
        file.write_all_at(&[2; 4096], (number * 7 % 64) << 12).expect("it takes the bytes");
    }
}

fn create(volume: &Volume, count: u64) {
    let (fs, mut path) = (filled(volume), String::new());
    for number in 0..count {
        let mut file = fs.create(named(&mut path, 'b', number)).expect("the file is made");
        file.write_all(&[1; 100]).expect("it takes the bytes");
    }
}

/// There and back, so that the directory stays as large as it is.
fn rename(volume: &Volume, count: u64) {
    let (fs, mut from, mut to) = (filled(volume), String::new(), String::new());
    for number in 0..count {
        let [old, new] = if (number / FILES).is_multiple_of(2) { ['a', 'b'] } else { ['b', 'a'] };
        let (old, new) = (named(&mut from, old, number % FILES), named(&mut to, new, number % FILES));
        fs.rename(old, new).expect("the file is renamed");
    }
}

fn metadata(volume: &Volume, count: u64) {
    let (fs, mut path) = (filled(volume), String::new());
    for number in 0..count {
        let found = fs.metadata(named(&mut path, 'a', number % FILES)).expect("the file is there");
        assert_eq!(found.len(), 100);
    }
}

fn read(volume: &Volume, count: u64) {
    let fs = volume.fs();
    fs.write("/data", vec![1; 64 << 12]).expect("the file is made");
    let file = fs.open("/data").expect("it is opened");
    let mut buffer = vec![0; 4096];
    for number in 0..count {
        assert_eq!(file.read_at(&mut buffer, (number * 7 % 64) << 12).expect("it is read"), 4096);
    }
}

fn filled(volume: &Volume) -> Fs {
    let fs = volume.fs();
    fs.create_dir_all(DIR).expect("the directory is made");
    let mut path = String::new();
    for number in 0..FILES {
        fs.write(named(&mut path, 'a', number), [1; 100]).expect("a file is made");
    }
    fs
}

/// A name in the directory, made in place.
fn named(path: &mut String, letter: char, number: u64) -> &str {
    path.clear();
    write!(path, "{DIR}/{letter}{number:07}").expect("a string takes it");
    path
}
