//! What many answers have in common.

use std::future::Future;
use std::sync::Arc;

use fuser::{FileHandle, FopenFlags, OpenFlags, ReplyEmpty, ReplyEntry, ReplyOpen};
use rfs::model::At;
use rfs::{Attr, Cookie, Credential, Ino, Op};

use super::{Filesystem, access};
use crate::reply::{Refuse, entry};
use crate::served::Served;

/// Cookies of a directory follow `.` and `..`.
const DOTS: u64 = 2;
const LISTED_AT_ONCE: usize = 128;

impl Filesystem {
    /// Does some work and answers with what comes of it.
    pub(super) fn answer<R: Refuse, T, W: Future<Output = rfs::Result<T>> + Send + 'static>(
        &self,
        reply: R,
        work: impl FnOnce(Arc<Served>) -> W,
        accept: impl FnOnce(R, T) + Send + 'static,
    ) {
        let served = Arc::clone(&self.served);
        let work = work(Arc::clone(&served));
        self.served.serve(async move {
            match work.await {
                Ok(done) => accept(reply, done),
                Err(error) => reply.refuse(served.errno(&error)),
            }
        });
    }

    /// The same for what is known at once.
    pub(super) fn answer_now<R: Refuse, T>(&self, reply: R, done: rfs::Result<T>, accept: impl FnOnce(R, T)) {
        match done {
            Ok(done) => accept(reply, done),
            Err(error) => reply.refuse(self.served.errno(&error)),
        }
    }

    pub(super) fn make(&self, reply: ReplyEntry, caller: Credential, op: Op) {
        self.answer(reply, |served| async move { served.make(&caller, &op).await }, entry);
    }

    pub(super) fn remove(&self, reply: ReplyEmpty, caller: Credential, op: Op, name: At) {
        let work = |served: Arc<Served>| async move { served.remove(&caller, &op, &name).await };
        self.answer(reply, work, |reply, ()| reply.ok());
    }

    pub(super) fn sync(&self, reply: ReplyEmpty) {
        self.answer(reply, |served| async move { served.inodes.sync().await }, |reply, ()| reply.ok());
    }

    /// Calls `add` for the entries of a directory from `offset` on, until it says that there is no more room. Each
    /// comes with the offset behind it.
    pub(super) fn list(
        &self,
        dir: Ino,
        offset: u64,
        mut add: impl FnMut(&[u8], u64, &Attr) -> bool,
    ) -> rfs::Result<()> {
        let inodes = &self.served.inodes;
        if offset < DOTS {
            let own = inodes.attr(dir)?;
            // The parent of a removed directory may be gone.
            let parent = inodes.parent(dir).and_then(|parent| inodes.attr(parent)).unwrap_or(own);
            let dots = [(b"." as &[u8], 1, own), (b"..", DOTS, parent)];
            let full = dots.iter().skip(offset as usize).any(|(name, next, attr)| add(name, *next, attr));
            if full {
                return Ok(());
            }
        }
        let mut after = Cookie(offset.saturating_sub(DOTS));
        loop {
            let listed = inodes.read_dir(dir, after, LISTED_AT_ONCE)?;
            let Some((last, _)) = listed.last() else { return Ok(()) };
            after = last.cookie;
            for (listed, attr) in &listed {
                if add(listed.name.as_bytes(), listed.cookie.0.saturating_add(DOTS), attr) {
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn open_inode(&self, reply: ReplyOpen, ino: Ino, how: OpenFlags, flags: FopenFlags) {
        let to_write = access(how).write;
        let work = move |served: Arc<Served>| async move {
            match served.inodes.hold(ino) {
                Ok(()) => {
                    served.known.opened(ino, to_write);
                    Ok(())
                }
                // A directory that was removed can still be opened by who is in it, though nothing is in it.
                // Of a file that was just replaced, the kernel has to look the name up again.
                Err(error) if Served::is_gone(&error) && served.known.is_removed_dir(ino) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.answer(reply, work, move |reply, ()| reply.opened(FileHandle(0), flags));
    }

    /// The kernel keeps the content of files over opens, since it is told what changes. It need not ask us at each
    /// close, unless it then has something to write.
    pub(super) fn kept(&self) -> FopenFlags {
        let flags = FopenFlags::FOPEN_KEEP_CACHE;
        if self.served.writeback { flags } else { flags | FopenFlags::FOPEN_NOFLUSH }
    }
}
