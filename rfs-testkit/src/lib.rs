//! What rfs is tested with: a reference model, a generator of operations, a real Linux directory as judge, and a
//! disk, a store and a clock that do what they are told, failures included.
//!
//! Everything is fixed by seeds: the same seed gives the same run. Nothing here is part of what rfs ships.
//!
//! The same [`TestOp`] runs on every [`Target`]:
//!
//! ```
//! use rfs_testkit::{ModelFs, Profile, Rules, Workload, compare};
//! let ops: Vec<_> = Workload::new(1, Profile::rfs()).take(200).collect();
//! let (mut one, mut other) = (ModelFs::new(Rules::rfs()), ModelFs::new(Rules::rfs()));
//! compare(&ops, ("one", &mut one), ("other", &mut other), 50).unwrap();
//! ```

mod abilities;
mod caller;
mod clock;
mod content;
mod corner;
mod crash;
mod disk;
mod engine;
mod engine_dump;
mod engine_target;
mod faults;
mod journal;
mod linux;
mod model;
mod rng;
pub mod sim;
mod store;
mod target;
mod testop;
mod weather;
mod whole;
mod workload;

pub use abilities::Abilities;
pub use caller::callers;
pub use clock::ManualClock;
pub use content::Content;
pub use corner::{corner_ops, corner_tree, symlink_chain};
pub use crash::{CrashPlan, CrashSide};
pub use disk::{DiskCounts, SECTOR_LEN, SimDisk};
pub use engine::{Engine, TreeEngine};
pub use engine_dump::dump_tree;
pub use engine_target::EngineTarget;
pub use faults::{CallKind, Fault, Hold};
pub use journal::{JournalEngine, Pace, Snapshot, open_from_start};
pub use linux::{Judge, LinuxDir};
pub use model::{ModelFs, Rules};
pub use rng::Rng;
pub use store::{SimStore, StoreCounts};
pub use target::{Answer, Attr, CLOCK_NANOS, Dump, Identities, Node, Target, Value, compare, set_time};
pub use testop::{Condition, Data, LinkTarget, Path, Slot, TestOp, What, XattrText};
pub use weather::{Weather, WeatherCounts, WeatherProxy};
pub use whole::{loaded, posix};
pub use workload::{Profile, SLOTS, Workload};
