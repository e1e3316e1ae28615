//! Forks of the volume: what they begin with stays, whatever becomes of the volume.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rfs::Volume;
use rfs_testkit::sim::Machine;
use rfs_testkit::{ModelFs, Rng, Target};

use crate::handles::Handles;
use crate::history::tree_of;
use crate::setting::{Setting, some_time};
use crate::target::{dump, perform};

/// A fork, of which one machine takes care.
#[derive(Clone)]
pub(crate) struct Fork {
    pub(crate) url: String,
    /// The states in one of which it is, the newest last.
    pub(crate) states: Vec<ModelFs>,
}

/// Opens forks, looks at them and writes to them, until all is over, or it has done enough.
pub(crate) async fn tend(setting: Arc<Setting>, mut machine: Machine, mut rng: Rng) {
    let process = machine.start();
    for _ in 0..15 {
        if setting.over.load(Ordering::Relaxed) {
            return;
        }
        setting.world.pause(some_time(&mut rng, Duration::from_secs(3_000))).await;
        let count = setting.forks.lock().len();
        if count == 0 {
            continue;
        }
        let at = rng.index(count);
        let mut fork = setting.forks.lock()[at].clone();
        let options = setting.options(&process, &fork.url, false, &mut rng);
        match visit(&setting, &mut fork, options).await {
            Ok(()) => setting.world.count("forks visited"),
            Err(error) => {
                assert!(
                    Setting::is_explained(&process, &error),
                    "{}: {error} ({:?})",
                    fork.url,
                    error.kind()
                );
            }
        }
        setting.forks.lock()[at] = fork;
    }
}

pub(crate) async fn visit(setting: &Setting, fork: &mut Fork, options: rfs::Options) -> rfs::Result<()> {
    let volume = Volume::open(&fork.url, options).await?;
    let found = dump(&volume).await?;
    let fits = |model: &&ModelFs| found.diff("a", &tree_of(model), "b").is_empty();
    let Some(mut model) = fork.states.iter().find(fits).cloned() else {
        let expected = tree_of(fork.states.last().expect("it began with one"));
        panic!("{} is in no state that it had\n{}", fork.url, found.diff("found", &expected, "last"));
    };
    fork.states = vec![model.clone()];
    for _ in 0..5 {
        let op = setting.next_op();
        let got = perform(&mut Handles::default(), &volume, &op).await?;
        assert_eq!(got, model.run(&op), "{}: {op:?}", fork.url);
        // It may commit by itself.
        fork.states.push(model.clone());
    }
    volume.commit().await?;
    fork.states = vec![model];
    volume.collect_garbage().await?;
    // It may have more of its history behind it than it was asked for.
    volume.close().await
}
