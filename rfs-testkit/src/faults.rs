//! What goes wrong between a client and its store.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

/// Which calls of a store are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Puts of whole objects.
    Put,
    /// All of a multipart upload.
    Multipart,
    /// Gets and heads.
    Get,
    /// Lists.
    List,
    /// Deletes.
    Delete,
    /// Copies.
    Copy,
    /// Any call.
    Any,
}

/// What goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused without an effect, with an error after which one may try again.
    Refused,
    /// It is done, but the answer is lost: the caller sees a broken connection.
    LostReply,
    /// A put is done, and then answered by `AlreadyExists`: the client library tried twice and met its own object.
    AlreadyExists,
    /// A put is answered by a timeout, and done only when [`crate::SimStore::deliver_late_puts`] says so.
    Late,
    /// It takes this long.
    Delay(Duration),
}

/// A put that is stopped before its effect. Dropping it lets the put go.
#[derive(Debug)]
pub struct Hold {
    arrived: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Hold {
    /// Waits until the put has come.
    ///
    /// # Panics
    /// When the store is gone, so that no put can come.
    pub async fn arrived(&mut self) {
        (&mut self.arrived).await.expect("the store that holds the put is alive");
    }

    /// Lets the put go on.
    pub fn release(self) {
        // The put may have been given up meanwhile.
        _ = self.release.send(());
    }
}

#[derive(Debug)]
pub(crate) struct Held {
    arrived: oneshot::Sender<()>,
    release: oneshot::Receiver<()>,
}

impl Held {
    pub(crate) async fn wait(self) {
        // Nobody may be waiting for the arrival; a dropped hold is a released one.
        _ = self.arrived.send(());
        _ = self.release.await;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) offline: bool,
    pub(crate) delete_missing_fails: bool,
    injected: Vec<Injected>,
    holds: VecDeque<Held>,
}

#[derive(Debug)]
struct Injected {
    kind: CallKind,
    skip: u64,
    fault: Fault,
}

/// What a call has to wait for and to suffer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) hold: Option<Held>,
    pub(crate) fault: Option<Fault>,
    pub(crate) offline: bool,
}

impl Faults {
    pub(crate) fn inject(&mut self, kind: CallKind, skip: u64, fault: Fault) {
        self.injected.push(Injected { kind, skip, fault });
    }

    pub(crate) fn hold_next_put(&mut self) -> Hold {
        let (arrived_sender, arrived) = oneshot::channel();
        let (release, release_receiver) = oneshot::channel();
        self.holds.push_back(Held { arrived: arrived_sender, release: release_receiver });
        Hold { arrived, release }
    }

    /// Which fault this call meets. Each injected fault counts the calls of its kind for itself.
    pub(crate) fn meet(&mut self, kind: CallKind) -> Waiting {
        if self.offline {
            return Waiting { hold: None, fault: None, offline: true };
        }
        let mut due = None;
        for (index, injected) in self.injected.iter_mut().enumerate() {
            if injected.kind != kind && injected.kind != CallKind::Any {
                continue;
            }
            match injected.skip.checked_sub(1) {
                Some(skip) => injected.skip = skip,
                None => due = due.or(Some(index)),
            }
        }
        let fault = due.map(|index| self.injected.remove(index).fault);
        let hold = if kind == CallKind::Put { self.holds.pop_front() } else { None };
        Waiting { hold, fault, offline: false }
    }
}
