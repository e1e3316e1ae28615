//! The values with many fields: inodes and stored segments.

use std::sync::Arc;

use rfs_core::{Body, FILE_SIZE_MAX, Ino, Inode, Kind, Lsn, PATH_MAX, SegmentId, Times, Timestamp};
use rfs_journal::{ChainHash, SegmentHash};

use super::column::{Column, Input, NUMBER_MAX, put_deltas, put_numbers, put_pairs, put_runs};
use crate::objects::{StoredHeader, StoredSegment};

/// Longest target of a symlink, in bytes.
const TARGET_MAX: usize = PATH_MAX - 1;
/// Longest name of an object that a page holds, in bytes: no store takes a longer one.
const OBJECT_NAME_MAX: usize = 1024;

/// The columns of what every inode has come first, then those of directories, symlinks and devices, with as many rows
/// as there are of those.
impl Column for Inode {
    const MAX: usize = 10 * NUMBER_MAX + Kind::MAX + 2 * NUMBER_MAX + TARGET_MAX;

    fn encode(inodes: &[Self], out: &mut Vec<u8>) {
        let kinds: Vec<Kind> = inodes.iter().map(Self::kind).collect();
        Kind::encode(&kinds, out);
        put_numbers(out, inodes.iter().map(|inode| u64::from(inode.mode)));
        put_numbers(out, inodes.iter().map(|inode| u64::from(inode.uid)));
        put_numbers(out, inodes.iter().map(|inode| u64::from(inode.gid)));
        put_numbers(out, inodes.iter().map(|inode| u64::from(inode.nlink)));
        put_numbers(out, inodes.iter().map(|inode| inode.size));
        put_pairs(out, inodes.iter().map(|inode| (inode.size, inode.allocated)));
        let times = || inodes.iter().map(|inode| inode.times);
        put_deltas(out, times().map(|times| bits(times.born)));
        put_pairs(out, times().map(|times| (bits(times.born), bits(times.changed))));
        put_pairs(out, times().map(|times| (bits(times.changed), bits(times.modified))));
        put_pairs(out, times().map(|times| (bits(times.born), bits(times.accessed))));
        let directories = || {
            inodes.iter().filter_map(|inode| match inode.body {
                Body::Directory { parent, entries, next_cookie } => Some((parent, entries, next_cookie)),
                _ => None,
            })
        };
        put_deltas(out, directories().map(|(parent, ..)| parent.0));
        put_numbers(out, directories().map(|(_, entries, _)| entries));
        put_pairs(out, directories().map(|(_, entries, next_cookie)| (entries, next_cookie)));
        let targets = inodes.iter().filter_map(|inode| match &inode.body {
            Body::Symlink { target } => Some(&target[..]),
            _ => None,
        });
        put_runs(out, targets);
        let devices = inodes.iter().filter(|inode| is_device(inode.kind()));
        put_numbers(out, devices.map(Self::device));
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let kinds = Kind::decode(input, count)?;
        let of_kind = |wanted: fn(Kind) -> bool| kinds.iter().filter(|kind| wanted(**kind)).count();
        let modes = input.small_numbers(count)?;
        let uids = input.small_numbers(count)?;
        let gids = input.small_numbers(count)?;
        let nlinks = input.small_numbers(count)?;
        let sizes = input.numbers(count)?;
        let allocated = input.near(sizes.iter().copied())?;
        let born = input.deltas(count)?;
        let changed = input.near(born.iter().copied())?;
        let modified = input.near(changed.iter().copied())?;
        let accessed = input.near(born.iter().copied())?;
        let mut bodies = Bodies::decode(
            input,
            of_kind(|kind| kind == Kind::Directory),
            of_kind(|kind| kind == Kind::Symlink),
            of_kind(is_device),
        )?;
        let inodes = kinds.into_iter().enumerate().map(|(row, kind)| {
            let times = Times {
                accessed: time(accessed[row]),
                modified: time(modified[row]),
                changed: time(changed[row]),
                born: time(born[row]),
            };
            let inode = Self {
                mode: modes[row],
                uid: uids[row],
                gid: gids[row],
                nlink: nlinks[row],
                size: sizes[row],
                times,
                body: bodies.next(kind)?,
                allocated: allocated[row],
            };
            is_sound(&inode).then_some(inode)
        });
        inodes.collect()
    }
}

fn bits(time: Timestamp) -> u64 {
    time.as_nanos().cast_unsigned()
}

const fn time(bits: u64) -> Timestamp {
    Timestamp::from_nanos(bits.cast_signed())
}

const fn is_device(kind: Kind) -> bool {
    matches!(kind, Kind::CharDevice | Kind::BlockDevice)
}

/// What the tree demands of an inode by itself.
fn is_sound(inode: &Inode) -> bool {
    let size = match &inode.body {
        Body::File => inode.size <= FILE_SIZE_MAX && inode.allocated <= inode.size,
        Body::Symlink { target } => {
            !target.is_empty() && !target.contains(&0) && inode.size == target.len() as u64
        }
        _ => inode.size == 0,
    };
    let content = inode.kind() == Kind::File || inode.allocated == 0;
    size && content && inode.mode <= 0o7777
}

/// The columns of what only some inodes have.
struct Bodies {
    directories: std::vec::IntoIter<Body>,
    targets: std::vec::IntoIter<Arc<[u8]>>,
    devices: std::vec::IntoIter<u64>,
}

impl Bodies {
    fn decode(input: &mut Input<'_>, directories: usize, symlinks: usize, devices: usize) -> Option<Self> {
        let parents = Ino::decode(input, directories)?;
        let entries = input.numbers(directories)?;
        let next_cookies = input.near(entries.iter().copied())?;
        let rows = parents.into_iter().zip(entries).zip(next_cookies);
        let directories: Vec<Body> = rows
            .map(|((parent, entries), next_cookie)| Body::Directory { parent, entries, next_cookie })
            .collect();
        Some(Self {
            directories: directories.into_iter(),
            targets: input.runs(symlinks, TARGET_MAX, |target| Some(Arc::from(target)))?.into_iter(),
            devices: input.numbers(devices)?.into_iter(),
        })
    }

    fn next(&mut self, kind: Kind) -> Option<Body> {
        match kind {
            Kind::File => Some(Body::File),
            Kind::Directory => self.directories.next(),
            Kind::Symlink => Some(Body::Symlink { target: self.targets.next()? }),
            Kind::Fifo => Some(Body::Fifo),
            Kind::Socket => Some(Body::Socket),
            Kind::CharDevice => Some(Body::CharDevice { device: self.devices.next()? }),
            Kind::BlockDevice => Some(Body::BlockDevice { device: self.devices.next()? }),
            _ => None,
        }
    }
}

impl Column for StoredSegment {
    const MAX: usize = 9 * NUMBER_MAX + 16 + 32 + 32 + OBJECT_NAME_MAX;

    fn encode(segments: &[Self], out: &mut Vec<u8>) {
        let headers = || segments.iter().map(|stored| stored.header);
        put_deltas(out, headers().map(|header| header.id.0));
        put_deltas(out, headers().map(|header| header.epoch));
        put_deltas(out, headers().map(|header| header.base.0));
        put_numbers(out, segments.iter().map(|stored| stored.len));
        put_numbers(out, segments.iter().map(|stored| u64::from(stored.footer_len)));
        put_numbers(out, segments.iter().map(|stored| stored.offset));
        put_runs(out, segments.iter().map(|stored| stored.key.as_bytes()));
        for header in headers() {
            out.extend(header.writer.to_be_bytes());
        }
        for header in headers() {
            out.extend(header.chain.0);
        }
        for stored in segments {
            out.extend(stored.hash.0);
        }
    }

    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>> {
        let ids = SegmentId::decode(input, count)?;
        let epochs = input.deltas(count)?;
        let bases = input.deltas(count)?;
        let lens = input.numbers(count)?;
        let footer_lens = input.small_numbers(count)?;
        let offsets = input.numbers(count)?;
        let keys = input.runs(count, OBJECT_NAME_MAX, |key| String::from_utf8(key.to_vec()).ok())?;
        let mut segments = Vec::with_capacity(count);
        for (row, key) in keys.into_iter().enumerate() {
            let header = StoredHeader {
                id: ids[row],
                epoch: epochs[row],
                writer: u128::from_be_bytes(input.array()?),
                base: Lsn(bases[row]),
                chain: ChainHash::default(),
            };
            let (len, footer_len, offset) = (lens[row], footer_lens[row], offsets[row]);
            segments.push(Self { header, hash: SegmentHash::default(), len, footer_len, key, offset });
        }
        for stored in &mut segments {
            stored.header.chain = ChainHash(input.array()?);
        }
        for stored in &mut segments {
            stored.hash = SegmentHash(input.array()?);
        }
        Some(segments)
    }
}
