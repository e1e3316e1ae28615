//! What there is: the store, the requests under way, the writers; and what may happen next.

use std::collections::{BTreeMap, BTreeSet};

use rfs_core::{CommitId, PageObject};
use rfs_recovery::pins::Kept;
use stateright::{Model, Property};

use crate::collection::Collection;
use crate::loss::loss;
use crate::needs::Missing;
use crate::writer::Mode;

/// How much may happen. Everything that fits into these bounds is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Writers, each of which opens the volume again and again.
    pub writers: usize,
    /// The last epoch that is taken.
    pub epochs: u64,
    /// Commits in each epoch.
    pub commits: u64,
    /// Crashes in all.
    pub crashes: u8,
    /// Commits that name an image made for them, in all.
    pub images: u8,
    /// Commits with a segment in an object of its own, in all.
    pub segments: u8,
    /// Commits with a name, in all.
    pub names: u8,
    /// Rewinds, in all.
    pub rewinds: u8,
    /// Pins, in all.
    pub pins: u8,
    /// Collections, in all.
    pub collections: u8,
}

impl Bounds {
    /// Nothing but commits and take-overs.
    pub const LEAST: Self = Self {
        writers: 2,
        epochs: 2,
        commits: 2,
        crashes: 0,
        images: 0,
        segments: 0,
        names: 0,
        rewinds: 0,
        pins: 0,
        collections: 0,
    };
}

/// A safeguard that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// An opener that created its fence does not list once more above it.
    SecondList,
    /// A writer takes it for its own success that something stands where it puts.
    ReadBack,
    /// A put replaces what stands there.
    CreateOnly,
    /// A collection also deletes the highest object of an epoch.
    HighestKept,
    /// A collection does not look for a fence once more before it deletes.
    Recheck,
    /// A collection does not look for pins.
    PinsListed,
    /// A collection does not say what it keeps before it lists the pins.
    SaysWhatIsKept,
    /// A collection says what it keeps in the place where those of other epochs say it.
    KeptByEpoch,
    /// A pin is put after it was looked what collections keep.
    PinFirst,
    /// A commit is put before the objects that it names.
    UploadFirst,
    /// A commit does not extend the head.
    Extends,
    /// A writer goes back to a state without looking what collections keep.
    RewindAsks,
    /// A collection forgets what a commit goes back to.
    RewoundKept,
    /// A collection may delete objects of pages that no commit names yet.
    NewestPagesKept,
}

impl Without {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::SecondList,
        Self::ReadBack,
        Self::CreateOnly,
        Self::HighestKept,
        Self::Recheck,
        Self::PinsListed,
        Self::SaysWhatIsKept,
        Self::KeptByEpoch,
        Self::PinFirst,
        Self::UploadFirst,
        Self::Extends,
        Self::RewindAsks,
        Self::RewoundKept,
        Self::NewestPagesKept,
    ];
}

/// The protocol within its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How much may happen.
    pub bounds: Bounds,
    /// The safeguard that is taken away, if any.
    pub without: Option<Without>,
}

/// One opening of the volume by one writer: whoever puts an object says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    pub(crate) writer: u8,
    pub(crate) opening: u8,
}

/// A commit's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit {
    pub(crate) by: Session,
    pub(crate) previous: Option<CommitId>,
    pub(crate) segment: Option<Segment>,
    pub(crate) last_segment: u8,
    pub(crate) image: Option<Image>,
    pub(crate) rewound: Option<CommitId>,
    pub(crate) named: bool,
}

/// A segment in an object of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment {
    pub(crate) number: u8,
    pub(crate) by: Session,
}

/// An image: what it stored itself, what it refers to of the one that it is based on, and the segment that content of
/// its tree is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Image {
    pub(crate) of: CommitId,
    pub(crate) object: PageObject,
    pub(crate) base: Option<PageObject>,
    pub(crate) live: Option<Segment>,
}

/// What stands at a number of the commit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// A commit.
    Commit(Commit),
    /// The end of an epoch.
    Fence {
        /// Who put it.
        by: Session,
        /// The epoch that begins.
        next_epoch: u64,
        /// The newest commit.
        head: Option<CommitId>,
    },
}

/// The name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// Of the commit log.
    Log(CommitId),
    /// Of pages.
    Pages(PageObject),
    /// A segment.
    Segment(Segment),
}

/// How far whoever pins a state came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pinning {
    /// It is about to put the pin, and to look then; or it has looked, when that comes first.
    Begun(CommitId),
    /// It has put the pin, and is about to look.
    Put(CommitId),
    /// It was told that the state is kept.
    Done(CommitId),
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) log: BTreeMap<CommitId, Entry>,
    pub(crate) data: BTreeSet<Object>,
    pub(crate) pins: BTreeSet<CommitId>,
    pub(crate) kept: BTreeMap<u64, Said>,
    /// Puts that may be applied at any time, and again.
    pub(crate) puts: BTreeSet<(CommitId, Entry)>,
    /// Deletes that may be applied at any time, and again.
    pub(crate) deletes: BTreeSet<Object>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) pinning: Option<Pinning>,
    pub(crate) used: Used,
    /// Every commit that ever was in the log, as it was made last.
    pub(crate) made: BTreeMap<CommitId, Commit>,
    /// The commits whose writers were told that they are durable.
    pub(crate) acknowledged: BTreeMap<CommitId, Session>,
}

/// What a collection says that it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Said {
    pub(crate) newest: CommitId,
    pub(crate) states: Vec<CommitId>,
}

impl Said {
    pub(crate) fn keeps(&self, id: CommitId) -> bool {
        Kept { volume: 0, newest: self.newest, states: self.states.clone() }.keeps(id)
    }
}

/// One writer, with the collection that it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) opening: u8,
    pub(crate) mode: Mode,
    pub(crate) collection: Option<Collection>,
}

/// How much of the bounds was used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Used {
    pub(crate) crashes: u8,
    pub(crate) images: u8,
    pub(crate) segments: u8,
    pub(crate) names: u8,
    pub(crate) rewinds: u8,
    pub(crate) pins: u8,
    pub(crate) collections: u8,
}

/// What a commit is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Its journal is inside of it.
    Plain,
    /// It has a name.
    Named,
    /// Its journal is in an object.
    Segment,
    /// It names a new image of the commit before.
    Image,
    /// It goes back to a state.
    Rewind(CommitId),
}

/// A step of somebody: one request, or one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// An opener lists the log.
    List(usize),
    /// It sends its fence.
    SendFence(usize),
    /// The answer to the put of a fence or commit arrives.
    Answer(usize),
    /// An opener lists once more above its fence.
    Look(usize),
    /// An owner begins a commit.
    Begin(usize, Kind),
    /// It stores the objects that the commit names.
    Upload(usize),
    /// It loses all that it has in memory.
    Crash(usize),
    /// An owner begins a collection: it looks for a fence, lists, and marks what is needed.
    Mark(usize),
    /// The collection says what it keeps.
    Say(usize),
    /// It lists the pins and decides what goes.
    Decide(usize),
    /// It looks for a fence once more, and sends the deletes.
    Recheck(usize),
    /// A put is applied, late or again.
    Apply(CommitId, Entry),
    /// A delete is applied, late or again.
    Delete(Object),
    /// Somebody begins to pin a state.
    Pin(CommitId),
    /// The next step of pinning.
    GoOnPinning,
}

impl World {
    fn start(bounds: &Bounds) -> Self {
        let writer = Writer { opening: 0, mode: Mode::Idle, collection: None };
        Self {
            log: BTreeMap::new(),
            data: BTreeSet::new(),
            pins: BTreeSet::new(),
            kept: BTreeMap::new(),
            puts: BTreeSet::new(),
            deletes: BTreeSet::new(),
            writers: vec![writer; bounds.writers],
            pinning: None,
            used: Used::default(),
            made: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        }
    }

    pub(crate) fn session(&self, writer: usize) -> Session {
        Session { writer: writer as u8, opening: self.writers[writer].opening }
    }

    /// Creates an object of the log if there is none; says what stands there otherwise.
    pub(crate) fn put(&mut self, protocol: &Protocol, id: CommitId, entry: Entry) -> Option<Entry> {
        let stands = self.log.get(&id).copied();
        if stands.is_some() && protocol.has(Without::CreateOnly) {
            return stands;
        }
        self.log.insert(id, entry);
        if let Entry::Commit(commit) = entry {
            self.made.insert(id, commit);
        }
        None
    }

    /// Whether the newest collection of the newest epoch in which there was one keeps it.
    pub(crate) fn is_said_to_be_kept(&self, id: CommitId) -> bool {
        self.kept.last_key_value().is_none_or(|(_, said)| said.keeps(id))
    }

    fn go_on_pinning(&mut self, protocol: &Protocol) {
        self.pinning = match self.pinning {
            Some(Pinning::Begun(at)) if protocol.has(Without::PinFirst) => {
                self.pins.insert(at);
                Some(Pinning::Put(at))
            }
            Some(Pinning::Begun(at)) => self.is_said_to_be_kept(at).then_some(Pinning::Put(at)),
            Some(Pinning::Put(at)) if protocol.has(Without::PinFirst) => {
                if self.is_said_to_be_kept(at) {
                    Some(Pinning::Done(at))
                } else {
                    self.pins.remove(&at);
                    None
                }
            }
            Some(Pinning::Put(at)) => {
                self.pins.insert(at);
                Some(Pinning::Done(at))
            }
            pinning => pinning,
        };
    }

    /// Commits in the log whose states can be read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = CommitId> {
        let commits = self.log.iter().filter(|(_, entry)| matches!(entry, Entry::Commit(_)));
        commits.map(|(id, _)| *id).filter(|id| self.needs(*id).and_then(|needs| self.stands(&needs)).is_ok())
    }

    pub(crate) fn stands(&self, needs: &BTreeSet<Object>) -> Result<(), Missing> {
        let there = |object: &Object| match object {
            Object::Log(id) => matches!(self.log.get(id), Some(Entry::Commit(_))),
            object => self.data.contains(object),
        };
        needs.iter().find(|object| !there(object)).map_or(Ok(()), |object| Err(Missing(*object)))
    }
}

impl Protocol {
    /// Whether a safeguard is in place.
    pub(crate) fn has(&self, safeguard: Without) -> bool {
        self.without != Some(safeguard)
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::start(&self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for writer in 0..world.writers.len() {
            world.writer_may(self, writer, actions);
            world.collector_may(self, writer, actions);
        }
        let free =
            |(id, _): &&(CommitId, Entry)| !world.log.contains_key(id) || !self.has(Without::CreateOnly);
        actions.extend(world.puts.iter().filter(free).map(|(id, entry)| Action::Apply(*id, *entry)));
        let there = |object: &&Object| match object {
            Object::Log(id) => world.log.contains_key(id),
            object => world.data.contains(object),
        };
        actions.extend(world.deletes.iter().filter(there).map(|object| Action::Delete(*object)));
        match world.pinning {
            None if world.used.pins < self.bounds.pins => actions.extend(world.readable().map(Action::Pin)),
            Some(Pinning::Begun(_) | Pinning::Put(_)) => actions.push(Action::GoOnPinning),
            _ => {}
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::List(writer)
            | Action::SendFence(writer)
            | Action::Answer(writer)
            | Action::Look(writer)
            | Action::Begin(writer, _)
            | Action::Upload(writer)
            | Action::Crash(writer) => world.write(self, writer, action),
            Action::Mark(writer) | Action::Say(writer) | Action::Decide(writer) | Action::Recheck(writer) => {
                world.collect(self, writer);
            }
            Action::Apply(id, entry) => {
                world.put(self, id, entry);
            }
            Action::Delete(object) => {
                world.data.remove(&object);
                if let Object::Log(id) = object {
                    world.log.remove(&id);
                }
            }
            Action::Pin(at) => {
                world.used.pins += 1;
                world.pinning = Some(Pinning::Begun(at));
            }
            Action::GoOnPinning => world.go_on_pinning(self),
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("nothing is lost", |_, world: &World| loss(world).is_none())]
    }
}
