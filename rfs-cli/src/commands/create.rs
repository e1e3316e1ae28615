//! `rfs create`: a new volume.

use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Format, Out};
use crate::volume::{own_root, writer_options};

/// Make a volume at a URL where there is none.
///
/// Its root directory is that of the user who makes it.
///
/// JSON: {url, volume}.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Where: file:///directory or s3://bucket/prefix.
    url: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Created<'a> {
    url: &'a str,
    volume: String,
}

impl Create {
    pub(crate) async fn run(&self) -> Done {
        let made = rfs::Volume::create(&self.url, writer_options()).await;
        let volume = made.map_err(|error| Failure::of(format!("create {}", self.url), &error))?;
        own_root(&volume).await?;
        let created = Created { url: &self.url, volume: format!("{:032x}", volume.id()) };
        let closed = volume.close().await;
        closed.map_err(|error| Failure::of(format!("create {}", self.url), &error))?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&created);
        }
        out.line(format_args!("created volume {} at {}", created.volume, created.url))?;
        out.end()
    }
}
