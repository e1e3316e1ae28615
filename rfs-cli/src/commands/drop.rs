//! `rfs drop`: forgets the name of a checkpoint.

use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Format, Out};
use crate::volume::open_writer;

/// Forget the name of a checkpoint. What only its state needs can be collected then: `rfs gc`.
///
/// This takes the volume over, as `rfs checkpoint` does.
///
/// JSON: {dropped}.
#[derive(Debug, clap::Args)]
pub(crate) struct Drop {
    /// The volume.
    url: String,
    /// The checkpoint's name.
    name: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Dropped<'a> {
    dropped: &'a str,
}

impl Drop {
    pub(crate) async fn run(&self) -> Done {
        let volume = open_writer(&self.url).await?;
        let failed = |error: rfs::Error| {
            let advice = match error.errno() {
                Some(rfs::Errno::NotFound) => "`rfs checkpoints` lists those that there are",
                _ => "",
            };
            Failure::of(format!("drop checkpoint {:?} of {}", self.name, self.url), &error)
                .with_advice(advice)
        };
        volume.drop_checkpoint(&self.name).await.map_err(failed)?;
        volume.close().await.map_err(failed)?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Dropped { dropped: &self.name });
        }
        out.line(format_args!("dropped checkpoint {}", self.name))?;
        out.end()
    }
}
