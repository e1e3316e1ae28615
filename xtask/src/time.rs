//! The one place of the tasks that reads the clock or sleeps: tasks wait for processes, which tell nobody
//! when they are ready.

use std::time::{Duration, Instant};

/// The time on the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "tasks measure real processes; nothing here is replayed")]
pub fn now() -> Instant {
    Instant::now()
}

/// How often [`poll`] looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Calls `look` until it answers with a value or an error, or until `limit` has passed: then `None`.
pub fn poll<T>(
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<Option<T>, String> {
    let start = now();
    loop {
        if let Some(value) = look()? {
            return Ok(Some(value));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a foreign process offers no event to wait for")]
fn pause() {
    std::thread::sleep(POLL_INTERVAL);
}
