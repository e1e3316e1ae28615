//! Records that are in the store when they are acknowledged, from many tasks at once, beside SlateDB.

use rfs::Level;

use crate::contest::{Contestant, Course, Score, Workload};
use crate::durable::{AT_ONCE, append_from_tasks, log_of};
use crate::memory::faster;
use crate::place::{far, metered, options, runtime, volume};

const EACH: usize = 20;

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "remote32",
    what: "640 appends of 128 B that are in the store when they return, 20 from each of 32 tasks; store in memory, 30 ms a put, 15 ms a get",
    unit: "appends",
    contestants: &[
        Contestant { name: "rfs", level: "Remote", run: append },
        Contestant { name: "slatedb", level: "store", run: put },
    ],
    targets: &[faster("slatedb", 1.0)],
    mounts: false,
}];

fn append(course: &Course) -> Score {
    let each = course.size(EACH);
    runtime().block_on(async {
        let store = far();
        let volume = volume(store.clone(), options().with_level(Level::Remote)).await;
        let log = log_of(&volume).await;
        let (score, times) = metered(&store, each * AT_ONCE, append_from_tasks(&log, each)).await;
        score.with_times(times)
    })
}

#[cfg(feature = "slatedb")]
fn put(course: &Course) -> Score {
    use std::sync::Arc;
    use std::time::Instant;

    use slatedb::Db;
    use slatedb::config::Settings;

    use crate::durable::RECORD;

    let each = course.size(EACH);
    runtime().block_on(async {
        // As short as it may be: its default makes everybody wait for 100 ms.
        let settings =
            Settings { flush_interval: Some(std::time::Duration::from_millis(1)), ..Settings::default() };
        let store = far();
        let db = Db::builder("db", Arc::clone(store.inner())).with_settings(settings);
        let db = Arc::new(db.build().await.expect("a database is made"));
        let start = Instant::now();
        let task = |db: Arc<Db>, number: usize| {
            tokio::spawn(async move {
                let mut times = Vec::new();
                for round in 0..each {
                    let start = Instant::now();
                    let key = format!("{number:04}-{round:08}");
                    let put = db.put(key.as_bytes(), RECORD).await.expect("the database takes it");
                    put.await_durable().await.expect("the store takes it");
                    times.push(start.elapsed());
                }
                times
            })
        };
        let tasks: Vec<_> = (0..AT_ONCE).map(|number| task(Arc::clone(&db), number)).collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.expect("the task ends"));
        }
        let took = start.elapsed();
        db.close().await.expect("the database is closed");
        Score::of(each * AT_ONCE, took).with_times(times)
    })
}

#[cfg(not(feature = "slatedb"))]
fn put(_: &Course) -> Score {
    Score::missing("built without the feature slatedb")
}
