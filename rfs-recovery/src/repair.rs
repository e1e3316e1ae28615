//! Repairs a volume: rebuilds what follows from the journal, and puts aside what nothing explains.
//!
//! What a repair does is *planned* from a deep check and from what is left of the journal, and then *carried out*:
//!
//! 1. fences end the epoch above everything, as for any writer; from then on the new head decides;
//! 2. segments that can be put together as they were written are put back where they stood;
//! 3. states that cannot be read get images of their own, which share nothing with what is damaged;
//! 4. a commit makes it so: it extends the newest history that can be read, and names what is where now;
//! 5. what cannot be read, or follows that history, is moved aside.
//!
//! A crash between any of these leaves a volume that is opened at the same head, and that is repaired again.

mod carry_out;
pub(crate) mod journal;
mod plan;
pub(crate) mod rebuild;

use rfs_backends::Store;
use rfs_core::{CommitId, Timestamp};

use self::carry_out::carry_out;
use self::plan::Plan;
use crate::RecoveryError;
use crate::check::{CheckOptions, Finding, Survey, check, check_survey};

/// How a volume is repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RepairOptions {
    pub(crate) dry_run: bool,
    pub(crate) drop_lost: bool,
}

impl RepairOptions {
    /// Everything that can be restored is, and nothing that is lost is given up.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what would be done, and does nothing.
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Gives up what is lost: files of the newest state are cut before their first byte that is lost, and the names of
    /// checkpoints are dropped that cannot be restored. Without it such bytes stay errors when they are read.
    pub fn with_drop_lost(mut self, drop_lost: bool) -> Self {
        self.drop_lost = drop_lost;
        self
    }
}

/// What a repair did, or would do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// The volume.
    pub volume: u128,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The commit that makes it so; none when there was nothing to be done.
    pub commit: Option<CommitId>,
    /// What was done.
    pub done: Vec<Mended>,
    /// What is lost: states and Changes that nothing holds any more.
    pub lost: Vec<String>,
    /// What is still wrong: content that is lost, and what is named in `lost`.
    pub left: Vec<Finding>,
    /// How many more of them there are.
    pub more_left: u64,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mended {
    /// The object that it is about.
    pub key: String,
    /// What was done.
    pub what: String,
}

/// Who repairs.
#[derive(Clone, Copy, Debug)]
pub struct Repairer {
    /// The writer that the fences and the commit name.
    pub writer: u128,
    /// When.
    pub time: Timestamp,
    /// Up to so many bytes of pages are kept.
    pub pages_bytes: u64,
}

/// Repairs the volume in `store`. Where nothing is wrong that can be mended, nothing is done.
///
/// # Errors
/// `NoVolume` when nothing tells which volume it is; `Fenced` when somebody else writes it meanwhile; the store's.
pub async fn repair(
    store: &Store,
    by: Repairer,
    options: RepairOptions,
) -> Result<RepairReport, RecoveryError> {
    let survey = Survey::of(store).await?;
    let checked = check_survey(&survey, by.pages_bytes, CheckOptions::new().with_deep(true)).await?;
    let mut report =
        RepairReport { volume: survey.keys.0, dry_run: options.dry_run, ..RepairReport::default() };
    if checked.is_sound() {
        return Ok(report);
    }
    let plan = Plan::make(&survey, &checked, by, options).await?;
    (report.done, report.lost) = (plan.done.clone(), plan.lost.clone());
    if plan.done.is_empty() || options.dry_run {
        let mended = |finding: &Finding| plan.done.iter().any(|done| done.key == finding.key);
        report.left = checked.findings.into_iter().filter(|finding| !mended(finding)).collect();
        report.more_left = checked.more_findings;
        return Ok(report);
    }
    report.commit = carry_out(&survey, plan, by).await?;
    let after = check(store, by.pages_bytes, CheckOptions::new().with_deep(true)).await?;
    (report.left, report.more_left) = (after.findings, after.more_findings);
    Ok(report)
}
