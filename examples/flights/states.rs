//! Whether a directory of this machine that holds one state of a volume becomes any other by `apply_to`, exactly.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rfs::{ApplyOptions, At, Options, RestoreOptions, Volume};
use tokio::runtime::Runtime;

use crate::Result;

/// So many differences are shown.
const SHOWN: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    states: usize,
    pairs: u64,
    /// Bytes of the states that the directories were to become.
    bytes: u64,
    /// Bytes that were written for it.
    written: u64,
    differences: Vec<String>,
}

/// Goes from every state that the volume has a name for, and its head, to every other.
pub(crate) fn every_pair(url: &str, work: &Path) -> Result<Applied> {
    Runtime::new()?.block_on(async {
        let dirs = tempfile::tempdir_in(work)?;
        let head = Volume::open_read_only(url, Options::new(), At::Head).await?;
        let names = head.checkpoints().into_iter().map(|(name, _)| name);
        let mut states = Vec::new();
        for name in names {
            let at = At::Checkpoint(name.clone());
            states.push((name, Volume::open_read_only(url, Options::new(), at).await?));
        }
        states.push(("head".to_owned(), head));
        let mut found = Applied { states: states.len(), ..Applied::default() };
        for (to_name, to) in &states {
            let expected = dirs.path().join("expected");
            restore(to, &expected).await?;
            let expected = walk(&expected)?;
            for (from_name, from) in states.iter().filter(|(name, _)| name != to_name) {
                let dir = dirs.path().join("dir");
                restore(from, &dir).await?;
                let applied = from.apply_to(&dir, to, ApplyOptions::new()).await?;
                found.pairs += 1;
                found.written += applied.bytes;
                found.bytes += expected.values().map(|entry| entry.content.len() as u64).sum::<u64>();
                found.compare(&format!("{from_name} to {to_name}"), &walk(&dir)?, &expected);
                fs::remove_dir_all(&dir)?;
            }
            fs::remove_dir_all(dirs.path().join("expected"))?;
        }
        Ok(found)
    })
}

impl Applied {
    pub(crate) const fn is_exact(&self) -> bool {
        self.differences.is_empty()
    }

    fn compare(&mut self, what: &str, found: &BTreeMap<PathBuf, Entry>, expected: &BTreeMap<PathBuf, Entry>) {
        for path in found.keys().chain(expected.keys()) {
            if found.get(path) != expected.get(path) {
                self.differences.push(format!("{what}: {} is not as it is restored", path.display()));
            }
        }
    }
}

async fn restore(volume: &Volume, dir: &Path) -> Result<()> {
    let restored = volume.restore(dir, RestoreOptions::new()).await?;
    match restored.missing.first() {
        None => Ok(()),
        Some(missing) => Err(format!("{} was not restored: {}", missing.path.display(), missing.why).into()),
    }
}

/// All that must be equal of an entry.
#[derive(PartialEq)]
struct Entry {
    /// Type and permissions, owner, number of names, time of modification.
    attributes: (u32, u32, u32, u64, i64, i64),
    content: Vec<u8>,
}

fn walk(root: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut paths = vec![root.to_path_buf()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let mut content = Vec::new();
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        } else if metadata.is_file() {
            content = fs::read(&path)?;
        }
        let names = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
        let attributes = (metadata.mode(), metadata.uid(), metadata.gid(), names, seconds, nanos);
        found.insert(path.strip_prefix(root)?.to_path_buf(), Entry { attributes, content });
    }
    Ok(found)
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, pairs, bytes, written, .. } = self;
        let what = format!("{states} states in {pairs} pairs, wrote {written} bytes for {bytes}");
        if self.is_exact() {
            return write!(f, "a directory of each state became each other: {what}");
        }
        writeln!(f, "a directory DIFFERS in {} places: {what}", self.differences.len())?;
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(f, "  {difference}")?;
        }
        Ok(())
    }
}
