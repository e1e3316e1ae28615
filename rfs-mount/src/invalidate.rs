//! Tells the kernel what changed behind its back.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{INodeNo, Notifier};
use futures::FutureExt;
use rfs::{Changed, Cookie, Ino, Kind, Watch};
use tokio::sync::mpsc;

use crate::served::{Invalidate, Served};

/// At a time, so many entries of a directory are invalidated.
const ENTRIES: usize = 1024;

/// Runs until it is told to end. It needs a thread of its own: an invalidation waits for requests that are under way, so
/// whoever answers requests must never wait for an invalidation.
pub(crate) async fn run(
    served: Arc<Served>,
    mut watch: Watch,
    notifier: Notifier,
    mut asked: mpsc::UnboundedReceiver<Invalidate>,
) {
    let mut watching = true;
    loop {
        tokio::select! {
            biased;
            request = asked.recv() => match request {
                None | Some(Invalidate::End) => return,
                Some(Invalidate::Content(ino)) => logged(notifier.inval_inode(INodeNo(ino.0), 0, 0)),
                Some(Invalidate::Told(done)) => {
                    while let Some(Some(changed)) = watch.next().now_or_never() {
                        tell(&served, &notifier, &changed).await;
                    }
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
            },
            changed = watch.next(), if watching => match changed {
                Some(changed) => tell(&served, &notifier, &changed).await,
                None => {
                    watching = false;
                    // It was closed, or it failed: what is asked next says why.
                    if let Err(error) = served.inodes.attr(Ino::ROOT).await {
                        served.note(&error);
                    }
                }
            },
        }
    }
}

async fn tell(served: &Served, notifier: &Notifier, changed: &Changed) {
    match changed {
        // A negative offset leaves the content alone.
        Changed::Attributes(ino) => logged(notifier.inval_inode(INodeNo(ino.0), -1, 0)),
        Changed::Content(ino) => logged(notifier.inval_inode(INodeNo(ino.0), 0, 0)),
        Changed::Entry { dir, name } => entry(notifier, *dir, name.as_bytes()),
        _ => everything(served, notifier).await,
    }
}

/// Names that are gone need not be told: their inodes are invalidated, and the kernel asks for the name again when it
/// hears that an inode is gone.
async fn everything(served: &Served, notifier: &Notifier) {
    for ino in served.known.all().into_iter().chain([Ino::ROOT]) {
        // Fetching takes time, and who unmounts waits for it.
        if served.has_ended() {
            return;
        }
        logged(notifier.inval_inode(INodeNo(ino.0), 0, 0));
        if let Err(error) = names(served, notifier, ino).await {
            // Of one that is gone there is nothing to tell; where the store fails, whoever mounted is to know.
            served.note(&error);
        }
    }
}

/// Tells of all names in a directory.
async fn names(served: &Served, notifier: &Notifier, ino: Ino) -> rfs::Result<()> {
    if served.inodes.attr(ino).await?.kind != Kind::Directory {
        return Ok(());
    }
    let mut after = Cookie(0);
    while !served.has_ended() {
        let listed = served.inodes.read_dir(ino, after, ENTRIES).await?;
        let Some((last, _)) = listed.last() else { break };
        after = last.cookie;
        for (listed, _) in &listed {
            entry(notifier, ino, listed.name.as_bytes());
        }
    }
    Ok(())
}

fn entry(notifier: &Notifier, dir: Ino, name: &[u8]) {
    logged(notifier.inval_entry(INodeNo(dir.0), OsStr::from_bytes(name)));
}

/// What the kernel does not know it need not be told, and one that is unmounted knows nothing.
fn logged(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the kernel was not told of a change");
    }
}
