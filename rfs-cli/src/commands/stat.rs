//! `rfs stat`: all that is known of a path.

use rfs::{Credential, Kind};

use super::Done;
use super::ls::target;
use crate::entry::{Entry, kind, mode};
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Size, Table};
use crate::state::Source;
use crate::time::Rfc3339;
use crate::walk::find;

/// Tell the attributes of what a path of a volume names; a symlink is not followed.
///
/// JSON: an object as in `ls`, and {xattrs}, the names of its extended attributes.
#[derive(Debug, clap::Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    source: Source,
    /// The path in the volume.
    #[arg(default_value = "/")]
    path: std::ffi::OsString,
    #[command(flatten)]
    format: Format,
}

impl Stat {
    pub(crate) async fn run(&self) -> Done {
        let path = self.path.as_encoded_bytes();
        let volume = self.source.open().await?;
        let attr = find(&volume.fs(), path).await?;
        let inodes = volume.inodes();
        let target = target(&inodes, path, &attr).await?;
        let names = inodes.xattr_names(&Credential::root(), attr.ino).await;
        let names = names.map_err(|error| Failure::of(Shown(path), &error))?;
        let names: Vec<String> = names.iter().map(|name| Shown(name.as_bytes()).to_string()).collect();
        let mut out = Out::new();
        if self.format.json {
            return out.json(&Entry::new(path, &attr).with_target(target).with_xattrs(names));
        }
        let mut table = Table::headless([Align::Left, Align::Left]);
        let mut row = |label: &str, value: String| table.row([label.to_owned(), value]);
        row("path", Shown(path).to_string());
        row("kind", kind(attr.kind).to_owned());
        if let Some(target) = target {
            row("target", Shown(&target).to_string());
        }
        row("size", format!("{} ({})", attr.size, Size(attr.size)));
        row("allocated", format!("{} ({})", attr.allocated, Size(attr.allocated)));
        if matches!(attr.kind, Kind::CharDevice | Kind::BlockDevice) {
            row("device", format!("{}, {}", rustix::fs::major(attr.device), rustix::fs::minor(attr.device)));
        }
        row("inode", attr.ino.to_string());
        row("links", attr.nlink.to_string());
        row("mode", format!("{:04o} ({})", attr.mode, mode(&attr)));
        row("owner", format!("{}:{}", attr.uid, attr.gid));
        for (label, time) in [
            ("accessed", attr.times.accessed),
            ("modified", attr.times.modified),
            ("changed", attr.times.changed),
            ("created", attr.times.born),
        ] {
            row(label, format!("{:#}", Rfc3339(time)));
        }
        for name in names {
            row("xattr", name);
        }
        table.print(&mut out)?;
        out.end()
    }
}
