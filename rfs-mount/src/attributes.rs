//! Attributes, times and errors in the kernel's form and in the volume's.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use rfs::{Attr, ErrorKind, Kind, SetTime, Timestamp};

/// For the kernel to show.
pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.allocated.div_ceil(512),
        atime: system_time(attr.times.accessed),
        mtime: system_time(attr.times.modified),
        ctime: system_time(attr.times.changed),
        crtime: system_time(attr.times.born),
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // Of `st_rdev`, the low 32 bits are the kernel's own encoding: 12 bits of major, 20 of minor number. It has
        // no devices beyond.
        rdev: u32::try_from(attr.device).unwrap_or(0),
        blksize: 4096,
        flags: 0,
    }
}

pub(crate) const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(time.as_nanos().unsigned_abs());
    if time.as_nanos() < 0 { SystemTime::UNIX_EPOCH - nanos } else { SystemTime::UNIX_EPOCH + nanos }
}

/// A time that the kernel asks to set. `fuser` hands seconds before 1970 on with the nanoseconds subtracted, where the
/// kernel meant them added.
pub(crate) fn set_time(time: Option<TimeOrNow>) -> SetTime {
    match time {
        None => SetTime::Keep,
        Some(TimeOrNow::Now) => SetTime::Now,
        Some(TimeOrNow::SpecificTime(time)) => {
            SetTime::At(match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => Timestamp::from_parts(
                    i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                    after.subsec_nanos(),
                ),
                Err(before) => {
                    let before = before.duration();
                    let seconds = 0_i64.checked_sub_unsigned(before.as_secs()).unwrap_or(i64::MIN);
                    Timestamp::from_parts(seconds, before.subsec_nanos())
                }
            })
        }
    }
}

/// What a program is told: POSIX's errors as they are, and for the others the nearest.
pub(crate) fn errno(error: &rfs::Error) -> fuser::Errno {
    match error.kind() {
        ErrorKind::Posix(errno) => fuser::Errno::from_i32(errno.raw()),
        ErrorKind::Fenced | ErrorKind::Closed => fuser::Errno::ESTALE,
        ErrorKind::Outage => fuser::Errno::ETIMEDOUT,
        _ => fuser::Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_come_back_as_the_kernel_meant_them() {
        // As fuser hands on -2 seconds and 200,000,000 nanoseconds.
        let handed = SystemTime::UNIX_EPOCH - Duration::new(2, 200_000_000);
        let meant = Timestamp::from_parts(-2, 200_000_000);
        assert_eq!(set_time(Some(TimeOrNow::SpecificTime(handed))), SetTime::At(meant));
        assert_eq!(system_time(meant), SystemTime::UNIX_EPOCH - Duration::new(1, 800_000_000));
    }

    #[test]
    fn the_first_and_the_last_time_can_be_shown() {
        for nanos in [i64::MIN, -1, 0, i64::MAX] {
            let shown = system_time(Timestamp::from_nanos(nanos));
            let back = match shown.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => i128::try_from(after.as_nanos()),
                Err(before) => i128::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
            };
            assert_eq!(back, Ok(i128::from(nanos)));
        }
    }
}
