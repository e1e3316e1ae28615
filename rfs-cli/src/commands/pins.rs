//! `rfs pins`, `rfs pin` and `rfs unpin`: states that are kept for somebody.

use std::time::Duration;

use rfs::{At, Clock, SystemClock, Timestamp};
use serde::Serialize;

use super::Done;
use crate::args::parse_time;
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Table};
use crate::state::{self, Source};
use crate::time::Rfc3339;

/// List what keeps states of a volume beside its checkpoints, and for whom: forks, and `rfs pin`.
///
/// JSON: an array of {id, at, owner, fork, made, expires, objects}.
#[derive(Debug, clap::Args)]
pub(crate) struct Pins {
    /// The volume.
    url: String,
    #[command(flatten)]
    format: Format,
}

/// Keep a state of a volume for somebody, whatever is collected or dropped.
///
/// JSON: {id, at, owner, fork, made, expires, objects}.
#[derive(Debug, clap::Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    source: Source,
    /// For whom, or for what.
    owner: String,
    /// For how long, such as 10m, 1h or 7d. Default: until `rfs unpin`.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    duration: Option<Duration>,
    #[command(flatten)]
    format: Format,
}

/// Remove a pin. That of a fork that is still used is not to be removed: the fork would lose what it borrows.
///
/// JSON: {removed}.
#[derive(Debug, clap::Args)]
pub(crate) struct Unpin {
    /// The volume.
    url: String,
    /// The pin, as `rfs pins` shows it.
    #[arg(value_parser = parse_id)]
    id: u128,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Line {
    id: String,
    at: String,
    owner: String,
    fork: Option<String>,
    made: String,
    expires: Option<String>,
    objects: Option<usize>,
}

impl From<rfs::Pin> for Line {
    fn from(pin: rfs::Pin) -> Self {
        Self {
            id: format!("{:032x}", pin.id),
            at: pin.at.to_string(),
            owner: pin.owner,
            fork: pin.fork.map(|fork| format!("{fork:032x}")),
            made: format!("{:#}", Rfc3339(pin.made)),
            expires: pin.expires.map(|expires| format!("{:#}", Rfc3339(expires))),
            objects: pin.objects,
        }
    }
}

#[derive(Serialize)]
struct Removed {
    removed: String,
}

impl Pins {
    pub(crate) async fn run(&self) -> Done {
        let volume = state::open(&self.url, At::Head).await?;
        let pins = volume.pins().await;
        let pins = pins.map_err(|error| Failure::of(format!("list the pins of {}", self.url), &error))?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&pins.into_iter().map(Line::from).collect::<Vec<_>>());
        }
        let columns =
            [("PIN", Align::Left), ("COMMIT", Align::Right), ("UNTIL", Align::Left), ("FOR", Align::Left)];
        let mut table = Table::new(columns);
        for pin in pins {
            table.row([
                format!("{:032x}", pin.id),
                pin.at.to_string(),
                pin.expires.map_or_else(|| "removed".to_owned(), |expires| Rfc3339(expires).to_string()),
                Shown(pin.owner.as_bytes()).to_string(),
            ]);
        }
        table.print(&mut out)?;
        out.end()
    }
}

impl Pin {
    pub(crate) async fn run(&self) -> Done {
        let volume = self.source.open().await?;
        let until = self.duration.map(|duration| {
            let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
            Timestamp::from_nanos(SystemClock.now().as_nanos().saturating_add(nanos))
        });
        let pin = volume.pin(&At::Head, &self.owner, until).await;
        let pin = pin.map_err(|error| Failure::of(format!("pin a state of {}", self.source.url), &error))?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Line::from(pin));
        }
        out.line(format_args!("pin {:032x} keeps commit {}", pin.id, pin.at))?;
        out.end()
    }
}

impl Unpin {
    pub(crate) async fn run(&self) -> Done {
        let volume = state::open(&self.url, At::Head).await?;
        let failed = |error| Failure::of(format!("remove a pin of {}", self.url), &error);
        if !volume.pins().await.map_err(failed)?.iter().any(|pin| pin.id == self.id) {
            let what =
                format!("{} has no pin {:032x} (`rfs pins` lists those that there are)", self.url, self.id);
            return Err(Failure::new(what).with_code(3));
        }
        volume.unpin(self.id).await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Removed { removed: format!("{:032x}", self.id) });
        }
        out.line(format_args!("removed pin {:032x}", self.id))?;
        out.end()
    }
}

fn parse_id(text: &str) -> Result<u128, String> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = if plain { u128::from_str_radix(text, 16).ok() } else { None };
    id.ok_or_else(|| "a pin has 32 hexadecimal digits".to_owned())
}
