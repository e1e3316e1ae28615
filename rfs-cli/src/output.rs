//! What commands print: lines and tables for people, JSON for programs.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::error::Failure;

/// How a command answers.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Format {
    /// Answer with JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The standard output.
pub(crate) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(|error| Failure::output(&error))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// One JSON document, and the end.
    pub(crate) fn json(mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.0, value).map_err(|error| Failure::output(&error.into()))?;
        self.line("")?;
        self.end()
    }

    /// One JSON document on a line of its own.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.0, value).map_err(|error| Failure::output(&error.into()))?;
        self.line("")
    }

    /// Everything is out.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| Failure::output(&error))
    }
}

/// Where a cell of a table stands in its column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Align; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [(&str, Align); N]) -> Self {
        let mut table = Self::headless(columns.map(|(_, align)| align));
        table.rows.push(columns.map(|(head, _)| head.to_owned()));
        table
    }

    pub(crate) const fn headless(columns: [Align; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// How many rows it has.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    pub(crate) fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(widths).zip(self.columns) {
                let pad = " ".repeat(width - cell.chars().count());
                let (before, after) = match align {
                    Align::Left => ("", pad.as_str()),
                    Align::Right => (pad.as_str(), ""),
                };
                line.extend([before, cell, after, "  "]);
            }
            out.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// A name, which may be any bytes, so that it does nothing to a terminal: what cannot be printed is `\xNN`, and a
/// backslash is doubled.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\\' => f.write_str("\\\\")?,
                    letter if letter.is_control() => {
                        let mut bytes = [0; 4];
                        for byte in letter.encode_utf8(&mut bytes).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    letter => write!(f, "{letter}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// So many of something, as people say it.
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, one, many) = self;
        write!(f, "{count} {}", if *count == 1 { one } else { many })
    }
}

/// How many files and directories.
pub(crate) fn entries(files: u64, directories: u64) -> String {
    let (files, dirs) = (Count(files, "file", "files"), Count(directories, "directory", "directories"));
    format!("{files} and {dirs}")
}

/// A size as people say it.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 0;
        let mut tenths = u128::from(self.0) * 10;
        while tenths >= 10_240 {
            tenths = tenths.div_ceil(1024);
            unit += 1;
        }
        let unit = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit];
        if tenths < 100 && unit != "B" {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        } else {
            write!(f, "{} {unit}", tenths.div_ceil(10))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Shown, Size};

    #[test]
    fn names_do_nothing_to_a_terminal() {
        assert_eq!(Shown(b"a\\b\n\x1b[2J\xffe\xcc\x81").to_string(), "a\\\\b\\x0a\\x1b[2J\\xffe\u{301}");
    }

    #[test]
    fn sizes_have_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 << 10, "10 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
