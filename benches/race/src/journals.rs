//! Journals of other crates, and databases used as one, each behind a feature of its name.

use crate::contest::{Course, Score};

/// Something that takes records, each of which is on the disk when it was taken.
#[cfg_attr(
    not(any(
        feature = "okaywal",
        feature = "raft-engine",
        feature = "walrus",
        feature = "fjall",
        feature = "redb",
        feature = "sqlite"
    )),
    expect(dead_code, reason = "nobody is raced")
)]
trait Journal: Sync + Sized {
    /// Those that take one record at a time do a tenth of the work: it is rates that are compared.
    const SLOW: bool = false;

    /// A new one in an empty directory.
    fn open(dir: &std::path::Path) -> Self;

    fn append(&self, record: &[u8]);

    fn alone(course: &Course) -> Score {
        let journal = Self::open(&course.disk);
        let count = course.size(crate::durable::ALONE / if Self::SLOW { 10 } else { 1 });
        crate::durable::one_by_one(count, || journal.append(crate::durable::RECORD))
    }

    fn at_once(course: &Course) -> Score {
        let journal = Self::open(&course.disk);
        let count = course.size(crate::durable::EACH / if Self::SLOW { 10 } else { 1 });
        crate::durable::on_threads(count, || journal.append(crate::durable::RECORD))
    }
}

/// Its two runs, which say that it is missing where the feature is.
macro_rules! peer {
    ($feature:literal, $journal:path, $alone:ident, $at_once:ident) => {
        #[cfg(feature = $feature)]
        pub(crate) fn $alone(course: &Course) -> Score {
            <$journal>::alone(course)
        }

        #[cfg(feature = $feature)]
        pub(crate) fn $at_once(course: &Course) -> Score {
            <$journal>::at_once(course)
        }

        #[cfg(not(feature = $feature))]
        pub(crate) fn $alone(_: &Course) -> Score {
            Score::missing(concat!("built without the feature ", $feature))
        }

        #[cfg(not(feature = $feature))]
        pub(crate) fn $at_once(course: &Course) -> Score {
            $alone(course)
        }
    };
}

peer!("okaywal", okaywal::WriteAheadLog, okaywal_alone, okaywal_at_once);
peer!("raft-engine", raft_engine::Engine, raft_engine_alone, raft_engine_at_once);
peer!("walrus", walrus_rust::Walrus, walrus_alone, walrus_at_once);
peer!("fjall", fjall_log::Log, fjall_alone, fjall_at_once);
peer!("redb", redb_log::Log, redb_alone, redb_at_once);
peer!("sqlite", sqlite_log::Log, sqlite_alone, sqlite_at_once);

#[cfg(feature = "okaywal")]
impl Journal for okaywal::WriteAheadLog {
    fn open(dir: &std::path::Path) -> Self {
        Self::recover(dir.join("okaywal"), okaywal::LogVoid).expect("the log is made")
    }

    fn append(&self, record: &[u8]) {
        let mut entry = self.begin_entry().expect("an entry is begun");
        entry.write_chunk(record).expect("the log takes it");
        entry.commit().expect("the disk takes it");
    }
}

#[cfg(feature = "raft-engine")]
impl Journal for raft_engine::Engine {
    fn open(dir: &std::path::Path) -> Self {
        let dir = dir.join("raft-engine").to_string_lossy().into_owned();
        Self::open(raft_engine::Config { dir, ..raft_engine::Config::default() }).expect("the log is made")
    }

    fn append(&self, record: &[u8]) {
        let mut batch = raft_engine::LogBatch::with_capacity(1);
        batch.put(1, b"log".to_vec(), record.to_vec()).expect("the batch takes it");
        self.write(&mut batch, true).expect("the disk takes it");
    }
}

#[cfg(feature = "walrus")]
impl Journal for walrus_rust::Walrus {
    const SLOW: bool = true;

    fn open(dir: &std::path::Path) -> Self {
        // It makes its files where the process is.
        std::env::set_current_dir(dir).expect("the directory is there");
        let (consistency, schedule) =
            (walrus_rust::ReadConsistency::StrictlyAtOnce, walrus_rust::FsyncSchedule::SyncEach);
        Self::with_consistency_and_schedule(consistency, schedule).expect("the log is made")
    }

    fn append(&self, record: &[u8]) {
        self.append_for_topic("log", record).expect("the disk takes it");
    }
}

#[cfg(feature = "fjall")]
mod fjall_log {
    use std::sync::atomic::{AtomicU64, Ordering};

    use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

    pub(super) struct Log(Database, Keyspace, AtomicU64);

    impl super::Journal for Log {
        const SLOW: bool = true;

        fn open(dir: &std::path::Path) -> Self {
            let database = Database::builder(dir.join("fjall")).open().expect("the database is made");
            let records = database.keyspace("log", KeyspaceCreateOptions::default).expect("it is made");
            Self(database, records, AtomicU64::new(0))
        }

        fn append(&self, record: &[u8]) {
            let key = self.2.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            self.1.insert(key, record).expect("the database takes it");
            self.0.persist(PersistMode::SyncData).expect("the disk takes it");
        }
    }
}

#[cfg(feature = "redb")]
mod redb_log {
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::{Database, TableDefinition};

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

    pub(super) struct Log(Database, AtomicU64);

    impl super::Journal for Log {
        const SLOW: bool = true;

        fn open(dir: &std::path::Path) -> Self {
            let database = Database::create(dir.join("log.redb")).expect("the database is made");
            Self(database, AtomicU64::new(0))
        }

        fn append(&self, record: &[u8]) {
            let key = self.1.fetch_add(1, Ordering::Relaxed);
            // A transaction is on the disk when it was committed, unless it is told otherwise.
            let transaction = self.0.begin_write().expect("a transaction is begun");
            transaction
                .open_table(TABLE)
                .expect("the table is opened")
                .insert(key, record)
                .expect("the table takes it");
            transaction.commit().expect("the disk takes it");
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite_log {
    use parking_lot::Mutex;
    use rusqlite::Connection;

    pub(super) struct Log(Mutex<Connection>);

    impl super::Journal for Log {
        const SLOW: bool = true;

        fn open(dir: &std::path::Path) -> Self {
            let base = Connection::open(dir.join("log.sqlite")).expect("the database is made");
            base.pragma_update(None, "journal_mode", "wal").expect("it has a log");
            base.pragma_update(None, "synchronous", "full").expect("each transaction is synced");
            base.execute("create table log (k integer primary key, v blob)", ()).expect("it is made");
            Self(Mutex::new(base))
        }

        fn append(&self, record: &[u8]) {
            let base = self.0.lock();
            let mut insert =
                base.prepare_cached("insert into log (v) values (?1)").expect("the statement is right");
            insert.execute([record]).expect("the disk takes it");
        }
    }
}
