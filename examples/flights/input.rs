//! The input: the flights of 2013, one a line, in the order of the file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use flate2::read::GzDecoder;

use crate::Result;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights.csv.gz");
/// No line of the input is longer.
const LINE_MAX: u64 = 1024;

/// One flight.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    /// The whole line, with its end.
    pub(crate) line: &'a str,
    pub(crate) month: u8,
    pub(crate) carrier: &'a str,
    pub(crate) destination: &'a str,
    /// Minutes late at departure; `None` if it never left.
    pub(crate) delay: Option<i64>,
}

/// A stream of flights.
pub(crate) struct Flights {
    lines: BufReader<GzDecoder<File>>,
    line: String,
    /// Lines read, the header not counted.
    read: u64,
}

/// How many flights there are, `limit` at most.
pub(crate) fn count(limit: u64) -> Result<u64> {
    let mut flights = Flights::open()?;
    while flights.read < limit && flights.advance()? {}
    Ok(flights.read)
}

impl Flights {
    /// The stream from its start.
    pub(crate) fn open() -> Result<Self> {
        let file = File::open(PATH).map_err(|error| format!("open {PATH}: {error}"))?;
        let lines = BufReader::with_capacity(1 << 18, GzDecoder::new(file));
        let mut flights = Self { lines, line: String::new(), read: 0 };
        flights.advance()?;
        if !flights.line.starts_with("month,day,dep_time,dep_delay,") {
            return Err(format!("{PATH} starts with {:?}, not with the columns", flights.line).into());
        }
        flights.read = 0;
        Ok(flights)
    }

    /// Passes over `count` flights.
    pub(crate) fn skip(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            if !self.advance()? {
                return Err(format!("{PATH} ends before flight {count}, which was reached before").into());
            }
        }
        Ok(())
    }

    /// The next flight.
    pub(crate) fn next(&mut self) -> Result<Option<Flight<'_>>> {
        if !self.advance()? {
            return Ok(None);
        }
        let flight = parse(&self.line);
        flight.map(Some).ok_or_else(|| {
            format!("{PATH}: flight {} cannot be read: {:?}", self.read, self.line.trim_end()).into()
        })
    }

    fn advance(&mut self) -> Result<bool> {
        self.line.clear();
        let mut bounded = self.lines.by_ref().take(LINE_MAX);
        let len = bounded.read_line(&mut self.line).map_err(|error| format!("read {PATH}: {error}"))?;
        self.read += u64::from(len > 0);
        Ok(len > 0)
    }
}

/// month, day, dep_time, dep_delay, arr_time, arr_delay, carrier, flight, tailnum, origin, dest, ...
fn parse(line: &str) -> Option<Flight<'_>> {
    let mut fields = line.strip_suffix('\n')?.split(',');
    let month = fields.next()?.parse().ok().filter(|month| (1..=12).contains(month))?;
    let delay = match fields.nth(2)? {
        "NA" => None,
        minutes => Some(minutes.parse().ok()?),
    };
    let (carrier, destination) = (fields.nth(2)?, fields.nth(3)?);
    let is_code = |code: &str| {
        (2..=3).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    (is_code(carrier) && is_code(destination)).then_some(Flight { line, month, carrier, destination, delay })
}
