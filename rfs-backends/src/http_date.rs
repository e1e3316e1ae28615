//! Times as HTTP writes them.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The seconds since 1970 UTC of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7); of nothing else, nor of
/// a time before 1970. Which day of the week it was is not looked at.
pub(crate) fn seconds_since_1970(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let (day_name, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let mut next = || parts.next();
    let (day, month, year, time, zone) = (next()?, next()?, next()?, next()?, next()?);
    if next().is_some() || zone != "GMT" || !DAYS.contains(&day_name) {
        return None;
    }
    let mut time = time.split(':');
    let mut two_digits = || digits(time.next()?, 2);
    let (hour, minute, second) = (two_digits()?, two_digits()?, two_digits()?);
    if time.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (day, year) = (digits(day, 2)?, digits(year, 4)?);
    let month = MONTHS.iter().position(|name| *name == month)?;
    let days = days_before(year, month)?.checked_add(day.checked_sub(1)?)?;
    // A day that its month does not have is in the next one.
    if days >= days_before(year, month + 1)? {
        return None;
    }
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn digits(text: &str, length: usize) -> Option<u64> {
    let plain = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days from 1970 on before a month, counted from 0; 12 is the next January.
fn days_before(year: u64, month: usize) -> Option<u64> {
    const BEFORE: [u64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let leap_years = |before: u64| before / 4 - before / 100 + before / 400;
    let before = year.checked_sub(1)?;
    let is_leap = leap_years(year) > leap_years(before);
    let whole = year.checked_sub(1970)? * 365 + leap_years(before) - leap_years(1969);
    Some(whole + BEFORE.get(month)? + u64::from(is_leap && month > 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Mon, 31 Dec 2001 23:59:60 GMT", 1_009_843_200),
            ("Sun, 28 Feb 2100 12:00:00 GMT", 4_107_499_200),
            (" Fri, 31 Dec 9999 23:59:59 GMT ", 253_402_300_799),
        ] {
            assert_eq!(seconds_since_1970(text.as_bytes()), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_time_is_refused() {
        for text in [
            "",
            "7",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 2100 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds_since_1970(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(seconds_since_1970(b"Sun, 06 Nov 1994 08:49:37 \xff"), None);
    }
}
