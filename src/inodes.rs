//! The tree by inode numbers, as mounts and servers need it.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rfs_core::{
    Attr, Cookie, Credential, DirEntry, Errno, Fault, HeldRange, Ino, LockMode, LockOwner, LockRange, Op,
    Outcome, OwnerId, Permission, StatFs, XattrName,
};

use crate::engine::{Caller, Live, Origin, Refused, Watch};
use crate::error::{Error, Result};
use crate::options::Level;
use crate::volume::Handle;

/// The tree of a volume by inode numbers, for those who resolve paths themselves: mounts and servers.
///
/// An operation names inodes, either by [`Target::Ino`](rfs_core::Target::Ino) or as the directory that a name of one
/// component is in. It runs for the credential that it is given. Inodes are never reused, so a number that is gone is
/// `ESTALE`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> rfs::Result<()> {
/// # let volume = rfs::Volume::open_or_create("memory://", rfs::Options::new()).await?;
/// use rfs::{Credential, Ino, Op, model::At};
/// let (inodes, root) = (volume.inodes(), Credential::root());
/// let at = At { base: Ino::ROOT, path: b"dir".to_vec() };
/// inodes.run(&root, &Op::Mkdir { at, mode: 0o755 }, &[]).await?;
/// let dir = inodes.lookup(&root, Ino::ROOT, b"dir").await?;
/// assert_eq!(inodes.parent(dir.ino).await?, Ino::ROOT);
/// # volume.close().await }
/// ```
#[derive(Clone, Debug)]
pub struct Inodes {
    handle: Arc<Handle>,
    origin: Origin,
}

impl Inodes {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        let origin = Origin(handle.shared.origins.fetch_add(1, Ordering::Relaxed) + 1);
        Self { handle, origin }
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub async fn attr(&self, ino: Ino) -> Result<Attr> {
        self.look(|live| live.tree.attr(ino), || format!("attributes of inode {ino}")).await
    }

    /// What a name in a directory leads to; a symlink is not followed, and neither is `..`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, `EACCES`.
    pub async fn lookup(&self, credential: &Credential, dir: Ino, name: &[u8]) -> Result<Attr> {
        let look =
            |live: &Live| live.tree.child_of(credential, dir, name).and_then(|ino| live.tree.attr(ino));
        self.look(look, || format!("look up \"{}\" in inode {dir}", name.escape_ascii())).await
    }

    /// The directory that a directory is in; the root's is the root.
    ///
    /// # Errors
    /// `ENOTDIR`; `ENOENT` for a removed directory whose parent is gone.
    pub async fn parent(&self, dir: Ino) -> Result<Ino> {
        self.look(|live| live.tree.parent(dir), || format!("parent of inode {dir}")).await
    }

    /// At most `limit` entries of a directory, after `after`, with the attributes of each: all as they are at one
    /// moment. `.` and `..` are not among them. Cookies stay valid while entries come and go.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE`.
    pub async fn read_dir(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<(DirEntry, Attr)>> {
        let look = |live: &Live| {
            let entries = live.tree.read_dir(dir, after, limit)?;
            entries.into_iter().map(|entry| Ok((entry.clone(), live.tree.attr(entry.ino)?))).collect()
        };
        let listed = self.look(look, || format!("list inode {dir}")).await?;
        self.handle.shared.note_access(self.itself(), dir).await;
        Ok(listed)
    }

    /// Where a symlink points.
    ///
    /// # Errors
    /// `EINVAL` when it is none, `ESTALE`.
    pub async fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let look = |live: &Live| live.tree.read_link(ino).map(<[u8]>::to_vec);
        let target = self.look(look, || format!("read link, inode {ino}")).await?;
        self.handle.shared.note_access(self.itself(), ino).await;
        Ok(target)
    }

    /// Up to `len` bytes of a file from `offset` on, as they lie in the journal: without a copy where possible.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL`, `ESTALE`; [`ErrorKind::Damaged`](crate::ErrorKind::Damaged),
    /// [`ErrorKind::Outage`](crate::ErrorKind::Outage).
    pub async fn read(&self, ino: Ino, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        let shared = &self.handle.shared;
        let read = shared.read(self.itself(), ino, offset, len).await;
        read.map_err(|error| error.doing(|| format!("read inode {ino}")))
    }

    /// Runs one Op: checks it, applies it, and records it in the journal. `payload` is what a write writes, and empty
    /// for all others. To open a file use [`Inodes::open`], which holds the inode too.
    ///
    /// # Errors
    /// POSIX's; `EINVAL` for a payload of another length than the Op says; `EOPNOTSUPP` for Ops that are the volume's
    /// own: [`Op::AddCheckpoint`], [`Op::NewSession`]; `EINVAL` for [`Op::OpenNameless`], [`Op::Hold`], which
    /// [`Inodes::open`] and [`Inodes::hold`] do, and for the end of this program's own owner. [`ErrorKind::Outage`](crate::ErrorKind::Outage) when the outage
    /// budget is used up.
    pub async fn run(&self, credential: &Credential, op: &Op, payload: &[u8]) -> Result<Outcome> {
        self.refuse_holds(std::slice::from_ref(op))?;
        self.admit(std::slice::from_ref(op), payload.len() as u64).await?;
        let done = self.change(credential, |live, caller| live.run(caller, op, payload)).await;
        done.map_err(|error| named(error, op))
    }

    /// Runs several Ops as one: all of them, or none. The payloads follow each other as the Ops that write them do.
    ///
    /// # Errors
    /// As [`Inodes::run`]; `EFBIG` over 64 MiB of payload.
    pub async fn run_batch(
        &self,
        credential: &Credential,
        ops: &[Op],
        payloads: &[&[u8]],
    ) -> Result<Vec<Outcome>> {
        self.refuse_holds(ops)?;
        self.admit(ops, payloads.iter().map(|payload| payload.len() as u64).sum()).await?;
        let done = self.change(credential, |live, caller| live.run_batch(caller, ops, payloads)).await;
        done.map_err(|refused| refused.doing(|| format!("batch of {} operations", ops.len())))
    }

    /// Runs an Op that opens ([`Op::Open`], [`Op::OpenNameless`]) and holds the inode, in one step. Each needs one
    /// [`Inodes::let_go`] later.
    ///
    /// # Errors
    /// As [`Inodes::run`]; `EINVAL` for an Op that opens nothing.
    pub async fn open(&self, credential: &Credential, op: &Op) -> Result<Outcome> {
        if !matches!(op, Op::Open { .. } | Op::OpenNameless { .. }) {
            return Err(named(Errno::Invalid.into(), op));
        }
        self.admit(std::slice::from_ref(op), 0).await?;
        let opened = self.change(credential, |live, caller| {
            let outcome = live.run(caller, op, &[])?;
            if let Outcome::Opened { ino, .. } | Outcome::Made { ino } = outcome {
                live.hold(ino);
            }
            Ok(outcome)
        });
        let opened = opened.await;
        opened.map_err(|error| named(error, op))
    }

    /// Holds an inode: it outlives its last name. Each call needs one [`Inodes::let_go`] later.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub async fn hold(&self, ino: Ino) -> Result<()> {
        let held = self.handle.shared.change(|live| live.open_ino(self.itself(), ino)).await;
        held.map_err(|refused| refused.doing(|| format!("hold inode {ino}")))
    }

    /// Lets go of an inode that was held. The last to do so removes what has no name.
    pub fn let_go(&self, ino: Ino) {
        self.handle.shared.let_go(self.itself(), ino, None);
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` when there is none, `EACCES`, `EOPNOTSUPP`, `ERANGE`.
    pub async fn xattr(&self, credential: &Credential, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let look =
            |live: &Live| live.tree.xattr(credential, ino, name).map(|value| value.as_bytes().to_vec());
        self.look(look, || format!("attribute {} of inode {ino}", name.escape_ascii())).await
    }

    /// The names of the extended attributes that the caller may see.
    ///
    /// # Errors
    /// `ESTALE` when the inode is gone.
    pub async fn xattr_names(&self, credential: &Credential, ino: Ino) -> Result<Vec<XattrName>> {
        self.look(|live| live.tree.xattr_names(credential, ino), || format!("attributes of inode {ino}"))
            .await
    }

    /// Whether the caller may do this with an inode.
    ///
    /// # Errors
    /// `EACCES` when not, `ESTALE`.
    pub async fn permits(&self, credential: &Credential, ino: Ino, access: Permission) -> Result<()> {
        self.look(|live| live.tree.permits(credential, ino, access), || format!("access inode {ino}")).await
    }

    /// The first byte at or after `offset` that is not in a hole.
    ///
    /// # Errors
    /// `ENXIO` when there is none.
    pub async fn seek_data(&self, ino: Ino, offset: u64) -> Result<u64> {
        self.look(|live| live.tree.seek_data(ino, offset), || format!("seek data in inode {ino}")).await
    }

    /// The first hole at or after `offset`; the end of the file is one.
    ///
    /// # Errors
    /// `ENXIO` at or past the end.
    pub async fn seek_hole(&self, ino: Ino, offset: u64) -> Result<u64> {
        self.look(|live| live.tree.seek_hole(ino, offset), || format!("seek hole in inode {ino}")).await
    }

    /// What is in the way of a byte-range lock (`F_GETLK`), if anything.
    ///
    /// # Errors
    /// `ESTALE` when the inode is gone.
    pub async fn range_lock_conflict(
        &self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
        mode: LockMode,
    ) -> Result<Option<HeldRange>> {
        let look = |live: &Live| {
            live.tree.attr(ino)?;
            Ok(live.tree.range_lock_conflict(ino, owner, range, mode))
        };
        self.look(look, || format!("locks of inode {ino}")).await
    }

    /// Sizes and limits of the volume.
    #[must_use]
    pub fn stat_fs(&self) -> StatFs {
        self.handle.shared.live.read().tree.stat_fs()
    }

    /// Waits until everything that was done on the volume so far is at the volume's level.
    ///
    /// # Errors
    /// [`ErrorKind::LocalDisk`](crate::ErrorKind::LocalDisk), [`ErrorKind::Fenced`](crate::ErrorKind::Fenced),
    /// [`ErrorKind::Outage`](crate::ErrorKind::Outage).
    pub async fn sync(&self) -> Result<()> {
        self.handle.shared.sync().await.map_err(|error| error.during("sync"))
    }

    /// The volume's level: what [`Inodes::sync`] waits for.
    #[must_use]
    pub fn level(&self) -> Level {
        self.handle.shared.options.level
    }

    /// Tells from now on what others than this `Inodes` and its clones change.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.handle.shared.live.write().watchers.add(self.origin)
    }

    /// For whom inodes are held, and locks are taken: the owner in a [`LockOwner`].
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.handle.shared.live.read().session().owner
    }

    async fn look<T>(
        &self,
        look: impl FnMut(&Live) -> std::result::Result<T, Fault> + Send,
        doing: impl Fn() -> String + Send,
    ) -> Result<T> {
        self.handle.shared.look(look, doing).await
    }

    async fn change<T>(
        &self,
        credential: &Credential,
        mut change: impl FnMut(&mut Live, Caller<'_>) -> std::result::Result<T, Refused> + Send,
    ) -> std::result::Result<T, Refused> {
        let shared = &self.handle.shared;
        let caller = shared.caller_from(credential, self.origin);
        shared.change(|live| change(live, caller)).await
    }

    /// Refuses what holds an inode without a handle that is counted, so that nobody would ever let go of it, and what
    /// takes away what this program's own handles hold.
    fn refuse_holds(&self, ops: &[Op]) -> Result<()> {
        for op in ops {
            let refused = match op {
                Op::OpenNameless { .. } | Op::Hold { .. } => true,
                Op::EndOwner { owner } => *owner == self.owner(),
                _ => false,
            };
            if refused {
                return Err(named(Errno::Invalid.into(), op));
            }
        }
        Ok(())
    }

    /// Refuses what no caller may ask, and waits until there is room for what takes some.
    async fn admit(&self, ops: &[Op], payload: u64) -> Result<()> {
        let (mut wanted, mut takes_room) = (0_u64, false);
        for op in ops {
            match op {
                Op::AddCheckpoint { .. } | Op::NewSession { .. } => {
                    return Err(named(Errno::NotSupported.into(), op));
                }
                Op::Write { len, .. } => wanted = wanted.saturating_add(*len),
                _ => {}
            }
            let gives_room = matches!(
                op,
                Op::Release { .. } | Op::UnlockFile { .. } | Op::UnlockRange { .. } | Op::EndOwner { .. }
            );
            takes_room |= !gives_room;
        }
        if wanted != payload {
            return Err(Error::posix(
                Errno::Invalid,
                format!("write {wanted} bytes, but {payload} are given"),
            ));
        }
        if takes_room {
            self.handle.shared.admit(|| format!("run {} operations", ops.len())).await?;
        }
        Ok(())
    }

    fn itself(&self) -> Caller<'static> {
        Caller { origin: self.origin, ..self.handle.shared.itself() }
    }
}

fn named(refused: Refused, op: &Op) -> Error {
    refused.doing(|| {
        let mut word = FirstWord::default();
        let _ = write!(word, "{op:?}");
        word.0
    })
}

/// The name of an Op, without the names and values in it: they may be large, and any bytes.
#[derive(Default)]
struct FirstWord(String);

impl fmt::Write for FirstWord {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.find(|letter: char| !letter.is_alphanumeric());
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        if end.is_some() { Err(fmt::Error) } else { Ok(()) }
    }
}
