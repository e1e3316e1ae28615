//! The one place of the tasks that reads the clock or sleeps: tasks wait for processes, which tell nobody
//! when they are ready.

use std::time::{Duration, Instant, SystemTime};

/// The time on the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "tasks measure real processes; nothing here is replayed")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time on the machine's clock.
#[expect(clippy::disallowed_methods, reason = "a server says when an object was written")]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
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
