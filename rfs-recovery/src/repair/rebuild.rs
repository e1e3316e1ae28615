//! Rebuilds a state from any image before it, or from nothing, by replaying the journal that is left.

use std::collections::BTreeMap;

use rfs_core::{Change, CommitId, Lsn, Map, SegmentId, StateHash, Tree};
use rfs_journal::{ChainHash, Record};

use super::journal::{Journal, Spot, next_segment};
use crate::check::{LoggedCommit, Survey, told};
use crate::image::ImageOf;
use crate::objects::{ImageRef, StoredSegment};
use crate::state::{State, apply, from_image};
use crate::{Pages, RecoveryError};

/// Where in the history a state is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) commit: CommitId,
    pub(crate) lsn: Lsn,
    pub(crate) chain: ChainHash,
    /// Its state hash, unless the commit that says it is gone.
    pub(crate) state: Option<StateHash>,
}

/// A state, all of it in memory.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilt {
    pub(crate) target: Target,
    pub(crate) tree: Tree,
    pub(crate) state: StateHash,
    pub(crate) next_segment: SegmentId,
    pub(crate) segments: BTreeMap<SegmentId, StoredSegment>,
}

/// The images that commits name and whose heads can be read.
#[derive(Debug, Default)]
pub(crate) struct Images(Vec<(ImageRef, Lsn, ChainHash)>);

impl Images {
    /// Reads their heads.
    pub(crate) async fn find(survey: &Survey, pages: &Pages) -> Result<Self, RecoveryError> {
        let mut images: Vec<(ImageRef, Lsn, ChainHash)> = Vec::new();
        for commit in survey.commits() {
            let Some(image) = &commit.commit.image else { continue };
            if images.iter().any(|(known, ..)| known == image) {
                continue;
            }
            match from_image(pages, image.clone()).await {
                Ok(state) => images.push((image.clone(), state.lsn, state.chain)),
                Err(error) => drop(told(error, "")?),
            }
        }
        Ok(Self(images))
    }

    /// The segments that images name.
    pub(crate) async fn kept(&self, pages: &Pages) -> Result<BTreeMap<Spot, StoredSegment>, RecoveryError> {
        let mut kept = BTreeMap::new();
        for (image, ..) in &self.0 {
            match opened(pages, image).await {
                Ok((_, segments)) => {
                    let segments = segments.into_values();
                    kept.extend(segments.map(|stored| ((stored.key.clone(), stored.offset), stored)));
                }
                Err(error) => drop(told(error, "")?),
            }
        }
        Ok(kept)
    }

    fn at(&self, place: (Lsn, ChainHash)) -> impl Iterator<Item = &ImageRef> {
        self.0.iter().filter(move |(_, lsn, chain)| (*lsn, *chain) == place).map(|(image, ..)| image)
    }
}

/// An image, and what it says of segments.
async fn opened(
    pages: &Pages,
    image: &ImageRef,
) -> Result<(State, BTreeMap<SegmentId, StoredSegment>), RecoveryError> {
    let state = from_image(pages, image.clone()).await?;
    let all = || state.segments.iter().map(|pair| pair.map(|(id, stored)| (*id, stored.clone()))).collect();
    let segments = pages.ask(all).await?;
    Ok((state, segments))
}

/// Rebuilds a state. The inner error says in words why that cannot be.
///
/// # Errors
/// The store's.
pub(crate) async fn rebuild(
    survey: &Survey,
    pages: &Pages,
    journal: &Journal,
    images: &Images,
    target: Target,
) -> Result<Result<Rebuilt, String>, RecoveryError> {
    let to = (target.lsn, target.chain);
    let mut at = to;
    let mut why = None;
    loop {
        for image in images.at(at) {
            match whole(pages, image).await? {
                Ok(start) => match replay(&From { survey, pages, journal, images }, start, to, target).await?
                {
                    Ok(rebuilt) => return Ok(Ok(rebuilt)),
                    Err(error) => why = Some(error),
                },
                Err(error) => why = Some(error),
            }
        }
        if at == (Lsn(0), ChainHash::default()) {
            let start = Start::empty(survey);
            return replay(&From { survey, pages, journal, images }, start, to, target).await;
        }
        match journal.ending_at(at) {
            Some(piece) => at = (piece.stored.header.base, piece.stored.header.chain),
            None => {
                let gone = format!("the journal that ends at position {} is not there, or damaged", at.0.0);
                return Ok(Err(why.map_or(gone.clone(), |why| format!("{gone}, and {why}"))));
            }
        }
    }
}

/// Rebuilds a state by replaying as much journal as is left: from the oldest image that leads to it, or from nothing.
/// None if nothing but its own image does.
///
/// # Errors
/// `Damaged` when what is there does not lead to it; the store's.
pub(crate) async fn rebuild_from_oldest(
    survey: &Survey,
    pages: &Pages,
    journal: &Journal,
    images: &Images,
    target: Target,
) -> Result<Option<(Lsn, Rebuilt)>, RecoveryError> {
    let to = (target.lsn, target.chain);
    let (mut at, mut oldest) = (to, None);
    while let Some(piece) = journal.ending_at(at) {
        at = (piece.stored.header.base, piece.stored.header.chain);
        oldest = images.at(at).next().map(|image| (at, Some(image))).or(oldest);
    }
    if at == (Lsn(0), ChainHash::default()) && at != to {
        oldest = Some((at, None));
    }
    let Some((from, image)) = oldest else { return Ok(None) };
    let diverged = |what| RecoveryError::Diverged {
        store: survey.lineage.store().url().to_owned(),
        commit: target.commit,
        what,
    };
    let start = match image {
        Some(image) => whole(pages, image).await?.map_err(diverged)?,
        None => Start::empty(survey),
    };
    let from_all = From { survey, pages, journal, images };
    let rebuilt = replay(&from_all, start, to, target).await?.map_err(diverged)?;
    Ok(Some((from.0, rebuilt)))
}

struct Start {
    tree: Tree,
    lsn: Lsn,
    chain: ChainHash,
    next_segment: SegmentId,
    segments: BTreeMap<SegmentId, StoredSegment>,
}

impl Start {
    fn empty(survey: &Survey) -> Self {
        Self {
            tree: Tree::new(survey.lineage.created()),
            lsn: Lsn(0),
            chain: ChainHash::default(),
            next_segment: SegmentId(0),
            segments: BTreeMap::new(),
        }
    }
}

/// An image, if all of it can be read and is sound.
async fn whole(pages: &Pages, image: &ImageRef) -> Result<Result<Start, String>, RecoveryError> {
    let read = async {
        let (state, segments) = opened(pages, image).await?;
        pages.load_all(&state.tree).await?;
        Ok((state, segments))
    };
    let (state, segments) = match read.await {
        Ok(read) => read,
        Err(error) => {
            let (key, problem, what) = told(error, "an image")?;
            return Ok(Err(format!("{key} is {problem}: {what}")));
        }
    };
    if state.tree.check().is_err() || StateHash::of(&state.tree) != Ok(state.state) {
        return Ok(Err(format!("the image {} is not sound", image.key(pages.lineage()))));
    }
    let State { tree, lsn, chain, next_segment, .. } = state;
    Ok(Ok(Start { tree, lsn, chain, next_segment, segments }))
}

/// What states are rebuilt from.
#[derive(Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) survey: &'a Survey,
    pub(crate) pages: &'a Pages,
    pub(crate) journal: &'a Journal,
    pub(crate) images: &'a Images,
}

async fn replay(
    from: &From<'_>,
    start: Start,
    to: (Lsn, ChainHash),
    target: Target,
) -> Result<Result<Rebuilt, String>, RecoveryError> {
    let Start { tree, lsn, chain, next_segment, segments } = start;
    let Some(way) = from.journal.between((lsn, chain), to) else {
        return Ok(Err("the journal has a gap".to_owned()));
    };
    let state = StateHash::from_bytes([0; 32]);
    let start = Target { lsn, chain, ..target };
    let mut rebuilt = Rebuilt { target: start, tree, state, next_segment, segments };
    if let Err(error) = Box::pin(rebuilt.go_on(from, &way)).await {
        let (key, _, what) = told(error, "the journal")?;
        return Ok(Err(format!("{key} cannot be replayed: {what}")));
    }
    if target.state.is_some_and(|expected| expected != rebuilt.state) {
        return Ok(Err("replay does not give the state hash that was committed".to_owned()));
    }
    rebuilt.target = target;
    Ok(Ok(rebuilt))
}

/// Where in the history a commit was, also one that is gone: the next one says so.
pub(crate) fn target_at(survey: &Survey, journal: &Journal, id: CommitId) -> Option<Target> {
    if let Some(commit) = survey.commit(id) {
        return Some(target_of(commit));
    }
    let follows = |commit: &&LoggedCommit| commit.commit.previous.is_some_and(|before| before.id == id);
    let commit = &survey.commits().find(follows)?.commit;
    let mut at = (commit.end, commit.chain);
    while at.0 > commit.base {
        let piece = journal.ending_at(at)?;
        at = (piece.stored.header.base, piece.stored.header.chain);
    }
    (at.0 == commit.base).then_some(Target { commit: id, lsn: at.0, chain: at.1, state: None })
}

pub(crate) fn target_of(commit: &LoggedCommit) -> Target {
    let commit = &commit.commit;
    Target { commit: commit.id, lsn: commit.end, chain: commit.chain, state: Some(commit.state) }
}

impl Rebuilt {
    /// The state of a volume without any commit.
    pub(crate) async fn empty(survey: &Survey, pages: &Pages) -> Result<Self, RecoveryError> {
        let Start { tree, lsn, chain, next_segment, segments } = Start::empty(survey);
        let state = pages.ask(|| StateHash::of(&tree)).await?;
        let target = Target { commit: survey.lineage.first_slot(), lsn, chain, state: Some(state) };
        Ok(Self { target, tree, state, next_segment, segments })
    }

    /// Replays more of the journal, and gives the commits that it went back to.
    pub(crate) async fn go_on(
        &mut self,
        from: &From<'_>,
        way: &[&super::journal::Piece],
    ) -> Result<Vec<CommitId>, RecoveryError> {
        let mut rewound = Vec::new();
        for piece in way {
            let records = from.journal.records(piece).await?;
            for run in records.split_inclusive(|record| matches!(record.change, Change::Rewind { .. })) {
                match run {
                    [before @ .., Record { change: Change::Rewind { to }, .. }] => {
                        apply(from.pages, self.target.commit, &mut self.tree, before).await?;
                        self.go_back(from, *to).await?;
                        rewound.push(*to);
                    }
                    _ => apply(from.pages, self.target.commit, &mut self.tree, run).await?,
                }
            }
            self.segments.insert(piece.stored.header.id, piece.stored.clone());
            (self.target.lsn, self.target.chain) = (piece.end, piece.chain);
        }
        self.next_segment = next_segment(way, self.next_segment);
        self.state = from.pages.ask(|| StateHash::of(&self.tree)).await?;
        Ok(rewound)
    }

    async fn go_back(&mut self, from: &From<'_>, to: CommitId) -> Result<(), RecoveryError> {
        let From { survey, pages, journal, images } = *from;
        let diverged = |what: String| RecoveryError::Diverged {
            store: survey.lineage.store().url().to_owned(),
            commit: self.target.commit,
            what: format!("the history goes back to commit {to}: {what}"),
        };
        // Each is older than the one before, so that this comes to an end.
        let older = target_at(survey, journal, to)
            .filter(|older| older.lsn <= self.target.lsn && to < self.target.commit);
        let older = older.ok_or_else(|| diverged("nothing tells where that is".to_owned()))?;
        let older = Box::pin(rebuild(survey, pages, journal, images, older)).await?.map_err(diverged)?;
        self.tree = pages.ask(|| self.tree.rewound_to(&older.tree)).await?;
        for (id, stored) in older.segments {
            self.segments.entry(id).or_insert(stored);
        }
        Ok(())
    }

    /// What an image of it is made of that shares nothing with any before.
    ///
    /// # Errors
    /// `Diverged` when the tree is not sound.
    pub(crate) fn image_of(&self, survey: &Survey) -> Result<ImageOf, RecoveryError> {
        let diverged = |what: String| RecoveryError::Diverged {
            store: survey.lineage.store().url().to_owned(),
            commit: self.target.commit,
            what,
        };
        let items = self.tree.items().map_err(|missing| diverged(missing.to_string()))?;
        let tree = Tree::from_items(items).map_err(|violations| {
            diverged(violations.first().map(ToString::to_string).unwrap_or_default())
        })?;
        Ok(ImageOf {
            volume: survey.keys.0,
            of: self.target.commit,
            lsn: self.target.lsn,
            chain: self.target.chain,
            state: self.state,
            next_segment: self.next_segment,
            tree,
            segments: Map::from_ascending(self.segments.clone()),
        })
    }
}
