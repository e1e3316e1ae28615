//! Which state of a volume a command reads.

use rfs::{At, CommitId, Options, Volume};

use crate::error::Failure;
use crate::time;
use crate::volume::store_options;

/// A volume, and which of its states.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// The volume.
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) state: State,
}

/// Which of a volume's states.
#[derive(Debug, clap::Args)]
pub(crate) struct State {
    /// The state to read: `head`, the newest commit; a commit's number, such as 3.12; a time, such as
    /// 2026-11-21T18:50:03Z, for the newest commit made by then (a writer's clock says when); or a checkpoint's name. A
    /// name that looks like one of the others is written `checkpoint:NAME`.
    #[arg(long, value_name = "STATE", default_value = "head", value_parser = parse)]
    pub(crate) at: At,
}

impl Source {
    /// Opens it, to read only: whoever writes the volume is not disturbed.
    pub(crate) async fn open(&self) -> Result<Volume, Failure> {
        open(&self.url, self.state.at.clone()).await
    }
}

pub(crate) async fn open(url: &str, at: At) -> Result<Volume, Failure> {
    open_with(url, at, options()).await
}

pub(crate) async fn open_with(url: &str, at: At, options: Options) -> Result<Volume, Failure> {
    let opened = Volume::open_read_only(url, options, at).await;
    opened.map_err(|error| {
        let advice = match error.kind() {
            rfs::ErrorKind::NoSuchState => "`rfs checkpoints` and `rfs log` list the states that there are",
            rfs::ErrorKind::NoVolume => "`rfs create` makes one",
            _ => "",
        };
        Failure::of(format!("open {url}"), &error).with_advice(advice)
    })
}

/// For what only reads.
pub(crate) fn options() -> Options {
    Options::new().with_store_options(store_options())
}

pub(crate) fn parse(text: &str) -> Result<At, String> {
    if let Some(name) = text.strip_prefix("checkpoint:") {
        return Ok(At::Checkpoint(name.to_owned()));
    }
    if text == "head" {
        return Ok(At::Head);
    }
    if let Some(id) = parse_commit(text) {
        return Ok(At::Commit(id));
    }
    let wanted = text.strip_prefix("time:");
    if let Some(time) = time::parse(wanted.unwrap_or(text)) {
        return Ok(At::Time(time));
    }
    if wanted.is_some() {
        return Err("a time is written as 2026-11-21T18:50:03Z".to_owned());
    }
    if text.is_empty() {
        return Err("a checkpoint's name is not empty".to_owned());
    }
    Ok(At::Checkpoint(text.to_owned()))
}

/// A commit as it is shown: epoch and number, with a point in between.
pub(crate) fn parse_commit(text: &str) -> Option<CommitId> {
    let (epoch, number) = text.split_once('.')?;
    let part = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        if plain { digits.parse().ok() } else { None }
    };
    Some(CommitId { epoch: part(epoch)?, number: part(number)? })
}

#[cfg(test)]
mod tests {
    use rfs::{At, CommitId, Timestamp};

    use super::parse;

    #[test]
    fn a_state_is_told_from_its_form() {
        assert_eq!(parse("head"), Ok(At::Head));
        assert_eq!(parse("3.12"), Ok(At::Commit(CommitId { epoch: 3, number: 12 })));
        for name in ["monday", "3.12a", "v1.2.3", "3.", ".1", "3-12", "99999999999999999999.1"] {
            assert_eq!(parse(name), Ok(At::Checkpoint(name.to_owned())));
        }
        assert_eq!(parse("checkpoint:head"), Ok(At::Checkpoint("head".to_owned())));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Ok(At::Time(Timestamp::from_nanos(1_000_000_000))));
        assert_eq!(parse("time:1970-01-01T00:00:01Z"), parse("1970-01-01T01:00:01+01:00"));
        assert!(parse("time:yesterday").is_err());
        assert!(parse("").is_err());
    }
}
