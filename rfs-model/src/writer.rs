//! Writers: how they take the volume over, and how they commit.

use rfs_core::{CommitId, PageObject};
use rfs_recovery::protocol::{self, HeadIs, Rival, Top};

use crate::world::{
    Action, Bounds, Commit, Entry, Image, Kind, Object, Protocol, Segment, Session, Used, Without, World,
};

/// Where a writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// The volume is not open.
    Idle,
    /// The log was listed.
    Listed { slot: CommitId, head: Option<CommitId> },
    /// The fence was sent.
    Fencing { slot: CommitId, head: Option<CommitId> },
    /// The fence stands.
    Fenced { slot: CommitId, head: Option<CommitId> },
    /// It owns an epoch.
    Owner(Owner),
}

/// The owner of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) next: CommitId,
    pub(crate) head: Option<CommitId>,
    pub(crate) pages: u64,
    phase: Phase,
}

/// How far a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// None is being made.
    Ready,
    /// What it names is to be stored.
    Begun(Commit),
    /// It was sent.
    Sent(Commit),
    /// It is durable, and what it names is to be stored: the wrong way round.
    Owing(Commit),
}

impl Owner {
    /// The newest commit, when none is under way that goes back.
    pub(crate) fn collects(&self) -> Option<CommitId> {
        let going_back = match self.phase {
            Phase::Begun(commit) | Phase::Sent(commit) | Phase::Owing(commit) => commit.rewound.is_some(),
            Phase::Ready => false,
        };
        self.head.filter(|_| !going_back)
    }
}

impl World {
    /// What an opener concludes from the log: the head, and the slot above it.
    pub(crate) fn opening(&self) -> (Option<CommitId>, CommitId) {
        let first = CommitId { epoch: 0, number: 0 };
        let top = self.log.last_key_value().map(|(id, entry)| match *entry {
            Entry::Commit(_) => (*id, Top::Commit),
            Entry::Fence { next_epoch, head, .. } => (*id, Top::Fence { next_epoch, head }),
        });
        let last = top.as_ref().map(|(id, _)| *id);
        let (head, slot) = protocol::conclude(top, first);
        let head = match head {
            HeadIs::Start | HeadIs::Nowhere => None,
            HeadIs::Top => last,
            HeadIs::Named(head) => Some(head),
        };
        (head, slot)
    }

    pub(crate) fn writer_may(&self, protocol: &Protocol, writer: usize, actions: &mut Vec<Action>) {
        let Bounds { crashes, .. } = protocol.bounds;
        let state = &self.writers[writer];
        match state.mode {
            Mode::Idle => {
                let (_, slot) = self.opening();
                if slot.epoch < protocol.bounds.epochs {
                    actions.push(Action::List(writer));
                }
            }
            Mode::Listed { .. } => actions.push(Action::SendFence(writer)),
            Mode::Fencing { .. } => actions.push(Action::Answer(writer)),
            Mode::Fenced { .. } => actions.push(Action::Look(writer)),
            Mode::Owner(owner) => match owner.phase {
                Phase::Ready => self.kinds(protocol, writer, &owner, actions),
                Phase::Begun(_) | Phase::Owing(_) => actions.push(Action::Upload(writer)),
                Phase::Sent(_) => actions.push(Action::Answer(writer)),
            },
        }
        if state.mode != Mode::Idle && self.used.crashes < crashes {
            actions.push(Action::Crash(writer));
        }
    }

    fn kinds(&self, protocol: &Protocol, writer: usize, owner: &Owner, actions: &mut Vec<Action>) {
        let Bounds { commits, images, segments, names, rewinds, .. } = protocol.bounds;
        let used = self.used;
        if owner.next.number >= commits {
            return;
        }
        let mut may = |is: bool, kind| {
            if is {
                actions.push(Action::Begin(writer, kind));
            }
        };
        may(true, Kind::Plain);
        may(used.names < names, Kind::Named);
        may(used.segments < segments, Kind::Segment);
        may(used.images < images && owner.head.is_some(), Kind::Image);
        if used.rewinds < rewinds && self.writers[writer].collection.is_none() {
            let asks = protocol.has(Without::RewindAsks);
            let older = self.readable().filter(|id| Some(*id) != owner.head);
            for to in older.filter(|id| !asks || self.is_said_to_be_kept(*id)) {
                may(true, Kind::Rewind(to));
            }
        }
    }

    pub(crate) fn write(&mut self, protocol: &Protocol, writer: usize, action: Action) {
        let session = self.session(writer);
        let mode = self.writers[writer].mode;
        let next = match (action, mode) {
            (Action::Crash(_), _) => {
                self.used.crashes += 1;
                self.end_session(writer);
                return;
            }
            (Action::List(_), _) => {
                let (head, slot) = self.opening();
                Mode::Listed { slot, head }
            }
            (Action::SendFence(_), Mode::Listed { slot, head }) => {
                let next_epoch = protocol::epoch_after(slot);
                self.puts.insert((slot, Entry::Fence { by: session, next_epoch, head }));
                Mode::Fencing { slot, head }
            }
            (Action::Answer(_), Mode::Fencing { slot, head }) => {
                let next_epoch = protocol::epoch_after(slot);
                let fence = Entry::Fence { by: session, next_epoch, head };
                match self.put(protocol, slot, fence).filter(|stands| *stands != fence) {
                    Some(_) => Mode::Idle,
                    None if protocol.has(Without::SecondList) => Mode::Fenced { slot, head },
                    None => Mode::Owner(Owner::new(slot, head)),
                }
            }
            (Action::Look(_), Mode::Fenced { slot, head }) => {
                match protocol::above_fence(slot, self.log.keys().copied()) {
                    None => Mode::Owner(Owner::new(slot, head)),
                    Some(_) => Mode::Idle,
                }
            }
            (Action::Begin(_, kind), Mode::Owner(owner)) => {
                Mode::Owner(self.begin(protocol, session, owner, kind))
            }
            (Action::Upload(_), Mode::Owner(owner)) => Mode::Owner(self.upload(owner)),
            (Action::Answer(_), Mode::Owner(owner)) => {
                let Ok(owner) = self.settle(protocol, owner) else {
                    self.end_session(writer);
                    return;
                };
                Mode::Owner(owner)
            }
            (_, mode) => mode,
        };
        self.writers[writer].mode = next;
    }

    /// What it had in memory is gone; what it sent may still arrive.
    fn end_session(&mut self, writer: usize) {
        let writer = &mut self.writers[writer];
        writer.opening += 1;
        writer.mode = Mode::Idle;
        writer.collection = None;
    }

    fn begin(&mut self, protocol: &Protocol, by: Session, mut owner: Owner, kind: Kind) -> Owner {
        let head = owner.head.and_then(|head| self.made.get(&head).copied());
        let previous = owner.head.filter(|_| protocol.has(Without::Extends));
        let last_segment = head.map_or(0, |head| head.last_segment);
        let image = head.and_then(|head| head.image);
        let mut commit =
            Commit { by, previous, segment: None, last_segment, image, rewound: None, named: false };
        let Used { images, segments, names, rewinds, .. } = &mut self.used;
        match kind {
            Kind::Plain => {}
            Kind::Named => {
                *names += 1;
                commit.named = true;
            }
            Kind::Segment => {
                *segments += 1;
                commit.last_segment += 1;
                commit.segment = Some(Segment { number: commit.last_segment, by });
            }
            Kind::Image => {
                *images += 1;
                let object = PageObject { epoch: owner.next.epoch, number: owner.pages };
                owner.pages += 1;
                commit.image = owner.head.map(|of| {
                    let (base, live) = self.base(of);
                    Image { of, object, base, live }
                });
            }
            Kind::Rewind(to) => {
                *rewinds += 1;
                commit.rewound = Some(to);
            }
        }
        let names_objects = matches!(kind, Kind::Segment | Kind::Image);
        owner.phase = if names_objects && protocol.has(Without::UploadFirst) {
            Phase::Begun(commit)
        } else {
            self.puts.insert((owner.next, Entry::Commit(commit)));
            Phase::Sent(commit)
        };
        owner
    }

    fn upload(&mut self, mut owner: Owner) -> Owner {
        let (Phase::Begun(commit) | Phase::Owing(commit)) = owner.phase else { return owner };
        self.data.extend(commit.segment.map(Object::Segment));
        self.data.extend(commit.image.map(|image| Object::Pages(image.object)));
        if matches!(owner.phase, Phase::Owing(_)) {
            owner.phase = Phase::Ready;
            return owner;
        }
        self.puts.insert((owner.next, Entry::Commit(commit)));
        owner.phase = Phase::Sent(commit);
        owner
    }

    /// The answer to the put of a commit: applied now, or refused for what stands there.
    fn settle(&mut self, protocol: &Protocol, mut owner: Owner) -> Result<Owner, Rival> {
        let Phase::Sent(commit) = owner.phase else { return Ok(owner) };
        let slot = owner.next;
        let stands = self.put(protocol, slot, Entry::Commit(commit));
        let another =
            stands.filter(|stands| *stands != Entry::Commit(commit) && protocol.has(Without::ReadBack));
        protocol::settled(slot, another, |entry| {
            let rival = |by: Session, epoch| Rival { by: u128::from(by.writer), epoch };
            Some(match entry {
                Entry::Commit(commit) => rival(commit.by, slot.epoch),
                Entry::Fence { by, next_epoch, .. } => rival(by, next_epoch),
            })
        })?;
        self.acknowledged.insert(slot, commit.by);
        owner.head = Some(slot);
        owner.next.number += 1;
        let owes = !protocol.has(Without::UploadFirst)
            && (commit.segment.is_some()
                || commit.image.is_some_and(|image| !self.data.contains(&Object::Pages(image.object))));
        owner.phase = if owes { Phase::Owing(commit) } else { Phase::Ready };
        Ok(owner)
    }
}

impl Owner {
    fn new(slot: CommitId, head: Option<CommitId>) -> Self {
        let next = CommitId { epoch: protocol::epoch_after(slot), number: 0 };
        Self { next, head, pages: 0, phase: Phase::Ready }
    }
}
