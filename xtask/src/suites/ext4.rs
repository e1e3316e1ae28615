//! The yardstick: an ext4 in a file, which only this run sees.
//!
//! What a suite skips on the volume though not on ext4 is something that the volume cannot do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bench::Bench;
use super::cases::Verdict;
use crate::{Outcome, process};

pub(super) struct Ext4 {
    directory: PathBuf,
}

impl Ext4 {
    pub(super) fn mount(bench: &Bench) -> Result<Self, String> {
        let image = bench.beside("ext4.img");
        let directory = bench.beside("ext4");
        fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        process::capture(Command::new("truncate").args(["--size", "512M"]).arg(&image))?;
        process::capture(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,user_xattr,acl"]).arg(&image).arg(&directory);
        process::capture(&mut mount).map_err(|error| {
            format!("an ext4 to compare with cannot be mounted, which takes a loop device: {error}")
        })?;
        Ok(Self { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn unmount(self) -> Outcome {
        process::capture(Command::new("umount").arg(&self.directory)).map(drop)
    }
}

/// The verdict on a case, given that on ext4: what only ext4 does not skip has failed.
pub(super) fn judged_by(verdict: Verdict, on_ext4: Option<&Verdict>) -> Verdict {
    match (verdict, on_ext4) {
        (Verdict::Skipped(reason), Some(Verdict::Skipped(_))) => {
            Verdict::Skipped(format!("{reason} (as on ext4)"))
        }
        (Verdict::Skipped(reason), _) => Verdict::Failed(format!("skipped, but not on ext4: {reason}")),
        (verdict, _) => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ext4_skips_may_be_skipped() {
        let skipped = || Verdict::Skipped("why".to_owned());
        assert_eq!(judged_by(skipped(), Some(&skipped())), Verdict::Skipped("why (as on ext4)".to_owned()));
        for on_ext4 in [None, Some(&Verdict::Passed), Some(&Verdict::Failed(String::new()))] {
            assert!(matches!(judged_by(skipped(), on_ext4), Verdict::Failed(_)), "{on_ext4:?}");
        }
        assert_eq!(judged_by(Verdict::Passed, None), Verdict::Passed);
        assert_eq!(
            judged_by(Verdict::Failed("x".to_owned()), Some(&skipped())),
            Verdict::Failed("x".to_owned())
        );
    }
}
