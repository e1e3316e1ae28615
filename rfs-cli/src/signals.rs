//! Signals that would end the process without a commit.

use std::future::poll_fn;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::error::Failure;

/// All that end a process by default, can be caught, and do not come from its own mistakes. Real-time signals are not
/// among them.
const ENDING: [Signal; 13] = [
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::STKFLT,
    Signal::XCPU,
];

/// From when it is made, such signals do not end the process. Those that it was begun with as ignored stay ignored, as
/// by `nohup`, for what it runs too.
pub(crate) struct Signals {
    caught: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::during("listen to signals", &error);
        let listen = |signal: Signal| unix::signal(SignalKind::from_raw(signal.as_raw())).map_err(failed);
        let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
        let heeded = |signal: &Signal| ignored & bit(*signal) == 0;
        if heeded(&Signal::XFSZ) {
            // Whoever wrote too much gets an error as well, and that can be handled.
            drop(listen(Signal::XFSZ)?);
        }
        let caught = ENDING.into_iter().filter(heeded).map(|signal| Ok((signal, listen(signal)?)));
        Ok(Self { caught: caught.collect::<Result<_, Failure>>()? })
    }

    /// The next one. Of those that have come at the same time, an interrupt comes first.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.caught {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

const fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// What `/proc/PID/status` says, a bit for each signal.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_is_ignored() {
        let status =
            "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001003\nSigCgt:\t0000000000000000\n";
        assert_eq!(ignored(status), bit(Signal::HUP) | bit(Signal::INT) | bit(Signal::PIPE));
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
