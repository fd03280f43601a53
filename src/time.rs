//! Time in the core: milliseconds of a clock that the caller reads.
//!
//! The core has no clock. The driver of a state machine reads a monotonic clock once per
//! turn and passes the [`Instant`] in; a simulator makes it up.

use core::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A point on a monotonic clock, in milliseconds since an origin that the
/// caller chooses (the daemon: boot, from `CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

impl Instant {
    /// The instant `millis` milliseconds after the clock's origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the clock's origin.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }

    /// The earliest of these deadlines, if there is one.
    #[must_use]
    pub fn earliest<const N: usize>(deadlines: [Option<Self>; N]) -> Option<Self> {
        // For each datagram, and smaller than what the iterators of std make of it.
        let mut first = None;
        for deadline in &deadlines {
            first = match (first, *deadline) {
                (Some(one), Some(other)) => Some(if other < one { other } else { one }),
                (one, other) => one.or(other),
            };
        }
        first
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A span of `secs` seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// The span in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The span in whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// `factor` times as long; saturates.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// Shows a span of time in the two largest units that it has: `1 h 5 min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// A span of `ms` milliseconds.
    #[must_use]
    pub const fn of_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl core::fmt::Display for Span {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let seconds = self.0.as_millis() / 1000;
        match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, minutes) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

/// A day in UTC, counted from 1970-01-01, and shown as `2027-06-30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Day(u32);

impl Day {
    /// The day of a time, in milliseconds since 1970.
    #[must_use]
    pub fn of_unix_ms(unix_ms: u64) -> Self {
        Self(u32::try_from(unix_ms / 86_400_000).unwrap_or(u32::MAX))
    }

    /// When it ends, in milliseconds since 1970.
    #[must_use]
    pub fn end_unix_ms(self) -> u64 {
        (u64::from(self.0) + 1) * 86_400_000
    }

    /// Reads what `Display` writes, from 1970 to 9999.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-').map(|part| {
            let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| is_number && part.len() <= 4)
        });
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let is_separated = text.as_bytes().get(4) == Some(&b'-') && text.as_bytes().get(7) == Some(&b'-');
        if text.len() != 10
            || !is_separated
            || year < 1970
            || !(1..=12).contains(&month)
            || !(1..=31).contains(&day)
        {
            return None;
        }
        // Years that begin in March, so that a leap day is the last of its year.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
        let parsed = Self(days.checked_sub(719_468)?);
        // Not the 30th of February.
        (parsed.civil().2 == day).then_some(parsed)
    }

    /// Year, month and day.
    fn civil(self) -> (u32, u32, u32) {
        // Days since 0000-03-01, where a leap day is the last of its year: four
        // centuries of 146,097 days, and so on down.
        let days = self.0.saturating_add(719_468);
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        if month < 10 { (era * 400 + year, month + 3, day) } else { (era * 400 + year + 1, month - 9, day) }
    }
}

impl core::fmt::Display for Day {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_wrapping() {
        let late = Instant::from_millis(u64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Instant::default() - Duration::from_secs(1), Instant::default());
        assert_eq!(Instant::default().since(late), Duration::ZERO);
    }

    #[test]
    fn the_earliest_of_two_deadlines() {
        let (a, b) = (Instant::from_millis(1), Instant::from_millis(2));
        assert_eq!(Instant::earliest([Some(b), Some(a)]), Some(a));
        assert_eq!(Instant::earliest([None, Some(b)]), Some(b));
        assert_eq!(Instant::earliest([None, None]), None);
    }

    #[test]
    fn days_read_what_they_write() {
        let mut text = heapless::String::<16>::new();
        for day in (0..2_932_000).step_by(13).chain([0, 59, 789, 11_016, 47_540]) {
            text.clear();
            core::fmt::write(&mut text, format_args!("{}", Day(day))).unwrap();
            assert_eq!(Day::parse(&text), Some(Day(day)), "{text}");
        }
        let known =
            [("1970-01-01", 0), ("2000-02-29", 11_016), ("2100-03-01", 47_541), ("9999-12-31", 2_932_896)];
        for (text, days) in known {
            assert_eq!(Day::parse(text), Some(Day(days)), "{text}");
        }
        assert_eq!(Day::of_unix_ms(11_017 * 86_400_000 - 1), Day(11_016));
        assert_eq!(Day(11_016).end_unix_ms(), 11_017 * 86_400_000);
        for bad in [
            "",
            "2027-6-30",
            "2027-02-29",
            "2100-02-29",
            "2027-00-01",
            "2027-13-01",
            "2027-04-31",
            "1969-12-31",
        ] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
        for bad in [
            "+027-06-30",
            "2027-06-3x",
            "2027-006-3",
            "2027-06-300",
            "20270-06-3",
            "2027/06/30",
            "2027-06-00",
        ] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        for (ms, shown) in [
            (900, "0 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(Span::of_millis(ms).to_string(), shown);
        }
    }
}
