//! Runs of values of one type as bytes, and the few encodings that they are made of.

/// Most bytes of a number.
pub(super) const NUMBER_MAX: usize = 10;

/// A type of which many values are encoded at once: column by column where it has several fields.
pub trait Column: Clone {
    /// Most bytes that one value takes.
    const MAX: usize;

    /// Adds the values to `out`.
    fn encode(values: &[Self], out: &mut Vec<u8>);

    /// Takes `count` values off the input; `None` when they are not there, or one of them cannot be.
    fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<Self>>;
}

/// What is left to decode of a page's body. Nothing that it gives is longer than what is left, or than its caller
/// allows.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

/// One number, in 7 bits a byte, the lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// One number by how it differs from the one expected: `0, -1, 1, -2, ...` become `0, 1, 2, 3, ...`. It wraps.
pub(super) fn put_delta(out: &mut Vec<u8>, expected: u64, number: u64) {
    let delta = number.wrapping_sub(expected).cast_signed();
    put_number(out, ((delta << 1) ^ (delta >> 63)).cast_unsigned());
}

/// Numbers that have nothing to do with each other.
pub(super) fn put_numbers(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        put_number(out, number);
    }
}

/// Numbers, each expected to be the one before.
pub(super) fn put_deltas(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    let mut before = 0;
    for number in numbers {
        put_delta(out, before, number);
        before = number;
    }
}

/// Numbers, each beside the one that is expected of it.
pub(super) fn put_pairs(out: &mut Vec<u8>, pairs: impl Iterator<Item = (u64, u64)>) {
    for (expected, number) in pairs {
        put_delta(out, expected, number);
    }
}

/// Runs of bytes by what each shares with the start of the one before: the lengths of those, of the rests, the rests.
pub(super) fn put_runs<'a>(out: &mut Vec<u8>, runs: impl Iterator<Item = &'a [u8]> + Clone) {
    let with_shared = runs.scan(&[][..], |before: &mut &[u8], run| {
        let shared = before.iter().zip(run).take_while(|(left, right)| left == right).count();
        *before = run;
        Some((shared, run))
    });
    put_numbers(out, with_shared.clone().map(|(shared, _)| shared as u64));
    put_numbers(out, with_shared.clone().map(|(shared, run)| (run.len() - shared) as u64));
    for (shared, run) in with_shared {
        out.extend_from_slice(&run[shared..]);
    }
}

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            [_] => None,
        }
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..).step_by(7).take(NUMBER_MAX) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn delta(&mut self, expected: u64) -> Option<u64> {
        let folded = self.number()?;
        let delta = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
        Some(expected.wrapping_add_signed(delta))
    }

    pub(super) fn numbers(&mut self, count: usize) -> Option<Vec<u64>> {
        (0..count).map(|_| self.number()).collect()
    }

    /// Numbers that have to fit into 32 bits.
    pub(super) fn small_numbers(&mut self, count: usize) -> Option<Vec<u32>> {
        (0..count).map(|_| u32::try_from(self.number()?).ok()).collect()
    }

    pub(super) fn deltas(&mut self, count: usize) -> Option<Vec<u64>> {
        let mut before = 0;
        (0..count)
            .map(|_| {
                before = self.delta(before)?;
                Some(before)
            })
            .collect()
    }

    /// As many numbers as are expected.
    pub(super) fn near(&mut self, expected: impl Iterator<Item = u64>) -> Option<Vec<u64>> {
        expected.map(|expected| self.delta(expected)).collect()
    }

    /// Runs of at most `max` bytes each, made into what they stand for.
    pub(super) fn runs<T>(
        &mut self,
        count: usize,
        max: usize,
        make: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<Vec<T>> {
        let shared = self.numbers(count)?;
        let rests = self.numbers(count)?;
        let mut run: Vec<u8> = Vec::new();
        let mut made = Vec::with_capacity(count);
        for (shared, rest) in shared.into_iter().zip(rests) {
            let (shared, rest) = (usize::try_from(shared).ok()?, usize::try_from(rest).ok()?);
            if shared > run.len() || shared.checked_add(rest)? > max {
                return None;
            }
            run.truncate(shared);
            run.extend_from_slice(self.bytes(rest)?);
            made.push(make(&run)?);
        }
        Some(made)
    }
}
