//! The job itself: what is done with a flight, and which files that touches.
//!
//! | path | is | changes by |
//! |---|---|---|
//! | `/position` | how far the job is | a new file, renamed over the old one |
//! | `/airports` | the destinations in the order in which they were first seen | appends |
//! | `/delays/XX.bin` | carrier XX: flights by destination and lateness | 8-byte cells written in place |
//! | `/logs/XX/current.csv` | carrier XX: flights of the running month | appends |
//! | `/logs/XX/2013-MM.csv` | the same of a month that is over | rename; deleted when it is old |
//! | `/job.lock` | held while the job runs | |
//!
//! **Consistency.** The volume commits at checkpoints and at no other time (`worker` turns automatic commits off), and
//! `/position` is written right before each. So every committed state has a position and exactly the effects of the
//! flights before it, and a job that restarts there does the flights since again, once. A job that committed at any
//! time would write `/position` together with each flight's effects in one `batch`.

use std::collections::{BTreeMap, HashMap};

use rfs::{Errno, File, Fs, OpenOptions};

use crate::Result;
use crate::input::Flight;

const POSITION: &str = "/position";
/// Months that are over and whose logs stay.
const MONTHS_KEPT: usize = 3;
/// Kinds of lateness: see [`bucket`].
const BUCKETS: u64 = 8;
const CELL_BYTES: u64 = 8;

/// A job that goes on where the volume says it was.
pub(crate) struct Job {
    fs: Fs,
    position: Position,
    /// Destinations by code; the number is the place in `/airports` and in the delay files.
    airports: HashMap<String, u64>,
    airports_file: File,
    carriers: HashMap<String, Carrier>,
    lock: File,
}

/// The open files of a carrier.
struct Carrier {
    log: File,
    delays: File,
}

/// How far the job is.
#[derive(Default)]
struct Position {
    flights: u64,
    /// The running month; 0 before the first flight.
    month: u8,
    /// The months that are over and whose logs are there, oldest first.
    rolled: Vec<u8>,
}

impl Job {
    /// Takes the job's lock and restores its state from the volume, which may be empty.
    pub(crate) async fn restore(fs: Fs) -> Result<Self> {
        fs.create_dir_all("/logs").await?;
        fs.create_dir_all("/delays").await?;
        let lock = OpenOptions::new().write(true).create(true).open(&fs, "/job.lock").await?;
        lock.try_lock().await?;
        let position = match fs.read_to_string(POSITION).await {
            Ok(text) => {
                Position::parse(&text).ok_or_else(|| format!("{POSITION} cannot be read: {text:?}"))?
            }
            Err(error) if error.errno() == Some(Errno::NotFound) => Position::default(),
            Err(error) => return Err(error.into()),
        };
        let airports_file = OpenOptions::new().append(true).create(true).open(&fs, "/airports").await?;
        let airports = fs.read_to_string("/airports").await?;
        let airports = airports.lines().map(str::to_owned).zip(0..).collect();
        Ok(Self { fs, position, airports, airports_file, carriers: HashMap::new(), lock })
    }

    /// Flights that are done.
    pub(crate) const fn flights(&self) -> u64 {
        self.position.flights
    }

    /// Does one flight. Returns whether a month ended before it.
    pub(crate) async fn take(&mut self, flight: &Flight<'_>) -> Result<bool> {
        let rolls = self.position.month != flight.month && self.position.month != 0;
        if rolls {
            self.roll().await?;
        }
        self.position.month = flight.month;
        let airport = self.airport(flight.destination).await?;
        if !self.carriers.contains_key(flight.carrier) {
            let carrier = Carrier::open(&self.fs, flight.carrier).await?;
            self.carriers.insert(flight.carrier.to_owned(), carrier);
        }
        let carrier = &self.carriers[flight.carrier];
        carrier.log.append(flight.line.as_bytes()).await?;
        carrier.count(airport, flight.delay).await?;
        self.position.flights += 1;
        Ok(rolls)
    }

    /// Writes down how far the job is: the next commit is a state from which it can go on.
    pub(crate) async fn save_position(&self) -> Result<()> {
        // Readers of the volume see the old position or the new one, never a half.
        self.fs.write("/position.tmp", self.position.to_string()).await?;
        self.fs.rename("/position.tmp", POSITION).await?;
        Ok(())
    }

    /// Gives the lock back and closes the files.
    pub(crate) async fn finish(self) -> Result<()> {
        Ok(self.lock.unlock().await?)
    }

    /// Ends the running month: current logs get its name, and the oldest go. All of it is one batch, so that no
    /// state of the volume has some logs rolled and others not.
    async fn roll(&mut self) -> Result<()> {
        self.carriers.clear();
        self.position.rolled.push(self.position.month);
        let old = self.position.rolled.len().saturating_sub(MONTHS_KEPT);
        let old: Vec<u8> = self.position.rolled.drain(..old).collect();
        let mut batch = self.fs.batch();
        for dir in self.carrier_dirs().await? {
            let current = format!("{dir}/current.csv");
            if self.fs.try_exists(&current).await? {
                batch = batch.rename(current, rolled_log(&dir, self.position.month));
            }
            for month in &old {
                let log = rolled_log(&dir, *month);
                if self.fs.try_exists(&log).await? {
                    batch = batch.remove_file(log);
                }
            }
        }
        Ok(batch.apply().await?)
    }

    /// The directories of the carriers that ever had a flight, in order.
    async fn carrier_dirs(&self) -> Result<Vec<String>> {
        let mut dirs = Vec::new();
        let mut entries = self.fs.read_dir("/logs").await?;
        while let Some(entry) = entries.next_entry().await? {
            dirs.push(format!("/logs/{}", entry.file_name().to_string_lossy()));
        }
        dirs.sort_unstable();
        Ok(dirs)
    }

    async fn airport(&mut self, code: &str) -> Result<u64> {
        if let Some(number) = self.airports.get(code) {
            return Ok(*number);
        }
        let number = self.airports.len() as u64;
        self.airports_file.append(format!("{code}\n").as_bytes()).await?;
        self.airports.insert(code.to_owned(), number);
        Ok(number)
    }
}

fn rolled_log(dir: &str, month: u8) -> String {
    format!("{dir}/2013-{month:02}.csv")
}

impl Carrier {
    async fn open(fs: &Fs, code: &str) -> Result<Self> {
        let dir = format!("/logs/{code}");
        fs.create_dir_all(&dir).await?;
        let log = OpenOptions::new().append(true).create(true).open(fs, format!("{dir}/current.csv")).await?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let delays = options.open(fs, format!("/delays/{code}.bin")).await?;
        Ok(Self { log, delays })
    }

    /// Counts a flight in its cell. A cell that was never written is a hole, or past the end: 0.
    async fn count(&self, airport: u64, delay: Option<i64>) -> Result<()> {
        let at = (airport * BUCKETS + bucket(delay)) * CELL_BYTES;
        let mut cell = [0; CELL_BYTES as usize];
        self.delays.read_at(&mut cell, at).await?;
        let count = u64::from_le_bytes(cell) + 1;
        self.delays.write_all_at(&count.to_le_bytes(), at).await?;
        Ok(())
    }
}

/// How late: cancelled, early, up to 5, 15, 30, 60, 120 minutes, later.
fn bucket(delay: Option<i64>) -> u64 {
    const BOUNDS: [i64; 6] = [0, 5, 15, 30, 60, 120];
    match delay {
        None => 0,
        Some(minutes) => 1 + BOUNDS.iter().filter(|bound| minutes >= **bound).count() as u64,
    }
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        let rolled = fields.get("rolled")?.split_ascii_whitespace().map(|month| month.parse().ok());
        Some(Self {
            flights: fields.get("flights")?.parse().ok()?,
            month: fields.get("month")?.parse().ok()?,
            rolled: rolled.collect::<Option<_>>()?,
        })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rolled: Vec<String> = self.rolled.iter().map(u8::to_string).collect();
        write!(f, "flights {}\nmonth {}\nrolled {}\n", self.flights, self.month, rolled.join(" "))
    }
}
