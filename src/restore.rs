//! Restores a tree to a host directory.
//!
//! A first walk makes everything, several files at a time; a second one gives the directories their attributes, which
//! what is made in them would change.

pub(crate) mod host;
mod options;
mod walk;

use std::ffi::OsString;
use std::fs::File as HostFile;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rfs_core::{Attr, Credential, Errno, Ino, Kind};
use tokio::task::{JoinError, JoinSet};

use self::host::{Descent, Place, Refusal, Wanted, Work};
pub use self::options::{RestoreOptions, RestoreProgress, Restored, Unrestored};
use self::walk::{Step, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::inodes::Inodes;
use crate::volume::Volume;

/// How the state of an unfinished restore begins; its version follows.
const STATE_BEGINS: &str = "rfs restore";
/// Content that one file has in memory at a time.
const PIECE: u64 = 4 << 20;
/// How many entries that were not restored are told one by one.
const TOLD: usize = 1000;

impl Volume {
    /// Restores the tree, or a part of it, to a directory of the host, several files at a time: content (holes stay
    /// holes), hard links, symlinks, fifos, sockets, devices, permissions, times, extended attributes and ACLs, and, for
    /// root, owners. All content is verified on the way.
    ///
    /// The directory is made if it is missing; for a whole directory it has to be empty. When a restore is interrupted,
    /// the same one goes on where it stood: what it had finished is recognised by kind, size and time, and not read
    /// again. Until it is done the directory holds an entry `.rfs-restore` with what is not whole yet. Nothing outside
    /// the directory is touched, whatever is in the way in it.
    ///
    /// On a volume that is open for writing nothing must change meanwhile; restore a state that is open for reading.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
    /// # let dir = tempfile::tempdir()?; let dir = dir.path().join("restored");
    /// volume.fs().write("/greeting", b"hello").await?;
    /// let restored = volume.restore(&dir, rfs::RestoreOptions::new()).await?;
    /// assert!(restored.missing.is_empty());
    /// assert_eq!(std::fs::read(dir.join("greeting"))?, b"hello");
    /// # volume.close().await?; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// POSIX's for the path; [`ErrorKind::Invalid`] when the directory holds something else, or when the volume changed
    /// meanwhile; [`ErrorKind::LocalDisk`] when the host's disk is full or fails, [`ErrorKind::Outage`] and other errors
    /// of the store: then the same restore goes on. What is damaged in the store is no error, but missing in the result.
    pub async fn restore(&self, dir: impl AsRef<Path>, options: RestoreOptions) -> Result<Restored> {
        let dir = dir.as_ref();
        let doing = format!("restore {} to {}", options.path.display(), dir.display());
        let attr =
            *self.fs().symlink_metadata(&options.path).await.map_err(|error| error.during(&*doing))?.attr();
        let position = self.position();
        let mut restore = Restore::begin(self, dir, &options, attr, doing.clone()).await?;
        let done = if attr.kind == Kind::Directory {
            restore.directory(&options, attr).await
        } else {
            restore.one(&options, attr).await
        };
        done.map_err(|error| error.during(&*doing))?;
        if self.position() != position {
            let what =
                format!("{doing}: the volume changed meanwhile; restore a state that is open for reading");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        restore.end(attr).await
    }
}

/// A restore on its way.
struct Restore {
    inodes: Inodes,
    work: Arc<Work>,
    doing: String,
    restored: Restored,
    tally: Arc<Tally>,
}

/// How far it is, and who is told.
struct Tally {
    progress: Mutex<RestoreProgress>,
    tell: Option<Arc<dyn Fn(RestoreProgress) + Send + Sync>>,
}

impl Tally {
    fn expect(&self, entries: u64, bytes: u64) {
        let mut progress = self.progress.lock();
        progress.total_entries += entries;
        progress.total_bytes = progress.total_bytes.saturating_add(bytes);
    }

    fn done(&self, entries: u64, bytes: u64) {
        let Some(tell) = &self.tell else { return };
        let mut progress = self.progress.lock();
        progress.entries += entries;
        progress.bytes = progress.bytes.saturating_add(bytes);
        // Under the lock, so that what is told never goes back.
        tell(*progress);
    }
}

/// What became of an entry.
enum Made {
    New { bytes: u64, lost: Vec<String> },
    Kept,
}

/// Why an entry was not made.
enum Trouble {
    /// It is about this entry; the others go on.
    Entry { why: String, damaged: bool, refused: bool },
    /// Nothing goes on.
    All(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Damaged | ErrorKind::UnknownFormat => {
                Self::Entry { why: error.to_string(), damaged: true, refused: false }
            }
            _ => Self::All(error),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        // EIO, ENFILE, EMFILE.
        let of_all = matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
            || matches!(error.raw_os_error(), Some(5 | 23 | 24));
        if of_all {
            let what = format!("write to the host: {error}; mend it, and restore again to go on");
            Self::All(Error::new(ErrorKind::LocalDisk, what))
        } else {
            Self::Entry { why: error.to_string(), damaged: false, refused: false }
        }
    }
}

/// What became of the entry with this path, for which so many bytes were to be written.
type Ended = (Vec<u8>, u64, std::result::Result<Made, Trouble>);

/// A file, and everything that is needed to restore it aside from the walk.
struct Job {
    inodes: Inodes,
    work: Arc<Work>,
    tally: Arc<Tally>,
    place: Place,
    path: Vec<u8>,
    attr: Attr,
}

impl Restore {
    async fn begin(
        volume: &Volume,
        dir: &Path,
        options: &RestoreOptions,
        attr: Attr,
        doing: String,
    ) -> Result<Self> {
        let inodes = volume.inodes();
        let is_dir = attr.kind == Kind::Directory;
        let name =
            if is_dir { free_name(&inodes, attr.ino).await? } else { format!(".rfs-restore-{}", attr.ino) };
        let path = options.path.as_os_str().as_bytes().escape_ascii();
        let identity = format!(
            "{STATE_BEGINS} 1\nvolume {:032x}\nposition {}\npath {path}\n",
            volume.id(),
            volume.position()
        );
        let work = Work::open(dir, name, &identity, is_dir).map_err(|refusal| {
            let what = match refusal {
                Refusal::Occupied => "the directory is not empty; choose another".to_owned(),
                Refusal::Foreign => {
                    "the directory holds an unfinished restore of something else; remove it, or choose another".to_owned()
                }
                Refusal::Busy => "a restore to it is under way; wait for it, or choose another".to_owned(),
                Refusal::Io(error) => {
                    return match trouble(error.into()) {
                        Ok(why) => Error::new(ErrorKind::Invalid, format!("{doing}: {why}")),
                        Err(error) => error.during(&*doing),
                    };
                }
            };
            Error::new(ErrorKind::Invalid, format!("{doing}: {what}"))
        })?;
        let restored = Restored { owners: work.owns(&attr), ..Restored::default() };
        let tally = Arc::new(Tally { progress: Mutex::default(), tell: options.progress.clone() });
        Ok(Self { inodes, work: Arc::new(work), doing, restored, tally })
    }

    async fn directory(&mut self, options: &RestoreOptions, attr: Attr) -> Result<()> {
        if self.tally.tell.is_some() {
            self.count(attr).await?;
        }
        self.make(options.parallel, attr).await?;
        self.attributes(attr).await
    }

    /// Makes all but the attributes of directories.
    async fn make(&mut self, parallel: usize, attr: Attr) -> Result<()> {
        let mut jobs = JoinSet::new();
        let made = self.make_below(attr.ino, parallel, &mut jobs).await;
        // Whoever is told of an error may restore again at once: nothing of this one goes on.
        while let Some(ended) = jobs.join_next().await {
            if let Err(error) = self.ended(ended) {
                tracing::debug!(%error, "restoring ended already");
            }
        }
        made
    }

    async fn make_below(&mut self, dir: Ino, parallel: usize, jobs: &mut JoinSet<Ended>) -> Result<()> {
        let mut descent = Descent::new(&self.work.root).map_err(|error| self.host(error))?;
        let mut walk = Walk::new(dir);
        self.restored.directories = 1;
        while let Some(step) = walk.next(&self.inodes).await? {
            let (entry, attr) = match step {
                Step::Entry(entry, attr) => (entry, attr),
                Step::Leave => {
                    descent.leave().map_err(|error| self.host(error))?;
                    continue;
                }
            };
            let path = walk.path(entry.name.as_bytes());
            self.restored.owners &= self.work.owns(&attr);
            if attr.kind == Kind::Directory {
                match descent.enter(entry.name.as_bytes(), true) {
                    Ok(()) => {
                        walk.enter(&entry);
                        self.restored.directories += 1;
                    }
                    Err(error) => self.not_made(path, error.into())?,
                }
                continue;
            }
            let place = descent.dir().map(|dir| Place { dir, name: entry.name.as_bytes().to_vec() });
            let place = place.map_err(|error| self.host(error))?;
            let job = self.job(place, path, attr);
            if attr.nlink > 1 {
                // Its other names are linked to it.
                let (path, size, made) = job.run().await;
                self.made(path, size, made)?;
                continue;
            }
            if jobs.len() >= parallel
                && let Some(ended) = jobs.join_next().await
            {
                self.ended(ended)?;
            }
            jobs.spawn(job.run());
            // What has ended meanwhile makes room.
            while let Some(ended) = jobs.try_join_next() {
                self.ended(ended)?;
            }
        }
        while let Some(ended) = jobs.join_next().await {
            self.ended(ended)?;
        }
        Ok(())
    }

    /// Gives the directories below the first one their attributes, those inside before those around them.
    async fn attributes(&mut self, attr: Attr) -> Result<()> {
        let mut descent = Descent::new(&self.work.root).map_err(|error| self.host(error))?;
        let mut walk = Walk::new(attr.ino);
        let mut attrs = Vec::new();
        while let Some(step) = walk.next(&self.inodes).await? {
            match step {
                Step::Entry(entry, attr) if attr.kind == Kind::Directory => {
                    // What could not be made was told.
                    if descent.enter(entry.name.as_bytes(), false).is_ok() {
                        walk.enter(&entry);
                        attrs.push(attr);
                    }
                }
                Step::Entry(..) => {}
                Step::Leave => {
                    let Some(attr) = attrs.pop() else { continue };
                    let path = walk.left.clone();
                    let dir = descent.dir().map_err(|error| self.host(error))?;
                    let done = self.directory_attributes(&dir, attr).await;
                    match done {
                        Ok(lost) => self.lost(&path, lost),
                        Err(trouble) => self.not_made(path, trouble)?,
                    }
                    descent.leave().map_err(|error| self.host(error))?;
                }
            }
        }
        Ok(())
    }

    async fn directory_attributes(
        &self,
        dir: &std::os::fd::OwnedFd,
        attr: Attr,
    ) -> std::result::Result<Vec<String>, Trouble> {
        let wanted = wanted(&self.inodes, attr).await?;
        Ok(self.work.attributes(dir, &wanted)?)
    }

    async fn one(&mut self, options: &RestoreOptions, attr: Attr) -> Result<()> {
        let made = self.make_one(options, attr).await;
        // There is nothing to go on with: the next one begins anew.
        let work = Arc::clone(&self.work);
        let ended = blocking(move || Ok(work.end(false)?)).await;
        made?;
        ended.map_err(|trouble| self.all(trouble))
    }

    async fn make_one(&mut self, options: &RestoreOptions, attr: Attr) -> Result<()> {
        let name = options.name.as_deref().or_else(|| options.path.file_name());
        let name = name.filter(|name| {
            !name.is_empty() && *name != "." && *name != ".." && !name.as_bytes().contains(&b'/')
        });
        let Some(name) = name else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "it has no name that it could have there; give it one",
            ));
        };
        self.tally.expect(1, attr.allocated);
        let place = Place { dir: Arc::clone(&self.work.root), name: name.as_bytes().to_vec() };
        if !options.replace && place.exists().map_err(|error| self.host(error))? {
            return Err(Error::posix(Errno::Exists, Path::new(name).display().to_string()));
        }
        let path = options.path.as_os_str().as_bytes().to_vec();
        // Its other names are not restored.
        let job = self.job(place, path, Attr { nlink: 1, ..attr });
        let (path, size, made) = job.run().await;
        self.made(path, size, made)
    }

    fn job(&self, place: Place, path: Vec<u8>, attr: Attr) -> Job {
        let (inodes, work, tally) = (self.inodes.clone(), Arc::clone(&self.work), Arc::clone(&self.tally));
        Job { inodes, work, tally, place, path, attr }
    }

    async fn count(&mut self, attr: Attr) -> Result<()> {
        let mut walk = Walk::new(attr.ino);
        while let Some(step) = walk.next(&self.inodes).await? {
            match step {
                Step::Entry(entry, attr) if attr.kind == Kind::Directory => walk.enter(&entry),
                Step::Entry(_, attr) => {
                    self.tally.expect(1, attr.allocated);
                }
                Step::Leave => {}
            }
        }
        Ok(())
    }

    /// The work directory goes, unless there is something to go on with.
    async fn end(mut self, attr: Attr) -> Result<Restored> {
        if !self.restored.missing.is_empty() {
            return Ok(self.restored);
        }
        if attr.kind != Kind::Directory {
            return Ok(self.restored);
        }
        let work = Arc::clone(&self.work);
        let ended = blocking(move || Ok(work.end(true)?)).await;
        ended.map_err(|trouble| self.all(trouble))?;
        let root = Arc::clone(&self.work.root);
        match self.directory_attributes(&root, attr).await {
            Ok(lost) => self.lost(b"/", lost),
            Err(trouble) => return Err(self.all(trouble)),
        }
        Ok(self.restored)
    }

    fn ended(&mut self, ended: std::result::Result<Ended, JoinError>) -> Result<()> {
        let (path, size, made) =
            ended.map_err(|error| Error::caused(ErrorKind::Bug, "restore a file", error))?;
        self.made(path, size, made)
    }

    fn made(&mut self, path: Vec<u8>, size: u64, made: std::result::Result<Made, Trouble>) -> Result<()> {
        // Of what is read, each piece was told.
        let mut told = 0;
        match made {
            Ok(Made::New { bytes, lost }) => {
                told = bytes;
                self.restored.bytes += bytes;
                self.lost(&path, lost);
            }
            Ok(Made::Kept) => self.restored.kept += 1,
            Err(trouble) => return self.not_made(path, trouble),
        }
        self.restored.entries += 1;
        self.tally.done(1, size.saturating_sub(told));
        Ok(())
    }

    fn not_made(&mut self, path: Vec<u8>, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::All(error) => Err(error),
            Trouble::Entry { why, damaged, refused } => {
                let list = if refused { &mut self.restored.refused } else { &mut self.restored.missing };
                if list.len() < TOLD {
                    list.push(Unrestored { path: PathBuf::from(OsString::from_vec(path)), why, damaged });
                } else {
                    self.restored.unlisted += 1;
                }
                Ok(())
            }
        }
    }

    fn lost(&mut self, path: &[u8], lost: Vec<String>) {
        for why in lost {
            if self.restored.refused.len() < TOLD {
                let path = PathBuf::from(OsString::from_vec(path.to_vec()));
                self.restored.refused.push(Unrestored { path, why, damaged: false });
            } else {
                self.restored.unlisted += 1;
            }
        }
    }

    fn host(&self, error: io::Error) -> Error {
        self.all(error.into())
    }

    fn all(&self, found: Trouble) -> Error {
        match trouble(found) {
            Ok(why) => Error::new(ErrorKind::LocalDisk, format!("{}: {why}", self.doing)),
            Err(error) => error,
        }
    }
}

fn trouble(trouble: Trouble) -> std::result::Result<String, Error> {
    match trouble {
        Trouble::Entry { why, .. } => Ok(why),
        Trouble::All(error) => Err(error),
    }
}

impl Job {
    async fn run(self) -> Ended {
        let made = self.make().await;
        (self.path, self.attr.allocated, made)
    }

    async fn make(&self) -> std::result::Result<Made, Trouble> {
        let wanted = Arc::new(wanted(&self.inodes, self.attr).await?);
        let (work, place) = (Arc::clone(&self.work), self.place.clone());
        if self.attr.kind != Kind::File {
            let device = matches!(self.attr.kind, Kind::CharDevice | Kind::BlockDevice);
            return blocking(move || {
                if let Some(made) = made_before(&work, &place, &wanted)? {
                    return Ok(made);
                }
                match work.node(&wanted, &place) {
                    Ok(lost) => Ok(Made::New { bytes: 0, lost }),
                    Err(error) if device && error.kind() == io::ErrorKind::PermissionDenied => {
                        let why = format!("make a device: {error}");
                        Err(Trouble::Entry { why, damaged: false, refused: true })
                    }
                    Err(error) => Err(error.into()),
                }
            })
            .await;
        }
        let begun = {
            let (work, place, wanted) = (Arc::clone(&work), place.clone(), Arc::clone(&wanted));
            blocking(move || match made_before(&work, &place, &wanted)? {
                Some(made) => Ok(Err(made)),
                None => Ok(Ok(Arc::new(work.file(&wanted)?))),
            })
        };
        let file = match begun.await? {
            Ok(file) => file,
            Err(made) => return Ok(made),
        };
        let (bytes, rest) = self.content(&file).await?;
        blocking(move || {
            write(&file, &rest)?;
            let lost = work.finish(&file, &wanted, &place)?;
            Ok(Made::New { bytes, lost })
        })
        .await
    }

    /// Writes the content but for its last piece, which it returns with the size of all.
    async fn content(&self, file: &Arc<HostFile>) -> std::result::Result<(u64, Vec<(u64, Bytes)>), Trouble> {
        let (mut at, mut total) = (0, 0);
        let (mut pieces, mut held) = (Vec::new(), 0);
        while at < self.attr.size {
            let data = match self.inodes.seek_data(self.attr.ino, at).await {
                Err(error) if error.errno() == Some(Errno::NoSuchData) => break,
                data => data?,
            };
            let end = self.inodes.seek_hole(self.attr.ino, data).await?;
            at = data;
            let mut before = None;
            // Nothing is read where a writer cut the file meanwhile.
            while at < end && before.replace(at) != Some(at) {
                if held >= PIECE {
                    let (file, pieces) = (Arc::clone(file), std::mem::take(&mut pieces));
                    blocking(move || Ok(write(&file, &pieces)?)).await?;
                    held = 0;
                }
                let before_piece = total;
                for piece in self.inodes.read(self.attr.ino, at, (end - at).min(PIECE)).await? {
                    let len = piece.len() as u64;
                    pieces.push((at, piece));
                    at += len;
                    held += len;
                    total += len;
                }
                self.tally.done(0, total - before_piece);
            }
        }
        Ok((total, pieces))
    }
}

fn write(file: &HostFile, pieces: &[(u64, Bytes)]) -> io::Result<()> {
    pieces.iter().try_for_each(|(at, piece)| file.write_all_at(piece, *at))
}

/// What is whole already: in its place, or under another name to which it is linked now.
fn made_before(work: &Work, place: &Place, wanted: &Wanted) -> io::Result<Option<Made>> {
    if wanted.attr.nlink > 1 {
        let linked = work.link(place, wanted)?;
        let made = |was_there| if was_there { Made::Kept } else { Made::New { bytes: 0, lost: Vec::new() } };
        return Ok(linked.map(made));
    }
    Ok(work.is_done(place, wanted)?.then_some(Made::Kept))
}

/// Runs what waits for the host's disk.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> std::result::Result<T, Trouble> + Send + 'static,
) -> std::result::Result<T, Trouble> {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(error) => Err(Trouble::All(Error::caused(ErrorKind::Bug, "write to the host", error))),
    }
}

/// What an inode is to become.
async fn wanted(inodes: &Inodes, attr: Attr) -> Result<Wanted> {
    let root = Credential::root();
    let target = if attr.kind == Kind::Symlink { inodes.read_link(attr.ino).await? } else { Vec::new() };
    let mut xattrs = Vec::new();
    for name in inodes.xattr_names(&root, attr.ino).await? {
        let value = inodes.xattr(&root, attr.ino, name.as_bytes()).await?;
        xattrs.push((name.as_bytes().to_vec(), value));
    }
    Ok(Wanted { attr, target, xattrs })
}

/// A name for the work directory that is no name in the tree's first directory.
async fn free_name(inodes: &Inodes, dir: Ino) -> Result<String> {
    let mut name = ".rfs-restore".to_owned();
    loop {
        match inodes.lookup(&Credential::root(), dir, name.as_bytes()).await {
            Err(error) if error.errno() == Some(Errno::NotFound) => return Ok(name),
            found => drop(found?),
        }
        name.push('+');
    }
}
