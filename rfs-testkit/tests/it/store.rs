//! The simulated store behaves as stores do, and fails as it is told.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use rfs_testkit::{CallKind, CrashPlan, CrashSide, Fault, ManualClock, SimStore};

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread can be built")
        .block_on(test)
}

fn store() -> SimStore {
    SimStore::new(CrashPlan::never())
}

async fn create(store: &SimStore, path: &str, content: &'static str) -> Result<(), Error> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&Path::from(path), PutPayload::from(content), options).await.map(|_| ())
}

async fn listed(store: &SimStore, prefix: &str, after: Option<&str>) -> Vec<String> {
    let prefix = Path::from(prefix);
    let found = match after {
        Some(after) => store.list_with_offset(Some(&prefix), &Path::from(after)),
        None => store.list(Some(&prefix)),
    };
    found.map_ok(|meta| meta.location.to_string()).try_collect().await.expect("the list is answered")
}

#[test]
fn create_only_puts_have_one_winner() {
    run(async {
        let store = store();
        let other = store.client(CrashPlan::never());
        create(&store, "a", "mine").await.unwrap();
        assert!(matches!(create(&other, "a", "theirs").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(other.object(&Path::from("a")).unwrap(), "mine");
        assert_eq!((store.counts().puts, other.counts().puts, other.counts().requests()), (1, 1, 1));
    });
}

#[test]
fn reads_lists_and_deletes_are_those_of_a_store() {
    run(async {
        let clock = ManualClock::new(5_000_000_000);
        let store = SimStore::with_clock(CrashPlan::never(), clock.clone());
        for path in ["c/2", "c/1", "c/10", "cc/1", "c/d/1", "z"] {
            create(&store, path, "0123456789").await.unwrap();
        }
        assert_eq!(listed(&store, "c", None).await, ["c/1", "c/10", "c/2", "c/d/1"]);
        assert_eq!(listed(&store, "c", Some("c/10")).await, ["c/2", "c/d/1"]);
        let level = store.list_with_delimiter(Some(&Path::from("c"))).await.unwrap();
        assert_eq!(level.common_prefixes, [Path::from("c/d")]);
        assert_eq!(level.objects.len(), 3);

        let z = Path::from("z");
        assert_eq!(store.get_range(&z, 2..5).await.unwrap(), "234");
        let suffix = GetOptions::new().with_range(Some(GetRange::Suffix(3)));
        assert_eq!(store.get_opts(&z, suffix).await.unwrap().bytes().await.unwrap(), "789");
        assert!(store.get_range(&z, 10..12).await.is_err());
        let meta = store.head(&z).await.unwrap();
        assert_eq!((meta.size, meta.last_modified.timestamp()), (10, 5));
        store.delete(&z).await.unwrap();
        store.delete(&z).await.unwrap();
        store.set_delete_missing_fails(true);
        assert!(matches!(store.delete(&z).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.get(&z).await, Err(Error::NotFound { .. })));

        let mut upload = store.put_multipart(&z).await.unwrap();
        let (first, second) = (upload.put_part("one ".into()), upload.put_part("two".into()));
        second.await.unwrap();
        assert!(store.object(&z).is_none(), "a multipart object appears when it is complete");
        first.await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.object(&z).unwrap(), "one two");
    });
}

#[test]
fn a_crash_comes_before_or_after_the_effect_and_ends_the_client() {
    run(async {
        for (side, there) in [(CrashSide::Before, false), (CrashSide::After, true)] {
            let store = SimStore::new(CrashPlan::at_call(1, side, 0));
            create(&store, "a", "1").await.unwrap();
            create(&store, "b", "2").await.unwrap_err();
            create(&store, "c", "3").await.unwrap_err();
            assert!(store.get(&Path::from("a")).await.is_err());
            let next = store.client(CrashPlan::never());
            assert_eq!(next.object(&Path::from("b")).is_some(), there);
            assert_eq!(listed(&next, "c", None).await, [""; 0]);
            create(&next, "c", "3").await.unwrap();
        }
    });
}

#[test]
fn a_held_put_has_no_effect_until_it_is_released() {
    run(async {
        let store = store();
        let zombie = store.client(CrashPlan::never());
        let mut hold = zombie.hold_next_put();
        let putting = tokio::spawn({
            let zombie = zombie.clone();
            async move { create(&zombie, "a", "zombie").await }
        });
        hold.arrived().await;
        assert!(store.paths().is_empty());
        create(&store, "a", "living").await.unwrap();
        hold.release();
        assert!(matches!(putting.await.unwrap(), Err(Error::AlreadyExists { .. })));
        assert_eq!(store.object(&Path::from("a")).unwrap(), "living");
        create(&zombie, "b", "awake").await.unwrap();
    });
}

#[test]
fn injected_faults_hit_the_call_they_are_for() {
    run(async {
        let store = store();
        let path = Path::from("a");
        store.inject(CallKind::Put, 1, Fault::Refused);
        store.inject(CallKind::Get, 0, Fault::Refused);
        create(&store, "0", "0").await.unwrap();
        create(&store, "a", "1").await.unwrap_err();
        assert!(store.object(&path).is_none());
        assert!(store.get(&Path::from("0")).await.is_err());
        assert!(store.get(&Path::from("0")).await.is_ok());

        store.inject(CallKind::Put, 0, Fault::LostReply);
        assert!(matches!(create(&store, "a", "1").await, Err(Error::Generic { .. })));
        assert_eq!(store.object(&path).unwrap(), "1");

        store.inject(CallKind::Put, 0, Fault::AlreadyExists);
        assert!(matches!(create(&store, "own", "mine").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.object(&Path::from("own")).unwrap(), "mine");

        store.inject(CallKind::Put, 0, Fault::Late);
        create(&store, "late", "x").await.unwrap_err();
        assert!(store.object(&Path::from("late")).is_none());
        assert!(store.deliver_late_puts()[0].is_ok());
        assert_eq!(store.object(&Path::from("late")).unwrap(), "x");

        let before = tokio::time::Instant::now();
        store.inject(CallKind::Any, 0, Fault::Delay(Duration::from_secs(30)));
        create(&store, "slow", "x").await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(30));

        store.set_offline(true);
        create(&store, "b", "1").await.unwrap_err();
        store.client(CrashPlan::never()).head(&path).await.unwrap();
        store.set_offline(false);
        assert!(store.object(&Path::from("b")).is_none());

        store.flip_bit(&path, 0);
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "0");
        store.truncate(&path, 0);
        assert_eq!(store.head(&path).await.unwrap().size, 0);
        assert!(store.remove_object(&path) && !store.remove_object(&path));
    });
}
