//! Journals of other crates, each behind a feature of its name.

use crate::contest::{Course, Score};

#[cfg(feature = "okaywal")]
mod okay {
    use okaywal::{LogVoid, WriteAheadLog};

    use super::{Course, Score};
    use crate::durable::{ALONE, EACH, RECORD, on_threads, one_by_one};

    fn opened(course: &Course) -> WriteAheadLog {
        WriteAheadLog::recover(course.disk.join("okaywal"), LogVoid).expect("the log is made")
    }

    fn append(log: &WriteAheadLog) {
        let mut entry = log.begin_entry().expect("an entry is begun");
        entry.write_chunk(RECORD).expect("the log takes it");
        entry.commit().expect("the disk takes it");
    }

    pub(crate) fn alone(course: &Course) -> Score {
        let log = opened(course);
        one_by_one(course.size(ALONE), || append(&log))
    }

    pub(crate) fn at_once(course: &Course) -> Score {
        let log = opened(course);
        on_threads(course.size(EACH), || append(&log))
    }
}

#[cfg(feature = "raft-engine")]
mod raft {
    use raft_engine::{Config, Engine, LogBatch};

    use super::{Course, Score};
    use crate::durable::{ALONE, EACH, RECORD, on_threads, one_by_one};

    fn opened(course: &Course) -> Engine {
        let dir = course.disk.join("raft-engine").to_string_lossy().into_owned();
        Engine::open(Config { dir, ..Config::default() }).expect("the log is made")
    }

    fn append(log: &Engine) {
        let mut batch = LogBatch::with_capacity(1);
        batch.put(1, b"log".to_vec(), RECORD.to_vec()).expect("the batch takes it");
        log.write(&mut batch, true).expect("the disk takes it");
    }

    pub(crate) fn alone(course: &Course) -> Score {
        let log = opened(course);
        one_by_one(course.size(ALONE), || append(&log))
    }

    pub(crate) fn at_once(course: &Course) -> Score {
        let log = opened(course);
        on_threads(course.size(EACH), || append(&log))
    }
}

#[cfg(feature = "okaywal")]
pub(crate) use okay::{alone as okaywal_alone, at_once as okaywal_at_once};
#[cfg(feature = "raft-engine")]
pub(crate) use raft::{alone as raft_engine_alone, at_once as raft_engine_at_once};

#[cfg(not(feature = "okaywal"))]
mod no_okaywal {
    use super::{Course, Score};

    pub(crate) fn okaywal_alone(_: &Course) -> Score {
        Score::missing("built without the feature okaywal")
    }
    pub(crate) use okaywal_alone as okaywal_at_once;
}
#[cfg(not(feature = "okaywal"))]
pub(crate) use no_okaywal::{okaywal_alone, okaywal_at_once};

#[cfg(not(feature = "raft-engine"))]
mod no_raft_engine {
    use super::{Course, Score};

    pub(crate) fn raft_engine_alone(_: &Course) -> Score {
        Score::missing("built without the feature raft-engine")
    }
    pub(crate) use raft_engine_alone as raft_engine_at_once;
}
#[cfg(not(feature = "raft-engine"))]
pub(crate) use no_raft_engine::{raft_engine_alone, raft_engine_at_once};
