//! Operations that not every file system has.

use rfs_core::{Access, Allocate, Kind, LockMode, LockRange, Node, SetTime, XattrMode};

use super::{SLOTS, Workload};
use crate::{Abilities, TestOp, What, XattrText};

const BLOCK: u64 = 4096;

impl Workload {
    /// `None` when the profile does not have what was drawn.
    pub(super) fn further(&mut self, full: bool) -> Option<TestOp> {
        let (class, op): (_, fn(&mut Self) -> TestOp) = match self.rng.below(50) {
            0..3 if !full => (Abilities::SPECIAL_NODES, Self::mknod),
            3..5 if self.profile.handles => (Abilities::NAMELESS, Self::open_nameless),
            5..7 if self.profile.handles => (Abilities::NAMELESS, Self::link_of_handle),
            7..14 => (Abilities::USER_XATTRS, Self::xattr),
            14..18 => (Abilities::SYSTEM_XATTRS, Self::xattr),
            18..25 => (Abilities::ACL, Self::acl),
            25..27 => (Abilities::PREALLOCATE, |workload| {
                workload.allocate(&[Allocate::Extend, Allocate::KeepSize])
            }),
            27..30 => (Abilities::PUNCH, |workload| workload.allocate(&[Allocate::PunchHole])),
            30..33 => (Abilities::ZERO_RANGE, |workload| {
                workload.allocate(&[
                    Allocate::ZeroRange { keep_size: false },
                    Allocate::ZeroRange { keep_size: true },
                ])
            }),
            33..37 => (Abilities::SHIFT_RANGES, |workload| {
                workload.allocate(&[Allocate::Collapse, Allocate::Insert])
            }),
            37..40 => (Abilities::COPY, Self::copy),
            40..42 => (Abilities::SEEK, Self::seek),
            42..48 if self.profile.handles => (Abilities::RANGE_LOCKS, Self::range_lock),
            48 => (Abilities::NONE, |workload| {
                let (what, access) = (workload.any_what(), workload.rng.below(8) as u32);
                TestOp::Access { what, access }
            }),
            49 if self.rng.chance(10) => (Abilities::NONE, |_| TestOp::StatFs),
            49 if self.profile.callers => (Abilities::NONE, Self::set_times_now),
            _ => return None,
        };
        self.profile.can(class).then(|| op(self))
    }

    fn mknod(&mut self) -> TestOp {
        let device = *self.rng.pick(&[0, 7, 0xfff0_0fff, 0x1_2345]);
        let node = match self.rng.below(6) {
            0 => Node::Socket,
            1 => Node::CharDevice(device),
            2 => Node::BlockDevice(device),
            3 => Node::File,
            _ => Node::Fifo,
        };
        TestOp::Mknod { path: self.new_path(), node, mode: self.mode() }
    }

    fn open_nameless(&mut self) -> TestOp {
        let path = self.path_to(Kind::Directory);
        let access = Access { read: self.rng.chance(70), write: self.rng.chance(95) };
        let linkable = self.rng.chance(80);
        TestOp::OpenNameless { slot: self.rng.index(SLOTS), path, access, linkable, mode: self.mode() }
    }

    fn link_of_handle(&mut self) -> TestOp {
        TestOp::Link { from: What::Handle(self.slot()), to: self.new_path() }
    }

    fn xattr_target(&mut self) -> What {
        if self.rng.chance(40) {
            return What::Path { path: self.busy_file(), follow: true };
        }
        self.any_what()
    }

    fn xattr(&mut self) -> TestOp {
        let system = self.profile.can(Abilities::SYSTEM_XATTRS);
        let name: &[u8] = match self.rng.below(20) {
            6..8 => b"user.two",
            8 => &[b"user.".as_slice(), &[b'n'; 250]].concat(),
            9..12 if system => b"trusted.one",
            12..14 if system => b"security.one",
            14 if system && self.profile.callers => b"security.capability",
            15 => self.rng.pick::<&[u8]>(&[b"user.", b"user", b"other.one", b"", b"system.other", b".x"]),
            16 if system => self.rng.pick::<&[u8]>(&[b"trusted.", b"security.", b"trusted", b"security"]),
            17 => &[b"user.".as_slice(), &[b'n'; 251]].concat(),
            _ => b"user.one",
        };
        let (what, name) = match self.rng.below(3) {
            // Where there is one to be found.
            0 => (What::Path { path: self.busy_file(), follow: true }, b"user.one".as_slice()),
            _ => (self.xattr_target(), name),
        };
        let value = self.xattr_value(name);
        self.one_of_xattr_ops(what, XattrText(name.to_vec()), value)
    }

    fn one_of_xattr_ops(&mut self, what: What, name: XattrText, value: Vec<u8>) -> TestOp {
        let what = match what {
            // The system calls know no other base.
            What::Path { path, .. } if path.base.is_some() => What::path("/"),
            what => what,
        };
        let mode = match self.rng.below(8) {
            0 => XattrMode::Create,
            1 => XattrMode::Replace,
            _ => XattrMode::Set,
        };
        match self.rng.below(10) {
            0..2 => TestOp::GetXattr { what, name },
            2 => TestOp::ListXattr { what },
            3..5 => TestOp::RemoveXattr { what, name },
            _ => TestOp::SetXattr { what, name, value: XattrText(value), mode },
        }
    }

    fn xattr_value(&mut self, name: &[u8]) -> Vec<u8> {
        if name == b"security.capability" && self.rng.chance(85) {
            // Revision 2 of `struct vfs_cap_data`, with one permitted capability.
            let mut value = 0x0200_0001_u32.to_le_bytes().to_vec();
            value.extend([1 << self.rng.below(8), 0, 0, 0].iter().chain(&[0; 12]));
            return value;
        }
        let most = self.profile.max_xattr_bytes;
        let len = match self.rng.below(20) {
            0 => 0,
            1 => most,
            2 => rfs_core::XATTR_VALUE_MAX + 1,
            _ => self.rng.index(60),
        };
        // Linux takes an empty `security.capability` from everybody, and then cannot show it.
        let len = len.max(usize::from(name == b"security.capability"));
        vec![b'a' + self.rng.below(26) as u8; len]
    }

    fn acl(&mut self) -> TestOp {
        let name: &[u8] = match self.rng.below(20) {
            0 => b"system.posix_acl_accessory",
            1..12 => b"system.posix_acl_access",
            _ => b"system.posix_acl_default",
        };
        let what = match self.rng.below(4) {
            0 => self.xattr_target(),
            1 | 2 if name.ends_with(b"default") => What::path(self.directory_path()),
            _ => {
                let path = self.path_to(Kind::File);
                What::Path { path, follow: true }
            }
        };
        let value = self.acl_value();
        self.one_of_xattr_ops(what, XattrText(name.to_vec()), value)
    }

    /// An ACL in the form of `struct posix_acl_xattr_header`; one in eight is not one.
    fn acl_value(&mut self) -> Vec<u8> {
        const NONE: u32 = u32::MAX;
        let ids = [0, 500, 1000, 1001, 1002];
        let mut entries: Vec<(u16, u16, u32)> = Vec::new();
        let mut permissions = || self.rng.below(8) as u16;
        let [owner, group, other, mask] = std::array::from_fn(|_| permissions());
        entries.push((0x01, owner, NONE));
        let mut named = false;
        for (tag, base) in [(0x02, None), (0x08, Some((0x04, group, NONE)))] {
            entries.extend(base);
            for id in ids {
                if self.rng.chance(18) {
                    entries.push((tag, self.rng.below(8) as u16, id));
                    named = true;
                }
            }
        }
        if named || self.rng.chance(30) {
            entries.push((0x10, mask, NONE));
        }
        entries.push((0x20, other, NONE));
        let mut version = 2_u32;
        let at = self.rng.index(entries.len());
        let mut cut = 0;
        match self.rng.below(96) {
            0 => version = 1,
            1 => cut = 3,
            2 => entries.clear(),
            3 => {
                entries.remove(at);
            }
            4 => entries.push(entries[at]),
            5 => entries[at].1 = 8,
            6 => entries[at].0 = 0x40,
            7 => entries[at].2 = NONE,
            8 => entries.reverse(),
            9 => return Vec::new(),
            10 => return version.to_le_bytes()[..3].to_vec(),
            11 => entries.swap(at, 0),
            _ => {}
        }
        let mut value = version.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes().iter().chain(&permissions.to_le_bytes()).chain(&id.to_le_bytes()));
        }
        value.truncate(value.len() - cut);
        value
    }

    fn allocate(&mut self, modes: &[Allocate]) -> TestOp {
        let mode = *self.rng.pick(modes);
        let shifts = matches!(mode, Allocate::Collapse | Allocate::Insert);
        let (mut offset, mut len) = (self.offset(), self.rng.below(20_000));
        if self.rng.chance(40) {
            (offset, len) = (offset / BLOCK * BLOCK, len / BLOCK * BLOCK);
        }
        if shifts && self.profile.whole_blocks {
            (offset, len) = (self.rng.below(4) * BLOCK, self.rng.below(3) * BLOCK);
        }
        if mode == Allocate::PunchHole && self.rng.chance(5) {
            len = 1 << 41;
        }
        TestOp::Allocate { what: self.opened(|access| access.write), mode, offset, len }
    }

    fn copy(&mut self) -> TestOp {
        let from = self.opened(|access| access.read);
        let to = self.opened(|access| access.write);
        let (from_offset, to_offset, len) = (self.offset(), self.offset(), self.rng.below(20_000));
        TestOp::Copy { from, from_offset, to, to_offset, len }
    }

    fn seek(&mut self) -> TestOp {
        let (what, offset) = (self.opened(|access| access.read), self.offset());
        if self.rng.chance(50) {
            TestOp::SeekData { what, offset }
        } else {
            TestOp::SeekHole { what, offset }
        }
    }

    fn range_lock(&mut self) -> TestOp {
        let files: Vec<_> = self.handles.iter().filter(|handle| handle.1 == Kind::File).copied().collect();
        let (slot, _, access) = match files.len() {
            1.. if self.rng.chance(95) => *self.rng.pick(&files),
            _ => (self.slot(), Kind::File, Access { read: true, write: true }),
        };
        let start = self.rng.below(60);
        let end = match self.rng.below(10) {
            0 => LockRange::END,
            _ => start + 1 + self.rng.below(30),
        };
        let range = if self.rng.chance(5) { LockRange::ALL } else { LockRange { start, end } };
        let shared = match access {
            Access { read: true, write: true } => self.rng.chance(50),
            Access { read, .. } => read ^ self.rng.chance(10),
        };
        let mode = if shared { LockMode::Shared } else { LockMode::Exclusive };
        match self.rng.below(8) {
            0 | 1 => TestOp::UnlockRange { slot, range },
            2 | 3 => TestOp::GetLock { slot, range, mode },
            _ => TestOp::LockRange { slot, range, mode },
        }
    }

    /// `touch(1)`, which takes less than being the owner.
    fn set_times_now(&mut self) -> TestOp {
        let now =
            [(SetTime::Now, SetTime::Now), (SetTime::Keep, SetTime::Now), (SetTime::Now, SetTime::Keep)];
        let (accessed, modified) = *self.rng.pick(&now);
        TestOp::SetTimes { what: self.any_what(), accessed, modified }
    }
}
