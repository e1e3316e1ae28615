//! A small segment with everything in it.

use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{
    Change, CommitId, Ino, Limits, LockMode, LockOwner, LockRange, Lsn, Name, Node, OwnerId, Place,
    QuotaSubject, Replaced, SegmentId, Timestamp, Tree, XattrName, XattrValue,
};
use rfs_journal::{Appender, ChainHash, Cut, LogWriter, Residency, WriterIdentity};

pub(crate) const IDENTITY: WriterIdentity =
    WriterIdentity { volume: 0x0123_4567_89ab_cdef_0011_2233_4455_6677, epoch: 3, writer: 0xfeed_beef };

/// Where in the sample the file is that is relocated.
const MOVED: u64 = 2297;

/// A Change and its payload.
pub(crate) type Step = (Change, Vec<u8>);

fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + nanos)
}

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

fn create(ino: u64, as_name: &str, node: Node) -> Step {
    let change = Change::Create {
        parent: Ino::ROOT,
        name: name(as_name),
        ino: Ino(ino),
        node,
        mode: 0o640,
        uid: 1000,
        gid: 100,
        time: time(ino.cast_signed()),
    };
    (change, Vec::new())
}

fn write(ino: u64, offset: u64, len: u64) -> Step {
    let payload = (0..len).map(|at| (at * 7 + offset) as u8).collect();
    (Change::Write { ino: Ino(ino), offset, len, time: time(50) }, payload)
}

fn step(change: Change) -> Step {
    (change, Vec::new())
}

/// The frames of the sample: every kind of Change, a batch among them. They fit a new tree.
pub(crate) fn frames() -> Vec<Vec<Step>> {
    [version_1(), version_2(), version_3()].concat()
}

/// What there was in format version 1.
pub(crate) fn version_1() -> Vec<Vec<Step>> {
    let unlink = |of: &str, ino, reap| {
        step(Change::Unlink { parent: Ino::ROOT, name: name(of), ino: Ino(ino), reap, time: time(70) })
    };
    let rename = |from: &str, to: &str, ino, replaced| {
        step(Change::Rename {
            from_parent: Ino::ROOT,
            from_name: name(from),
            to_parent: Ino::ROOT,
            to_name: name(to),
            ino: Ino(ino),
            replaced,
            time: time(60),
        })
    };
    let set = |mode, uid, gid, accessed, modified| {
        step(Change::SetAttr { ino: Ino(2), mode, uid, gid, accessed, modified, time: time(55) })
    };
    let batch = vec![
        create(5, "batch", Node::File),
        write(5, 0, 40),
        create(6, "other", Node::File),
        rename("batch", "other", 5, Some(Replaced { ino: Ino(6), reap: true })),
    ];
    vec![
        vec![
            create(2, "file", Node::File),
            write(2, 0, 300),
            write(2, 1_000, 50),
            create(3, "dir", Node::Directory),
            create(4, "link", Node::Symlink(Arc::from(&b"../to/\xff"[..]))),
            step(Change::Truncate { ino: Ino(2), size: 1 << 40, time: time(52) }),
        ],
        batch,
        vec![
            step(Change::Link { parent: Ino(3), name: name("hard"), ino: Ino(2), time: time(53) }),
            set(Some(0o4755), None, Some(7), None, Some(time(-5))),
            set(None, Some(u32::MAX), None, Some(Timestamp::from_nanos(i64::MIN)), None),
            step(Change::Lock { ino: Ino(2), owner: OwnerId(9), mode: LockMode::Shared }),
            step(Change::Lock { ino: Ino(2), owner: OwnerId(1 << 40), mode: LockMode::Shared }),
            step(Change::Unlock { ino: Ino(2), owner: OwnerId(9) }),
            rename("link", "renamed", 4, None),
        ],
        vec![
            unlink("other", 5, false),
            step(Change::Reap { ino: Ino(5) }),
            unlink("renamed", 4, true),
            create(7, "empty", Node::Directory),
            step(Change::Rmdir {
                parent: Ino::ROOT,
                name: name("empty"),
                ino: Ino(7),
                reap: true,
                time: time(71),
            }),
            step(Change::AddCheckpoint {
                name: "naïve".to_owned(),
                commit: CommitId { epoch: 3, number: 41 },
                time: time(80),
            }),
            step(Change::AddCheckpoint {
                name: "second".to_owned(),
                commit: CommitId { epoch: 3, number: 42 },
                time: time(81),
            }),
            step(Change::DropCheckpoint { name: "naïve".to_owned() }),
            step(Change::NewSession),
        ],
    ]
}

/// What came with format version 2.
pub(crate) fn version_2() -> Vec<Vec<Step>> {
    let nameless = |ino, owner, linkable| {
        step(Change::CreateNameless {
            ino: Ino(ino),
            owner,
            linkable,
            mode: 0o600,
            uid: 1000,
            gid: 100,
            time: time(90),
        })
    };
    let set_xattr = |name: &[u8], value: &[u8]| {
        let (name, value) = (XattrName::new(name).unwrap(), XattrValue::new(value).unwrap());
        step(Change::SetXattr { ino: Ino(2), name, value, time: time(91) })
    };
    let (ino, time) = (Ino(2), time(92));
    let (session, process) = (OwnerId(1 << 63), OwnerId(4));
    let (handle, pid) = (LockOwner { owner: session, key: 7 }, LockOwner { owner: process, key: u64::MAX });
    vec![
        vec![
            create(8, "fifo", Node::Fifo),
            create(9, "socket", Node::Socket),
            create(10, "tty", Node::CharDevice(0x0501)),
            create(11, "disk", Node::BlockDevice(u64::MAX)),
            nameless(12, session, true),
            nameless(13, process, false),
            step(Change::Exchange {
                first_parent: Ino::ROOT,
                first_name: name("fifo"),
                first: Ino(8),
                second_parent: Ino(3),
                second_name: name("hard"),
                second: ino,
                time,
            }),
        ],
        vec![
            set_xattr(b"user.origin", b"\0\xff"),
            set_xattr(b"trusted.empty", b""),
            step(Change::RemoveXattr { ino, name: XattrName::new(b"user.origin").unwrap(), time }),
        ],
        vec![
            step(Change::Punch { ino, offset: 100, len: 50, time }),
            step(Change::Collapse { ino, offset: 3, len: 10, time }),
            step(Change::Insert { ino, offset: 20, len: 1 << 20, time }),
            step(Change::Share { from: ino, from_offset: 0, to: Ino(12), to_offset: 7, len: 1 << 21, time }),
            step(Change::Access { ino, time }),
        ],
        vec![
            step(Change::LockFile { ino, owner: handle, mode: LockMode::Shared }),
            step(Change::LockFile { ino, owner: pid, mode: LockMode::Shared }),
            step(Change::UnlockFile { ino, owner: pid }),
            step(Change::LockRange { ino, owner: pid, range: LockRange::ALL, mode: LockMode::Exclusive }),
            step(Change::UnlockRange { ino, owner: pid, range: LockRange { start: 10, end: 20 } }),
            step(Change::Hold { ino: Ino(12), owner: process }),
            step(Change::LetGo { ino: Ino(12), owner: session }),
            step(Change::EndOwner { owner: process }),
        ],
        vec![
            step(Change::SetQuota {
                subject: QuotaSubject::Volume,
                limits: Limits { bytes: Some(1 << 40), inodes: None },
            }),
            step(Change::SetQuota { subject: QuotaSubject::Volume, limits: Limits::default() }),
            step(Change::SetQuota {
                subject: QuotaSubject::User(1000),
                limits: Limits { bytes: None, inodes: Some(9) },
            }),
        ],
    ]
}

/// What came with format version 3. It fits the tree only where the frame before it is at the place that it says.
fn version_3() -> Vec<Vec<Step>> {
    vec![
        vec![create(14, "moved", Node::File), write(14, 0, 100)],
        vec![relocate(14, 0, 60), relocate(14, 90, 10)],
        vec![
            step(Change::Rewind { to: CommitId { epoch: 1, number: 300 } }),
            step(Change::Refer {
                ino: Ino(14),
                offset: 60,
                len: 30,
                to: Place { segment: SegmentId(5), position: MOVED },
                time: time(40),
            }),
        ],
    ]
}

/// Bytes of a file that were written, stored anew. Where they were is known to who knows the segment.
fn relocate(ino: u64, offset: u64, len: u64) -> Step {
    let payload = (offset..offset + len).map(|at| (at * 7) as u8).collect();
    let from = Place { segment: SegmentId(5), position: MOVED + offset };
    (Change::Relocate { ino: Ino(ino), offset, len, from }, payload)
}

/// A sealed segment of these frames, after the history that ends at `base`.
pub(crate) fn seal(frames: &[Vec<Step>], id: SegmentId, base: Lsn, chain: ChainHash) -> Bytes {
    let residency = Arc::new(Residency::default());
    let mut appender = Appender::new(Arc::clone(&residency), Cut::default(), id, base);
    let mut writer = LogWriter::in_memory(IDENTITY, Arc::clone(&residency), base, chain);
    for frame in frames {
        append(&mut appender, frame);
    }
    let boundary = appender.seal();
    writer.write(appender.take_work(), false).unwrap();
    assert_eq!((boundary.segment, boundary.lsn), (Some(id), writer.end().0));
    residency.segment_bytes(id).unwrap().unwrap().concat().into()
}

/// Appends a frame, as one unit.
pub(crate) fn append(appender: &mut Appender, frame: &[Step]) {
    let len = frame.iter().map(|(_, payload)| payload.len() as u64).sum();
    appender.reserve(len).unwrap();
    let (changes, payloads): (Vec<Change>, Vec<&[u8]>) =
        frame.iter().map(|(change, payload)| (change.clone(), payload.as_slice())).unzip();
    appender.append_all(&changes, &payloads);
    appender.close_frame();
}

/// The sample as a segment.
pub(crate) fn segment() -> Bytes {
    seal(&frames(), SegmentId(5), Lsn(1_000), ChainHash([0xc5; 32]))
}

/// A segment with little payload, whose footer does not repeat the Changes.
pub(crate) fn lean_segment() -> Bytes {
    seal(&frames()[2..], SegmentId(6), Lsn(1_010), ChainHash([0xc6; 32]))
}

#[test]
fn the_sample_is_a_history() {
    let mut tree = Tree::new(time(0));
    let segment = rfs_journal::verify_segment("sample", &segment(), None).unwrap();
    for record in &segment.records {
        match record.change {
            // To the state that it is in.
            Change::Rewind { .. } => tree = tree.rewound_to(&tree).unwrap(),
            _ => tree.apply(&record.change, record.place).unwrap(),
        }
    }
    assert_eq!(tree.check(), Ok(()));
}
