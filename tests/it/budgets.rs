//! What operations may cost in memory that is allocated: counted, so that a needless copy is seen where a clock sees noise.
//!
//! What an operation allocates on its own thread is counted over many of it. A budget that is exceeded by more than a tenth
//! fails, and so does one that is twice what is needed: then it is to be lowered.

use std::fmt::Write as _;
use std::io::Write as _;

use allocation_counter::measure;
use rfs::blocking::{Fs, Volume};
use rfs::{Entropy, OpenOptions, Options};

const ROUNDS: u32 = 10_000;
const DIR: &str = "/job/state/files";

/// One operation, which is done again and again.
type Operation = Box<dyn FnMut(u64)>;

/// Allocations for each operation, and bytes.
struct Budget {
    name: &'static str,
    count: f64,
    bytes: f64,
    /// Prepares, and gives what is measured: one operation, by its number.
    operation: fn(&Volume) -> Operation,
}

const BUDGETS: &[Budget] = &[
    Budget {
        name: "append 100 B",
        count: 0.004,
        bytes: 161.0,
        operation: |volume| {
            let mut file = volume.fs().create("/log").unwrap();
            Box::new(move |_| file.write_all(&[1; 100]).unwrap())
        },
    },
    Budget {
        name: "overwrite 4 KiB",
        count: 3.25,
        bytes: 6420.0,
        operation: |volume| {
            let fs = volume.fs();
            fs.write("/data", vec![1; 64 << 12]).unwrap();
            let file = OpenOptions::new().write(true).clone();
            let file = fs.open_with("/data", &file).unwrap();
            Box::new(move |number| file.write_all_at(&[2; 4096], (number * 7 % 64) << 12).unwrap())
        },
    },
    Budget {
        name: "create, write 100 B, close",
        count: 10.35,
        bytes: 1516.0,
        operation: |volume| {
            let (fs, mut path) = (filled(volume, 0), String::new());
            Box::new(move |number| {
                let mut file = fs.create(named(&mut path, 'a', number)).unwrap();
                file.write_all(&[1; 100]).unwrap();
            })
        },
    },
    Budget {
        name: "rename",
        count: 6.2,
        bytes: 563.0,
        operation: |volume| {
            let (fs, mut from, mut to) = (filled(volume, ROUNDS), String::new(), String::new());
            Box::new(move |number| {
                fs.rename(named(&mut from, 'a', number), named(&mut to, 'b', number)).unwrap();
            })
        },
    },
    Budget {
        name: "metadata",
        count: 2.0,
        bytes: 50.0,
        operation: |volume| {
            let (fs, mut path) = (filled(volume, ROUNDS), String::new());
            Box::new(move |number| assert_eq!(fs.metadata(named(&mut path, 'a', number)).unwrap().len(), 100))
        },
    },
    Budget {
        name: "read 4 KiB that is in memory",
        count: 5.0,
        bytes: 4576.0,
        operation: |volume| {
            let fs = volume.fs();
            fs.write("/data", vec![1; 64 << 12]).unwrap();
            let file = fs.open("/data").unwrap();
            let mut buffer = vec![0; 4096];
            Box::new(move |number| {
                assert_eq!(file.read_at(&mut buffer, (number * 7 % 64) << 12).unwrap(), 4096);
            })
        },
    },
];

#[test]
fn operations_keep_to_their_budgets() {
    let mut table = String::new();
    let mut wrong = Vec::new();
    for Budget { name, count, bytes, operation } in BUDGETS {
        let options =
            Options::new().with_entropy(Entropy::seeded(1)).with_commit_interval(None).with_one_thread();
        let volume = Volume::create("memory://", options.with_commit_bytes(u64::MAX)).unwrap();
        let mut operation = operation(&volume);
        operation(0);
        let measured = measure(|| (1..u64::from(ROUNDS)).for_each(&mut operation));
        let each = |total: u64| f64::from(u32::try_from(total).unwrap()) / f64::from(ROUNDS - 1);
        let found = (each(measured.count_total), each(measured.bytes_total));
        writeln!(table, "{name}: {:.4} allocations of {count}, {:.0} bytes of {bytes}", found.0, found.1)
            .unwrap();
        let fits = |found: f64, budget: f64| found <= budget * 1.1 && found >= budget / 2.0;
        if !fits(found.0, *count) || !fits(found.1, *bytes) {
            wrong.push(name);
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "not within their budgets: {wrong:?}\n{table}");
}

/// A directory with so many files.
fn filled(volume: &Volume, files: u32) -> Fs {
    let fs = volume.fs();
    fs.create_dir_all(DIR).unwrap();
    let mut path = String::new();
    for number in 0..u64::from(files) {
        fs.write(named(&mut path, 'a', number), [1; 100]).unwrap();
    }
    fs
}

/// A name in the directory, made in place.
fn named(path: &mut String, letter: char, number: u64) -> &str {
    path.clear();
    write!(path, "{DIR}/{letter}{number:07}").unwrap();
    path
}
