//! Whether two volumes hold the same: names, kinds, modes, owners, links, sizes and every byte; at the head and at every
//! named checkpoint. Times differ, and inode numbers may.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use rfs::{At, CheckError, Fs, Metadata, Options, Volume};
use tokio::runtime::Runtime;

use crate::Result;

/// So many differences are shown.
const SHOWN: usize = 20;

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    states: u64,
    files: u64,
    directories: u64,
    bytes: u64,
    differences: Vec<String>,
}

/// Compares the volumes at two URLs, through openings for reading only.
pub(crate) fn compare(left: &str, right: &str) -> Result<Comparison> {
    Runtime::new()?.block_on(async {
        let mut found = Comparison::default();
        let names = found.compare_states(left, right, &At::Head).await?;
        for name in names {
            found.compare_states(left, right, &At::Checkpoint(name)).await?;
        }
        Ok(found)
    })
}

impl Comparison {
    pub(crate) const fn is_identical(&self) -> bool {
        self.differences.is_empty()
    }

    /// Compares one state, and returns the names of the checkpoints that both volumes have there.
    async fn compare_states(&mut self, left: &str, right: &str, at: &At) -> Result<BTreeSet<String>> {
        let mut volumes = Vec::new();
        let mut names = Vec::new();
        for url in [left, right] {
            let volume = Volume::open_read_only(url, Options::new(), at.clone()).await?;
            match volume.check().await {
                Err(CheckError::Unsound(violations)) => {
                    self.differ(format!("{url} at {at} is not sound: {violations:?}"));
                }
                checked => checked?,
            }
            names.push(volume.checkpoints().into_iter().map(|(name, _)| name).collect());
            volumes.push(volume);
        }
        let [left_names, right_names]: &[BTreeSet<String>; 2] = names.as_slice().try_into()?;
        if left_names != right_names {
            self.differ(format!("checkpoints at {at}: {left_names:?} and {right_names:?}"));
        }
        self.compare_trees(&volumes[0].fs(), &volumes[1].fs(), at).await?;
        self.states += 1;
        Ok(left_names.intersection(right_names).cloned().collect())
    }

    async fn compare_trees(&mut self, left: &Fs, right: &Fs, at: &At) -> Result<()> {
        let (left_tree, right_tree) = (walk(left).await?, walk(right).await?);
        for path in right_tree.keys().filter(|path| !left_tree.contains_key(*path)) {
            self.differ(format!("{} at {at} is only in the second", path.display()));
        }
        for (path, metadata) in &left_tree {
            let Some(other) = right_tree.get(path) else {
                self.differ(format!("{} at {at} is only in the first", path.display()));
                continue;
            };
            let (mine, others) = (attributes(metadata), attributes(other));
            if mine != others {
                self.differ(format!("{} at {at}: {mine} and {others}", path.display()));
            } else if metadata.is_file() {
                self.files += 1;
                self.bytes += metadata.len();
                self.compare_content(path, &left.read(path).await?, &right.read(path).await?, at);
            } else {
                self.directories += u64::from(metadata.is_dir());
                if metadata.is_symlink() && left.read_link(path).await? != right.read_link(path).await? {
                    self.differ(format!("{} at {at} points elsewhere", path.display()));
                }
            }
        }
        Ok(())
    }

    fn compare_content(&mut self, path: &Path, left: &[u8], right: &[u8], at: &At) {
        if left != right {
            let same = left.iter().zip(right).take_while(|(left, right)| left == right).count();
            self.differ(format!("{} at {at} differs from byte {same} on", path.display()));
        }
    }

    fn differ(&mut self, what: String) {
        self.differences.push(what);
    }
}

/// Everything below the root, by path.
async fn walk(fs: &Fs) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let root = PathBuf::from("/");
    found.insert(root.clone(), fs.symlink_metadata(&root).await?);
    let mut dirs = vec![root];
    while let Some(dir) = dirs.pop() {
        let mut entries = fs.read_dir(&dir).await?;
        while let Some(entry) = entries.next_entry().await? {
            if entry.file_type().is_dir() {
                dirs.push(entry.path());
            }
            found.insert(entry.path(), entry.metadata().await?);
        }
    }
    Ok(found)
}

/// All that must be equal, in words.
fn attributes(metadata: &Metadata) -> String {
    format!(
        "{:?} mode {:o} owner {}:{} links {} size {}",
        metadata.file_type(),
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.nlink(),
        metadata.len()
    )
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = format!(
            "{} files and {} directories with {} bytes, in {} states (the head and the checkpoints)",
            self.files, self.directories, self.bytes, self.states
        );
        if self.is_identical() {
            return write!(f, "identical: {compared}");
        }
        writeln!(f, "DIFFERENT in {} places: {compared}", self.differences.len())?;
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(f, "  {difference}")?;
        }
        if self.differences.len() > SHOWN {
            writeln!(f, "  and so on")?;
        }
        Ok(())
    }
}
