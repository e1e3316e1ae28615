//! `rfs check`: whether all is as it was written.

use rfs::{At, Attr, CheckError, Errno, ErrorKind, Kind, Volume};
use serde::Serialize;

use super::{Done, inspect};
use crate::error::{DAMAGED, Failure};
use crate::output::{Count, Format, Out, Shown, Size};
use crate::progress::Progress;
use crate::state;
use crate::walk::{Step, Walk};

/// What is read at a time.
const PIECE: u64 = 4 << 20;

/// Verify a volume: its newest state and each checkpoint are opened, and their trees checked.
///
/// With --deep also every object in the store, and every byte of every file of these states. Objects of pages have no
/// checksums of their own: of them is verified what these states' trees are read from. What is wrong is listed, and the
/// exit code is 4. Nothing is changed.
///
/// JSON: {ok, states, files, bytes, objects, problems}: how many of each were verified, and an array of texts.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The volume.
    url: String,
    /// Read every object and every file.
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Default, Serialize)]
struct Report {
    ok: bool,
    states: u64,
    files: u64,
    bytes: u64,
    objects: u64,
    problems: Vec<String>,
}

impl Check {
    pub(crate) async fn run(&self) -> Done {
        let mut report = Report::default();
        let checked = self.check(&mut report).await;
        if let Err(failure) = checked {
            if failure.code != Some(DAMAGED) {
                return Err(failure);
            }
            report.problems.push(failure.to_string());
        }
        report.ok = report.problems.is_empty();
        let damaged = Failure::new(format!("{} is damaged", self.url)).with_code(DAMAGED);
        let ok = report.ok;
        let printed = self.print(&report);
        // Whoever reads it no more is told by the exit code all the same.
        if ok { printed } else { Err(damaged) }
    }

    async fn check(&self, report: &mut Report) -> Done {
        if self.deep {
            self.objects(report).await?;
        }
        let Some(head) = self.state(At::Head, report).await? else { return Ok(()) };
        for (name, _) in head.checkpoints() {
            self.state(At::Checkpoint(name), report).await?;
        }
        Ok(())
    }

    async fn objects(&self, report: &mut Report) -> Done {
        let objects = inspect::open(&self.url).await?;
        let failed = |error: rfs::Error| Failure::of(format!("check {}", self.url), &error);
        let progress = Progress::new();
        for object in objects.list().await.map_err(failed)? {
            progress.show(|| format!("{} objects", report.objects));
            match objects.verify(&object.key).await {
                Ok(()) => report.objects += 1,
                // A writer beside may collect.
                Err(error) if error.kind() == ErrorKind::NoSuchState => {}
                Err(error) => report.found(&object.key, &error)?,
            }
        }
        Ok(())
    }

    /// None for a state that cannot be opened.
    async fn state(&self, at: At, report: &mut Report) -> Result<Option<Volume>, Failure> {
        let named = at.to_string();
        let volume = match state::open(&self.url, at).await {
            Ok(volume) => volume,
            Err(failure) if failure.code == Some(DAMAGED) => {
                report.problems.push(failure.to_string());
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        match volume.check().await {
            Ok(()) => {}
            Err(CheckError::Unsound(violations)) => {
                report.problems.extend(violations.iter().map(|violation| format!("{named}: {violation}")));
            }
            Err(CheckError::Unreadable(error)) => report.found(&named, &error)?,
            Err(error) => return Err(Failure::new(format!("check {named}: {error}"))),
        }
        if self.deep {
            let progress = Progress::new();
            let mut walk = Walk::new(&volume, b"/").await?;
            while let Some(step) = walk.next().await? {
                let Step::Entry(path, attr) = step else { continue };
                let Report { files, bytes, .. } = *report;
                progress.show(|| format!("{named}: {files} files, {}", Size(bytes)));
                if attr.kind == Kind::File {
                    match read(&volume, &attr, report).await {
                        Ok(()) => report.files += 1,
                        Err(error) => report.found(&format!("{named}: {}", Shown(&path)), &error)?,
                    }
                }
            }
        }
        report.states += 1;
        Ok(Some(volume))
    }

    fn print(&self, report: &Report) -> Done {
        let mut out = Out::new();
        if self.format.json {
            return out.json(report);
        }
        for problem in &report.problems {
            out.line(problem)?;
        }
        let states = Count(report.states, "state", "states");
        if self.deep {
            let objects = Count(report.objects, "object", "objects");
            let (files, bytes) = (Count(report.files, "file", "files"), report.bytes);
            out.line(format_args!("verified {states}, {objects}, {files} with {bytes} bytes"))?;
        } else {
            out.line(format_args!("verified {states}"))?;
        }
        match report.problems.len() {
            0 => out.line("no problems found")?,
            count => out.line(format_args!("{} found", Count(count as u64, "problem", "problems")))?,
        }
        out.end()
    }
}

impl Report {
    /// Damage is told; any other error ends the check.
    fn found(&mut self, what: &str, error: &rfs::Error) -> Done {
        let failure = Failure::of(what, error);
        if failure.code != Some(DAMAGED) && error.kind() != ErrorKind::UnknownFormat {
            return Err(failure);
        }
        self.problems.push(failure.to_string());
        Ok(())
    }
}

/// Reads all content of a file; the library verifies it.
async fn read(volume: &Volume, attr: &Attr, report: &mut Report) -> rfs::Result<()> {
    let inodes = volume.inodes();
    let mut at = 0;
    while at < attr.size {
        // Holes can be large, and there is nothing to verify in them.
        at = match inodes.seek_data(attr.ino, at).await {
            Err(error) if error.errno() == Some(Errno::NoSuchData) => break,
            data => data?,
        };
        let end = inodes.seek_hole(attr.ino, at).await?.min(at.saturating_add(PIECE));
        for piece in inodes.read(attr.ino, at, end - at).await? {
            report.bytes = report.bytes.saturating_add(piece.len() as u64);
        }
        at = end;
    }
    Ok(())
}
