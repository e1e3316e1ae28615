//! Whether all that a volume's states need is in the store, and is what was written.
//!
//! A check reads only, and goes on after what is wrong: each object that is missing or damaged becomes a [`Finding`],
//! which says which states and paths suffer. It works where a volume cannot be opened. It looks at one state after the
//! other, and holds the tree of one; pages that states share are fetched once as long as there is room for them.

mod paths;
mod report;
mod segments;
mod states;
mod survey;

use std::collections::BTreeSet;

use rfs_backends::Store;
use rfs_core::CommitId;

pub(crate) use self::paths::path_of;
pub use self::report::{CheckOptions, CheckReport, CheckedState, Finding, Problem, Suffering};
pub(crate) use self::report::{Findings, told};
pub(crate) use self::segments::{Run, Segments, verify_whole};
pub(crate) use self::survey::{Entry, LoggedCommit, Survey};
use crate::pins::{Kept, Pin, pins, read_kept};
use crate::{Pages, RecoveryError};

/// Checks the volume in `store`: its newest state and every checkpoint. Up to `pages_bytes` of pages are kept.
///
/// # Errors
/// `NoVolume` when there is none, or it cannot be told which; the store's.
pub async fn check(
    store: &Store,
    pages_bytes: u64,
    options: CheckOptions,
) -> Result<CheckReport, RecoveryError> {
    let before = received(store);
    let survey = Survey::of(store).await?;
    let mut report = check_survey(&survey, pages_bytes, options).await?;
    report.bytes = received(store).saturating_sub(before);
    Ok(report)
}

/// Checks what a survey has shown.
pub(crate) async fn check_survey(
    survey: &Survey,
    pages_bytes: u64,
    options: CheckOptions,
) -> Result<CheckReport, RecoveryError> {
    let mut checker = Checker::new(survey, pages_bytes, options);
    checker.check_log();
    for (state, commit) in checker.states_to_check().await? {
        checker.check_state(&state, commit).await?;
    }
    while let Some(commit) = checker.rewound.pop_first() {
        if checker.states.iter().all(|state| state.commit != commit) {
            let what = format!("commit {commit}, which the history went back to");
            checker.check_state(&StateName { checkpoint: None, kept_for: Some(what) }, commit).await?;
        }
    }
    Ok(checker.report())
}

fn received(store: &Store) -> u64 {
    let snapshot = store.meter().snapshot();
    snapshot.of(rfs_backends::RequestKind::Get).bytes
}

/// A state that is to be checked.
#[derive(Clone, Debug)]
pub(crate) struct StateName {
    pub(crate) checkpoint: Option<String>,
    /// What else it is kept for.
    pub(crate) kept_for: Option<String>,
}

impl StateName {
    fn text(&self) -> String {
        match (&self.checkpoint, &self.kept_for) {
            (Some(name), _) => format!("checkpoint {name:?}"),
            (None, Some(kept_for)) => kept_for.clone(),
            (None, None) => "the newest state".to_owned(),
        }
    }
}

/// A check under way.
pub(crate) struct Checker<'a> {
    survey: &'a Survey,
    pages: Pages,
    options: CheckOptions,
    findings: Findings,
    segments: Segments,
    needed: BTreeSet<String>,
    /// Segments that are kept for history alone.
    for_history: BTreeSet<String>,
    states: Vec<CheckedState>,
    /// Commits that the history went back to since an image: whoever replays it needs their states.
    rewound: BTreeSet<CommitId>,
    /// What a state needs cannot be known, so neither can be what none needs.
    blind: bool,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(survey: &'a Survey, pages_bytes: u64, options: CheckOptions) -> Self {
        Self {
            survey,
            pages: Pages::new(survey.lineage.clone(), pages_bytes),
            options,
            findings: Findings::new(options),
            segments: Segments::new(survey.lineage.clone(), options.deep),
            needed: BTreeSet::new(),
            for_history: BTreeSet::new(),
            states: Vec::new(),
            rewound: BTreeSet::new(),
            blind: false,
        }
    }

    /// Superblock, commits and fences: whether each can be read, and whether every epoch but the newest has an end.
    fn check_log(&mut self) {
        if let Err(error) = &self.survey.superblock {
            let (key, problem) = survey::superblock_problem(error);
            self.findings.add(key, problem, &error.to_string(), None);
        }
        for (id, entry) in &self.survey.log {
            let key = self.survey.key(*id);
            match entry {
                Entry::Fence(_) => drop(self.needed.insert(key)),
                Entry::Commit(commit) => {
                    let before = commit
                        .commit
                        .previous
                        .and_then(|previous| Some((previous, self.survey.commit(previous.id)?)));
                    // Collected ones are no matter, and damaged ones are told anyway.
                    if let Some((previous, before)) = before
                        && (before.hash != previous.hash || before.commit.end != commit.commit.base)
                    {
                        let what = format!("it is not the commit that {id} extends");
                        self.findings.add(&self.survey.key(previous.id), Problem::Unsound, &what, None);
                    }
                }
                Entry::Unreadable(error) => self.tell_unreadable(&key, error, None),
            }
        }
        for end in self.survey.open_ends() {
            let what = format!("epoch {} has ended, and the fence that says so is not there", end.epoch);
            self.findings.add(&self.survey.key(end), Problem::Missing, &what, None);
        }
    }

    fn tell_unreadable(&mut self, key: &str, error: &RecoveryError, state: Option<&str>) {
        let (problem, what) = match error {
            RecoveryError::Damaged { what, .. } => (Problem::Damaged, what.clone()),
            RecoveryError::UnknownFormat { .. } => (Problem::UnknownFormat, error.to_string()),
            error => (Problem::Damaged, error.to_string()),
        };
        self.findings.add(key, problem, &what, state);
    }

    /// The newest state and the checkpoints. Where the newest state cannot be read, the checkpoints are those that the
    /// commits name; some of them may have been dropped.
    async fn states_to_check(&mut self) -> Result<Vec<(StateName, CommitId)>, RecoveryError> {
        let newest = StateName { checkpoint: None, kept_for: None };
        let head = match self.survey.head() {
            Ok(head) => head,
            Err(key) => {
                let absent = !self.survey.objects.contains_key(&key);
                let problem = if absent { Problem::Missing } else { Problem::Damaged };
                let what = match self.survey.keys.parse_commit(&key).and_then(|id| self.survey.log.get(&id)) {
                    Some(Entry::Unreadable(RecoveryError::Damaged { what, .. })) => what.clone(),
                    _ => "the newest commit is not there, or is another one".to_owned(),
                };
                self.findings.add(&key, problem, &what, Some(&newest.text()));
                self.blind = true;
                None
            }
        };
        let mut states = Vec::new();
        let mut named = None;
        if let Some(head) = head {
            states.push((newest, head.commit.id));
            named = self.checkpoints(head).await?;
        }
        let named = named.unwrap_or_else(|| {
            let commits = self.survey.commits();
            let named =
                commits.filter_map(|commit| Some((commit.commit.checkpoint.clone()?, commit.commit.id)));
            named.collect()
        });
        match self.pins().await {
            Ok((pins, kept)) => {
                for pin in pins {
                    self.needed.extend(pin.objects.iter().flatten().cloned());
                    // One of a state that was collected before came too late: whoever put it was told so.
                    let relies = kept.as_ref().is_none_or(|kept| kept.keeps(pin.at));
                    if pin.objects.is_none() && relies {
                        let pinned = StateName {
                            checkpoint: None,
                            kept_for: Some(format!("the state that is pinned for {}", pin.owner)),
                        };
                        states.push((pinned, pin.at));
                    }
                }
            }
            Err(error) => {
                self.blind = true;
                self.findings.error(error, &self.survey.keys.pins(), None)?;
            }
        }
        states.extend(
            named.into_iter().map(|(name, id)| (StateName { checkpoint: Some(name), kept_for: None }, id)),
        );
        Ok(states)
    }

    /// The pins, and what the newest collection keeps.
    async fn pins(&self) -> Result<(Vec<Pin>, Option<Kept>), RecoveryError> {
        let own = self.survey.lineage.own();
        Ok((pins(&own).await?, read_kept(&own).await?.kept))
    }

    /// The checkpoints that a state names; none if it cannot be read.
    async fn checkpoints(
        &self,
        head: &LoggedCommit,
    ) -> Result<Option<Vec<(String, CommitId)>>, RecoveryError> {
        match self.load(head.commit.id).await {
            Ok(state) => {
                let checkpoints = state.tree.checkpoints().iter();
                Ok(Some(checkpoints.map(|(name, at)| (name.clone(), at.commit)).collect()))
            }
            Err(error) => told(error, "").map(|_| None),
        }
    }

    fn report(mut self) -> CheckReport {
        let keys = self.survey.keys;
        let below =
            |key: &str, prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let aside = [keys.all_aside(), keys.receipts(), keys.pins(), keys.all_kept()];
        let kept = |key: &str| key == keys.kept_v4() || aside.iter().any(|prefix| below(key, prefix));
        self.needed.extend(std::mem::take(&mut self.for_history));
        let objects = &self.survey.objects;
        let unreferenced =
            objects.iter().filter(|(key, _)| !self.blind && !self.needed.contains(*key) && !kept(key));
        let unreferenced = unreferenced.map(|(key, bytes)| (key.clone(), *bytes)).collect();
        let needed = self.needed.iter().filter(|key| objects.contains_key(*key)).count();
        let superblock = usize::from(self.survey.superblock.is_ok());
        let segments = self.segments.count();
        let (findings, more_findings) = self.findings.into_list();
        CheckReport {
            volume: keys.0,
            deep: self.options.deep,
            entries: self.survey.log.len() as u64,
            states: self.states,
            objects: (needed + superblock) as u64,
            segments,
            bytes: 0,
            findings,
            more_findings,
            unreferenced,
        }
    }
}
