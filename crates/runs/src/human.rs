//! Human-readable counts and durations.

use std::time::Duration;

/// A count with a comma every three digits.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in its two largest units.
pub fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {:02} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {:02} h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// A number of bytes in its unit.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.0} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A number of floating-point operations with its unit.
pub fn operations(n: f64) -> String {
    match n {
        n if n >= 1e14 => format!("{:.2} PFLOP", n / 1e15),
        n if n >= 1e11 => format!("{:.2} TFLOP", n / 1e12),
        n if n >= 1e8 => format!("{:.2} GFLOP", n / 1e9),
        n => format!("{:.2} MFLOP", n / 1e6),
    }
}

/// `1 layer`, `2 layers`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0.0, 999.0, 1000.0, 12_345_678.0].map(thousands)[..]
        );
        let of = |secs| duration(Duration::from_secs(secs));
        assert_eq!(["2.04 PFLOP", "71.00 MFLOP"], [2.04e15, 7.1e7].map(operations)[..]);
        assert_eq!([of(5), of(65), of(3_700), of(90_000)], ["5 s", "1 min 05 s", "1 h 01 min", "1 d 01 h"]);
    }
}
