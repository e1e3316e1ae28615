//! Brings a host directory from one state of a volume to another.
//!
//! What differs is gone through once to see that the directory stands at the first state, and then once for each
//! [`Phase`]. Each step can be done again: who goes on after a kill begins the phase anew that the state in the work
//! directory names.

mod host;
mod options;
mod verify;

use std::fs::File as HostFile;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{Attr, Body, Errno, Ino, Inode, InodeDifference, Kind, Name, TreeDiff};
use rustix::fs::FallocateFlags;

use self::host::{Host, Refusal, Spot};
pub use self::options::{Applied, ApplyError, ApplyOptions, ApplyProgress, Misfit};
use crate::diff::{Change, Side, States};
use crate::error::{Error, ErrorKind, Result};
use crate::inodes::Inodes;
use crate::restore::Unrestored;
use crate::restore::host::Wanted;
use crate::volume::Volume;

/// Content that is in memory at a time.
const PIECE: u64 = 4 << 20;
/// How many attributes that were refused are told one by one.
const TOLD: usize = 1000;

/// What is done to all that differs before the next thing is done to any. The order is that of the work: names that are
/// lost are free before they are given, and nothing is removed before all is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// What loses a name loses it.
    Detach,
    /// What is new is made, in the work directory.
    Create,
    /// Content that differs is written.
    Content,
    /// What gains a name gains it.
    Attach,
    /// What has no name any more goes.
    Remove,
    /// Attributes are set, those of directories too, which all that went before has changed.
    Attributes,
}

impl Phase {
    const ALL: [(Self, &str); 6] = [
        (Self::Detach, "detach"),
        (Self::Create, "create"),
        (Self::Content, "content"),
        (Self::Attach, "attach"),
        (Self::Remove, "remove"),
        (Self::Attributes, "attributes"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, of)| *of == name).map(|(phase, _)| *phase)
    }
}

impl Volume {
    /// Brings a host directory that stands at this state, such as a restored one, to the state `to`: only what differs
    /// is touched. Both are states of one volume, or of a fork and its parent, and must not change meanwhile.
    ///
    /// Before anything is changed it is verified that the directory stands at this state, as far as the difference
    /// touches it: type, permissions, size, content, where links lead, extended attributes in `user.`, which names are
    /// the same file, that nothing is where something will be made, and that directories to be removed hold nothing
    /// else. A directory that stands at `to` already is left so.
    ///
    /// Meanwhile it holds an entry `.rfs-apply`. When it is interrupted, the same call goes on; until then the directory
    /// is neither the one nor the other. Nothing outside of it is touched: a file with more names than it had in the
    /// volume is refused, as are symlinks in the way.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use rfs::{ApplyOptions, At, Options, RestoreOptions, Volume};
    /// # let dir = tempfile::tempdir()?; let dir = dir.path().join("restored");
    /// let volume = Volume::open_or_create("memory://apply", Options::new()).await?;
    /// volume.fs().write("/config", b"old").await?;
    /// volume.checkpoint("monday").await?.wait().await?;
    /// volume.fs().write("/config", b"new").await?;
    /// volume.checkpoint("tuesday").await?.wait().await?;
    ///
    /// let at = |name: &str| At::Checkpoint(name.to_owned());
    /// let monday = Volume::open_read_only("memory://apply", Options::new(), at("monday")).await?;
    /// let tuesday = Volume::open_read_only("memory://apply", Options::new(), at("tuesday")).await?;
    /// let _restored = monday.restore(&dir, RestoreOptions::new()).await?;
    /// let applied = monday.apply_to(&dir, &tuesday, ApplyOptions::new()).await?;
    /// assert_eq!((applied.changed, std::fs::read(dir.join("config"))?), (1, b"new".to_vec()));
    /// # volume.close().await?; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ApplyError::NotThere`] when the directory does not stand at this state: then nothing was changed. Otherwise
    /// [`ErrorKind::Invalid`] when another run is under way or was not ended, or a volume changed meanwhile;
    /// [`ErrorKind::LocalDisk`] for the host's; [`ErrorKind::Damaged`], [`ErrorKind::Outage`] and others of the store.
    pub async fn apply_to(
        &self,
        dir: impl AsRef<Path>,
        to: &Self,
        options: ApplyOptions,
    ) -> std::result::Result<Applied, ApplyError> {
        let dir = dir.as_ref();
        let doing = format!("apply to {}", dir.display());
        let positions = (self.position(), to.position());
        let identity =
            format!("from {:032x} {}\nto {:032x} {}\n", self.id(), positions.0, to.id(), positions.1);
        let mut states = States::of(self, to).map_err(|error| error.during(&*doing))?;
        let name = free_name(&mut states).await.map_err(|error| error.during(&*doing))?;
        let host_dir = dir.to_path_buf();
        let opened = blocking(move || Host::open(&host_dir)).await;
        let host = Arc::new(opened.map_err(|error| failed(&doing, &error))?);
        let progress = ApplyProgress::default();
        let applied = Applied { owners: true, ..Applied::default() };
        let mut apply = Apply { states, host, options, doing, progress, applied };
        let ended = apply.run(&name, &identity).await;
        if let Err(ApplyError::Failed(error)) = ended {
            return Err(error.during(&*apply.doing).into());
        }
        ended?;
        if (self.position(), to.position()) != positions {
            let what = format!(
                "{}: a volume changed meanwhile; apply states that are open for reading",
                apply.doing
            );
            return Err(Error::new(ErrorKind::Invalid, what).into());
        }
        Ok(apply.applied)
    }
}

/// A run on its way.
struct Apply {
    states: States,
    host: Arc<Host>,
    options: ApplyOptions,
    doing: String,
    progress: ApplyProgress,
    applied: Applied,
}

impl Apply {
    async fn run(&mut self, name: &str, identity: &str) -> std::result::Result<(), ApplyError> {
        if self.states.next(&mut TreeDiff::default()).await?.is_none() {
            return Ok(());
        }
        let host =
            Arc::get_mut(&mut self.host).ok_or_else(|| Error::new(ErrorKind::Bug, "the host is shared"))?;
        let found = host.resume(name, identity);
        let from = match found.map_err(|refusal| refused(&self.doing, refusal))? {
            Some(phase) => phase,
            None => {
                let phase = self.look().await?;
                let host = Arc::get_mut(&mut self.host)
                    .ok_or_else(|| Error::new(ErrorKind::Bug, "the host is shared"))?;
                host.begin(name, identity, phase).map_err(|refusal| refused(&self.doing, refusal))?;
                phase
            }
        };
        for (phase, _) in Phase::ALL.into_iter().filter(|(phase, _)| *phase >= from) {
            if phase > from {
                self.on_host("note how far it is", move |host| host.enter(phase)).await?;
            }
            self.pass(phase).await?;
        }
        // The work directory changes the root's times, as it goes too: so they are set twice, and a run that dies in
        // between leaves a directory that stands at the second state but for these.
        self.root().await?;
        self.on_host("remove the work directory", Host::end).await?;
        Ok(self.root().await?)
    }

    /// Where to begin on a directory that nothing was begun on.
    async fn look(&mut self) -> std::result::Result<Phase, ApplyError> {
        let misfits = self.verify().await?;
        self.host.forget();
        if misfits.is_empty() {
            return Ok(Phase::Detach);
        }
        std::mem::swap(&mut self.states.old, &mut self.states.new);
        let at_the_other = self.verify().await;
        self.host.forget();
        std::mem::swap(&mut self.states.old, &mut self.states.new);
        if at_the_other?.is_empty() { Ok(Phase::Attributes) } else { Err(ApplyError::NotThere(misfits)) }
    }

    async fn pass(&mut self, phase: Phase) -> Result<()> {
        let mut walk = TreeDiff::default();
        let mut closed = Vec::new();
        while let Some(found) = self.states.next(&mut walk).await? {
            match phase {
                Phase::Detach => self.detach(&found).await?,
                Phase::Create => self.create(&found).await?,
                Phase::Content => self.content(&found).await?,
                Phase::Attach => self.attach(&found).await?,
                Phase::Remove => self.remove(&found).await?,
                Phase::Attributes => {
                    self.count(&found);
                    self.attributes(&found, &mut closed).await?;
                }
            }
        }
        // Who is not root sees nothing below what is closed to him: what is deepest first.
        closed.sort_by_key(|closed: &Closed| std::cmp::Reverse(closed.spot.way.len()));
        for Closed { spot, wanted } in closed {
            let lost = self.on_host(spot.name.to_string(), move |host| host.attributes(&spot, &wanted, &[]));
            drop(lost.await?);
        }
        Ok(())
    }

    async fn detach(&mut self, found: &InodeDifference) -> Result<()> {
        let ino = found.ino;
        let (names, kind, stays) = match Change::of(found) {
            Change::Removed(old) => (found.lost.clone(), old.kind(), old.is_dir()),
            Change::Replaced(old, _) => (self.states.old.names(ino).await?, old.kind(), old.is_dir()),
            Change::Changed(old, _) if !found.lost.is_empty() => {
                let kept = self.kept(found, old).await?;
                (found.lost.clone(), old.kind(), kept.is_empty())
            }
            _ => return Ok(()),
        };
        let may_lack = self.may_lack(kind);
        for (parent, name) in names {
            let (spot, path) = self.states.old.spot(parent, name).await?;
            self.on_host(path, move |host| match host.detach(ino, &spot, kind, stays) {
                Err(error) if may_lack && error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            })
            .await?;
        }
        Ok(())
    }

    async fn create(&mut self, found: &InodeDifference) -> Result<()> {
        let (Change::Created(new) | Change::Replaced(_, new)) = Change::of(found) else { return Ok(()) };
        let ino = found.ino;
        let path = self.states.new.first_path(ino).await?;
        let wanted = Arc::new(self.states.new.wanted(ino, new).await?);
        if new.kind() == Kind::Directory {
            self.on_host(&path, move |host| host.node(&wanted)).await?;
            return Ok(());
        }
        if self.on_host(&path, move |host| host.is_made(ino)).await? {
            return Ok(());
        }
        let lost = if new.kind() == Kind::File {
            let size = new.size;
            let file = Arc::new(self.on_host(&path, move |host| host.file(ino, size)).await?);
            for range in self.states.new.ask(|tree| tree.stored_ranges(ino)).await? {
                self.write(&path, &file, ino, range.start, range.end.min(size), false).await?;
            }
            self.on_host(&path, move |host| host.finish(&wanted)).await?
        } else {
            let may_lack = self.may_lack(new.kind());
            let made = move |host: &Host| match host.node(&wanted) {
                Err(error) if may_lack && error.kind() == io::ErrorKind::PermissionDenied => {
                    Ok(vec![format!("make a device: {error}")])
                }
                made => made,
            };
            self.on_host(&path, made).await?
        };
        self.lost(&path, lost);
        Ok(())
    }

    async fn content(&mut self, found: &InodeDifference) -> Result<()> {
        let Change::Changed(old, new) = Change::of(found) else { return Ok(()) };
        if new.kind() != Kind::File || (found.content.is_empty() && old.size == new.size) {
            return Ok(());
        }
        let (ino, size) = (found.ino, new.size);
        let mut spots = Vec::new();
        for (parent, name) in self.states.old.names(ino).await? {
            spots.push(self.states.old.spot(parent, name).await?.0);
        }
        let path = self.states.new.first_path(ino).await?;
        let open = move |host: &Host| {
            let file = host.existing(ino, &spots)?;
            file.set_len(size)?;
            Ok(file)
        };
        let file = Arc::new(self.on_host(&path, open).await?);
        for range in &found.content {
            self.write(&path, &file, ino, range.start, range.end.min(size), true).await?;
        }
        Ok(())
    }

    /// Writes a part of a file's content. Where there may be something already, holes are made too.
    async fn write(
        &mut self,
        path: &Path,
        file: &Arc<HostFile>,
        ino: Ino,
        mut at: u64,
        end: u64,
        is_filled: bool,
    ) -> Result<()> {
        let inodes = self.states.new.inodes();
        while at < end {
            let data = next_data(&inodes, ino, at, end).await?;
            if data > at && is_filled {
                let file = Arc::clone(file);
                self.on_host(path, move |_| punch(&file, at, data)).await?;
            }
            at = data;
            if at >= end {
                break;
            }
            let stop = inodes.seek_hole(ino, at).await?.min(end);
            while at < stop {
                let pieces = inodes.read(ino, at, (stop - at).min(PIECE)).await?;
                let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
                if len == 0 {
                    let what = format!("{}: it changed meanwhile", path.display());
                    return Err(Error::new(ErrorKind::Invalid, what));
                }
                let file = Arc::clone(file);
                self.on_host(path, move |_| write_all(&file, at, &pieces)).await?;
                at += len;
                self.progress.bytes += len;
                self.applied.bytes += len;
            }
        }
        Ok(())
    }

    async fn attach(&mut self, found: &InodeDifference) -> Result<()> {
        let ino = found.ino;
        let (names, new, kept) = match Change::of(found) {
            Change::Created(new) | Change::Replaced(_, new) => {
                (self.states.new.names(ino).await?, new, Vec::new())
            }
            Change::Changed(old, new) if !found.gained.is_empty() => {
                (found.gained.clone(), new, self.kept(found, old).await?)
            }
            _ => return Ok(()),
        };
        let mut spots = Vec::new();
        for (parent, name) in kept {
            spots.push(self.states.new.spot(parent, name).await?.0);
        }
        let (only, may_lack) = (new.is_dir() || new.nlink == 1, self.may_lack(new.kind()));
        for (parent, name) in names {
            let (spot, path) = self.states.new.spot(parent, name).await?;
            let kept = spots.clone();
            self.on_host(path, move |host| match host.attach(ino, &spot, &kept, only) {
                Err(error) if may_lack && error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            })
            .await?;
        }
        Ok(())
    }

    async fn remove(&mut self, found: &InodeDifference) -> Result<()> {
        let ino = found.ino;
        let (had_dir, may_be_kept) = match Change::of(found) {
            Change::None => return Ok(()),
            Change::Removed(old) => (old.is_dir(), !old.is_dir()),
            Change::Replaced(old, new) => (old.is_dir(), !new.is_dir()),
            Change::Created(new) => (false, !new.is_dir()),
            Change::Changed(old, _) => {
                let has_moved = !found.lost.is_empty() || !found.gained.is_empty();
                (false, has_moved && !old.is_dir())
            }
        };
        let path = format!("inode {ino}");
        if had_dir {
            self.on_host(&path, move |host| host.drop_kept(ino, true)).await?;
        }
        if may_be_kept {
            self.on_host(&path, move |host| host.drop_kept(ino, false)).await?;
        }
        Ok(())
    }

    async fn attributes(&mut self, found: &InodeDifference, closed: &mut Vec<Closed>) -> Result<()> {
        let new = match Change::of(found) {
            // All else that is new has them already.
            Change::Created(new) | Change::Replaced(_, new) if new.is_dir() => new,
            Change::Changed(old, new) if new.is_dir() || is_touched(found, old, new) => new,
            _ => return Ok(()),
        };
        let ino = found.ino;
        let name = self.states.new.ask(|tree| tree.names(ino, None, 1)).await?.pop();
        // The root's come last.
        let Some((parent, _, name)) = name else { return Ok(()) };
        let (spot, path) = self.states.new.spot(parent, name).await?;
        let mut wanted = self.states.new.wanted(ino, new).await?;
        let gone = gone(found, &wanted);
        if !self.host.owners && new.is_dir() && new.mode & 0o700 != 0o700 {
            let open = Attr { mode: new.mode | 0o700, ..wanted.attr };
            let attr = std::mem::replace(&mut wanted.attr, open);
            closed.push(Closed { spot: spot.clone(), wanted: Wanted { attr, ..copy(&wanted) } });
        }
        let may_lack = self.may_lack(new.kind());
        let lost = self
            .on_host(&path, move |host| match host.attributes(&spot, &wanted, &gone) {
                Err(error) if may_lack && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                set => set,
            })
            .await?;
        self.lost(&path, lost);
        Ok(())
    }

    async fn root(&mut self) -> Result<()> {
        let found = self.states.ask_both(Ino::ROOT).await?;
        let (Some(old), Some(new)) = found else { return Ok(()) };
        let wanted = self.states.new.wanted(Ino::ROOT, &new).await?;
        let before = self.states.old.wanted(Ino::ROOT, &old).await?;
        let gone = before.xattrs.iter().map(|(name, _)| name.clone());
        let gone: Vec<_> = gone.filter(|name| !wanted.xattrs.iter().any(|(of, _)| of == name)).collect();
        let lost = self.on_host("/", move |host| host.root_attributes(&wanted, &gone)).await?;
        self.lost(Path::new("/"), lost);
        Ok(())
    }

    fn count(&mut self, found: &InodeDifference) {
        let attr = match Change::of(found) {
            Change::None => return,
            Change::Removed(_) => {
                self.applied.removed += 1;
                return;
            }
            Change::Created(new) => {
                self.applied.created += 1;
                new.attr(found.ino)
            }
            Change::Replaced(_, new) => {
                self.applied.removed += 1;
                self.applied.created += 1;
                new.attr(found.ino)
            }
            Change::Changed(old, new) => {
                // That a directory has other times follows from what changed in it.
                let has_same_names = found.lost.is_empty() && found.gained.is_empty();
                let is_told = !new.is_dir()
                    || !has_same_names
                    || !found.xattrs.is_empty()
                    || (old.mode, old.uid, old.gid) != (new.mode, new.uid, new.gid);
                self.applied.changed += u64::from(is_told);
                new.attr(found.ino)
            }
        };
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        self.applied.owners &= self.host.owners || own == (attr.uid, attr.gid);
    }

    /// The names that a file has in both states, all the time.
    async fn kept(&mut self, found: &InodeDifference, old: &Inode) -> Result<Vec<(Ino, Name)>> {
        if old.is_dir() || found.lost.len() as u64 >= u64::from(old.nlink) {
            return Ok(Vec::new());
        }
        let mut names = self.states.old.names(found.ino).await?;
        let new: std::collections::HashSet<_> = self.states.new.names(found.ino).await?.into_iter().collect();
        let moving: std::collections::HashSet<_> = found.lost.iter().chain(&found.gained).collect();
        names.retain(|name| new.contains(name) && !moving.contains(name));
        Ok(names)
    }

    /// Whether it may be missing on the host: only root can make devices.
    fn may_lack(&self, kind: Kind) -> bool {
        !self.host.owners && matches!(kind, Kind::CharDevice | Kind::BlockDevice)
    }

    /// Does a step on the host.
    async fn on_host<T: Send + 'static>(
        &mut self,
        path: impl AsRef<Path>,
        step: impl FnOnce(&Host) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.tell();
        self.progress.steps += 1;
        let host = Arc::clone(&self.host);
        let done = blocking(move || step(&host)).await;
        done.map_err(|error| failed(path.as_ref().display(), &error))
    }

    fn tell(&self) {
        if let Some(tell) = &self.options.progress {
            tell(self.progress);
        }
    }

    fn lost(&mut self, path: &Path, lost: Vec<String>) {
        for why in lost {
            if self.applied.refused.len() < TOLD {
                self.applied.refused.push(Unrestored { path: path.to_path_buf(), why, damaged: false });
            } else {
                self.applied.unlisted += 1;
            }
        }
    }
}

/// A directory whose permissions close it to its owner, and come last.
struct Closed {
    spot: Spot,
    wanted: Wanted,
}

impl States {
    async fn ask_both(&mut self, ino: Ino) -> Result<(Option<Inode>, Option<Inode>)> {
        let old = self.old.ask(|tree| tree.inode(ino).map(Option::<&Inode>::cloned)).await?;
        let new = self.new.ask(|tree| tree.inode(ino).map(Option::<&Inode>::cloned)).await?;
        Ok((old, new))
    }
}

impl Side {
    /// Where a name is on the host, and its path.
    async fn spot(&mut self, parent: Ino, name: Name) -> Result<(Spot, PathBuf)> {
        let path = self.path(parent, &name).await?;
        Ok((Spot { way: self.way(parent).await?, name }, path))
    }

    /// What an inode is to be.
    async fn wanted(&mut self, ino: Ino, inode: &Inode) -> Result<Wanted> {
        let target = if let Body::Symlink { target } = &inode.body { target.to_vec() } else { Vec::new() };
        let xattrs = self.ask(|tree| tree.all_xattrs(ino)).await?;
        let bytes = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Ok(Wanted { attr: inode.attr(ino), target, xattrs: bytes.collect() })
    }
}

fn copy(wanted: &Wanted) -> Wanted {
    Wanted { attr: wanted.attr, target: wanted.target.clone(), xattrs: wanted.xattrs.clone() }
}

/// Whether anything but names, and what follows from these, is another.
fn is_touched(found: &InodeDifference, old: &Inode, new: &Inode) -> bool {
    let of = |inode: &Inode| {
        let times = (inode.times.accessed, inode.times.modified);
        (inode.mode, inode.uid, inode.gid, inode.size, times)
    };
    of(old) != of(new) || !found.content.is_empty() || !found.xattrs.is_empty()
}

/// The extended attributes that are to go.
fn gone(found: &InodeDifference, wanted: &Wanted) -> Vec<Vec<u8>> {
    let names = found.xattrs.iter().map(|name| name.as_bytes().to_vec());
    names.filter(|name| !wanted.xattrs.iter().any(|(of, _)| of == name)).collect()
}

/// The first byte from `at` on that is stored, or `end`.
async fn next_data(inodes: &Inodes, ino: Ino, at: u64, end: u64) -> Result<u64> {
    match inodes.seek_data(ino, at).await {
        Err(error) if error.errno() == Some(Errno::NoSuchData) => Ok(end),
        data => Ok(data?.min(end)),
    }
}

fn write_all(file: &HostFile, mut at: u64, pieces: &[Bytes]) -> io::Result<()> {
    for piece in pieces {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Makes a hole, or writes zeros where the host's file system makes none.
fn punch(file: &HostFile, start: u64, end: u64) -> io::Result<()> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, how, start, end - start) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        done => return Ok(done?),
    }
    let zeros = [0; 1 << 14];
    let mut at = start;
    while at < end {
        let len = (end - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

/// A name for the work directory that is no name in either state's root.
async fn free_name(states: &mut States) -> Result<String> {
    let mut name = ".rfs-apply".to_owned();
    loop {
        let Ok(wanted) = Name::new(name.as_bytes()) else { return Ok(name) };
        let old = states.old.ask(|tree| tree.entry(Ino::ROOT, &wanted)).await?;
        let new = states.new.ask(|tree| tree.entry(Ino::ROOT, &wanted)).await?;
        if old.is_none() && new.is_none() {
            return Ok(name);
        }
        name.push('+');
    }
}

fn failed(what: impl std::fmt::Display, error: &io::Error) -> Error {
    let what = format!("{what}: {error}; mend it, and apply again to go on");
    Error::new(ErrorKind::LocalDisk, what)
}

fn refused(doing: &str, refusal: Refusal) -> Error {
    let what = match refusal {
        Refusal::Foreign => "the directory holds an unfinished run between other states; end that one first",
        Refusal::Busy => "a run on it is under way; wait for it",
        Refusal::Io(error) => return failed(doing, &error),
    };
    Error::new(ErrorKind::Invalid, format!("{doing}: {what}"))
}

/// Runs what waits for the host's disk.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn is_own(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}
