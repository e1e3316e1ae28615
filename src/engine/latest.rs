//! A value whose changes tasks wait for.
//!
//! As `tokio::sync::watch`, except that those who wait are woken in the order in which they began to: a watch channel
//! wakes its receivers at random, and one seed of a simulation would not be one run.

use std::pin::pin;

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Latest<T> {
    value: RwLock<Versioned<T>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Versioned<T> {
    value: T,
    /// How often it was changed.
    version: u64,
}

impl<T> Latest<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: RwLock::new(Versioned { value, version: 0 }), changed: Notify::new() }
    }

    /// The value as it is; nobody changes it for as long as what is returned lives.
    pub(crate) fn borrow(&self) -> MappedRwLockReadGuard<'_, T> {
        RwLockReadGuard::map(self.value.read(), |versioned| &versioned.value)
    }

    /// Changes the value, and wakes all who wait.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        self.change_if(|value| {
            change(value);
            true
        });
    }

    /// Changes the value, and wakes all who wait if the closure says so.
    pub(crate) fn change_if(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut versioned = self.value.write();
        if change(&mut versioned.value) {
            versioned.version += 1;
            drop(versioned);
            self.changed.notify_waiters();
        }
    }

    /// A view by which to wait for changes; it has seen none of them yet, and the value as it is.
    pub(crate) fn view(&self) -> View<'_, T> {
        View { latest: self, seen: self.value.read().version }
    }
}

/// What one who waits has seen of a value.
#[derive(Debug)]
pub(crate) struct View<'a, T> {
    latest: &'a Latest<T>,
    seen: u64,
}

impl<T> View<'_, T> {
    /// The value as it is, which counts as seen.
    pub(crate) fn look(&mut self) -> MappedRwLockReadGuard<'_, T> {
        let versioned = self.latest.value.read();
        self.seen = versioned.version;
        RwLockReadGuard::map(versioned, |versioned| &versioned.value)
    }

    /// Waits until the value was changed since it was seen.
    pub(crate) async fn changed(&mut self) {
        loop {
            let mut changed = pin!(self.latest.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let version = self.latest.value.read().version;
            if version != self.seen {
                self.seen = version;
                return;
            }
            changed.await;
        }
    }

    /// Waits until the value is as it should be.
    pub(crate) async fn until(&mut self, is_so: impl Fn(&T) -> bool) {
        while !is_so(&self.look()) {
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_order() {
        for _ in 0..20 {
            let (latest, woken) = (Arc::new(Latest::new(0)), Arc::new(parking_lot::Mutex::new(Vec::new())));
            let wait = |number: usize| {
                let (latest, woken) = (Arc::clone(&latest), Arc::clone(&woken));
                async move {
                    latest.view().until(|value| *value == 2).await;
                    woken.lock().push(number);
                }
            };
            let waiting: Vec<_> = (0..50).map(|number| tokio::spawn(wait(number))).collect();
            tokio::task::yield_now().await;
            latest.change(|value| *value = 1);
            tokio::task::yield_now().await;
            assert!(woken.lock().is_empty());
            latest.change(|value| *value = 2);
            for task in waiting {
                task.await.expect("it does not panic");
            }
            assert!(woken.lock().iter().copied().eq(0..50));
        }
    }

    #[tokio::test]
    async fn what_changed_before_the_wait_is_not_waited_for() {
        let latest = Latest::new(0);
        let mut view = latest.view();
        latest.change(|value| *value = 1);
        view.changed().await;
        assert_eq!(*view.look(), 1);
        latest.change_if(|value| {
            *value = 2;
            false
        });
        assert!(futures::poll!(pin!(view.changed())).is_pending(), "nobody was to be woken");
        assert_eq!(*latest.borrow(), 2);
    }
}
