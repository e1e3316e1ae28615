//! `rfs ls`: what is in a directory.

use rfs::model::DirEntry;
use rfs::{Attr, Inodes, Kind, Volume};

use super::Done;
use crate::entry::{Entry, mode};
use crate::error::Failure;
use crate::output::{Align, Format, Out, Shown, Table};
use crate::state::Source;
use crate::time::Rfc3339;
use crate::walk::{find, join, sorted};

/// List a directory of a volume, by name; of anything else, that itself.
///
/// In names, what cannot be printed is shown as \xNN.
///
/// JSON: an array of {path, kind, mode, uid, gid, nlink, ino, size, allocated, device, accessed, modified, changed,
/// created}, for symlinks also {target}. A path that is no UTF-8 has its bytes in {path_hex}.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    source: Source,
    /// The path in the volume.
    #[arg(default_value = "/")]
    path: std::ffi::OsString,
    /// With permissions, links, owner, group, size and time of last change of the content.
    #[arg(short, long)]
    long: bool,
    /// Also what is in the directories below.
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    format: Format,
}

impl Ls {
    pub(crate) async fn run(&self) -> Done {
        let path = self.path.as_encoded_bytes();
        let volume = self.source.open().await?;
        let start = find(&volume.fs(), path).await?;
        let mut listing =
            Listing { volume: &volume, inodes: volume.inodes(), json: Vec::new(), out: Out::new() };
        if start.kind == Kind::Directory {
            let mut dirs = vec![(path.to_vec(), start)];
            while let Some((dir, attr)) = dirs.pop() {
                let entries = sorted(&listing.inodes, attr.ino).await;
                let entries =
                    entries.map_err(|error| Failure::of(format!("list {}", Shown(&dir)), &error))?;
                if self.recursive && !self.format.json {
                    listing.out.line(format_args!("{}:", Shown(&dir)))?;
                }
                listing.print(self, &dir, &entries).await?;
                if self.recursive {
                    let below = entries.iter().rev().filter(|(_, attr)| attr.kind == Kind::Directory);
                    dirs.extend(below.map(|(entry, attr)| (join(&dir, entry.name.as_bytes()), *attr)));
                    if !dirs.is_empty() && !self.format.json {
                        listing.out.line("")?;
                    }
                }
            }
        } else {
            listing.print_one(self, path, &start).await?;
        }
        if self.format.json { listing.out.json(&listing.json) } else { listing.out.end() }
    }
}

struct Listing<'a> {
    volume: &'a Volume,
    inodes: Inodes,
    json: Vec<Entry>,
    out: Out,
}

impl Listing<'_> {
    async fn print(&mut self, ls: &Ls, dir: &[u8], entries: &[(DirEntry, Attr)]) -> Done {
        if ls.format.json {
            for (entry, attr) in entries {
                let path = join(dir, entry.name.as_bytes());
                let target = target(&self.inodes, &path, attr).await?;
                self.json.push(Entry::new(&path, attr).with_target(target));
            }
        } else if ls.long {
            let mut table = long_table();
            for (entry, attr) in entries {
                let path = join(dir, entry.name.as_bytes());
                let target = target(&self.inodes, &path, attr).await?;
                table.row(long_row(entry.name.as_bytes(), attr, target.as_deref()));
            }
            table.print(&mut self.out)?;
        } else {
            for (entry, _) in entries {
                self.out.line(Shown(entry.name.as_bytes()))?;
            }
        }
        Ok(())
    }

    async fn print_one(&mut self, ls: &Ls, path: &[u8], attr: &Attr) -> Done {
        let target = target(&self.volume.inodes(), path, attr).await?;
        if ls.format.json {
            self.json.push(Entry::new(path, attr).with_target(target));
        } else if ls.long {
            let mut table = long_table();
            table.row(long_row(path, attr, target.as_deref()));
            table.print(&mut self.out)?;
        } else {
            self.out.line(Shown(path))?;
        }
        Ok(())
    }
}

/// Where a symlink points.
pub(super) async fn target(inodes: &Inodes, path: &[u8], attr: &Attr) -> Result<Option<Vec<u8>>, Failure> {
    if attr.kind != Kind::Symlink {
        return Ok(None);
    }
    let target = inodes.read_link(attr.ino).await;
    target.map(Some).map_err(|error| Failure::of(Shown(path), &error))
}

fn long_table() -> Table<7> {
    let (left, right) = (Align::Left, Align::Right);
    Table::headless([left, right, right, right, right, left, left])
}

fn long_row(name: &[u8], attr: &Attr, target: Option<&[u8]>) -> [String; 7] {
    let size = match attr.kind {
        Kind::CharDevice | Kind::BlockDevice => {
            format!("{}, {}", rustix::fs::major(attr.device), rustix::fs::minor(attr.device))
        }
        _ => attr.size.to_string(),
    };
    let arrow = target.map_or_else(String::new, |target| format!(" -> {}", Shown(target)));
    [
        mode(attr),
        attr.nlink.to_string(),
        attr.uid.to_string(),
        attr.gid.to_string(),
        size,
        Rfc3339(attr.times.modified).to_string(),
        format!("{}{arrow}", Shown(name)),
    ]
}
