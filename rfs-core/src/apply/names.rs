//! Changes of names: what is made, linked, removed and renamed.

use super::{Misfit, is_symlink_target};
use crate::{
    Body, Cookie, Entry, EntryKey, Ino, Inode, Kind, Missing, Name, Node, NotLoaded, OwnerId, Replaced,
    Timestamp, Tree,
};

impl Tree {
    pub(super) fn create(
        &mut self,
        key: EntryKey,
        ino: Ino,
        node: &Node,
        mut inode: Inode,
    ) -> Result<(), Misfit> {
        let next_ino = self.next_ino_after(ino)?;
        match node {
            Node::File => {}
            Node::Fifo => inode.body = Body::Fifo,
            Node::Socket => inode.body = Body::Socket,
            Node::CharDevice(device) => inode.body = Body::CharDevice { device: *device },
            Node::BlockDevice(device) => inode.body = Body::BlockDevice { device: *device },
            Node::Directory => {
                inode.nlink = 2;
                inode.body = Body::Directory { parent: key.parent, entries: 0, next_cookie: 1 };
            }
            Node::Symlink(target) => {
                if !is_symlink_target(target) {
                    return Err(Misfit::SymlinkTarget);
                }
                inode.size = target.len() as u64;
                inode.body = Body::Symlink { target: target.clone() };
            }
        }
        let mut dir = Dir::living(self, key.parent)?;
        dir.touch(inode.times.changed);
        let entry = dir.gain(self, &key, ino, inode.kind())?;
        self.inodes.load(&ino)?;
        dir.store(self)?;
        self.add_entry(key, entry)?;
        self.put_inode(ino, inode)?;
        self.next_ino = next_ino;
        Ok(())
    }

    pub(super) fn create_nameless(
        &mut self,
        ino: Ino,
        owner: OwnerId,
        linkable: bool,
        inode: Inode,
    ) -> Result<(), Misfit> {
        let next_ino = self.next_ino_after(ino)?;
        self.inodes.load(&ino)?;
        self.next_ino = next_ino;
        self.put_inode(ino, Inode { nlink: 0, ..inode })?;
        self.orphans.insert(ino, ());
        self.holds.insert((ino, owner), ());
        if linkable {
            self.linkable.insert(ino, ());
        }
        Ok(())
    }

    /// The number that the inode after this one gets, if this one is the next.
    fn next_ino_after(&self, ino: Ino) -> Result<Ino, Misfit> {
        if ino != self.next_ino {
            return Err(Misfit::NotTheNext { got: ino, next: self.next_ino });
        }
        ino.0.checked_add(1).map(Ino).ok_or(Misfit::Exhausted)
    }

    pub(super) fn link(&mut self, parent: Ino, name: &Name, ino: Ino, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.get(ino)?.clone();
        if inode.is_dir() {
            return Err(Misfit::IsADirectory(ino));
        }
        let nameless = inode.nlink == 0;
        if nameless && !self.linkable.contains_key(&ino) {
            return Err(Misfit::Removed(ino));
        }
        inode.nlink = inode.nlink.checked_add(1).ok_or(Misfit::Exhausted)?;
        inode.times.changed = time;
        let mut dir = Dir::living(self, parent)?;
        dir.touch(time);
        let key = EntryKey { parent, name: name.clone() };
        let entry = dir.gain(self, &key, ino, inode.kind())?;
        dir.store(self)?;
        self.add_entry(key, entry)?;
        self.put_inode(ino, inode)?;
        if nameless {
            self.orphans.remove(&ino);
            self.linkable.remove(&ino);
            self.forget_holders(ino);
        }
        Ok(())
    }

    pub(super) fn unlink(
        &mut self,
        parent: Ino,
        name: &Name,
        ino: Ino,
        reap: bool,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let key = EntryKey { parent, name: name.clone() };
        let entry = self.held_entry(&key, ino)?;
        if entry.kind == Kind::Directory {
            return Err(Misfit::IsADirectory(ino));
        }
        let unnamed = Unnamed::file(self, ino, reap, time)?;
        let mut dir = Dir::living(self, parent)?;
        dir.touch(time);
        dir.lose(entry.kind)?;
        dir.store(self)?;
        self.remove_entry(&key, entry)?;
        unnamed.store(self)
    }

    pub(super) fn rmdir(
        &mut self,
        parent: Ino,
        name: &Name,
        ino: Ino,
        reap: bool,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let key = EntryKey { parent, name: name.clone() };
        let entry = self.held_entry(&key, ino)?;
        let unnamed = Unnamed::directory(self, ino, reap, time)?;
        let mut dir = Dir::living(self, parent)?;
        dir.touch(time);
        dir.lose(Kind::Directory)?;
        dir.store(self)?;
        self.remove_entry(&key, entry)?;
        unnamed.store(self)
    }

    pub(super) fn rename(
        &mut self,
        from: &EntryKey,
        to: EntryKey,
        ino: Ino,
        replaced: Option<Replaced>,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let moving = self.held_entry(from, ino)?;
        let taken = self.entries.get(&to)?.copied();
        if taken.map(|entry| entry.ino) != replaced.map(|replaced| replaced.ino) || *from == to {
            return Err(Misfit::OtherReplaced { parent: to.parent, name: to.name });
        }
        let is_dir = moving.kind == Kind::Directory;
        let unnamed = match (taken, replaced) {
            (Some(entry), Some(_)) if entry.ino == ino => {
                return Err(Misfit::OtherReplaced { parent: to.parent, name: to.name });
            }
            (Some(entry), Some(_)) if is_dir && entry.kind != Kind::Directory => {
                return Err(Misfit::NotADirectory(entry.ino));
            }
            (Some(_), Some(replaced)) if is_dir => {
                Some(Unnamed::directory(self, replaced.ino, replaced.reap, time)?)
            }
            (Some(_), Some(replaced)) => Some(Unnamed::file(self, replaced.ino, replaced.reap, time)?),
            _ => None,
        };

        let mut from_dir = Dir::living(self, from.parent)?;
        from_dir.touch(time);
        from_dir.lose(moving.kind)?;
        let mut to_dir = if from.parent == to.parent {
            None
        } else {
            if is_dir && self.is_within(to.parent, ino)? {
                return Err(Misfit::Cycle(ino));
            }
            let mut to_dir = Dir::living(self, to.parent)?;
            to_dir.touch(time);
            Some(to_dir)
        };
        let target_dir = to_dir.as_mut().unwrap_or(&mut from_dir);
        let entry = match taken {
            // The name was there all the time, so a listing that goes on has to find it where it was.
            Some(taken) => {
                target_dir.swap(taken.kind, moving.kind)?;
                self.listing.load(&(to.parent, taken.cookie))?;
                self.links.load(&(taken.ino, to.parent, taken.cookie))?;
                self.links.load(&(ino, to.parent, taken.cookie))?;
                Entry { ino, kind: moving.kind, cookie: taken.cookie }
            }
            None => target_dir.gain_free(self, to.parent, ino, moving.kind)?,
        };
        let mut inode = self.get(ino)?.clone();
        inode.times.changed = time;
        if let Body::Directory { parent, .. } = &mut inode.body {
            *parent = to.parent;
        }

        from_dir.store(self)?;
        if let Some(to_dir) = to_dir {
            to_dir.store(self)?;
        }
        self.remove_entry(from, moving)?;
        if let Some(taken) = taken {
            self.remove_entry(&to, taken)?;
        }
        self.add_entry(to, entry)?;
        self.put_inode(ino, inode)?;
        unnamed.map_or(Ok(()), |unnamed| unnamed.store(self))
    }

    pub(super) fn exchange(
        &mut self,
        first: &EntryKey,
        first_ino: Ino,
        second: &EntryKey,
        second_ino: Ino,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        if first_ino == second_ino {
            return Err(Misfit::SamePlace(first_ino));
        }
        let first_entry = self.held_entry(first, first_ino)?;
        let second_entry = self.held_entry(second, second_ino)?;
        for (entry, to) in [(first_entry, second.parent), (second_entry, first.parent)] {
            if entry.kind == Kind::Directory && self.is_within(to, entry.ino)? {
                return Err(Misfit::Cycle(entry.ino));
            }
        }
        self.links.load(&(second_ino, first.parent, first_entry.cookie))?;
        self.links.load(&(first_ino, second.parent, second_entry.cookie))?;
        let mut first_dir = Dir::living(self, first.parent)?;
        first_dir.touch(time);
        let mut second_dir = None;
        if first.parent != second.parent {
            let mut dir = Dir::living(self, second.parent)?;
            dir.touch(time);
            first_dir.swap(first_entry.kind, second_entry.kind)?;
            dir.swap(second_entry.kind, first_entry.kind)?;
            second_dir = Some(dir);
        }
        let moved = |ino, parent_now| {
            let mut inode = self.get(ino)?.clone();
            inode.times.changed = time;
            if let Body::Directory { parent, .. } = &mut inode.body {
                *parent = parent_now;
            }
            Ok::<_, Misfit>(inode)
        };
        let (first_inode, second_inode) =
            (moved(first_ino, second.parent)?, moved(second_ino, first.parent)?);

        first_dir.store(self)?;
        if let Some(dir) = second_dir {
            dir.store(self)?;
        }
        self.put_inode(first_ino, first_inode)?;
        self.put_inode(second_ino, second_inode)?;
        // The names were there all the time, so a listing that goes on has to find them where they were.
        self.remove_entry(first, first_entry)?;
        self.remove_entry(second, second_entry)?;
        self.add_entry(first.clone(), Entry { cookie: first_entry.cookie, ..second_entry })?;
        self.add_entry(second.clone(), Entry { cookie: second_entry.cookie, ..first_entry })?;
        Ok(())
    }

    /// Whether a directory is `ancestor`, or below it.
    pub(crate) fn is_within(&self, dir: Ino, ancestor: Ino) -> Result<bool, Missing> {
        let mut at = dir;
        // In a damaged tree directories may hold one another in a circle: nothing is moved there.
        for _ in 0..=self.inodes.len() {
            if at == ancestor {
                return Ok(true);
            }
            match self.inode(at)?.map(|inode| &inode.body) {
                Some(Body::Directory { parent, .. }) if *parent != at => at = *parent,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The entry, if it leads to this inode.
    fn held_entry(&self, key: &EntryKey, ino: Ino) -> Result<Entry, Misfit> {
        let entry = self.entries.get(key)?.copied().filter(|entry| entry.ino == ino);
        let missing = || Misfit::NoSuchEntry { parent: key.parent, name: key.name.clone(), ino };
        let entry = entry.ok_or_else(missing)?;
        self.listing.load(&(key.parent, entry.cookie))?;
        self.links.load(&(ino, key.parent, entry.cookie))?;
        Ok(entry)
    }

    fn add_entry(&mut self, key: EntryKey, entry: Entry) -> Result<(), NotLoaded> {
        self.listing.insert((key.parent, entry.cookie), key.name.clone())?;
        self.links.insert((entry.ino, key.parent, entry.cookie), ())?;
        self.entries.insert(key, entry)?;
        Ok(())
    }

    fn remove_entry(&mut self, key: &EntryKey, entry: Entry) -> Result<(), NotLoaded> {
        self.entries.take(key)?;
        self.listing.take(&(key.parent, entry.cookie))?;
        self.links.take(&(entry.ino, key.parent, entry.cookie))?;
        Ok(())
    }
}

/// The new form of a directory that a Change gives or takes an entry.
struct Dir {
    ino: Ino,
    inode: Inode,
    parent: Ino,
    entries: u64,
    next_cookie: u64,
}

impl Dir {
    /// A directory that has a name (or is the root): none other can get or lose entries.
    fn living(tree: &Tree, ino: Ino) -> Result<Self, Misfit> {
        let inode = tree.get(ino)?;
        let Body::Directory { parent, entries, next_cookie } = inode.body else {
            return Err(Misfit::NotADirectory(ino));
        };
        if inode.nlink == 0 {
            return Err(Misfit::Removed(ino));
        }
        Ok(Self { ino, inode: inode.clone(), parent, entries, next_cookie })
    }

    const fn touch(&mut self, time: Timestamp) {
        self.inode.times.modified = time;
        self.inode.times.changed = time;
    }

    /// A new entry, behind all others in the listing.
    fn gain(&mut self, tree: &Tree, key: &EntryKey, ino: Ino, kind: Kind) -> Result<Entry, Misfit> {
        if tree.entries.contains_key(key)? {
            return Err(Misfit::NameTaken { parent: key.parent, name: key.name.clone() });
        }
        self.gain_free(tree, key.parent, ino, kind)
    }

    /// As [`Dir::gain`], of a name that is known to be free.
    fn gain_free(&mut self, tree: &Tree, parent: Ino, ino: Ino, kind: Kind) -> Result<Entry, Misfit> {
        let cookie = Cookie(self.next_cookie);
        tree.listing.load(&(parent, cookie))?;
        tree.links.load(&(ino, parent, cookie))?;
        self.next_cookie = self.next_cookie.checked_add(1).ok_or(Misfit::Exhausted)?;
        self.entries = self.entries.checked_add(1).ok_or(Misfit::Exhausted)?;
        self.link(kind)?;
        Ok(Entry { ino, kind, cookie })
    }

    fn lose(&mut self, kind: Kind) -> Result<(), Misfit> {
        self.entries = self.entries.checked_sub(1).ok_or(Misfit::Exhausted)?;
        self.unlink(kind)
    }

    /// One entry leads to something else now.
    fn swap(&mut self, old: Kind, new: Kind) -> Result<(), Misfit> {
        self.unlink(old)?;
        self.link(new)
    }

    fn link(&mut self, kind: Kind) -> Result<(), Misfit> {
        let links = u32::from(kind == Kind::Directory);
        self.inode.nlink = self.inode.nlink.checked_add(links).ok_or(Misfit::Exhausted)?;
        Ok(())
    }

    fn unlink(&mut self, kind: Kind) -> Result<(), Misfit> {
        let links = u32::from(kind == Kind::Directory);
        self.inode.nlink = self.inode.nlink.checked_sub(links).ok_or(Misfit::Exhausted)?;
        Ok(())
    }

    fn store(mut self, tree: &mut Tree) -> Result<(), NotLoaded> {
        self.inode.body =
            Body::Directory { parent: self.parent, entries: self.entries, next_cookie: self.next_cookie };
        tree.put_inode(self.ino, self.inode)
    }
}

/// An inode after it lost a name.
struct Unnamed {
    ino: Ino,
    inode: Inode,
    reap: bool,
}

impl Unnamed {
    fn file(tree: &Tree, ino: Ino, reap: bool, time: Timestamp) -> Result<Self, Misfit> {
        let mut inode = tree.get(ino)?.clone();
        if inode.is_dir() {
            return Err(Misfit::IsADirectory(ino));
        }
        inode.nlink = inode.nlink.checked_sub(1).ok_or(Misfit::Removed(ino))?;
        if reap && inode.nlink > 0 {
            return Err(Misfit::StillNamed(ino));
        }
        inode.times.changed = time;
        Self { ino, inode, reap }.loaded(tree)
    }

    fn directory(tree: &Tree, ino: Ino, reap: bool, time: Timestamp) -> Result<Self, Misfit> {
        let mut inode = tree.get(ino)?.clone();
        let Body::Directory { entries, .. } = inode.body else {
            return Err(Misfit::NotADirectory(ino));
        };
        if entries > 0 {
            return Err(Misfit::NotEmpty(ino));
        }
        inode.nlink = 0;
        inode.times.changed = time;
        Self { ino, inode, reap }.loaded(tree)
    }

    fn loaded(self, tree: &Tree) -> Result<Self, Misfit> {
        if self.reap {
            tree.load_reap(self.ino)?;
        }
        Ok(self)
    }

    fn store(self, tree: &mut Tree) -> Result<(), Misfit> {
        let nameless = self.inode.nlink == 0;
        tree.put_inode(self.ino, self.inode)?;
        if self.reap {
            tree.reap(self.ino)?;
        } else if nameless {
            tree.orphans.insert(self.ino, ());
        }
        Ok(())
    }
}
