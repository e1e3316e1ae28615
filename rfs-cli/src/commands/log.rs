//! `rfs log`: the commits of a volume, or what was done to one file.

use rfs::{Objects, Record, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Done, inspect};
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Size, Table};
use crate::state::Source;
use crate::time::Rfc3339;
use crate::walk::as_path;

/// Tell the commits of a volume, newest first; or, given a path, what was done to the file that it names, in order.
///
/// A path's history goes up to the state given by --at, and back to what garbage collection has left.
///
/// JSON: an array of {commit, time, writer, bytes, previous, base, end, state, checkpoint, segments, segment_bytes};
/// where an epoch ends, of {ends_epoch, time, writer, bytes}. For a path: {complete_after, records}, of {position,
/// change, time, arguments}.
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    #[command(flatten)]
    source: Source,
    /// A path in the volume; a symlink is not followed.
    path: Option<std::ffi::OsString>,
    /// Only so many of the newest.
    #[arg(short = 'n', long, value_name = "N")]
    newest: Option<usize>,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct CommitLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_epoch: Option<u64>,
    time: String,
    writer: String,
    bytes: u64,
    #[serde(flatten)]
    made: Option<Made>,
}

#[derive(Serialize)]
struct Made {
    previous: Option<String>,
    base: u64,
    end: u64,
    state: String,
    checkpoint: Option<String>,
    segments: u64,
    segment_bytes: u64,
}

#[derive(Serialize)]
struct History {
    /// What was before this position may have been collected.
    complete_after: u64,
    records: Vec<RecordLine>,
}

#[derive(Serialize)]
pub(super) struct RecordLine {
    position: u64,
    change: String,
    time: Option<String>,
    arguments: Map<String, Value>,
}

impl RecordLine {
    /// What a table shows of it: position, time, change and arguments.
    pub(super) fn row(&self) -> [String; 4] {
        let arguments: Vec<String> =
            self.arguments.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
        let time = self.time.iter().map(|time| time.chars().take(19).collect::<String>() + "Z");
        [self.position.to_string(), time.collect(), self.change.clone(), arguments.join(" ")]
    }
}

impl Log {
    pub(crate) async fn run(&self) -> Done {
        match &self.path {
            Some(path) => self.of_path(path.as_encoded_bytes()).await,
            None => self.of_volume(&inspect::open(&self.source.url).await?).await,
        }
    }

    async fn of_volume(&self, objects: &Objects) -> Done {
        let until = match &self.source.state.at {
            rfs::At::Commit(id) => Some(*id),
            rfs::At::Head => None,
            _ => {
                return Err(Failure::usage(
                    "--at with a name or a time goes with a path; give a commit's number",
                ));
            }
        };
        // The newest of those up to a commit are not the newest of all.
        let log = objects.log(self.newest.filter(|_| until.is_none())).await;
        let mut log = log.map_err(|error| Failure::of(format!("log of {}", self.source.url), &error))?;
        log.retain(|entry| until.is_none_or(|until| entry.id <= until));
        let skipped = self.newest.map_or(0, |newest| log.len().saturating_sub(newest));
        log.drain(..skipped);
        log.reverse();
        let mut out = Out::new();
        if self.format.json {
            let lines = log.into_iter().map(|entry| CommitLine {
                commit: entry.commit.as_ref().map(|_| entry.id.to_string()),
                ends_epoch: entry.commit.is_none().then_some(entry.id.epoch),
                time: format!("{:#}", Rfc3339(entry.time)),
                writer: format!("{:032x}", entry.writer),
                bytes: entry.bytes,
                made: entry.commit.map(|commit| Made {
                    previous: commit.previous.map(|previous| previous.to_string()),
                    base: commit.base.0,
                    end: commit.end.0,
                    state: commit.state.to_string(),
                    checkpoint: commit.checkpoint,
                    segments: commit.segments,
                    segment_bytes: commit.segment_bytes,
                }),
            });
            return out.json(&lines.collect::<Vec<_>>());
        }
        let (left, right) = (Align::Left, Align::Right);
        let mut table =
            Table::new([("COMMIT", right), ("TIME", left), ("CHANGES", right), ("BYTES", right), ("", left)]);
        for entry in log {
            let (id, changes, bytes, what) = match entry.commit {
                Some(commit) => (
                    entry.id.to_string(),
                    commit.end.0.saturating_sub(commit.base.0).to_string(),
                    Size(commit.segment_bytes).to_string(),
                    commit
                        .checkpoint
                        .map_or_else(String::new, |name| format!("checkpoint {}", Shown(name.as_bytes()))),
                ),
                None => {
                    let what = format!("a new writer ends epoch {}", entry.id.epoch);
                    (String::new(), String::new(), String::new(), what)
                }
            };
            table.row([id, Rfc3339(entry.time).to_string(), changes, bytes, what]);
        }
        table.print(&mut out)?;
        out.end()
    }

    async fn of_path(&self, path: &[u8]) -> Done {
        let volume = self.source.open().await?;
        let history = volume.history(as_path(path)).await;
        let history = history.map_err(|error| Failure::of(Shown(path), &error))?;
        let skipped = self.newest.map_or(0, |newest| history.records.len().saturating_sub(newest));
        let records: Vec<RecordLine> = history.records[skipped..].iter().map(record).collect();
        let mut out = Out::new();
        if self.format.json {
            return out.json(&History { complete_after: history.complete_after.0, records });
        }
        if history.complete_after.0 > 0 {
            out.line(format_args!(
                "what was done up to position {} may have been collected",
                history.complete_after
            ))?;
        }
        let (left, right) = (Align::Left, Align::Right);
        let mut table = Table::new([("POSITION", right), ("TIME", left), ("CHANGE", left), ("", left)]);
        for record in records {
            table.row(record.row());
        }
        table.print(&mut out)?;
        out.end()
    }
}

/// A record by the names of its Change and that one's fields.
pub(super) fn record(record: &Record) -> RecordLine {
    let (change, fields) = match serde_json::to_value(&record.change) {
        Ok(Value::Object(change)) => {
            change.into_iter().next().unwrap_or_else(|| (String::new(), Value::Null))
        }
        Ok(Value::String(change)) => (change, Value::Null),
        _ => (format!("{:?}", record.change), Value::Null),
    };
    let mut arguments = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let time = arguments.remove("time").and_then(|time| time.as_i64());
    arguments.retain(|_, value| !value.is_null());
    for (name, value) in &mut arguments {
        match (name.as_str(), value.as_i64()) {
            ("mode", Some(mode)) => *value = Value::String(format!("{mode:04o}")),
            ("accessed" | "modified", Some(time)) => {
                *value = Value::String(format!("{:#}", Rfc3339(Timestamp::from_nanos(time))));
            }
            _ => {}
        }
        // Owners are numbers, too.
        if name != "keep" {
            as_text(value);
        }
    }
    RecordLine {
        position: record.lsn.0,
        change,
        time: time.map(|time| format!("{:#}", Rfc3339(Timestamp::from_nanos(time)))),
        arguments,
    }
}

/// Bytes are arrays of numbers in JSON: nobody wants to read names so.
fn as_text(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(as_text),
        Value::Array(items) => {
            let bytes: Option<Vec<u8>> =
                items.iter().map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            if let Some(bytes) = bytes {
                *value = Value::String(Shown(&bytes).to_string());
            } else {
                items.iter_mut().for_each(as_text);
            }
        }
        _ => {}
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
