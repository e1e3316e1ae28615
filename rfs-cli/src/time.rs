//! Points in time as people write them: RFC 3339.

use std::fmt;

use rfs::Timestamp;

const DAY: i64 = 86_400;

/// A time as `2026-11-21T18:50:03Z`, with the fraction of the second if it is asked for by `{:#}`.
pub(crate) struct Rfc3339(pub(crate) Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.0.to_parts();
        let (year, month, day) = date_of(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if f.alternate() {
            write!(f, ".{nanos:09}")?;
        }
        f.write_str("Z")
    }
}

/// The time that a text names: `2026-11-21T18:50:03Z`, `2026-11-21T18:50:03.5+01:00`.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.find(|letter: char| !letter.is_ascii_digit())?;
            let (digits, zone) = fraction.split_at(digits);
            (format!("{digits:0<9}").get(..9)?.parse().ok()?, zone)
        }
        None => (0, rest),
    };
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
            let offset = (hours * 60 + minutes) * 60;
            match zone.as_bytes().first()? {
                b'+' if hours < 24 && minutes < 60 => offset,
                b'-' if hours < 24 && minutes < 60 => -offset,
                _ => return None,
            }
        }
    };
    // A leap second is the second after.
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let days = days_to(year, month, day);
    if !in_range || date_of(days) != (year, month, day) {
        return None;
    }
    let seconds = days * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp::from_parts(seconds, nanos))
}

/// Numbers of so many digits each, with a separator in between.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut fields = text.split(separator);
    let mut found = [0; N];
    for (found, digits) in found.iter_mut().zip(digits) {
        let field = fields.next()?;
        if field.len() != digits || !field.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *found = field.parse().ok()?;
    }
    fields.next().is_none().then_some(found)
}

// Years that begin in March have their leap day at their end, so that months have the same place in each.

fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (day * 5 + 2) / 153;
    let date = day - (month * 153 + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, date)
}

#[cfg(test)]
mod tests {
    use rfs::Timestamp;

    use super::{Rfc3339, date_of, days_to, parse};

    #[test]
    fn times_come_back() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T23:59:59.999999999Z", 951_868_799, 999_999_999),
            ("2026-11-21T18:50:03.25Z", 1_795_287_003, 250_000_000),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
        ] {
            let time = Timestamp::from_parts(seconds, nanos);
            assert_eq!(parse(text), Some(time), "{text}");
            assert_eq!(parse(&format!("{:#}", Rfc3339(time))), Some(time), "{text}");
        }
        assert_eq!(parse("2026-11-21T19:50:03+01:00"), parse("2026-11-21 18:50:03z"));
        for day in (-200_000..200_000).step_by(13) {
            let (year, month, date) = date_of(day);
            assert_eq!(days_to(year, month, date), day);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T18:50",
            "2026-11-21T18:50:03",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T18:50:03.Z5",
            "2026-11-21T18:50:03+0100",
            "2026-11-21T18:50:03*01:00",
            "2026-11-21T18:50:03Zé",
            "+026-11-21T18:50:03Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
