//! What the threads that answer the kernel share.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use rfs::model::At;
use rfs::{Attr, Cookie, Credential, Errno, ErrorKind, Ino, Inodes, Op, Outcome, Result, Target};
use tokio::sync::{mpsc, oneshot};

use crate::MountOptions;
use crate::attributes;
use crate::known::Known;

/// There is no such inode: it stands for outcomes that the Ops in question do not have.
const NONE: Ino = Ino(0);

/// Cookies of a directory follow `.` and `..`.
const DOTS: u64 = 2;
const LISTED_AT_ONCE: usize = 128;

/// A volume while it is mounted.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) inodes: Inodes,
    pub(crate) known: Known,
    pub(crate) writeback: bool,
    pub(crate) exclusive: bool,
    pub(crate) server: Option<u32>,
    /// There once the mount is.
    pub(crate) notifier: OnceLock<Notifier>,
    pub(crate) invalidate: mpsc::UnboundedSender<Invalidate>,
    runtime: tokio::runtime::Handle,
    failure: Mutex<Option<rfs::Error>>,
    ended: AtomicBool,
}

/// What the thread that invalidates the kernel's caches is asked.
#[derive(Debug)]
pub(crate) enum Invalidate {
    /// To say when all is told that was changed so far.
    Told(oneshot::Sender<()>),
    /// The content of a file is not what the kernel believes it to be.
    Content(Ino),
    /// To end.
    End,
}

impl Served {
    pub(crate) fn new(
        inodes: Inodes,
        runtime: tokio::runtime::Handle,
        options: &MountOptions,
        invalidate: mpsc::UnboundedSender<Invalidate>,
    ) -> Self {
        Self {
            inodes,
            known: Known::default(),
            writeback: options.writeback,
            exclusive: options.exclusive,
            server: options.server,
            notifier: OnceLock::new(),
            invalidate,
            runtime,
            failure: Mutex::new(None),
            ended: AtomicBool::new(false),
        }
    }

    /// Does some work on this thread, unless it has to wait: then it goes on in the runtime, and the thread is free for
    /// the next request.
    pub(crate) fn serve(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
        if self.poll_once(work.as_mut()).is_pending() {
            self.runtime.spawn(work);
        }
    }

    /// Does some work if it needs not wait.
    pub(crate) fn poll_once<F: Future + ?Sized>(&self, work: Pin<&mut F>) -> Poll<F::Output> {
        let _inside = self.runtime.enter();
        work.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Does some work on a thread where it may block.
    pub(crate) fn block(&self, work: impl FnOnce() + Send + 'static) {
        self.runtime.spawn_blocking(work);
    }

    /// What to answer for an error. One that is not the asking program's own is kept, to be shown by whoever mounted.
    pub(crate) fn errno(&self, error: &rfs::Error) -> fuser::Errno {
        self.note(error);
        attributes::errno(error)
    }

    pub(crate) fn note(&self, error: &rfs::Error) {
        if matches!(error.kind(), ErrorKind::Posix(_)) {
            return;
        }
        let mut failure = self.failure.lock();
        if failure.as_ref().is_none_or(|known| known.kind() != error.kind()) {
            tracing::error!(%error, "the mount answers with errors");
            *failure = Some(error.clone());
        }
    }

    pub(crate) fn failure(&self) -> Option<rfs::Error> {
        self.failure.lock().clone()
    }

    /// The attributes of an inode that the kernel names: of one that is gone, the last ones.
    pub(crate) async fn attr(&self, ino: Ino) -> Result<Attr> {
        match self.inodes.attr(ino).await {
            Err(error) if Self::is_gone(&error) => self.known.ghost(ino).ok_or(error),
            known => known,
        }
    }

    /// What a name in a directory leads to. The kernel asks for `.` and `..` when it was given a handle by number.
    pub(crate) async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr> {
        match name {
            b"." => self.inodes.attr(dir).await,
            b".." => self.inodes.attr(self.inodes.parent(dir).await?).await,
            name => self.inodes.lookup(&Credential::root(), dir, name).await,
        }
    }

    /// Calls `add` for the entries of a directory from `offset` on, until it says that there is no more room. Each
    /// comes with the offset behind it.
    pub(crate) async fn list(
        &self,
        dir: Ino,
        offset: u64,
        mut add: impl FnMut(&[u8], u64, &Attr) -> bool + Send,
    ) -> Result<()> {
        let inodes = &self.inodes;
        if offset < DOTS {
            let own = inodes.attr(dir).await?;
            let parent = match inodes.parent(dir).await {
                Ok(parent) => inodes.attr(parent).await,
                Err(error) => Err(error),
            };
            let parent = match parent {
                // The parent of a removed directory may be gone.
                Err(error) if error.errno().is_some() => own,
                parent => parent?,
            };
            let dots = [(b"." as &[u8], 1, own), (b"..", DOTS, parent)];
            let full = dots.iter().skip(offset as usize).any(|(name, next, attr)| add(name, *next, attr));
            if full {
                return Ok(());
            }
        }
        let mut after = Cookie(offset.saturating_sub(DOTS));
        loop {
            let listed = inodes.read_dir(dir, after, LISTED_AT_ONCE).await?;
            let Some((last, _)) = listed.last() else { return Ok(()) };
            after = last.cookie;
            for (listed, attr) in &listed {
                if add(listed.name.as_bytes(), listed.cookie.0.saturating_add(DOTS), attr) {
                    return Ok(());
                }
            }
        }
    }

    /// Makes something, or another name, and tells the kernel of it.
    pub(crate) async fn make(&self, caller: &Credential, op: &Op) -> Result<Attr> {
        let ino = match (self.inodes.run(caller, op, &[]).await?, op) {
            (Outcome::Made { ino }, _) => ino,
            (_, Op::Link { from: Target::Ino(ino), .. }) => *ino,
            _ => NONE,
        };
        let attr = self.inodes.attr(ino).await?;
        self.known.told(ino);
        Ok(attr)
    }

    /// Makes a file, or finds one, and opens it.
    pub(crate) async fn open(&self, caller: &Credential, op: &Op, to_write: bool) -> Result<Attr> {
        let Outcome::Opened { ino, .. } = self.inodes.open(caller, op).await? else {
            return self.inodes.attr(NONE).await;
        };
        self.opened(ino, to_write).await;
        match self.inodes.attr(ino).await {
            Ok(attr) => {
                self.known.told(ino);
                Ok(attr)
            }
            Err(error) => {
                self.release(ino, to_write).await;
                Err(error)
            }
        }
    }

    /// Takes a name away, by unlinking or by renaming something over it.
    pub(crate) async fn remove(&self, caller: &Credential, op: &Op, name: &At) -> Result<()> {
        let victim = match self.lookup(name.base, &name.path).await {
            Ok(victim) => Some(victim),
            // What is wrong with the name, the Op says.
            Err(error) if error.errno().is_some() => None,
            Err(error) => return Err(error),
        };
        self.inodes.run(caller, op, &[]).await?;
        if let Some(victim) = victim {
            self.lost_a_name(victim, name.base).await;
        }
        Ok(())
    }

    async fn lost_a_name(&self, last: Attr, dir: Ino) {
        match self.inodes.attr(last.ino).await {
            // It is open. The handle may be closed before this is done.
            Ok(attr) if attr.nlink == 0 => self.known.gone(attr),
            Err(error) if Self::is_gone(&error) => {
                let mut last = Attr { nlink: 0, ..last };
                // Both were changed by the same Op.
                if let Ok(dir) = self.inodes.attr(dir).await {
                    last.times.changed = dir.times.changed;
                }
                self.known.gone(last);
            }
            _ => {}
        }
    }

    /// A handle was opened, and its inode is held.
    pub(crate) async fn opened(&self, ino: Ino, to_write: bool) {
        self.known.opened(ino, to_write);
        // Whoever ended the mount may have closed all handles before.
        if self.has_ended() {
            self.release(ino, to_write).await;
        }
    }

    /// A handle was closed.
    pub(crate) async fn release(&self, ino: Ino, to_write: bool) {
        let last = self.inodes.attr(ino).await.ok().filter(|attr| attr.nlink == 0);
        if !self.known.closed(ino, to_write) {
            return;
        }
        self.inodes.let_go(ino);
        // It goes a little later where its pages are to be fetched first. Until then it is the inode that is asked.
        if let Some(last) = last {
            self.known.gone(last);
        }
    }

    /// Makes the kernel write out what it holds of a file, and waits for that. Not for a thread that answers requests,
    /// since the writes are requests.
    pub(crate) fn write_out(&self, ino: Ino) {
        if let Some(notifier) = self.notifier.get()
            // What is written out is forgotten: the kernel has no notice for the one without the other.
            && let Err(error) = notifier.inval_inode(INodeNo(ino.0), 0, 0)
        {
            tracing::debug!(%error, %ino, "what the kernel held of a file was not written out");
        }
    }

    /// Ends: nothing is open any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        // Letting go may have to fetch pages.
        let _inside = self.runtime.enter();
        for (ino, opens) in self.known.clear() {
            (0..opens).for_each(|_| self.inodes.let_go(ino));
        }
        // The thread may have ended before.
        let _ = self.invalidate.send(Invalidate::End);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// An error of POSIX alone is no failure; a volume that fails says so in all that is asked.
    pub(crate) fn is_gone(error: &rfs::Error) -> bool {
        error.errno() == Some(Errno::Stale)
    }
}
