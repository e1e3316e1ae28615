//! What the threads that answer the kernel share.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use rfs::model::At;
use rfs::{Attr, Credential, Errno, ErrorKind, Ino, Inodes, Op, Outcome, Result, Target};
use tokio::sync::{mpsc, oneshot};

use crate::attributes;
use crate::known::Known;

/// There is no such inode: it stands for outcomes that the Ops in question do not have.
const NONE: Ino = Ino(0);

/// A volume while it is mounted.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) inodes: Inodes,
    pub(crate) known: Known,
    pub(crate) writeback: bool,
    pub(crate) server: Option<u32>,
    /// There once the mount is.
    pub(crate) notifier: OnceLock<Notifier>,
    pub(crate) invalidate: mpsc::UnboundedSender<Invalidate>,
    runtime: tokio::runtime::Handle,
    failure: Mutex<Option<rfs::Error>>,
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
        writeback: bool,
        server: Option<u32>,
        invalidate: mpsc::UnboundedSender<Invalidate>,
    ) -> Self {
        Self {
            inodes,
            known: Known::default(),
            writeback,
            server,
            notifier: OnceLock::new(),
            invalidate,
            runtime,
            failure: Mutex::new(None),
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
    pub(crate) fn attr(&self, ino: Ino) -> Result<Attr> {
        self.inodes.attr(ino).or_else(|error| self.known.ghost(ino).ok_or(error))
    }

    /// What a name in a directory leads to. The kernel asks for `.` and `..` when it was given a handle by number.
    pub(crate) fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr> {
        match name {
            b"." => self.inodes.attr(dir),
            b".." => self.inodes.attr(self.inodes.parent(dir)?),
            name => self.inodes.lookup(&Credential::root(), dir, name),
        }
    }

    /// Makes something, or another name, and tells the kernel of it.
    pub(crate) async fn make(&self, caller: &Credential, op: &Op) -> Result<Attr> {
        let ino = match (self.inodes.run(caller, op, &[]).await?, op) {
            (Outcome::Made { ino }, _) => ino,
            (_, Op::Link { from: Target::Ino(ino), .. }) => *ino,
            _ => NONE,
        };
        let attr = self.inodes.attr(ino)?;
        self.known.told(ino);
        Ok(attr)
    }

    /// Makes a file, or finds one, and opens it.
    pub(crate) async fn open(&self, caller: &Credential, op: &Op, to_write: bool) -> Result<Attr> {
        let Outcome::Opened { ino, .. } = self.inodes.open(caller, op).await? else {
            return self.inodes.attr(NONE);
        };
        self.known.opened(ino, to_write);
        let attr = self.inodes.attr(ino).inspect_err(|_| self.release(ino, to_write))?;
        self.known.told(ino);
        Ok(attr)
    }

    /// Takes a name away, by unlinking or by renaming something over it.
    pub(crate) async fn remove(&self, caller: &Credential, op: &Op, name: &At) -> Result<()> {
        let victim = self.lookup(name.base, &name.path).ok();
        self.inodes.run(caller, op, &[]).await?;
        if let Some(victim) = victim {
            self.lost_a_name(victim, name.base);
        }
        Ok(())
    }

    fn lost_a_name(&self, last: Attr, dir: Ino) {
        if self.inodes.attr(last.ino).is_err() {
            let mut last = Attr { nlink: 0, ..last };
            // Both were changed by the same Op.
            if let Ok(dir) = self.inodes.attr(dir) {
                last.times.changed = dir.times.changed;
            }
            self.known.gone(last);
        }
    }

    /// A handle was closed.
    pub(crate) fn release(&self, ino: Ino, to_write: bool) {
        let last = self.inodes.attr(ino).ok().filter(|attr| attr.nlink == 0);
        if !self.known.closed(ino, to_write) {
            return;
        }
        self.inodes.let_go(ino);
        if let Some(last) = last
            && self.inodes.attr(ino).is_err()
        {
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
        for (ino, opens) in self.known.clear() {
            (0..opens).for_each(|_| self.inodes.let_go(ino));
        }
        // The thread may have ended before.
        let _ = self.invalidate.send(Invalidate::End);
    }

    /// An error of POSIX alone is no failure; a volume that fails says so in all that is asked.
    pub(crate) fn is_gone(error: &rfs::Error) -> bool {
        error.errno() == Some(Errno::Stale)
    }
}
