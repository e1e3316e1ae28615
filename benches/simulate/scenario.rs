//! One run: everybody at once, and in the end a look at what is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rfs::{At, CheckOptions, Volume};
use rfs_testkit::sim::{Weather, World};

use crate::history::tree_of;
use crate::setting::{Setting, URL, some_time};
use crate::target::dump;
use crate::writer::Writers;
use crate::{forks, reader};

/// The names of the machines with writers.
const WRITERS: [&str; 3] = ["a", "b", "c"];

pub(crate) async fn run(world: World) {
    let setting = Arc::new(Setting::new(world.clone()));
    let mut rng = world.rng();
    Writers::new(&setting, "maker").create().await;
    let writers: Vec<_> =
        WRITERS[..=rng.index(3)].iter().map(|name| world.spawn(Writers::new(&setting, name).run())).collect();
    let mut others = vec![
        world.spawn(sky(Arc::clone(&setting))),
        world.spawn(forks::tend(Arc::clone(&setting), world.machine("forks"), world.rng())),
    ];
    for name in ["reader", "follower"] {
        others.push(world.spawn(reader::follow(Arc::clone(&setting), world.machine(name), world.rng())));
    }
    for writer in writers {
        writer.await;
    }
    setting.over.store(true, Ordering::Relaxed);
    for other in others {
        other.await;
    }
    look_back(&setting).await;
}

/// The weather changes, and now and then the bucket is gone.
async fn sky(setting: Arc<Setting>) {
    let world = &setting.world;
    let mut rng = world.rng();
    for change in 0.. {
        if setting.over.load(Ordering::Relaxed) {
            return;
        }
        world.set_weather(Weather::random(&mut rng));
        // Days are for those who sleep.
        let longest = if change < 100 { 120 } else { 40_000 };
        world.pause(some_time(&mut rng, Duration::from_secs(longest))).await;
        if rng.chance(10) {
            world.lose_bucket(some_time(&mut rng, Duration::from_secs(1_200)));
        }
    }
}

/// When the weather is fine again, and all that was under way has arrived: nothing that was acknowledged is lost, all
/// belongs to one history, and the volume goes on.
async fn look_back(setting: &Arc<Setting>) {
    let (world, history) = (&setting.world, &setting.history);
    world.set_weather(Weather::calm());
    world.find_bucket();
    world.pause(Duration::from_hours(25)).await;
    let (process, mut rng) = (world.machine("last").start(), world.rng());
    for round in 0..2 {
        let before = history.before_opening();
        let options = setting.options(&process, URL, false, &mut rng);
        let volume = Volume::open(URL, options).await.expect("the volume opens");
        let report = volume.open_report().expect("it is open for writing").clone();
        world.note(&format!("in the end: {report:?}"));
        let (expected, _) = history.opened(process.name(), &before, &report, volume.position(), None);
        history.at_the_end(report.commit);
        let found = dump(&volume).await.expect("the tree can be read");
        let difference = found.diff("found", &tree_of(&expected), "expected");
        assert!(difference.is_empty(), "in the end there is another tree\n{difference}");
        volume.check().await.expect("the tree is sound");
        volume.fs().metadata("/").await.expect("the volume answers");
        let receipt = volume.commit().await.expect("the volume commits");
        history.committed(report.epoch, receipt.position, &receipt);
        if round == 0 {
            volume.collect_garbage().await.expect("garbage is collected");
        }
        drop(volume);
        for (name, model) in history.checkpoints() {
            let options = setting.options(&process, URL, false, &mut rng);
            let volume = Volume::open_read_only(URL, options, At::Checkpoint(name.clone())).await;
            let volume = volume.unwrap_or_else(|error| panic!("checkpoint {name} is lost: {error}"));
            let found = dump(&volume).await.expect("a checkpoint can be read");
            let difference = found.diff("found", &tree_of(&model), "when it was made");
            assert!(difference.is_empty(), "checkpoint {name} changed\n{difference}");
        }
    }
    let forks = setting.forks.lock().clone();
    for mut fork in forks {
        let options = setting.options(&process, &fork.url, false, &mut rng);
        let visited = forks::visit(setting, &mut fork, options).await;
        visited.unwrap_or_else(|error| panic!("{}: {error}", fork.url));
    }
    let options = setting.options(&process, URL, false, &mut rng);
    let report = rfs::check(URL, options, CheckOptions::new().with_deep(true)).await;
    let report = report.expect("the volume can be checked");
    assert!(report.is_sound(), "{:?}", report.findings);
}
