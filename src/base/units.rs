//! Value: quantities that carry their unit, as the operator writes them (`2s`, `500ms`, `64KiB`).

use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use super::limits;

/// An endpoint's share of its pool, 1 to [`limits::WEIGHT`], or ten times that where it is counted in tenths. An endpoint that should get nothing is drained instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU16);

impl Weight {
    pub const ONE: Weight = Weight(NonZeroU16::MIN);

    /// `None` unless `1 <= weight <= limits::WEIGHT`.
    pub fn new(weight: u64) -> Option<Weight> {
        let weight = u16::try_from(weight).ok().filter(|w| *w <= limits::WEIGHT)?;
        NonZeroU16::new(weight).map(Weight)
    }

    pub const fn get(self) -> u16 {
        self.0.get()
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.get())
    }

    /// So many tenths of it, counted in tenths: for pickers, which look at ratios only.
    #[must_use]
    pub fn in_tenths(self, tenths: u8) -> Weight {
        Weight(self.0.saturating_mul(NonZeroU16::from(NonZeroU8::new(tenths).unwrap_or(NonZeroU8::MIN))))
    }
}

/// Why a quantity cannot be read: the sentence a diagnostic shows.
pub type UnitError = &'static str;

/// Reads `10ms`, `2s`, `1.5s`, `5m`, `1h`, `250us`. A bare number is refused: nobody knows what `timeout = 5` means.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text);
    let nanos = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        "" => return Err("a duration needs a unit: us, ms, s, m, h or d, as in \"2s\""),
        _ => return Err("unknown unit of time: use us, ms, s, m, h or d"),
    };
    let number = parse_number(number).ok_or("a duration is a number and a unit, as in \"500ms\"")?;
    let total = number * nanos;
    if total > 366.0 * 86_400e9 {
        return Err("a duration of more than a year");
    }
    // In range by the test above; the fraction of a nanosecond is not ours to keep.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(Duration::from_nanos(total.round() as u64))
}

/// Reads `512B`, `64KiB`, `10MiB`, `1GiB`, and the decimal `kB`, `MB`, `GB`.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let scale: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err("a size needs a unit: B, KiB, MiB or GiB, as in \"64KiB\""),
        _ => return Err("unknown unit of size: use B, KiB, MiB or GiB"),
    };
    let number: u64 = number.parse().map_err(|_| "a size is a whole number and a unit, as in \"64KiB\"")?;
    number.checked_mul(scale).ok_or("a size beyond 64 bits")
}

/// A duration as [`parse_duration`] reads it: the largest unit that keeps it whole.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, scale) in
        [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)]
    {
        if nanos >= scale && nanos.is_multiple_of(scale) {
            return format!("{}{unit}", nanos / scale);
        }
    }
    if nanos.is_multiple_of(1_000_000) {
        return format!("{}ms", nanos / 1_000_000);
    }
    format!("{}us", nanos / 1_000)
}

/// A size as [`parse_size`] reads it: the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    for (unit, scale) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

fn split(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.split_at(at)
}

fn parse_number(text: &str) -> Option<f64> {
    if text.is_empty() || text.starts_with('.') || text.ends_with('.') {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        for (text, want) in [
            ("2s", Some(2000)),
            ("500ms", Some(500)),
            ("1.5s", Some(1500)),
            ("5m", Some(300_000)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("-1s", None),
            (".5s", None),
            ("1e3s", None),
            ("2 s", None),
            ("400d", None),
        ] {
            assert_eq!(parse_duration(text).ok().map(|d| d.as_millis()), want, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["2s", "500ms", "5m", "1h", "250us", "1d", "90s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["0B", "100B", "64KiB", "10MiB", "1GiB", "1025B"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_need_a_whole_number_and_a_unit() {
        for (text, want) in [
            ("512B", Some(512)),
            ("64KiB", Some(65536)),
            ("1MB", Some(1_000_000)),
            ("64", None),
            ("1.5KiB", None),
            ("-1B", None),
        ] {
            assert_eq!(parse_size(text).ok(), want, "{text}");
        }
    }
}
