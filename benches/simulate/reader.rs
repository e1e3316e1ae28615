//! Readers of the head and of checkpoints, which open the volume again and again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rfs::{At, Error, ErrorKind, Volume};
use rfs_testkit::Rng;
use rfs_testkit::sim::{Machine, Process};

use crate::history::tree_of;
use crate::setting::{Setting, URL, some_time};
use crate::target::dump;

/// Follows the head, and looks at checkpoints, until all is over, or it has seen enough.
pub(crate) async fn follow(setting: Arc<Setting>, mut machine: Machine, mut rng: Rng) {
    let process = machine.start();
    for round in 0..40 {
        if setting.over.load(Ordering::Relaxed) {
            return;
        }
        // Days are for those who sleep.
        let longest = if round < 30 { 120 } else { 40_000 };
        setting.world.pause(some_time(&mut rng, Duration::from_secs(longest))).await;
        let checkpoints = setting.history.checkpoints();
        if checkpoints.is_empty() || rng.chance(60) {
            read_head(&setting, &process, &mut rng).await;
        } else {
            let (name, model) = rng.pick(&checkpoints).clone();
            let found = read(&setting, &process, At::Checkpoint(name.clone()), &mut rng).await;
            match found {
                Ok((_, found)) => {
                    let difference = found.diff("read", &tree_of(&model), "when it was made");
                    assert!(difference.is_empty(), "checkpoint {name} changed\n{difference}");
                    setting.world.count("checkpoints read");
                }
                // It was dropped meanwhile.
                Err(_) if !setting.history.has_checkpoint(&name) => {}
                Err(error) => {
                    assert!(Setting::is_explained(&process, &error), "reading checkpoint {name}: {error}");
                }
            }
        }
    }
}

async fn read_head(setting: &Setting, process: &Process, rng: &mut Rng) {
    let (before, began) = (setting.history.before_reading(), setting.world.elapsed());
    match read(setting, process, At::Head, rng).await {
        Ok((position, found)) => {
            setting.history.read(process.name(), &before, position, found);
            setting.world.count("heads read");
        }
        Err(error) => {
            // It has the grace, less what clocks differ by.
            let took = setting.world.elapsed().saturating_sub(began);
            let outlived = took + Duration::from_secs(300) > setting.grace;
            let explained = Setting::is_explained(process, &error)
                || matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NoSuchState) && outlived;
            assert!(explained, "{} reads the head: {error} ({:?})", process.name(), error.kind());
            setting.world.count("readers whose state was collected, or that had no store");
        }
    }
}

async fn read(
    setting: &Setting,
    process: &Process,
    at: At,
    rng: &mut Rng,
) -> Result<(rfs::Lsn, rfs_testkit::Dump), Error> {
    let options = setting.options(process, URL, false, rng);
    let volume = Volume::open_read_only(URL, options, at).await?;
    Ok((volume.position(), dump(&volume).await?))
}
