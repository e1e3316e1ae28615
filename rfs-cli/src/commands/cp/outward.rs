//! Out of a volume.

use std::path::{Path, PathBuf};

use rfs::{Kind, RestoreOptions};

use super::side::Side;
use super::{Copied, Cp, not_a_directory, not_recursive, one_side, target};
use crate::commands::restore::{complete, restore};
use crate::error::Failure;
use crate::state;
use crate::walk::find;

pub(super) async fn copy(cp: &Cp, sources: &[Side], to: &Path) -> Result<Copied, Failure> {
    let into = to.is_dir();
    if !into && sources.len() > 1 {
        return Err(not_a_directory(&to.display().to_string()));
    }
    let mut copied = Copied::default();
    for source in sources {
        let Side::Volume { url, path } = source else { return Err(one_side()) };
        let volume = state::open(url, cp.state.at.clone()).await?;
        let path = Path::new(path);
        let kind = find(&volume.fs(), path.as_os_str().as_encoded_bytes()).await?.kind;
        let target = target(path, into, to);
        let options = RestoreOptions::new().with_path(path);
        let restored = if kind == Kind::Directory {
            if !cp.recursive {
                return Err(not_recursive(&path.display().to_string()));
            }
            above(&target)?;
            restore(&volume, &target, options).await?
        } else {
            let Some(name) = target.file_name() else {
                return Err(Failure::usage(format!("{} has no name to copy to", target.display())));
            };
            let dir = above(&target)?;
            replaceable(&target)?;
            restore(&volume, &dir, options.with_name(name).with_replace(true)).await?
        };
        complete(&restored, &target)?;
        copied.files += restored.entries;
        copied.directories += restored.directories;
        copied.bytes += restored.bytes;
    }
    Ok(copied)
}

/// A copy takes the place of a file or a symlink, but not of a device and the like.
fn replaceable(target: &Path) -> Result<(), Failure> {
    match target.symlink_metadata().map(|there| there.file_type()) {
        Ok(kind) if !kind.is_file() && !kind.is_symlink() => {
            let what = "is neither a file nor a symlink; remove it first, or choose another name";
            Err(Failure::new(format!("{} {what}", target.display())))
        }
        _ => Ok(()),
    }
}

/// The directory that a path is in, which has to be there.
fn above(path: &Path) -> Result<PathBuf, Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if dir.is_dir() || path.is_dir() {
        return Ok(dir.to_path_buf());
    }
    Err(Failure::new(format!("{}: there is no such directory; make it first", dir.display())).not_found())
}
