//! Value: numbers, times and names as a person reads them in a table.

pub(in crate::cli) fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

pub(in crate::cli) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `950`, `12.3k`, `4.5M`, `7.0G`.
pub(in crate::cli) fn count(n: u64) -> String {
    scaled(n, 1000, &["", "k", "M", "G", "T"])
}

/// `950 B`, `12.3 KiB`.
pub(in crate::cli) fn size(bytes: u64) -> String {
    scaled(bytes, 1024, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Up to `10 * step` of the smallest unit in full, above that with one decimal; rounded down, so that nothing is shown that was
/// not reached.
fn scaled(n: u64, step: u64, units: &[&str]) -> String {
    if n < 10 * step {
        return format!("{n}{}", units.first().unwrap_or(&""));
    }
    let (mut whole, mut tenths, mut unit) = (n, 0, 0);
    while whole >= step && unit + 1 < units.len() {
        tenths = whole % step * 10 / step;
        whole /= step;
        unit += 1;
    }
    format!("{whole}.{tenths}{}", units.get(unit).unwrap_or(&""))
}

/// `350ms`, `12s`, `5m 3s`, `2h 10m`, `3d 4h`.
pub(in crate::cli) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}
