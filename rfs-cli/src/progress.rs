//! How far a command is, for somebody who waits at a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Nobody is told of what takes less.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(100);

/// A line on the standard error output that changes, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When to show the next one; none when nobody looks.
    next: Option<Mutex<Instant>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { next: stderr().is_terminal().then(|| Mutex::new(now() + PATIENCE)) }
    }

    /// Shows a line, unless one was shown just now.
    pub(crate) fn show(&self, line: impl FnOnce() -> String) {
        let Some(next) = &self.next else { return };
        let Ok(mut next) = next.lock() else { return };
        let now = now();
        if now >= *next {
            *next = now + BETWEEN;
            // Nothing is lost where it cannot be shown.
            let _ = write!(stderr(), "\r\x1b[K{}", line());
        }
    }
}

/// Takes the line away.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a person at a terminal has a clock of their own")]
fn now() -> Instant {
    Instant::now()
}
