//! Failures as a person reads them.

use std::error::Error;
use std::fmt;

/// Why a command failed: one line, each cause after the other, and what to do where that is known.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    /// The exit code, if it is not the usual one.
    pub(crate) code: Option<u8>,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }

    /// What was being done, and the error with all its causes.
    pub(crate) fn during(doing: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let mut text = doing.to_string();
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

    pub(crate) const fn with_code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
