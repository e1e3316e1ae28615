//! `rfs drill`: restores a checkpoint for practice.

use std::fmt::Write;
use std::path::PathBuf;

use rfs::DrillOptions;

use super::Done;
use crate::error::Failure;
use crate::output::{Count, Format, Out, Shown, Size};
use crate::state::options;

/// Restore the newest checkpoint into a tree that is thrown away, and see that it is what was committed.
///
/// Every byte is read, from the store itself; the tree is made from its image, and by replaying the journal as far as
/// that is kept. Without any checkpoint it is the newest state. Nothing is changed, and a writer is not disturbed.
///
/// JSON: the receipt, {volume, checkpoint, commit, position, state, replayed_from, files, directories, others, bytes,
/// content, time, milliseconds, version}.
#[derive(Debug, clap::Args)]
pub(crate) struct Drill {
    /// The volume.
    url: String,
    /// The checkpoint to restore.
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Write the receipt to this file too.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Put the receipt into the store too, below `receipts`.
    #[arg(long)]
    store_receipt: bool,
    #[command(flatten)]
    format: Format,
}

impl Drill {
    pub(crate) async fn run(&self) -> Done {
        let mut drill = DrillOptions::new().with_stored_receipt(self.store_receipt);
        if let Some(name) = &self.checkpoint {
            drill = drill.with_checkpoint(name);
        }
        let receipt = rfs::drill(&self.url, options(), drill).await;
        let receipt = receipt.map_err(|error| Failure::of(format!("drill {}", self.url), &error))?;
        let json = receipt.to_json();
        if let Some(file) = &self.receipt {
            let written = std::fs::write(file, format!("{json}\n"));
            written.map_err(|error| {
                Failure::during(format!("write the receipt to {}", file.display()), &error)
            })?;
        }
        let mut out = Out::new();
        if self.format.json {
            out.line(json)?;
            return out.end();
        }
        let drilled = &receipt.drilled;
        let what = match &drilled.checkpoint {
            Some(name) => format!("checkpoint {}", Shown(name.as_bytes())),
            None => "the newest state".to_owned(),
        };
        let files = Count(drilled.files, "file", "files");
        let bytes = Size(drilled.bytes);
        out.line(format_args!("restored {what}, commit {}: {files}, {bytes}", drilled.commit))?;
        match drilled.replayed_from {
            Some(from) => {
                let (from, to) = (from.0, drilled.position.0);
                out.line(format_args!("its journal from position {from} to {to} gives the same tree"))?;
            }
            None => out.line("no journal before its image is kept: the tree was made from that alone")?,
        }
        out.line(format_args!("state   {}", drilled.state))?;
        out.line(format_args!("content {}", hex(&drilled.content)))?;
        out.end()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
