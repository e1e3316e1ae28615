//! `rfs store`: what concerns a store, and no volume.

use std::hash::{BuildHasher, RandomState};

use clap::Subcommand;
use rfs::Store as Opened;
use rfs::backends::conformance::{self, Check as Tried};
use rfs::backends::{StoreError, StoreErrorKind};
use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Align, Format, Out, Table};
use crate::volume::store_options;

/// What concerns a store, and no volume on it.
#[derive(Debug, clap::Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
}

/// Find out whether volumes are safe on a store, and why not.
///
/// Everything that rfs needs of a store is tried at the URL: that what was written is read, that ranges and listings are
/// exact and never stale, and that of several who create one object exactly one wins. That takes some 1,500 requests and
/// 30 MB in objects whose names begin with `rfs-conformance-`, which are deleted at the end. Volumes there are not touched.
///
/// The exit code is 1 if it is not safe.
///
/// JSON: {url, safe, checks: [{check, needed, holds, why}]}.
#[derive(Debug, clap::Args)]
struct Check {
    /// The store, or a place in it, as a volume there would be named.
    url: String,
    /// Decides the names and contents of the objects. Default: random.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Report<'a> {
    url: &'a str,
    safe: bool,
    checks: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    check: &'a str,
    needed: bool,
    holds: bool,
    why: Option<&'a str>,
}

impl Store {
    pub(crate) async fn run(&self) -> Done {
        let Command::Check(check) = &self.command;
        check.run().await
    }
}

impl Check {
    async fn run(&self) -> Done {
        let url = &self.url;
        let failed = |error: &StoreError| {
            let failure = Failure::during(format!("check the store {url}"), error);
            if error.kind() == StoreErrorKind::NoBucket { failure.not_found() } else { failure }
        };
        let store = Opened::from_url(url, store_options()).map_err(|error| failed(&error))?;
        let seed = self.seed.unwrap_or_else(|| RandomState::new().hash_one(url));
        // A store that cannot be reached, or does not let us in, is not judged.
        let first = format!("rfs-conformance-{seed:016x}/first");
        store.put(&first, url.clone().into()).await.map_err(|error| failed(&error))?;
        store.delete(&first).await.map_err(|error| failed(&error))?;
        let report = conformance::run_on(&store, seed).await;
        let printed = if self.format.json {
            let checks = report.checks.iter().map(line).collect();
            Out::new().json(&Report { url, safe: report.is_safe(), checks })
        } else {
            print(&report)
        };
        // Whoever reads it no more is told by the exit code all the same.
        if report.is_safe() { printed } else { Err(Failure::new(format!("volumes are not safe on {url}"))) }
    }
}

fn line(tried: &Tried) -> Line<'_> {
    let Tried { name, needed, failure } = tried;
    Line { check: name, needed: *needed, holds: failure.is_none(), why: failure.as_deref() }
}

fn print(report: &conformance::Report) -> Done {
    let mut out = Out::new();
    let mut table = Table::new([("CHECK", Align::Left), ("RESULT", Align::Left)]);
    for Tried { name, needed, failure } in &report.checks {
        let result = match failure {
            None => "holds".to_owned(),
            Some(why) if *needed => format!("FAILS: {why}"),
            Some(why) => format!("fails, but is not needed: {why}"),
        };
        table.row([(*name).to_owned(), result]);
    }
    table.print(&mut out)?;
    let held = report.checks.len() - report.failed().count();
    let verdict = if report.is_safe() { "volumes are safe here" } else { "volumes are NOT safe here" };
    out.line(format_args!("{held} of {} hold: {verdict}", report.checks.len()))?;
    out.end()
}
