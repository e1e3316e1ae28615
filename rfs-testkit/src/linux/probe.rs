//! What the judge's file system can do, found out by trying.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags};
use rustix::io::Result;

use super::session::ofd_lock;
use crate::Abilities;

const FILE: &str = "probe";
const OTHER: &str = "other";
const BLOCK: u64 = 65_536;

/// Gets an open file of four blocks.
type Probe = Box<dyn Fn(OwnedFd) -> Result<()>>;

/// Tries each class of operations in the root directory, which is empty before and after.
pub(super) fn abilities(sysctls: &OwnedFd) -> Result<Abilities> {
    let file = || -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::open(FILE, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::ftruncate(&file, 4 * BLOCK)?;
        Ok(file)
    };
    let allocate = |flags| move |file: OwnedFd| rustix::fs::fallocate(&file, flags, BLOCK, BLOCK);
    let set =
        |name: &'static str| move |_: OwnedFd| rustix::fs::setxattr(FILE, name, b"x", XattrFlags::empty());
    // The smallest ACL that says more than the mode: one named user, and the mask.
    let acl: Vec<u8> = [
        2_u32.to_le_bytes().as_slice(),
        &acl_entry(0x01, 6, u32::MAX),
        &acl_entry(0x02, 4, 7),
        &acl_entry(0x04, 4, u32::MAX),
        &acl_entry(0x10, 4, u32::MAX),
        &acl_entry(0x20, 0, u32::MAX),
    ]
    .concat();
    let tries: [(Abilities, Probe); 14] = [
        (
            Abilities::SPECIAL_NODES,
            Box::new(|_| rustix::fs::mknodat(CWD, OTHER, FileType::CharacterDevice, Mode::empty(), 7)),
        ),
        (
            Abilities::RENAME_MODES,
            Box::new(|_| {
                rustix::fs::mknodat(CWD, OTHER, FileType::Fifo, Mode::empty(), 0)?;
                rustix::fs::renameat_with(CWD, FILE, CWD, OTHER, RenameFlags::EXCHANGE)
            }),
        ),
        (
            Abilities::NAMELESS,
            Box::new(|_| {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open(".", flags, Mode::from_raw_mode(0o600)).map(drop)
            }),
        ),
        (Abilities::USER_XATTRS, Box::new(set("user.probe"))),
        (
            Abilities::SYSTEM_XATTRS,
            Box::new(move |_| {
                rustix::fs::setxattr(FILE, "trusted.probe", b"x", XattrFlags::empty())?;
                rustix::fs::setxattr(FILE, "security.probe", b"x", XattrFlags::empty())
            }),
        ),
        (
            Abilities::ACL,
            Box::new(move |_| {
                rustix::fs::setxattr(FILE, "system.posix_acl_access", &acl, XattrFlags::empty())
            }),
        ),
        (Abilities::PREALLOCATE, Box::new(allocate(FallocateFlags::KEEP_SIZE))),
        (Abilities::PUNCH, Box::new(allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE))),
        (Abilities::ZERO_RANGE, Box::new(allocate(FallocateFlags::ZERO_RANGE))),
        (
            Abilities::SHIFT_RANGES,
            Box::new(move |file| {
                rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, BLOCK, BLOCK)?;
                rustix::fs::fallocate(&file, FallocateFlags::INSERT_RANGE, BLOCK, BLOCK)
            }),
        ),
        (
            Abilities::COPY,
            Box::new(|file| {
                let (mut from, mut to) = (0, 3 * BLOCK);
                rustix::fs::copy_file_range(&file, Some(&mut from), &file, Some(&mut to), 10).map(drop)
            }),
        ),
        (Abilities::SEEK, Box::new(|file| rustix::fs::seek(&file, SeekFrom::Hole(0)).map(drop))),
        (
            Abilities::RANGE_LOCKS,
            Box::new(|file| ofd_lock(file.as_fd(), nix::libc::F_WRLCK, rfs_core::LockRange::ALL).map(drop)),
        ),
        (Abilities::HUGE_FILES, Box::new(|file| rustix::fs::ftruncate(&file, rfs_core::FILE_SIZE_MAX))),
    ];
    let mut abilities = Abilities::NONE;
    for (class, probe) in tries {
        if probe(file()?).is_ok() {
            abilities = abilities | class;
        }
        for name in [FILE, OTHER] {
            match rustix::fs::unlinkat(CWD, name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    let sysctl = |name: &str| -> Result<bool> {
        let path = format!("../../sys/fs/{name}");
        let file = rustix::fs::openat(sysctls, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut value = [0; 1];
        rustix::io::read(&file, &mut value)?;
        Ok(value != *b"0")
    };
    if !(sysctl("protected_regular")? || sysctl("protected_fifos")? || sysctl("protected_symlinks")?) {
        abilities = abilities | Abilities::PLAIN_STICKY;
    }
    if sysctl("protected_hardlinks")? {
        abilities = abilities | Abilities::PROTECTED_LINKS;
    }
    Ok(abilities)
}

fn acl_entry(tag: u16, permissions: u16, id: u32) -> [u8; 8] {
    let [t0, t1] = tag.to_le_bytes();
    let [p0, p1] = permissions.to_le_bytes();
    let [i0, i1, i2, i3] = id.to_le_bytes();
    [t0, t1, p0, p1, i0, i1, i2, i3]
}
