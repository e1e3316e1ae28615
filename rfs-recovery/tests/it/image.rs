//! Images of arbitrary trees: what is read is what was written.

use rfs_core::{
    Access, Allocate, At, Context, Ino, Limits, LockMode, LockOwner, LockRange, Lsn, Node, Op, OpenFlags,
    OwnerId, Place, QuotaSubject, SegmentId, StateHash, Target, Timestamp, Tree, WriteAt, XattrMode, decide,
};
use rfs_journal::{ChainHash, SegmentHash};
use rfs_recovery::image::{ImageOf, encode_image, read_image};
use rfs_recovery::objects::{StoredHeader, StoredSegment};
use rfs_testkit::{CrashPlan, SimStore};

use crate::sample::{self, FIRST, KEYS, VOLUME, WRITER};

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }

    fn at(&mut self) -> At {
        let dir = ["", "a/", "b/"][self.below(3) as usize];
        At::root(format!("{dir}{}", ["a", "b", "c", "d"][self.below(4) as usize]))
    }

    fn ino(&mut self) -> Ino {
        Ino(1 + self.below(20))
    }

    fn holder(&mut self) -> LockOwner {
        LockOwner { owner: OwnerId(self.below(3) << 62), key: self.below(3) }
    }
}

fn any_op(random: &mut Random) -> Op {
    let (ino, holder, mode) = (random.ino(), random.holder(), 0o640);
    let (target, offset, len) = (Target::Ino(ino), random.below(100), random.below(50));
    let access = Access { read: true, write: true };
    let lock = if random.below(2) == 0 { LockMode::Shared } else { LockMode::Exclusive };
    match random.below(18) {
        0..2 => Op::Mkdir { at: random.at(), mode },
        2..4 => {
            let flags = OpenFlags { create: true, ..OpenFlags::default() };
            Op::Open { at: random.at(), access, flags, mode }
        }
        4 => {
            let nodes = [Node::Fifo, Node::Socket, Node::CharDevice(u64::MAX), Node::BlockDevice(3)];
            Op::Mknod { at: random.at(), node: nodes[random.below(4) as usize].clone(), mode }
        }
        5 => Op::Symlink { target: vec![0xff; 1 + len as usize], at: random.at() },
        6 => Op::OpenNameless { dir: Target::Ino(Ino::ROOT), access, linkable: len > 20, mode },
        7 => Op::Unlink { at: random.at() },
        8..11 => Op::Write { target, at: WriteAt::Offset(offset), len },
        11 => Op::Allocate { target, mode: Allocate::PunchHole, offset, len },
        12 => {
            let to = Target::Ino(random.ino());
            Op::Copy { from: target, from_offset: offset, to, to_offset: random.below(100), len }
        }
        13 => Op::LockFile { ino, owner: holder, mode: lock },
        14..16 => {
            let range =
                LockRange { start: offset, end: if len == 0 { LockRange::END } else { offset + len } };
            Op::LockRange { ino, owner: holder, range, mode: lock }
        }
        16 => {
            let name = format!("user.{}", random.below(4)).into_bytes();
            Op::SetXattr { target, name, value: vec![7; len as usize], mode: XattrMode::Set }
        }
        _ => {
            let subject = if len == 0 { QuotaSubject::Volume } else { QuotaSubject::User(len as u32) };
            Op::SetQuota { subject, limits: Limits { bytes: Some(1 << 40), inodes: None } }
        }
    }
}

#[tokio::test]
async fn what_is_read_is_what_was_written() {
    // Where the content lies; it is not read here.
    let stored = StoredSegment {
        header: StoredHeader {
            id: SegmentId(0),
            epoch: 1,
            writer: WRITER,
            base: Lsn(0),
            chain: ChainHash::default(),
        },
        hash: SegmentHash::default(),
        len: 1 << 20,
        footer_len: 99,
        key: KEYS.segment(SegmentId(0), 1, WRITER),
        offset: 0,
    };
    let mut items = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut tree = Tree::new(sample::time(0));
        let mut place = Place { segment: SegmentId(0), position: 0 };
        for number in 0..200 {
            let op = any_op(&mut random);
            let owner = random.holder().owner;
            let holders = |_| vec![owner];
            let context = Context { owner, holders: &holders, ..Context::new(Timestamp::from_nanos(number)) };
            let Ok(decision) = decide(&tree, &context, &op) else { continue };
            for change in &decision.changes {
                tree.apply(change, place).unwrap();
                place.position += change.payload_len();
            }
        }
        let of = ImageOf {
            volume: VOLUME,
            of: FIRST,
            lsn: Lsn(9),
            chain: ChainHash::default(),
            state: StateHash::of(&tree),
            next_segment: SegmentId(1),
            segments: std::slice::from_ref(&stored),
        };
        let image = encode_image("sim://", WRITER, &of, &tree).unwrap();
        let store = sample::store_on(&SimStore::new(CrashPlan::never()));
        store.put_large(&image.reference.key, image.pieces).await.unwrap();
        let (body, segments, read) = read_image(&store, KEYS, &image.reference).await.unwrap();
        assert_eq!((body.state, &segments[0].stored), (of.state, &stored), "seed {seed}");
        assert_eq!(segments[0].live, !tree.segments().is_empty(), "seed {seed}");
        assert_eq!(read, tree, "seed {seed}");
        items += tree.items().count();
    }
    assert!(items > 1000, "{items} items");
}
