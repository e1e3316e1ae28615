//! Going back: the tree as it was, in a history that goes on.

use crate::{Ino, Missing, Resident, Tree, Value};

impl Tree {
    /// This tree after it went back to an older state of its own history. All is as it was then, but for what belongs to
    /// the history as a whole, or to those who are using it now: inode numbers are not used again, the checkpoints stay,
    /// and so do the locks, as far as what they are on is there.
    ///
    /// It takes time in proportion to the locks and checkpoints only.
    ///
    /// # Errors
    /// A page of the older tree is missing.
    pub fn rewound_to(&self, older: &Self) -> Result<Self, Missing> {
        let mut tree = older.clone();
        tree.next_ino = self.next_ino.max(older.next_ino);
        tree.checkpoints = self.checkpoints.clone();
        tree.file_locks = kept(&self.file_locks, older, |(ino, _)| *ino)?;
        tree.range_locks = kept(&self.range_locks, older, |(ino, ..)| *ino)?;
        Ok(tree)
    }

    /// The number that the next new inode gets.
    #[must_use]
    pub const fn next_ino(&self) -> Ino {
        self.next_ino
    }
}

/// The locks on what is there.
fn kept<K: crate::Key, V: Value>(
    locks: &Resident<K, V>,
    older: &Tree,
    on: impl Fn(&K) -> Ino,
) -> Result<Resident<K, V>, Missing> {
    let mut kept = Resident::default();
    for (key, lock) in locks.iter() {
        if older.inodes.contains_key(&on(key))? {
            kept.insert(key.clone(), lock.clone());
        }
    }
    Ok(kept)
}
