//! `rfs cat`: the content of files.

use super::Done;
use crate::error::Failure;
use crate::output::{Out, Shown};
use crate::state::Source;
use crate::walk::as_path;

/// What is read at a time.
const PIECE: u64 = 4 << 20;

/// Write the content of files of a volume to the standard output, one after the other.
///
/// Every byte is verified before it is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    source: Source,
    /// The files' paths in the volume.
    #[arg(required = true)]
    paths: Vec<std::ffi::OsString>,
}

impl Cat {
    pub(crate) async fn run(&self) -> Done {
        let volume = self.source.open().await?;
        let fs = volume.fs();
        let mut out = Out::new();
        for path in &self.paths {
            let path = path.as_encoded_bytes();
            let failed = |error: rfs::Error| Failure::of(Shown(path), &error);
            let file = fs.open(as_path(path)).await.map_err(failed)?;
            let mut at = 0;
            loop {
                let pieces = file.read_pieces(at, PIECE).await.map_err(failed)?;
                let before = at;
                for piece in pieces {
                    out.bytes(&piece)?;
                    at += piece.len() as u64;
                }
                if at == before {
                    break;
                }
            }
        }
        out.end()
    }
}
