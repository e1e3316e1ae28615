//! Does one workload once, as one of those who take part in it, and says how that went.
//!
//! ```text
//! rfs-race list
//! rfs-race run WORKLOAD CONTESTANT --dir DIR [--divisor N]
//! ```
//! Each run is a process of its own, so that none has another's memory. `cargo xtask race` runs them in turns.

mod checkpoint;
mod contest;
mod durable;
mod journals;
#[path = "../../volume/limits.rs"]
mod limits;
mod memory;
mod mounted;
mod mounts;
mod place;
mod reading;
#[path = "../../volume/segments.rs"]
mod segments;
mod slate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use crate::contest::{Course, S3, Workload};

const WORKLOADS: &[&[Workload]] = &[
    memory::WORKLOADS,
    durable::WORKLOADS,
    checkpoint::WORKLOADS,
    reading::WORKLOADS,
    slate::WORKLOADS,
    mounted::WORKLOADS,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => {
            for workload in WORKLOADS.iter().copied().flatten() {
                println!("{}", described(workload));
            }
            ExitCode::SUCCESS
        }
        ["run", workload, contestant, "--dir", dir, rest @ ..] => {
            let divisor = match rest {
                ["--divisor", divisor] => divisor.parse().unwrap_or(1),
                _ => 1,
            };
            run(workload, contestant, &PathBuf::from(dir), divisor)
        }
        _ => {
            eprintln!("rfs-race list | run WORKLOAD CONTESTANT --dir DIR [--divisor N]");
            ExitCode::from(2)
        }
    }
}

fn described(workload: &Workload) -> serde_json::Value {
    let contestants = workload.contestants.iter();
    let contestants: Vec<_> =
        contestants.map(|one| json!({ "name": one.name, "level": one.level })).collect();
    json!({
        "name": workload.name,
        "what": workload.what,
        "unit": workload.unit,
        "contestants": contestants,
        "targets": workload.targets,
        "mounts": workload.mounts,
    })
}

fn run(workload: &str, contestant: &str, dir: &Path, divisor: usize) -> ExitCode {
    let workload = WORKLOADS.iter().copied().flatten().find(|known| known.name == workload);
    let contestant =
        workload.and_then(|workload| workload.contestants.iter().find(|known| known.name == contestant));
    let Some(contestant) = contestant else {
        eprintln!("rfs-race: no such workload or contestant; `rfs-race list` shows them");
        return ExitCode::from(2);
    };
    // In a namespace of its own every process has the same number.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let name = format!("rfs-race-{}", now.as_nanos());
    let places = [dir.join(&name), PathBuf::from("/dev/shm").join(&name)];
    for place in &places {
        std::fs::create_dir_all(place).expect("the directory can be made");
    }
    let var = |name: &str| std::env::var(format!("RFS_RACE_S3_{name}")).ok();
    let s3 = var("ENDPOINT").map(|endpoint| S3 {
        endpoint,
        url: format!("s3://{}/{name}", var("BUCKET").unwrap_or_default()),
        access_key: var("ACCESS_KEY").unwrap_or_default(),
        secret_key: var("SECRET_KEY").unwrap_or_default(),
    });
    let [disk, memory] = places.clone();
    let score = (contestant.run)(&Course { disk, memory, divisor, s3 });
    for place in &places {
        remove(place);
    }
    println!("{}", serde_json::to_string(&score).expect("a score is JSON"));
    ExitCode::SUCCESS
}

/// Removes a directory, in which the rest of a program may be dying.
fn remove(place: &Path) {
    for _ in 0..100 {
        if std::fs::remove_dir_all(place).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} can't be removed", place.display());
}
