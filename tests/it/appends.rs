//! Appends one after the other, which the tree learns of together: they come to what each by itself comes to.

use std::sync::Arc;
use std::time::Duration;

use rfs::{Credential, ErrorKind, File, Fs, OpenOptions, Permissions, Volume, XattrMode};
use rfs_testkit::{ManualClock, Rng, SimStore};
use tokio::io::AsyncWriteExt;

use crate::common::{TestClock, listing, options, sim};

const STEPS: usize = 3000;
const PATHS: [&str; 2] = ["/a", "/b"];

/// A volume that is written to, and three handles of each file: root and a user append, and the user has a cursor.
struct Side {
    volume: Volume,
    sim: SimStore,
    appending: Vec<[File; 2]>,
    cursors: Vec<File>,
    /// Nothing goes on unseen while somebody watches.
    _watch: Option<rfs::Watch>,
}

impl Side {
    async fn new(seed: u64, watched: bool) -> Self {
        let (sim, store) = sim();
        let clock = TestClock(ManualClock::ticking(1_700_000_000_000_000_000));
        let options = options(seed).with_store(store).with_clock(Arc::new(clock)).with_cut(4000, 30_000);
        let volume = Volume::create("sim://", options).await.unwrap();
        let watch = watched.then(|| volume.inodes().watch());
        let fs = volume.fs();
        fs.set_permissions("/", Permissions::from_mode(0o777)).await.unwrap();
        let user = fs.as_user(Credential::user(1000, 1000, &[]));
        let (mut appending, mut cursors) = (Vec::new(), Vec::new());
        for path in PATHS {
            cursors.push(user.create(path).await.unwrap());
            appending.push([to_append(&fs, path).await, to_append(&user, path).await]);
        }
        Self { volume, sim, appending, cursors, _watch: watch }
    }

    /// One step, and what can be seen of it.
    async fn step(&mut self, rng: &mut Rng) -> String {
        let (fs, which) = (self.volume.fs(), rng.index(PATHS.len()));
        let (path, bytes) = (PATHS[which], vec![rng.next() as u8; 1 + rng.index(90)]);
        let (file, cursor) = (&self.appending[which][rng.index(2)], &mut self.cursors[which]);
        match rng.below(100) {
            0..60 => {
                for _ in 0..rng.below(12) {
                    file.append(&bytes).await.unwrap();
                }
                format!("{:?}", file.append(&bytes).await)
            }
            60..75 => {
                cursor.write_all(&bytes).await.unwrap();
                format!("{:?}", cursor.write(&bytes).await.unwrap())
            }
            75..78 => format!("{:?}", file.append(&vec![1; 3000 + rng.index(3000)]).await),
            78..80 => format!("{:?}", file.append(b"").await),
            80..83 => format!("{:?}", cursor.write_at(&bytes, rng.below(20_000)).await),
            83..85 => format!("{:?}", cursor.set_len(rng.below(20_000)).await),
            85..87 => {
                format!(
                    "{:?}",
                    fs.set_permissions(path, Permissions::from_mode(*rng.pick(&[0o6755, 0o644]))).await
                )
            }
            87 => {
                let (name, value) = ("security.capability", [1, 0, 0, 2].repeat(5));
                format!("{:?}", fs.set_xattr(path, name, value, XattrMode::Set).await.is_ok())
            }
            88 => format!("{:?}", fs.remove_xattr(path, "security.capability").await.is_ok()),
            89..92 => format!("{:?}", file.metadata().await.unwrap()),
            92..95 => format!("{:?}", fs.read(path).await.map(|all| all.len())),
            95..97 => {
                let from = file.metadata().await.unwrap().len().saturating_sub(100);
                format!("{:?}", file.read_pieces(from, 100).await.map(|pieces| pieces.concat()))
            }
            97 => format!(
                "{:?}",
                fs.rename(path, PATHS[1 - which]).await.and(fs.copy(PATHS[1 - which], path).await)
            ),
            98 => {
                let user = fs.as_user(Credential::user(1000, 1000, &[]));
                fs.chown(path, Some(1000), None).await.unwrap();
                self.cursors[which] = OpenOptions::new().write(true).open(&user, path).await.unwrap();
                self.appending[which] = [to_append(&fs, path).await, to_append(&user, path).await];
                String::new()
            }
            _ => format!("{}", self.volume.commit().await.unwrap().position),
        }
    }
}

async fn to_append(fs: &Fs, path: &str) -> File {
    OpenOptions::new().read(true).append(true).open(fs, path).await.unwrap()
}

/// Beside a volume on which each Write reaches the tree by itself, since it is watched: what is answered is the same, and
/// so is each byte in the store.
#[tokio::test]
async fn rows_of_appends_come_to_what_single_ones_do() {
    for seed in 1..=8 {
        let mut sides = [Side::new(seed, false).await, Side::new(seed, true).await];
        let mut rng = Rng::new(seed);
        for step in 0..STEPS {
            let mut again = rng.clone();
            let [row, single] = &mut sides;
            let answers = (row.step(&mut rng).await, single.step(&mut again).await);
            assert_eq!(answers.0, answers.1, "seed {seed}, step {step}");
        }
        let [row, single] = sides;
        row.volume.commit().await.unwrap();
        single.volume.commit().await.unwrap();
        assert_eq!(row.volume.state_hash().await.unwrap(), single.volume.state_hash().await.unwrap());
        assert_eq!(listing(&row.volume).await, listing(&single.volume).await);
        assert_eq!(row.sim.paths(), single.sim.paths());
        for path in row.sim.paths() {
            assert_eq!(row.sim.object(&path), single.sim.object(&path), "seed {seed}, {path}");
        }
        row.volume.check().await.unwrap();
    }
}

/// What is pushed back is so in the middle of a row, too: by the bytes, by the time, and when nothing can go on.
#[tokio::test(start_paused = true)]
async fn a_row_of_appends_ends_when_there_is_no_room() {
    let (sim, store) = sim();
    let hour = Duration::from_secs(3600);
    let options = options(1).with_store(store).with_outage_budget(50_000, hour);
    let options = options.with_commit_interval(Some(Duration::from_secs(10)));
    let volume = Volume::create("sim://", options).await.unwrap();
    let file = volume.fs().create("/log").await.unwrap();
    volume.commit().await.unwrap();

    // Nothing fails yet: it waits for the commit that makes room.
    let hold = sim.hold_next_put();
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_millis(1), file.append(&[1; 100])).await.is_ok() {
        taken += 1;
        assert!(taken < 1000, "it is never asked to wait");
    }
    assert!((450..=500).contains(&taken), "{taken} appends of 100 B were taken in a budget of 50,000 B");
    hold.release();
    file.append(&[1; 100]).await.unwrap();
    volume.commit().await.unwrap();

    sim.set_offline(true);
    for second in 0.. {
        match file.append(&[1; 10]).await {
            Ok(_) => assert!(second < 3700, "an outage of an hour ends no row of appends"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Outage, "{error}");
                assert!(second >= 3600, "refused after {second} s");
                break;
            }
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    sim.set_offline(false);
    let position = volume.position();
    volume.wait(position, rfs::Level::Remote).await.unwrap();
    file.append(&[1; 10]).await.unwrap();
    volume.check().await.unwrap();
}
