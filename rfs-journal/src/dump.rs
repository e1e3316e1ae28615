//! Prints journal artefacts readably.

use std::fmt::{self, Write};

use ::bytes::Bytes;

use crate::frame::{FrameHeader, HeaderFound};
use crate::reader::{frame_info, read_header, verify_segment};
use crate::{JournalError, Record, SEGMENT_HEADER_LEN};

/// A segment in words: header, each frame, each record, the footer. A segment that is not sealed, or is damaged, is
/// printed as far as it can be read, and then says what is wrong.
///
/// # Errors
/// `Damaged` or `UnknownFormat` when not even the header can be read.
pub fn dump_segment(artefact: &str, bytes: &Bytes) -> Result<String, JournalError> {
    let mut out = String::new();
    let header = read_header(artefact, bytes)?;
    let printed = print(&mut out, artefact, bytes, &header);
    printed.expect("writing to a String does not fail");
    Ok(out)
}

fn print(out: &mut String, artefact: &str, bytes: &Bytes, header: &crate::SegmentHeader) -> fmt::Result {
    writeln!(
        out,
        "segment {} of volume {:032x}, epoch {}, writer {:032x}, after LSN {} with chain {}",
        header.id, header.volume, header.epoch, header.writer, header.base, header.chain
    )?;
    let mut at = SEGMENT_HEADER_LEN;
    while let HeaderFound::Header(frame) = FrameHeader::find(&bytes[at..]) {
        writeln!(
            out,
            "  frame at {at}: LSN {} to {}, {} payload bytes, chain {}",
            frame.base.next(),
            frame.end(),
            frame.payload_len,
            frame.chain
        )?;
        let Some((_, changes)) = frame.body(&bytes[at..]) else {
            return writeln!(out, "  the frame does not have its checksum");
        };
        match frame_info(&frame, at as u64).decode(artefact, header.id, changes) {
            Ok(records) => records.iter().try_for_each(|record| print_record(out, record))?,
            Err(error) => return writeln!(out, "  {error}"),
        }
        at += frame.frame_len() as usize;
    }
    match verify_segment(artefact, bytes, None) {
        Ok(segment) => {
            writeln!(
                out,
                "  footer: {} frames, chain {}",
                segment.footer.frames.len(),
                segment.footer.chain
            )?;
            for (ino, positions) in &segment.footer.index {
                let places =
                    positions.iter().map(|at| format!("{}.{}", at.frame, at.record)).collect::<Vec<_>>();
                writeln!(out, "    inode {ino}: records {}", places.join(" "))?;
            }
            Ok(())
        }
        Err(error) => writeln!(out, "  not a whole sealed segment: {error}"),
    }
}

fn print_record(out: &mut String, record: &Record) -> fmt::Result {
    writeln!(out, "    {}: {:?}", record.lsn, record.change)
}
