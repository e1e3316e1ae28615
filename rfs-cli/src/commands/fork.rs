//! `rfs fork` and `rfs detach`: a volume that begins with a state of another.

use rfs::At;
use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Count, Format, Out, Size};
use crate::state::Source;
use crate::volume::open_writer;

/// Make a volume at another URL that begins with a state of this one.
///
/// It takes a few requests, however large the volume is: the fork borrows this one's objects, which a pin keeps from now on
/// (`rfs pins`). Both go on for themselves. The URL is of the same kind of store, with the same settings. Do not move or
/// delete this volume before `rfs detach` was run on the fork. Who writes this volume is not disturbed.
///
/// JSON: {volume, url, at, pin}.
#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    #[command(flatten)]
    source: Source,
    /// Where to make the fork.
    new_url: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Forked<'a> {
    volume: String,
    url: &'a str,
    at: String,
    pin: String,
}

impl Fork {
    pub(crate) async fn run(&self) -> Done {
        let volume = self.source.open().await?;
        let failed = |error| Failure::of(format!("fork {}", self.source.url), &error);
        let forked = volume.fork(&self.new_url, &At::Head).await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Forked {
                volume: format!("{:032x}", forked.volume),
                url: &self.new_url,
                at: forked.at.to_string(),
                pin: format!("{:032x}", forked.pin),
            });
        }
        out.line(format_args!("{} begins with commit {} of {}", self.new_url, forked.at, self.source.url))?;
        out.end()
    }
}

/// Copy to a fork what it still borrows from the volumes that it descends from.
///
/// From then on it needs no other volume, and its pin is gone. Run again after it was interrupted, it goes on.
///
/// This takes the volume over: a program that writes it, such as `rfs mount`, learns so at its next commit, and ends.
///
/// JSON: {objects, bytes}.
#[derive(Debug, clap::Args)]
pub(crate) struct Detach {
    /// The fork.
    url: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Detached {
    objects: u64,
    bytes: u64,
}

impl Detach {
    pub(crate) async fn run(&self) -> Done {
        let volume = open_writer(&self.url).await?;
        let failed = |error| Failure::of(format!("detach {}", self.url), &error);
        let rfs::Detached { objects, bytes, .. } = volume.detach().await.map_err(failed)?;
        volume.close().await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Detached { objects, bytes });
        }
        out.line(format_args!("copied {}, {}", Count(objects, "object", "objects"), Size(bytes)))?;
        out.end()
    }
}
