//! Random operations that mostly succeed: the generator runs the reference model along, or, where that is out of its
//! depth, the core; and so knows what is there.

mod further;
mod guide;
mod paths;

use rfs_core::{Access, FILE_SIZE_MAX, Kind, LockMode, OpenFlags, RenameMode, SetTime, Timestamp, WriteAt};

use self::guide::Guide;
use crate::target::CLOCK_NANOS;
use crate::{Abilities, Condition, Data, Path, Rng, Rules, Slot, TestOp, What, callers};

/// Which operations a workload contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct Profile {
    /// By whose rules the generator's own model goes.
    pub rules: Rules,
    /// Operations that not every file system has.
    pub abilities: Abilities,
    /// Operations by all of [`callers`], not by root alone.
    pub callers: bool,
    /// Ranges that are moved, and the places where they go, are whole blocks.
    pub whole_blocks: bool,
    /// Most bytes of an extended attribute, but for one that is too long.
    pub max_xattr_bytes: usize,
    /// Handles: open, close, and what goes through a handle.
    pub handles: bool,
    /// Paths that start from a directory's handle.
    pub relative: bool,
    /// Locks.
    pub locks: bool,
    /// Batches.
    pub batches: bool,
    /// Setting access and modification times, owners and modes.
    pub attributes: bool,
    /// Paths in all odd forms, and such that are refused.
    pub odd_paths: bool,
    /// About how many files, directories and symlinks there are at most.
    pub max_nodes: usize,
    /// Most bytes of one write.
    pub max_write_bytes: usize,
}

impl Profile {
    /// For a comparison of the model with a real directory.
    #[must_use]
    pub const fn linux(abilities: Abilities) -> Self {
        Self {
            rules: Rules::linux(),
            // The model knows ACLs as little as callers.
            abilities: abilities.without(Abilities::ACL),
            callers: false,
            whole_blocks: true,
            max_xattr_bytes: if abilities.contains(Abilities::HUGE_FILES) { 3_000 } else { 200 },
            handles: true,
            relative: true,
            locks: true,
            batches: false,
            attributes: true,
            odd_paths: true,
            max_nodes: 48,
            max_write_bytes: 6_000,
        }
    }

    /// For a comparison of rfs with a real directory, permissions and all.
    #[must_use]
    pub const fn callers(abilities: Abilities) -> Self {
        Self { abilities, callers: true, ..Self::linux(abilities) }
    }

    /// Everything that rfs can do for root.
    #[must_use]
    pub const fn rfs() -> Self {
        Self {
            rules: Rules::rfs(),
            batches: true,
            whole_blocks: false,
            max_xattr_bytes: 65_536,
            ..Self::linux(Abilities::ALL)
        }
    }

    /// Operations by path only, on well-formed paths, that the public API has had from the start.
    #[must_use]
    pub const fn paths() -> Self {
        Self {
            abilities: Abilities::NONE,
            handles: false,
            relative: false,
            locks: false,
            batches: false,
            odd_paths: false,
            ..Self::rfs()
        }
    }
}

/// An endless sequence of operations; a seed and a profile say which.
///
/// ```
/// use rfs_testkit::{Profile, Workload};
/// let ops: Vec<_> = Workload::new(7, Profile::rfs()).take(100).collect();
/// assert!(Workload::new(7, Profile::rfs()).take(100).eq(ops));
/// ```
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    profile: Profile,
    guide: Guide,
    /// What the guide holds, looked up once for each operation.
    paths: Vec<(Vec<u8>, Kind)>,
    handles: Vec<(Slot, Kind, Access)>,
    begun: bool,
}

/// How many handles a workload uses: it counts their slots from 0.
pub const SLOTS: usize = 6;
const MODES: [u32; 9] = [0o644, 0o600, 0o755, 0o777, 0o000, 0o4755, 0o2755, 0o2644, 0o6711];
/// Such as let some callers in and others not.
const SHARING_MODES: [u32; 12] =
    [0o777, 0o770, 0o750, 0o711, 0o555, 0o2775, 0o6777, 0o4771, 0o666, 0o064, 0o706, 0o5757];

impl Workload {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64, profile: Profile) -> Self {
        let guide = Guide::new(profile);
        Self { rng: Rng::new(seed), profile, guide, paths: Vec::new(), handles: Vec::new(), begun: false }
    }

    /// From now on the operations are drawn from another seed; what there is stays. So a fuzzer chooses each of them.
    pub const fn reseed(&mut self, seed: u64) {
        self.rng = Rng::new(seed);
    }

    fn look(&mut self) {
        self.paths = self.guide.paths();
        self.handles = self.guide.handles();
    }

    fn any_op(&mut self) -> TestOp {
        if self.profile.callers && (!self.begun || self.rng.chance(1)) {
            // Otherwise nobody but root could make anything, and all would fail for the same reason.
            self.begun = true;
            let mode = *self.rng.pick(&[0o777, 0o777, 0o775, 0o2777]);
            return TestOp::SetMode { what: What::path("/"), mode };
        }
        let op = self.op_of_root();
        if !self.profile.callers || self.rng.chance(30) {
            return op;
        }
        let caller = 1 + self.rng.index(callers().len() - 1);
        TestOp::As { caller, op: Box::new(op) }
    }

    fn op_of_root(&mut self) -> TestOp {
        let full = self.paths.len() > self.profile.max_nodes;
        let all = if self.profile.abilities == Abilities::NONE { 100 } else { 150 };
        loop {
            let op = match self.rng.below(all) {
                0..14 if self.profile.handles && self.handles.len() < SLOTS => self.open(),
                0..3 if self.profile.handles => self.open(),
                14..19 if self.profile.handles => TestOp::Close { slot: self.slot() },
                14..19 => self.create(),
                19..29 => self.read(),
                29..43 => self.write(),
                43..47 => self.truncate(),
                47..54 if !full => TestOp::Mkdir { path: self.new_path(), mode: self.mode() },
                54..58 if !full => TestOp::Symlink { target: self.link_target(), path: self.new_path() },
                58..61 if !full => TestOp::Link { from: self.what(Kind::File), to: self.new_path() },
                47..66 => self.remove(),
                66..74 => self.rename(),
                74..80 if self.profile.attributes => self.set_attributes(),
                80..86 => TestOp::Stat { what: self.any_what() },
                86..88 => TestOp::ReadLink { path: self.path_to(Kind::Symlink) },
                88..91 => TestOp::ReadDir { what: self.what(Kind::Directory) },
                91..96 if self.profile.locks && self.profile.handles => self.lock(),
                96..99 if self.profile.batches => self.batch(),
                99 if !full => self.create(),
                100.. => match self.further(full) {
                    Some(op) => op,
                    None => continue,
                },
                _ => continue,
            };
            return op;
        }
    }

    fn open(&mut self) -> TestOp {
        let create = self.rng.chance(45);
        let directory = !create && self.rng.chance(30);
        let read = directory || self.rng.chance(75);
        let access = Access { read, write: !directory && (!read || self.rng.chance(60)) };
        let flags = OpenFlags {
            create: create || self.rng.chance(1),
            exclusive: create && self.rng.chance(25),
            truncate: self.rng.chance(if directory { 2 } else { 12 }),
            directory: directory && self.rng.chance(60) || self.rng.chance(2),
            no_follow: self.rng.chance(8),
        };
        let path = match (create, directory) {
            (true, _) if self.rng.chance(70) => self.new_path(),
            (_, true) => self.path_to(Kind::Directory),
            _ if self.rng.chance(40) => self.busy_file(),
            _ => self.path_to(Kind::File),
        };
        TestOp::Open { slot: self.rng.index(SLOTS), path, access, flags, mode: self.mode() }
    }

    fn create(&mut self) -> TestOp {
        TestOp::Create { path: self.new_path(), mode: self.mode() }
    }

    fn read(&mut self) -> TestOp {
        let (offset, len) = (self.offset(), self.rng.below(20_000));
        TestOp::Read { what: self.opened(|access| access.read), offset, len }
    }

    fn write(&mut self) -> TestOp {
        let what = self.opened(|access| access.write);
        let at = if self.rng.chance(40) { WriteAt::End } else { WriteAt::Offset(self.offset()) };
        TestOp::Write { what, at, data: self.data() }
    }

    fn truncate(&mut self) -> TestOp {
        let size = match self.rng.below(40) {
            0 => 1 << 40,
            1 if self.profile.can(Abilities::HUGE_FILES) => FILE_SIZE_MAX,
            1 => 1 << 43,
            2..20 => self.rng.below(2_000),
            _ => self.offset(),
        };
        TestOp::Truncate { what: self.opened(|access| access.write), size }
    }

    fn remove(&mut self) -> TestOp {
        match self.rng.below(10) {
            0..3 => TestOp::Rmdir { path: self.path_to(Kind::Directory) },
            3..5 => TestOp::Unlink { path: self.path_to(Kind::Symlink) },
            5 => TestOp::Unlink { path: self.any_path() },
            6 => TestOp::Rmdir { path: self.any_path() },
            _ => TestOp::Unlink { path: self.path_to(Kind::File) },
        }
    }

    fn rename(&mut self) -> TestOp {
        let from = match self.rng.below(4) {
            0 => self.path_to(Kind::Directory),
            1 => self.path_to(Kind::File),
            _ => self.any_path(),
        };
        let to = if self.rng.chance(55) { self.new_path() } else { self.any_path() };
        let mode = match self.rng.below(if self.profile.can(Abilities::RENAME_MODES) { 10 } else { 7 }) {
            0..7 => RenameMode::Replace,
            7 => RenameMode::NoReplace,
            _ => RenameMode::Exchange,
        };
        let to = if mode == RenameMode::Exchange { self.any_path() } else { to };
        TestOp::Rename { from, to, mode }
    }

    fn set_attributes(&mut self) -> TestOp {
        let what = self.any_what();
        match self.rng.below(3) {
            0 => TestOp::SetMode { what, mode: self.mode() },
            1 => TestOp::SetOwner { what, uid: self.id(), gid: self.id() },
            _ => {
                let (accessed, mut modified) = (self.time(), self.time());
                // Linux does not even look at the path when there is nothing to set.
                if accessed == SetTime::Keep && modified == SetTime::Keep {
                    modified = SetTime::Now;
                }
                TestOp::SetTimes { what, accessed, modified }
            }
        }
    }

    fn lock(&mut self) -> TestOp {
        let slot = self.slot();
        match self.rng.below(5) {
            0 => TestOp::UnlockFile { slot },
            1 | 2 => TestOp::LockFile { slot, mode: LockMode::Exclusive },
            _ => TestOp::LockFile { slot, mode: LockMode::Shared },
        }
    }

    /// Some operations that change the tree; each after the first counts on those before it.
    fn batch(&mut self) -> TestOp {
        let before = self.guide.clone();
        let mut ops = Vec::new();
        for _ in 0..=self.rng.below(6) {
            let op = match self.rng.below(12) {
                0 => self.create(),
                1 => TestOp::Mkdir { path: self.new_path(), mode: self.mode() },
                2 => TestOp::Symlink { target: self.link_target(), path: self.new_path() },
                3 => TestOp::Link { from: self.what(Kind::File), to: self.new_path() },
                4 => self.remove(),
                5 | 6 => self.rename(),
                7 => self.truncate(),
                8 if self.profile.attributes => self.set_attributes(),
                9 => self.condition(),
                _ => self.write(),
            };
            // Most batches are to succeed as a whole, a few to fail in their middle.
            let percent = if matches!(op, TestOp::Require(_)) { 20 } else { 4 };
            if self.guide.do_op(&op).is_ok() || self.rng.chance(percent) {
                ops.push(op);
            }
            self.look();
        }
        self.guide = before;
        TestOp::Batch(ops)
    }

    fn condition(&mut self) -> TestOp {
        let path = What::path(self.rng.pick(&self.paths).0.clone());
        TestOp::Require(match self.rng.below(8) {
            0 => Condition::Missing(path),
            1..4 => Condition::Missing(What::path("/not-here")),
            4 => Condition::Exists(What::path("/not-here")),
            5 => Condition::Size(path, self.rng.below(3)),
            _ => Condition::Exists(path),
        })
    }

    /// A file to read or write: mostly through a handle that may do it.
    fn opened(&mut self, allowed: impl Fn(&Access) -> bool) -> What {
        let fitting: Vec<Slot> = self
            .handles
            .iter()
            .filter(|(_, kind, access)| *kind == Kind::File && allowed(access))
            .map(|(slot, ..)| *slot)
            .collect();
        match self.rng.below(20) {
            0 if self.profile.handles => What::Handle(self.slot()),
            1..12 if !fitting.is_empty() => What::Handle(*self.rng.pick(&fitting)),
            _ => What::Path { path: self.path_to(Kind::File), follow: true },
        }
    }

    /// Something of a kind: by a path, at times by a handle.
    fn what(&mut self, kind: Kind) -> What {
        if self.profile.handles && self.rng.chance(15) {
            return What::Handle(self.slot());
        }
        What::Path { path: self.path_to(kind), follow: self.rng.chance(70) }
    }

    fn any_what(&mut self) -> What {
        if self.profile.handles && self.rng.chance(30) {
            return What::Handle(self.slot());
        }
        if self.profile.relative && self.rng.chance(1) {
            // At times it is a slot without a handle.
            let path = Path { base: Some(self.rng.index(SLOTS)), bytes: self.name() };
            return What::Path { path, follow: true };
        }
        What::Path { path: self.any_path(), follow: self.rng.chance(60) }
    }

    /// Mostly one that is open.
    fn slot(&mut self) -> Slot {
        if self.handles.is_empty() || self.rng.chance(4) {
            return self.rng.index(SLOTS);
        }
        self.rng.pick(&self.handles).0
    }

    fn data(&mut self) -> Data {
        let most = self.profile.max_write_bytes as u64;
        let len = match self.rng.below(20) {
            0 => 0,
            1..10 => self.rng.below(100),
            _ => self.rng.below(most + 1),
        };
        Data { seed: self.rng.next(), len: len.min(most) as usize }
    }

    fn offset(&mut self) -> u64 {
        match self.rng.below(30) {
            0 => 1 << 20,
            1..5 => 0,
            5..9 => 4096 * self.rng.below(5),
            _ => self.rng.below(20_000),
        }
    }

    fn mode(&mut self) -> u32 {
        let sharing = self.profile.callers && self.rng.chance(60);
        let mode = *self.rng.pick(if sharing { &SHARING_MODES } else { &MODES });
        let sticky = self.profile.can(Abilities::PLAIN_STICKY) && self.rng.chance(15);
        if sticky { mode | 0o1000 } else { mode & !0o1000 }
    }

    fn id(&mut self) -> Option<u32> {
        let ids = if self.profile.callers { [500, 1000, 1001, 1002, 0] } else { [500, 1000, 0, 0, 500] };
        self.rng.chance(75).then(|| *self.rng.pick(&ids))
    }

    fn time(&mut self) -> SetTime {
        match self.rng.below(4) {
            0 => SetTime::Keep,
            1 => SetTime::Now,
            _ => {
                // From 1901, when the oldest file systems begin, to 2262, leaving out what a clock shows.
                let (from, to) = match self.rng.below(3) {
                    0 => (-2_147_483_648_000_000_000, 0),
                    1 => (0, CLOCK_NANOS.start),
                    _ => (CLOCK_NANOS.end, i64::MAX - 1_000_000_000),
                };
                let nanos = from + self.rng.below(from.abs_diff(to)).cast_signed();
                SetTime::At(Timestamp::from_nanos(nanos))
            }
        }
    }
}

impl Profile {
    const fn can(&self, abilities: Abilities) -> bool {
        self.abilities.contains(abilities)
    }
}

impl Iterator for Workload {
    type Item = TestOp;

    fn next(&mut self) -> Option<TestOp> {
        self.look();
        let op = self.any_op();
        // Its errno is the targets' business; here only what it leaves behind counts.
        _ = self.guide.do_op(&op);
        Some(op)
    }
}
