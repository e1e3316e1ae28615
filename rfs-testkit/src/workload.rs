//! Random operations that mostly succeed: the generator runs the reference model along, and so knows what is there.

use rfs_core::{Access, Kind, LockMode, NAME_MAX, OpenFlags, PATH_MAX, SetTime, Timestamp, WriteAt};

use crate::target::SET_TIMES_END_NANOS;
use crate::{Condition, Data, LinkTarget, ModelFs, Path, Rng, Rules, Slot, TestOp, What};

/// Which operations a workload contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct Profile {
    /// By whose rules the generator's own model goes.
    pub rules: Rules,
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
    /// For a comparison with a real directory.
    #[must_use]
    pub const fn linux() -> Self {
        Self {
            rules: Rules::linux(),
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

    /// Everything that rfs can do.
    #[must_use]
    pub const fn rfs() -> Self {
        Self { rules: Rules::rfs(), batches: true, ..Self::linux() }
    }

    /// Operations by path only, on well-formed paths.
    #[must_use]
    pub const fn paths() -> Self {
        Self {
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
    model: ModelFs,
    /// What the model holds, looked up once for each operation.
    paths: Vec<(Vec<u8>, Kind)>,
    handles: Vec<(Slot, Kind, Access)>,
}

const SLOTS: usize = 6;
const MODES: [u32; 9] = [0o644, 0o600, 0o755, 0o777, 0o000, 0o4755, 0o2755, 0o2644, 0o6711];

impl Workload {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64, profile: Profile) -> Self {
        let model = ModelFs::new(profile.rules);
        Self { rng: Rng::new(seed), profile, model, paths: Vec::new(), handles: Vec::new() }
    }

    fn look(&mut self) {
        self.paths = self.model.paths();
        self.handles = self.model.handles().collect();
    }

    fn any_op(&mut self) -> TestOp {
        let full = self.paths.len() > self.profile.max_nodes;
        loop {
            let op = match self.rng.below(100) {
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
            1 => i64::MAX as u64,
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
        TestOp::Rename { from, to }
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
            0 => TestOp::Unlock { slot },
            1 | 2 => TestOp::Lock { slot, mode: LockMode::Exclusive },
            _ => TestOp::Lock { slot, mode: LockMode::Shared },
        }
    }

    /// Some operations that change the tree; each after the first counts on those before it.
    fn batch(&mut self) -> TestOp {
        let before = self.model.clone();
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
            if self.model.do_op(&op).is_ok() || self.rng.chance(percent) {
                ops.push(op);
            }
            self.look();
        }
        self.model = before;
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

    fn any_path(&mut self) -> Path {
        // The first is the root, of which most operations only say that it is the root.
        let path = match self.paths.len() {
            2.. if self.rng.chance(95) => self.rng.pick(&self.paths[1..]).0.clone(),
            _ => self.paths[0].0.clone(),
        };
        self.disguise(path)
    }

    /// A path to something of this kind, if there is one.
    fn path_to(&mut self, kind: Kind) -> Path {
        if self.rng.chance(6) {
            return self.any_path();
        }
        let fitting: Vec<usize> =
            (0..self.paths.len()).filter(|index| self.paths[*index].1 == kind).collect();
        if fitting.is_empty() {
            return self.any_path();
        }
        let path = self.paths[*self.rng.pick(&fitting)].0.clone();
        self.disguise(path)
    }

    /// A path for something new; at times it is taken.
    fn new_path(&mut self) -> Path {
        let directory = self.directory_path();
        let name = self.name();
        self.disguise([directory.as_slice(), b"/", &name].concat())
    }

    fn directory_path(&mut self) -> Vec<u8> {
        let shallow = |path: &[u8]| path.split(|byte| *byte == b'/').count() < 5;
        let fitting: Vec<usize> = (0..self.paths.len())
            .filter(|index| self.paths[*index].1 != Kind::File && shallow(&self.paths[*index].0))
            .collect();
        self.paths[*self.rng.pick(&fitting)].0.clone()
    }

    fn name(&mut self) -> Vec<u8> {
        match self.rng.below(60) {
            0 => vec![b'n'; NAME_MAX],
            1 => b"\xff\xfe \n".to_vec(),
            2 => b"...".to_vec(),
            3 if self.profile.odd_paths => vec![b'n'; NAME_MAX + 1],
            4 if self.profile.odd_paths => b".".to_vec(),
            5 if self.profile.odd_paths => b"..".to_vec(),
            number => vec![b'a' + (number % 12) as u8],
        }
    }

    /// The same path in another form, or one that is not the same any more.
    fn disguise(&mut self, path: Vec<u8>) -> Path {
        let directories: Vec<Slot> = self
            .handles
            .iter()
            .filter(|(_, kind, _)| *kind == Kind::Directory)
            .map(|(slot, ..)| *slot)
            .collect();
        if self.profile.relative && !directories.is_empty() && self.rng.chance(25) {
            return self.relative(&path, *self.rng.clone().pick(&directories));
        }
        if !self.profile.odd_paths || self.rng.chance(70) {
            return Path::new(path);
        }
        let cut = self.slash_in(&path);
        let (head, tail) = path.split_at(cut);
        let bytes = match self.rng.below(22) {
            0..4 => [&path, b"/".as_slice()].concat(),
            4 => [&path, b"//".as_slice()].concat(),
            5..7 => [head, b"/", tail].concat(),
            7..9 => [head, b"/.", tail].concat(),
            9 => [b"/../..", path.as_slice()].concat(),
            10 => [&path, b"/.".as_slice()].concat(),
            11 => [&path, b"/..".as_slice()].concat(),
            12..14 => [head, b"/../", head.rsplit(|byte| *byte == b'/').next().unwrap_or(b""), tail].concat(),
            14 => path[1..].to_vec(),
            15 => [&path, b"/x".as_slice()].concat(),
            16 => [head, b"/missing/..", tail].concat(),
            17 => Vec::new(),
            18 => padded(&path, PATH_MAX - 1),
            19 => padded(&path, PATH_MAX + self.rng.index(3)),
            20 => b"/".to_vec(),
            _ => [head, b"/", &[b'n'; NAME_MAX + 1], tail].concat(),
        };
        Path::new(bytes)
    }

    /// A path from a directory's handle: a name in it, or one that climbs out of it and down again.
    fn relative(&mut self, path: &[u8], slot: Slot) -> Path {
        let bytes = match self.rng.below(10) {
            0 => b".".to_vec(),
            1 => b"..".to_vec(),
            2 => [b"..", path].concat(),
            3 => path.to_vec(),
            _ => self.name(),
        };
        let base = if self.rng.chance(3) { self.rng.pick(&self.handles).0 } else { slot };
        Path { base: Some(base), bytes }
    }

    /// The position of a `/` in the path.
    fn slash_in(&mut self, path: &[u8]) -> usize {
        let slashes: Vec<usize> = (0..path.len()).filter(|at| path[*at] == b'/').collect();
        *self.rng.pick(&slashes)
    }

    fn link_target(&mut self) -> LinkTarget {
        LinkTarget(self.link_target_bytes())
    }

    fn link_target_bytes(&mut self) -> Vec<u8> {
        let path = self.rng.pick(&self.paths).0.clone();
        match self.rng.below(24) {
            0..9 => path,
            9..12 => [b"..", path.as_slice()].concat(),
            12..16 => self.name(),
            16 => [&path, b"/".as_slice()].concat(),
            17 => b".".to_vec(),
            18 => b"..".to_vec(),
            19 => b"/dangling".to_vec(),
            20 => b"dangling/".to_vec(),
            21 if self.profile.odd_paths => Vec::new(),
            22 if self.profile.odd_paths => padded(&path, PATH_MAX - 1 + self.rng.index(2)),
            _ => [self.name(), b"/".to_vec(), self.name()].concat(),
        }
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
        *self.rng.pick(&MODES)
    }

    fn id(&mut self) -> Option<u32> {
        let id = self.rng.below(4) as u32;
        (id < 3).then_some(id * 500)
    }

    fn time(&mut self) -> SetTime {
        match self.rng.below(4) {
            0 => SetTime::Keep,
            1 => SetTime::Now,
            _ => {
                let nanos = self.rng.below(SET_TIMES_END_NANOS.unsigned_abs()).cast_signed();
                SetTime::At(Timestamp::from_nanos(nanos))
            }
        }
    }
}

impl Iterator for Workload {
    type Item = TestOp;

    fn next(&mut self) -> Option<TestOp> {
        self.look();
        let op = self.any_op();
        // Its errno is the targets' business; here only what it leaves behind counts.
        _ = self.model.do_op(&op);
        Some(op)
    }
}

/// The path with so many `./` put into it that it has `len` bytes.
fn padded(path: &[u8], len: usize) -> Vec<u8> {
    let missing = len.saturating_sub(path.len() + 1);
    let mut padded = b"/".to_vec();
    padded.extend(b"./".iter().cycle().take(missing & !1));
    padded.extend(std::iter::repeat_n(b'/', missing & 1));
    padded.extend_from_slice(path);
    padded
}
