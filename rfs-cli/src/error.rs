//! Failures as a person reads them, and as a script does.

use std::error::Error;
use std::fmt;
use std::io;

use rfs::{Errno, ErrorKind};

/// There is no such volume, state, object or path.
const NOT_FOUND: u8 = 3;
/// Something is not what was written.
pub(crate) const DAMAGED: u8 = 4;
/// What was asked for is not well said, as `clap` has it.
const USAGE: u8 = 2;

/// Why a command failed: one line, each cause after the other, and what to do where that is known.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Empty when there is nobody to tell.
    text: String,
    /// The exit code, if it is not the usual one.
    pub(crate) code: Option<u8>,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(text).with_code(USAGE)
    }

    /// What was being done, and the error with all its causes.
    pub(crate) fn during(doing: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let mut text = doing.to_string();
        // Most errors say themselves what was being done.
        if error.to_string().contains(&text) {
            text = error.to_string();
        }
        let mut next = Some(error);
        while let Some(error) = next {
            let line = error.to_string();
            // Some errors already say their causes.
            if !text.contains(&line) {
                text += ": ";
                text += &line;
            }
            next = error.source();
        }
        Self::new(text)
    }

    /// As [`Failure::during`], with the exit code that tells the kind of the error.
    pub(crate) fn of(doing: impl fmt::Display, error: &rfs::Error) -> Self {
        let failure = Self::during(doing, error);
        match error.kind() {
            ErrorKind::NoVolume
            | ErrorKind::NoBucket
            | ErrorKind::NoSuchState
            | ErrorKind::Posix(Errno::NotFound) => failure.with_code(NOT_FOUND),
            ErrorKind::Damaged => failure.with_code(DAMAGED),
            ErrorKind::Invalid => failure.with_code(USAGE),
            _ => failure,
        }
    }

    /// The answer could not be written. Who closed the pipe has had enough: that is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new("").with_code(0);
        }
        Self::during("write the answer", error)
    }

    pub(crate) const fn with_code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }

    /// What can be done about it.
    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        if !advice.is_empty() {
            self.text = format!("{} ({advice})", self.text);
        }
        self
    }

    pub(crate) const fn not_found(self) -> Self {
        self.with_code(NOT_FOUND)
    }

    pub(crate) const fn is_silent(&self) -> bool {
        self.text.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
