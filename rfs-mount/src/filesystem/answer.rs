//! What many answers have in common.

use std::future::Future;
use std::sync::Arc;

use fuser::{Errno, FileHandle, FopenFlags, OpenFlags, ReplyEmpty, ReplyEntry, ReplyOpen};
use rfs::model::At;
use rfs::{Credential, Ino, Level, Op};

use super::{Filesystem, access};
use crate::reply::{Refuse, entry};
use crate::served::Served;

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

    pub(super) fn make(&self, reply: ReplyEntry, caller: Credential, op: Op) {
        self.answer(reply, |served| async move { served.make(&caller, &op).await }, entry);
    }

    pub(super) fn remove(&self, reply: ReplyEmpty, caller: Credential, op: Op, name: At) {
        let work = |served: Arc<Served>| async move { served.remove(&caller, &op, &name).await };
        self.answer(reply, work, |reply, ()| reply.ok());
    }

    pub(super) fn release(&self, reply: ReplyEmpty, ino: Ino, to_write: bool) {
        let work = move |served: Arc<Served>| async move {
            served.release(ino, to_write).await;
            Ok(())
        };
        self.answer(reply, work, |reply, ()| reply.ok());
    }

    pub(super) fn sync(&self, reply: ReplyEmpty) {
        if self.served.inodes.level() == Level::Memory {
            // There is nothing to wait for, and so the kernel does not ask again.
            return reply.error(Errno::ENOSYS);
        }
        self.answer(reply, |served| async move { served.inodes.sync().await }, |reply, ()| reply.ok());
    }

    pub(super) fn open_inode(&self, reply: ReplyOpen, ino: Ino, how: OpenFlags, flags: FopenFlags) {
        let to_write = access(how).write;
        let work = move |served: Arc<Served>| async move {
            match served.inodes.hold(ino).await {
                Ok(()) => {
                    served.opened(ino, to_write).await;
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
