//! The append-only journal of rfs: records, frames, segments, the segment index, and the local log.
//!
//! The journal knows what a [`Change`](rfs_core::Change) is and nothing of paths, object stores or tasks. It owns
//! no thread: the caller drives it. `docs/format.md` gives every byte.
//!
//! ```text
//! Change --Appender--> frames --LogWriter--> local log, segments
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use rfs_core::{Change, Ino, Lsn, SegmentId, Timestamp};
//! use rfs_journal::{Appender, ChainHash, Cut, LogWriter, Residency, WriterIdentity, verify_segment};
//!
//! let residency = Arc::new(Residency::default());
//! let identity = WriterIdentity { volume: 1, epoch: 1, writer: 2 };
//! let mut appender = Appender::new(residency.clone(), Cut::default(), SegmentId(0), Lsn(0));
//! let mut writer = LogWriter::in_memory(identity, residency.clone(), Lsn(0), ChainHash::default());
//!
//! let place = appender.reserve(5).unwrap();
//! let write = Change::Write { ino: Ino(2), offset: 0, len: 5, time: Timestamp::from_nanos(0) };
//! appender.append(&write, b"hello");
//! let boundary = appender.seal();
//! writer.write(appender.take_work(), false)?;
//!
//! assert_eq!(residency.read(place, 5)?.unwrap(), "hello");
//! let pieces = residency.segment_bytes(boundary.segment.unwrap())?.unwrap();
//! let segment = verify_segment("example", &pieces.concat().into(), None)?;
//! assert_eq!(segment.records[0].change, write);
//! # Ok::<(), rfs_journal::JournalError>(())
//! ```

mod appender;
mod bytes;
mod disk;
mod dump;
mod error;
mod frame;
mod reader;
mod resident;
mod salvage;
mod scan;
mod segment;
mod writer;

pub use appender::{Appender, Boundary, Cut, Work};
pub use disk::{Disk, DiskFile, RealDisk};
pub use dump::dump_segment;
pub use error::JournalError;
pub use frame::{ChainHash, FRAME_CHANGES_MAX, FRAME_HEADER_LEN, FRAME_PAYLOAD_MAX, FrameHeader, Record};
pub use reader::{VerifiedSegment, read_header, verify_segment};
pub use resident::{Residency, Sealed};
pub use salvage::{Salvaged, find_segments, salvage_segment};
pub use scan::{Head, LogEnd, OpenedLog, Orphaned, ScannedLog, open_log, scan_log};
pub use segment::{
    ByteSection, Footer, FrameInfo, RecordPosition, SEGMENT_HEADER_LEN, SegmentHash, SegmentHeader,
    TRAILER_LEN, VolumeId,
};
pub use writer::{LogWriter, WriterIdentity};

/// The version of all formats that this crate writes. It reads this one and every one before.
pub const FORMAT: u16 = 3;

/// No history gets so far: a greater number is not one of ours, and adding to it must not overflow.
pub(crate) const NUMBER_END: u64 = 1 << 62;

/// Whether this crate reads what has this format version.
pub(crate) const fn is_known(version: u16) -> bool {
    version >= 1 && version <= FORMAT
}
