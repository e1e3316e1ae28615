//! What can be asked of `rfs` on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands;

/// A directory tree whose durable home is an object store.
///
/// A volume is named by a URL: file:///directory, s3://bucket/prefix, az://container/prefix, gs://bucket/prefix, to read
/// only also https://host/path, or memory://name, which lasts as long as the process. The platforms' usual variables are
/// heeded: AWS_*, AZURE_STORAGE_*, GOOGLE_*; give AWS_ENDPOINT_URL for an S3 server of your own.
///
/// Commands that only read never disturb who writes the volume, and read any state that it keeps (--at).
///
/// Exit codes: 0 done; 1 failed; 2 what was asked is not well said; 3 there is no such volume, state, object or path;
/// 4 something is not what was written. `mount`, `unmount` and `exec` fail with 125.
#[derive(Debug, Parser)]
#[command(name = "rfs", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(commands::create::Create),
    Ls(commands::ls::Ls),
    Cat(commands::cat::Cat),
    Cp(commands::cp::Cp),
    Stat(commands::stat::Stat),
    Du(commands::du::Du),
    Log(commands::log::Log),
    Diff(commands::diff::Diff),
    Changes(commands::changes::Changes),
    Checkpoints(commands::checkpoints::Checkpoints),
    Checkpoint(commands::checkpoint::Checkpoint),
    Drop(commands::drop::Drop),
    Restore(commands::restore::Restore),
    Apply(commands::apply::Apply),
    Rewind(commands::rewind::Rewind),
    Fork(commands::fork::Fork),
    Detach(commands::fork::Detach),
    Pins(commands::pins::Pins),
    Pin(commands::pins::Pin),
    Unpin(commands::pins::Unpin),
    OpenAt(OpenAt),
    Gc(commands::gc::Gc),
    Check(commands::check::Check),
    Repair(commands::repair::Repair),
    Drill(commands::drill::Drill),
    Inspect(commands::inspect::Inspect),
    Stats(commands::stats::Stats),
    Store(commands::store::Store),
    Mount(Mount),
    Unmount(Unmount),
    Exec(Exec),
    Completions(commands::completions::Completions),
}

/// Mount a volume on a directory, so that any program can use it.
///
/// Serves in the foreground until it is told to stop by SIGTERM, SIGINT, SIGHUP or another signal that can be caught and
/// would end it, or until somebody unmounts the directory; then it commits. Real-time signals, and those that tell of a
/// program's own mistakes (such as SIGABRT), end it at once, without a commit. Prints one line when the directory can be
/// used. A signal that comes before, while the volume is being opened, ends it with status 128 + N.
#[derive(Debug, clap::Args)]
pub(crate) struct Mount {
    /// The volume.
    pub(crate) url: String,
    /// The directory to mount it on; it has to exist.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) volume: Volume,
    /// Make the volume if there is none at the URL.
    #[arg(long)]
    pub(crate) create: bool,
    /// Let only the user who mounts it in, not all users. When it is not root who mounts, it is always so.
    #[arg(long)]
    pub(crate) private: bool,
    #[command(flatten)]
    pub(crate) kernel: Kernel,
}

/// Mount an older state of a volume on a directory, to read it with any program.
///
/// Serves in the foreground until it is told to stop by a signal, or until somebody unmounts the directory. Prints one line
/// when the directory can be used. Who writes the volume is not disturbed.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenAt {
    /// The volume.
    pub(crate) url: String,
    /// The state: a checkpoint's name, a commit's number, such as 3.12, or a time, as for --at elsewhere.
    #[arg(value_parser = crate::state::parse)]
    pub(crate) state: rfs::At,
    /// The directory to mount it on; it has to exist.
    pub(crate) dir: PathBuf,
}

/// Unmount a directory that a volume is mounted on.
///
/// The process that mounted it commits, and ends; this waits for it, unless it is in another PID namespace, as of a
/// container. While a program uses the directory the kernel
/// refuses: end the program, or send SIGTERM to the process that mounted it.
#[derive(Debug, clap::Args)]
pub(crate) struct Unmount {
    /// The directory.
    pub(crate) dir: PathBuf,
}

/// Run a program with a volume as its working directory.
///
/// The volume is mounted where only the program and its children see it. When the program ends, whatever its exit
/// status, what it left is committed. The volume is made if there is none. `rfs exec` ends with the program's exit
/// status (128 + N if signal N ended it, 127 if there is no such program); with 125 if rfs itself failed. Signals that
/// would end `rfs exec` are handed on to the program, but not real-time signals; what is typed at a terminal reaches the
/// program anyway. A signal N that comes while the volume is being opened ends `rfs exec` with 128 + N.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The volume.
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) volume: Volume,
    #[command(flatten)]
    pub(crate) kernel: Kernel,
    /// Give the commit at the end this name, so that it is kept until the name is dropped.
    #[arg(long, value_name = "NAME", value_parser = parse_checkpoint)]
    pub(crate) checkpoint: Option<String>,
    /// Mount the volume on this directory, which has to exist, instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub(crate) at: Option<PathBuf>,
    /// The program and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// How a volume is opened.
#[derive(Debug, clap::Args)]
pub(crate) struct Volume {
    /// What fsync waits for: `memory` (nothing), `local` (the local directory's disk), `remote` (the object store).
    /// Default: local with --local-dir, else remote.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) level: Option<Level>,
    /// Keep the journal in this directory too: what reached it survives the process. It serves one volume.
    #[arg(long, value_name = "DIR")]
    pub(crate) local_dir: Option<PathBuf>,
    /// Commit so long after the first change that is not committed, such as 10s, 50ms, 2m; or `never`.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_interval)]
    pub(crate) commit_interval: Interval,
    /// How long a commit stays after a newer one, for readers that opened it and to go back to: such as 30s, 10m, 1h; or
    /// `forever`. What only older commits need is deleted from the store while the volume is open, but for commits with
    /// a name and the newest 16. A volume does not know what other programs keep of it: where one keeps more, give at
    /// least as much here, or `forever`. Default: 1h; nothing for memory://, where nobody else reads.
    #[arg(long, value_name = "TIME", value_parser = parse_keep)]
    pub(crate) keep_for: Option<Interval>,
    /// When reading sets the time of last access.
    #[arg(long, value_enum, value_name = "POLICY", default_value = "never")]
    pub(crate) atime: Atime,
}

/// What is asked of the kernel.
#[derive(Debug, clap::Args)]
pub(crate) struct Kernel {
    /// Let the kernel keep what is written until the file is closed or synced, or for some seconds. Faster for many
    /// small writes; but a commit in between has names of now with content of some seconds ago.
    #[arg(long)]
    pub(crate) writeback: bool,
    /// Do not heed set-user-id and set-group-id when a file of it is executed.
    #[arg(long)]
    pub(crate) nosuid: bool,
    /// Do not open device nodes of it.
    #[arg(long)]
    pub(crate) nodev: bool,
    /// Threads that answer the kernel. Default: one for each processor, 2 to 16.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Memory,
    Local,
    Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Atime {
    /// Not at all.
    Never,
    /// When it is not after the last change, or a day old.
    Relative,
    /// Each time.
    Always,
}

/// A time span, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Option<Duration>);

pub(crate) fn parse_checkpoint(name: &str) -> Result<String, String> {
    if (1..=255).contains(&name.len()) {
        Ok(name.to_owned())
    } else {
        Err("a name has 1 to 255 bytes".to_owned())
    }
}

fn parse_interval(text: &str) -> Result<Interval, String> {
    if text == "never" {
        return Ok(Interval(None));
    }
    match parse_time(text).map_err(|error| format!("{error}, or `never`"))? {
        Duration::ZERO => Err("0 is no time to wait: give at least 1ms, or `never`".to_owned()),
        time => Ok(Interval(Some(time))),
    }
}

fn parse_keep(text: &str) -> Result<Interval, String> {
    if text == "forever" {
        return Ok(Interval(None));
    }
    parse_time(text).map(|time| Interval(Some(time))).map_err(|error| format!("{error}, or `forever`"))
}

pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("give a number and a unit, ms, s, m, h or d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "the number is missing or too large".to_owned())?;
    let millis = number.checked_mul(millis).ok_or("the number is too large")?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::{Args, Interval, parse_interval, parse_keep, parse_time};

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn intervals_have_a_number_and_a_unit() {
        let millis = |millis| Ok(Interval(Some(Duration::from_millis(millis))));
        assert_eq!(parse_interval("50ms"), millis(50));
        assert_eq!(parse_interval("10s"), millis(10_000));
        assert_eq!(parse_interval("2m"), millis(120_000));
        assert_eq!(parse_interval("1h"), millis(3_600_000));
        assert_eq!(parse_time("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_time("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_interval("never"), Ok(Interval(None)));
        assert_eq!(parse_keep("forever"), Ok(Interval(None)));
        assert_eq!(parse_keep("0s"), millis(0));
        assert!(parse_keep("never").is_err());
        for wrong in
            ["", "10", "s", "0s", "-1s", "1.5s", "1 s", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse_interval(wrong).is_err(), "{wrong:?}");
        }
    }
}
