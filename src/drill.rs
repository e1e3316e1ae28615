//! Restores a checkpoint for practice.

use std::fmt::Write;
use std::time::Duration;

use rfs_backends::PutNew;
use rfs_core::Timestamp;
use rfs_recovery::drill::Drilled;
use rfs_recovery::{Keys, RecoveryError};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::volume::store;

/// What a drill restores, and where its receipt goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DrillOptions {
    checkpoint: Option<String>,
    stored: bool,
}

impl DrillOptions {
    /// The newest checkpoint, or without any the newest state.
    pub fn new() -> Self {
        Self::default()
    }

    /// This checkpoint.
    pub fn with_checkpoint(mut self, name: impl Into<String>) -> Self {
        self.checkpoint = Some(name.into());
        self
    }

    /// Puts the receipt into the store too, below `receipts`.
    pub fn with_stored_receipt(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }
}

/// That a state was restored, and was what had been committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrillReceipt {
    /// What was restored.
    pub drilled: Drilled,
    /// When the drill began.
    pub time: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The version of rfs.
    pub version: &'static str,
}

impl DrillReceipt {
    /// The receipt as JSON, as it is stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { drilled, time, took, version } = self;
        let quoted = |text: &str| {
            let mut quoted = String::from('"');
            for letter in text.chars() {
                match letter {
                    '"' | '\\' => quoted.extend(['\\', letter]),
                    letter if letter.is_control() => {
                        let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
                    }
                    letter => quoted.push(letter),
                }
            }
            quoted + "\""
        };
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let checkpoint = drilled.checkpoint.as_deref().map_or_else(|| "null".to_owned(), quoted);
        let replayed = drilled.replayed_from.map_or_else(|| "null".to_owned(), |from| from.0.to_string());
        let fields = [
            ("volume", quoted(&format!("{:032x}", drilled.volume))),
            ("checkpoint", checkpoint),
            ("commit", quoted(&drilled.commit.to_string())),
            ("position", drilled.position.0.to_string()),
            ("state", quoted(&drilled.state.to_string())),
            ("replayed_from", replayed),
            ("files", drilled.files.to_string()),
            ("directories", drilled.directories.to_string()),
            ("others", drilled.others.to_string()),
            ("bytes", drilled.bytes.to_string()),
            ("content", quoted(&hex(&drilled.content))),
            ("time", time.as_nanos().to_string()),
            ("milliseconds", took.as_millis().to_string()),
            ("version", quoted(version)),
        ];
        let fields = fields.map(|(name, value)| format!("  \"{name}\": {value}"));
        format!("{{\n{}\n}}", fields.join(",\n"))
    }
}

/// Restores a state into a tree that is thrown away, and sees that it is what was committed: its state hash, and every
/// byte. As far as the journal is kept the tree is also made by replaying it, which owes nothing to images; content is
/// read as files are, and once more from segments that are verified as a whole. No cache is asked, the volume is not
/// taken over, and a writer is not disturbed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// use rfs::{DrillOptions, Options, Volume};
/// let volume = Volume::open_or_create("memory://drilled", Options::new()).await?;
/// volume.fs().write("/greeting", b"hello").await?;
/// volume.close().await?;
/// let receipt = rfs::drill("memory://drilled", Options::new(), DrillOptions::new()).await?;
/// assert_eq!((receipt.drilled.files, receipt.drilled.bytes), (1, 5));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::NoSuchState`](crate::ErrorKind::NoSuchState); [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) and
/// [`ErrorKind::Bug`](crate::ErrorKind::Bug) when the state cannot be restored as it was; otherwise as
/// [`check`](crate::check).
pub async fn drill(url: &str, options: Options, drill: DrillOptions) -> Result<DrillReceipt> {
    let store = store(url, &options)?;
    let doing = || format!("drill {}", store.url());
    let time = options.clock.now();
    let checkpoint = drill.checkpoint.as_deref();
    let drilled = rfs_recovery::drill::drill(&store, options.memory_bytes, checkpoint).await;
    let drilled = drilled.map_err(|error: RecoveryError| Error::recovery(doing(), error))?;
    let nanos = options.clock.now().as_nanos().saturating_sub(time.as_nanos());
    let took = Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    let receipt = DrillReceipt { drilled, time, took, version: env!("CARGO_PKG_VERSION") };
    if drill.stored {
        let key = Keys(receipt.drilled.volume).receipt(receipt.drilled.commit, time.as_nanos());
        let put = store.put_new(&key, receipt.to_json().into()).await;
        // Of two drills at the same time one receipt is enough.
        let _: PutNew = put.map_err(|error| Error::store(doing(), error))?;
    }
    Ok(receipt)
}
