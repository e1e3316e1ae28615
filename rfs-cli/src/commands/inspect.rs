//! `rfs inspect`: the objects of a volume as they lie in the store.

use rfs::{ObjectRole, Objects};
use serde::Serialize;

use super::Done;
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Table};
use crate::state::{options, parse_commit};
use crate::time::Rfc3339;

/// List the objects of a volume in the store, or show one readably.
///
/// This works where the volume cannot be opened, too.
///
/// JSON: an array of {key, role, bytes, written}; of one object {key, text}.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The volume.
    url: String,
    /// The object: its key, with or without the volume's id before it, or a commit's number, such as 3.12.
    key: Option<String>,
    #[command(flatten)]
    format: Format,
}

#[derive(Serialize)]
struct Line {
    key: String,
    role: &'static str,
    bytes: u64,
    written: String,
}

#[derive(Serialize)]
struct Text {
    key: String,
    text: String,
}

pub(super) async fn open(url: &str) -> Result<Objects, Failure> {
    Objects::open(url, options()).await.map_err(|error| Failure::of(format!("look at {url}"), &error))
}

pub(super) const fn role(role: ObjectRole) -> &'static str {
    match role {
        ObjectRole::Superblock => "superblock",
        ObjectRole::Commit => "commit",
        ObjectRole::Segment => "segment",
        ObjectRole::Image => "image",
        ObjectRole::Pin => "pin",
        ObjectRole::Kept => "kept",
        _ => "unknown",
    }
}

impl Inspect {
    pub(crate) async fn run(&self) -> Done {
        let objects = open(&self.url).await?;
        match &self.key {
            Some(key) => self.show(&objects, key).await,
            None => self.list(&objects).await,
        }
    }

    async fn list(&self, objects: &Objects) -> Done {
        let list = objects.list().await;
        let list = list.map_err(|error| Failure::of(format!("look at {}", self.url), &error))?;
        let mut out = Out::new();
        if self.format.json {
            let lines = list.into_iter().map(|object| Line {
                key: object.key,
                role: role(object.role),
                bytes: object.bytes,
                written: format!("{:#}", Rfc3339(object.written)),
            });
            return out.json(&lines.collect::<Vec<_>>());
        }
        let (left, right) = (Align::Left, Align::Right);
        let mut table = Table::new([("ROLE", left), ("BYTES", right), ("WRITTEN", left), ("KEY", left)]);
        for object in list {
            table.row([
                role(object.role).to_owned(),
                object.bytes.to_string(),
                Rfc3339(object.written).to_string(),
                Shown(object.key.as_bytes()).to_string(),
            ]);
        }
        table.print(&mut out)?;
        out.end()
    }

    async fn show(&self, objects: &Objects, key: &str) -> Done {
        let volume = format!("{:032x}/", objects.volume());
        let key = match parse_commit(key) {
            Some(id) => objects.commit_key(id),
            None if key == "superblock" || key.starts_with(&volume) => key.to_owned(),
            None => volume + key,
        };
        let text = objects.describe(&key).await.map_err(|error| {
            let advice = match error.kind() {
                rfs::ErrorKind::NoSuchState => "`rfs inspect URL` lists those that there are",
                _ => "",
            };
            Failure::of(format!("inspect {key}"), &error).with_advice(advice)
        })?;
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Text { key, text });
        }
        out.line(text.trim_end())?;
        out.end()
    }
}
