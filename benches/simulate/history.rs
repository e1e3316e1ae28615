//! What is known of a volume's history: what each writer did, what was acknowledged, and what must therefore be found.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use rfs::{ChainHash, CommitId, LocalLog, Lsn, OpenReport, Receipt, StateHash};
use rfs_testkit::{Answer, Dump, ModelFs, Rules, Target, TestOp};

/// Shared by all tasks of a world.
#[derive(Default)]
pub(crate) struct History(Mutex<Known>);

/// What the local disk of a machine holds for certain.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    /// Whose log it is.
    pub(crate) epoch: u64,
    /// Up to where it was acknowledged at `Local`.
    pub(crate) local: Lsn,
}

#[derive(Default)]
struct Known {
    sessions: BTreeMap<u64, Session>,
    /// What is known of commits, by receipts.
    commits: BTreeMap<CommitId, (Lsn, ChainHash, StateHash)>,
    /// Commits that were acknowledged, or found by an opener: they are never lost again.
    durable: BTreeSet<CommitId>,
    floor: Lsn,
    readings: Vec<Reading>,
    checkpoints: BTreeMap<String, ModelFs>,
    /// How often somebody began to open the volume for writing, and how often that succeeded.
    openings: u64,
    opened: u64,
    /// The openings that began when others were under way, or had failed: the fence of such a one may come later.
    contested: BTreeSet<u64>,
}

/// One writer's part of the history.
struct Session {
    name: String,
    /// The newest commit that it found.
    head: Option<CommitId>,
    /// Where that ends.
    found: Lsn,
    /// Whose history it goes on from, and up to where.
    before: Option<u64>,
    base: Lsn,
    base_model: ModelFs,
    /// Where its own operations begin.
    opened: Lsn,
    model: ModelFs,
    steps: Vec<(Lsn, Step)>,
    /// It is going back to a state: what it writes from here on has that, which others may find before it is told.
    going_back: Option<(Lsn, Box<ModelFs>)>,
}

enum Step {
    Op(TestOp),
    /// It changed no file.
    Nothing,
    /// The volume went back.
    State(Box<ModelFs>),
}

/// What a reader found at the head.
struct Reading {
    who: String,
    position: Lsn,
    found: Dump,
}

/// What was durable when somebody began to open the volume.
pub(crate) struct Before {
    durable: BTreeSet<CommitId>,
    floor: Lsn,
    /// The number of this opening, when it is one for writing.
    pub(crate) opening: u64,
}

impl History {
    pub(crate) fn before_reading(&self) -> Before {
        let known = self.0.lock();
        Before { durable: known.durable.clone(), floor: known.floor, opening: known.openings }
    }

    pub(crate) fn before_opening(&self) -> Before {
        let mut known = self.0.lock();
        if known.opened < known.openings {
            let opening = known.openings + 1;
            known.contested.insert(opening);
        }
        known.openings += 1;
        drop(known);
        self.before_reading()
    }

    /// Whether somebody else may have taken the volume over from the writer of this opening.
    pub(crate) fn is_superseded(&self, opening: u64) -> bool {
        let known = self.0.lock();
        known.openings > opening || known.contested.contains(&opening)
    }

    /// A writer opened the volume, and nothing was done with it yet. Gives what it must find.
    pub(crate) fn opened(
        &self,
        who: &str,
        before: &Before,
        report: &OpenReport,
        now: Lsn,
        tail: Option<Tail>,
    ) -> (ModelFs, Tail) {
        let mut known = self.0.lock();
        let known = &mut *known;
        let (head, base) = (report.commit, report.position);
        for commit in &before.durable {
            assert!(
                known.is_on_path(*commit, head),
                "{who} opened epoch {} and found {head:?} as the newest commit, but {commit} was acknowledged",
                report.epoch
            );
        }
        if let Some((position, ..)) = head.and_then(|head| known.commits.get(&head)) {
            assert!(base >= *position, "{who} found {head:?} at {base}, which ends at {position}");
        }
        let goes_on = |tail: &Tail| {
            head.is_some_and(|head| head.epoch == tail.epoch) || known.sessions[&tail.epoch].head == head
        };
        let found = match &report.local {
            LocalLog::Replayed(changes) => Lsn(base.0 - changes),
            _ => base,
        };
        let (from, local) = match &report.local {
            LocalLog::Replayed(_) => {
                // Others may have committed that nothing was changed.
                let goes_on = |tail: &Tail| known.is_same_history(tail.epoch, head, found);
                let Some(tail) = tail.filter(goes_on) else {
                    panic!(
                        "{who} found {head:?} and replayed a local log of another history on it: {report:?}"
                    )
                };
                let what = "was acknowledged at Local, and the disk was not lost";
                assert!(base >= tail.local, "{who} found {base}, but {} {what}", tail.local);
                (Some(tail.epoch), tail.local)
            }
            other => {
                if let Some(tail) = tail.filter(goes_on) {
                    let what = "was acknowledged at Local, the disk was not lost, and nobody else committed";
                    assert!(
                        base >= tail.local,
                        "{who} found {base} and {other:?}, but {} {what}",
                        tail.local
                    );
                }
                (head.map(|head| head.epoch), Lsn(0))
            }
        };
        let model = match from {
            Some(epoch) => known.model_at(epoch, base).unwrap_or_else(|why| panic!("{who} found {why}")),
            None => ModelFs::new(Rules::rfs()),
        };
        let session = Session {
            name: who.to_owned(),
            head,
            found,
            before: from,
            base,
            base_model: model.clone(),
            opened: now,
            model: model.clone(),
            steps: Vec::new(),
            going_back: None,
        };
        known.durable.extend(head);
        known.opened += 1;
        let twice = known.sessions.insert(report.epoch, session);
        assert!(twice.is_none(), "{who} owns epoch {}, which another writer owns", report.epoch);
        (model, Tail { epoch: report.epoch, local })
    }

    /// An operation was answered. Tasks call this without letting others go on in between, so the order of the calls is
    /// the order in which the operations took place: each answer must be that of the model in this order.
    pub(crate) fn operated(&self, epoch: u64, position: Lsn, op: TestOp, got: &Answer) {
        let mut known = self.0.lock();
        let session = known.session(epoch);
        let expected = session.model.run(&op);
        assert_eq!(*got, expected, "{}, epoch {epoch}, at {position}: {op:?}", session.name);
        session.steps.push((position, Step::Op(op)));
    }

    /// Something was written to the history that changes no file.
    pub(crate) fn noted(&self, epoch: u64, position: Lsn) {
        self.0.lock().session(epoch).steps.push((position, Step::Nothing));
    }

    /// The volume is about to go back to a state.
    pub(crate) fn goes_back(&self, epoch: u64, from: Lsn, model: &ModelFs) {
        self.0.lock().session(epoch).going_back = Some((from, Box::new(model.clone())));
    }

    /// The volume went back, if it is further than it was, and else it did not.
    pub(crate) fn went_back(&self, epoch: u64, position: Lsn) {
        let mut known = self.0.lock();
        let session = known.session(epoch);
        let (from, model) = session.going_back.take().expect("it was about to go back");
        if position == from {
            return;
        }
        session.model = (*model).clone();
        // The first of these Changes goes back, those behind it release what is held.
        for lsn in from.0 + 1..=position.0 {
            session.steps.push((Lsn(lsn), Step::State(model.clone())));
        }
    }

    /// A commit was acknowledged.
    pub(crate) fn committed(&self, epoch: u64, least: Lsn, receipt: &Receipt) {
        let mut known = self.0.lock();
        let commit = receipt.commit;
        let what = (receipt.position, receipt.chain, receipt.state);
        let before = *known.commits.entry(commit).or_insert(what);
        assert_eq!(before, what, "commit {commit} is two commits");
        assert!(receipt.position >= least, "{commit} is at {}, not {least}", receipt.position);
        let own = commit.epoch == epoch || known.session(epoch).head == Some(commit);
        assert!(own, "a writer of epoch {epoch} was told of commit {commit}");
        if let Err(why) = known.model_at(epoch, receipt.position) {
            panic!("commit {commit}: {why}");
        }
        known.durable.insert(commit);
        known.floor = known.floor.max(receipt.position);
    }

    pub(crate) fn model_of(&self, epoch: u64) -> ModelFs {
        self.0.lock().session(epoch).model.clone()
    }

    /// A checkpoint was acknowledged: from now on it is kept until somebody drops it.
    pub(crate) fn checkpoint(&self, name: String, model: ModelFs) {
        self.0.lock().checkpoints.insert(name, model);
    }

    /// Somebody is about to drop it.
    pub(crate) fn forget_checkpoint(&self, name: &str) {
        self.0.lock().checkpoints.remove(name);
    }

    /// The checkpoints that must be found.
    pub(crate) fn checkpoints(&self) -> Vec<(String, ModelFs)> {
        self.0.lock().checkpoints.iter().map(|(name, model)| (name.clone(), model.clone())).collect()
    }

    pub(crate) fn has_checkpoint(&self, name: &str) -> bool {
        self.0.lock().checkpoints.contains_key(name)
    }

    /// A reader read all of the head.
    pub(crate) fn read(&self, who: &str, before: &Before, position: Lsn, found: Dump) {
        let mut known = self.0.lock();
        assert!(
            position >= before.floor,
            "{who} found the head at {position}, but {} was committed before",
            before.floor
        );
        let fits = |epoch: &u64| {
            known
                .model_at(*epoch, position)
                .is_ok_and(|model| found.diff("a", &tree_of(&model), "b").is_empty())
        };
        let fits = known.sessions.keys().rev().any(fits);
        if !fits {
            let of_last = known.sessions.keys().next_back().map(|epoch| known.model_at(*epoch, position));
            let difference = match of_last {
                Some(Ok(model)) => found.diff("found", &tree_of(&model), "the newest writer's"),
                other => format!("{:?}", other.map(|model| model.map(drop))),
            };
            panic!("{who} found at {position} what nobody wrote:\n{difference}");
        }
        known.floor = known.floor.max(position);
        known.readings.push(Reading { who: who.to_owned(), position, found });
    }

    /// Nothing goes on any more: the newest commit is final, and so is the way that leads to it.
    pub(crate) fn at_the_end(&self, head: Option<CommitId>) {
        let known = self.0.lock();
        for commit in &known.durable {
            assert!(
                known.is_on_path(*commit, head),
                "{commit} was acknowledged, and does not lead to {head:?}"
            );
        }
        let mut path = Vec::new();
        let mut at = head;
        while let Some(commit) = at {
            path.push(commit.epoch);
            at = known.sessions[&commit.epoch].head;
        }
        for Reading { who, position, found } in &known.readings {
            let epoch = path.iter().find(|epoch| known.sessions[epoch].base <= *position).or(path.last());
            let model = match epoch {
                Some(epoch) => known.model_at(*epoch, *position),
                // Without a commit the volume is as it was made.
                None if *position == Lsn(0) => Ok(ModelFs::new(Rules::rfs())),
                None => Err(format!("{position}, and nothing was committed")),
            };
            let model = model.unwrap_or_else(|why| panic!("{who} read {why}"));
            let difference = found.diff("read", &tree_of(&model), "in the history");
            assert!(
                difference.is_empty(),
                "{who} read at {position} what is not in the history\n{difference}"
            );
        }
    }
}

impl Known {
    fn session(&mut self, epoch: u64) -> &mut Session {
        self.sessions.get_mut(&epoch).expect("the writer of the epoch opened the volume")
    }

    /// Whether the history up to `head` has this commit.
    fn is_on_path(&self, commit: CommitId, head: Option<CommitId>) -> bool {
        let mut at = head;
        while let Some(head) = at {
            if head.epoch == commit.epoch {
                return commit.number <= head.number;
            }
            at = self.sessions.get(&head.epoch).and_then(|session| session.head);
        }
        false
    }

    /// Whether nothing was changed between a session's last commit, or what it found, and the newest commit, which ends at
    /// `end`.
    fn is_same_history(&self, epoch: u64, head: Option<CommitId>, end: Lsn) -> bool {
        let session = &self.sessions[&epoch];
        let (mut at, mut found) = (head, end);
        while let Some(commit) = at {
            if commit.epoch == epoch || at == session.head {
                return found == end;
            }
            let Some(later) = self.sessions.get(&commit.epoch) else { return false };
            (at, found) = (later.head, later.found);
        }
        session.head.is_none() && found == end
    }

    /// The tree of a session's history at a position, which must lie between two operations.
    fn model_at(&self, epoch: u64, position: Lsn) -> Result<ModelFs, String> {
        let Some(session) = self.sessions.get(&epoch) else {
            return Err(format!("a commit of epoch {epoch}, whose writer never opened the volume"));
        };
        if position < session.base {
            let before = session.before.ok_or_else(|| format!("{position}, which is before all"))?;
            return self.model_at(before, position);
        }
        if let Some((from, model)) = &session.going_back
            && position > *from
        {
            return Ok((**model).clone());
        }
        let mut model = session.base_model.clone();
        let (mut at, mut last) = (session.opened, session.opened);
        for (lsn, step) in &session.steps {
            last = *lsn;
            if *lsn > position {
                break;
            }
            at = *lsn;
            match step {
                // Its answer was compared when it was given.
                Step::Op(op) => _ = model.run(op),
                Step::Nothing => {}
                Step::State(state) => model.clone_from(state),
            }
        }
        // What is behind the last operation is of an opening that came to nothing.
        if position <= session.opened || at == position || last <= position {
            return Ok(model);
        }
        Err(format!("{position} of epoch {epoch}, which is inside of an operation that began at {at}"))
    }
}

/// Without what handles hold: a volume shows that to their program only.
pub(crate) fn tree_of(model: &ModelFs) -> Dump {
    Dump { handles: BTreeMap::new(), ..model.clone().dump() }
}
